//! `parityEven7bit`, `parityOdd7bit`, `parityZero7bit`: bit 7 as a parity bit.

/// Bytes with an odd number of set bits get bit 7, the others lose it.
pub(super) fn even(input: &[u8]) -> Option<Vec<u8>> {
    Some(input.iter().map(|&byte| with_parity(byte, 1)).collect())
}

/// Bytes with an even number of set bits get bit 7, the others lose it.
pub(super) fn odd(input: &[u8]) -> Option<Vec<u8>> {
    Some(input.iter().map(|&byte| with_parity(byte, 0)).collect())
}

/// Clears bit 7.
pub(super) fn zero(input: &[u8]) -> Option<Vec<u8>> {
    Some(input.iter().map(|&byte| byte & 0x7F).collect())
}

/// Bit 7 is set where the number of set bits, bit 7 included, is odd (1) or even (0), and cleared elsewhere.
fn with_parity(byte: u8, set_for: u32) -> u8 {
    if byte.count_ones() % 2 == set_for {
        byte | 0x80
    } else {
        byte & 0x7F
    }
}
