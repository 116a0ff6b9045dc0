//! HTTP/1.1 and 1.0 as received: bytes of a connection become requests and their bodies.
//!
//! One exchange at a time: what comes behind a complete request stays unread, or in the connection's buffer, until its
//! answer is out (H-51). Source: RFC 9112; H-01 … H-39, H-51, H-53, H-61, H-81.

use sallyport_http1::{
    proxy::read_proxy_header, request_line, BodyReader, Framing, Refusal, RequestRules, Upgrade,
    Version,
};

use crate::connection::Phase;
use crate::event::{self, ConnectionId, End, Event, ExchangeId, Refused, Request};
use crate::exchange::{Answer, Exchange, Sink};
use crate::front::Front;
use crate::head::{extra_lines, phrase, write_length};
use crate::held::Held;
use crate::http2::PREFACE;
use crate::trailers::TrailerRules;
use crate::wire::Received;

/// Reads of one connection in a row; then others have their turn.
const READS: usize = 4;
/// H-37: what is read and thrown away of a body that nobody wants any more.
pub(crate) const DISCARD_BYTES: usize = 64 * 1024;
/// At a time, with those whose end is still to be told; beyond it 503. Handles of exchanges have 19 bits for their places.
pub(crate) const MOST_EXCHANGES: usize = 1 << 19;
/// Of a refused request's line, for the log.
const LOGGED_BYTES: usize = 256;

impl Front {
    /// Uses what is at hand of a connection's bytes, and reads more, as long as somebody wants them.
    pub(crate) fn pump(&mut self, key: u64) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.pump_with(key, &mut scratch);
        self.scratch = scratch;
    }

    fn pump_with(&mut self, key: u64, scratch: &mut [u8]) {
        if self.connections.get(key).is_some_and(|connection| connection.http2.is_some()) {
            self.work_streams(key);
        }
        if self.connections.get(key).is_some_and(|connection| connection.may_use_input()) {
            self.use_input(key);
        }
        for _ in 0..READS {
            let Some(connection) = self.connections.get_mut(key) else { return };
            if !connection.is_readable || !connection.wants_read() {
                return;
            }
            match connection.wire.receive(scratch) {
                Received::Bytes(length, is_drained) => {
                    // An end is behind it, if there is one.
                    connection.is_readable = !is_drained || connection.is_ended;
                    connection.heard_ms = self.now_ms;
                    connection.window_bytes += length as u64;
                    self.received(key, &mut scratch[..length]);
                }
                Received::Nothing => {
                    connection.is_readable = false;
                    return;
                }
                Received::End => {
                    connection.is_readable = false;
                    connection.is_ended = true;
                    self.client_ended(key);
                    return;
                }
                Received::Broken => {
                    self.close_connection(key, End::ClientAbort);
                    return;
                }
                Received::NotTls(length) => {
                    connection.is_readable = false;
                    self.spoken_plain_to(key, &scratch[..length]);
                    return;
                }
            }
        }
        let Some(connection) = self.connections.get(key) else { return };
        if connection.is_readable && connection.wants_read() {
            self.push_again(key);
        }
    }

    /// New bytes of a connection: used at once, as far as may be; the rest waits in its buffer.
    fn received(&mut self, key: u64, bytes: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !connection.input.is_empty() {
            connection.input.extend_from_slice(bytes);
            self.use_input(key);
            return;
        }
        let used = self.consume(key, bytes);
        if used < bytes.len() {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.input.extend_from_slice(&bytes[used..]);
            }
        }
    }

    fn use_input(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut input = std::mem::take(&mut connection.input);
        let used = self.consume(key, &mut input);
        let Some(connection) = self.connections.get_mut(key) else { return };
        if used < input.len() {
            input.drain(..used);
            connection.input = input;
        }
    }

    /// Returns how many bytes were used.
    fn consume(&mut self, key: u64, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            let Some(connection) = self.connections.get(key) else { return used };
            let step = match connection.phase {
                Phase::Proxy => self.read_proxy_header(key, &mut bytes[used..]),
                Phase::Head => self.read_head(key, &bytes[used..]),
                Phase::Streams => {
                    self.receive_streams(key, &bytes[used..]);
                    bytes.len() - used
                }
                Phase::Body => self.read_body(key, &mut bytes[used..]),
                Phase::Tunnel => {
                    let exchange = connection.exchange();
                    self.tunnel_up(exchange, &bytes[used..]);
                    bytes.len() - used
                }
                Phase::Linger => bytes.len() - used,
                Phase::Answer => return used,
            };
            if step == 0 {
                return used;
            }
            used += step;
        }
        used
    }

    /// A listener that takes the header takes nothing before it; what is none ends the connection without an answer.
    fn read_proxy_header(&mut self, key: u64, bytes: &mut [u8]) -> usize {
        let header = match read_proxy_header(bytes) {
            Ok(Some(header)) => header,
            Ok(None) => return 0,
            Err(_) => {
                if let Some(connection) = self.connections.get(key) {
                    let (listener, peer) = (connection.listener, connection.peer);
                    let request_line = Vec::new();
                    let rule = "O-71";
                    let refused = Refused { listener, peer, status: 0, rule, request_line };
                    self.push(Event::Refused(Box::new(refused)));
                }
                self.close_connection(key, End::Aborted);
                return bytes.len();
            }
        };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.proxied =
                header.addresses.map(|known| Box::new((known.source, known.destination)));
            connection.phase = Phase::Head;
        }
        let consumed = header.consumed;
        if self.begin_tls(key, &mut bytes[consumed..]) {
            return bytes.len();
        }
        consumed
    }

    /// Behind a PROXY header the handshake begins, where the listener has TLS, with what came together with the header: true, and
    /// those bytes are used.
    fn begin_tls(&mut self, key: u64, bytes: &mut [u8]) -> bool {
        let Some(connection) = self.connections.get(key) else { return false };
        let listener = connection.listener;
        let Some(context) = self.listener(listener).and_then(|listener| listener.tls.clone())
        else {
            return false;
        };
        let Some(connection) = self.connections.get_mut(key) else { return true };
        match connection.wire.secure(&context, bytes) {
            Received::Broken => self.close_connection(key, End::ClientAbort),
            Received::NotTls(_) => self.spoken_plain_to(key, bytes),
            // The client's first data comes after our part of the handshake.
            _ => {}
        }
        true
    }

    fn read_head(&mut self, key: u64, bytes: &[u8]) -> usize {
        if bytes[0] == PREFACE[0] && self.connections.get(key).is_some_and(|one| !one.is_used) {
            if let Some(used) = self.read_preface(key, bytes) {
                return used;
            }
        }
        let mut head = self.buffer();
        let mut connection_lines = self.buffer();
        let Some(connection) = self.connections.get_mut(key) else { return 0 };
        let rules = RequestRules { is_https: connection.wire.is_tls(), ..self.rules };
        let reader = &mut connection.http1().reader;
        let had_begun = reader.has_begun();
        let facts = match reader.read(bytes, &rules, &mut head, &mut connection_lines) {
            Ok(Some(facts)) => facts,
            Ok(None) => {
                let begins = !had_begun && reader.has_begun();
                let is_first = !connection.is_used;
                self.recycle(head);
                self.recycle(connection_lines);
                // The first head of a connection has its time from the beginning.
                if begins && !is_first {
                    self.deadline_in(key, self.limits.head_ms);
                }
                return 0;
            }
            Err(refusal) => {
                self.recycle(head);
                self.recycle(connection_lines);
                self.refuse_request(key, bytes, refusal);
                return bytes.len();
            }
        };
        connection.is_used = true;
        connection.discarded = 0;
        connection.is_paused = false;
        let listener = connection.listener;
        let body_length = match facts.framing {
            Framing::None => 0,
            Framing::Length(length) => length as i64,
            Framing::Chunked => -1,
        };
        let is_complete = body_length == 0;
        let mut exchange = Exchange::new(key, listener);
        exchange.is_head = facts.is_head;
        exchange.is_http10 = facts.version == Version::Http10;
        exchange.body_length = body_length;
        exchange.says_zero = facts.framing == Framing::Length(0);
        exchange.is_complete = is_complete;
        exchange.expects_continue = facts.expects_continue && !is_complete;
        exchange.keeps_alive = facts.keep_alive;
        exchange.upgrade = facts.upgrade != Upgrade::None;
        exchange.accepts_trailers = facts.accepts_trailers;
        if facts.framing == Framing::Chunked {
            exchange.trailer_rules = TrailerRules::of(&connection_lines);
        }
        let Some(id) = self.exchanges.insert(exchange) else {
            self.refuse_with(key, bytes, 503, "overflow", "too many requests are under way\n");
            return bytes.len();
        };
        let limit = self.limits.body_bytes;
        let Some(connection) = self.connections.get_mut(key) else { return 0 };
        let http1 = connection.http1();
        http1.exchange = id;
        http1.closes = false;
        http1.body = (!is_complete).then(|| BodyReader::new(facts.framing, limit, true));
        connection.phase = if is_complete { Phase::Answer } else { Phase::Body };
        if is_complete && !connection.is_ended {
            connection.deadline_ms = 0;
        } else {
            self.measure(key);
        }
        let is_plain = is_complete
            && facts.version == Version::Http11
            && facts.upgrade == Upgrade::None
            && !facts.proxy_fields;
        if is_plain && !self.standing.is_empty() {
            match self.send_standing(id, head, &connection_lines) {
                Ok(()) => {
                    self.recycle(connection_lines);
                    return facts.consumed;
                }
                Err(given_back) => head = given_back,
            }
        }
        let request = Request {
            head,
            connection_lines,
            body_length,
            proxy_fields: facts.proxy_fields,
            version: match facts.version {
                Version::Http10 => event::Version::Http10,
                Version::Http11 => event::Version::Http11,
            },
            listener,
            connection: ConnectionId(key),
            received_at_ms: self.clock_ms(),
        };
        self.push(Event::Request(ExchangeId(id), Box::new(request)));
        facts.consumed
    }

    fn read_body(&mut self, key: u64, bytes: &mut [u8]) -> usize {
        let Some(connection) = self.connections.get_mut(key) else { return 0 };
        let http1 = connection.http1();
        let exchange = http1.exchange;
        let Some(body) = &mut http1.body else { return 0 };
        let piece = match body.read(bytes) {
            Ok(piece) => piece,
            Err(refusal) => {
                self.bad_body(key, refusal);
                return bytes.len();
            }
        };
        if exchange == 0 {
            connection.discarded += piece.data;
            if connection.discarded > DISCARD_BYTES {
                self.linger(key);
                return bytes.len();
            }
        } else if piece.data > 0 {
            self.take(exchange, &bytes[..piece.data]);
        }
        if piece.is_last {
            let Some(connection) = self.connections.get_mut(key) else { return piece.used };
            let body = connection.http1().body.take();
            if let (Some(state), Some(body)) = (self.exchanges.get_mut(exchange), body) {
                state.trailers_up = state.trailer_rules.filter(body.trailers());
            }
            connection.is_paused = false;
            if exchange == 0 {
                self.next_request(key);
            } else if connection.phase == Phase::Body {
                connection.phase = Phase::Answer;
                if connection.wire.pending() == 0 && !connection.is_ended {
                    connection.deadline_ms = 0;
                }
                self.request_complete(exchange);
            }
        }
        piece.used
    }

    /// The body cannot be read on: nothing behind it is (H-121).
    fn bad_body(&mut self, key: u64, refusal: Refusal) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let http1 = connection.http1();
        http1.body = None;
        let exchange = http1.exchange;
        if exchange == 0 {
            self.linger(key);
            return;
        }
        if let Some(request) = self.take_unannounced(exchange) {
            // Nobody knows of it yet: it is refused like a head that is wrong.
            self.exchanges.remove(exchange);
            if let Some(connection) = self.connections.get_mut(key) {
                connection.http1().exchange = 0;
            }
            self.refuse_request(key, &request.head, refusal);
            return;
        }
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        state.keeps_alive = false;
        state.rule = refusal.rule;
        let has_answered = state.answer != Answer::None;
        if let Some(connection) = self.connections.get_mut(key) {
            // What follows is not looked at any more.
            connection.phase = Phase::Linger;
        }
        if has_answered {
            self.drop_leg(exchange);
            self.end_exchange(exchange, End::Truncated, None);
            self.close_connection(key, End::Truncated);
        } else {
            let text = format!("{}\n", refusal.text);
            self.answer_error(exchange, refusal.status, &text);
        }
    }

    /// Takes a request back that was not told yet.
    pub(crate) fn take_unannounced(&mut self, exchange: u64) -> Option<Box<Request>> {
        let is_it = |event: &Event| matches!(event, Event::Request(id, _) if id.0 == exchange);
        let at = self.pending.iter().rposition(is_it)?;
        match self.pending.remove(at) {
            Some(Event::Request(_, request)) => Some(request),
            _ => None,
        }
    }

    /// The client has ended its side.
    fn client_ended(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.phase == Phase::Streams {
            self.end_streams(key);
        } else if connection.phase == Phase::Tunnel {
            connection.is_paused = true;
            let exchange = connection.exchange();
            self.tunnel_up_ended(exchange);
        } else {
            self.close_connection(key, End::ClientAbort);
        }
    }

    // ── refusals ──

    /// H-81: no complete head in time.
    pub(crate) fn head_too_slow(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let input = std::mem::take(&mut connection.input);
        self.refuse_with(key, &input, 408, "H-81", "the request head came too slowly\n");
    }

    /// A client that speaks HTTP without TLS to a port that has it is told so; whatever else it is, it is not answered.
    fn spoken_plain_to(&mut self, key: u64, bytes: &[u8]) {
        if bytes.first().is_some_and(u8::is_ascii_uppercase) {
            self.refuse_with(key, bytes, 400, "H-01", "this port speaks https only\n");
        } else {
            self.close_connection(key, End::Aborted);
        }
    }

    fn refuse_request(&mut self, key: u64, bytes: &[u8], refusal: Refusal) {
        let text = format!("{}\n", refusal.text);
        self.refuse_with(key, bytes, refusal.status, refusal.rule, &text);
    }

    /// Answers what is not a request, tells of it, and closes.
    pub(crate) fn refuse_with(
        &mut self,
        key: u64,
        bytes: &[u8],
        status: u16,
        rule: &'static str,
        body: &str,
    ) {
        let line = request_line(bytes);
        let is_head = line.starts_with(b"HEAD ");
        let request_line = line[..line.len().min(LOGGED_BYTES)].to_vec();
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        text.extend_from_slice(b"HTTP/1.1 ");
        text.extend_from_slice(status.to_string().as_bytes());
        text.push(b' ');
        text.extend_from_slice(phrase(status).as_bytes());
        text.extend_from_slice(
            b"\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n",
        );
        text.extend_from_slice(extra_lines(status).as_bytes());
        if status == 426 {
            text.extend_from_slice(b"connection: close, upgrade\r\nupgrade: websocket\r\n");
        } else {
            text.extend_from_slice(b"connection: close\r\n");
        }
        text.extend_from_slice(self.date.now());
        write_length(&mut text, body.len() as u64);
        text.extend_from_slice(b"\r\n");
        if !is_head {
            text.extend_from_slice(body.as_bytes());
        }
        if let Some(connection) = self.connections.get_mut(key) {
            connection.is_used = true;
            connection.wire.send(&[&text]);
            let (listener, peer) = (connection.listener, connection.peer);
            let refused = Refused { listener, peer, status, rule, request_line };
            self.push(Event::Refused(Box::new(refused)));
        }
        self.text = text;
        self.linger(key);
    }

    // ── between requests ──

    /// The connection is free for its next request.
    pub(crate) fn next_request(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.phase = Phase::Head;
        connection.is_paused = false;
        let space = connection.wire.rest();
        if connection.input.is_empty() {
            connection.input = Vec::new();
        }
        let may_have_more = !connection.input.is_empty() || connection.is_readable;
        self.recycle(space);
        if self.is_draining {
            self.linger(key);
            return;
        }
        self.deadline_in(key, self.limits.idle_ms);
        if may_have_more {
            self.push_again(key);
        }
    }

    /// Everything is said: the client may still read, and what it sends is thrown away (H-37).
    pub(crate) fn linger(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.phase = Phase::Linger;
        connection.input = Vec::new();
        if connection.wire.is_broken() || connection.is_ended {
            if connection.wire.pending() == 0 {
                self.close_connection(key, End::Complete);
                return;
            }
        } else if connection.wire.pending() == 0 {
            connection.wire.end();
        }
        let readable = connection.is_readable;
        self.deadline_in(key, self.limits.linger_ms);
        if readable {
            self.push_again(key);
        }
    }

    /// A connection whose request was complete and behind which nothing came needs no lingering.
    pub(crate) fn close_after_answer(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_quiet = connection.http1().body.is_none()
            && connection.input.is_empty()
            && !connection.is_readable
            && connection.phase != Phase::Linger;
        if is_quiet {
            self.close_connection(key, End::Complete);
        } else {
            self.linger(key);
        }
    }

    /// More of a request's body is wanted.
    pub(crate) fn resume_request(&mut self, exchange: u64) {
        let Some(state) = self.exchanges.get(exchange) else { return };
        if state.is_complete {
            return;
        }
        if state.stream != 0 {
            return self.hold_stream(exchange, false);
        }
        let key = state.connection;
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !std::mem::replace(&mut connection.is_paused, false) {
            return;
        }
        let is_readable = connection.is_readable || !connection.input.is_empty();
        self.measure(key);
        if is_readable {
            self.push_again(key);
        }
    }

    /// Nobody wants more of a request's body at present.
    pub(crate) fn pause_request(&mut self, exchange: u64) {
        let Some(state) = self.exchanges.get(exchange) else { return };
        if state.is_complete {
            return;
        }
        if state.stream != 0 {
            return self.hold_stream(exchange, true);
        }
        if let Some(connection) = self.connections.get_mut(state.connection) {
            connection.is_paused = true;
        }
    }

    /// H-61: the client may send its body.
    pub(crate) fn owe_continue(&mut self, exchange: u64) {
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        if !std::mem::take(&mut state.expects_continue) || state.received > 0 {
            return;
        }
        self.inform(exchange, b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// Where a sink throws a body away that is still to come.
    pub(crate) fn discard_request(&mut self, exchange: u64) {
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        state.sink = Sink::Discard;
        state.held = Held::new();
        self.resume_request(exchange);
    }
}
