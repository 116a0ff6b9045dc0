//! `sha1`, `md5`: raw digests. Not for security: rules compare them with kept values.
//!
//! Source: FIPS 180-4 (SHA-1), RFC 1321 (MD5).

/// The input with its padding, in blocks of 64 bytes; `length` writes the bit length in the digest's byte order.
fn for_each_block(input: &[u8], length: [u8; 8], mut block: impl FnMut(&[u8; 64])) {
    let mut chunks = input.chunks_exact(64);
    for chunk in &mut chunks {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(chunk);
        block(&bytes);
    }
    let rest = chunks.remainder();
    let mut last = [0; 64];
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] = 0x80;
    if rest.len() >= 56 {
        block(&last);
        last = [0; 64];
    }
    last[56..].copy_from_slice(&length);
    block(&last);
}

fn word(block: &[u8; 64], index: usize) -> [u8; 4] {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&block[index * 4..index * 4 + 4]);
    bytes
}

pub(super) fn sha1(input: &[u8]) -> Option<Vec<u8>> {
    let mut state = [0x6745_2301u32, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
    let bits = (input.len() as u64).wrapping_mul(8);
    for_each_block(input, bits.to_be_bytes(), |block| {
        let mut words = [0u32; 80];
        for index in 0..16 {
            words[index] = u32::from_be_bytes(word(block, index));
        }
        for index in 16..80 {
            let mixed = words[index - 3] ^ words[index - 8] ^ words[index - 14] ^ words[index - 16];
            words[index] = mixed.rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (index, &word) in words.iter().enumerate() {
            let (mix, constant) = match index / 20 {
                0 => ((b & c) | (!b & d), 0x5A82_7999),
                1 => (b ^ c ^ d, 0x6ED9_EBA1),
                2 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC),
                _ => (b ^ c ^ d, 0xCA62_C1D6u32),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(mix)
                .wrapping_add(e)
                .wrapping_add(constant)
                .wrapping_add(word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (total, value) in state.iter_mut().zip([a, b, c, d, e]) {
            *total = total.wrapping_add(value);
        }
    });
    Some(state.iter().flat_map(|value| value.to_be_bytes()).collect())
}

pub(super) fn md5(input: &[u8]) -> Option<Vec<u8>> {
    const SHIFTS: [[u32; 4]; 4] =
        [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut state = [0x6745_2301u32, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];
    let bits = (input.len() as u64).wrapping_mul(8);
    for_each_block(input, bits.to_le_bytes(), |block| {
        let [mut a, mut b, mut c, mut d] = state;
        for index in 0..64 {
            let (mix, source) = match index / 16 {
                0 => ((b & c) | (!b & d), index),
                1 => ((d & b) | (!d & c), (5 * index + 1) % 16),
                2 => (b ^ c ^ d, (3 * index + 5) % 16),
                _ => (c ^ (b | !d), 7 * index % 16),
            };
            // RFC 1321 section 3.4: the integer part of 2^32 times |sin(i + 1)|.
            let constant = (((index + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a
                .wrapping_add(mix)
                .wrapping_add(constant)
                .wrapping_add(u32::from_le_bytes(word(block, source)));
            let next = b.wrapping_add(sum.rotate_left(SHIFTS[index / 16][index % 4]));
            (a, d, c, b) = (d, c, b, next);
        }
        for (total, value) in state.iter_mut().zip([a, b, c, d]) {
            *total = total.wrapping_add(value);
        }
    });
    Some(state.iter().flat_map(|value| value.to_le_bytes()).collect())
}
