//! `md5`: the 16 raw bytes of the digest. Not for security: rules compare it with kept values.
//!
//! Source: RFC 1321.

use std::sync::OnceLock;

/// Rotations of the four rounds.
const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// RFC 1321 section 3.4: the integer part of 2^32 times |sin(i + 1)|.
fn constants() -> &'static [u32; 64] {
    static CONSTANTS: OnceLock<[u32; 64]> = OnceLock::new();
    CONSTANTS.get_or_init(|| {
        std::array::from_fn(|index| (((index + 1) as f64).sin().abs() * 4_294_967_296.0) as u32)
    })
}

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let mut state = [0x6745_2301u32, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];
    let mut blocks = input.chunks_exact(64);
    for block in &mut blocks {
        add_block(&mut state, block);
    }
    // Padding: 80, zeros, and the length in bits at the end of a block.
    let rest = blocks.remainder();
    let mut padding = [0u8; 128];
    padding[..rest.len()].copy_from_slice(rest);
    padding[rest.len()] = 0x80;
    let end = if rest.len() < 56 { 64 } else { 128 };
    let bits = (input.len() as u64).wrapping_mul(8);
    padding[end - 8..end].copy_from_slice(&bits.to_le_bytes());
    for block in padding[..end].chunks_exact(64) {
        add_block(&mut state, block);
    }
    Some(state.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn add_block(state: &mut [u32; 4], block: &[u8]) {
    let word = |index: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&block[index * 4..index * 4 + 4]);
        u32::from_le_bytes(bytes)
    };
    let [mut a, mut b, mut c, mut d] = *state;
    for (index, constant) in constants().iter().enumerate() {
        let (mix, source) = match index / 16 {
            0 => ((b & c) | (!b & d), index),
            1 => ((d & b) | (!d & c), (5 * index + 1) % 16),
            2 => (b ^ c ^ d, (3 * index + 5) % 16),
            _ => (c ^ (b | !d), 7 * index % 16),
        };
        let sum = a.wrapping_add(mix).wrapping_add(*constant).wrapping_add(word(source));
        let next = b.wrapping_add(sum.rotate_left(SHIFTS[index / 16][index % 4]));
        (a, d, c, b) = (d, c, b, next);
    }
    for (total, value) in state.iter_mut().zip([a, b, c, d]) {
        *total = total.wrapping_add(value);
    }
}
