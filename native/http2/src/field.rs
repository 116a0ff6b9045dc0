//! Which bytes and which fields may stand in a message, whatever the side it comes from.
//!
//! Source: RFC 9113 §8.2; RFC 9110 §5; H-03, H-04, H-23, H-100.

use sallyport_http1::{is_token, is_value};

/// Larger lengths are not exact as numbers of JavaScript.
const MAX_LENGTH: u64 = (1 << 53) - 1;

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The message is malformed: a stream error (RFC 9113 §8.1.1).
    Malformed(&'static str),
    /// A byte that no value may hold (H-03).
    ControlByte,
}

/// A regular field, by the rules that hold for requests, answers and trailers.
pub(crate) fn check(name: &[u8], value: &[u8]) -> Result<(), Fault> {
    if !is_token(name) {
        return Err(Fault::Malformed("a field name that is no token"));
    }
    if name.iter().any(u8::is_ascii_uppercase) {
        return Err(Fault::Malformed("an upper-case field name"));
    }
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_blank(value.first()) || is_blank(value.last()) {
        return Err(Fault::Malformed("white space around a field value"));
    }
    if !is_value(value) {
        let is_line = value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        return Err(if is_line {
            Fault::Malformed("CR, LF or NUL in a field value")
        } else {
            Fault::ControlByte
        });
    }
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            Err(Fault::Malformed("a field of the connection"))
        }
        b"te" if !value.eq_ignore_ascii_case(b"trailers") => {
            Err(Fault::Malformed("TE other than trailers"))
        }
        _ => Ok(()),
    }
}

/// H-23: 1 to 16 decimal digits.
pub(crate) fn read_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 16 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length = value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0'));
    (length <= MAX_LENGTH).then_some(length)
}

/// Appends `name: value` with CRLF.
pub(crate) fn write_line(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    text.extend_from_slice(name);
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

/// The fields of flat lines, in order.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest)?;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}
