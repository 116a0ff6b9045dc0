//! Standing relays: what the gateway has decided once for every request of a host, so that it need not be asked again.
//!
//! A request that leaves nothing to decide goes up when it is read, and is told of when it is over. Everything else is told
//! as always: a request of another form, a leg that fails before an answer ([`Event::StandingFailed`]), and whatever comes
//! after the number has changed that the decision rests on. Source: O-67 … O-69, H-55, H-57, H-66 … H-68.

use std::collections::HashMap;
use std::io::Write;
use std::net::IpAddr;

use sallyport_http1::{CheckedHead, RECEIVED_LINE};
use sallyport_upstream::{are_fields, Failure, RequestHead, Slab, TargetId, Use};

use crate::edits::{Edits, KeptEdits};
use crate::event::{ConnectionId, End, Event, ExchangeId, Request, Version};
use crate::front::Front;
use crate::ids::IdSource;

/// At a time.
pub const MOST_STANDING: usize = 256;

/// A standing relay; 0 is never one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StandingId(pub u64);

/// What is done with requests that come in on one listener, for one host.
#[derive(Clone, Copy, Debug)]
pub struct StandingRelay<'a> {
    /// The listener.
    pub listener: u32,
    /// The Host field as clients send it, byte for byte.
    pub host: &'a [u8],
    /// Where they go.
    pub target: TargetId,
    /// Lines behind `x-forwarded-for` and before `x-request-id`, the same for all.
    pub lines: &'a [u8],
    /// What [`Front::rest_on`] gave when this was decided: with any other number it does not hold.
    pub version: i32,
}

/// The end of a request that was not told of before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StandingEnd {
    /// By which relay it went up.
    pub relay: StandingId,
    /// When its head was complete; then it was sent, too.
    pub received_at_ms: f64,
    /// HEAD, else GET.
    pub is_head: bool,
}

/// A request that went up by a standing relay, told of after all.
#[derive(Clone, Debug, PartialEq)]
pub struct Announced {
    /// As `Event::Request` has it.
    pub request: Request,
    /// By which relay it went up.
    pub relay: StandingId,
    /// What it went up with.
    pub request_id: Vec<u8>,
    /// Likewise.
    pub traceparent: Vec<u8>,
}

struct Relay {
    listener: u32,
    host: Box<[u8]>,
    target: TargetId,
    lines: Box<[u8]>,
    version: i32,
    /// Requests whose end is still to be told.
    in_flight: usize,
    is_withdrawn: bool,
}

/// Relays by the Host that they stand for.
type Hosts = HashMap<Box<[u8]>, u64>;

/// Those of a front end.
pub(crate) struct Standing {
    relays: Slab<Relay>,
    /// Listener, and host to relay: of those that hold.
    hosts: Vec<(u32, Hosts)>,
    count: usize,
    in_flight: usize,
    version: Option<Box<dyn Fn() -> i32>>,
    ids: IdSource,
    space: Vec<u8>,
    /// What was found last; most requests are for the same host as the one before.
    last: u64,
}

impl Standing {
    pub(crate) fn new() -> Self {
        Standing {
            relays: Slab::new(),
            hosts: Vec::new(),
            count: 0,
            in_flight: 0,
            version: None,
            ids: IdSource::new(),
            space: Vec::new(),
            last: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The relay for a head, if there is one and the head leaves nothing to decide.
    fn find(&mut self, listener: u32, head: &[u8]) -> Option<u64> {
        let host = plain_host(head)?;
        let is_it = |relay: &Relay| {
            relay.listener == listener && *relay.host == *host && !relay.is_withdrawn
        };
        if !self.relays.get(self.last).is_some_and(is_it) {
            let relays = &self.hosts.iter().find(|(id, _)| *id == listener)?.1;
            self.last = *relays.get(host)?;
        }
        let version = self.version.as_ref()?();
        (self.relays.get(self.last)?.version == version).then_some(self.last)
    }

    /// The end of a request has been told.
    pub(crate) fn told(&mut self, relay: StandingId) {
        let Some(state) = self.relays.get_mut(relay.0) else { return };
        state.in_flight -= 1;
        self.in_flight -= 1;
        if state.is_withdrawn && state.in_flight == 0 {
            self.relays.remove(relay.0);
        }
    }
}

/// The Host of a request that is GET or HEAD for a path that nobody can read in two ways (`src/exchange/request-url.ts`).
fn plain_host(head: &[u8]) -> Option<&[u8]> {
    let target = head.strip_prefix(b"GET ").or_else(|| head.strip_prefix(b"HEAD "))?;
    let mut before = 0;
    let mut end = None;
    for (at, byte) in target.iter().enumerate() {
        match byte {
            b'?' | b' ' => {
                end = Some(at);
                break;
            }
            b'%' => return None,
            b'/' | b'.' if before == b'/' => return None,
            _ => before = *byte,
        }
    }
    let rest = &target[end?..];
    // Usually it is the first field.
    let line_end = memchr::memchr(b'\r', rest)?;
    if let Some(value) = rest[line_end..].strip_prefix(b"\r\nhost: ") {
        return Some(&value[..memchr::memchr(b'\r', value)?]);
    }
    // A line's end is none of a value's bytes, so this is where the field is.
    let start = memchr::memmem::find(rest, b"\r\nhost: ")? + b"\r\nhost: ".len();
    let length = memchr::memchr(b'\r', &rest[start..])?;
    Some(&rest[start..start + length])
}

/// As `Display` has it.
fn write_address(text: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        // Cannot fail: it grows.
        let _ = write!(text, "{address}");
        return;
    };
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            text.push(b'.');
        }
        if octet >= 100 {
            text.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            text.push(b'0' + octet / 10 % 10);
        }
        text.push(b'0' + octet % 10);
    }
}

impl Front {
    /// What tells whether standing relays still hold: a number that changes when anything does that decisions rest on. Asked for
    /// each request, on the front end's thread.
    pub fn rest_on(&mut self, version: Box<dyn Fn() -> i32>) {
        self.standing.version = Some(version);
    }

    /// Requests go up by it from now on, until it is withdrawn. One for the same host is withdrawn. `None`: that is not possible.
    pub fn stand(&mut self, relay: StandingRelay<'_>) -> Option<StandingId> {
        let StandingRelay { listener, host, target, lines, version } = relay;
        if self.standing.version.is_none() || host.is_empty() || !are_fields(lines) {
            return None;
        }
        if let Some((_, relays)) = self.standing.hosts.iter().find(|(id, _)| *id == listener) {
            if let Some(key) = relays.get(host) {
                let before = StandingId(*key);
                self.withdraw(before);
            }
        }
        let standing = &mut self.standing;
        if standing.count >= MOST_STANDING {
            return None;
        }
        let key = standing.relays.insert(Relay {
            listener,
            host: host.into(),
            target,
            lines: lines.into(),
            version,
            in_flight: 0,
            is_withdrawn: false,
        })?;
        let place = standing.hosts.iter().position(|(id, _)| *id == listener);
        let place = place.unwrap_or_else(|| {
            standing.hosts.push((listener, HashMap::new()));
            standing.hosts.len() - 1
        });
        standing.hosts[place].1.insert(host.into(), key);
        standing.count += 1;
        Some(StandingId(key))
    }

    /// No more requests go up by it. Returns how many are under way whose end is still to be told.
    pub fn withdraw(&mut self, relay: StandingId) -> usize {
        let standing = &mut self.standing;
        let Some(state) = standing.relays.get_mut(relay.0) else { return 0 };
        let in_flight = state.in_flight;
        if std::mem::replace(&mut state.is_withdrawn, true) {
            return in_flight;
        }
        standing.count -= 1;
        if let Some(place) = standing.hosts.iter().position(|(id, _)| *id == state.listener) {
            standing.hosts[place].1.remove(&state.host);
            if standing.hosts[place].1.is_empty() {
                standing.hosts.swap_remove(place);
            }
        }
        if in_flight == 0 {
            standing.relays.remove(relay.0);
        }
        in_flight
    }

    /// Requests that are under way by a relay, or by all.
    pub fn standing_in_flight(&self, relay: Option<StandingId>) -> usize {
        match relay {
            None => self.standing.in_flight,
            Some(relay) => self.standing.relays.get(relay.0).map_or(0, |state| state.in_flight),
        }
    }

    /// Closes the connections of those that are under way by a relay.
    pub fn abort_standing(&mut self, relay: StandingId) {
        self.look_at_clock();
        for key in self.exchanges.keys().collect::<Vec<_>>() {
            if self.exchanges.get(key).is_some_and(|state| state.standing == relay.0) {
                self.break_off(key, End::Aborted, None);
            }
        }
    }

    /// Sends a request up by the relay that stands for it, with `head` as it was read. `Err`: there is none, or something is to be
    /// decided; the head is given back.
    pub(crate) fn send_standing(
        &mut self,
        id: u64,
        head: Vec<u8>,
        connection_lines: &[u8],
    ) -> Result<(), Vec<u8>> {
        let Some(state) = self.exchanges.get(id) else { return Err(head) };
        if self.is_draining || connection_lines.starts_with(RECEIVED_LINE) {
            return Err(head);
        }
        let Some(connection) = self.connections.get(state.connection) else { return Err(head) };
        if connection.proxied.is_some() || connection.wire.is_tls() {
            return Err(head);
        }
        let Some(key) = self.standing.find(state.listener, &head) else { return Err(head) };
        let Some(relay) = self.standing.relays.get_mut(key) else { return Err(head) };
        if !self.pool.takes_requests(relay.target) {
            return Err(head);
        }
        let Some(ids) = self.standing.ids.next(self.now_ms) else { return Err(head) };
        let request_id = ids.request_id();
        let mut lines = std::mem::take(&mut self.standing.space);
        lines.clear();
        lines.extend_from_slice(b"x-request-id: ");
        lines.extend_from_slice(&request_id);
        lines.extend_from_slice(b"\r\n");
        let space = self.spare.pop().unwrap_or_default();
        let edits = Edits { lines: &lines, ..Edits::default() };
        let pass = Some(KeptEdits::new(edits, space));
        lines.clear();
        lines.extend_from_slice(b"x-forwarded-for: ");
        write_address(&mut lines, connection.peer.ip());
        lines.extend_from_slice(b"\r\n");
        lines.extend_from_slice(&relay.lines);
        lines.extend_from_slice(b"x-request-id: ");
        lines.extend_from_slice(&request_id);
        lines.extend_from_slice(b"\r\ntraceparent: ");
        lines.extend_from_slice(&ids.traceparent());
        lines.extend_from_slice(b"\r\n");
        let target = relay.target;
        relay.in_flight += 1;
        self.standing.in_flight += 1;
        let Some(state) = self.exchanges.get_mut(id) else { return Err(head) };
        state.standing = key;
        state.ids = ids;
        state.pass = pass;
        let purpose = Use {
            interim: true,
            says_zero: state.says_zero,
            trailers: state.accepts_trailers,
            ..Use::default()
        };
        // Those of the relay were looked at when they came; an address and ids are plain text.
        let request = RequestHead::behind_known(CheckedHead::written(&head), &lines);
        let sent = self.pool.send_for(target, request, Ok(b""), purpose);
        state.head = head;
        // The time at which it was sent.
        let received_at_ms = self.clock_at(self.pool.now());
        let Some(state) = self.exchanges.get_mut(id) else { return Ok(()) };
        state.received_at_ms = received_at_ms;
        self.standing.space = lines;
        // Never a bad head: these lines are ours, and were looked at.
        let _ = self.started(id, sent);
        Ok(())
    }

    /// The answer of a request that nobody knows of has left, and its body is still coming.
    pub(crate) fn passed_standing(&mut self, key: u64, status: u16) {
        let Some(state) = self.exchanges.get(key) else { return };
        self.push(Event::StandingPassed {
            relay: StandingId(state.standing),
            status,
            elapsed_ms: state.first_byte_at_ms - state.received_at_ms,
        });
    }

    /// It failed before there was an answer: what to do about it is for the gateway to say.
    pub(crate) fn failed_standing(&mut self, key: u64, failure: Failure) {
        self.push(Event::StandingFailed { exchange: ExchangeId(key), failure });
    }

    /// What `StandingFailed` told of is an exchange like others from now on.
    pub fn announce(&mut self, exchange: ExchangeId) -> Option<Announced> {
        let state = self.exchanges.get_mut(exchange.0)?;
        if state.standing == 0 {
            return None;
        }
        let relay = StandingId(std::mem::take(&mut state.standing));
        let request = Request {
            head: state.head.clone(),
            connection_lines: Vec::new(),
            body_length: 0,
            proxy_fields: false,
            version: Version::Http11,
            listener: state.listener,
            connection: ConnectionId(state.connection),
            received_at_ms: state.received_at_ms,
        };
        let (request_id, traceparent) =
            (state.ids.request_id().to_vec(), state.ids.traceparent().to_vec());
        self.standing.told(relay);
        Some(Announced { request, relay, request_id, traceparent })
    }
}

#[cfg(test)]
mod tests {
    use super::{plain_host, write_address};

    #[test]
    fn o_69_addresses_are_written_as_everywhere_else() {
        for text in ["0.0.0.0", "127.0.0.1", "10.20.99.100", "255.249.9.19", "::1", "2001:db8::a:0"]
        {
            let mut written = Vec::new();
            write_address(&mut written, text.parse().expect("an address"));
            assert_eq!(String::from_utf8_lossy(&written), text);
        }
    }

    #[test]
    fn h_66_h_67_h_68_only_heads_that_leave_nothing_to_decide_have_a_host_here() {
        let host = |line: &str| {
            let head = format!("{line} HTTP/1.1\r\naccept: host: x\r\nhost: a.b:80\r\n");
            plain_host(head.as_bytes()).map(|host| String::from_utf8_lossy(host).into_owned())
        };
        for plain in ["GET /", "HEAD /", "GET /a/b.c?d=%2e/../x", "GET /a.b/c..d", "GET /?"] {
            assert_eq!(host(plain).as_deref(), Some("a.b:80"), "{plain}");
        }
        for other in [
            "POST /",
            "OPTIONS *",
            "GET /%2e",
            "GET /a%00",
            "GET /.",
            "GET /a/../b",
            "GET /a//b",
            "GET //",
            "GETX /",
            "get /",
            "GET /a/.b",
        ] {
            assert_eq!(host(other), None, "{other}");
        }
        assert_eq!(plain_host(b"GET / HTTP/1.1\r\na: b\r\n"), None);
        assert_eq!(plain_host(b"GET /"), None);
    }
}
