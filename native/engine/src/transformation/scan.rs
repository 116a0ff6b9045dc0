//! What the transformations share: byte sets, quick scans and the digits of escapes.

/// A byte set as a table.
pub(super) const fn set(members: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut index = 0;
    while index < members.len() {
        table[members[index] as usize] = true;
        index += 1;
    }
    table
}

/// Position of the first byte in the set.
#[inline]
pub(super) fn first_in(set: &[bool; 256], input: &[u8]) -> Option<usize> {
    input.iter().position(|&byte| set[usize::from(byte)])
}

/// Whether some byte fulfils a condition; looks at blocks so that the compiler can use wide registers.
#[inline]
pub(super) fn any(input: &[u8], condition: impl Fn(u8) -> bool) -> bool {
    input.chunks(64).any(|block| block.iter().fold(false, |found, &byte| found | condition(byte)))
}

/// C's `isspace`: 09–0D and 20.
#[inline]
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, 0x09..=0x0D | 0x20)
}

/// Value of one hexadecimal digit, unchecked: what the arithmetic gives for other bytes.
#[inline]
pub(super) fn hex_value(digit: u8) -> u8 {
    if digit >= b'A' {
        (digit & 0xDF).wrapping_sub(b'A').wrapping_add(10)
    } else {
        digit.wrapping_sub(b'0')
    }
}

/// Value of two hexadecimal digits, unchecked.
#[inline]
pub(super) fn hex_pair(high: u8, low: u8) -> u8 {
    hex_value(high).wrapping_mul(16).wrapping_add(hex_value(low))
}

/// Whether the text begins with `count` hexadecimal digits.
#[inline]
pub(super) fn are_hex(text: &[u8], count: usize) -> bool {
    text.get(..count).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// Full-width forms FF01–FF5E stand for 21–7E: the low byte plus 20.
#[inline]
pub(super) fn full_width(low: u8) -> u8 {
    if matches!(low, 0x01..=0x5E) {
        low + 0x20
    } else {
        low
    }
}

/// How many octal digits the text begins with, at most three.
#[inline]
pub(super) fn octal_digits(text: &[u8]) -> usize {
    text.iter().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count()
}

/// Value of up to three octal digits, modulo 256.
#[inline]
pub(super) fn octal_value(digits: &[u8]) -> u8 {
    digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0'))
}

/// The control bytes that C and JavaScript write as a backslash and a letter.
#[inline]
pub(super) fn control_escape(letter: u8) -> Option<u8> {
    Some(match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => 0x0A,
        b'r' => 0x0D,
        b't' => 0x09,
        b'v' => 0x0B,
        _ => return None,
    })
}
