// The two hash functions of the generated tables. Included by `build.rs`, which fills the tables, and by `tables.rs`,
// which reads them.

/// Bytes of a keyword's zero-padded upper-case form; no keyword is longer than 31 bytes.
pub(crate) const KEYWORD_WIDTH: usize = 32;
/// Slots of the keyword table, a power of two.
pub(crate) const KEYWORD_SLOTS: usize = 4096;
/// Slots of the fingerprint table, a power of two.
pub(crate) const FINGERPRINT_SLOTS: usize = 16384;

/// First slot of a zero-padded upper-case keyword.
#[inline]
pub(crate) fn keyword_slot(key: &[u8; KEYWORD_WIDTH]) -> usize {
    let mut hash = 0u64;
    let mut index = 0;
    while index < KEYWORD_WIDTH {
        let mut word = [0u8; 8];
        word.copy_from_slice(&key[index..index + 8]);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        index += 8;
    }
    (hash.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 52) as usize % KEYWORD_SLOTS
}

/// First slot of a packed fingerprint (five bits a letter).
#[inline]
pub(crate) fn fingerprint_slot(packed: u32) -> usize {
    (packed.wrapping_mul(0x9E37_79B1) >> 18) as usize % FINGERPRINT_SLOTS
}
