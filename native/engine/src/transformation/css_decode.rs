//! `cssDecode`: CSS 2 escapes, one byte each.
//!
//! Source: `seclang.md` section 6.6.

use memchr::memchr;

use super::scan;

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let first = memchr(b'\\', input)?;
    let mut output = Vec::with_capacity(input.len());
    output.extend_from_slice(&input[..first]);
    let mut position = first;
    while let Some(&byte) = input.get(position) {
        position += 1;
        if byte != b'\\' {
            output.push(byte);
            continue;
        }
        let rest = &input[position..];
        let digits = rest.iter().take(6).take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > 0 {
            output.push(decode(&rest[..digits]));
            position += digits;
            if input.get(position).copied().is_some_and(scan::is_space) {
                position += 1;
            }
        } else if let Some(&next) = rest.first() {
            if next != b'\n' {
                output.push(next);
            }
            position += 1;
        }
    }
    Some(output)
}

/// One to six hexadecimal digits: the last two decide, but for the full-width forms.
fn decode(digits: &[u8]) -> u8 {
    let [.., high, low] = digits else { return scan::hex_value(digits[0]) };
    let byte = scan::hex_pair(*high, *low);
    let (lead, four) = digits.split_at(digits.len().saturating_sub(4));
    let is_full_width = four.len() == 4
        && four[..2].eq_ignore_ascii_case(b"ff")
        && lead.iter().all(|&digit| digit == b'0');
    if is_full_width {
        scan::full_width(byte)
    } else {
        byte
    }
}
