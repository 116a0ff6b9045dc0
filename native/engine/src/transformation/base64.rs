//! `base64Decode`, `base64DecodeExt`, `base64Encode`.
//!
//! Source: `seclang.md` section 6.10; `base64Decode` as ModSecurity v2 with APR does it.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// In [`VALUES`]: not in the alphabet.
const STRANGER: u8 = 0xFF;

/// Byte → its six bits.
static VALUES: [u8; 256] = {
    let mut table = [STRANGER; 256];
    let mut index = 0;
    while index < 64 {
        table[ALPHABET[index] as usize] = index as u8;
        index += 1;
    }
    table
};

/// Collects groups of six bits into bytes; up to seven bits left over at the end are dropped.
struct Bits {
    output: Vec<u8>,
    bits: u32,
    count: usize,
}

impl Bits {
    fn with_capacity(encoded_bytes: usize) -> Self {
        Bits { output: Vec::with_capacity(encoded_bytes / 4 * 3 + 3), bits: 0, count: 0 }
    }

    #[inline]
    fn push(&mut self, value: u8) {
        self.bits = self.bits << 6 | u32::from(value);
        if self.count % 4 != 0 {
            let kept = 6 - 2 * (self.count % 4);
            self.output.push((self.bits >> kept) as u8);
        }
        self.count += 1;
    }
}

/// Decodes the longest prefix of alphabet bytes; whatever follows it is lost.
pub(super) fn decode(input: &[u8]) -> Option<Vec<u8>> {
    let mut bits = Bits::with_capacity(input.len());
    let mut groups = input.chunks_exact(4);
    let mut rest = &[][..];
    for group in &mut groups {
        let values = [0, 1, 2, 3].map(|at: usize| VALUES[usize::from(group[at])]);
        if values.contains(&STRANGER) {
            rest = group;
            break;
        }
        let number = values.iter().fold(0_u32, |bits, value| bits << 6 | u32::from(*value));
        let [_, bytes @ ..] = number.to_be_bytes();
        bits.output.extend_from_slice(&bytes);
    }
    if rest.is_empty() {
        rest = groups.remainder();
    }
    for value in rest.iter().map(|byte| VALUES[usize::from(*byte)]) {
        if value == STRANGER {
            break;
        }
        bits.push(value);
    }
    Some(bits.output)
}

/// Decodes the alphabet bytes and skips all others. A `=` after the first byte of a group of four makes the
/// result empty unless another `=` follows it.
pub(super) fn decode_ext(input: &[u8]) -> Option<Vec<u8>> {
    let mut bits = Bits::with_capacity(input.len());
    for (index, &byte) in input.iter().enumerate() {
        match byte {
            b'=' => {
                if bits.count % 4 == 1 && input.get(index + 1) != Some(&b'=') {
                    return Some(Vec::new());
                }
            }
            _ => match VALUES[usize::from(byte)] {
                STRANGER => {}
                value => bits.push(value),
            },
        }
    }
    Some(bits.output)
}

/// Encodes with padding.
pub(super) fn encode(input: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(input.len().div_ceil(3) * 4);
    for group in input.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            output.push(if index <= group.len() {
                ALPHABET[(bits >> (18 - 6 * index) & 0x3F) as usize]
            } else {
                b'='
            });
        }
    }
    Some(output)
}
