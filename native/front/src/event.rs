//! What a front end tells whoever drives it.

use sallyport_upstream::Failure;
use std::net::SocketAddr;

use crate::standing::{StandingEnd, StandingId};

/// A client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// A request and its answer; 0 is never one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExchangeId(pub u64);

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Version {
    /// HTTP/1.1.
    Http11 = 0,
    /// HTTP/1.0.
    Http10 = 1,
    /// HTTP/2.
    Http2 = 2,
}

/// A request whose head is complete. Texts as src/listener/front-end.ts has them: latin1 bytes, lower-case names, CRLF behind
/// every line, no empty line.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Request line and lines, without framing and hop-by-hop fields.
    pub head: Vec<u8>,
    /// The lines that `head` lacks.
    pub connection_lines: Vec<u8>,
    /// 0 = no body, -1 = chunked.
    pub body_length: i64,
    /// Some field is one that proxies write.
    pub proxy_fields: bool,
    /// As the client speaks it.
    pub version: Version,
    /// Where it came in.
    pub listener: u32,
    /// On which connection.
    pub connection: ConnectionId,
    /// When the head was complete, in milliseconds of the driver's clock.
    pub received_at_ms: f64,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// The answer went out whole.
    Complete = 0,
    /// The client was gone first.
    ClientAbort = 1,
    /// The answer broke off.
    Truncated = 2,
    /// We closed the connection.
    Aborted = 3,
}

/// What an exchange came to. Times in milliseconds of the driver's clock, 0 = never.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Sent downstream; 0 = nothing was.
    pub status: u16,
    /// Of the request's body.
    pub received_bytes: u64,
    /// Of the answer's body, given to the transport.
    pub sent_bytes: u64,
    /// How it ended.
    pub end: End,
    /// What ended the transfer after the head was out.
    pub failure: Option<Failure>,
    /// The present leg got its connection.
    pub connected_at_ms: f64,
    /// The upstream's head came.
    pub first_byte_at_ms: f64,
    /// Now.
    pub ended_at_ms: f64,
    /// The upstream connection had carried a request before.
    pub reused: bool,
    /// The rule by which we answered ourselves inside a request: `H-36` and the like; empty otherwise.
    pub rule: &'static str,
    /// It was a tunnel.
    pub tunnel: bool,
    /// The upstream's status, where its answer was sent on without a question and nothing has told so far; 0 otherwise.
    pub passed_status: u16,
    /// Nobody was told of its beginning.
    pub standing: Option<StandingEnd>,
}

/// A request that never became an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Where it came in.
    pub listener: u32,
    /// The client's address.
    pub peer: SocketAddr,
    /// Sent; 0 = closed without an answer.
    pub status: u16,
    /// The rule behind it: `H-20`.
    pub rule: &'static str,
    /// Method and target as far as they could be read.
    pub request_line: Vec<u8>,
}

/// One thing that happened. Events of an exchange come in order; `Done` is its last.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A client has connected; `Front::refuse` turns it away. Only when `Front::ask_connect` was called.
    Connected {
        /// The listener it came to.
        listener: u32,
        /// What to call it.
        connection: ConnectionId,
    },
    /// A request: forward it, or answer it, now or later.
    Request(ExchangeId, Box<Request>),
    /// Answer to `read_request_body` and `hold_request_body`: `Front::request_body` has the bytes.
    RequestBody {
        /// Whose.
        exchange: ExchangeId,
        /// Nothing follows.
        is_complete: bool,
        /// It was asked for to be held.
        is_held: bool,
    },
    /// The upstream's final head: `Front::response_head` has its text. Nothing is sent before `continue_response` or `respond`.
    Response {
        /// Whose.
        exchange: ExchangeId,
        /// 200 to 599, 101 where it was asked for.
        status: u16,
        /// 0 = no body follows, -1 = unknown.
        body_length: i64,
    },
    /// Answer to `read_response_body` and `hold_response_body`: `Front::response_body` has the bytes.
    ResponseBody {
        /// Whose.
        exchange: ExchangeId,
        /// Nothing follows.
        is_complete: bool,
        /// It was asked for to be held.
        is_held: bool,
    },
    /// What somebody put into a [`Mailbox`](crate::Mailbox) of this front end.
    Note {
        /// The sender's number for it.
        ticket: u32,
        /// What it says.
        answer: f64,
    },
    /// A piece of the upstream's body, for the filter.
    FilterData {
        /// Whose.
        exchange: ExchangeId,
        /// The piece.
        data: Vec<u8>,
    },
    /// The upstream's body is complete.
    FilterEnd {
        /// Whose.
        exchange: ExchangeId,
    },
    /// The client takes more of what the filter makes.
    FilterWritable {
        /// Whose.
        exchange: ExchangeId,
    },
    /// The leg failed, and nothing was sent to the client.
    UpstreamFailed {
        /// Whose.
        exchange: ExchangeId,
        /// How.
        failure: Failure,
        /// The request's body, or a part of it, is gone.
        body_consumed: bool,
    },
    /// The upstream's answer was sent on without a question, and its body is still coming.
    Passed {
        /// Whose.
        exchange: ExchangeId,
        /// Of the upstream.
        status: u16,
        /// When its head came.
        first_byte_at_ms: f64,
    },
    /// The answer of a request that went up by a standing relay was sent on, and its body is still coming.
    StandingPassed {
        /// By which.
        relay: StandingId,
        /// Of the upstream.
        status: u16,
        /// How long it took to come.
        elapsed_ms: f64,
    },
    /// The leg of such a request failed, and nothing was sent to the client: `Front::announce` tells of it.
    StandingFailed {
        /// Which.
        exchange: ExchangeId,
        /// How.
        failure: Failure,
    },
    /// See `Front::reject`.
    Rejected(ExchangeId),
    /// The exchange is over.
    Done(ExchangeId, Box<Record>),
    /// Exchanges are over, as they should: `Front::take_ended` has them. Told once for many.
    Ended,
    /// A request was refused by its form.
    Refused(Box<Refused>),
}
