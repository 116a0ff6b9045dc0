//! Requests to a server made of raw frames, and what becomes of them when it misbehaves.

use super::*;
use crate::{ClientConnection, ClientEvent, ClientOptions, StreamFailure};

const OPTIONS: ClientOptions = ClientOptions {
    max_streams: 100,
    stream_window: 64 * 1024,
    connection_window: 1024 * 1024,
    buffer_bytes: 64 * 1024,
    is_secure: false,
};

const HEAD: &[u8] = b"GET /a?b HTTP/1.1\r\nhost: a.test\r\nx-a: 1\r\nte: trailers\r\n";

pub(super) struct Server {
    pub(super) client: ClientConnection,
    now: Instant,
    out: Vec<u8>,
    decoder: Decoder,
    frames: Vec<String>,
    events: Vec<ClientEvent>,
    cut: usize,
}

impl Server {
    fn new() -> Self {
        let mut server = Server {
            client: ClientConnection::new(OPTIONS),
            now: Instant::now(),
            out: Vec::new(),
            decoder: Decoder::new(),
            frames: Vec::new(),
            events: Vec::new(),
            cut: usize::MAX,
        };
        server.pump();
        assert!(server.out.starts_with(frame::PREFACE));
        server.out.drain(..frame::PREFACE.len());
        server.send(&frame(frame::SETTINGS, 0, 0, &[]));
        server.send(&frame(frame::SETTINGS, 1, 0, &[]));
        server.seen();
        server
    }

    fn send(&mut self, bytes: &[u8]) {
        // Nobody answers what has not left.
        self.pump();
        for piece in bytes.chunks(self.cut) {
            self.client.receive(piece, self.now);
            self.pump();
        }
    }

    fn answer(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        self.send(&frame(frame::HEADERS, flags, stream, &block(fields)));
    }

    fn data(&mut self, stream: u32, flags: u8, bytes: &[u8]) {
        self.send(&frame(frame::DATA, flags, stream, bytes));
    }

    fn pump(&mut self) {
        loop {
            while let Some(event) = self.client.next_event() {
                self.events.push(event);
            }
            let before = self.out.len();
            let out = &mut self.out;
            self.client.transmit(|bytes| {
                out.extend_from_slice(bytes);
                bytes.len()
            });
            if self.out.len() == before {
                break;
            }
        }
        while let Some(event) = self.client.next_event() {
            self.events.push(event);
        }
    }

    fn seen(&mut self) -> Vec<String> {
        self.pump();
        while let Some(bytes) = self.out.first_chunk() {
            let head = Head::read(bytes);
            let payload: Vec<u8> = self.out.drain(..9 + head.length).skip(9).collect();
            let ends = if head.has(frame::END_STREAM) { " end" } else { "" };
            let stream = head.stream;
            self.frames.push(match head.kind {
                frame::DATA => format!("{stream} data {}{ends}", payload.len()),
                frame::HEADERS => {
                    let mut text = format!("{stream} headers");
                    self.decoder
                        .decode(&payload, |name, value| {
                            let (name, value) =
                                (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                            text += &format!(" {name}={value}");
                        })
                        .expect("a block");
                    text + ends
                }
                frame::RST_STREAM => format!("{stream} reset {}", payload[3]),
                frame::SETTINGS | frame::WINDOW_UPDATE => continue,
                kind => format!("kind {kind}"),
            });
        }
        std::mem::take(&mut self.frames)
    }

    fn told(&mut self) -> Vec<String> {
        let flat = |text: &[u8]| String::from_utf8_lossy(text).replace("\r\n", "|");
        std::mem::take(&mut self.events)
            .iter()
            .filter(|event| !matches!(event, ClientEvent::Settled))
            .map(|event| match event {
                ClientEvent::Settled => String::new(),
                ClientEvent::Head(stream, head) => {
                    format!("{stream} {} {}", flat(&head.head), head.body_length)
                }
                ClientEvent::Interim(stream, _, head) => format!("{stream} {}", flat(head)),
                ClientEvent::Data(stream, bytes) => format!("{stream} data {}", bytes.len()),
                ClientEvent::End(stream, trailers) => format!("{stream} end {}", flat(trailers)),
                ClientEvent::Writable(stream) => format!("{stream} writable"),
                ClientEvent::Failed(stream, failure) => match failure {
                    StreamFailure::NotProcessed(_) => format!("{stream} not processed"),
                    StreamFailure::Reset(code) => format!("{stream} reset {code}"),
                    StreamFailure::BadAnswer(_) => format!("{stream} bad"),
                    StreamFailure::Lost => format!("{stream} lost"),
                },
                ClientEvent::Leaving => "leaving".to_owned(),
                ClientEvent::Closed => "closed".to_owned(),
            })
            .collect()
    }

    fn get(&mut self) -> u32 {
        self.client.send(HEAD, None, true).expect("room")
    }
}

#[test]
fn a_request_leaves_and_its_answer_arrives() {
    let mut server = Server::new();
    assert_eq!(server.get(), 1);
    assert_eq!(
        server.seen(),
        ["1 headers :method=GET :scheme=http :path=/a?b :authority=a.test x-a=1 te=trailers end"]
    );
    server.answer(1, 4, &[(":status", "103"), ("link", "</a>")]);
    server.answer(
        1,
        4,
        &[(":status", "200"), ("content-length", "5"), ("set-cookie", "a"), ("set-cookie", "b")],
    );
    server.data(1, 0, b"abc");
    server.data(1, 1, b"de");
    assert_eq!(
        server.told(),
        [
            "1 HTTP/1.1 103 Early Hints|link: </a>|",
            "1 HTTP/1.1 200 OK|set-cookie: a|set-cookie: b| 5",
            "1 data 3",
            "1 data 2",
            "1 end "
        ]
    );
    assert_eq!(server.client.streams(), 0);
}

#[test]
fn several_requests_share_the_connection_with_bodies_and_trailers() {
    let mut server = Server::new();
    let post = b"POST / HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\n";
    let one = server.client.send(post, None, false).expect("room");
    let two = server.client.send(post, Some(3), false).expect("room");
    assert!(server.client.write(two, b"two"));
    assert!(server.client.write(one, b"first"));
    server.client.end(one, b"x-sum: 1\r\n");
    server.client.end(two, b"");
    assert_eq!(
        server.seen(),
        [
            "1 headers :method=POST :scheme=http :path=/ :authority=a.test te=trailers",
            "3 headers :method=POST :scheme=http :path=/ :authority=a.test content-length=3 te=trailers",
            "1 data 5",
            "1 headers x-sum=1 end",
            "3 data 3 end",
        ]
    );
    server.answer(3, 4, &[(":status", "200")]);
    server.answer(1, 4, &[(":status", "200")]);
    server.data(3, 0, b"x");
    server.answer(3, ENDS, &[("grpc-status", "0"), ("grpc-message", "fine")]);
    server.answer(1, ENDS, &[("grpc-status", "5")]);
    assert_eq!(
        server.told(),
        [
            "3 HTTP/1.1 200 OK| -1",
            "1 HTTP/1.1 200 OK| -1",
            "3 data 1",
            "3 end grpc-status: 0|grpc-message: fine|",
            "1 end grpc-status: 5|"
        ]
    );
}

#[test]
fn h_31_answers_without_a_body_whatever_their_fields_say() {
    let mut server = Server::new();
    let head = server.client.send(b"HEAD / HTTP/1.1\r\nhost: a\r\n", None, true).expect("room");
    server.answer(head, ENDS, &[(":status", "200"), ("content-length", "70")]);
    let get = server.get();
    server.answer(get, ENDS, &[(":status", "304"), ("content-length", "70")]);
    let get = server.get();
    server.answer(get, ENDS, &[(":status", "204"), ("content-length", "70")]);
    assert_eq!(
        server.told(),
        [
            "1 HTTP/1.1 200 OK| 0",
            "1 end ",
            "3 HTTP/1.1 304 Not Modified| 0",
            "3 end ",
            "5 HTTP/1.1 204 No Content| 0",
            "5 end "
        ]
    );
    // Bytes all the same.
    let head = server.client.send(b"HEAD / HTTP/1.1\r\nhost: a\r\n", None, true).expect("room");
    server.answer(head, 4, &[(":status", "200"), ("content-length", "3")]);
    server.data(head, 1, b"abc");
    assert_eq!(server.told(), ["7 HTTP/1.1 200 OK| 0", "7 bad"]);
}

#[test]
fn h_105_a_window_of_nothing_and_an_odd_priority_fail_their_stream_only() {
    for cut in [usize::MAX, 1] {
        for bad_frame in [
            frame(frame::WINDOW_UPDATE, 0, 1, &[0; 4]),
            frame(frame::PRIORITY, 0, 1, &[0; 4]),
            frame(frame::PRIORITY, 0, 1, &[]),
        ] {
            let mut server = Server::new();
            server.cut = cut;
            let (_, good) = (server.get(), server.get());
            server.send(&bad_frame);
            assert_eq!(server.told(), ["1 bad"]);
            server.send(&frame(frame::WINDOW_UPDATE, 0, good, &[0, 0, 0, 9]));
            server.answer(good, ENDS, &[(":status", "200")]);
            assert_eq!(server.told(), ["3 HTTP/1.1 200 OK| 0", "3 end "]);
            assert!(server.client.has_room());
        }
    }
}

#[test]
fn h_35_malformed_answers_fail_their_stream_only() {
    let cases: Vec<(&str, u8, Fields)> = vec![
        ("no status", ENDS, vec![("x", "y")]),
        ("a status that is none", ENDS, vec![(":status", "20x")]),
        ("600", ENDS, vec![(":status", "600")]),
        ("two", ENDS, vec![(":status", "200"), (":status", "200")]),
        ("a status at the end", ENDS, vec![("x", "y"), (":status", "200")]),
        ("a path", ENDS, vec![(":status", "200"), (":path", "/")]),
        ("upper case", ENDS, vec![(":status", "200"), ("X", "y")]),
        ("CR LF", ENDS, vec![(":status", "200"), ("x", "a\r\nb: c")]),
        ("a control byte", ENDS, vec![(":status", "200"), ("x", "a\u{1}")]),
        ("connection", ENDS, vec![(":status", "200"), ("connection", "close")]),
        ("transfer-encoding", ENDS, vec![(":status", "200"), ("transfer-encoding", "chunked")]),
        (
            "two lengths",
            4,
            vec![(":status", "200"), ("content-length", "1"), ("content-length", "1")],
        ),
        ("a bad length", 4, vec![(":status", "200"), ("content-length", "-1")]),
        ("a length and no body", ENDS, vec![(":status", "200"), ("content-length", "1")]),
        ("101", 4, vec![(":status", "101")]),
        ("an interim answer that ends", ENDS, vec![(":status", "103")]),
    ];
    for (what, flags, fields) in cases {
        let mut server = Server::new();
        let (bad, good) = (server.get(), server.get());
        server.answer(bad, flags, &fields);
        assert_eq!(server.told(), ["1 bad"], "{what}");
        server.answer(good, ENDS, &[(":status", "200")]);
        assert_eq!(server.told(), ["3 HTTP/1.1 200 OK| 0", "3 end "], "{what}");
        assert!(server.client.has_room());
    }
}

#[test]
fn t_35_interim_answers_have_a_bound() {
    let mut server = Server::new();
    server.get();
    for _ in 0..16 {
        server.answer(1, 4, &[(":status", "103")]);
    }
    assert_eq!(server.told(), ["1 HTTP/1.1 103 Early Hints|"; 16]);
    server.answer(1, 4, &[(":status", "103")]);
    assert_eq!(server.told(), ["1 bad"]);
}

#[test]
fn h_33_an_answer_that_is_cut_short_fails() {
    let mut server = Server::new();
    server.get();
    server.answer(1, 4, &[(":status", "200"), ("content-length", "5")]);
    server.data(1, 1, b"abc");
    assert_eq!(server.told().last().map(String::as_str), Some("1 bad"));
    server.get();
    server.answer(3, 4, &[(":status", "200")]);
    server.data(3, 0, b"abc");
    server.send(&frame(frame::RST_STREAM, 0, 3, &[0, 0, 0, 2]));
    assert_eq!(server.told(), ["3 HTTP/1.1 200 OK| -1", "3 data 3", "3 reset 2"]);
    server.get();
    server.answer(5, 4, &[(":status", "200")]);
    server.client.receive_end();
    server.pump();
    assert_eq!(server.told(), ["5 HTTP/1.1 200 OK| -1", "5 lost", "closed"]);
}

#[test]
fn h_70_what_was_not_processed_is_told_apart() {
    let mut server = Server::new();
    for _ in 0..4 {
        server.get();
    }
    server.seen();
    server.send(&frame(frame::RST_STREAM, 0, 3, &[0, 0, 0, 7]));
    assert_eq!(server.told(), ["3 not processed"]);
    // Stream 5 has been looked at, 7 has not.
    server.send(&frame(frame::GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]));
    assert_eq!(server.told(), ["7 not processed", "leaving"]);
    assert!(!server.client.has_room() && server.client.is_leaving());
    assert!(server.client.send(HEAD, None, true).is_none());
    server.answer(1, ENDS, &[(":status", "200")]);
    server.answer(5, ENDS, &[(":status", "200")]);
    let told = server.told();
    assert!(told.contains(&"1 end ".to_owned()) && told.contains(&"5 end ".to_owned()), "{told:?}");
}

#[test]
fn an_answer_before_the_end_of_the_request_is_whole() {
    let mut server = Server::new();
    let post = b"POST / HTTP/1.1\r\nhost: a.test\r\n";
    let one = server.client.send(post, None, false).expect("room");
    server.client.write(one, &[b'x'; 200_000]);
    server.pump();
    server.client.pause(one);
    server.answer(one, 4, &[(":status", "413")]);
    server.data(one, 1, b"too much");
    server.send(&frame(frame::RST_STREAM, 0, 1, &[0, 0, 0, 0]));
    server.client.resume(one);
    server.pump();
    assert_eq!(server.told(), ["1 HTTP/1.1 413 Payload Too Large| -1", "1 data 8", "1 end "]);
    // The same without the reset: we say that the rest does not come.
    let two = server.client.send(post, None, false).expect("room");
    server.seen();
    server.answer(two, ENDS, &[(":status", "401")]);
    assert_eq!(server.seen(), ["3 reset 0"]);
}

#[test]
fn the_servers_limit_of_streams_holds() {
    let mut server = Server::new();
    server.send(&frame(frame::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 2]));
    server.get();
    server.get();
    assert!(!server.client.has_room());
    assert!(server.client.send(HEAD, None, true).is_none());
    server.answer(1, ENDS, &[(":status", "200")]);
    assert!(server.client.has_room());
}

#[test]
fn h_38_back_pressure_in_both_directions() {
    let mut server = Server::new();
    let one = server.client.send(b"POST / HTTP/1.1\r\nhost: a\r\n", None, false).expect("room");
    let piece = [b'x'; 16_384];
    let mut pieces = 0;
    while server.client.write(one, &piece) {
        pieces += 1;
        server.pump();
        assert!(pieces < 20, "no bound");
    }
    server.told();
    server.send(&frame(frame::WINDOW_UPDATE, 0, 0, &[0, 16, 0, 0]));
    server.send(&frame(frame::WINDOW_UPDATE, 0, one, &[0, 16, 0, 0]));
    assert_eq!(server.told(), ["1 writable"]);
    server.client.pause(one);
    server.answer(one, 4, &[(":status", "200")]);
    for _ in 0..4 {
        server.data(one, 0, &piece);
    }
    assert_eq!(server.told(), ["1 HTTP/1.1 200 OK| -1"]);
    server.client.resume(one);
    server.pump();
    assert_eq!(server.told().len(), 4);
}

#[test]
fn giving_up_resets_the_stream() {
    let mut server = Server::new();
    let one = server.get();
    server.seen();
    server.client.reset(one);
    assert_eq!(server.seen(), ["1 reset 8"]);
    // What was on its way is nobody's.
    server.answer(1, 4, &[(":status", "200")]);
    server.data(1, 1, b"x");
    assert_eq!(server.told(), [""; 0]);
    server.get();
    server.answer(3, ENDS, &[(":status", "200")]);
    assert_eq!(server.told(), ["3 HTTP/1.1 200 OK| 0", "3 end "]);
}

#[test]
fn a_server_that_breaks_the_protocol_is_left() {
    for bytes in [
        frame(frame::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x82]),
        frame(frame::HEADERS, ENDS, 1, &[0x80]),
        frame(frame::CONTINUATION, 4, 1, &[]),
        frame(frame::DATA, 0, 0, b"x"),
        frame(frame::HEADERS, ENDS, 9, &block(&[(":status", "200")])),
    ] {
        let mut server = Server::new();
        server.get();
        server.seen();
        server.send(&bytes);
        assert_eq!(server.told(), ["1 bad", "closed"], "{bytes:?}");
        assert!(server.client.is_closed() && !server.client.has_room());
    }
    let mut client = ClientConnection::new(OPTIONS);
    client.send(HEAD, None, true);
    client.transmit(<[u8]>::len);
    client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n", Instant::now());
    let mut last = None;
    while let Some(event) = client.next_event() {
        last = Some(event);
    }
    assert!(matches!(last, Some(ClientEvent::Closed)), "{last:?}");
}

#[test]
fn any_cutting_of_an_answer_gives_the_same() {
    for cut in [1, 2, 5, 9, 11] {
        let mut server = Server::new();
        server.cut = cut;
        server.get();
        server.answer(1, 4, &[(":status", "200"), ("content-length", "3")]);
        server.data(1, 0, b"abc");
        server.answer(1, ENDS, &[("x", "y")]);
        assert_eq!(server.told(), ["1 HTTP/1.1 200 OK| 3", "1 data 3", "1 end x: y|"], "{cut}");
    }
}

#[test]
fn h_94_whether_extended_connect_is_taken_is_known_from_settings_in_any_cutting() {
    let entry = |name: u16, value: u32| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let settled = |payload: &[u8], cut: usize| {
        let mut client = ClientConnection::new(OPTIONS);
        assert_eq!(client.takes_connect(), None);
        for piece in frame(frame::SETTINGS, 0, 0, payload).chunks(cut) {
            client.receive(piece, Instant::now());
        }
        assert!(matches!(client.next_event(), Some(ClientEvent::Settled)));
        assert!(client.next_event().is_none());
        client.receive(&frame(frame::SETTINGS, 0, 0, &[]), Instant::now());
        assert!(client.next_event().is_none(), "told once");
        client.takes_connect()
    };
    for cut in [1, 3, 9, 10, 1000] {
        assert_eq!(settled(&[], cut), Some(false));
        assert_eq!(settled(&[entry(3, 8), entry(8, 1)].concat(), cut), Some(true));
        assert_eq!(settled(&[entry(8, 1), entry(8, 0)].concat(), cut), Some(false));
    }
    let mut server = Server::new();
    let head = b"GET /ws HTTP/1.1\r\nhost: a\r\nsec-websocket-key: x\r\nsec-websocket-version: 13\r\nupgrade: websocket\r\nconnection: upgrade\r\n";
    assert_eq!(server.client.send_connect(head, b"websocket"), Some(1));
    assert_eq!(
        server.seen(),
        ["1 headers :method=CONNECT :protocol=websocket :scheme=http :path=/ws :authority=a sec-websocket-version=13"]
    );
}
