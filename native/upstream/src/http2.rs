//! Targets that speak HTTP/2: several requests share a connection, and one that fails leaves the others alone.
//!
//! Prior knowledge on plain TCP; with TLS the server must choose `h2` by ALPN. Connections are filled one after the other;
//! while the first is being made, requests wait for it.
//!
//! Source: RFC 9113; H-70, H-103 … H-105.

use std::collections::HashMap;

use sallyport_http2::{ClientConnection, ClientEvent, ClientOptions, StreamFailure};

use crate::connection::Phase;
use crate::deadline::{after, Deadline};
use crate::event::{Event, Failure, HeadFacts, LegId, Reason};
use crate::head::RequestHead;
use crate::pool::Pool;
use crate::request::{has_content_by_method, Leg, RequestBody, Sent, Use};
use crate::socket::Flags;
use crate::target::TargetId;
use crate::transport::Received;
use crate::websocket;

/// Requests at a time on one connection, where the server takes so many.
const MAX_STREAMS: usize = 100;
/// Body bytes of an answer that may wait for whoever paused it (H-38).
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same of all answers of a connection: those that nobody takes must not stop the others (H-105).
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// What a connection is when requests share it.
pub(crate) struct Shared {
    pub(crate) client: ClientConnection,
    /// Legs by stream.
    legs: HashMap<u32, u64>,
    /// Told, but not handed on yet.
    next: Option<ClientEvent>,
    is_listed: bool,
    /// Legs that wait until the server has said what it takes; some may be gone.
    pub(crate) unsettled: Vec<u64>,
}

/// A leg to a target that speaks HTTP/2.
pub(crate) struct SharedLeg {
    /// 0 = not sent yet.
    pub(crate) stream: u32,
    pub(crate) head: Vec<u8>,
    /// To be announced.
    length: Option<u64>,
    /// Of a WebSocket: what the server would answer to the key that stays here.
    pub(crate) accept: String,
}

impl Pool {
    /// Connections made from now on speak HTTP/2. To be called before the first request.
    pub fn set_http2(&mut self, target: TargetId) {
        if let Some(target) = self.targets.get_mut(target.0) {
            target.is_http2 = true;
        }
    }

    /// Trailers of the last event that had `has_trailers`, as lines.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Requests whose connection is shared; `send` comes here.
    pub(crate) fn send_shared(
        &mut self,
        target_key: u64,
        head: RequestHead<'_>,
        body: Result<&[u8], i64>,
        purpose: Use,
    ) -> Sent {
        if purpose.other_upgrade || purpose.upgrade && self.is_beside(target_key) {
            return self.send_beside(target_key, head, purpose);
        }
        let (length, rest) = match body {
            Ok(body) => (body.len() as i64, RequestBody::Complete),
            Err(0) => (0, RequestBody::Complete),
            Err(length) if length > 0 => (length, RequestBody::Length(length as u64)),
            Err(_) => (-1, RequestBody::Chunked),
        };
        let says_zero = purpose.says_zero || has_content_by_method(head.start());
        let is_told = !purpose.chunked && (length > 0 || length == 0 && says_zero);
        let given = head;
        let mut head = Vec::new();
        given.write(&mut head);
        if purpose.trailers {
            head.extend_from_slice(b"te: trailers\r\n");
        }
        let mut out = self.spare.pop().unwrap_or_default();
        out.extend_from_slice(body.unwrap_or(b""));
        let mut leg = Leg::new(target_key, head.starts_with(b"HEAD "), out, rest, purpose);
        leg.shared = Some(Box::new(SharedLeg {
            stream: 0,
            head,
            length: is_told.then_some(length as u64),
            accept: String::new(),
        }));
        let room = self.shared_with_room(target_key);
        let Some(target) = self.targets.get_mut(target_key) else { return Sent::NoTarget };
        if let Some(connection) = room {
            let Some(key) = self.legs.insert(leg) else { return Sent::Overflow };
            return if self.place(connection, key) {
                Sent::Reused(LegId(key))
            } else {
                Sent::Later(LegId(key))
            };
        }
        let may_open = target.open < target.options.max_connections
            && target.waiting_count >= target.connecting * MAX_STREAMS;
        if !may_open {
            let most = target.options.max_queued + target.connecting * MAX_STREAMS;
            if target.waiting_count >= most {
                return Sent::Overflow;
            }
            if target.waiting.len() > 2 * target.waiting_count + 16 {
                target.waiting.retain(|key| self.legs.get(*key).is_some());
            }
        }
        leg.deadline = after(self.now, target.options.queue, Deadline::Queue);
        leg.is_waiting = !may_open;
        let Some(key) = self.legs.insert(leg) else { return Sent::Overflow };
        if may_open {
            self.open(target_key, key);
        } else {
            target.waiting.push_back(key);
            target.waiting_count += 1;
        }
        Sent::Later(LegId(key))
    }

    /// The fullest connection that takes one more.
    fn shared_with_room(&self, target_key: u64) -> Option<u64> {
        let target = self.targets.get(target_key)?;
        let client = |key: u64| Some(&self.connections.get(key)?.shared.as_ref()?.client);
        target.shared.iter().copied().find(|key| client(*key).is_some_and(|one| one.has_room()))
    }

    /// A connection is there: its own request goes first, then those that wait.
    pub(crate) fn established_shared(&mut self, key: u64) -> Option<Event> {
        let connection = self.connections.get_mut(key)?;
        let (leg_key, target_key) = (connection.leg, connection.target);
        let is_secure = connection.transport.is_secure();
        if is_secure && !connection.transport.has_agreed_on(b"h2") {
            let detail = "the server does not speak HTTP/2".to_owned();
            self.fail(leg_key, Reason::TlsFailed, detail, true);
            return None;
        }
        let client = ClientConnection::new(ClientOptions {
            max_streams: MAX_STREAMS,
            stream_window: STREAM_WINDOW,
            connection_window: CONNECTION_WINDOW,
            buffer_bytes: self.buffer_bytes,
            is_secure,
        });
        connection.phase = Phase::Shared;
        connection.leg = 0;
        connection.shared = Some(Box::new(Shared {
            client,
            legs: HashMap::new(),
            next: None,
            is_listed: false,
            unsettled: Vec::new(),
        }));
        let target = self.targets.get_mut(target_key)?;
        target.connecting -= 1;
        target.shared.push(key);
        let mut event = Event::new(leg_key);
        event.connected = Some(false);
        event.writable = self.legs.get(leg_key).is_some_and(|leg| leg.streams);
        let is_placed = self.place(key, leg_key);
        self.serve_waiting_shared(target_key);
        is_placed.then_some(event)
    }

    /// Puts a leg's request on a connection. False: it has failed, or waits, or goes elsewhere.
    pub(crate) fn place(&mut self, key: u64, leg_key: u64) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        let Some(shared) = &mut connection.shared else { return false };
        let Some(leg) = self.legs.get_mut(leg_key) else { return false };
        let is_upgrade = leg.purpose.upgrade;
        if is_upgrade && shared.client.takes_connect() != Some(true) {
            self.place_elsewhere(key, leg_key);
            return false;
        }
        let Some(mine) = &mut leg.shared else { return false };
        let body = std::mem::take(&mut leg.out);
        let is_complete = leg.body == RequestBody::Complete && !is_upgrade;
        let sent = if is_upgrade {
            mine.accept = websocket::accept_in(&mine.head);
            shared.client.send_connect(&mine.head, b"websocket")
        } else {
            shared.client.send(&mine.head, mine.length, is_complete && body.is_empty())
        };
        let Some(stream) = sent else {
            self.fail(leg_key, Reason::ConnectFailed, "no room".to_owned(), true);
            return false;
        };
        if !body.is_empty() {
            shared.client.write(stream, &body);
            if is_complete {
                shared.client.end(stream, b"");
            }
        }
        mine.stream = stream;
        mine.head = Vec::new();
        leg.connection = key;
        leg.deadline = None;
        if leg.is_paused {
            shared.client.pause(stream);
        }
        shared.legs.insert(stream, leg_key);
        connection.expires = None;
        connection.uses = connection.uses.saturating_add(1);
        self.keep_buffer(body);
        self.refresh_shared(leg_key);
        self.flush_shared(key);
        true
    }

    /// See `serve_waiting`.
    pub(crate) fn serve_waiting_shared(&mut self, target_key: u64) {
        loop {
            let room = self.shared_with_room(target_key);
            let Some(target) = self.targets.get_mut(target_key) else { return };
            if target.waiting_count == 0 {
                target.waiting.clear();
                return;
            }
            let may_open = target.open < target.options.max_connections
                && target.waiting_count > target.connecting * MAX_STREAMS;
            if room.is_none() && !may_open {
                return;
            }
            let Some(leg_key) = target.waiting.pop_front() else { return };
            let Some(leg) = self.legs.get_mut(leg_key) else { continue };
            target.waiting_count -= 1;
            leg.is_waiting = false;
            let writable = leg.streams;
            match room {
                Some(key) => {
                    if self.place(key, leg_key) {
                        let mut event = Event::new(leg_key);
                        event.connected = Some(true);
                        event.writable = writable;
                        self.push(event);
                    }
                }
                None => self.open(target_key, leg_key),
            }
        }
    }

    /// `None`: the leg is not one of these, or has no stream yet.
    fn client_of(&mut self, leg_key: u64) -> Option<(u64, u32, &mut ClientConnection)> {
        let leg = self.legs.get(leg_key)?;
        let stream = leg.shared.as_ref()?.stream;
        let key = leg.connection;
        let shared = self.connections.get_mut(key)?.shared.as_mut()?;
        (stream != 0).then_some((key, stream, &mut shared.client))
    }

    pub(crate) fn write_shared(&mut self, leg_key: u64, bytes: &[u8]) -> bool {
        let Some((key, stream, client)) = self.client_of(leg_key) else {
            // Nothing should be written before there is a connection; it waits with the head.
            let Some(leg) = self.legs.get_mut(leg_key) else { return true };
            leg.out.extend_from_slice(bytes);
            return leg.out.len() < self.buffer_bytes;
        };
        let goes_on = client.write(stream, bytes);
        self.flush_shared(key);
        self.refresh_shared(leg_key);
        goes_on
    }

    pub(crate) fn end_shared(&mut self, leg_key: u64, trailers: &[u8]) {
        let Some((key, stream, client)) = self.client_of(leg_key) else { return };
        client.end(stream, trailers);
        self.flush_shared(key);
        self.refresh_shared(leg_key);
    }

    pub(crate) fn pause_shared(&mut self, leg_key: u64) {
        if let Some((_, stream, client)) = self.client_of(leg_key) {
            client.pause(stream);
        }
    }

    pub(crate) fn resume_shared(&mut self, leg_key: u64) {
        if let Some((key, stream, client)) = self.client_of(leg_key) {
            client.resume(stream);
            self.list_shared(key);
        }
    }

    /// A leg has gone before its end: its stream is reset, its connection stays.
    pub(crate) fn leave_shared(&mut self, key: u64, stream: u32) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(shared) = &mut connection.shared else { return };
        shared.legs.remove(&stream);
        shared.client.reset(stream);
        self.flush_shared(key);
        self.rest_shared(key);
    }

    /// Time runs while it is the upstream's turn; see `refresh_first_byte`.
    fn refresh_shared(&mut self, leg_key: u64) {
        let now = self.now;
        let Some((_, stream, client)) = self.client_of(leg_key) else { return };
        let waits = client.is_waiting(stream);
        let Some(leg) = self.legs.get_mut(leg_key) else { return };
        if leg.head_seen || leg.is_paused {
            return;
        }
        let is_theirs = leg.body == RequestBody::Complete || waits;
        let first_byte = self
            .targets
            .get(leg.target)
            .map(|target| target.options.first_byte)
            .unwrap_or_default();
        leg.deadline = if is_theirs { after(now, first_byte, Deadline::FirstByte) } else { None };
    }

    /// Writes what waits.
    pub(crate) fn flush_shared(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(shared) = &mut connection.shared else { return };
        let transport = &mut connection.transport;
        let mut is_broken = connection.is_write_broken || transport.flush().is_err();
        shared.client.transmit(|bytes| {
            let mut sent = 0;
            while !is_broken && sent < bytes.len() {
                match transport.send(&[&bytes[sent..]]) {
                    Ok(0) => break,
                    Ok(length) => sent += length,
                    Err(_) => is_broken = true,
                }
            }
            // What cannot be sent any more is nobody's: the end of the connection is about to be read.
            if is_broken {
                bytes.len()
            } else {
                sent
            }
        });
        if is_broken && !std::mem::replace(&mut connection.is_write_broken, true) {
            self.poller.rearm(&connection.transport.socket, key);
        }
        if shared.client.has_events() || shared.client.is_closed() {
            self.list_shared(key);
        }
    }

    fn list_shared(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(shared) = &mut connection.shared else { return };
        if !std::mem::replace(&mut shared.is_listed, true) {
            self.shared_ready.push_back(key);
            self.poller.wake();
        }
    }

    /// The system has something to say about a shared connection.
    pub(crate) fn ready_shared(&mut self, key: u64, flags: Flags) {
        let gone = flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR);
        if flags.contains(Flags::OUT) {
            self.flush_shared(key);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(shared) = &mut connection.shared else { return };
        connection.is_closing |= gone;
        if !gone && !flags.contains(Flags::IN) {
            return;
        }
        if !shared.client.wants_input() {
            connection.is_unread = true;
            return self.list_shared(key);
        }
        self.reads += 1;
        match connection.transport.receive(&mut self.buffers) {
            Ok(Received::Nothing) => {}
            Ok(Received::Bytes { is_drained }) => {
                shared.client.receive(self.buffers.bytes(), self.now);
                if !is_drained || connection.is_closing {
                    self.again.push_back(key);
                }
            }
            Ok(Received::End | Received::Truncated) | Err(_) => shared.client.receive_end(),
        }
        self.list_shared(key);
    }

    /// What came with the end of the handshake.
    pub(crate) fn receive_shared(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(shared) = &mut connection.shared else { return };
        shared.client.receive(self.buffers.bytes(), self.now);
        self.list_shared(key);
    }

    /// The next event of shared connections.
    pub(crate) fn next_shared(&mut self) -> Option<Event> {
        while let Some(key) = self.shared_ready.front().copied() {
            if let Some(event) = self.shared_event(key) {
                return Some(event);
            }
            self.shared_ready.pop_front();
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let Some(shared) = &mut connection.shared else { continue };
            shared.is_listed = false;
            if std::mem::replace(&mut connection.is_unread, false) {
                self.poller.rearm(&connection.transport.socket, key);
            }
            self.flush_shared(key);
            self.rest_shared(key);
        }
        None
    }

    fn shared_event(&mut self, key: u64) -> Option<Event> {
        loop {
            let shared = self.connections.get_mut(key)?.shared.as_mut()?;
            let event = match shared.next.take() {
                Some(event) => event,
                None => shared.client.next_event()?,
            };
            let stream = match &event {
                ClientEvent::Interim(stream, ..)
                | ClientEvent::Head(stream, _)
                | ClientEvent::Data(stream, _)
                | ClientEvent::End(stream, _)
                | ClientEvent::Writable(stream)
                | ClientEvent::Failed(stream, _) => *stream,
                ClientEvent::Settled => {
                    self.settle(key);
                    continue;
                }
                ClientEvent::Leaving => {
                    self.leave_target(key);
                    continue;
                }
                ClientEvent::Closed => {
                    self.leave_target(key);
                    self.settle(key);
                    let target = self.connections.get(key)?.target;
                    self.drop_connection(key);
                    self.serve_waiting_shared(target);
                    self.forget_if_unused(target);
                    return None;
                }
            };
            let Some(leg_key) = shared.legs.get(&stream).copied() else { continue };
            let mut told = Event::new(leg_key);
            self.take_shared(key, stream, event, &mut told);
            // An answer that is complete is one event.
            while told.failure.is_none() && !told.ended {
                let shared = self.connections.get_mut(key)?.shared.as_mut()?;
                let next = match shared.next.take() {
                    Some(event) => Some(event),
                    None => shared.client.next_event(),
                };
                let follows = match &next {
                    Some(ClientEvent::Data(other, _)) => *other == stream && !told.has_data,
                    Some(ClientEvent::End(other, _)) => *other == stream,
                    _ => false,
                };
                match next {
                    Some(event) if follows => self.take_shared(key, stream, event, &mut told),
                    other => {
                        shared.next = other;
                        break;
                    }
                }
            }
            if !told.is_empty() {
                return Some(told);
            }
        }
    }

    /// Puts what happened to a stream into an event of its leg.
    fn take_shared(&mut self, key: u64, stream: u32, event: ClientEvent, told: &mut Event) {
        let leg_key = told.leg.0;
        let Some(leg) = self.legs.get_mut(leg_key) else { return };
        match event {
            ClientEvent::Interim(_, status, head) => {
                if leg.purpose.interim && status != 100 {
                    self.interim.clear();
                    self.interim.extend_from_slice(&head);
                    self.interim.extend_from_slice(b"\r\n");
                    told.interim = true;
                }
            }
            ClientEvent::Head(_, head) => {
                leg.head_seen = true;
                if leg.purpose.upgrade && head.status < 300 {
                    self.opened_shared(leg_key, &head.head, told);
                    return;
                }
                told.head = Some(HeadFacts {
                    status: head.status,
                    body_length: head.body_length,
                    content_length: head.content_length,
                });
                self.head = head.head;
                self.refresh_idle(leg_key);
            }
            ClientEvent::Data(_, bytes) => {
                told.has_data = true;
                self.piece = Some(bytes);
                self.refresh_idle(leg_key);
            }
            ClientEvent::End(_, trailers) => {
                told.ended = true;
                told.has_trailers = !trailers.is_empty();
                self.trailers = trailers;
                self.over_shared(key, stream, leg_key);
            }
            ClientEvent::Writable(_) => {
                told.writable = leg.streams;
                self.refresh_shared(leg_key);
            }
            ClientEvent::Failed(_, failure) => {
                told.failure = Some(explain(failure));
                self.over_shared(key, stream, leg_key);
            }
            ClientEvent::Settled | ClientEvent::Leaving | ClientEvent::Closed => {}
        }
    }

    fn refresh_idle(&mut self, leg_key: u64) {
        let Some(leg) = self.legs.get_mut(leg_key) else { return };
        // Whoever has a tunnel measures both ways.
        if leg.is_paused || leg.body == RequestBody::Tunnel {
            return;
        }
        let idle = self.targets.get(leg.target).map(|target| target.options.idle);
        leg.deadline = after(self.now, idle.unwrap_or_default(), Deadline::Idle);
    }

    fn over_shared(&mut self, key: u64, stream: u32, leg_key: u64) {
        let Some(leg) = self.legs.remove(leg_key) else { return };
        let target = leg.target;
        self.keep_buffer(leg.out);
        if let Some(shared) = self.connections.get_mut(key).and_then(|one| one.shared.as_mut()) {
            shared.legs.remove(&stream);
        }
        self.rest_shared(key);
        self.serve_waiting_shared(target);
    }

    /// A connection without requests idles, or closes when nobody is to use it again.
    fn rest_shared(&mut self, key: u64) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(shared) = &mut connection.shared else { return };
        let target_key = connection.target;
        let Some(target) = self.targets.get(target_key) else { return };
        shared.unsettled.retain(|leg| self.legs.get(*leg).is_some());
        let has_legs = !shared.legs.is_empty() || !shared.unsettled.is_empty();
        if has_legs || shared.next.is_some() || shared.client.has_events() {
            return;
        }
        if target.is_retired || shared.client.is_leaving() || !target.shared.contains(&key) {
            self.end_shared_connection(key);
            self.serve_waiting_shared(target_key);
            self.forget_if_unused(target_key);
        } else if connection.expires.is_none() && !target.options.keep_alive.is_zero() {
            connection.expires = Some(now + target.options.keep_alive);
        }
    }

    /// Says that we go, if there is room to say so, and closes.
    pub(crate) fn end_shared_connection(&mut self, key: u64) {
        let Some(shared) = self.connections.get_mut(key).and_then(|one| one.shared.as_mut()) else {
            return;
        };
        shared.client.shut_down();
        shared.is_listed = true;
        self.flush_shared(key);
        self.leave_target(key);
        self.drop_connection(key);
    }

    /// Takes no more requests.
    fn leave_target(&mut self, key: u64) {
        let Some(connection) = self.connections.get(key) else { return };
        if let Some(target) = self.targets.get_mut(connection.target) {
            target.shared.retain(|one| *one != key);
        }
    }

    /// Shared connections without a request.
    pub(crate) fn idle_shared(&self, target: &[u64]) -> usize {
        let is_idle = |key: &&u64| {
            let shared = self.connections.get(**key).and_then(|one| one.shared.as_ref());
            shared.is_some_and(|shared| shared.legs.is_empty() && shared.unsettled.is_empty())
        };
        target.iter().filter(is_idle).count()
    }
}

fn explain(failure: StreamFailure) -> Failure {
    let (reason, detail, not_processed) = match failure {
        StreamFailure::NotProcessed(detail) => (Reason::Reset, detail.to_owned(), true),
        StreamFailure::Reset(code) => {
            (Reason::Reset, format!("the server reset the stream with code {code}"), false)
        }
        StreamFailure::BadAnswer(detail) => (Reason::BadResponse, detail.to_owned(), false),
        StreamFailure::Lost => {
            (Reason::Reset, "the connection was closed inside the answer".to_owned(), false)
        }
    };
    Failure { reason, detail, not_processed }
}
