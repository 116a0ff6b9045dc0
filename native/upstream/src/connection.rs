//! Connections: how they come about, and how those without a request are watched.
//!
//! The most recently used idle connection is taken first, after a look whether it is still quiet (unless it answered a moment
//! ago): what has come on it unasked, an end of file included, makes it unusable (H-34, T-31).

use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::deadline::{after, Deadline};
use crate::event::{Event, Reason};
use crate::http2::Shared;
use crate::pool::Pool;
use crate::response::Response;
use crate::socket::{self, Peek};
use crate::transport::{Broken, Received, Transport};

/// For so long after its last answer a connection is taken without a look: events have told of whatever came, but for
/// the present turn of the loop, and a look cannot tell what comes a moment later either.
const FRESH: Duration = Duration::from_millis(10);

/// More than a peer has to say about its session while nobody asks it anything.
const MAX_IDLE_READS: usize = 4;

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
    /// Nothing of its request has been sent: see `Pool::postpone`.
    pub(crate) is_unsent: bool,
    pub(crate) expires: Option<Instant>,
    /// When its last answer was complete.
    pub(crate) idle_since: Instant,
    /// Requests are to share it.
    pub(crate) is_http2: bool,
    /// Several requests share it: then `leg` and `response` are not used.
    pub(crate) shared: Option<Box<Shared>>,
}

/// We have no descriptor, memory or port left, which says nothing about the target (O-78).
fn is_own_shortage(error: Errno) -> bool {
    use Errno as E;
    matches!(error, E::MFILE | E::NFILE | E::NOBUFS | E::NOMEM | E::ADDRNOTAVAIL)
}

impl Pool {
    /// Opens a connection for a leg.
    pub(crate) fn open(&mut self, target_key: u64, leg_key: u64) {
        let is_beside = self.legs.get(leg_key).is_some_and(|leg| leg.is_beside);
        let Some(target) = self.targets.get_mut(target_key) else { return };
        let is_http2 = target.is_http2 && !is_beside;
        let mut failure = None;
        let mut reason = Reason::ConnectFailed;
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
                        is_unsent: false,
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
                        reason = Reason::Overflow;
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
                Err(error) => {
                    failure = Some(error.to_string());
                    if is_own_shortage(error) {
                        reason = Reason::Overflow;
                        break;
                    }
                }
            }
        }
        let detail = failure.unwrap_or_else(|| "no address".to_owned());
        self.fail_alone(leg_key, reason, detail, true);
    }

    /// Tries the next address of a leg that is connecting. False when there is none.
    pub(crate) fn next_address(&mut self, leg_key: u64) -> bool {
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

    /// Connecting has come to an end, good or bad.
    pub(crate) fn connected(&mut self, key: u64) -> Option<Event> {
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
    pub(crate) fn shake(&mut self, key: u64) -> Option<Event> {
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

    pub(crate) fn fail_shaking(&mut self, leg_key: u64, broken: Broken) {
        let reason =
            if broken.is_incompatible { Reason::TlsIncompatible } else { Reason::TlsFailed };
        self.fail(leg_key, reason, broken.detail, true);
    }

    pub(crate) fn fail_unasked(&mut self, leg_key: u64, reason: Reason) -> Option<Event> {
        let what = if reason == Reason::Reset { "closed" } else { "bytes" };
        self.fail(leg_key, reason, format!("{what} before any request"), true);
        None
    }

    /// A connection is ready for the request that it was made for.
    pub(crate) fn established(&mut self, key: u64) -> Option<Event> {
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

    /// The most recently used idle connection on which nothing has come.
    pub(crate) fn take_idle(&mut self, target_key: u64) -> Option<u64> {
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
    pub(crate) fn is_quiet(&mut self, key: u64) -> bool {
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

    pub(crate) fn forget_idle(&mut self, key: u64) {
        let Some(connection) = self.connections.get(key) else { return };
        if let Some(target) = self.targets.get_mut(connection.target) {
            target.idle.retain(|one| *one != key);
        }
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
}
