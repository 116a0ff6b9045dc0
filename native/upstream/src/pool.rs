//! The pool: what it holds, and the turns of the loop in which it is asked what has happened.
//!
//! A request (a leg) has one connection; a connection has one request at a time, but for those of HTTP/2. Everything is bounded:
//! connections and waiting requests per target, request bytes per leg (`buffer_bytes` and the last piece), answer bytes (one
//! read).

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use rustix::fd::{BorrowedFd, OwnedFd};

use crate::connection::{Connection, Phase};
use crate::event::{Event, LegId, Lent};
use crate::head::LookedAt;
use crate::request::Leg;
use crate::slab::Slab;
use crate::socket::{Flags, Poller};
use crate::target::Target;
use crate::transport::Buffers;

/// One read of an answer; no event has more data.
pub const READ_BYTES: usize = 64 * 1024;

/// Reads of one turn beyond the first of each connection; the rest waits for the next turn of the loop.
const MORE_READS: usize = 256;

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
    /// Lines behind requests that go on as they came, and behind answers.
    pub(crate) added_lines: LookedAt,
    pub(crate) answer_lines: LookedAt,
    pub(crate) now: Instant,
    pub(crate) reads: u64,
    /// Requests wait for `send_postponed`.
    pub(crate) postpones: bool,
    /// Connections whose request has not been sent at all, and since when the first waits.
    pub(crate) unsent: Vec<u64>,
    pub(crate) unsent_since: Instant,
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

    pub(crate) fn with(poller: Poller, buffer_bytes: usize) -> Self {
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
            added_lines: LookedAt::default(),
            answer_lines: LookedAt::default(),
            now: Instant::now(),
            reads: 0,
            postpones: false,
            unsent: Vec::new(),
            unsent_since: Instant::now(),
        }
    }

    /// Requests on connections that are there wait, from now on, until `send_postponed` or a millisecond later than the first: one send
    /// after the other costs the system less than sends between reads. False: they are sent at once.
    pub fn postpone(&mut self, postpones: bool) {
        self.postpones = postpones;
    }

    /// Sends what waits: before whoever drives this waits for events.
    pub fn send_postponed(&mut self) {
        let mut unsent = std::mem::take(&mut self.unsent);
        for key in unsent.drain(..) {
            let Some(connection) = self.connections.get(key) else { continue };
            let leg = LegId(connection.leg);
            if connection.is_unsent && self.flush(key) {
                let mut event = Event::new(leg.0);
                event.writable = true;
                self.push(event);
            }
        }
        self.unsent = unsent;
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

    pub(crate) fn push(&mut self, event: Event) {
        self.pending.push_back(event);
        self.poller.wake();
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
}
