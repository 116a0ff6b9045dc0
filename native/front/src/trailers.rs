//! What the head of a request says about its trailers: which ones it announces, and which ones stop here.
//!
//! Source: RFC 9110 §6.6.2, §7.6.1; H-26, H-50.

use sallyport_http1::{is_dropped, is_token, ConnectionOptions};

/// Of one request; empty for most.
#[derive(Debug, Default)]
pub(crate) struct TrailerRules {
    /// A `trailer` line, with CRLF, that names what may travel on; empty = nothing is announced.
    pub(crate) line: Vec<u8>,
    /// Fields that `Connection` names.
    named: ConnectionOptions,
}

impl TrailerRules {
    /// From the lines that were taken out of the head.
    pub(crate) fn of(connection_lines: &[u8]) -> Self {
        let mut rules = TrailerRules::default();
        for value in values(connection_lines, b"connection: ") {
            rules.named.read(value);
        }
        for name in values(connection_lines, b"trailer: ").flat_map(|value| value.split(is_comma)) {
            let name = name.trim_ascii().to_ascii_lowercase();
            if !is_token(&name) || is_dropped(&name) || rules.is_named(&name) {
                continue;
            }
            rules.line.extend_from_slice(if rules.line.is_empty() { b"trailer: " } else { b", " });
            rules.line.extend_from_slice(&name);
        }
        if !rules.line.is_empty() {
            rules.line.extend_from_slice(b"\r\n");
        }
        rules
    }

    fn is_named(&self, name: &[u8]) -> bool {
        self.named.named().split(is_comma).any(|one| one == name)
    }

    /// What of the trailers (lines) travels on.
    pub(crate) fn filter(&self, trailers: &[u8]) -> Vec<u8> {
        if self.named.named().is_empty() {
            return trailers.to_vec();
        }
        let travels =
            |line: &&[u8]| !self.is_named(line.split(|byte| *byte == b':').next().unwrap_or(line));
        trailers.split_inclusive(|byte| *byte == b'\n').filter(travels).collect::<Vec<_>>().concat()
    }
}

fn is_comma(byte: &u8) -> bool {
    *byte == b','
}

fn values<'a>(lines: &'a [u8], name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    lines
        .split_inclusive(|byte| *byte == b'\n')
        .filter_map(move |line| line.strip_prefix(name)?.strip_suffix(b"\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_26_what_may_travel_is_announced() {
        let line = |lines: &[u8]| TrailerRules::of(lines).line;
        assert_eq!(line(b"te: trailers\r\ntransfer-encoding: chunked\r\n"), b"");
        assert_eq!(
            line(b"trailer: X-Sum, Cookie\r\ntrailer: x-b,, content-length,b@d\r\n"),
            b"trailer: x-sum, x-b\r\n"
        );
        assert_eq!(line(b"trailer: content-length\r\n"), b"");
        assert_eq!(line(b"connection: x-sum, close\r\ntrailer: x-sum\r\n"), b"");
    }

    #[test]
    fn h_50_what_connection_names_stops_here() {
        let rules = TrailerRules::of(b"connection: close, X-Hop\r\n");
        assert_eq!(rules.filter(b"x-hop: 1\r\nx-hops: 2\r\n"), b"x-hops: 2\r\n");
        assert_eq!(TrailerRules::default().filter(b"x-hop: 1\r\n"), b"x-hop: 1\r\n");
    }
}
