//! `hexDecode`, `hexEncode`, `sqlHexDecode`.
//!
//! Source: `seclang.md` section 6.10.

use super::scan;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Each pair of bytes as two digits, unchecked; an odd last byte is dropped.
pub(super) fn decode(input: &[u8]) -> Option<Vec<u8>> {
    Some(input.chunks_exact(2).map(|pair| scan::hex_pair(pair[0], pair[1])).collect())
}

/// Each byte as two lower-case digits.
pub(super) fn encode(input: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(input.len() * 2);
    for &byte in input {
        output.push(DIGITS[usize::from(byte >> 4)]);
        output.push(DIGITS[usize::from(byte & 0x0F)]);
    }
    Some(output)
}

/// `0x` (or `0X`) and the pairs of digits after it become bytes.
pub(super) fn sql_decode(input: &[u8]) -> Option<Vec<u8>> {
    let is_start = |text: &[u8]| {
        matches!(text, [b'0', b'x' | b'X', high, low, ..]
            if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    };
    let first = input.windows(4).position(is_start)?;
    let mut output = Vec::with_capacity(input.len());
    output.extend_from_slice(&input[..first]);
    let mut position = first;
    while position < input.len() {
        if !is_start(&input[position..]) {
            output.push(input[position]);
            position += 1;
            continue;
        }
        position += 2;
        while scan::are_hex(&input[position..], 2) {
            output.push(scan::hex_pair(input[position], input[position + 1]));
            position += 2;
        }
    }
    Some(output)
}
