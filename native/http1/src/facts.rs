//! What a listener allows of a request's head, and what a head says beside its text.
//!
//! Source: RFC 9112 §6, §7.8, §9.3; H-08, H-13, H-14, H-28, H-36, H-53, H-60, H-61, H-90.

/// What a listener allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRules {
    /// H-13: request target; beyond it 414.
    pub uri_bytes: usize,
    /// H-14: whole header section, line ends included; beyond it 431.
    pub head_bytes: usize,
    /// H-14: header lines; beyond it 431.
    pub fields: usize,
    /// H-36: announced body; 0 = unlimited, beyond it 413.
    pub body_bytes: u64,
    /// The scheme that a target in absolute-form must name is https, not http.
    pub is_https: bool,
    /// Upgrades to something else than a WebSocket are let through (H-60); false = they are refused with 501.
    pub other_upgrades: bool,
}

impl Default for RequestRules {
    /// The defaults of `gateway.yaml`, for a plain listener.
    fn default() -> Self {
        RequestRules {
            uri_bytes: 16_384,
            head_bytes: 65_536,
            fields: 200,
            body_bytes: 0,
            is_https: false,
            other_upgrades: false,
        }
    }
}

/// HTTP/1.2 and above are 1.1 for us (H-08).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// No chunks in either direction, no interim answers, one request unless `keep-alive` is asked for.
    Http10,
    /// Everything else.
    Http11,
}

/// How the body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither a length nor chunks: no body.
    None,
    /// So many bytes follow; 0 was announced as such (H-28).
    Length(u64),
    /// Chunks follow.
    Chunked,
}

/// What the connection is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing else.
    None,
    /// A WebSocket; the handshake is a valid one (H-90).
    WebSocket,
    /// Something else, and the rules let it through.
    Other,
}

/// A head that may go on, beside its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Bytes it took, empty lines before it included. What follows is its body or the next request.
    pub consumed: usize,
    /// As the client sent it; the text always says 1.1 (H-09).
    pub version: Version,
    /// The answer has no body (H-31).
    pub is_head: bool,
    /// Of the body that follows.
    pub framing: Framing,
    /// The connection may be used again after the answer, as far as the client is concerned (H-53).
    pub keep_alive: bool,
    /// The client waits for `100 Continue` (H-61).
    pub expects_continue: bool,
    /// See [`Upgrade`]; the text then ends in the `connection` and `upgrade` lines of the handshake.
    pub upgrade: Upgrade,
    /// The client takes trailers: `TE: trailers`.
    pub accepts_trailers: bool,
    /// A field of the text is one that proxies write (`x-…`, `forwarded`, `via`, `traceparent`, `tracestate`).
    pub proxy_fields: bool,
    /// The text has a `host` line: false for some requests of HTTP/1.0 only.
    pub has_host: bool,
}

/// What is done with the lines of a head.
pub(crate) trait Lines<'a> {
    fn request_line(&mut self, method: &'a [u8], target: &'a [u8], version: Version);
    fn field(&mut self, name: &'a [u8], value: &'a [u8]);
}
