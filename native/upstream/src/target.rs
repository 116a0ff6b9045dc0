//! Servers: where they are, how many connections they get, and who waits for one. Source: H-82.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use sallyport_tls::ClientContext;

use crate::event::Event;
use crate::pool::Pool;

/// A server, as connections are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetId(pub u64);

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

impl Pool {
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

    /// Whether it is there, and not retired.
    pub fn takes_requests(&self, id: TargetId) -> bool {
        self.targets.get(id.0).is_some_and(|target| !target.is_retired)
    }

    pub(crate) fn forget_if_unused(&mut self, key: u64) {
        let Some(target) = self.targets.get(key) else { return };
        if target.is_retired && target.open + target.beside == 0 && target.waiting_count == 0 {
            self.targets.remove(key);
        }
    }

    /// Gives free connections, and room for new ones, to the requests that wait longest.
    pub(crate) fn serve_waiting(&mut self, target_key: u64) {
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
}
