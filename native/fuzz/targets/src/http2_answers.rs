//! A server of HTTP/2, byte by byte, against the side of a connection that asks: what it makes of answers, in any cutting.
//!
//! An input is what the server sends, then a byte that says what was asked, then the byte that cuts. What must hold: nothing
//! panics or spins; each stream's events come in order and end once; what is told is one strict head, a body of the length
//! that it announces, trailers that may travel; when the server is gone everything has ended; an answer that is complete is
//! the same however its bytes came.
//!
//! Source: RFC 9113, RFC 8441; H-26, H-31, H-35, H-62, H-94, H-105, H-125, T-30, T-35.

use std::collections::BTreeMap;
use std::time::Instant;

use sallyport_http1::is_dropped;
use sallyport_http2::{ClientConnection, ClientEvent, ClientOptions};
use sallyport_upstream::are_fields;

use crate::cut::{pieces, split};

/// An empty SETTINGS, and one that takes extended CONNECT; then answers.
pub(crate) const SEEDS: &[&[u8]] = &[
    b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x88\x00\x05",
    b"\0\0\x06\x04\0\0\0\0\0\0\x08\0\0\0\x01\0\0\0\x04\x01\0\0\0\0\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x03\0\0\0\0\0\x01abc\0\0\x06\x01\x05\0\0\0\x01\0\x01x\x02ok\x11\x03",
    b"\0\0\0\x04\0\0\0\0\0\0\0\x04\x01\x04\0\0\0\x01\x88\x5c\x013\0\0\x03\0\x01\0\0\0\x01abc\0\0\x01\x01\x05\0\0\0\x03\x88\x03\x07",
    b"\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x04\0\0\0\x01\x08\x03103\0\0\x01\x01\x05\0\0\0\x01\x89\0\0\x04\x03\0\0\0\0\x03\0\0\0\x08\x03\x09",
    b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x88\0\0\x04\x09\x04\0\0\0\x01\0\x01a\0\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0\x02\x02",
    b"\0\0\x06\x04\0\0\0\0\0\0\x08\0\0\0\x01\0\0\x01\x01\x04\0\0\0\x03\x88\0\0\x04\0\0\0\0\0\x03\x81\x02hi\0\0\0\0\x01\0\0\0\x03\x20\x0b",
];

/// What the last byte but one says of a run.
mod flags {
    /// As many requests as its two lowest bits, and one.
    pub(super) const REQUESTS: u8 = 3;
    /// The first one asks for a head only.
    pub(super) const HEAD: u8 = 4;
    /// The last one has a body that does not end.
    pub(super) const BODY: u8 = 8;
    /// Answers are taken in turns only.
    pub(super) const PAUSES: u8 = 16;
    /// A WebSocket is asked for once that is known to be possible.
    pub(super) const TUNNEL: u8 = 32;
}

const OPTIONS: ClientOptions = ClientOptions {
    max_streams: 8,
    stream_window: 64 * 1024,
    connection_window: 128 * 1024,
    buffer_bytes: 16 * 1024,
    is_secure: false,
};
const MAX_INTERIM: usize = 16;
/// Events of a server that sends so little.
const MOST_EVENTS: usize = 100_000;

#[derive(Debug, Default)]
struct Answer {
    interim: usize,
    head: Option<(Vec<u8>, i64)>,
    data: Vec<u8>,
    trailers: Vec<u8>,
    is_head: bool,
    is_complete: bool,
    is_over: bool,
}

struct Run {
    client: ClientConnection,
    answers: BTreeMap<u32, Answer>,
    is_closed: bool,
    events: usize,
    has_tunnel: bool,
}

impl Run {
    fn ask(&mut self, head: &[u8], length: Option<u64>, ends: bool) {
        if let Some(stream) = self.client.send(head, length, ends) {
            let is_head = head.starts_with(b"HEAD");
            self.answers.insert(stream, Answer { is_head, ..Answer::default() });
            if !ends {
                self.client.write(stream, b"abc");
            }
        }
    }

    fn listen(&mut self, flags: u8) {
        while let Some(event) = self.client.next_event() {
            self.events += 1;
            assert!(self.events < MOST_EVENTS, "it never comes to rest");
            assert!(!self.is_closed, "behind the last event: {event:?}");
            self.hear(event);
        }
        let wants_tunnel = flags & flags::TUNNEL != 0 && !self.has_tunnel;
        if wants_tunnel && self.client.takes_connect() == Some(true) {
            self.has_tunnel = true;
            let head = b"GET /ws HTTP/1.1\r\nhost: a\r\nsec-websocket-key: x\r\n";
            if let Some(stream) = self.client.send_connect(head, b"websocket") {
                self.answers.insert(stream, Answer::default());
                self.client.write(stream, b"bytes as they are");
            }
        }
        self.client.transmit(<[u8]>::len);
    }

    fn hear(&mut self, event: ClientEvent) {
        let stream = match &event {
            ClientEvent::Interim(stream, ..)
            | ClientEvent::Head(stream, _)
            | ClientEvent::Data(stream, _)
            | ClientEvent::End(stream, _)
            | ClientEvent::Writable(stream)
            | ClientEvent::Failed(stream, _) => *stream,
            ClientEvent::Settled | ClientEvent::Leaving => return,
            ClientEvent::Closed => {
                self.is_closed = true;
                return;
            }
        };
        let answer = self.answers.get_mut(&stream).expect("a stream that nobody asked for");
        assert!(!answer.is_over, "behind the end of stream {stream}");
        match event {
            ClientEvent::Interim(_, status, head) => {
                assert!((100..200).contains(&status) && status != 101 && answer.head.is_none());
                judge_head(&head, status);
                answer.interim += 1;
                assert!(answer.interim <= MAX_INTERIM, "interim answers without a bound");
            }
            ClientEvent::Head(_, head) => {
                assert!((200..=599).contains(&head.status) && answer.head.is_none());
                judge_head(&head.head, head.status);
                assert!(!answer.is_head || head.body_length == 0, "a body of a head");
                answer.head = Some((head.head, head.body_length));
            }
            ClientEvent::Data(_, bytes) => {
                assert!(answer.head.is_some() && !bytes.is_empty());
                answer.data.extend_from_slice(&bytes);
            }
            ClientEvent::End(_, trailers) => {
                let (_, length) = answer.head.as_ref().expect("an end without a head");
                let told = answer.data.len() as i64;
                assert!(*length < 0 || *length == told, "{told} bytes of {length}");
                assert!(are_fields(&trailers));
                for line in trailers.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let name = line.split(|byte| *byte == b':').next().unwrap_or(line);
                    assert!(!is_dropped(name), "a trailer that may not travel");
                }
                answer.trailers = trailers;
                answer.is_complete = true;
                answer.is_over = true;
            }
            ClientEvent::Failed(..) => answer.is_over = true,
            _ => {}
        }
    }
}

fn judge_head(head: &[u8], status: u16) {
    let line = head.iter().position(|byte| *byte == b'\n').expect("a status line") + 1;
    assert!(head.starts_with(format!("HTTP/1.1 {status} ").as_bytes()));
    assert!(are_fields(&head[line..]), "{}", head.escape_ascii());
}

fn run(parts: &[&[u8]], flags: u8) -> BTreeMap<u32, Answer> {
    let mut run = Run {
        client: ClientConnection::new(OPTIONS),
        answers: BTreeMap::new(),
        is_closed: false,
        events: 0,
        has_tunnel: false,
    };
    let now = Instant::now();
    for place in 0..=flags & flags::REQUESTS {
        let is_head = place == 0 && flags & flags::HEAD != 0;
        let head: &[u8] = if is_head {
            b"HEAD / HTTP/1.1\r\nhost: a\r\n"
        } else {
            b"GET / HTTP/1.1\r\nhost: a\r\n"
        };
        let has_body = place == flags & flags::REQUESTS && flags & flags::BODY != 0;
        run.ask(head, has_body.then_some(5), !has_body);
    }
    run.listen(flags);
    for (at, part) in parts.iter().enumerate() {
        if flags & flags::PAUSES != 0 {
            let streams: Vec<u32> = run.answers.keys().copied().collect();
            for stream in streams {
                if at % 3 == 0 {
                    run.client.pause(stream);
                } else {
                    run.client.resume(stream);
                }
            }
        }
        if !run.client.wants_input() {
            run.listen(flags);
        }
        if run.client.wants_input() {
            run.client.receive(part, now);
        }
        run.listen(flags);
    }
    run.client.receive_end();
    run.listen(flags);
    assert!(run.is_closed, "the server is gone, and nobody knows");
    let open = run.answers.iter().find(|(_, answer)| !answer.is_over);
    assert!(open.is_none(), "no end of {open:?}");
    assert_eq!(run.client.streams(), 0);
    run.answers
}

/// A connection to a server that sends these bytes.
pub fn http2_answers(input: &[u8]) {
    let (rest, cut) = split(input);
    let (bytes, flags) = split(rest);
    let whole = run(&[bytes], flags);
    let apart = run(&pieces(bytes, cut), flags);
    for (stream, one) in whole.iter().filter(|(_, one)| one.is_complete) {
        let Some(other) = apart.get(stream).filter(|other| other.is_complete) else { continue };
        assert_eq!(one.head, other.head, "stream {stream}");
        assert_eq!(one.data, other.data, "stream {stream}");
        assert_eq!(one.trailers, other.trailers, "stream {stream}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_answers() {
        let complete = |seed: &[u8]| {
            let (rest, cut) = split(seed);
            let (bytes, flags) = split(rest);
            run(&pieces(bytes, cut), flags).values().filter(|one| one.is_complete).count()
        };
        let counts: Vec<usize> = SEEDS.iter().map(|seed| complete(seed)).collect();
        assert_eq!(counts, [1, 1, 2, 1, 0, 1]);
    }
}
