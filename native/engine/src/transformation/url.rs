//! `urlDecode`, `urlDecodeUni`, `urlEncode`.
//!
//! Source: `seclang.md` section 6.3.

use memchr::memchr2;

use super::scan;
use super::UnicodeMap;

/// `+` and `%HH`.
pub(super) fn decode(input: &[u8]) -> Option<Vec<u8>> {
    decode_with(input, |_| None)
}

/// `+`, `%HH`, and `%uHHHH` through the code-page map, if there is one.
pub(super) fn decode_uni(input: &[u8], map: Option<&UnicodeMap>) -> Option<Vec<u8>> {
    decode_with(input, |rest| {
        if !matches!(rest, [b'u' | b'U', ..]) {
            return None;
        }
        let digits = &rest[1..];
        if !scan::are_hex(digits, 4) {
            return Some(Escape::Raw);
        }
        let high = scan::hex_pair(digits[0], digits[1]);
        let low = scan::hex_pair(digits[2], digits[3]);
        let mapped = map.and_then(|map| map.get(u16::from_be_bytes([high, low])));
        let plain = || if high == 0xFF { scan::full_width(low) } else { low };
        Some(Escape::Byte(mapped.unwrap_or_else(plain)))
    })
}

/// A `%u` escape.
enum Escape {
    /// Six bytes stand for one.
    Byte(u8),
    /// Not an escape: `%u` is copied and passed.
    Raw,
}

fn decode_with(input: &[u8], unicode: impl Fn(&[u8]) -> Option<Escape>) -> Option<Vec<u8>> {
    let mut next = memchr2(b'%', b'+', input)?;
    let mut output = Vec::with_capacity(input.len());
    let mut position = 0;
    loop {
        output.extend_from_slice(&input[position..next]);
        position = next + 1;
        if input[next] == b'+' {
            output.push(b' ');
        } else {
            let rest = &input[position..];
            match unicode(rest) {
                Some(Escape::Byte(byte)) => {
                    output.push(byte);
                    position += 5;
                }
                Some(Escape::Raw) => {
                    output.extend_from_slice(&input[next..next + 2]);
                    position += 1;
                }
                None if scan::are_hex(rest, 2) => {
                    output.push(scan::hex_pair(rest[0], rest[1]));
                    position += 2;
                }
                None => output.push(b'%'),
            }
        }
        match memchr2(b'%', b'+', &input[position..]) {
            Some(offset) => next = position + offset,
            None => {
                output.extend_from_slice(&input[position..]);
                return Some(output);
            }
        }
    }
}

/// Letters, digits and `*` stay, a blank becomes `+`, all others `%hh` in lower case.
pub(super) fn encode(input: &[u8]) -> Option<Vec<u8>> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'*';
    if input.iter().all(|&byte| stays(byte)) {
        return None;
    }
    let mut output = Vec::with_capacity(input.len() * 2);
    for &byte in input {
        if stays(byte) {
            output.push(byte);
        } else if byte == b' ' {
            output.push(b'+');
        } else {
            output.push(b'%');
            output.push(DIGITS[usize::from(byte >> 4)]);
            output.push(DIGITS[usize::from(byte & 0x0F)]);
        }
    }
    Some(output)
}
