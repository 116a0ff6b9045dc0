//! Clients' connections as a whole: accepted, heard of, closed.
//!
//! Source: F-21; H-51, T-23.

use std::net::SocketAddr;

use rustix::event::epoll;
use rustix::fd::OwnedFd;

use crate::connection::{unmapped, Connection, Phase};
use crate::event::{ConnectionId, End, Event};
use crate::exchange::Answer;
use crate::front::{Flags, Front, CLIENT, LISTENER};
use crate::listener::{accept, Accepted, Listener};
use crate::wire::{Received, Transport, Wire};

/// Connections accepted in one turn, per listener.
const MOST_ACCEPTED: usize = 256;
/// T-23: the end of a client's side that comes so long after its last byte, or later, is not a half-close.
const HALF_CLOSE_MS: u64 = 1_000;
/// Reported once per change, registered once.
const CLIENT_INTEREST: Flags = Flags::IN.union(Flags::OUT).union(Flags::RDHUP).union(Flags::ET);

impl Front {
    pub(crate) fn accept(&mut self, index: usize) {
        for _ in 0..MOST_ACCEPTED {
            let Some(Listener { id, socket: Some(socket), proxy_protocol, .. }) =
                self.listeners.get(index)
            else {
                return;
            };
            let (id, proxy_protocol) = (*id, *proxy_protocol);
            match accept(socket) {
                Accepted::None => return,
                Accepted::Exhausted => {
                    self.starve(index);
                    return;
                }
                Accepted::Connection(client, address) => {
                    self.connected(index, id, proxy_protocol, client, unmapped(address));
                }
            }
        }
    }

    pub(crate) fn connected(
        &mut self,
        index: usize,
        listener: u32,
        proxy_protocol: bool,
        client: OwnedFd,
        peer: SocketAddr,
    ) -> Option<u64> {
        // A PROXY header comes before the handshake.
        let tls = self.listeners.get(index).and_then(|listener| listener.tls.as_ref());
        let tls = tls.filter(|_| !proxy_protocol);
        let wire = Wire::new(client, Transport::for_listener(tls));
        let phase = if proxy_protocol { Phase::Proxy } else { Phase::Head };
        let key = self.connections.insert(Connection::new(wire, listener, peer, phase))?;
        let connection = self.connections.get(key)?;
        let data = epoll::EventData::new_u64(CLIENT | key);
        if epoll::add(&self.epoll, connection.wire.socket(), data, CLIENT_INTEREST).is_err() {
            self.connections.remove(key);
            return None;
        }
        self.listeners[index].connections += 1;
        self.deadline_in(key, self.limits.head_ms);
        if self.asks_connect {
            self.push(Event::Connected { listener, connection: ConnectionId(key) });
        }
        Some(key)
    }

    /// No descriptors are left: the queue waits until the next tick.
    fn starve(&mut self, index: usize) {
        if let Some(Listener { socket: Some(socket), .. }) = self.listeners.get(index) {
            let data = epoll::EventData::new_u64(LISTENER | index as u64);
            let _ = epoll::modify(&self.epoll, socket, data, Flags::empty());
            self.has_starved = true;
        }
    }

    pub(crate) fn feed_starved(&mut self) {
        if !std::mem::take(&mut self.has_starved) {
            return;
        }
        for (index, listener) in self.listeners.iter().enumerate() {
            if let Some(socket) = &listener.socket {
                let data = epoll::EventData::new_u64(LISTENER | index as u64);
                let _ = epoll::modify(&self.epoll, socket, data, Flags::IN);
            }
        }
    }

    pub(crate) fn client_ready(&mut self, key: u64, flags: Flags) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if flags.intersects(Flags::HUP | Flags::ERR) {
            // Reset, or closed both ways: nobody reads an answer any more.
            connection.is_readable = true;
            let has_exchange = connection.exchange() != 0;
            if connection.phase == Phase::Linger && has_exchange {
                // The answer to a client that had ended its side: taken, or not.
                let is_taken = connection.wire.pending() == 0
                    && !flags.contains(Flags::ERR)
                    && !connection.wire.has_failed();
                self.close_connection(key, if is_taken { End::Complete } else { End::ClientAbort });
                return;
            }
            if connection.phase == Phase::Answer || (has_exchange && connection.is_paused) {
                self.close_connection(key, End::ClientAbort);
                return;
            }
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        if flags.contains(Flags::OUT) && connection.wire.pending() > 0 {
            self.flush(key);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let had_unread = connection.is_readable;
        if flags.intersects(Flags::IN | Flags::RDHUP | Flags::HUP | Flags::ERR) {
            connection.is_readable = true;
        }
        let is_waiting = connection.phase == Phase::Answer && !connection.is_ended;
        connection.is_ended |= flags.contains(Flags::RDHUP);
        let has_come = flags.intersects(Flags::IN | Flags::RDHUP);
        if is_waiting && has_come && !self.hear_waiting(key, had_unread) {
            return;
        }
        let Some(connection) = self.connections.get(key) else { return };
        if connection.is_readable && connection.wants_read() {
            self.pump(key);
        }
    }

    /// Something has come of a client that waits for its answer: a request behind the present one, which stays unread (H-51),
    /// or its end. An end that comes with what it sent is a half-close, and the answer reaches it; one that comes
    /// later is of a client that has given up, and so has the upstream's work (T-23). False: the connection is closed.
    fn hear_waiting(&mut self, key: u64, had_unread: bool) -> bool {
        let now = self.now_ms;
        let Some(connection) = self.connections.get_mut(key) else { return false };
        let is_tls = connection.wire.is_tls();
        // A session's end is told inside it. What was there before the end of a plain connection is as old as it is.
        let received =
            if is_tls || connection.is_ended && !had_unread { self.read_to_end(key) } else { None };
        let Some(connection) = self.connections.get_mut(key) else { return false };
        match received {
            Some(Received::Bytes(_, is_drained)) => {
                connection.is_readable = !is_drained || connection.is_ended;
                connection.heard_ms = now;
            }
            Some(Received::Nothing) => connection.is_readable = connection.is_ended,
            Some(Received::End) => connection.is_ended = true,
            Some(Received::Broken | Received::NotTls(_)) => {
                self.close_connection(key, End::ClientAbort);
                return false;
            }
            None if !connection.is_ended && !had_unread => connection.heard_ms = now,
            None => {}
        }
        if !connection.is_ended {
            return true;
        }
        let is_late = now.saturating_sub(connection.heard_ms) >= HALF_CLOSE_MS;
        let (exchange, is_unmeasured) = (connection.exchange(), connection.deadline_ms == 0);
        let has_left = self.exchanges.get(exchange).is_some_and(|state| {
            // Whoever listens to events leaves by closing. What is ready only has to be taken.
            let is_made = state.answer == Answer::None || state.leg.is_some();
            state.is_event_stream || is_late && is_made
        });
        if has_left {
            self.close_connection(key, End::ClientAbort);
            return false;
        }
        if is_unmeasured {
            self.measure(key);
        }
        true
    }

    /// Closes a connection; an exchange on it ends.
    pub(crate) fn close_connection(&mut self, key: u64, end: End) {
        let Some(connection) = self.connections.get(key) else { return };
        let exchange = connection.exchange();
        if exchange != 0 {
            self.end_exchange(exchange, end, None);
        }
        for exchange in self.exchanges_of(key) {
            self.end_exchange(exchange, end, None);
        }
        let Some(connection) = self.connections.remove(key) else { return };
        if let Some(listener) = self.listener(connection.listener) {
            listener.connections -= 1;
            listener.shared -= usize::from(connection.http2.is_some());
        }
        // Dropping it closes the descriptor, which also takes it out of the epoll instance: nobody else holds it.
    }
}
