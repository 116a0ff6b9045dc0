//! What is kept of a client's connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sallyport_http1::{BodyReader, RequestReader};

use crate::http2::Http2;
use crate::wire::Wire;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A PROXY protocol header comes first.
    Proxy,
    /// Between requests, or inside a head.
    Head,
    /// The body of the present request comes, or what is left of it is thrown away.
    Body,
    /// The request is complete, its answer is not: what follows stays unread (H-51).
    Answer,
    /// HTTP/2: several exchanges at a time.
    Streams,
    /// Bytes pass both ways as they are (H-60).
    Tunnel,
    /// Everything is said; what still comes is thrown away (H-37).
    Linger,
}

/// How an answer's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// None follows.
    Empty,
    /// So many bytes are to come.
    Length(u64),
    Chunked,
    /// HTTP/1.0: its end is the connection's.
    UntilClose,
}

/// One exchange after the other: how every connection begins.
pub(crate) struct Http1 {
    pub(crate) reader: RequestReader,
    pub(crate) body: Option<BodyReader>,
    /// The present exchange; 0 = none.
    pub(crate) exchange: u64,
    pub(crate) coding: Coding,
    /// The connection ends with the present answer.
    pub(crate) closes: bool,
}

impl Http1 {
    pub(crate) fn new() -> Self {
        Http1 {
            reader: RequestReader::new(),
            body: None,
            exchange: 0,
            coding: Coding::Empty,
            closes: false,
        }
    }
}

pub(crate) struct Connection {
    pub(crate) wire: Wire,
    http1: Http1,
    /// It has become one of HTTP/2; everything that an exchange does to its client asks by its stream.
    pub(crate) http2: Option<Box<Http2>>,
    pub(crate) listener: u32,
    pub(crate) peer: SocketAddr,
    /// Source and destination that a PROXY header named.
    pub(crate) proxied: Option<Box<(SocketAddr, SocketAddr)>>,
    pub(crate) phase: Phase,
    /// Bytes that were read and not used yet: a part of a head, or requests that wait.
    pub(crate) input: Vec<u8>,
    /// The socket may have bytes, as far as is known.
    pub(crate) is_readable: bool,
    /// Nobody wants more of the request's body at present.
    pub(crate) is_paused: bool,
    /// The client has ended its side, or is gone.
    pub(crate) is_ended: bool,
    /// When something last came of the client.
    pub(crate) heard_ms: u64,
    /// It has had a request.
    pub(crate) is_used: bool,
    /// What is thrown away of a body, or of whatever comes while the connection lingers.
    pub(crate) discarded: usize,
    /// 0 = off.
    pub(crate) deadline_ms: u64,
    /// Where the wheel has it; 0 = nowhere.
    pub(crate) wheel_tick: u64,
    /// Progress of an upload or of a slow reader (H-83).
    pub(crate) window_start_ms: u64,
    pub(crate) window_bytes: u64,
}

impl Connection {
    pub(crate) fn new(wire: Wire, listener: u32, peer: SocketAddr, phase: Phase) -> Self {
        Connection {
            wire,
            http1: Http1::new(),
            http2: None,
            listener,
            peer,
            proxied: None,
            phase,
            input: Vec::new(),
            is_readable: false,
            is_paused: false,
            is_ended: false,
            heard_ms: 0,
            is_used: false,
            discarded: 0,
            deadline_ms: 0,
            wheel_tick: 0,
            window_start_ms: 0,
            window_bytes: 0,
        }
    }

    pub(crate) fn http1(&mut self) -> &mut Http1 {
        &mut self.http1
    }

    /// The present exchange of a connection that has one at a time; 0 = none.
    pub(crate) fn exchange(&self) -> u64 {
        self.http1.exchange
    }

    pub(crate) fn wants_read(&self) -> bool {
        match self.phase {
            Phase::Proxy | Phase::Head | Phase::Linger => true,
            Phase::Body | Phase::Tunnel => !self.is_paused,
            Phase::Answer => false,
            Phase::Streams => self.http2.as_ref().is_some_and(|http2| http2.h2.wants_input()),
        }
    }

    /// Bytes in `input` may be looked at.
    pub(crate) fn may_use_input(&self) -> bool {
        !self.input.is_empty() && self.phase != Phase::Answer && self.wants_read()
    }
}

/// IPv4 clients of a socket for both families by their own address.
pub(crate) fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(IpAddr::V4(ip), address.port()),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

/// Where nobody is known.
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
