//! WebSockets to targets that speak HTTP/2: a stream of a shared connection where the server takes extended CONNECT, and a
//! connection of HTTP/1.1 beside the others where it does not.
//!
//! To whoever asked it is one thing: a request to upgrade, answered by 101. Whether the server takes them is known from its
//! SETTINGS, for which the first request waits.
//!
//! Source: RFC 6455 §4.2.2; RFC 8441; H-60, H-94.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use sha1::{Digest, Sha1};

use crate::deadline::{after, Deadline};
use crate::event::{Event, HeadFacts, LegId, Reason};
use crate::head::RequestHead;
use crate::pool::Pool;
use crate::request::{write_request, Leg, RequestBody, Sent, Use};

/// RFC 6455 §1.3.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a server answers to the key of a handshake (RFC 6455 §4.2.2).
pub fn websocket_accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(MAGIC).finalize())
}

/// The same for the key in a head; empty without one.
pub(crate) fn accept_in(head: &[u8]) -> String {
    let mut lines = head.split(|byte| *byte == b'\n');
    let key = lines.find_map(|line| line.strip_prefix(b"sec-websocket-key: "));
    key.map_or(String::new(), |key| websocket_accept(key.trim_ascii()))
}

impl Pool {
    /// The server is known to take no WebSockets over HTTP/2.
    pub(crate) fn is_beside(&self, target_key: u64) -> bool {
        self.targets.get(target_key).is_some_and(|target| target.takes_connect == Some(false))
    }

    /// Asks for a WebSocket over a connection of HTTP/1.1, which is made for it.
    pub(crate) fn send_beside(
        &mut self,
        target_key: u64,
        head: RequestHead<'_>,
        purpose: Use,
    ) -> Sent {
        let mut out = self.spare.pop().unwrap_or_default();
        let body = write_request(&mut out, head, Ok(b""), purpose);
        let mut leg = Leg::new(target_key, false, out, body, purpose);
        leg.is_beside = true;
        let Some(key) = self.legs.insert(leg) else { return Sent::Overflow };
        self.open_beside(key);
        Sent::Later(LegId(key))
    }

    /// Bounded by how many WebSockets there may be, and not by `max_connections`: those of HTTP/2 never close for it.
    fn open_beside(&mut self, leg_key: u64) {
        let Some(leg) = self.legs.get(leg_key) else { return };
        let target_key = leg.target;
        let Some(target) = self.targets.get_mut(target_key) else { return };
        if target.tls_beside.is_none() {
            target.tls_beside =
                target.tls.as_ref().map(|(context, _)| context.speaking(b"http/1.1"));
        }
        self.open(target_key, leg_key);
    }

    /// A shared connection does not take a WebSocket: it does not say so yet, or it has said no.
    pub(crate) fn place_elsewhere(&mut self, key: u64, leg_key: u64) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(shared) = &mut connection.shared else { return };
        let Some(leg) = self.legs.get_mut(leg_key) else { return };
        leg.connection = 0;
        let Some(target) = self.targets.get_mut(leg.target) else { return };
        if shared.client.takes_connect().is_none() && !shared.client.is_closed() {
            shared.unsettled.push(leg_key);
            connection.expires = None;
            leg.deadline = after(now, target.options.first_byte, Deadline::FirstByte);
            return;
        }
        let Some(mine) = leg.shared.take() else { return };
        leg.is_beside = true;
        leg.out.clear();
        leg.body =
            write_request(&mut leg.out, RequestHead::whole(&mine.head), Ok(b""), leg.purpose);
        self.open_beside(leg_key);
    }

    /// The server has said what it takes, or it never will: what waited for that goes on.
    pub(crate) fn settle(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(shared) = &mut connection.shared else { return };
        let waiting = std::mem::take(&mut shared.unsettled);
        let answer = shared.client.takes_connect();
        let is_closed = shared.client.is_closed();
        if let Some(target) = self.targets.get_mut(connection.target) {
            target.takes_connect = answer.or(target.takes_connect);
        }
        for leg_key in waiting {
            if is_closed && answer != Some(false) {
                let detail = "the connection was closed before it could carry a WebSocket";
                self.fail(leg_key, Reason::Reset, detail.to_owned(), true);
            } else if self.place(key, leg_key) {
                let mut event = Event::new(leg_key);
                event.connected = Some(false);
                self.push(event);
            }
        }
    }

    /// The server agrees (2xx): told as 101, with the answer to the key as HTTP/1.1 would have it.
    pub(crate) fn opened_shared(&mut self, leg_key: u64, head: &[u8], told: &mut Event) {
        let Some(leg) = self.legs.get_mut(leg_key) else { return };
        let Some(mine) = &leg.shared else { return };
        leg.body = RequestBody::Tunnel;
        leg.streams = true;
        leg.deadline = None;
        self.head.clear();
        self.head.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        for line in head.split_inclusive(|byte| *byte == b'\n').skip(1) {
            if !line.starts_with(b"sec-websocket-accept:") {
                self.head.extend_from_slice(line);
            }
        }
        if !mine.accept.is_empty() {
            self.head.extend_from_slice(b"sec-websocket-accept: ");
            self.head.extend_from_slice(mine.accept.as_bytes());
            self.head.extend_from_slice(b"\r\n");
        }
        told.head = Some(HeadFacts { status: 101, body_length: -1, content_length: -1 });
    }

    /// What the log says of a WebSocket that went another way than its target is asked to.
    pub(crate) fn detail_of(&self, leg_key: u64, detail: String) -> String {
        match self.legs.get(leg_key) {
            Some(leg) if leg.is_beside => {
                format!("no WebSockets over HTTP/2 there, and over HTTP/1.1: {detail}")
            }
            _ => detail,
        }
    }
}
