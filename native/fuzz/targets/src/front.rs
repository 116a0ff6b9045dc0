//! Whole connections: clients' bytes, cut anywhere, through the real front end and its pool to a server that answers by rules.
//!
//! An input is what clients send, then perhaps `\n--\n` and what the server sends where a request asks for that, then a
//! byte of [`flags`] and the byte that cuts. The letters of a request's target say what becomes of it: the first what the
//! gateway does ([`Action`]), the second how the server answers ([`Rule`]). Clients are pairs of sockets, the server is on
//! loopback.
//!
//! What must hold: nothing panics, spins or hangs; the front end tells of the requests that all bytes at once are, in
//! their order, one at a time, each with one end; a client reads at most one whole answer per request, strictly framed, in
//! order, the answer to its own request; the server reads requests that a strict reader reads, each what a client sent;
//! what is held in memory is bounded.
//!
//! Source: H-20 … H-39, H-51, H-53, H-60 … H-62, H-91, H-120 … H-125, T-01 … T-17.

mod client;
mod reference;
mod server;
mod strict;

use std::cell::RefCell;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::net::sockopt;
use sallyport_front::{End, Event, ExchangeId, Front, Limits, Record};
use sallyport_http1::RequestRules;
use sallyport_upstream::{TargetId, TargetOptions};

use crate::cut::{pieces, split};
use client::Client;
use reference::Reference;
use server::{Rule, Server, SOCKET_BYTES};
use strict::Framing;

pub(crate) const SEEDS: &[&[u8]] = &[
    b"GET /fa HTTP/1.1\r\nHost: a\r\n\r\nPOST /gc HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /hb HTTP/1.1\r\nHost: a\r\n\r\n\x20\x05",
    b"POST /fa HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\nGET /fd HTTP/1.1\r\nHost: a\r\n\r\nGET /fa HTTP/1.1\r\nHost: a\r\n\r\n\0\0",
    b"POST /ba HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcdPOST /ca HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET /lt HTTP/1.1\r\nHost: a\r\n\r\n\x02\x07",
    b"POST /fe HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabcdefghiGET /ot HTTP/1.1\r\nHost: a\r\n\r\nGET /fu HTTP/1.0\r\n\r\n\x01\x03",
    b"POST /fp HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n\x10\x40",
    b"POST /fa HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n\x10\x50",
    b"GET /fr HTTP/1.1\r\nHost: a\r\n\r\nGET /fa HTTP/1.1\r\nHost: a\r\n\r\n\n--\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n\x20\x09",
    b"GET /fw HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nbytes as they are\x20\x06",
    b"GET /fw HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: DERP\r\n\r\nbytes as they are\x20\x06",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nHEAD /fb HTTP/1.1\r\nHost: a\r\n\r\nGET /tx HTTP/1.1\r\nHost: a\r\n\r\nGET /xh HTTP/1.1\r\nHost: a\r\n\r\n\xa0\x04",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x0a\x01\x05\0\0\0\x01\x82\x86\x41\x01a\x04\x03/fa\0\0\x0a\x01\x04\0\0\0\x03\x83\x86\x41\x01a\x04\x03/gb\0\0\x03\0\x01\0\0\0\x03abc\x20\x20",
    b"GET /fq HTTP/1.1\r\nHost: a\r\n\r\n\x28\x20",
    b"GET /fw HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81\x02hi\x82\x7e\0\x03abc\x89\0\x60\x30",
    b"GET /fb HTTP/1.1\r\nHost: a\r\n\r\nGET /an HTTP/1.1\r\nHost: a\r\n\r\n\x42\x20",
    b"GET /hb HTTP/1.1\r\nHost: a\r\n\r\nGET /gb HTTP/1.1\r\nHost: a\r\n\r\n\x20\x05",
];

/// What the last byte but one says of a run.
mod flags {
    /// Two clients send the same.
    pub(super) const TWO: u8 = 1;
    /// Clients read nothing before all is sent that can be.
    pub(super) const LAZY: u8 = 2;
    /// They end their side behind the last piece.
    pub(super) const HALF: u8 = 4;
    /// They are gone behind the last piece.
    pub(super) const VANISH: u8 = 8;
    /// More bytes than fit anywhere follow the last piece.
    pub(super) const FILLER: u8 = 16;
    /// Everybody comes to rest between two pieces.
    pub(super) const SETTLE: u8 = 32;
    /// The front end drains from the middle on.
    pub(super) const DRAIN: u8 = 64;
    /// The listener takes the PROXY protocol.
    pub(super) const PROXY: u8 = 128;
}

const FILLER_BYTES: usize = 150_000;
const LIMITS: Limits = Limits {
    head_bytes: 2 * 1024,
    uri_bytes: 512,
    fields: 20,
    body_bytes: 140_000,
    stream_buffer_bytes: 16 * 1024,
    head_ms: 0,
    idle_ms: 0,
    progress_ms: 0,
    linger_ms: 0,
    tunnel_idle_ms: 0,
    max_tunnels: 1,
    other_upgrades: true,
};
/// Of a connection and its exchange: one read, a buffer and a read each way, and what is kept to be sent again.
const HELD_BYTES: usize = 64 * 1024 + 2 * (16 + 64) * 1024 + 64 * 1024;
const LISTENER: u32 = 1;
/// Turns in which the front end says that it is ready, and nothing comes of it.
const MOST_IDLE_TURNS: usize = 500;
/// An answer that is owed comes sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the gateway does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Forward,
    /// Reads the body first.
    Buffer,
    /// Reads the body where it lies, and the answer's.
    Hold,
    /// Reads the body and answers.
    Collect,
    Respond,
    /// Answers when everybody has come to rest.
    Later,
    /// Reads the answer's body first.
    Gather,
    Filter,
    /// Answers instead of the upstream.
    Override,
    /// Another body, the upstream's head.
    Replace,
    Abort,
    /// Once more when it fails.
    Retry,
    /// Another body for the upstream.
    Rewrite,
}

impl Action {
    fn of(letter: u8) -> Self {
        match letter {
            b'b' => Action::Buffer,
            b'd' => Action::Hold,
            b'c' => Action::Collect,
            b'r' => Action::Respond,
            b'l' => Action::Later,
            b'g' => Action::Gather,
            b'h' => Action::Filter,
            b'o' => Action::Override,
            b'x' => Action::Replace,
            b'a' => Action::Abort,
            b't' => Action::Retry,
            b'w' => Action::Rewrite,
            _ => Action::Forward,
        }
    }
}

/// The body that an answer must have.
#[derive(Debug)]
enum Said {
    Nothing,
    This(Vec<u8>),
    /// The server's, whatever it was.
    Raw,
}

struct Exchange {
    id: ExchangeId,
    client: usize,
    /// Of the client's requests.
    place: usize,
    is_http2: bool,
    method: Vec<u8>,
    target: Vec<u8>,
    head: Vec<u8>,
    action: Action,
    rule: Rule,
    letter: char,
    forwards: usize,
    said: Said,
    record: Option<Box<Record>>,
}

const OWN: &[u8] = b"of the gateway";

struct Run {
    epoch: u64,
    front: Front,
    target: TargetId,
    server: Server,
    clients: Vec<Client>,
    exchanges: Vec<Exchange>,
    later: Vec<usize>,
    idle_turns: usize,
}

thread_local! {
    /// One address for all runs; what is left of another run is told by its number.
    static LISTENER_OF_SERVERS: (TcpListener, RefCell<u64>) = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
        listener.set_nonblocking(true).expect("a socket that does not block");
        sockopt::set_socket_recv_buffer_size(&listener, SOCKET_BYTES).expect("a small buffer");
        (listener, RefCell::new(0))
    };
}

/// Clients, the front end, the gateway's decisions, a server, and what must hold of all of them.
pub fn front(input: &[u8]) {
    run(input);
}

/// Returns how many requests the front end told of.
fn run(input: &[u8]) -> usize {
    let (rest, cut) = split(input);
    let (rest, flags) = split(rest);
    let mark = rest.windows(4).position(|mark| mark == b"\n--\n");
    let (bytes, raw) = mark.map_or((rest, &b""[..]), |at| (&rest[..at], &rest[at + 4..]));
    LISTENER_OF_SERVERS.with(|(listener, epoch)| {
        let epoch = {
            *epoch.borrow_mut() += 1;
            *epoch.borrow()
        };
        let mut run = Run::new(listener, epoch, raw);
        run.play(listener, bytes, flags, cut);
        run.judge(flags);
        run.exchanges.len()
    })
}

impl Run {
    fn new(listener: &TcpListener, epoch: u64, raw: &[u8]) -> Self {
        let mut front = Front::new(LIMITS, 0.0).expect("descriptors");
        let off = Duration::ZERO;
        let options = TargetOptions {
            connect: off,
            queue: off,
            first_byte: off,
            idle: off,
            keep_alive: Duration::from_secs(60),
            max_connections: 4,
            max_queued: 4,
        };
        let address = listener.local_addr().expect("an address");
        let target = front.add_target(options, vec![address]).expect("a target");
        Run {
            epoch,
            front,
            target,
            server: Server::new(epoch, raw),
            clients: Vec::new(),
            exchanges: Vec::new(),
            later: Vec::new(),
            idle_turns: 0,
        }
    }

    // ── time ──

    fn play(&mut self, listener: &TcpListener, bytes: &[u8], flags: u8, cut: u8) {
        let rules = RequestRules {
            uri_bytes: LIMITS.uri_bytes,
            head_bytes: LIMITS.head_bytes,
            fields: LIMITS.fields,
            body_bytes: LIMITS.body_bytes,
            is_https: false,
            other_upgrades: LIMITS.other_upgrades,
        };
        let filler = vec![b'x'; if flags & flags::FILLER != 0 { FILLER_BYTES } else { 0 }];
        let all = [bytes, &filler].concat();
        self.front.stand_in(LISTENER, flags & flags::PROXY != 0);
        for port in 0..1 + u16::from(flags & flags::TWO != 0) {
            let reference = Reference::new(&all, &rules, flags & flags::PROXY != 0);
            let client = Client::new(&mut self.front, LISTENER, 1000 + port, reference);
            self.clients.push(client);
        }
        let mut pieces = pieces(bytes, cut);
        if !filler.is_empty() {
            pieces.push(&filler);
        }
        let reads = flags & flags::LAZY == 0;
        for (at, piece) in pieces.iter().enumerate() {
            for client in &mut self.clients {
                client.out.extend_from_slice(piece);
            }
            if flags & flags::DRAIN != 0 && at == pieces.len() / 2 {
                self.front.drain();
            }
            if flags & flags::SETTLE != 0 {
                self.settle(listener, reads);
            } else {
                self.step(listener, reads);
            }
        }
        self.settle(listener, reads);
        for client in &mut self.clients {
            if flags & flags::VANISH != 0 {
                client.vanish();
            } else if flags & flags::HALF != 0 {
                client.end();
            }
        }
        self.settle(listener, true);
        let begun = Instant::now();
        while let Some(number) = self.owed() {
            assert!(begun.elapsed() < PATIENCE, "request {number} has no answer");
            self.wait(listener);
            self.settle(listener, true);
        }
        self.front.close();
        self.settle(listener, true);
    }

    /// Until nothing more comes of anything.
    fn settle(&mut self, listener: &TcpListener, reads: bool) {
        let mut quiet = 0;
        while quiet < 2 {
            quiet = if self.step(listener, reads) { 0 } else { quiet + 1 };
            if quiet == 2 {
                if let Some(at) = self.later.pop() {
                    self.respond(at, "200 OK");
                    quiet = 0;
                }
            }
        }
    }

    fn step(&mut self, listener: &TcpListener, reads: bool) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let front = self.front.fd();
        let is_ready = poll(&mut [PollFd::new(&front, PollFlags::IN)], Some(&at_once)) == Ok(1);
        let mut has_worked = false;
        self.front.turn();
        while let Some(event) = self.front.next_event() {
            has_worked = true;
            self.handle(event);
        }
        let held = self.front.held_bytes();
        assert!(held <= HELD_BYTES * self.clients.len(), "{held} bytes are held");
        for client in &mut self.clients {
            has_worked |= client.work(reads);
        }
        has_worked |= self.server.work(listener);
        self.idle_turns = if has_worked || !is_ready { 0 } else { self.idle_turns + 1 };
        assert!(self.idle_turns < MOST_IDLE_TURNS, "the front end spins");
        has_worked || is_ready
    }

    /// The system may take a moment to carry bytes over.
    fn wait(&self, listener: &TcpListener) {
        let front = self.front.fd();
        let mut fds =
            vec![PollFd::new(&front, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        fds.extend(self.server.streams().map(|stream| PollFd::new(stream, PollFlags::IN)));
        let sockets = self.clients.iter().filter_map(|client| client.socket.as_ref());
        fds.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
        let moment = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let _ = poll(&mut fds, Some(&moment));
    }

    /// A request of a client that is there and reads, complete, that nothing keeps from being answered, and is not.
    fn owed(&self) -> Option<usize> {
        for client in &self.clients {
            let is_over = client.has_end || client.is_broken || client.has_ended_side;
            if is_over || client.reference.is_http2 {
                continue;
            }
            for (place, request) in client.reference.requests.iter().enumerate() {
                if !request.is_complete {
                    break;
                }
                let Some(number) = client.told.get(place) else { return Some(place) };
                let exchange = &self.exchanges[*number];
                let waits =
                    matches!(exchange.rule, Rule::Never | Rule::Deaf) && exchange.forwards > 0;
                if waits || matches!(exchange.said, Said::Raw) {
                    break;
                }
                if exchange.record.is_none() && exchange.rule != Rule::Tunnel {
                    return Some(*number);
                }
            }
        }
        None
    }

    // ── the gateway ──

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected { .. } => panic!("nobody asked for it"),
            Event::Request(id, request) => self.begin(id, *request),
            Event::RequestBody { exchange, is_complete, is_held } => {
                self.has_body(exchange, is_complete, is_held);
            }
            Event::Note { .. } => panic!("nobody wrote one"),
            Event::Response { exchange, status, .. } => self.has_response(exchange, status),
            Event::ResponseBody { exchange, .. } => {
                let at = self.find(exchange);
                let body = self.front.response_body(exchange).to_vec();
                if self.exchanges[at].rule != Rule::Raw {
                    let whole = self.exchanges[at].rule.body(at);
                    assert!(whole.starts_with(&body), "the answer's body");
                }
                self.go_on(at, None, false);
            }
            Event::FilterData { exchange, data } => {
                self.front.write_response(exchange, &data);
            }
            Event::FilterEnd { exchange } => self.front.end_response(exchange),
            Event::FilterWritable { .. } => {}
            Event::UpstreamFailed { exchange, body_consumed, .. } => {
                let at = self.find(exchange);
                if self.exchanges[at].action == Action::Retry
                    && self.exchanges[at].forwards == 1
                    && !body_consumed
                {
                    self.forward(at, None);
                } else {
                    self.respond(at, "502 Bad Gateway");
                }
            }
            Event::Done(exchange, record) => self.end(exchange, record),
            Event::Ended => self.take_ends(),
            Event::Passed { .. }
            | Event::StandingPassed { .. }
            | Event::StandingFailed { .. }
            | Event::Rejected(_) => panic!("nothing was relayed"),
            Event::Refused(refused) => {
                let is_it = |client: &&mut Client| client.peer == refused.peer;
                let client = self.clients.iter_mut().find(is_it).expect("a client");
                client.refusals += 1;
            }
        }
    }

    fn find(&self, id: ExchangeId) -> usize {
        self.exchanges.iter().rposition(|one| one.id == id).expect("an exchange that was told of")
    }

    /// Ends that are told together may be asked for at any time.
    fn take_ends(&mut self) {
        let mut ends = Vec::new();
        self.front.take_ended(|exchange, record| ends.push((exchange, Box::new(record.clone()))));
        for (exchange, record) in ends {
            self.end(exchange, record);
        }
    }

    fn end(&mut self, exchange: ExchangeId, record: Box<sallyport_front::Record>) {
        let at = self.find(exchange);
        let known = &mut self.exchanges[at];
        assert!(known.record.is_none(), "two ends");
        known.record = Some(record);
        self.later.retain(|other| *other != at);
    }

    fn begin(&mut self, id: ExchangeId, request: sallyport_front::Request) {
        self.take_ends();
        let at = self.exchanges.len();
        let is_it = |client: &Client| client.connection == request.connection;
        let client = self.clients.iter().position(is_it).expect("a client's connection");
        let one = &mut self.clients[client];
        let place = one.told.len();
        let is_http2 = one.reference.is_http2;
        if !is_http2 {
            if let Some(before) = one.told.last() {
                assert!(self.exchanges[*before].record.is_some(), "two requests at a time (H-51)");
            }
            assert_eq!(one.refusals, 0, "a request behind a refusal");
            let known = one.reference.requests.get(place).expect("a request that is one");
            assert_eq!(known.head, request.head, "another request than was sent");
        }
        one.told.push(at);
        let line = request.head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let mut parts = line.split(|byte| *byte == b' ').map(<[u8]>::to_vec);
        let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let letter = |at: usize| target.get(at).copied().unwrap_or(b'f');
        let rule = match Rule::of(letter(2)) {
            // a few are enough, and many take long
            Rule::Big if at > 1 => Rule::Length,
            rule => rule,
        };
        let letter_of_rule = if rule == Rule::Length { 'z' } else { char::from(letter(2)) };
        let action = Action::of(letter(1));
        self.exchanges.push(Exchange {
            id,
            client,
            place,
            is_http2,
            method,
            target,
            head: request.head,
            action,
            rule,
            letter: letter_of_rule,
            forwards: 0,
            said: Said::Nothing,
            record: None,
        });
        match action {
            Action::Buffer | Action::Collect => self.front.read_request_body(id, 1000),
            Action::Hold => self.front.hold_request_body(id, 1000),
            Action::Respond => self.respond(at, "200 OK"),
            Action::Later => self.later.push(at),
            Action::Abort => self.front.abort(id),
            Action::Rewrite => self.forward(at, Some(OWN)),
            _ => self.forward(at, None),
        }
    }

    fn has_body(&mut self, id: ExchangeId, is_complete: bool, is_held: bool) {
        let at = self.find(id);
        let body = self.front.request_body(id).to_vec();
        let known = &self.exchanges[at];
        assert_eq!(is_held, known.action == Action::Hold);
        assert!(body.len() <= 1000, "more than was asked for");
        if let Some(sent) = self.sent_body(known) {
            assert!(sent.0.starts_with(&body), "a body that was not sent");
            assert!(!is_complete || (sent.1 && sent.0.len() == body.len()), "not all of a body");
        }
        if known.action == Action::Collect {
            self.respond(at, "200 OK");
        } else {
            self.forward(at, None);
        }
    }

    /// What a client sent as the body of a request, and whether that is all of it; not for HTTP/2.
    fn sent_body(&self, exchange: &Exchange) -> Option<(&[u8], bool)> {
        if exchange.is_http2 {
            return None;
        }
        let reference = &self.clients[exchange.client].reference;
        let request = &reference.requests[exchange.place];
        Some((&request.body, request.is_complete))
    }

    fn forward(&mut self, at: usize, body: Option<&[u8]>) {
        let known = &mut self.exchanges[at];
        known.forwards += 1;
        let mut head = Vec::new();
        for line in known.head.split_inclusive(|byte| *byte == b'\n') {
            if !line.starts_with(b"x-n:") {
                head.extend_from_slice(line);
            }
        }
        let mark = format!("x-n: {}.{at}.{}\r\n", self.epoch, known.letter);
        head.extend_from_slice(mark.as_bytes());
        let sent = self.front.forward(
            known.id,
            self.target,
            &head,
            body,
            sallyport_front::Relay::default(),
        );
        assert!(
            sent.is_ok(),
            "a head that was read is a head: {:?}",
            String::from_utf8_lossy(&head)
        );
    }

    fn respond(&mut self, at: usize, status: &str) {
        let known = &mut self.exchanges[at];
        known.said = Said::This(OWN.to_vec());
        let head = format!("HTTP/1.1 {status}\r\nx-n: {at}\r\n");
        let sent = self.front.respond(known.id, head.as_bytes(), OWN);
        assert!(sent.is_ok(), "a head");
    }

    fn has_response(&mut self, id: ExchangeId, status: u16) {
        let at = self.find(id);
        let known = &mut self.exchanges[at];
        let head = self.front.response_head();
        if known.rule != Rule::Raw {
            let mark = format!("\r\nx-up: {at}\r\n");
            let is_its = head.windows(mark.len()).any(|part| part == mark.as_bytes());
            assert!(is_its, "the answer to another request: {:?}", String::from_utf8_lossy(head));
        }
        let mut lines = format!("HTTP/1.1 {status} As It Is\r\nx-n: {at}\r\n").into_bytes();
        for line in head.split_inclusive(|byte| *byte == b'\n').skip(1) {
            if !line.starts_with(b"x-n:") {
                lines.extend_from_slice(line);
            }
        }
        known.head = lines;
        match known.action {
            Action::Override => self.respond(at, "200 OK"),
            Action::Gather if status != 101 => self.front.read_response_body(id, 1000),
            Action::Hold if status != 101 => self.front.hold_response_body(id, 1000),
            Action::Replace => self.go_on(at, Some(OWN), false),
            Action::Filter => self.go_on(at, None, true),
            _ => self.go_on(at, None, false),
        }
    }

    fn go_on(&mut self, at: usize, body: Option<&[u8]>, is_filtered: bool) {
        let known = &mut self.exchanges[at];
        known.said = match body {
            _ if known.rule == Rule::Raw => Said::Raw,
            Some(body) => Said::This(body.to_vec()),
            None => Said::This(known.rule.body(at)),
        };
        let sent = self.front.continue_response(known.id, &known.head, body, is_filtered);
        assert!(sent.is_ok(), "a head (H-124): {:?}", String::from_utf8_lossy(&known.head));
    }

    // ── what must hold ──

    fn judge(&mut self, flags: u8) {
        assert_eq!(self.front.in_flight(), 0, "exchanges outlive their front end");
        let open = self.front.connections_of(LISTENER);
        assert_eq!(open, Default::default(), "connections outlive their front end");
        for exchange in &self.exchanges {
            let record = exchange.record.as_ref().expect("an end for every request");
            if let (Some((body, _)), false) = (self.sent_body(exchange), record.tunnel) {
                assert!(record.received_bytes <= body.len() as u64, "more than was sent");
            }
        }
        for seen in &self.server.seen {
            self.judge_seen(seen);
        }
        for client in &self.clients {
            if client.reference.is_http2 {
                // each stream may be refused
                judge_frames(&client.received);
            } else {
                assert!(client.refusals <= 1, "refused twice");
                self.judge_answers(client, flags);
            }
        }
    }

    fn judge_seen(&self, seen: &server::Seen) {
        let exchange = &self.exchanges[seen.number];
        assert_eq!(seen.method, exchange.method);
        assert_eq!(seen.target, exchange.target);
        let times = self.server.seen.iter().filter(|one| one.number == seen.number).count();
        assert!(times <= exchange.forwards, "sent more often than was asked for");
        if exchange.action == Action::Rewrite {
            // who asks for another protocol has no body
            let whole = if seen.asks_upgrade { &b""[..] } else { OWN };
            assert!(if seen.is_complete {
                seen.body == whole
            } else {
                whole.starts_with(&seen.body)
            });
            return;
        }
        let Some((body, is_complete)) = self.sent_body(exchange) else { return };
        assert!(body.starts_with(&seen.body), "a body that was not sent");
        let is_whole = is_complete && body.len() == seen.body.len();
        assert!(!seen.is_complete || is_whole, "a part of a body as the whole (H-30)");
        let tunnel = &self.clients[exchange.client].reference.tunnel;
        assert!(tunnel.starts_with(&seen.tunnel), "a tunnel's bytes");
    }

    fn judge_answers(&self, client: &Client, flags: u8) {
        let mut bytes = client.received.as_slice();
        let mut answers = 0;
        let mut is_last = false;
        while !bytes.is_empty() {
            assert!(!is_last, "bytes behind the last answer");
            let exchange = client.told.get(answers).map(|number| &self.exchanges[*number]);
            let is_head = exchange.is_some_and(|one| one.method == b"HEAD");
            // a refusal names the method itself: it is looked at as what it frames
            let Some((head, status, framing)) = strict::answer(bytes, is_head) else { return };
            bytes = &bytes[head.length..];
            if (100..200).contains(&status) && status != 101 {
                assert!(exchange.is_some(), "an interim answer to nothing");
                continue;
            }
            answers += 1;
            let own_number = head.last(b"x-n");
            let Some(own_number) = own_number else {
                // the front end's own: 400, 408, 413 …, the last of a connection
                assert!(answers <= client.told.len() + client.refusals, "an answer to nothing");
                assert_eq!(
                    head.last(b"connection").map(|value| value.starts_with(b"close")),
                    Some(true)
                );
                let framing = if bytes.is_empty() { Framing::Length(0) } else { framing };
                bytes = &bytes[strict::body(bytes, framing).length..];
                is_last = true;
                continue;
            };
            let exchange = exchange.expect("an answer to nothing");
            let number = client.told[answers - 1];
            assert_eq!(own_number, number.to_string().as_bytes(), "the answer to another request");
            let record = exchange.record.as_ref().expect("an end");
            assert_eq!(record.status, status);
            if status == 101 {
                self.judge_tunnel(client, exchange, bytes, flags);
                return;
            }
            is_last = head.all(b"connection").any(|value| value == b"close");
            let body = strict::body(bytes, framing);
            let is_read = flags & flags::VANISH == 0;
            if record.end == End::Complete && is_read {
                assert!(body.is_complete || framing == Framing::UntilClose, "not all of an answer");
                assert_eq!(body.data.len() as u64, record.sent_bytes, "bytes in the record");
            }
            let is_whole =
                body.is_complete || (framing == Framing::UntilClose && record.end == End::Complete);
            if let (Said::This(said), false) = (&exchange.said, framing == Framing::Length(0)) {
                assert!(said.starts_with(&body.data), "another body");
                assert!(!is_whole || said.len() == body.data.len(), "a part as the whole (H-33)");
                let is_cut = exchange.rule == Rule::Cut && said != OWN;
                assert!(!(is_cut && is_whole), "a cut answer looks whole (H-33)");
            }
            if framing == Framing::UntilClose || !body.is_complete {
                return;
            }
            bytes = &bytes[body.length..];
        }
    }

    fn judge_tunnel(&self, client: &Client, exchange: &Exchange, bytes: &[u8], flags: u8) {
        if exchange.rule != Rule::Tunnel || client.reference.tunnel.starts_with(bytes) {
            return;
        }
        // O-21: a close frame of the front end's, between two of the server's, and nothing behind it
        let told = bytes.strip_suffix(&[0x88, 2, 0x03, 0xe9]);
        let told = told.filter(|told| client.reference.tunnel.starts_with(told));
        assert!(flags & flags::DRAIN != 0 && told.is_some(), "a tunnel's bytes on their way back");
        assert!(told.is_some_and(are_whole_frames), "a close frame inside a frame");
    }
}

/// Frames of a server of WebSockets, none of which closes (RFC 6455 §5.2).
fn are_whole_frames(mut bytes: &[u8]) -> bool {
    while let [first, second, rest @ ..] = bytes {
        let (length, rest) = match (second, rest) {
            (0..=125, rest) => (u64::from(*second), rest),
            (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
            (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest)
            }
            _ => return false,
        };
        let Some(rest) = usize::try_from(length).ok().and_then(|length| rest.get(length..)) else {
            return false;
        };
        let opcode = first & 0x0f;
        if matches!(opcode, 3..=8 | 11..) || opcode > 8 && *first < 0x80 {
            return false;
        }
        bytes = rest;
    }
    bytes.is_empty()
}

/// Frames of HTTP/2 as a client reads them: known lengths, and nothing on a stream behind its end (RFC 9113 §4.1, §5.1).
fn judge_frames(received: &[u8]) {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const END_STREAM: u8 = 1;
    let mut bytes = received;
    let mut ended = std::collections::HashSet::new();
    if bytes.starts_with(b"HTTP/1.1 4") {
        return;
    }
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        assert!(length <= 16_384, "a frame of {length} bytes");
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        if matches!(head[3], DATA | HEADERS) {
            assert!(stream % 2 == 1, "a stream of the client's");
            assert!(!ended.contains(&stream), "behind the end of stream {stream}");
            if head[4] & END_STREAM != 0 {
                ended.insert(stream);
            }
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_seed_has_requests() {
        for (at, seed) in super::SEEDS.iter().enumerate() {
            assert!(super::run(seed) > 0, "seed {at}");
        }
    }
}
