//! Hop-by-hop fields: which ones stop here, and which ones `Connection` may never take away.
//! Source: RFC 9110 §7.6.1; H-50, H-52, T-16.

use crate::bytes::{is_token, trim};

/// Whether a field (lower-case name) is removed whatever `Connection` says, in both directions.
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"keep-alive"
            | b"proxy-connection"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"proxy-authentication-info"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
            | b"http2-settings"
    )
}

/// Whether `Connection` must not name this field (lower-case): it travels end to end, or a gateway relies on it.
fn is_protected(name: &[u8]) -> bool {
    matches!(
        name,
        b"host"
            | b"content-length"
            | b"content-type"
            | b"content-encoding"
            | b"content-range"
            | b"authorization"
            | b"cookie"
            | b"set-cookie"
            | b"cache-control"
            | b"via"
            | b"forwarded"
            | b"x-real-ip"
            | b"x-request-id"
            | b"traceparent"
            | b"tracestate"
            | b"date"
            | b"expect"
            | b"location"
            | b"range"
    ) || name.starts_with(b"x-forwarded-")
}

/// What the `Connection` lines of one message ask for.
#[derive(Debug, Default)]
pub struct ConnectionOptions {
    /// `close` is among them.
    pub close: bool,
    /// `keep-alive` is among them.
    pub keep_alive: bool,
    /// `upgrade` is among them.
    pub upgrade: bool,
    /// A member is no token.
    pub is_invalid: bool,
    /// A member is a field that `Connection` may not name (H-52).
    pub is_abuse: bool,
    /// Further fields to remove, in lower case, each followed by a comma. Empty in nearly every message.
    named: Vec<u8>,
}

impl ConnectionOptions {
    /// Reads one line's value. Empty members are skipped, as RFC 9110 §5.6.1 asks of recipients.
    pub fn read(&mut self, value: &[u8]) {
        for member in value.split(|byte| *byte == b',') {
            let member = trim(member);
            if member.is_empty() {
                continue;
            }
            if member.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if member.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if member.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !is_token(member) {
                self.is_invalid = true;
            } else {
                let start = self.named.len();
                self.named.extend(member.iter().map(u8::to_ascii_lowercase));
                let name = &self.named[start..];
                self.is_abuse |= is_protected(name);
                if is_hop_by_hop(name) {
                    self.named.truncate(start);
                } else {
                    self.named.push(b',');
                }
            }
        }
    }

    /// Fields to remove beside those that are always removed: `name,name,` in lower case.
    pub fn named(&self) -> &[u8] {
        &self.named
    }

    /// Makes ready for another message; the buffer is kept.
    pub fn clear(&mut self) {
        let mut named = std::mem::take(&mut self.named);
        named.clear();
        *self = ConnectionOptions { named, ..ConnectionOptions::default() };
    }
}

/// Moves the lines of the named fields (`name,name,`, lower case) out of flat `name: value\r\n` lines, from `start` on,
/// to the end of `removed`. Fields that `keeps` claims stay.
pub fn remove_named(
    lines: &mut Vec<u8>,
    start: usize,
    named: &[u8],
    keeps: fn(&[u8]) -> bool,
    removed: &mut Vec<u8>,
) {
    // Sorted: a list as long as a head may be, against a head full of fields, must stay cheap (T-21).
    let mut names: Vec<&[u8]> =
        named.split(|byte| *byte == b',').filter(|name| !name.is_empty() && !keeps(name)).collect();
    names.sort_unstable();
    let (mut from, mut to) = (start, start);
    while from < lines.len() {
        let end = memchr::memchr(b'\n', &lines[from..]).map_or(lines.len(), |at| from + at + 1);
        let name_end = memchr::memchr(b':', &lines[from..end]).map_or(end, |at| from + at);
        if names.binary_search(&&lines[from..name_end]).is_ok() {
            removed.extend_from_slice(&lines[from..end]);
        } else {
            lines.copy_within(from..end, to);
            to += end - from;
        }
        from = end;
    }
    lines.truncate(to);
}
