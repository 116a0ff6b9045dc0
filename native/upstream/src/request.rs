//! Requests on their way: how they are framed, what is written to them, and how they end. Source: H-28, H-38, H-70, H-123, H-125.

use sallyport_http1::chunk_size;
use std::time::{Duration, Instant};

use crate::connection::Phase;
use crate::deadline::{after, Deadline};
use crate::event::{Event, Failure, LegId, Reason};
use crate::head::RequestHead;
use crate::http2::SharedLeg;
use crate::passing::may_follow;
use crate::pool::Pool;
use crate::target::TargetId;

/// A request buffer above this is not kept for the next request.
pub(crate) const KEEP_BUFFER_BYTES: usize = 16 * 1024;

const KEEP_BUFFERS: usize = 64;

/// What a request is for, beside its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// To go on as a WebSocket: the head has the lines for it; after a 101 both directions carry bytes as they are.
    pub upgrade: bool,
    /// With it: the head asks for another protocol, over HTTP/1.1 only; the answer's head then has `upgrade`.
    pub other_upgrade: bool,
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

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestBody {
    Complete,
    Length(u64),
    Chunked,
    /// After a 101.
    Tunnel,
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

impl Pool {
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
        if !answer_lines.is_none_or(|lines| self.answer_lines.are_fields(lines)) {
            return Sent::BadHead;
        }
        let answer_lines = answer_lines.filter(|lines| may_follow(lines));
        self.send_with(target, head, Err(0), Use::default(), answer_lines)
    }

    pub(crate) fn send_with(
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
        if !head.is_valid(&mut self.added_lines) {
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
    pub(crate) fn end_tunnel(&mut self, key: u64) {
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
    pub(crate) fn end_leg(&mut self, key: u64) {
        if let Some(target) = self.remove_leg(key) {
            self.legs.vacate(key);
            self.serve_waiting(target);
            self.forget_if_unused(target);
        }
    }

    /// Removes a leg and closes its connection; its place stays taken. Returns its target.
    pub(crate) fn remove_leg(&mut self, key: u64) -> Option<u64> {
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

    /// Ends a leg within the event being made.
    pub(crate) fn fail_now(
        &mut self,
        event: &mut Event,
        leg_key: u64,
        reason: Reason,
        detail: String,
    ) {
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
    pub(crate) fn fail_alone(
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

    pub(crate) fn fail_later(&mut self, leg_key: u64, reason: Reason, detail: &str) {
        self.fail(leg_key, reason, detail.to_owned(), false);
    }

    pub(crate) fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEEP_BUFFER_BYTES && self.spare.len() < KEEP_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
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
