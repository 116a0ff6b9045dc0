//! Query strings and `application/x-www-form-urlencoded` bodies.
//!
//! Source: `seclang.md` section 5.1: split at the separator, each piece at its first `=`, both sides percent-decoded once.

use std::borrow::Cow;

/// Calls `add` with name and value of each argument until it returns false. True when an escape was invalid.
pub(crate) fn parse(text: &[u8], separator: u8, mut add: impl FnMut(&[u8], &[u8]) -> bool) -> bool {
    let mut invalid = false;
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr::memchr(separator, rest).unwrap_or(rest.len());
        let piece = &rest[..end];
        // A separator at the very end begins no further argument.
        rest = rest.get(end + 1..).unwrap_or(&[]);
        let (name, value) = match memchr::memchr(b'=', piece) {
            Some(at) => (&piece[..at], &piece[at + 1..]),
            None => (piece, &b""[..]),
        };
        let name = decode(name, &mut invalid);
        let value = decode(value, &mut invalid);
        if !add(&name, &value) {
            break;
        }
    }
    invalid
}

/// Decodes `%HH` in a path; a plus sign and invalid escapes stay.
pub(crate) fn decode_path(path: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', path).is_none() {
        return Cow::Borrowed(path);
    }
    Cow::Owned(decode_escapes(path, false, &mut false))
}

/// `+` becomes a blank, `%HH` a byte; an invalid escape stays and is flagged.
fn decode<'a>(text: &'a [u8], invalid: &mut bool) -> Cow<'a, [u8]> {
    if memchr::memchr2(b'+', b'%', text).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(decode_escapes(text, true, invalid))
}

fn decode_escapes(text: &[u8], plus: bool, invalid: &mut bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'+' if plus => decoded.push(b' '),
            b'%' => match (hex(text.get(at + 1)), hex(text.get(at + 2))) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    at += 2;
                }
                _ => {
                    *invalid = true;
                    decoded.push(b'%');
                }
            },
            other => decoded.push(*other),
        }
        at += 1;
    }
    decoded
}

fn hex(byte: Option<&u8>) -> Option<u8> {
    char::from(*byte?).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> (Vec<(String, String)>, bool) {
        let mut found = Vec::new();
        let invalid = parse(text.as_bytes(), b'&', |name, value| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            found.push((text(name), text(value)));
            true
        });
        (found, invalid)
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn splits_and_decodes() {
        let (found, invalid) = arguments("a=1&b=%41+%2b&c&=x&d=e=f");
        assert_eq!(found, pairs(&[("a", "1"), ("b", "A +"), ("c", ""), ("", "x"), ("d", "e=f")]));
        assert!(!invalid);
    }

    #[test]
    fn empty_pieces_count_except_the_last() {
        assert_eq!(arguments("&a&&b&").0, pairs(&[("", ""), ("a", ""), ("", ""), ("b", "")]));
        assert_eq!(arguments("").0, []);
    }

    #[test]
    fn invalid_escapes_stay_and_are_flagged() {
        let (found, invalid) = arguments("a=%zz%4&%u0041=1");
        assert_eq!(found, pairs(&[("a", "%zz%4"), ("%u0041", "1")]));
        assert!(invalid);
    }

    #[test]
    fn the_caller_can_stop() {
        let mut count = 0;
        parse(b"a&b&c", b'&', |_, _| {
            count += 1;
            count < 2
        });
        assert_eq!(count, 2);
    }
}
