//! Bytes as printable text, as ModSecurity writes them to its log.

/// Escapes control bytes, quotes, backslashes and bytes that are not ASCII as `\xHH`, `\"`, `\\`, `\n` and so on.
pub(crate) fn escape_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            0x20..=0x7e => text.push(char::from(*byte)),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                text.push_str("\\x");
                text.push(char::from(DIGITS[usize::from(byte >> 4)]));
                text.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    text
}

/// The same for at most `limit` bytes.
pub(crate) fn escape_bounded(bytes: &[u8], limit: usize) -> String {
    escape_bytes(&bytes[..bytes.len().min(limit)])
}

/// Appends the same as the inside of a string of JSON.
pub(crate) fn push_json(out: &mut Vec<u8>, bytes: &[u8]) {
    let is_special = |byte: &u8| !matches!(byte, 0x20..=0x7e) || matches!(byte, b'"' | b'\\');
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(is_special) {
        out.extend_from_slice(&rest[..end]);
        push_json_text(out, &escape_bytes(&rest[end..=end]));
        rest = &rest[end + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends text without control characters as the inside of a string of JSON.
pub(crate) fn push_json_text(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_log_line_cannot_hold() {
        assert_eq!(escape_bytes(b"a\"b\\\n\x00\xff"), "a\\\"b\\\\\\n\\x00\\xff");
        assert_eq!(escape_bounded(b"abcdef", 3), "abc");
    }
}
