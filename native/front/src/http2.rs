//! HTTP/2 with clients: a connection carries several exchanges, one per stream.
//!
//! A connection becomes one when it begins with the client's preface: by prior knowledge, or after ALPN. Frames, windows
//! and the rules for heads are sallyport-http2's; here its events become exchanges and what an exchange does to its client
//! becomes calls. What is to be written leaves at the end of a turn, so that answers of one turn leave together.
//!
//! Source: RFC 9113, RFC 8441; H-26, H-33, H-37, H-38, H-61, H-62, H-80, H-83, H-94, H-100 … H-105, O-21.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sallyport_http1::request_line;
use sallyport_http2::{
    Refusal, RequestHead, RequestLimits, ServerConnection, ServerEvent, ServerOptions,
};

use crate::connection::Phase;
use crate::downstream::BodyFacts;
use crate::event::{ConnectionId, End, Event, ExchangeId, Refused, Request, Version};
use crate::exchange::{Answer, Exchange, Sink};
use crate::front::{Front, Limits};
use crate::head::extra_lines;
use crate::timers::PROGRESS_BYTES_PER_SECOND;
use crate::trailers::TrailerRules;

/// What a client that knows says first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// H-103.
const MAX_STREAMS: u32 = 128;
/// Body bytes of a request that may come before somebody takes them (H-38).
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same of all requests of a connection: enough that those that nobody takes do not stop the others (H-105).
const CONNECTION_WINDOW: u32 = (MAX_STREAMS + 16) * STREAM_WINDOW;
/// Bytes that wait for the socket above which no more are asked for.
const MAX_PENDING: usize = 64 * 1024;
/// How often a connection with streams is looked at.
const LOOK_MS: u64 = 1_000;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;

/// What is kept of a connection that speaks HTTP/2.
pub(crate) struct Http2 {
    pub(crate) h2: ServerConnection,
    /// Exchanges by stream.
    pub(crate) exchanges: HashMap<u32, u64>,
    /// It is among those that are looked at again in this turn.
    is_listed: bool,
    /// Its last event has come: once everything is written it ends.
    is_over: bool,
    /// Since when there is no stream, in milliseconds.
    idle_since_ms: u64,
}

fn options(limits: &Limits) -> ServerOptions {
    ServerOptions {
        request: RequestLimits {
            head_bytes: limits.head_bytes,
            fields: limits.fields,
            uri_bytes: limits.uri_bytes,
            body_bytes: limits.body_bytes,
            // H-94: only where tunnels may be opened.
            extended_connect: limits.max_tunnels > 0,
        },
        max_streams: MAX_STREAMS,
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        buffer_bytes: limits.stream_buffer_bytes,
        head_timeout: Duration::from_millis(limits.head_ms),
        stall_timeout: Duration::from_millis(limits.progress_ms),
        stall_bytes_per_second: PROGRESS_BYTES_PER_SECOND,
    }
}

impl Front {
    // ── the connection ──

    /// The first bytes of a connection are HTTP/2's, or may become so: `None` = they are not.
    pub(crate) fn read_preface(&mut self, key: u64, bytes: &[u8]) -> Option<usize> {
        let length = bytes.len().min(PREFACE.len());
        if bytes[..length] != PREFACE[..length] {
            return None;
        }
        if length < PREFACE.len() {
            return Some(0);
        }
        let options = options(&self.limits);
        let connection = self.connections.get_mut(key)?;
        connection.phase = Phase::Streams;
        connection.is_used = true;
        connection.http2 = Some(Box::new(Http2 {
            h2: ServerConnection::new(options, Instant::now()),
            exchanges: HashMap::new(),
            is_listed: false,
            is_over: false,
            idle_since_ms: self.now_ms,
        }));
        let listener = connection.listener;
        if let Some(listener) = self.listener(listener) {
            listener.shared += 1;
        }
        if self.is_draining {
            self.drain_streams(key);
        }
        self.deadline_in(key, LOOK_MS);
        self.receive_streams(key, bytes);
        Some(bytes.len())
    }

    /// Bytes of the client.
    pub(crate) fn receive_streams(&mut self, key: u64, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(http2) = &mut connection.http2 else { return };
        http2.h2.receive(bytes, Instant::now());
        self.work_streams(key);
    }

    /// The client has ended its side.
    pub(crate) fn end_streams(&mut self, key: u64) {
        let Some(http2) = self.http2(key) else { return };
        if http2.is_over {
            return self.linger(key);
        }
        http2.h2.receive_end();
        self.work_streams(key);
    }

    fn http2(&mut self, key: u64) -> Option<&mut Http2> {
        self.connections.get_mut(key)?.http2.as_deref_mut()
    }

    /// The connection is looked at again before the turn ends.
    fn list_streams(&mut self, key: u64) {
        let Some(http2) = self.http2(key) else { return };
        if !std::mem::replace(&mut http2.is_listed, true) {
            self.push_again(key);
        }
    }

    /// Takes events, and writes what there is to write.
    pub(crate) fn work_streams(&mut self, key: u64) {
        loop {
            while let Some(http2) = self.http2(key) {
                http2.is_listed = false;
                let Some(event) = http2.h2.next_event() else { break };
                self.stream_event(key, event);
            }
            let Some(connection) = self.connections.get_mut(key) else { return };
            let Some(http2) = &mut connection.http2 else { return };
            let wire = &mut connection.wire;
            http2.h2.transmit(|bytes| {
                if wire.pending() >= MAX_PENDING {
                    return 0;
                }
                wire.send(&[bytes]);
                bytes.len()
            });
            if connection.wire.is_broken() {
                self.close_connection(key, End::ClientAbort);
                return;
            }
            if http2.is_over {
                return self.linger(key);
            }
            if !http2.h2.has_events() {
                return;
            }
        }
    }

    /// GOAWAY: what is under way is finished, then the connection closes (H-104).
    pub(crate) fn drain_streams(&mut self, key: u64) {
        let Some(http2) = self.http2(key) else { return };
        http2.h2.drain();
        self.list_streams(key);
    }

    /// Time for a look: timers of streams, and of a connection without any (H-80).
    pub(crate) fn look_at_streams(&mut self, key: u64) {
        let (now, idle_ms) = (self.now_ms, self.limits.idle_ms);
        let Some(http2) = self.http2(key) else { return };
        http2.h2.tick(Instant::now());
        if !http2.exchanges.is_empty() {
            http2.idle_since_ms = now;
        } else if idle_ms > 0 && now - http2.idle_since_ms >= idle_ms {
            http2.h2.shut_down(0);
        }
        self.deadline_in(key, LOOK_MS);
        let exchanges = self.exchanges_of(key);
        self.end_idle_tunnels(&exchanges);
        for exchange in exchanges {
            self.look_at_upload(exchange);
        }
        self.work_streams(key);
    }

    /// H-83: a request whose body is wanted and comes too slowly, before there is an answer.
    fn look_at_upload(&mut self, exchange: u64) {
        let (now, window_ms) = (self.now_ms, self.limits.progress_ms);
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        if state.is_complete || state.is_paused || state.answer != Answer::None || window_ms == 0 {
            return;
        }
        let elapsed_ms = now.saturating_sub(state.moved_ms);
        if elapsed_ms < window_ms {
            return;
        }
        let needed = PROGRESS_BYTES_PER_SECOND * elapsed_ms / 1000;
        let moved = state.received - state.measured;
        if moved >= needed.max(1) {
            state.moved_ms = now;
            state.measured = state.received;
            return;
        }
        state.rule = "H-83";
        self.drop_leg(exchange);
        self.answer_error(exchange, 408, "the request body came too slowly\n");
    }

    fn stream_event(&mut self, key: u64, event: ServerEvent) {
        let exchange = |front: &mut Front, stream: u32| {
            front.http2(key).and_then(|http2| http2.exchanges.get(&stream).copied())
        };
        match event {
            ServerEvent::Request(stream, head) => self.begin_stream(key, stream, *head),
            ServerEvent::Refused(stream, refusal) => self.refuse_stream(key, stream, *refusal),
            ServerEvent::Data(stream, bytes) => {
                if let Some(exchange) = exchange(self, stream) {
                    self.take_stream(exchange, &bytes);
                }
            }
            ServerEvent::End(stream, trailers) => {
                let Some(exchange) = exchange(self, stream) else { return };
                let Some(state) = self.exchanges.get_mut(exchange) else { return };
                if state.tunnel {
                    return self.tunnel_up_ended(exchange);
                }
                state.trailers_up = trailers;
                self.request_complete(exchange);
            }
            ServerEvent::Writable(stream) => {
                if let Some(exchange) = exchange(self, stream) {
                    self.unblock(exchange);
                }
            }
            ServerEvent::Done(stream) => {
                if let Some(exchange) = exchange(self, stream) {
                    self.end_exchange(exchange, End::Complete, None);
                }
            }
            ServerEvent::Reset(stream, _) => {
                if let Some(exchange) = exchange(self, stream) {
                    self.end_exchange(exchange, End::ClientAbort, None);
                }
            }
            ServerEvent::Closed(_) => {
                if let Some(http2) = self.http2(key) {
                    http2.is_over = true;
                }
            }
        }
    }

    // ── requests ──

    fn begin_stream(&mut self, key: u64, stream: u32, head: RequestHead) {
        let Some(connection) = self.connections.get(key) else { return };
        let listener = connection.listener;
        let mut exchange = Exchange::new(key, listener);
        exchange.stream = stream;
        exchange.moved_ms = self.now_ms;
        exchange.is_head = head.is_head;
        exchange.body_length = head.body_length;
        exchange.is_complete = head.body_length == 0;
        if head.is_web_socket {
            exchange.upgrade = true;
            exchange.body_length = 0;
            exchange.is_complete = true;
        }
        let body_length = exchange.body_length;
        exchange.expects_continue = head.expects_continue;
        exchange.accepts_trailers = head.accepts_trailers;
        exchange.trailer_rules = TrailerRules::of(&head.connection_lines);
        let inserted = self.exchanges.insert(exchange);
        let Some(http2) = self.http2(key) else { return };
        let Some(id) = inserted else {
            http2.h2.reset(stream, sallyport_http2::REFUSED_STREAM);
            return self.tell_overflow(key, head);
        };
        http2.exchanges.insert(stream, id);
        if head.is_web_socket {
            // What comes before the tunnel is open waits in the stream's window.
            http2.h2.pause(stream);
        }
        let request = Request {
            head: head.head,
            connection_lines: head.connection_lines,
            body_length,
            proxy_fields: head.proxy_fields,
            version: Version::Http2,
            listener,
            connection: ConnectionId(key),
            received_at_ms: self.clock_ms(),
        };
        self.push(Event::Request(ExchangeId(id), Box::new(request)));
    }

    /// H-103: too many requests are under way; a stream that is refused may be asked for again.
    fn tell_overflow(&mut self, key: u64, head: RequestHead) {
        let Some(connection) = self.connections.get(key) else { return };
        let (listener, peer) = (connection.listener, connection.peer);
        let request_line = request_line(&head.head).to_vec();
        let refused = Refused { listener, peer, status: 503, rule: "overflow", request_line };
        self.push(Event::Refused(Box::new(refused)));
        self.list_streams(key);
    }

    /// A request that breaks a rule: a malformed one has been reset (H-100), others are answered (H-101).
    fn refuse_stream(&mut self, key: u64, stream: u32, refusal: Refusal) {
        let date = self.date.now().to_vec();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (listener, peer) = (connection.listener, connection.peer);
        let Refusal { status, rule, text, is_malformed, request_line } = refusal;
        if let Some(http2) = connection.http2.as_mut().filter(|_| !is_malformed) {
            let body = format!("{text}\n");
            let mut lines =
                b"content-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n".to_vec();
            lines.extend_from_slice(extra_lines(status).as_bytes());
            lines.extend_from_slice(&date);
            let is_head = request_line.starts_with(b"HEAD ");
            http2.h2.respond(stream, status, &lines, Some(body.len() as u64), is_head);
            if !is_head {
                http2.h2.write(stream, body.as_bytes());
                http2.h2.end(stream, b"");
            }
        }
        let refused = Refused { listener, peer, status, rule, request_line };
        self.push(Event::Refused(Box::new(refused)));
    }

    fn take_stream(&mut self, exchange: u64, data: &[u8]) {
        let limit = self.limits.body_bytes;
        let Some(state) = self.exchanges.get(exchange) else { return };
        if state.tunnel {
            return self.tunnel_up(exchange, data);
        }
        if limit > 0 && state.received + data.len() as u64 > limit && state.rule.is_empty() {
            self.body_too_large(exchange);
            return;
        }
        self.take(exchange, data);
    }

    /// H-36: on crossing the limit.
    fn body_too_large(&mut self, exchange: u64) {
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        state.rule = "H-36";
        state.sink = Sink::Discard;
        if state.answer == Answer::None {
            self.drop_leg(exchange);
            self.answer_error(exchange, 413, "the request body is too large\n");
        } else {
            self.drop_leg(exchange);
            self.break_stream(exchange, End::Truncated, None);
        }
    }

    /// Nobody wants more of a request's body at present, or somebody does again.
    pub(crate) fn hold_stream(&mut self, exchange: u64, is_held: bool) {
        let now = self.now_ms;
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        let (key, stream) = (state.connection, state.stream);
        if std::mem::replace(&mut state.is_paused, is_held) && !is_held {
            state.moved_ms = now;
            state.measured = state.received;
        }
        let Some(http2) = self.http2(key) else { return };
        if is_held {
            http2.h2.pause(stream);
        } else {
            http2.h2.resume(stream);
            self.list_streams(key);
        }
    }

    // ── answers ──

    /// Interim heads, each with its empty line.
    pub(crate) fn inform_stream(&mut self, exchange: u64, text: &[u8]) {
        let Some(state) = self.exchanges.get(exchange) else { return };
        let (key, stream) = (state.connection, state.stream);
        let Some(http2) = self.http2(key) else { return };
        let mut rest = text;
        while let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") {
            let head = &rest[..end + 2];
            let lines = memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1);
            let digits = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
            if let Some(status) = digits.and_then(|digits| digits.parse().ok()) {
                http2.h2.inform(stream, status, &head[lines..]);
            }
            rest = &rest[end + 4..];
        }
        self.list_streams(key);
    }

    /// See `start_answer`; `text` is the head as it leaves, with its status line.
    pub(crate) fn start_stream(
        &mut self,
        exchange: u64,
        (text, status, has_date): (&[u8], u16, bool),
        body: BodyFacts,
        first: &[u8],
        is_last: bool,
    ) {
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        let (key, stream) = (state.connection, state.stream);
        let is_empty = state.is_head || status == 204 || status == 304;
        let has_trailers = !state.trailers_down.is_empty();
        let ends = is_empty || is_last && first.is_empty() && !has_trailers;
        let length = if is_empty {
            u64::try_from(body.announced).ok().filter(|_| status != 204)
        } else {
            u64::try_from(body.length).ok().filter(|_| !ends && !has_trailers)
        };
        state.status = status;
        state.answer = if ends { Answer::Ended } else { Answer::Body };
        let lines = memchr::memchr(b'\n', text).map_or(text.len(), |at| at + 1);
        let mut fields = std::mem::take(&mut self.lines);
        fields.clear();
        fields.extend_from_slice(&text[lines..]);
        if !has_date {
            fields.extend_from_slice(self.date.now());
        }
        if let Some(http2) = self.http2(key) {
            http2.h2.respond(stream, status, &fields, length, ends);
        }
        self.lines = fields;
        if ends {
            self.list_streams(key);
        } else {
            self.write_stream(exchange, first, is_last);
        }
    }

    /// A stream becomes a tunnel: where HTTP/1.1 says 101, the answer is 200 (RFC 8441 §4). `text` is the upstream's head as
    /// it may leave us.
    pub(crate) fn open_streamed_tunnel(&mut self, exchange: u64, text: &[u8], first: &[u8]) {
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        let (key, stream) = (state.connection, state.stream);
        state.status = 200;
        let mut fields = Vec::with_capacity(text.len() + 40);
        let mut has_date = false;
        for line in text.split_inclusive(|byte| *byte == b'\n').skip(1) {
            has_date |= line.starts_with(b"date:");
            if !line.starts_with(b"sec-websocket-accept:") {
                fields.extend_from_slice(line);
            }
        }
        if !has_date {
            fields.extend_from_slice(self.date.now());
        }
        let Some(http2) = self.http2(key) else { return };
        http2.h2.respond(stream, 200, &fields, None, false);
        http2.h2.become_tunnel(stream);
        self.write_stream(exchange, first, false);
        self.hold_stream(exchange, false);
    }

    /// See `send_body`.
    pub(crate) fn write_stream(&mut self, exchange: u64, data: &[u8], is_last: bool) {
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        let (key, stream) = (state.connection, state.stream);
        state.sent += data.len() as u64;
        let trailers = if is_last { std::mem::take(&mut state.trailers_down) } else { Vec::new() };
        let Some(http2) = self.connections.get_mut(key).and_then(|one| one.http2.as_mut()) else {
            return;
        };
        let goes_on = data.is_empty() || http2.h2.write(stream, data);
        if is_last {
            state.answer = Answer::Ended;
            http2.h2.end(stream, &trailers);
        } else if !goes_on && !state.is_blocked {
            state.is_blocked = true;
            if let Some(leg) = state.leg {
                self.pool.pause(leg);
            }
        }
        self.list_streams(key);
    }

    /// The answer breaks off, and the other streams go on (H-33, H-105).
    pub(crate) fn break_stream(
        &mut self,
        exchange: u64,
        end: End,
        failure: Option<sallyport_upstream::Failure>,
    ) {
        let Some(state) = self.exchanges.get(exchange) else { return };
        let (key, stream) = (state.connection, state.stream);
        // A tunnel that is not ended by its sides is cancelled (RFC 8441 §5).
        let is_broken = end == End::Truncated && !state.tunnel;
        let code = if is_broken { INTERNAL_ERROR } else { CANCEL };
        if let Some(http2) = self.http2(key) {
            http2.h2.reset(stream, code);
        }
        self.list_streams(key);
        self.end_exchange(exchange, end, failure);
    }

    /// All exchanges of a connection that has several.
    pub(crate) fn exchanges_of(&self, key: u64) -> Vec<u64> {
        let http2 = self.connections.get(key).and_then(|one| one.http2.as_ref());
        http2.map(|http2| http2.exchanges.values().copied().collect()).unwrap_or_default()
    }

    /// The exchange of a stream is over.
    pub(crate) fn forget_stream(&mut self, key: u64, stream: u32) {
        let now = self.now_ms;
        let Some(http2) = self.http2(key) else { return };
        http2.exchanges.remove(&stream);
        http2.idle_since_ms = now;
    }
}
