//! Fields that a trailer section may not carry on. Source: RFC 9110 §6.5.1; H-26.

use crate::connection::is_hop_by_hop;

/// Whether a trailer field (lower-case name) is dropped: framing, routing, authentication, caching, content, cookies,
/// request modifiers, and everything that gateways write or trust.
pub fn is_dropped(name: &[u8]) -> bool {
    is_hop_by_hop(name)
        || matches!(
            name,
            b"host"
                | b"max-forwards"
                | b"expect"
                | b"range"
                | b"authorization"
                | b"www-authenticate"
                | b"authentication-info"
                | b"cookie"
                | b"set-cookie"
                | b"age"
                | b"cache-control"
                | b"date"
                | b"etag"
                | b"expires"
                | b"last-modified"
                | b"location"
                | b"pragma"
                | b"retry-after"
                | b"vary"
                | b"warning"
                | b"via"
                | b"forwarded"
                | b"x-real-ip"
                | b"x-request-id"
                | b"traceparent"
                | b"tracestate"
        )
        || name.starts_with(b"content-")
        || name.starts_with(b"if-")
        || name.starts_with(b"proxy-")
        || name.starts_with(b"x-forwarded-")
        || name.contains(&b'_')
}
