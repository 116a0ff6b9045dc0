//! Tunnels: a request to become a WebSocket, or to go on with another protocol that an endpoint allows, the upstream's 101,
//! and from there on bytes both ways as they are.
//!
//! A client of HTTP/1.1 has its whole connection for it, one of HTTP/2 a stream (extended CONNECT): there the handshake with
//! the upstream is ours, with a key of our own.
//!
//! Source: RFC 6455 §4; RFC 8441 §4, §5; H-60, H-80, H-91, H-94.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use sallyport_upstream::{websocket_accept, Failure, Reason, RequestHead, TargetId, Use};

use crate::connection::{Coding, Phase};
use crate::event::End;
use crate::exchange::Answer;
use crate::frames::{Frames, GOING_AWAY};
use crate::front::Front;
use crate::head::{value_of, write_answer, write_protocol, write_upgrade, BadHead};

const WEB_SOCKET: &[u8] = b"websocket";

/// A new key (RFC 6455 §4.1). `None` when the system has no random bytes.
fn new_key() -> Option<String> {
    let mut bytes = [0u8; 16];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok()?;
    (length == bytes.len()).then(|| STANDARD.encode(bytes))
}

impl Front {
    // ── the handshake ──

    /// Asks the upstream for a WebSocket, or what else the head's `Upgrade` names; `head` as for [`Front::forward`].
    pub(crate) fn forward_upgrade(
        &mut self,
        key: u64,
        target: TargetId,
        head: &[u8],
    ) -> Result<(), BadHead> {
        if self.tunnels >= self.limits.max_tunnels {
            self.fail_leg(key, Reason::Overflow, "too many WebSockets are open");
            return Ok(());
        }
        let Some(state) = self.exchanges.get_mut(key) else { return Ok(()) };
        let protocol = value_of(head, b"upgrade").unwrap_or(WEB_SOCKET);
        let is_other = !protocol.eq_ignore_ascii_case(WEB_SOCKET);
        state.protocol = if is_other { protocol.to_vec() } else { Vec::new() };
        let own_key = if state.stream == 0 {
            None
        } else {
            let Some(own) = new_key() else {
                self.fail_leg(key, Reason::ConnectFailed, "the system has no random bytes");
                return Ok(());
            };
            state.wanted_accept = Some(websocket_accept(own.as_bytes()));
            Some(own)
        };
        let mut text = self.buffer();
        write_upgrade(
            &mut text,
            head,
            own_key.as_deref(),
            if is_other { protocol } else { WEB_SOCKET },
        );
        let purpose =
            Use { upgrade: true, other_upgrade: is_other, interim: true, ..Use::default() };
        let sent = self.pool.send_for(target, RequestHead::whole(&text), Ok(b""), purpose);
        self.recycle(text);
        self.started(key, sent)
    }

    /// Whether a 101 that has just come names the protocol and answers the key that was sent: a client with a key of its own
    /// looks for itself.
    pub(crate) fn is_right_upgrade(&self, key: u64) -> bool {
        let Some(state) = self.exchanges.get(key) else { return true };
        if !state.protocol.is_empty() {
            return value_of(self.pool.head(), b"upgrade")
                .is_some_and(|protocol| protocol.eq_ignore_ascii_case(&state.protocol));
        }
        let Some(wanted) = &state.wanted_accept else { return true };
        value_of(self.pool.head(), b"sec-websocket-accept") == Some(wanted.as_bytes())
    }

    pub(crate) fn refuse_upgrade(&mut self, key: u64) {
        self.drop_leg(key);
        let failure = Failure {
            reason: Reason::BadResponse,
            detail: "101 to another protocol or key than was sent".to_owned(),
            not_processed: false,
        };
        self.upstream_failed(key, failure);
    }

    // ── open ──

    /// Both sides agreed, and the gateway did: from here on bytes as they are.
    pub(crate) fn open_tunnel(&mut self, key: u64, head: &[u8]) -> Result<(), BadHead> {
        let mut text = self.buffer();
        if let Err(bad) = write_answer(&mut text, head) {
            self.recycle(text);
            return Err(bad);
        }
        let is_borrowed = self.borrowed == key;
        let Some(state) = self.exchanges.get_mut(key) else { return Ok(()) };
        let first = if is_borrowed {
            self.borrowed = 0;
            self.pool.data().to_vec()
        } else {
            state.out.take()
        };
        state.tunnel = true;
        if state.protocol.is_empty() {
            let mut frames = Box::<Frames>::default();
            frames.pass(&first, false);
            state.frames = Some(frames);
        }
        state.status = 101;
        state.answer = Answer::Body;
        state.leg_writable = true;
        state.moved_ms = self.now_ms;
        let (stream, listener, is_ended) = (state.stream, state.listener, state.upstream_ended);
        self.tunnels += 1;
        if let Some(listener) = self.listener(listener) {
            listener.tunnels += 1;
            listener.streamed_tunnels += usize::from(stream != 0);
        }
        if stream != 0 {
            self.open_streamed_tunnel(key, &text, &first);
        } else {
            self.open_whole_tunnel(key, &mut text, &first);
        }
        self.recycle(text);
        if is_ended {
            self.tunnel_down_ended(key);
            return Ok(());
        }
        if self.is_draining {
            self.dismiss_tunnel(key);
        }
        self.resume_response(key);
        Ok(())
    }

    /// The client's connection becomes the tunnel.
    fn open_whole_tunnel(&mut self, key: u64, text: &mut Vec<u8>, first: &[u8]) {
        let Some(state) = self.exchanges.get_mut(key) else { return };
        let protocol = if state.protocol.is_empty() { WEB_SOCKET } else { &state.protocol };
        write_protocol(text, protocol);
        text.extend_from_slice(b"\r\n");
        let connection_key = state.connection;
        let Some(connection) = self.connections.get_mut(connection_key) else { return };
        state.sent += first.len() as u64;
        connection.phase = Phase::Tunnel;
        connection.is_paused = false;
        connection.http1().coding = Coding::UntilClose;
        connection.http1().closes = true;
        connection.wire.send(&[text, first]);
        self.deadline_in(connection_key, self.limits.tunnel_idle_ms);
        self.push_again(connection_key);
        self.sent(key, connection_key);
    }

    // ── bytes ──

    /// Something came from one side: idleness counts anew (H-80).
    fn tunnel_moved(&mut self, key: u64) {
        let now_ms = self.now_ms;
        let Some(state) = self.exchanges.get_mut(key) else { return };
        state.moved_ms = now_ms;
        let (stream, connection) = (state.stream, state.connection);
        if stream == 0 {
            self.deadline_in(connection, self.limits.tunnel_idle_ms);
        }
    }

    /// Bytes of the client on their way up.
    pub(crate) fn tunnel_up(&mut self, key: u64, data: &[u8]) {
        self.tunnel_moved(key);
        let Some(state) = self.exchanges.get_mut(key) else { return };
        state.received += data.len() as u64;
        if let Some(leg) = state.leg {
            if !self.pool.write(leg, data) {
                self.hold_tunnel(key, true);
            }
        }
    }

    /// The client has ended its side of a tunnel; the other goes on until its own end.
    pub(crate) fn tunnel_up_ended(&mut self, key: u64) {
        let Some(state) = self.exchanges.get(key) else { return };
        if let Some(leg) = state.leg {
            self.pool.end(leg);
        }
    }

    /// The upstream takes more.
    pub(crate) fn tunnel_writable(&mut self, key: u64) {
        self.hold_tunnel(key, false);
    }

    /// Nothing more of the client is wanted at present, or something is again.
    fn hold_tunnel(&mut self, key: u64, is_held: bool) {
        let Some(state) = self.exchanges.get(key) else { return };
        let (stream, connection_key) = (state.stream, state.connection);
        if stream != 0 {
            return self.hold_stream(key, is_held);
        }
        let Some(connection) = self.connections.get_mut(connection_key) else { return };
        if is_held {
            connection.is_paused = true;
        } else if !connection.is_ended {
            connection.is_paused = false;
            self.push_again(connection_key);
        }
    }

    /// Bytes of the upstream on their way down.
    pub(crate) fn tunnel_down(&mut self, key: u64, is_last: bool) {
        self.tunnel_moved(key);
        let Some(state) = self.exchanges.get_mut(key) else { return };
        let data = self.pool.lend();
        let bytes = data.bytes();
        let is_draining = self.is_draining;
        let length = match &mut state.frames {
            _ if state.is_dismissed => 0,
            Some(frames) => frames.pass(bytes, is_draining),
            None => bytes.len(),
        };
        self.write_tunnel(key, &bytes[..length]);
        self.pool.take_back(data);
        if is_draining {
            self.dismiss_tunnel(key);
        }
        if is_last {
            self.tunnel_down_ended(key);
        }
    }

    fn write_tunnel(&mut self, key: u64, bytes: &[u8]) {
        let Some(state) = self.exchanges.get_mut(key) else { return };
        if state.stream != 0 {
            return self.write_stream(key, bytes, false);
        }
        let connection_key = state.connection;
        if let Some(connection) = self.connections.get_mut(connection_key) {
            state.sent += bytes.len() as u64;
            connection.wire.send(&[bytes]);
        }
        self.sent(key, connection_key);
    }

    /// O-21: tells the client of a tunnel that we are going away, as soon as that does not fall into a frame of the upstream,
    /// which has nothing more to say then. The client's answer goes up, and with it the upstream knows.
    pub(crate) fn dismiss_tunnel(&mut self, key: u64) {
        let Some(state) = self.exchanges.get_mut(key) else { return };
        let is_between = state.frames.as_ref().is_some_and(|frames| frames.is_between());
        if is_between && !std::mem::replace(&mut state.is_dismissed, true) {
            self.write_tunnel(key, &GOING_AWAY);
        }
    }

    /// The upstream has ended its side: with it the tunnel ends.
    pub(crate) fn tunnel_down_ended(&mut self, key: u64) {
        let Some(state) = self.exchanges.get_mut(key) else { return };
        if state.stream != 0 {
            return self.write_stream(key, &[], true);
        }
        let connection = state.connection;
        state.answer = Answer::Ended;
        self.sent(key, connection);
    }

    // ── idle ──

    /// H-80: nothing came from either side of the tunnel that a connection has become.
    pub(crate) fn tunnel_idle(&mut self, connection: u64) {
        let Some(state) = self.connections.get(connection) else { return };
        let exchange = state.exchange();
        self.end_exchange(exchange, End::Truncated, Some(idle()));
        self.close_connection(connection, End::Truncated);
    }

    /// The same for a stream; its connection goes on.
    pub(crate) fn end_idle_tunnels(&mut self, exchanges: &[u64]) {
        let idle_ms = self.limits.tunnel_idle_ms;
        for key in exchanges {
            let is_idle = |front: &Front| {
                let state = front.exchanges.get(*key)?;
                Some(state.tunnel && front.now_ms.saturating_sub(state.moved_ms) >= idle_ms)
            };
            if idle_ms > 0 && is_idle(self) == Some(true) {
                self.break_off(*key, End::Truncated, Some(idle()));
            }
        }
    }
}

fn idle() -> Failure {
    Failure {
        reason: Reason::IdleTimeout,
        detail: "nothing came from either side".to_owned(),
        not_processed: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_94_keys_are_new_and_answered_as_rfc_6455_says() {
        assert_eq!(websocket_accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let (one, two) = (new_key().unwrap_or_default(), new_key().unwrap_or_default());
        assert_eq!(STANDARD.decode(&one).map(|bytes| bytes.len()), Ok(16));
        assert_ne!(one, two);
    }
}
