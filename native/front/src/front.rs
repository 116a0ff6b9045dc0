//! The front end: what it holds, its loop, and how exchanges end.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{epoll, eventfd, EventfdFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::time::{timerfd_create, TimerfdClockId, TimerfdFlags};
use sallyport_http1::RequestRules;
use sallyport_tls::{ClientContext, Facts, ServerContext};
use sallyport_upstream::{Connections, LookedAt, Pool, Slab, TargetId, TargetOptions};

use crate::connection::{unmapped, Connection, Phase, NOWHERE};
use crate::date::{DateLine, IsoTime};
use crate::event::{ConnectionId, End, Event, ExchangeId, Record, Request};
use crate::exchange::Exchange;
use crate::head_facts::{HeadFacts, ToldHost};
use crate::http1::MOST_EXCHANGES;
use crate::listener::{listen, ListenError, Listener};
use crate::mailbox::Mailbox;
use crate::standing::{Standing, StandingEnd, StandingId};
use crate::wheel::Wheel;

/// One read of a client.
pub(crate) const READ_BYTES: usize = 64 * 1024;
/// What is left over in one turn, connection by connection; the rest waits for the next.
const MOST_AGAIN: usize = 512;
/// Ends of exchanges that are told at once.
pub const MOST_ENDED: usize = 64;
/// Requests that are looked for before the first of them is told.
const MOST_GATHERED: usize = 16;

/// How long a connection between requests stays when the gateway drains.
const LAST_REQUEST_MS: u64 = 100;

/// Marks in the data of epoll events; what is below 2^48 is the pool's.
pub(crate) const CLIENT: u64 = 1 << 63;
pub(crate) const LISTENER: u64 = 1 << 62;
const TIMER: u64 = 1 << 61;
const WAKE: u64 = 1 << 60;

pub(crate) type Flags = epoll::EventFlags;

/// Limits and timers; bytes and milliseconds, 0 = off unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// H-14.
    pub head_bytes: usize,
    /// H-13.
    pub uri_bytes: usize,
    /// H-14: header lines.
    pub fields: usize,
    /// H-36: request bodies.
    pub body_bytes: u64,
    /// H-38: what may wait per direction and exchange; not 0.
    pub stream_buffer_bytes: usize,
    /// H-80: a request head, from its first byte; from the beginning of a connection for its first.
    pub head_ms: u64,
    /// H-80: between requests.
    pub idle_ms: u64,
    /// H-83: the window in which progress is measured.
    pub progress_ms: u64,
    /// H-37: how long an answered connection stays for a client that still sends.
    pub linger_ms: u64,
    /// H-80: nothing came from either side of a tunnel.
    pub tunnel_idle_ms: u64,
    /// Open at a time.
    pub max_tunnels: usize,
    /// Requests may ask for other protocols than WebSocket (H-60); whether one may is for whoever forwards it to say.
    pub other_upgrades: bool,
}

impl Default for Limits {
    /// Those of gateway.yaml.
    fn default() -> Self {
        Limits {
            head_bytes: 64 * 1024,
            uri_bytes: 16 * 1024,
            fields: 200,
            body_bytes: 0,
            stream_buffer_bytes: 256 * 1024,
            head_ms: 10_000,
            idle_ms: 75_000,
            progress_ms: 60_000,
            linger_ms: 2_000,
            tunnel_idle_ms: 300_000,
            max_tunnels: 10_000,
            other_upgrades: false,
        }
    }
}

/// Where a connection comes from, and where it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client's end of the connection.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// The source that a PROXY header named.
    pub proxied: Option<SocketAddr>,
}

/// What is open on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Connections of clients.
    pub connections: usize,
    /// Of these, how many speak HTTP/2.
    pub shared: usize,
    /// Tunnels.
    pub tunnels: usize,
    /// Of these, how many are streams of HTTP/2.
    pub streamed_tunnels: usize,
}

/// See the crate.
pub struct Front {
    pub(crate) epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    mailbox: Mailbox,
    is_woken: bool,
    pub(crate) timer: OwnedFd,
    pub(crate) is_timing: bool,
    batch: Vec<epoll::Event>,
    batch_at: usize,
    pub(crate) in_turn: bool,

    pub(crate) pool: Pool,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) connections: Slab<Connection>,
    pub(crate) exchanges: Slab<Exchange>,
    /// What the gateway need not be asked.
    pub(crate) standing: Standing,
    /// Exchange of a leg, by the leg's slot.
    pub(crate) legs: Vec<u64>,
    pub(crate) pending: VecDeque<Event>,
    /// What waits to be told as `Event::Ended`; the exchanges' places stay taken until then.
    ended: Vec<(ExchangeId, Record)>,
    pub(crate) again: VecDeque<u64>,
    more: usize,
    /// Connections with answers that leave at the end of the turn, and since when the first waits.
    pub(crate) postponed: Vec<u64>,
    pub(crate) postponed_since: Instant,
    /// The exchange whose body data still lies in the pool.
    pub(crate) borrowed: u64,

    pub(crate) limits: Limits,
    pub(crate) rules: RequestRules,
    pub(crate) wheel: Wheel,
    start: Instant,
    start_ms: f64,
    pub(crate) now_ms: u64,
    pub(crate) date: DateLine,
    pub(crate) iso: IsoTime,
    pub(crate) scratch: Vec<u8>,
    pub(crate) text: Vec<u8>,
    pub(crate) lines: Vec<u8>,
    /// Lines behind answers that leave without a question.
    pub(crate) answer_lines: LookedAt,
    told_host: ToldHost,
    pub(crate) spare: Vec<Vec<u8>>,
    pub(crate) tunnels: usize,
    pub(crate) is_draining: bool,
    pub(crate) asks_connect: bool,
    pub(crate) has_starved: bool,
}

impl Front {
    /// `clock_ms`: what the driver's clock shows now; times in records are of that clock. Fails when the system has no
    /// descriptors left.
    pub fn new(limits: Limits, clock_ms: f64) -> std::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), Flags::IN | Flags::ET)?;
        let wake = Arc::new(wake);
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), Flags::IN)?;
        let pool = Pool::on(rustix::io::dup(&epoll)?, limits.stream_buffer_bytes)?;
        let mut front = Front {
            epoll,
            mailbox: Mailbox::new(Arc::clone(&wake)),
            wake,
            is_woken: false,
            timer,
            is_timing: false,
            batch: Vec::with_capacity(512),
            batch_at: 0,
            in_turn: false,
            pool,
            listeners: Vec::new(),
            connections: Slab::new(),
            exchanges: Slab::with_room(MOST_EXCHANGES),
            standing: Standing::new(),
            legs: Vec::new(),
            pending: VecDeque::new(),
            ended: Vec::with_capacity(MOST_ENDED),
            again: VecDeque::new(),
            more: 0,
            postponed: Vec::new(),
            postponed_since: Instant::now(),
            borrowed: 0,
            limits,
            rules: RequestRules::default(),
            wheel: Wheel::new(0),
            start: Instant::now(),
            start_ms: clock_ms,
            now_ms: 0,
            date: DateLine::new(),
            iso: IsoTime::new(),
            scratch: vec![0; READ_BYTES],
            text: Vec::with_capacity(2048),
            lines: Vec::new(),
            answer_lines: LookedAt::default(),
            told_host: ToldHost::new(),
            spare: Vec::new(),
            tunnels: 0,
            is_draining: false,
            asks_connect: false,
            has_starved: false,
        };
        front.set_limits(limits);
        Ok(front)
    }

    /// The epoll descriptor: readable when `turn` has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Where other threads may put what this front end's driver is to be told.
    pub fn mailbox(&self) -> Mailbox {
        self.mailbox.clone()
    }

    /// Limits and timers of what begins from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.rules = RequestRules {
            uri_bytes: limits.uri_bytes,
            head_bytes: limits.head_bytes,
            fields: limits.fields,
            body_bytes: limits.body_bytes,
            is_https: false,
            other_upgrades: limits.other_upgrades,
        };
    }

    /// Whether connections are announced before their first byte.
    pub fn ask_connect(&mut self, asks: bool) {
        self.asks_connect = asks;
    }

    /// Exchanges that are not over.
    pub fn in_flight(&self) -> usize {
        self.exchanges.len()
    }

    /// Connections to upstreams.
    pub fn upstream_connections(&self) -> Connections {
        self.pool.connections()
    }

    /// Bytes of requests and answers that wait in memory on behalf of HTTP/1 connections and of requests on their way
    /// up: what the limits bound.
    pub fn held_bytes(&self) -> usize {
        let connections: usize = self
            .connections
            .keys()
            .filter_map(|key| self.connections.get(key))
            .map(|one| one.input.len() + one.wire.pending())
            .sum();
        let exchanges: usize = self
            .exchanges
            .keys()
            .filter_map(|key| self.exchanges.get(key))
            .map(|one| one.held.len() + one.replay.len() + one.out.len())
            .sum();
        let told: usize = self
            .pending
            .iter()
            .map(|event| if let Event::FilterData { data, .. } = event { data.len() } else { 0 })
            .sum();
        connections + exchanges + told + self.pool.held_bytes()
    }

    // ── targets ──

    /// See [`Pool::add_target`].
    pub fn add_target(
        &mut self,
        options: TargetOptions,
        addresses: Vec<SocketAddr>,
    ) -> Option<TargetId> {
        self.pool.add_target(options, addresses)
    }

    /// New addresses, limits and timers, for what begins from now on.
    pub fn change_target(
        &mut self,
        target: TargetId,
        options: TargetOptions,
        addresses: Vec<SocketAddr>,
    ) {
        self.pool.set_options(target, options);
        self.pool.set_addresses(target, addresses);
    }

    /// See `Pool::set_tls`.
    pub fn secure_target(&mut self, target: TargetId, context: ClientContext, name: String) {
        self.pool.set_tls(target, context, name);
    }

    /// See [`Pool::set_http2`].
    pub fn speak_http2(&mut self, target: TargetId) {
        self.pool.set_http2(target);
    }

    /// See [`Pool::retire`].
    pub fn retire_target(&mut self, target: TargetId) {
        self.pool.retire(target);
    }

    // ── listeners ──

    /// Listens; `id` is the driver's and never used twice. Returns the port.
    pub fn listen(
        &mut self,
        id: u32,
        address: SocketAddr,
        proxy_protocol: bool,
    ) -> Result<u16, ListenError> {
        let (socket, port) = listen(address)?;
        let data = epoll::EventData::new_u64(LISTENER | self.listeners.len() as u64);
        epoll::add(&self.epoll, &socket, data, Flags::IN)
            .map_err(|error| ListenError(std::io::Error::from(error).to_string()))?;
        self.listeners.push(Listener::new(id, Some(socket), proxy_protocol));
        Ok(port)
    }

    /// A listener without an address: its connections come from whoever accepts them, by [`Front::adopt`].
    pub fn stand_in(&mut self, id: u32, proxy_protocol: bool) {
        self.listeners.push(Listener::new(id, None, proxy_protocol));
    }

    /// Takes a stream socket that somebody else has accepted, as if it had come to that listener. `None`: there is no such
    /// listener, or no room.
    pub fn adopt(&mut self, id: u32, client: OwnedFd, peer: SocketAddr) -> Option<ConnectionId> {
        self.look_at_clock();
        let index = self.listeners.iter().position(|listener| listener.id == id)?;
        let proxy_protocol = self.listeners[index].proxy_protocol;
        let key = self.connected(index, id, proxy_protocol, client, peer)?;
        self.keep_time();
        Some(ConnectionId(key))
    }

    /// What clients are shown there, and asked for, from now on; connections that exist go on as they are. Without it a
    /// listener is plain. No client is accepted between `listen` and this when both are called in one go.
    pub fn set_tls(&mut self, id: u32, context: ServerContext) {
        if let Some(listener) = self.listener(id) {
            listener.tls = Some(context);
        }
    }

    /// What is known of a connection's TLS: nothing before its first request.
    pub fn tls_of(&self, connection: ConnectionId) -> Option<Facts> {
        self.connections.get(connection.0)?.wire.facts()
    }

    /// Accepts nothing more there; connections go on.
    pub fn close_listener(&mut self, id: u32) {
        if let Some(listener) = self.listener(id) {
            listener.socket = None;
        }
    }

    pub(crate) fn listener(&mut self, id: u32) -> Option<&mut Listener> {
        self.listeners.iter_mut().find(|listener| listener.id == id)
    }

    /// What is open on a listener.
    pub fn connections_of(&self, id: u32) -> Open {
        let listener = self.listeners.iter().find(|listener| listener.id == id);
        listener.map_or(Open::default(), |listener| Open {
            connections: listener.connections,
            shared: listener.shared,
            tunnels: listener.tunnels,
            streamed_tunnels: listener.streamed_tunnels,
        })
    }

    /// Turns a connection away that was announced.
    pub fn refuse(&mut self, connection: ConnectionId) {
        self.close_connection(connection.0, End::Aborted);
    }

    /// Every answer closes its connection from now on, connections between requests close unless one comes within a moment (it may
    /// be on its way, O-22), and clients of tunnels are told to leave (O-21).
    pub fn drain(&mut self) {
        self.look_at_clock_between_turns();
        self.is_draining = true;
        let idle: Vec<u64> = self
            .connections
            .keys()
            .filter(|key| {
                self.connections.get(*key).is_some_and(|one| {
                    one.phase == Phase::Head && one.input.is_empty() && one.is_used
                })
            })
            .collect();
        for key in idle {
            self.deadline_in(key, LAST_REQUEST_MS);
        }
        for key in self.connections.keys().collect::<Vec<_>>() {
            self.drain_streams(key);
        }
        for key in self.exchanges.keys().collect::<Vec<_>>() {
            self.dismiss_tunnel(key);
        }
    }

    /// Closes everything at once; open exchanges end as aborted, and that is still told.
    pub fn close(&mut self) {
        self.is_draining = true;
        for listener in &mut self.listeners {
            listener.socket = None;
        }
        self.send_postponed();
        for key in self.connections.keys().collect::<Vec<_>>() {
            self.close_connection(key, End::Aborted);
        }
        self.pool.close();
        let notes = self.mailbox.close();
        self.tell_notes(notes);
    }

    /// Both ends of an exchange's connection.
    pub fn addresses(&self, exchange: ExchangeId) -> Option<Addresses> {
        let connection = self.exchanges.get(exchange.0)?.connection;
        self.addresses_of(ConnectionId(connection))
    }

    /// Both ends of a connection.
    pub fn addresses_of(&self, connection: ConnectionId) -> Option<Addresses> {
        let connection = self.connections.get(connection.0)?;
        let local = connection.wire.local_address().map_or(NOWHERE, unmapped);
        Some(Addresses {
            peer: connection.peer,
            local: connection.proxied.as_ref().map_or(local, |proxied| proxied.1),
            proxied: connection.proxied.as_ref().map(|proxied| proxied.0),
        })
    }

    // ── the loop ──

    /// The driver's clock, in milliseconds.
    pub(crate) fn clock_ms(&self) -> f64 {
        self.clock_at(Instant::now())
    }

    pub(crate) fn clock_at(&self, now: Instant) -> f64 {
        self.start_ms + now.duration_since(self.start).as_secs_f64() * 1000.0
    }

    /// The turn has looked already.
    pub(crate) fn look_at_clock_between_turns(&mut self) {
        if !self.in_turn {
            self.look_at_clock();
        }
    }

    pub(crate) fn look_at_clock(&mut self) {
        self.now_ms = self.start.elapsed().as_millis() as u64;
    }

    /// Asks the system what is ready; then `next_event` until it gives nothing.
    pub fn turn(&mut self) {
        self.look_at_clock();
        self.in_turn = true;
        self.more = MOST_AGAIN;
        self.batch.clear();
        self.batch_at = 0;
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // An interrupted call is repeated by whoever polls the descriptor: it is still readable.
        let _ = epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.batch),
            Some(&at_once),
        );
        self.pool.begin_turn();
        self.pool.postpone(!self.batch.is_empty());
        for event in &self.batch {
            if event.data.u64() < WAKE {
                self.pool.hand_in(*event);
            }
        }
    }

    /// The next event. The front end may be called between any two.
    pub fn next_event(&mut self) -> Option<Event> {
        self.keep_borrowed();
        loop {
            if self.ended.len() >= MOST_ENDED {
                return Some(Event::Ended);
            }
            if !self.gathers() {
                if !self.pending.is_empty() {
                    self.pool.send_postponed();
                    self.send_overdue();
                }
                while let Some(event) = self.pending.pop_front() {
                    if self.is_current(&event) {
                        if let Event::Done(_, record) = &event {
                            self.told_standing(record.standing);
                        }
                        return Some(event);
                    }
                }
            }
            if let Some(event) = self.batch.get(self.batch_at) {
                let (data, flags) = (event.data.u64(), event.flags);
                self.batch_at += 1;
                self.ready(data, flags);
                if self.batch_at == self.batch.len() {
                    // All clients that had something to say were read.
                    self.pool.postpone(false);
                    self.pool.send_postponed();
                }
            } else if let Some(event) = self.pool.next_event() {
                self.upstream_event(event);
            } else if let Some(key) = self.again.pop_front() {
                if self.more == 0 {
                    self.again.push_front(key);
                    if !self.ended.is_empty() {
                        return Some(Event::Ended);
                    }
                    self.end_turn();
                    return None;
                }
                self.more -= 1;
                self.pump(key);
            } else if !self.ended.is_empty() {
                return Some(Event::Ended);
            } else {
                self.end_turn();
                return None;
            }
        }
    }

    /// Requests that came in one turn are told one behind the other, so that `another_request` finds them.
    fn gathers(&self) -> bool {
        self.batch_at < self.batch.len()
            && self.pending.len() < MOST_GATHERED
            && matches!(self.pending.back(), Some(Event::Request(..)))
            && matches!(self.pending.front(), Some(Event::Request(..)))
    }

    /// The request that `next_event` would tell of now, if that is what comes next.
    pub fn another_request(&mut self) -> Option<(ExchangeId, Box<Request>)> {
        while matches!(self.pending.front(), Some(Event::Request(..))) {
            match self.pending.pop_front() {
                Some(Event::Request(exchange, request))
                    if self.exchanges.get(exchange.0).is_some() =>
                {
                    return Some((exchange, request));
                }
                _ => {}
            }
        }
        None
    }

    fn end_turn(&mut self) {
        self.send_postponed();
        self.in_turn = false;
        if !self.again.is_empty() || !self.pending.is_empty() || !self.ended.is_empty() {
            self.wake();
        }
        self.keep_time();
    }

    /// Events of an exchange that is over are not told, but for its end.
    fn is_current(&self, event: &Event) -> bool {
        match event {
            Event::Request(exchange, _)
            | Event::RequestBody { exchange, .. }
            | Event::Response { exchange, .. }
            | Event::Passed { exchange, .. }
            | Event::ResponseBody { exchange, .. }
            | Event::FilterData { exchange, .. }
            | Event::FilterEnd { exchange }
            | Event::Rejected(exchange)
            | Event::FilterWritable { exchange }
            | Event::StandingFailed { exchange, .. }
            | Event::UpstreamFailed { exchange, .. } => self.exchanges.get(exchange.0).is_some(),
            Event::Connected { connection, .. } => self.connections.get(connection.0).is_some(),
            Event::Done(..)
            | Event::Ended
            | Event::StandingPassed { .. }
            | Event::Refused(_)
            | Event::Note { .. } => true,
        }
    }

    /// Something is to be done, or told, in a turn that nothing else would bring about.
    pub(crate) fn wake(&mut self) {
        if self.in_turn || std::mem::replace(&mut self.is_woken, true) {
            return;
        }
        // Fails only when the counter is full, and then it is readable anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.pending.push_back(event);
        self.wake();
    }

    pub(crate) fn push_again(&mut self, key: u64) {
        self.again.push_back(key);
        self.wake();
    }

    /// What `Event::Ended` tells of, `MOST_ENDED` at most; everything of these exchanges was told before.
    pub fn take_ended(&mut self, mut tell: impl FnMut(ExchangeId, &Record)) {
        let count = self.ended.len().min(MOST_ENDED);
        for (exchange, record) in self.ended.drain(..count) {
            tell(exchange, &record);
            if let Some(end) = record.standing {
                self.standing.told(end.relay);
            }
            self.exchanges.vacate(exchange.0);
        }
    }

    /// The end of an exchange, if that is the last thing that happened and it went as it should: told at once, it needs no
    /// event.
    pub fn take_done(&mut self, exchange: ExchangeId) -> Option<Record> {
        if self.ended.last()?.0 != exchange {
            return None;
        }
        self.exchanges.vacate(exchange.0);
        let (_, record) = self.ended.pop()?;
        self.told_standing(record.standing);
        Some(record)
    }

    fn told_standing(&mut self, end: Option<StandingEnd>) {
        if let Some(end) = end {
            self.standing.told(end.relay);
        }
    }

    /// What whoever drives this wanted to be sent was not possible, and that could not be said at once.
    pub fn reject(&mut self, exchange: ExchangeId) {
        self.push(Event::Rejected(exchange));
    }

    /// What is told beside the text of a head; of one head after the other, in the order in which they are told.
    pub fn head_facts(&mut self, head: &[u8]) -> HeadFacts {
        HeadFacts::of(head, &mut self.told_host)
    }

    /// Keeps the head that a request was told with, so that lines may be put behind it: see `Relay`.
    pub fn keep_head(&mut self, exchange: ExchangeId, head: Vec<u8>) {
        match self.exchanges.get_mut(exchange.0) {
            Some(state) => state.head = head,
            None => self.recycle(head),
        }
    }

    fn ready(&mut self, data: u64, flags: Flags) {
        if data & CLIENT != 0 {
            self.client_ready(data & !CLIENT, flags);
        } else if data & LISTENER != 0 {
            self.accept((data & !LISTENER) as usize);
        } else if data == TIMER {
            let _ = rustix::io::read(&self.timer, &mut [0u8; 8]);
            self.tick();
        } else if data == WAKE {
            self.is_woken = false;
            let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
            let notes = self.mailbox.take();
            self.tell_notes(notes);
        }
    }

    fn tell_notes(&mut self, notes: Vec<(u32, f64)>) {
        for (ticket, answer) in notes {
            self.push(Event::Note { ticket, answer });
        }
    }

    /// Ends an exchange and tells.
    pub(crate) fn end_exchange(
        &mut self,
        key: u64,
        end: End,
        failure: Option<sallyport_upstream::Failure>,
    ) {
        self.drop_leg(key);
        let Some(exchange) = self.exchanges.take(key) else { return };
        if self.borrowed == key {
            self.borrowed = 0;
        }
        if exchange.stream != 0 {
            self.forget_stream(exchange.connection, exchange.stream);
        } else if let Some(connection) = self.connections.get_mut(exchange.connection) {
            connection.http1().exchange = 0;
        }
        if exchange.tunnel {
            self.tunnels -= 1;
            if let Some(listener) = self.listener(exchange.listener) {
                listener.tunnels -= 1;
                listener.streamed_tunnels -= usize::from(exchange.stream != 0);
            }
        }
        self.recycle(exchange.held.into_buffer());
        self.recycle(exchange.head);
        // Cancelled with what brought it: whoever was not told of its beginning is not told of its end.
        if !self.pending.is_empty() && self.take_unannounced(key).is_some() {
            self.exchanges.vacate(key);
            return;
        }
        let record = Record {
            status: exchange.status,
            received_bytes: exchange.received,
            sent_bytes: exchange.sent,
            end,
            failure,
            connected_at_ms: exchange.connected_at_ms,
            first_byte_at_ms: exchange.first_byte_at_ms,
            ended_at_ms: self.clock_ms(),
            reused: exchange.reused,
            rule: exchange.rule,
            tunnel: exchange.tunnel,
            passed_status: exchange.passed_status,
            standing: (exchange.standing != 0).then_some(StandingEnd {
                relay: StandingId(exchange.standing),
                received_at_ms: exchange.received_at_ms,
                is_head: exchange.is_head,
            }),
        };
        if record.failure.is_none() && record.rule.is_empty() {
            self.ended.push((ExchangeId(key), record));
            self.wake();
        } else {
            self.exchanges.vacate(key);
            self.push(Event::Done(ExchangeId(key), Box::new(record)));
        }
    }

    /// An empty buffer, used before or new.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        const MOST: usize = 256;
        const MOST_BYTES: usize = 16 * 1024;
        if buffer.capacity() > 0 && buffer.capacity() <= MOST_BYTES && self.spare.len() < MOST {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    struct Stage {
        front: Front,
        client: UnixStream,
        /// Of requests that were told and not answered.
        told: Vec<ExchangeId>,
        ended: Vec<(ExchangeId, u16)>,
    }

    impl Stage {
        fn new() -> Self {
            let mut front = Front::new(Limits::default(), 0.0).expect("descriptors");
            front.stand_in(1, false);
            let (client, theirs) = UnixStream::pair().expect("sockets");
            theirs.set_nonblocking(true).expect("a mode");
            front.adopt(1, theirs.into(), NOWHERE).expect("room");
            Stage { front, client, told: Vec::new(), ended: Vec::new() }
        }

        fn pump(&mut self) {
            self.front.turn();
            while let Some(event) = self.front.next_event() {
                match event {
                    Event::Request(exchange, _) => self.told.push(exchange),
                    Event::Ended => {
                        let ended = &mut self.ended;
                        self.front
                            .take_ended(|exchange, record| ended.push((exchange, record.status)));
                    }
                    Event::Refused(refused) => assert_eq!(refused.status, 503),
                    other => panic!("{other:?}"),
                }
            }
        }

        fn ask(&mut self) -> ExchangeId {
            self.client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
            self.pump();
            self.told.pop().expect("a request")
        }

        fn read(&mut self) -> String {
            let mut bytes = [0; 4096];
            let length = self.client.read(&mut bytes).expect("an answer");
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        }
    }

    #[test]
    fn numbers_of_exchanges_begin_anew_and_old_ones_do_nothing() {
        let mut stage = Stage::new();
        stage.front.exchanges = Slab::with_room(MOST_EXCHANGES).worn();
        let mut old = Vec::new();
        for round in 0..4 {
            let exchange = stage.ask();
            assert!(exchange.0 != 0 && exchange.0 < 1 << 48);
            assert!(!old.contains(&exchange), "{old:?}");
            for stale in &old {
                stage.front.abort(*stale);
                stage.front.respond(*stale, b"HTTP/1.1 500 X\r\n", b"").expect("ignored");
                assert_eq!(stage.front.addresses(*stale), None);
            }
            stage.front.respond(exchange, b"HTTP/1.1 200 OK\r\n", b"ok").expect("a head");
            stage.pump();
            assert!(stage.read().starts_with("HTTP/1.1 200 "));
            assert_eq!(stage.ended, [(exchange, 200)], "round {round}");
            stage.ended.clear();
            old.push(exchange);
        }
        let generations: Vec<u64> = old.iter().map(|exchange| exchange.0 >> 20).collect();
        assert!(generations[1] > generations[2], "{generations:?}");
    }

    #[test]
    fn answers_of_one_turn_leave_at_its_end() {
        let mut stage = Stage::new();
        stage.client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
        stage.front.turn();
        let Some(Event::Request(exchange, _)) = stage.front.next_event() else {
            panic!("no request")
        };
        stage.front.respond(exchange, b"HTTP/1.1 200 OK\r\n", b"ok").expect("a head");
        stage.client.set_nonblocking(true).expect("a mode");
        assert!(stage.client.read(&mut [0]).is_err());
        assert_eq!(stage.front.next_event(), Some(Event::Ended));
        stage.front.take_ended(|ended, _| assert_eq!(ended, exchange));
        assert_eq!(stage.front.next_event(), None);
        assert!(stage.read().ends_with("ok"));
    }

    #[test]
    fn answers_to_pipelined_requests_stay_in_order() {
        let mut stage = Stage::new();
        let both = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
        stage.client.write_all(both).expect("room");
        for body in ["one", "two"] {
            stage.pump();
            let exchange = stage.told.pop().expect("a request");
            stage.front.respond(exchange, b"HTTP/1.1 200 OK\r\n", body.as_bytes()).expect("a head");
            stage.pump();
        }
        let text = stage.read();
        assert!(text.find("one") < text.find("two") && text.ends_with("two"), "{text}");
    }

    #[test]
    fn h_84_one_exchange_too_many_is_503() {
        let mut stage = Stage::new();
        stage.front.exchanges = Slab::with_room(1);
        let first = stage.ask();
        let (mut second, theirs) = UnixStream::pair().expect("sockets");
        theirs.set_nonblocking(true).expect("a mode");
        stage.front.adopt(1, theirs.into(), NOWHERE).expect("room");
        second.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
        stage.pump();
        let mut bytes = [0; 12];
        second.read_exact(&mut bytes).expect("an answer");
        assert_eq!(&bytes, b"HTTP/1.1 503");
        stage.front.respond(first, b"HTTP/1.1 200 OK\r\n", b"ok").expect("a head");
        stage.pump();
        assert!(stage.read().starts_with("HTTP/1.1 200 "));
    }
}
