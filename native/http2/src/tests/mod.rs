//! A peer made of raw frames, and what it makes of ours.

mod attacks;
mod both;
mod client;
mod server;

use std::time::{Duration, Instant};

use crate::frame::{self, Head};
use crate::hpack::{self, Decoder};
use crate::{RequestLimits, ServerConnection, ServerEvent, ServerOptions};

pub(crate) const LIMITS: RequestLimits = RequestLimits {
    head_bytes: 64 * 1024,
    fields: 200,
    uri_bytes: 16 * 1024,
    body_bytes: 0,
    extended_connect: false,
};

pub(crate) const OPTIONS: ServerOptions = ServerOptions {
    request: LIMITS,
    max_streams: 128,
    stream_window: 64 * 1024,
    connection_window: 1024 * 1024,
    buffer_bytes: 256 * 1024,
    head_timeout: Duration::from_secs(10),
    stall_timeout: Duration::from_secs(60),
    stall_bytes_per_second: 240,
};

pub(crate) type Fields<'a> = Vec<(&'a str, &'a str)>;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Head { length: payload.len(), kind, flags, stream }.write(&mut out);
    out.extend_from_slice(payload);
    out
}

/// A block of literals: as plain as can be.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        literal(&mut out, name.as_bytes(), value.as_bytes());
    }
    out
}

pub(crate) fn literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    for text in [name, value] {
        if text.len() < 127 {
            out.push(text.len() as u8);
        } else {
            let rest = text.len() - 127;
            out.extend_from_slice(&[
                127,
                (rest & 0x7f) as u8 | 0x80,
                (rest >> 7 & 0x7f) as u8 | 0x80,
                (rest >> 14) as u8,
            ]);
        }
        out.extend_from_slice(text);
    }
}

pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")];
pub(crate) const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")];

pub(crate) fn with<'a>(base: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Fields<'a> {
    [base, more].concat()
}

pub(crate) const ENDS: u8 = frame::END_STREAM | frame::END_HEADERS;

/// A client that speaks frames to a server connection.
pub(crate) struct Client {
    pub(crate) server: ServerConnection,
    pub(crate) now: Instant,
    out: Vec<u8>,
    decoder: Decoder,
    /// Frames of the server but SETTINGS, as text.
    pub(crate) frames: Vec<String>,
    pub(crate) events: Vec<ServerEvent>,
    /// How many bytes at a time.
    pub(crate) cut: usize,
    /// DATA bytes of the server.
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Preface and empty SETTINGS are sent.
    pub(crate) fn new() -> Self {
        Client::with(OPTIONS)
    }

    pub(crate) fn with(options: ServerOptions) -> Self {
        let mut client = Client::silent(options);
        client.send(frame::PREFACE);
        client.send(&frame(frame::SETTINGS, 0, 0, &[]));
        client.send(&frame(frame::SETTINGS, 1, 0, &[]));
        client
    }

    pub(crate) fn silent(options: ServerOptions) -> Self {
        let now = Instant::now();
        Client {
            server: ServerConnection::new(options, now),
            now,
            out: Vec::new(),
            decoder: Decoder::new(),
            frames: Vec::new(),
            events: Vec::new(),
            cut: usize::MAX,
            body: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.cut.min(64 * 1024)) {
            self.server.receive(piece, self.now);
            self.pump();
        }
    }

    pub(crate) fn headers(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        self.send(&frame(frame::HEADERS, flags, stream, &block(fields)));
    }

    pub(crate) fn get(&mut self, stream: u32) {
        self.headers(stream, ENDS, &GET);
    }

    pub(crate) fn data(&mut self, stream: u32, flags: u8, bytes: &[u8]) {
        self.send(&frame(frame::DATA, flags, stream, bytes));
    }

    /// Takes what the server has to say and to send.
    pub(crate) fn pump(&mut self) {
        while let Some(event) = self.server.next_event() {
            self.events.push(event);
        }
        let out = &mut self.out;
        self.server.transmit(|bytes| {
            out.extend_from_slice(bytes);
            bytes.len()
        });
        while let Some(event) = self.server.next_event() {
            self.events.push(event);
        }
        self.read_frames();
    }

    fn read_frames(&mut self) {
        while let Some(bytes) = self.out.first_chunk() {
            let head = Head::read(bytes);
            if self.out.len() < 9 + head.length {
                return;
            }
            let payload: Vec<u8> = self.out.drain(..9 + head.length).skip(9).collect();
            let ends = if head.has(frame::END_STREAM) { " end" } else { "" };
            let stream = head.stream;
            let code = |at: usize| payload[at + 3];
            let text = match head.kind {
                frame::DATA => {
                    self.body.extend_from_slice(&payload);
                    format!("{stream} data {}{ends}", payload.len())
                }
                frame::HEADERS => {
                    let mut text = format!("{stream} headers");
                    self.decoder
                        .decode(&payload, |name, value| {
                            text += &format!(
                                " {}={}",
                                String::from_utf8_lossy(name),
                                String::from_utf8_lossy(value)
                            );
                        })
                        .expect("a block");
                    text + ends
                }
                frame::RST_STREAM => format!("{stream} reset {}", code(0)),
                frame::GOAWAY => format!("goaway {} {}", code(0), code(4)),
                frame::PING => format!("ping {}", head.flags),
                frame::WINDOW_UPDATE => format!("{stream} window"),
                frame::SETTINGS => continue,
                other => format!("kind {other}"),
            };
            self.frames.push(text);
        }
    }

    /// Frames since the last look, without windows.
    pub(crate) fn seen(&mut self) -> Vec<String> {
        let mut frames = std::mem::take(&mut self.frames);
        frames.retain(|text| !text.ends_with(" window"));
        frames
    }

    /// Events since the last look, as text.
    pub(crate) fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events).iter().map(describe).collect()
    }

    /// The connection still works: a request is announced and answered.
    pub(crate) fn still_works(&mut self, stream: u32) {
        self.told();
        self.seen();
        self.get(stream);
        assert_eq!(self.told(), [format!("{stream} request GET / HTTP/1.1|host: a.test| 0")]);
        self.server.respond(stream, 204, b"", None, true);
        self.pump();
        assert_eq!(self.seen(), [format!("{stream} headers :status=204 end")]);
        assert_eq!(self.told(), [format!("{stream} done")]);
    }
}

pub(crate) fn describe(event: &ServerEvent) -> String {
    let flat = |text: &[u8]| String::from_utf8_lossy(text).replace("\r\n", "|");
    match event {
        ServerEvent::Request(stream, head) => {
            format!("{stream} request {} {}", flat(&head.head), head.body_length)
        }
        ServerEvent::Refused(stream, refusal) => format!(
            "{stream} refused {} {}{}",
            refusal.status,
            refusal.rule,
            if refusal.is_malformed { " reset" } else { "" }
        ),
        ServerEvent::Data(stream, bytes) => format!("{stream} data {}", bytes.len()),
        ServerEvent::End(stream, trailers) => format!("{stream} end {}", flat(trailers)),
        ServerEvent::Writable(stream) => format!("{stream} writable"),
        ServerEvent::Done(stream) => format!("{stream} done"),
        ServerEvent::Reset(stream, code) => format!("{stream} reset {code}"),
        ServerEvent::Closed(code) => format!("closed {code}"),
    }
}

/// A block with one field that refers to the table.
pub(crate) fn indexed(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0x40, name.len() as u8];
    out.extend_from_slice(name);
    out.push(value.len() as u8);
    out.extend_from_slice(value);
    out
}

#[test]
fn the_test_peer_writes_blocks_that_are_read() {
    let mut seen = Vec::new();
    let long = "x".repeat(70_000);
    Decoder::new()
        .decode(&block(&[("a", "b"), ("long", &long)]), |name, value| {
            seen.push((name.len(), value.len()))
        })
        .expect("a block");
    assert_eq!(seen, [(1, 1), (4, 70_000)]);
    let mut out = Vec::new();
    hpack::write_no_table(&mut out);
    assert_eq!(out, [0x20]);
}
