//! What the pool tells: events of requests under way, and why they fail. Source: H-70, H-84.

use bytes::Bytes;

use crate::slab::slot_of;

/// A request under way. [`LegId::slot`] is unique among those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LegId(pub u64);

impl LegId {
    /// Its place: small, and not used by another leg until this one's last event.
    pub fn slot(self) -> u32 {
        slot_of(self.0)
    }
}

/// Why a leg failed (H-84).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// No connection came about.
    ConnectFailed = 0,
    /// Not in time.
    ConnectTimeout = 1,
    /// The connection ended before the answer did.
    Reset = 2,
    /// The answer is not HTTP/1.1 as it must be.
    BadResponse = 3,
    /// No final head in time.
    FirstByteTimeout = 4,
    /// The body stood still for too long.
    IdleTimeout = 5,
    /// Too many requests wait for a connection, or this one did for too long, or there is nothing left here to make one of.
    Overflow = 6,
    /// The handshake failed: the peer is not who it should be, or does not speak TLS.
    TlsFailed = 7,
    /// The same, because the peer speaks a TLS that this library does not: another one may get along with it.
    TlsIncompatible = 8,
}

/// How a leg failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class.
    pub reason: Reason,
    /// For logs.
    pub detail: String,
    /// The upstream cannot have begun to process the request (H-70).
    pub not_processed: bool,
}

/// Facts of a final head; its text is [`Pool::head`](crate::Pool::head).
pub use crate::response::FinalHead as HeadFacts;

/// What happened to a leg; several things of one read come together, in the order of the fields. After `ended` or
/// `failure` nothing more comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose event.
    pub leg: LegId,
    /// The leg got its connection; true = one that had carried a request before.
    pub connected: Option<bool>,
    /// Body may be written.
    pub writable: bool,
    /// Interim answers: [`Pool::interim`]. Only for legs that asked for them.
    pub interim: bool,
    /// The final head is complete.
    pub head: Option<HeadFacts>,
    /// [`Pool::head`] is ready to leave, as [`Pool::relay`] allowed; the whole answer is in this event.
    pub is_passed: bool,
    /// There is body data: [`Pool::data`].
    pub has_data: bool,
    /// The answer is complete.
    pub ended: bool,
    /// It had trailers: [`Pool::trailers`]. Only for legs that asked for them.
    pub has_trailers: bool,
    /// The leg is over.
    pub failure: Option<Failure>,
}

impl Event {
    pub(crate) fn new(leg: u64) -> Self {
        Event {
            leg: LegId(leg),
            connected: None,
            writable: false,
            interim: false,
            head: None,
            is_passed: false,
            has_data: false,
            ended: false,
            has_trailers: false,
            failure: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connected.is_none()
            && !self.writable
            && !self.interim
            && self.head.is_none()
            && !self.has_data
            && !self.ended
            && self.failure.is_none()
    }
}

/// Body data of an event, apart from the pool it came from.
pub struct Lent {
    pub(crate) bytes: Vec<u8>,
    pub(crate) data: (usize, usize),
    pub(crate) piece: Option<Bytes>,
}

impl Lent {
    /// The data.
    pub fn bytes(&self) -> &[u8] {
        if let Some(piece) = &self.piece {
            return piece;
        }
        &self.bytes[self.data.0..self.data.1]
    }
}
