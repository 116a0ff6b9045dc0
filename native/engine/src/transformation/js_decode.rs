//! `jsDecode`: JavaScript escapes.
//!
//! Source: `seclang.md` section 6.5.

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
            [b'u', digits @ ..] if scan::are_hex(digits, 4) => {
                let byte = scan::hex_pair(digits[2], digits[3]);
                let wide = digits[..2].eq_ignore_ascii_case(b"ff");
                (if wide { scan::full_width(byte) } else { byte }, 5)
            }
            [b'x', digits @ ..] if scan::are_hex(digits, 2) => {
                (scan::hex_pair(digits[0], digits[1]), 3)
            }
            [b'0'..=b'7', ..] => {
                let mut digits = scan::octal_digits(rest);
                if digits == 3 && rest[0] > b'3' {
                    digits = 2;
                }
                (scan::octal_value(&rest[..digits]), digits)
            }
            _ => (scan::control_escape(rest[0]).unwrap_or(rest[0]), 1),
        };
        output.push(decoded);
        position += 1 + width;
    }
    Some(output)
}
