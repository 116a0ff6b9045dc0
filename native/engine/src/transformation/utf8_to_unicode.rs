//! `utf8toUnicode`: UTF-8 sequences become `%uHHHH`.
//!
//! Source: `seclang.md` section 6.9.

use super::scan;

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    if !scan::any(input, |byte| byte == 0 || byte >= 0x80) {
        return None;
    }
    let mut output = Vec::with_capacity(input.len() * 2);
    let mut position = 0;
    while let Some(&lead) = input.get(position) {
        position += 1;
        let width = match lead {
            0 => continue,
            0x01..=0xBF | 0xF8.. => {
                output.push(lead);
                continue;
            }
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
        };
        if lead >= 0xF5 {
            output.push(lead);
        }
        let Some(rest) = input.get(position..position + width - 1) else { continue };
        if rest.iter().any(|byte| byte & 0xC0 != 0x80) {
            continue;
        }
        position += rest.len();
        let lead_bits = u32::from(lead) & (0x7F >> width);
        let code = rest.iter().fold(lead_bits, |code, &byte| code << 6 | u32::from(byte & 0x3F));
        escape(code, &mut output);
        let smallest = [0x80, 0x800, 0x1_0000][width - 2];
        if code < smallest || (0xD800..=0xDFFF).contains(&code) {
            output.push(lead);
        }
    }
    Some(output)
}

/// `%u` and at least four lower-case digits.
fn escape(code: u32, output: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    output.extend_from_slice(b"%u");
    let digits = (8 - code.leading_zeros() / 4).max(4);
    for digit in (0..digits).rev() {
        output.push(DIGITS[(code >> (4 * digit) & 0x0F) as usize]);
    }
}
