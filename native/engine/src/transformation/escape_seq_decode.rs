//! `escapeSeqDecode`: ANSI C escapes.
//!
//! Source: `seclang.md` section 6.10.

use memchr::memchr;

use super::scan;

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let first = memchr(b'\\', input)?;
    let mut output = Vec::with_capacity(input.len());
    output.extend_from_slice(&input[..first]);
    let mut position = first;
    while let Some(&byte) = input.get(position) {
        let rest = &input[position + 1..];
        if byte != b'\\' || rest.is_empty() {
            output.push(byte);
            position += 1;
            continue;
        }
        let (decoded, width) = match rest {
            [b'x' | b'X', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (scan::hex_pair(*high, *low), 3)
            }
            [b'0'..=b'7', ..] => {
                let digits = scan::octal_digits(rest);
                (scan::octal_value(&rest[..digits]), digits)
            }
            _ => (scan::control_escape(rest[0]).unwrap_or(rest[0]), 1),
        };
        output.push(decoded);
        position += 1 + width;
    }
    Some(output)
}
