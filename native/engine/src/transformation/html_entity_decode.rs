//! `htmlEntityDecode`: numeric references and five named ones, one byte each.
//!
//! Source: `seclang.md` section 6.4, as ModSecurity v2 (and v3 from 3.0.14 on).

use memchr::memchr_iter;

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let first = memchr_iter(b'&', input).find(|at| decode(&input[at + 1..]).is_some())?;
    let mut output = Vec::with_capacity(input.len());
    output.extend_from_slice(&input[..first]);
    let mut position = first;
    while let Some(&byte) = input.get(position) {
        position += 1;
        if byte == b'&' {
            if let Some((decoded, width)) = decode(&input[position..]) {
                output.push(decoded);
                position += width;
                if input.get(position) == Some(&b';') {
                    position += 1;
                }
                continue;
            }
        }
        output.push(byte);
    }
    Some(output)
}

/// What stands after the `&`: (byte, width without the semicolon).
fn decode(rest: &[u8]) -> Option<(u8, usize)> {
    match rest {
        [b'#', b'x' | b'X', digits @ ..] => {
            number(digits, 16).map(|(byte, width)| (byte, width + 2))
        }
        [b'#', digits @ ..] => number(digits, 10).map(|(byte, width)| (byte, width + 1)),
        _ => {
            // One more than the longest name: what goes on is none.
            let width = rest.iter().take(5).take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let names: [(&[u8], u8); 5] =
                [(b"quot", b'"'), (b"amp", b'&'), (b"lt", b'<'), (b"gt", b'>'), (b"nbsp", 0xA0)];
            let found = names.iter().find(|(name, _)| rest[..width].eq_ignore_ascii_case(name));
            found.map(|&(_, byte)| (byte, width))
        }
    }
}

/// All digits of a number; its low byte. As C's `strtol`, the number stops at the largest 64-bit value.
fn number(text: &[u8], radix: u32) -> Option<(u8, usize)> {
    let mut value: i64 = 0;
    let mut width = 0;
    for digit in text.iter().map_while(|&byte| char::from(byte).to_digit(radix)) {
        value = value.saturating_mul(i64::from(radix)).saturating_add(i64::from(digit));
        width += 1;
    }
    (width > 0).then_some((value as u8, width))
}
