//! What the bytes of a client mean when they are read at once: the front end may tell of nothing else.

use sallyport_http1::proxy::read_proxy_header;
use sallyport_http1::{RequestRules, Upgrade};

use crate::connection::{play, Played};

pub(super) struct Reference {
    pub(super) requests: Vec<Played>,
    /// Bytes behind a request that asks for a WebSocket, where there is one.
    pub(super) tunnel: Vec<u8>,
    /// The connection is HTTP/2's, or may become so: nothing else is said about it.
    pub(super) is_http2: bool,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Reference {
    pub(super) fn new(bytes: &[u8], rules: &RequestRules, has_proxy_header: bool) -> Self {
        let mut reference = Reference { requests: Vec::new(), tunnel: Vec::new(), is_http2: false };
        let mut bytes = bytes;
        if has_proxy_header {
            match read_proxy_header(bytes) {
                Ok(Some(header)) => bytes = &bytes[header.consumed..],
                Ok(None) | Err(_) => return reference,
            }
        }
        let start = bytes.len().min(PREFACE.len());
        if start > 0 && bytes[..start] == PREFACE[..start] {
            reference.is_http2 = true;
            return reference;
        }
        let mut played = play(&[bytes], rules);
        if played.refusal.is_some() && played.requests.last().is_some_and(|one| !one.is_complete) {
            // of a body that ends in a fault as much goes on as was read before it
            played = play(&bytes.chunks(1).collect::<Vec<_>>(), rules);
        }
        reference.requests = played.requests;
        let is_upgrade = |one: &Played| one.facts.upgrade != Upgrade::None;
        if let Some(at) = reference.requests.iter().position(is_upgrade) {
            // behind it there are no requests: it is granted, or ends the connection
            reference.tunnel = bytes[reference.requests[at].body_at..].to_vec();
            reference.requests.truncate(at + 1);
        }
        reference
    }
}
