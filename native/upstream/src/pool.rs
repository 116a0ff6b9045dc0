//! The pool: targets, their connections, the requests on them, queue and deadlines.
//!
//! A request (a leg) has one connection; a connection has one request at a time. The most recently used idle connection
//! is taken first, after a look whether it is still quiet (unless it answered a moment ago): what has come on it
//! unasked, an end of file included, makes it unusable (H-34, T-31). Idle connections are watched for the same. Everything is bounded: connections and waiting
//! requests per target, request bytes per leg (`buffer_bytes` and the last piece), answer bytes (one read).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fd::{BorrowedFd, OwnedFd};
use sallyport_tls::ClientContext;

use crate::head::{are_fields, RequestHead};
use crate::http2::{Shared, SharedLeg};
use crate::passing::{may_follow, write_passed};
use crate::response::Response;
use crate::slab::{slot_of, Slab};
use crate::socket::{self, Flags, Peek, Poller};
use crate::transport::{Broken, Buffers, Received, Transport};

/// One read of an answer; no event has more data.
pub const READ_BYTES: usize = 64 * 1024;
/// Reads of one turn beyond the first of each connection; the rest waits for the next turn of the loop.
const MORE_READS: usize = 256;
/// For so long after its last answer a connection is taken without a look: events have told of whatever came, but for
/// the present turn of the loop, and a look cannot tell what comes a moment later either.
const FRESH: Duration = Duration::from_millis(10);
/// More than a peer has to say about its session while nobody asks it anything.
const MAX_IDLE_READS: usize = 4;
/// A request buffer above this is not kept for the next request.
const KEEP_BUFFER_BYTES: usize = 16 * 1024;
const KEEP_BUFFERS: usize = 64;

/// A request under way. [`LegId::slot`] is unique among those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LegId(pub u64);

impl LegId {
    /// Its place: small, and not used by another leg until this one's last event.
    pub fn slot(self) -> u32 {
        slot_of(self.0)
    }
}

/// A server, as connections are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetId(pub u64);

/// Why a leg failed (H-84).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// No connection came about.
    ConnectFailed = 0,
    /// Not in time.
    ConnectTimeout = 1,
    /// The connection ended before the answer did.
    Reset = 2,
    /// The answer is not HTTP/1.1 as it must be.
    BadResponse = 3,
    /// No final head in time.
    FirstByteTimeout = 4,
    /// The body stood still for too long.
    IdleTimeout = 5,
    /// Too many requests wait for a connection, or this one did for too long.
    Overflow = 6,
    /// The handshake failed: the peer is not who it should be, or does not speak TLS.
    TlsFailed = 7,
    /// The same, because the peer speaks a TLS that this library does not: another one may get along with it.
    TlsIncompatible = 8,
}

/// How a leg failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class.
    pub reason: Reason,
    /// For logs.
    pub detail: String,
    /// The upstream cannot have begun to process the request (H-70).
    pub not_processed: bool,
}

/// Facts of a final head; its text is [`Pool::head`].
pub use crate::response::FinalHead as HeadFacts;

/// What happened to a leg; several things of one read come together, in the order of the fields. After `ended` or
/// `failure` nothing more comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose event.
    pub leg: LegId,
    /// The leg got its connection; true = one that had carried a request before.
    pub connected: Option<bool>,
    /// Body may be written.
    pub writable: bool,
    /// Interim answers: [`Pool::interim`]. Only for legs that asked for them.
    pub interim: bool,
    /// The final head is complete.
    pub head: Option<HeadFacts>,
    /// [`Pool::head`] is ready to leave, as [`Pool::relay`] allowed; the whole answer is in this event.
    pub is_passed: bool,
    /// There is body data: [`Pool::data`].
    pub has_data: bool,
    /// The answer is complete.
    pub ended: bool,
    /// It had trailers: [`Pool::trailers`]. Only for legs that asked for them.
    pub has_trailers: bool,
    /// The leg is over.
    pub failure: Option<Failure>,
}

impl Event {
    pub(crate) fn new(leg: u64) -> Self {
        Event {
            leg: LegId(leg),
            connected: None,
            writable: false,
            interim: false,
            head: None,
            is_passed: false,
            has_data: false,
            ended: false,
            has_trailers: false,
            failure: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connected.is_none()
            && !self.writable
            && !self.interim
            && self.head.is_none()
            && !self.has_data
            && !self.ended
            && self.failure.is_none()
    }
}

/// Limits and timers of a target; a zero duration = off.
#[derive(Clone, Copy, Debug)]
pub struct TargetOptions {
    /// For a connection to come about.
    pub connect: Duration,
    /// For waiting in the queue.
    pub queue: Duration,
    /// For the final head, from the end of the request.
    pub first_byte: Duration,
    /// Longest pause inside an answer's body.
    pub idle: Duration,
    /// How long an unused connection is kept.
    pub keep_alive: Duration,
    /// At a time.
    pub max_connections: usize,
    /// Requests that wait for one.
    pub max_queued: usize,
}

/// Body data of an event, apart from the pool it came from.
pub struct Lent {
    bytes: Vec<u8>,
    data: (usize, usize),
    piece: Option<Bytes>,
}

impl Lent {
    /// The data.
    pub fn bytes(&self) -> &[u8] {
        if let Some(piece) = &self.piece {
            return piece;
        }
        &self.bytes[self.data.0..self.data.1]
    }
}

/// What a request is for, beside its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// To go on as a WebSocket: the head has the lines for it; after a 101 both directions carry bytes as they are.
    pub upgrade: bool,
    /// Interim answers come as events.
    pub interim: bool,
    /// A body that is at hand goes in chunks, as the client sent it, so that timing makes no difference (H-125).
    pub chunked: bool,
    /// A length of 0 is said, as the client said it (H-28).
    pub says_zero: bool,
    /// The answer's trailers are wanted, and the server is told so (`te: trailers`).
    pub trailers: bool,
}

/// What became of [`Pool::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// On its way over a connection that had carried a request before.
    Reused(LegId),
    /// `connected` comes as an event.
    Later(LegId),
    /// Too many wait.
    Overflow,
    /// No such target, or no address.
    NoTarget,
    /// The head is not one request's: nothing was sent (H-123).
    BadHead,
}

/// Counts of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Established or being established.
    pub open: usize,
    /// Of these without a request.
    pub idle: usize,
    /// Requests that wait for a connection to become free.
    pub waiting: usize,
}

pub(crate) struct Target {
    pub(crate) options: TargetOptions,
    /// How TLS is spoken, and the name that the server is verified by.
    pub(crate) tls: Option<(ClientContext, String)>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) idle: Vec<u64>,
    pub(crate) open: usize,
    pub(crate) waiting: VecDeque<u64>,
    /// Legs in `waiting` that are still alive.
    pub(crate) waiting_count: usize,
    pub(crate) is_retired: bool,
    /// Requests share connections.
    pub(crate) is_http2: bool,
    /// Connections that take more of them, the fullest first.
    pub(crate) shared: Vec<u64>,
    /// Connections being made for them.
    pub(crate) connecting: usize,
    /// Connections of HTTP/1.1 beside them, which are not in `open`.
    pub(crate) beside: usize,
    /// Whether the server takes WebSockets over HTTP/2, as the last connection has said.
    pub(crate) takes_connect: Option<bool>,
    /// How TLS is spoken for those that it does not take, when there was one.
    pub(crate) tls_beside: Option<ClientContext>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    /// Connected, but keys are not agreed yet.
    Shaking,
    Idle,
    Busy,
    /// See `http2`.
    Shared,
}

pub(crate) struct Connection {
    pub(crate) transport: Transport,
    /// When the first address was tried.
    pub(crate) begun: Instant,
    /// Its last read left nothing behind.
    pub(crate) is_drained: bool,
    pub(crate) target: u64,
    pub(crate) phase: Phase,
    pub(crate) leg: u64,
    pub(crate) response: Response,
    pub(crate) uses: u32,
    /// Index of the address being tried; further ones follow when it fails.
    pub(crate) address: usize,
    /// The peer has ended: read to the end of file.
    pub(crate) is_closing: bool,
    /// A change was seen while nobody wanted to read.
    pub(crate) is_unread: bool,
    /// Writing failed: the answer may still be there.
    pub(crate) is_write_broken: bool,
    pub(crate) expires: Option<Instant>,
    /// When its last answer was complete.
    pub(crate) idle_since: Instant,
    /// Requests are to share it.
    pub(crate) is_http2: bool,
    /// Several requests share it: then `leg` and `response` are not used.
    pub(crate) shared: Option<Box<Shared>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestBody {
    Complete,
    Length(u64),
    Chunked,
    /// After a 101.
    Tunnel,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    Queue,
    Connect,
    FirstByte,
    Idle,
}

pub(crate) struct Leg {
    pub(crate) target: u64,
    /// 0 = none yet.
    pub(crate) connection: u64,
    pub(crate) is_waiting: bool,
    pub(crate) is_head: bool,
    pub(crate) out: Vec<u8>,
    pub(crate) out_at: usize,
    pub(crate) body: RequestBody,
    pub(crate) streams: bool,
    pub(crate) purpose: Use,
    /// An answer that comes as a whole may leave with these lines.
    pub(crate) answer_lines: Option<Vec<u8>>,
    /// The tunnel's way up ends when `out` is empty.
    pub(crate) is_ending: bool,
    pub(crate) wants_writable: bool,
    pub(crate) is_paused: bool,
    pub(crate) head_seen: bool,
    pub(crate) deadline: Option<(Instant, Deadline)>,
    /// It shares its connection; then `out` is a body that is sent with the head.
    pub(crate) shared: Option<Box<SharedLeg>>,
    /// To a server of HTTP/2, over a connection of HTTP/1.1 all the same: see `websocket`.
    pub(crate) is_beside: bool,
}

impl Leg {
    pub(crate) fn new(
        target: u64,
        is_head: bool,
        out: Vec<u8>,
        body: RequestBody,
        purpose: Use,
    ) -> Self {
        Leg {
            target,
            connection: 0,
            is_waiting: false,
            is_head,
            out,
            out_at: 0,
            streams: body != RequestBody::Complete,
            purpose,
            answer_lines: None,
            is_ending: false,
            body,
            wants_writable: false,
            is_paused: false,
            head_seen: false,
            deadline: None,
            shared: None,
            is_beside: false,
        }
    }
}

/// See the module.
pub struct Pool {
    pub(crate) poller: Poller,
    pub(crate) targets: Slab<Target>,
    pub(crate) connections: Slab<Connection>,
    pub(crate) legs: Slab<Leg>,
    pub(crate) pending: VecDeque<Event>,
    pub(crate) again: VecDeque<u64>,
    /// Shared connections that may have something to tell.
    pub(crate) shared_ready: VecDeque<u64>,
    pub(crate) more_reads: usize,
    pub(crate) buffers: Buffers,
    pub(crate) head: Vec<u8>,
    pub(crate) interim: Vec<u8>,
    pub(crate) trailers: Vec<u8>,
    pub(crate) data: (usize, usize),
    /// Data of an event that has it from a shared connection.
    pub(crate) piece: Option<Bytes>,
    pub(crate) buffer_bytes: usize,
    pub(crate) spare: Vec<Vec<u8>>,
    pub(crate) now: Instant,
    pub(crate) reads: u64,
}

impl Pool {
    /// `buffer_bytes`: request bytes that may wait per leg before `write` says stop. Fails when the system has no
    /// descriptors left.
    pub fn new(buffer_bytes: usize) -> std::io::Result<Self> {
        Ok(Pool::with(Poller::new()?, buffer_bytes))
    }

    /// On an epoll instance that somebody else asks: events whose data is below 2^48 are handed in by `hand_in`.
    pub fn on(epoll: OwnedFd, buffer_bytes: usize) -> std::io::Result<Self> {
        Ok(Pool::with(Poller::on(epoll)?, buffer_bytes))
    }

    fn with(poller: Poller, buffer_bytes: usize) -> Self {
        Pool {
            poller,
            targets: Slab::new(),
            connections: Slab::new(),
            legs: Slab::new(),
            pending: VecDeque::new(),
            again: VecDeque::new(),
            shared_ready: VecDeque::new(),
            more_reads: 0,
            buffers: Buffers::new(),
            head: Vec::new(),
            interim: Vec::new(),
            trailers: Vec::new(),
            data: (0, 0),
            piece: None,
            buffer_bytes,
            spare: Vec::new(),
            now: Instant::now(),
            reads: 0,
        }
    }

    /// The epoll descriptor: readable when `next_event` has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.poller.fd()
    }

    /// Head text of the last event that had `head`.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Heads of the last event that had `interim`, each with its empty line.
    pub fn interim(&self) -> &[u8] {
        &self.interim
    }

    /// Body data of the last event that had `has_data`.
    pub fn data(&self) -> &[u8] {
        if let Some(piece) = &self.piece {
            return piece;
        }
        &self.buffers.bytes()[self.data.0..self.data.1]
    }

    /// The same, apart from the pool, which may be called meanwhile: give it back by `take_back` before the next event.
    pub fn lend(&mut self) -> Lent {
        let bytes = std::mem::take(self.buffers.memory());
        Lent { bytes, data: self.data, piece: self.piece.clone() }
    }

    /// Takes back what `lend` gave.
    pub fn take_back(&mut self, lent: Lent) {
        *self.buffers.memory() = lent.bytes;
    }

    /// Connections of all targets.
    pub fn connections(&self) -> Connections {
        let open = self.connections.len();
        let (mut idle, mut waiting) = (0, 0);
        for target in self.targets.keys().filter_map(|key| self.targets.get(key)) {
            idle += target.idle.len() + self.idle_shared(&target.shared);
            waiting += target.waiting_count;
        }
        Connections { open, idle, waiting }
    }

    /// Connections of all targets, established or being established.
    pub fn open_connections(&self) -> usize {
        self.connections.len()
    }

    /// Requests under way or waiting.
    pub fn legs(&self) -> usize {
        self.legs.len()
    }

    /// Bytes of requests that wait for their connections; what shares a connection is not counted.
    pub fn held_bytes(&self) -> usize {
        let legs = self.legs.keys().filter_map(|key| self.legs.get(key));
        legs.map(|leg| leg.out.len() - leg.out_at).sum()
    }

    /// When the pool last looked at the clock: at the beginning of a turn, and of every call.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Reads made so far; a connection nobody wants to hear of must not cost any.
    pub fn reads(&self) -> u64 {
        self.reads
    }

    // ── targets ──

    /// A new target; its addresses are tried in turn. `None` when there are too many.
    pub fn add_target(
        &mut self,
        options: TargetOptions,
        addresses: Vec<SocketAddr>,
    ) -> Option<TargetId> {
        let target = Target {
            options,
            tls: None,
            addresses,
            idle: Vec::new(),
            open: 0,
            waiting: VecDeque::new(),
            waiting_count: 0,
            is_retired: false,
            is_http2: false,
            shared: Vec::new(),
            connecting: 0,
            beside: 0,
            takes_connect: None,
            tls_beside: None,
        };
        self.targets.insert(target).map(TargetId)
    }

    /// Connections made from now on speak TLS, with a server that is verified by this name.
    pub fn set_tls(&mut self, target: TargetId, context: ClientContext, name: String) {
        if let Some(target) = self.targets.get_mut(target.0) {
            target.tls = Some((context, name));
        }
    }

    /// New limits and timers, for what begins from now on.
    pub fn set_options(&mut self, target: TargetId, options: TargetOptions) {
        if let Some(target) = self.targets.get_mut(target.0) {
            target.options = options;
        }
    }

    /// New addresses, for connections made from now on.
    pub fn set_addresses(&mut self, target: TargetId, addresses: Vec<SocketAddr>) {
        if let Some(target) = self.targets.get_mut(target.0) {
            target.addresses = addresses;
        }
    }

    /// Takes no new requests: idle connections close now, the others after their request.
    pub fn retire(&mut self, id: TargetId) {
        let Some(target) = self.targets.get_mut(id.0) else { return };
        target.is_retired = true;
        let shared = target.shared.clone();
        for key in std::mem::take(&mut target.idle) {
            self.drop_connection(key);
        }
        for key in shared {
            if self.idle_shared(&[key]) == 1 {
                self.end_shared_connection(key);
            }
        }
        self.forget_if_unused(id.0);
    }

    pub(crate) fn forget_if_unused(&mut self, key: u64) {
        let Some(target) = self.targets.get(key) else { return };
        if target.is_retired && target.open + target.beside == 0 && target.waiting_count == 0 {
            self.targets.remove(key);
        }
    }

    // ── requests ──

    /// Sends a request: `head` is the request line and `name: value` lines, each with CRLF; framing is added here.
    /// `body`: all of it, or `Err(length)` when it is written later (-1 = chunked).
    pub fn send(&mut self, target: TargetId, head: &[u8], body: Result<&[u8], i64>) -> Sent {
        self.send_for(target, RequestHead::whole(head), body, Use::default())
    }

    /// Like `send`, for more than an answer.
    pub fn send_for(
        &mut self,
        target: TargetId,
        head: RequestHead<'_>,
        body: Result<&[u8], i64>,
        purpose: Use,
    ) -> Sent {
        self.send_with(target, head, body, purpose, None)
    }

    /// Sends a request without a body. With `answer_lines`, an answer that comes in one piece is made ready to leave as it is, with
    /// these lines behind its own: see `Event::is_passed`. Any other answer comes as always.
    pub fn relay(
        &mut self,
        target: TargetId,
        head: RequestHead<'_>,
        answer_lines: Option<&[u8]>,
    ) -> Sent {
        if !answer_lines.is_none_or(are_fields) {
            return Sent::BadHead;
        }
        let answer_lines = answer_lines.filter(|lines| may_follow(lines));
        self.send_with(target, head, Err(0), Use::default(), answer_lines)
    }

    fn send_with(
        &mut self,
        target: TargetId,
        head: RequestHead<'_>,
        body: Result<&[u8], i64>,
        purpose: Use,
        answer_lines: Option<&[u8]>,
    ) -> Sent {
        let Some(state) = self.targets.get_mut(target.0) else { return Sent::NoTarget };
        if state.is_retired || state.addresses.is_empty() {
            return Sent::NoTarget;
        }
        if !head.is_valid() {
            return Sent::BadHead;
        }
        if self.legs.is_full() {
            return Sent::Overflow;
        }
        self.now = Instant::now();
        if state.is_http2 {
            return self.send_shared(target.0, head, body, purpose);
        }
        let mut out = self.spare.pop().unwrap_or_default();
        let request_body = write_request(&mut out, head, body, purpose);
        let is_head = head.start().starts_with(b"HEAD ");
        let mut leg = Leg::new(target.0, is_head, out, request_body, purpose);
        leg.answer_lines = answer_lines.map(<[u8]>::to_vec);
        if let Some(connection) = self.take_idle(target.0) {
            leg.connection = connection;
            let Some(key) = self.legs.insert(leg) else { return Sent::Overflow };
            self.begin(connection, key);
            return Sent::Reused(LegId(key));
        }
        let Some(state) = self.targets.get_mut(target.0) else { return Sent::NoTarget };
        let may_open = state.open < state.options.max_connections;
        if !may_open {
            if state.waiting_count >= state.options.max_queued {
                return Sent::Overflow;
            }
            if state.waiting.len() > 2 * state.waiting_count + 16 {
                state.waiting.retain(|key| self.legs.get(*key).is_some());
            }
        }
        leg.deadline = after(self.now, state.options.queue, Deadline::Queue);
        leg.is_waiting = !may_open;
        let Some(key) = self.legs.insert(leg) else { return Sent::Overflow };
        if may_open {
            self.open(target.0, key);
        } else {
            state.waiting.push_back(key);
            state.waiting_count += 1;
        }
        Sent::Later(LegId(key))
    }

    /// A piece of the request body. False: wait for `writable` before the next.
    pub fn write(&mut self, id: LegId, bytes: &[u8]) -> bool {
        let Some(leg) = self.legs.get_mut(id.0) else { return true };
        if bytes.is_empty() {
            return true;
        }
        self.now = Instant::now();
        let mut size = [0u8; 18];
        let (before, behind): (&[u8], &[u8]) = match &mut leg.body {
            RequestBody::Chunked => (chunk_size(&mut size, bytes.len()), b"\r\n"),
            RequestBody::Tunnel if !leg.is_ending => (b"", b""),
            RequestBody::Length(left) if *left >= bytes.len() as u64 => {
                *left -= bytes.len() as u64;
                (b"", b"")
            }
            _ => {
                self.fail_later(id.0, Reason::Reset, "more request body than was announced");
                return true;
            }
        };
        if leg.shared.is_some() {
            return self.write_shared(id.0, bytes);
        }
        let mut sent = 0;
        if leg.out_at == leg.out.len() {
            if let Some(connection) = self.connections.get_mut(leg.connection) {
                if connection.is_write_broken {
                    return true;
                }
                if connection.phase == Phase::Busy {
                    match connection.transport.send(&[before, bytes, behind]) {
                        Ok(length) => sent = length,
                        Err(_) => {
                            connection.is_write_broken = true;
                            self.poller.rearm(&connection.transport.socket, leg.connection);
                            return true;
                        }
                    }
                }
            }
            leg.out.clear();
            leg.out_at = 0;
        }
        for piece in [before, bytes, behind] {
            let skipped = sent.min(piece.len());
            leg.out.extend_from_slice(&piece[skipped..]);
            sent -= skipped;
        }
        let key = leg.connection;
        let is_offered = self.connections.get(key).is_some_and(|one| one.transport.is_secure());
        if is_offered && self.flush(key) {
            let mut event = Event::new(id.0);
            event.writable = true;
            self.push(event);
        }
        let Some(leg) = self.legs.get_mut(id.0) else { return true };
        let is_full = leg.out.len() - leg.out_at >= self.buffer_bytes;
        leg.wants_writable |= is_full;
        self.refresh_first_byte(id.0);
        !is_full
    }

    /// The request body is complete.
    pub fn end(&mut self, id: LegId) {
        self.end_with(id, b"");
    }

    /// The same with trailers as lines (H-26), which have a place in HTTP/2 and behind a chunked body, and nowhere else: behind
    /// a body with a length of HTTP/1.1 they are dropped.
    pub fn end_with(&mut self, id: LegId, trailers: &[u8]) {
        let Some(leg) = self.legs.get_mut(id.0) else { return };
        self.now = Instant::now();
        match leg.body {
            RequestBody::Complete => return,
            RequestBody::Tunnel if leg.shared.is_some() => {
                leg.is_ending = true;
                return self.end_shared(id.0, b"");
            }
            RequestBody::Tunnel => {
                leg.is_ending = true;
                let connection = leg.connection;
                self.flush(connection);
                self.end_tunnel(connection);
                return;
            }
            RequestBody::Length(0) => {}
            RequestBody::Chunked if leg.shared.is_some() => {}
            RequestBody::Chunked => {
                leg.out.extend_from_slice(b"0\r\n");
                leg.out.extend_from_slice(trailers);
                leg.out.extend_from_slice(b"\r\n");
            }
            RequestBody::Length(_) => {
                self.fail_later(id.0, Reason::Reset, "less request body than was announced");
                return;
            }
        }
        leg.body = RequestBody::Complete;
        if leg.shared.is_some() {
            self.end_shared(id.0, trailers);
            return;
        }
        let connection = leg.connection;
        self.flush(connection);
        self.refresh_first_byte(id.0);
    }

    /// The way up of a tunnel ends once everything is written.
    fn end_tunnel(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(leg) = self.legs.get(connection.leg) else { return };
        if leg.is_ending && leg.out_at == leg.out.len() {
            connection.transport.end_sending();
        }
    }

    /// No data until `resume`; what is read already still comes.
    pub fn pause(&mut self, id: LegId) {
        if let Some(leg) = self.legs.get_mut(id.0) {
            leg.is_paused = true;
            leg.deadline = None;
            if leg.shared.is_some() {
                self.pause_shared(id.0);
            }
        }
    }

    /// Goes on reading.
    pub fn resume(&mut self, id: LegId) {
        let Some(leg) = self.legs.get_mut(id.0) else { return };
        if !std::mem::replace(&mut leg.is_paused, false) {
            return;
        }
        let idle =
            self.targets.get(leg.target).map_or(Duration::ZERO, |target| target.options.idle);
        self.now = Instant::now();
        if leg.head_seen && leg.body != RequestBody::Tunnel {
            leg.deadline = after(self.now, idle, Deadline::Idle);
        }
        if leg.shared.is_some() {
            return self.resume_shared(id.0);
        }
        let Some(connection) = self.connections.get_mut(leg.connection) else { return };
        if std::mem::replace(&mut connection.is_unread, false) {
            self.poller.rearm(&connection.transport.socket, leg.connection);
        }
    }

    /// Gives up: no event follows; the connection closes if the request had one.
    pub fn abort(&mut self, id: LegId) {
        self.now = Instant::now();
        // Its failure may wait to be told.
        let told = |event: &Event| event.leg == id && event.failure.is_some();
        if let Some(at) = self.pending.iter().position(told) {
            self.pending.remove(at);
            self.legs.vacate(id.0);
        }
        self.end_leg(id.0);
    }

    /// Removes a leg, closes its connection, and lets the next take its turn.
    fn end_leg(&mut self, key: u64) {
        if let Some(target) = self.remove_leg(key) {
            self.legs.vacate(key);
            self.serve_waiting(target);
            self.forget_if_unused(target);
        }
    }

    /// Removes a leg and closes its connection; its place stays taken. Returns its target.
    fn remove_leg(&mut self, key: u64) -> Option<u64> {
        let leg = self.legs.take(key)?;
        let target = leg.target;
        self.keep_buffer(leg.out);
        let stream = leg.shared.as_ref().map_or(0, |shared| shared.stream);
        if stream != 0 {
            self.leave_shared(leg.connection, stream);
        } else if leg.connection != 0 {
            self.drop_connection(leg.connection);
        } else if leg.is_waiting {
            if let Some(target) = self.targets.get_mut(target) {
                target.waiting_count -= 1;
            }
        }
        Some(target)
    }

    /// Looks at every deadline and at idle connections; call it every 100 ms or so while there is anything.
    pub fn tick(&mut self) {
        self.now = Instant::now();
        let now = self.now;
        let late: Vec<(u64, Deadline, bool)> = self
            .legs
            .keys()
            .filter_map(|key| {
                let leg = self.legs.get(key)?;
                let (at, kind) = leg.deadline?;
                let is_connected = self
                    .connections
                    .get(leg.connection)
                    .is_some_and(|one| matches!(one.phase, Phase::Busy | Phase::Shared));
                (at <= now).then_some((key, kind, is_connected))
            })
            .collect();
        for (key, kind, is_connected) in late {
            if kind == Deadline::Connect && self.next_address(key) {
                continue;
            }
            let (reason, detail) = match kind {
                Deadline::Connect => (Reason::ConnectTimeout, "no connection in time"),
                Deadline::Queue => (Reason::Overflow, "no connection became free in time"),
                Deadline::FirstByte => (Reason::FirstByteTimeout, "no answer in time"),
                Deadline::Idle => (Reason::IdleTimeout, "no progress in time"),
            };
            self.fail(key, reason, detail.to_owned(), !is_connected);
        }
        let expired: Vec<u64> = self
            .connections
            .keys()
            .filter(|key| {
                self.connections.get(*key).is_some_and(|one| {
                    let is_idle = match one.phase {
                        Phase::Idle => true,
                        Phase::Shared => self.idle_shared(&[*key]) == 1,
                        _ => false,
                    };
                    is_idle && one.expires.is_some_and(|at| at <= now)
                })
            })
            .collect();
        for key in expired {
            if self.connections.get(key).is_some_and(|one| one.phase == Phase::Shared) {
                self.end_shared_connection(key);
            } else {
                self.drop_connection(key);
            }
        }
    }

    /// Closes everything; no event follows.
    pub fn close(&mut self) {
        for key in self.legs.keys().collect::<Vec<_>>() {
            self.legs.remove(key);
        }
        for key in self.connections.keys().collect::<Vec<_>>() {
            self.connections.remove(key);
        }
        for key in self.targets.keys().collect::<Vec<_>>() {
            self.targets.remove(key);
        }
        self.pending.clear();
        self.again.clear();
        self.shared_ready.clear();
    }

    // ── the loop ──

    /// Asks the system what is ready; then `next_event` until it gives nothing.
    pub fn turn(&mut self) {
        self.now = Instant::now();
        self.more_reads = MORE_READS;
        self.poller.fetch();
    }

    /// Instead of `turn`, when somebody else asks the system: what concerns the pool is handed in next.
    pub fn begin_turn(&mut self) {
        self.now = Instant::now();
        self.more_reads = MORE_READS;
        self.poller.begin();
    }

    /// One of the system's events with data below 2^48.
    pub fn hand_in(&mut self, event: rustix::event::epoll::Event) {
        self.poller.hand_in(event);
    }

    /// The next event. The pool may be called between any two.
    pub fn next_event(&mut self) -> Option<Event> {
        self.piece = None;
        loop {
            while let Some(event) = self.pending.pop_front() {
                // A failure's leg is gone, but not its place; every other event needs a leg that lives.
                if event.failure.is_some() {
                    self.legs.vacate(event.leg.0);
                    return Some(event);
                }
                if self.legs.get(event.leg.0).is_some() {
                    return Some(event);
                }
            }
            if let Some(event) = self.next_shared() {
                return Some(event);
            }
            if let Some((key, flags)) = self.poller.next() {
                if let Some(event) = self.ready(key, flags) {
                    return Some(event);
                }
                continue;
            }
            let Some(key) = self.again.pop_front() else {
                if self.shared_ready.is_empty() && self.pending.is_empty() {
                    return None;
                }
                continue;
            };
            let Some(connection) = self.connections.get(key) else { continue };
            if !matches!(connection.phase, Phase::Busy | Phase::Shared) {
                continue;
            }
            if self.more_reads == 0 {
                self.poller.rearm(&connection.transport.socket, key);
                continue;
            }
            self.more_reads -= 1;
            if let Some(event) = self.ready(key, Flags::IN) {
                return Some(event);
            }
        }
    }

    fn ready(&mut self, key: u64, flags: Flags) -> Option<Event> {
        let gone = flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR);
        let connection = self.connections.get_mut(key)?;
        match connection.phase {
            Phase::Connecting => self.connected(key),
            Phase::Shaking => {
                connection.is_closing |= gone;
                self.shake(key)
            }
            Phase::Idle => {
                let target = connection.target;
                // A change may be of bytes that were read together with earlier ones.
                if gone || !self.is_quiet(key) {
                    self.forget_idle(key);
                    self.drop_connection(key);
                    self.forget_if_unused(target);
                }
                None
            }
            Phase::Shared => {
                self.ready_shared(key, flags);
                None
            }
            Phase::Busy => {
                connection.is_closing |= gone;
                let leg_key = connection.leg;
                let mut event = Event::new(leg_key);
                if flags.contains(Flags::OUT) {
                    event.writable = self.flush(key);
                    self.end_tunnel(key);
                }
                if gone || flags.contains(Flags::IN) {
                    let is_paused = self.legs.get(leg_key).is_some_and(|leg| leg.is_paused);
                    if is_paused {
                        self.connections.get_mut(key)?.is_unread = true;
                    } else {
                        self.read(key, &mut event);
                    }
                }
                (!event.is_empty()).then_some(event)
            }
        }
    }

    /// Connecting has come to an end, good or bad.
    fn connected(&mut self, key: u64) -> Option<Event> {
        let connection = self.connections.get_mut(key)?;
        let leg_key = connection.leg;
        if let Err(error) = socket::connect_result(&connection.transport.socket) {
            if !self.next_address(leg_key) {
                self.fail(leg_key, Reason::ConnectFailed, error.to_string(), true);
            }
            return None;
        }
        let is_http2 = connection.is_http2;
        let target = self.targets.get(connection.target)?;
        if let Some((context, name)) = &target.tls {
            connection.phase = Phase::Shaking;
            let begun = connection.begun;
            let is_beside = target.is_http2 && !is_http2;
            let context = target.tls_beside.as_ref().filter(|_| is_beside).unwrap_or(context);
            if let Err(broken) = connection.transport.secure(context, name) {
                self.fail_shaking(leg_key, broken);
                return None;
            }
            // No further address is tried from here on: all of the time is this one's.
            let connect = target.options.connect;
            self.legs.get_mut(leg_key)?.deadline = after(begun, connect, Deadline::Connect);
            return None;
        }
        if is_http2 {
            // The server may have begun to speak, and that is not told twice.
            self.again.push_back(key);
            return self.established(key);
        }
        // A peer that speaks or ends before it was asked has not read anything.
        match socket::peek(&connection.transport.socket) {
            Peek::Quiet => self.established(key),
            Peek::Bytes => self.fail_unasked(leg_key, Reason::BadResponse),
            Peek::Closed => self.fail_unasked(leg_key, Reason::Reset),
        }
    }

    /// Goes on with a handshake.
    fn shake(&mut self, key: u64) -> Option<Event> {
        loop {
            let connection = self.connections.get_mut(key)?;
            let leg_key = connection.leg;
            if let Err(broken) = connection.transport.flush() {
                self.fail_shaking(leg_key, broken);
                return None;
            }
            let is_drained = match connection.transport.receive(&mut self.buffers) {
                Ok(Received::Nothing) => return None,
                Ok(Received::Bytes { is_drained }) => is_drained,
                Ok(Received::End | Received::Truncated) => {
                    let detail = "closed during the handshake".to_owned();
                    self.fail_shaking(leg_key, Broken { detail, is_incompatible: false });
                    return None;
                }
                Err(broken) => {
                    self.fail_shaking(leg_key, broken);
                    return None;
                }
            };
            let is_http2 = connection.is_http2;
            if self.buffers.length > 0 && !is_http2 {
                return self.fail_unasked(leg_key, Reason::BadResponse);
            }
            if connection.transport.is_ended() {
                return self.fail_unasked(leg_key, Reason::Reset);
            }
            let is_more = !is_drained || connection.is_closing;
            if !connection.transport.is_handshaking() {
                if is_more {
                    self.again.push_back(key);
                }
                let event = self.established(key);
                if is_http2 && self.buffers.length > 0 {
                    self.receive_shared(key);
                }
                return event;
            }
            if !is_more {
                return None;
            }
        }
    }

    fn fail_shaking(&mut self, leg_key: u64, broken: Broken) {
        let reason =
            if broken.is_incompatible { Reason::TlsIncompatible } else { Reason::TlsFailed };
        self.fail(leg_key, reason, broken.detail, true);
    }

    fn fail_unasked(&mut self, leg_key: u64, reason: Reason) -> Option<Event> {
        let what = if reason == Reason::Reset { "closed" } else { "bytes" };
        self.fail(leg_key, reason, format!("{what} before any request"), true);
        None
    }

    /// A connection is ready for the request that it was made for.
    fn established(&mut self, key: u64) -> Option<Event> {
        let connection = self.connections.get(key)?;
        let leg_key = connection.leg;
        if connection.is_http2 {
            return self.established_shared(key);
        }
        let mut event = Event::new(leg_key);
        event.connected = Some(false);
        event.writable = self.legs.get(leg_key).is_some_and(|leg| leg.streams);
        self.begin(key, leg_key);
        Some(event)
    }

    /// Puts a leg's request on an established connection.
    fn begin(&mut self, key: u64, leg_key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(leg) = self.legs.get_mut(leg_key) else { return };
        connection.phase = Phase::Busy;
        connection.leg = leg_key;
        connection.expires = None;
        connection.uses = connection.uses.saturating_add(1);
        connection.response.reset(leg.is_head);
        if leg.purpose.upgrade {
            connection.response.allow_upgrade();
        }
        if leg.purpose.interim {
            connection.response.keep_interim();
        }
        if leg.purpose.trailers {
            connection.response.keep_trailers();
        }
        leg.connection = key;
        self.flush(key);
        self.refresh_first_byte(leg_key);
    }

    /// Writes what waits. True when the writer is to be told that there is room again.
    fn flush(&mut self, key: u64) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if connection.phase != Phase::Busy {
            return false;
        }
        let Some(leg) = self.legs.get_mut(connection.leg) else { return false };
        if !connection.is_write_broken && connection.transport.flush().is_err() {
            connection.is_write_broken = true;
            self.poller.rearm(&connection.transport.socket, key);
        }
        if leg.out_at < leg.out.len() {
            while leg.out_at < leg.out.len() && !connection.is_write_broken {
                match connection.transport.send(&[&leg.out[leg.out_at..]]) {
                    Ok(0) => break,
                    Ok(length) => {
                        leg.out_at += length;
                        // A plain socket that takes a part takes no more; a session takes one piece after the other.
                        if !connection.transport.is_secure() {
                            break;
                        }
                    }
                    Err(_) => {
                        connection.is_write_broken = true;
                        self.poller.rearm(&connection.transport.socket, key);
                    }
                }
            }
            if connection.is_write_broken {
                leg.out_at = leg.out.len();
            }
            if leg.out_at < leg.out.len() {
                let leg_key = connection.leg;
                self.refresh_first_byte(leg_key);
                return false;
            }
            leg.out.clear();
            leg.out.shrink_to(KEEP_BUFFER_BYTES.max(self.buffer_bytes));
            leg.out_at = 0;
        }
        let leg_key = connection.leg;
        let tell = std::mem::take(&mut leg.wants_writable);
        self.refresh_first_byte(leg_key);
        tell
    }

    /// Until the head has come: time runs while it is the upstream's turn, that is while bytes of ours wait in vain
    /// or the request is complete. A client that sends slowly is measured elsewhere (H-83).
    fn refresh_first_byte(&mut self, leg_key: u64) {
        let Some(leg) = self.legs.get_mut(leg_key) else { return };
        if leg.head_seen || leg.is_paused || leg.connection == 0 {
            return;
        }
        if !self.connections.get(leg.connection).is_some_and(|one| one.phase == Phase::Busy) {
            return;
        }
        let is_theirs = leg.body == RequestBody::Complete || leg.out_at < leg.out.len();
        let first_byte =
            self.targets.get(leg.target).map_or(Duration::ZERO, |target| target.options.first_byte);
        leg.deadline =
            if is_theirs { after(self.now, first_byte, Deadline::FirstByte) } else { None };
    }

    /// Reads once, and fills in what it brought.
    fn read(&mut self, key: u64, event: &mut Event) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let leg_key = connection.leg;
        self.reads += 1;
        let received = connection.transport.receive(&mut self.buffers);
        connection.is_drained = matches!(received, Ok(Received::Bytes { is_drained: true }));
        let is_drained = match received {
            Ok(Received::Nothing) => return,
            Ok(Received::Bytes { is_drained }) => is_drained,
            Ok(Received::End) => {
                match connection.response.finish() {
                    Ok(()) => {
                        event.ended = true;
                        self.leg_done(key, leg_key);
                    }
                    Err(fault) => self.fail_now(event, leg_key, Reason::Reset, fault.to_string()),
                }
                return;
            }
            Ok(Received::Truncated) => {
                let detail = "the connection ended without close_notify".to_owned();
                self.fail_now(event, leg_key, Reason::Reset, detail);
                return;
            }
            Err(broken) => {
                self.fail_now(event, leg_key, Reason::Reset, broken.detail);
                return;
            }
        };
        // A short read has emptied the socket, unless the end of file is behind it.
        let is_more = !is_drained || connection.is_closing;
        if self.buffers.length == 0 {
            if is_more {
                self.again.push_back(key);
            }
            return;
        }
        let parsed = match connection.response.read(self.buffers.bytes_mut()) {
            Ok(parsed) => parsed,
            Err(fault) => {
                // A head that came in the same read is not told: nothing of a bad answer gets out if it can be helped.
                self.fail_now(event, leg_key, Reason::BadResponse, fault.to_string());
                return;
            }
        };
        event.interim = connection.response.take_interim(&mut self.interim);
        if let Some(head) = parsed.head {
            self.head.clear();
            let text = connection.response.head();
            if parsed.ended {
                let lines = self.legs.get(leg_key).and_then(|leg| leg.answer_lines.as_deref());
                event.is_passed = lines.is_some_and(|it| write_passed(&mut self.head, text, it));
            }
            if !event.is_passed {
                self.head.extend_from_slice(text);
            }
            event.head = parsed.head;
            if head.status == 101 {
                if let Some(leg) = self.legs.get_mut(leg_key) {
                    leg.body = RequestBody::Tunnel;
                }
            }
        }
        self.data = parsed.data;
        event.has_data = parsed.data.1 > parsed.data.0;
        event.ended = parsed.ended;
        if parsed.ended {
            event.has_trailers = !connection.response.trailers().is_empty();
            if event.has_trailers {
                self.trailers.clear();
                self.trailers.extend_from_slice(connection.response.trailers());
            }
            self.leg_done(key, leg_key);
            return;
        }
        if is_more {
            self.again.push_back(key);
        }
        let Some(leg) = self.legs.get_mut(leg_key) else { return };
        leg.head_seen |= parsed.head.is_some();
        if leg.head_seen {
            let idle =
                self.targets.get(leg.target).map_or(Duration::ZERO, |target| target.options.idle);
            leg.deadline = if leg.body == RequestBody::Tunnel {
                // Both ways count there; whoever asked for it measures.
                None
            } else {
                after(self.now, idle, Deadline::Idle)
            };
        }
    }

    /// The answer is complete: the connection serves the next request, idles, or closes.
    fn leg_done(&mut self, key: u64, leg_key: u64) {
        let Some(leg) = self.legs.remove(leg_key) else { return };
        let is_written = leg.body == RequestBody::Complete && leg.out_at == leg.out.len();
        let target_key = leg.target;
        self.keep_buffer(leg.out);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(target) = self.targets.get_mut(target_key) else { return };
        // H-82: given up a second before the upstream does.
        let hint = connection.response.keep_alive_timeout_s();
        let kept = match hint.map(|seconds| Duration::from_secs(seconds.saturating_sub(1))) {
            Some(hinted) if target.options.keep_alive.is_zero() => hinted,
            Some(hinted) => hinted.min(target.options.keep_alive),
            None => target.options.keep_alive,
        };
        let is_refused = hint.is_some() && kept.is_zero();
        let transport = &connection.transport;
        let is_broken = connection.is_closing
            || connection.is_write_broken
            || transport.is_ended()
            || transport.has_partial();
        let stays = is_written && transport.is_flushed() && connection.response.keeps_alive();
        // A connection beside those of HTTP/2 was made for one WebSocket.
        let is_wanted = !target.is_retired && !target.is_http2;
        let is_reusable = stays && !is_broken && !is_refused && is_wanted;
        if is_reusable {
            connection.phase = Phase::Idle;
            connection.leg = 0;
            connection.idle_since = self.now;
            connection.expires = if kept.is_zero() { None } else { Some(self.now + kept) };
            target.idle.push(key);
        } else {
            self.drop_connection(key);
        }
        self.serve_waiting(target_key);
        self.forget_if_unused(target_key);
    }

    /// Gives free connections, and room for new ones, to the requests that wait longest.
    fn serve_waiting(&mut self, target_key: u64) {
        if self.targets.get(target_key).is_some_and(|target| target.is_http2) {
            return self.serve_waiting_shared(target_key);
        }
        loop {
            let Some(target) = self.targets.get_mut(target_key) else { return };
            if target.waiting_count == 0 {
                target.waiting.clear();
                return;
            }
            if target.idle.is_empty() && target.open >= target.options.max_connections {
                return;
            }
            let Some(leg_key) = target.waiting.pop_front() else { return };
            if self.legs.get(leg_key).is_none() {
                continue;
            }
            target.waiting_count -= 1;
            if let Some(leg) = self.legs.get_mut(leg_key) {
                leg.is_waiting = false;
            }
            if let Some(connection) = self.take_idle(target_key) {
                if let Some(leg) = self.legs.get_mut(leg_key) {
                    leg.connection = connection;
                    let mut event = Event::new(leg_key);
                    event.connected = Some(true);
                    event.writable = leg.streams;
                    self.begin(connection, leg_key);
                    self.push(event);
                }
            } else {
                self.open(target_key, leg_key);
            }
        }
    }

    // ── connections ──

    /// The most recently used idle connection on which nothing has come.
    fn take_idle(&mut self, target_key: u64) -> Option<u64> {
        loop {
            let key = self.targets.get_mut(target_key)?.idle.pop()?;
            let Some(connection) = self.connections.get(key) else { continue };
            // Events told of whatever came until a moment ago. Nothing can tell what comes from now on.
            let is_fresh =
                connection.is_drained && self.now.duration_since(connection.idle_since) < FRESH;
            if is_fresh || self.is_quiet(key) {
                return Some(key);
            }
            self.drop_connection(key);
        }
    }

    /// Nothing has come on a connection that nobody asked for; what peers have to say about their session is read.
    fn is_quiet(&mut self, key: u64) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if !connection.transport.is_secure() {
            return socket::peek(&connection.transport.socket) == Peek::Quiet;
        }
        // Data of the present event may not have been looked at yet.
        let shelved = self.buffers.shelve();
        let mut is_quiet = false;
        for _ in 0..MAX_IDLE_READS {
            self.reads += 1;
            let received = connection.transport.receive(&mut self.buffers);
            let has_come = self.buffers.length > 0 || connection.transport.is_ended();
            match received {
                Ok(Received::Bytes { is_drained: false }) if !has_come => continue,
                Ok(Received::Nothing | Received::Bytes { is_drained: true }) => {
                    is_quiet = !has_come && !connection.transport.has_partial();
                }
                _ => {}
            }
            break;
        }
        self.buffers.unshelve(shelved);
        is_quiet
    }

    fn forget_idle(&mut self, key: u64) {
        let Some(connection) = self.connections.get(key) else { return };
        if let Some(target) = self.targets.get_mut(connection.target) {
            target.idle.retain(|one| *one != key);
        }
    }

    /// Opens a connection for a leg.
    pub(crate) fn open(&mut self, target_key: u64, leg_key: u64) {
        let is_beside = self.legs.get(leg_key).is_some_and(|leg| leg.is_beside);
        let Some(target) = self.targets.get_mut(target_key) else { return };
        let is_http2 = target.is_http2 && !is_beside;
        let mut failure = None;
        for (index, address) in target.addresses.iter().enumerate() {
            match socket::connect(address) {
                Ok(socket) => {
                    let connection = Connection {
                        transport: Transport::new(socket),
                        begun: self.now,
                        is_drained: true,
                        target: target_key,
                        phase: Phase::Connecting,
                        leg: leg_key,
                        response: Response::new(false),
                        uses: 0,
                        address: index,
                        is_closing: false,
                        is_unread: false,
                        is_write_broken: false,
                        expires: None,
                        idle_since: self.now,
                        is_http2,
                        shared: None,
                    };
                    target.open += usize::from(!is_beside);
                    target.beside += usize::from(is_beside);
                    target.connecting += usize::from(is_http2);
                    let Some(key) = self.connections.insert(connection) else {
                        target.open -= usize::from(!is_beside);
                        target.beside -= usize::from(is_beside);
                        target.connecting -= usize::from(is_http2);
                        failure = Some("too many connections".to_owned());
                        break;
                    };
                    let added = self
                        .connections
                        .get(key)
                        .map(|one| self.poller.add(&one.transport.socket, key));
                    let Some(leg) = self.legs.get_mut(leg_key) else { return };
                    leg.connection = key;
                    let parts = target.addresses.len().max(1) as u32;
                    leg.deadline =
                        after(self.now, target.options.connect / parts, Deadline::Connect);
                    if let Some(Err(error)) = added {
                        failure = Some(error.to_string());
                        break;
                    }
                    return;
                }
                Err(error) => failure = Some(error.to_string()),
            }
        }
        let detail = failure.unwrap_or_else(|| "no address".to_owned());
        self.fail_alone(leg_key, Reason::ConnectFailed, detail, true);
    }

    /// Tries the next address of a leg that is connecting. False when there is none.
    fn next_address(&mut self, leg_key: u64) -> bool {
        let Some(leg) = self.legs.get_mut(leg_key) else { return false };
        let Some(connection) = self.connections.get_mut(leg.connection) else { return false };
        let Some(target) = self.targets.get(leg.target) else { return false };
        let parts = target.addresses.len().max(1) as u32;
        while connection.address + 1 < target.addresses.len() {
            connection.address += 1;
            let Ok(socket) = socket::connect(&target.addresses[connection.address]) else {
                continue;
            };
            if self.poller.add(&socket, leg.connection).is_err() {
                continue;
            }
            connection.transport = Transport::new(socket);
            leg.deadline = after(self.now, target.options.connect / parts, Deadline::Connect);
            return true;
        }
        false
    }

    pub(crate) fn drop_connection(&mut self, key: u64) {
        // Closing the descriptor also takes it out of the epoll instance: nobody else holds it.
        let Some(connection) = self.connections.remove(key) else { return };
        if let Some(target) = self.targets.get_mut(connection.target) {
            let is_beside = target.is_http2 && !connection.is_http2;
            target.open -= usize::from(!is_beside);
            target.beside -= usize::from(is_beside);
            target.shared.retain(|one| *one != key);
            if connection.is_http2 && connection.shared.is_none() {
                target.connecting -= 1;
            }
        }
    }

    // ── failures ──

    /// Ends a leg within the event being made.
    fn fail_now(&mut self, event: &mut Event, leg_key: u64, reason: Reason, detail: String) {
        event.head = None;
        event.interim = false;
        event.has_data = false;
        let detail = self.detail_of(leg_key, detail);
        event.failure = Some(Failure { reason, detail, not_processed: false });
        self.end_leg(leg_key);
    }

    /// Ends a leg by an event of its own.
    pub(crate) fn fail(
        &mut self,
        leg_key: u64,
        reason: Reason,
        detail: String,
        not_processed: bool,
    ) {
        if let Some(target) = self.fail_alone(leg_key, reason, detail, not_processed) {
            self.serve_waiting(target);
            self.forget_if_unused(target);
        }
    }

    /// The same without a look at those that wait.
    fn fail_alone(
        &mut self,
        leg_key: u64,
        reason: Reason,
        detail: String,
        not_processed: bool,
    ) -> Option<u64> {
        let detail = self.detail_of(leg_key, detail);
        let target = self.remove_leg(leg_key)?;
        let mut event = Event::new(leg_key);
        event.failure = Some(Failure { reason, detail, not_processed });
        self.push(event);
        Some(target)
    }

    fn fail_later(&mut self, leg_key: u64, reason: Reason, detail: &str) {
        self.fail(leg_key, reason, detail.to_owned(), false);
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.pending.push_back(event);
        self.poller.wake();
    }

    pub(crate) fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEEP_BUFFER_BYTES && self.spare.len() < KEEP_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

pub(crate) fn after(now: Instant, time: Duration, kind: Deadline) -> Option<(Instant, Deadline)> {
    (!time.is_zero()).then(|| (now + time, kind))
}

/// Head, framing (H-28), and the body when it is at hand.
pub(crate) fn write_request(
    out: &mut Vec<u8>,
    head: RequestHead<'_>,
    body: Result<&[u8], i64>,
    purpose: Use,
) -> RequestBody {
    head.write(out);
    let (length, rest) = match body {
        Ok(_) if purpose.chunked => (-1, RequestBody::Complete),
        Ok(body) => (body.len() as i64, RequestBody::Complete),
        Err(0) => (0, RequestBody::Complete),
        Err(length) if length > 0 => (length, RequestBody::Length(length as u64)),
        Err(_) => (-1, RequestBody::Chunked),
    };
    if length == -1 {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if length > 0 || purpose.says_zero || has_content_by_method(head.start()) {
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(length.to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if purpose.trailers {
        // H-50.
        out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
    }
    out.extend_from_slice(b"\r\n");
    match body {
        Ok(body) if length != -1 => out.extend_from_slice(body),
        Ok(body) => {
            if !body.is_empty() {
                out.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
                out.extend_from_slice(body);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\n\r\n");
        }
        Err(_) => {}
    }
    rest
}

/// Methods whose requests say that they have no content, where they have none (RFC 9110 §8.6).
pub(crate) fn has_content_by_method(head: &[u8]) -> bool {
    [&b"POST "[..], b"PUT ", b"PATCH "].iter().any(|method| head.starts_with(method))
}

/// `SIZE CRLF` in hexadecimal digits.
fn chunk_size(space: &mut [u8; 18], length: usize) -> &[u8] {
    space[16..].copy_from_slice(b"\r\n");
    let mut at = 16;
    let mut left = length;
    while at > 0 && (left > 0 || at == 16) {
        at -= 1;
        space[at] = b"0123456789abcdef"[left & 15];
        left >>= 4;
    }
    &space[at..]
}
