//! The upstream server: it reads requests strictly, says what it saw, and answers by the rule that a request names.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::sockopt;

use super::strict::{self, Framing};

/// What `Rule::Big` answers.
pub(super) const BIG_BYTES: usize = 300_000;
/// Of sockets: small, so that what is not read piles up where it is looked at.
pub(super) const SOCKET_BYTES: usize = 8 * 1024;

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Length,
    Chunked,
    /// Before the request's body.
    Early,
    UntilClose,
    Big,
    /// Less than announced, and the end.
    Cut,
    /// The end, without an answer.
    Gone,
    Hints,
    NoContent,
    NotModified,
    /// What the input says, and the end.
    Raw,
    /// 101 and an echo where a WebSocket is asked for.
    Tunnel,
    Never,
    /// One answer more than there are requests.
    Twice,
    /// Reads nothing of the body.
    Deaf,
}

impl Rule {
    pub(super) fn of(letter: u8) -> Self {
        match letter {
            b'c' => Rule::Chunked,
            b'e' => Rule::Early,
            b'u' => Rule::UntilClose,
            b'b' => Rule::Big,
            b't' => Rule::Cut,
            b'x' => Rule::Gone,
            b'h' => Rule::Hints,
            b'n' => Rule::NoContent,
            b's' => Rule::NotModified,
            b'r' => Rule::Raw,
            b'w' => Rule::Tunnel,
            b'q' => Rule::Never,
            b'd' => Rule::Twice,
            b'p' => Rule::Deaf,
            _ => Rule::Length,
        }
    }

    /// The whole body of the answer to request `number`.
    pub(super) fn body(self, number: usize) -> Vec<u8> {
        let text = format!("answer {number}.");
        match self {
            Rule::Big => text.bytes().cycle().take(BIG_BYTES).collect(),
            Rule::NoContent | Rule::NotModified | Rule::Raw | Rule::Tunnel => Vec::new(),
            _ => text.into_bytes(),
        }
    }
}

/// A request as it arrived.
#[derive(Debug)]
pub(super) struct Seen {
    /// What the gateway called it.
    pub(super) number: usize,
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) is_complete: bool,
    /// Whether it asks for a WebSocket.
    pub(super) asks_upgrade: bool,
    /// Bytes behind a 101.
    pub(super) tunnel: Vec<u8>,
}

struct Connection {
    /// `None` = closed, which the peer sees as a failure unless it was told the end before.
    stream: Option<TcpStream>,
    input: Vec<u8>,
    out: Vec<u8>,
    /// The request that is being read or answered, by its place in `seen`.
    present: Option<(usize, Rule, Framing, bool)>,
    is_tunnel: bool,
    /// Ends when `out` is empty: without a word, or as a failure.
    ends: Option<bool>,
}

/// All connections of a server.
pub(super) struct Server {
    epoch: u64,
    raw: Vec<u8>,
    connections: Vec<Connection>,
    pub(super) seen: Vec<Seen>,
}

impl Server {
    pub(super) fn new(epoch: u64, raw: &[u8]) -> Self {
        Server { epoch, raw: raw.to_vec(), connections: Vec::new(), seen: Vec::new() }
    }

    /// The sockets that something may come from.
    pub(super) fn streams(&self) -> impl Iterator<Item = &TcpStream> {
        self.connections.iter().filter_map(|one| one.stream.as_ref())
    }

    /// Does what can be done at once. Returns whether that was anything.
    pub(super) fn work(&mut self, listener: &TcpListener) -> bool {
        let mut has_worked = false;
        while let Ok((stream, _)) = listener.accept() {
            let _ = stream.set_nonblocking(true);
            let _ = stream.set_nodelay(true);
            // nothing of a run stays with the system
            let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            self.connections.push(Connection {
                stream: Some(stream),
                input: Vec::new(),
                out: Vec::new(),
                present: None,
                is_tunnel: false,
                ends: None,
            });
            has_worked = true;
        }
        for at in 0..self.connections.len() {
            has_worked |= self.work_on(at);
        }
        has_worked
    }

    fn work_on(&mut self, at: usize) -> bool {
        let mut has_worked = self.receive(at);
        while self.read(at) {
            has_worked = true;
        }
        has_worked | self.send(at)
    }

    fn receive(&mut self, at: usize) -> bool {
        let one = &mut self.connections[at];
        let is_deaf = matches!(one.present, Some((_, Rule::Deaf, _, _)));
        let mut has_worked = false;
        let mut buffer = [0; 4096];
        while let (false, Some(stream)) = (is_deaf, &mut one.stream) {
            match stream.read(&mut buffer) {
                Ok(length) if length > 0 => {
                    one.input.extend_from_slice(&buffer[..length]);
                    has_worked = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // whoever waits for an answer does not end its side, but for a tunnel's
                Ok(_) if one.is_tunnel && !one.out.is_empty() => break,
                Ok(_) | Err(_) => {
                    one.stream = None;
                    has_worked = true;
                }
            }
        }
        has_worked
    }

    fn send(&mut self, at: usize) -> bool {
        let one = &mut self.connections[at];
        let mut has_worked = false;
        while let (false, Some(stream)) = (one.out.is_empty(), &mut one.stream) {
            match stream.write(&one.out) {
                Ok(length) => {
                    one.out.drain(..length);
                    has_worked = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return has_worked,
                Err(_) => one.stream = None,
            }
        }
        match (one.ends.take(), &mut one.stream) {
            (Some(true), Some(stream)) => {
                let _ = stream.shutdown(std::net::Shutdown::Write);
            }
            (Some(false), stream) => *stream = None,
            _ => {}
        }
        has_worked
    }

    /// One step further in what has come; false = there is not enough.
    fn read(&mut self, at: usize) -> bool {
        let one = &mut self.connections[at];
        if one.is_tunnel {
            let (place, ..) = one.present.expect("a tunnel's request");
            let data = std::mem::take(&mut one.input);
            self.seen[place].tunnel.extend_from_slice(&data);
            one.out.extend_from_slice(&data);
            return !data.is_empty();
        }
        let Some((place, rule, framing, has_answered)) = one.present else {
            return self.begin(at);
        };
        let body = strict::body(&one.input, framing);
        let seen = &mut self.seen[place];
        seen.body = body.data;
        if !body.is_complete {
            return false;
        }
        seen.is_complete = true;
        one.input.drain(..body.length);
        one.present = None;
        if !has_answered {
            self.answer(at, place, rule);
        }
        true
    }

    fn begin(&mut self, at: usize) -> bool {
        let one = &mut self.connections[at];
        let Some((head, framing)) = strict::request(&one.input) else { return false };
        let name =
            String::from_utf8_lossy(head.last(b"x-n").expect("the gateway's line")).into_owned();
        let (epoch, rest) = name.split_once('.').expect("two numbers");
        let (number, rule) = rest.split_once('.').expect("two numbers");
        if epoch.parse() != Ok(self.epoch) {
            one.stream = None;
            return false;
        }
        let rule = Rule::of(rule.as_bytes()[0]);
        one.input.drain(..head.length);
        let place = self.seen.len();
        let [method, target, _] = head.start.clone();
        let protocol = head.last(b"upgrade").map(<[u8]>::to_vec);
        self.seen.push(Seen {
            number: number.parse().expect("a number"),
            method,
            target,
            body: Vec::new(),
            is_complete: false,
            asks_upgrade: protocol.is_some(),
            tunnel: Vec::new(),
        });
        if let (Rule::Tunnel, Some(protocol)) = (rule, protocol) {
            one.is_tunnel = true;
            let number = &self.seen[place].number;
            one.out.extend_from_slice(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ",
            );
            one.out.extend_from_slice(&protocol);
            one.out.extend_from_slice(format!("\r\nx-up: {number}\r\n\r\n").as_bytes());
            one.present = Some((place, rule, framing, true));
            return true;
        }
        let is_early = rule == Rule::Early;
        one.present = Some((place, rule, framing, is_early));
        if is_early {
            self.answer(at, place, rule);
        }
        true
    }

    fn answer(&mut self, at: usize, place: usize, rule: Rule) {
        let number = self.seen[place].number;
        let one = &mut self.connections[at];
        let body = rule.body(number);
        let is_head = self.seen[place].method == b"HEAD";
        let length = body.len();
        let up = format!("x-up: {number}\r\n");
        let mut text = match rule {
            Rule::Gone => {
                one.ends = Some(number % 2 == 0);
                return;
            }
            Rule::Never | Rule::Deaf => return,
            Rule::Raw => {
                one.ends = Some(true);
                one.out.extend_from_slice(&self.raw);
                return;
            }
            Rule::NoContent => format!("HTTP/1.1 204 No Content\r\n{up}\r\n"),
            Rule::NotModified => format!("HTTP/1.1 304 Not Modified\r\n{up}Content-Length: 5\r\n\r\n"),
            Rule::Cut => {
                one.ends = Some(true);
                format!("HTTP/1.1 200 OK\r\n{up}Content-Length: {}\r\n\r\n", length + 5)
            }
            Rule::Chunked => format!("HTTP/1.1 200 OK\r\n{up}Transfer-Encoding: chunked\r\n\r\n"),
            Rule::Hints => format!(
                "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n{up}Content-Length: {length}\r\n\r\n"
            ),
            Rule::UntilClose => {
                one.ends = Some(true);
                format!("HTTP/1.1 200 OK\r\n{up}Connection: close\r\n\r\n")
            }
            _ => format!("HTTP/1.1 200 OK\r\n{up}Content-Length: {length}\r\n\r\n"),
        }
        .into_bytes();
        if rule == Rule::Chunked && !is_head {
            for chunk in body.chunks(7) {
                text.extend_from_slice(format!("{:x};a=b\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\nx-trailer: 1\r\n\r\n");
        } else if !is_head {
            text.extend_from_slice(&body);
        }
        if rule == Rule::Twice {
            text.extend_from_slice(
                b"HTTP/1.1 200 OK\r\nx-up: nobody\r\nContent-Length: 4\r\n\r\nevil",
            );
        }
        one.out.extend_from_slice(&text);
    }
}
