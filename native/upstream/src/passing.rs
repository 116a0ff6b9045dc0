//! Heads of answers that leave as they came, with lines of the gateway behind them, on a front end that writes framing and
//! Date by itself. Source: O-73, F-11, H-123.

/// Fields that may stand behind such a head: of ASCII only, and none that the front end writes.
pub(crate) fn may_follow(lines: &[u8]) -> bool {
    let is_written = |line: &[u8]| match line.first() {
        Some(b'c') => line.starts_with(b"connection:") || line.starts_with(b"content-length:"),
        Some(b'd') => line.starts_with(b"date:"),
        Some(b't') => line.starts_with(b"transfer-encoding:"),
        Some(b'u') => line.starts_with(b"upgrade:"),
        _ => false,
    };
    lines.is_ascii() && !lines.split_inclusive(|byte| *byte == b'\n').any(is_written)
}

/// Appends the head of an answer, as `Response` wrote it: without `Date` and the fields that only the gateway may send, and
/// with `lines` behind. False, and nothing is appended: there is a byte beyond ASCII, which takes a decision.
pub(crate) fn write_passed(out: &mut Vec<u8>, head: &[u8], lines: &[u8]) -> bool {
    if !head.is_ascii() {
        return false;
    }
    // Runs of lines that stay are copied together.
    let mut run = 0;
    let mut at = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    while at < head.len() {
        let end = memchr::memchr(b'\n', &head[at..]).map_or(head.len(), |length| at + length + 1);
        if is_replaced(&head[at..end]) {
            out.extend_from_slice(&head[run..at]);
            run = end;
        }
        at = end;
    }
    out.extend_from_slice(&head[run..]);
    out.extend_from_slice(lines);
    true
}

/// A line whose name is in lower case.
fn is_replaced(line: &[u8]) -> bool {
    match line.first() {
        Some(b'd') => line.starts_with(b"date:"),
        Some(b'x') => line.starts_with(b"x-request-id:"),
        Some(b'n') => line.starts_with(b"ngrok-error-code:"),
        Some(b's') => line.starts_with(b"sallyport-error-code:"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o_73_only_the_gateway_says_what_is_the_gateways() {
        let head = b"HTTP/1.1 404 Not Found\r\nx-request-id: theirs\r\nx-a: b\r\nsallyport-error-code: 1\r\n\
            ngrok-error-code: 2\r\nserver: s\r\ndate: d\r\ndates: e\r\nx-request-id: again\r\n";
        let mut text = Vec::new();
        assert!(write_passed(&mut text, head, b"x-request-id: ours\r\n"));
        assert_eq!(
            String::from_utf8_lossy(&text),
            "HTTP/1.1 404 Not Found\r\nx-a: b\r\nserver: s\r\ndates: e\r\nx-request-id: ours\r\n"
        );
        text.clear();
        assert!(write_passed(&mut text, b"HTTP/1.1 200 OK\r\n", b""));
        assert_eq!(text, b"HTTP/1.1 200 OK\r\n");
        text.clear();
        assert!(!write_passed(&mut text, b"HTTP/1.1 200 OK\r\na: \xe9\r\n", b""));
        assert!(text.is_empty());
    }

    #[test]
    fn f_11_lines_of_the_gateway_are_not_those_of_the_front_end() {
        for good in ["", "a: b\r\n", "a: b\r\nset-cookie: c=d; path=/\r\n", "dates: a\r\n"] {
            assert!(may_follow(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "a: \u{e9}\r\n",
            "date: a\r\n",
            "a: b\r\ncontent-length: 1\r\n",
            "transfer-encoding: chunked\r\n",
            "connection: close\r\n",
            "upgrade: a\r\n",
        ] {
            assert!(!may_follow(bad.as_bytes()), "{bad:?}");
        }
    }
}
