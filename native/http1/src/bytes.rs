//! Classes of bytes. Source: RFC 9110 §5.5, §5.6.2; H-03, H-04.

/// A token byte in lower case; 0 for every other byte.
#[inline]
pub fn lower_token(byte: u8) -> u8 {
    TOKEN[byte as usize]
}

/// Whether these bytes are a token: at least one, and token bytes only.
#[inline]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| lower_token(*byte) != 0)
}

/// Whether a field value or a reason phrase may hold these bytes: no control byte but HTAB, no DEL.
#[inline]
pub fn is_value(bytes: &[u8]) -> bool {
    value_length(bytes) == bytes.len()
}

/// How many bytes at the beginning may stand in a field value.
#[inline]
pub fn value_length(bytes: &[u8]) -> usize {
    let start = skip_blocks(bytes, |byte| (byte < b' ') & (byte != b'\t') | (byte == 0x7f));
    start
        + first_of(&bytes[start..], |word| {
            below(word, b' ') & !equal(word, b'\t') | equal(word, 0x7f)
        })
}

/// How many bytes at the beginning may stand in a field value and are ASCII.
#[inline]
pub(crate) fn ascii_value_length(bytes: &[u8]) -> usize {
    first_of(bytes, |word| below(word, b' ') & !equal(word, b'\t') | !below(word, 0x7f))
}

/// How many bytes at the beginning are neither a control byte, nor a blank, nor DEL.
#[inline]
pub(crate) fn target_length(bytes: &[u8]) -> usize {
    first_of(bytes, |word| below(word, b'!') | equal(word, 0x7f))
}

/// How many bytes at the beginning are visible ASCII and no `#`.
#[inline]
pub(crate) fn ascii_target_length(bytes: &[u8]) -> usize {
    first_of(bytes, |word| below(word, b'!') | !below(word, 0x7f) | equal(word, b'#'))
}

/// How many bytes at the beginning are token bytes.
#[inline]
pub(crate) fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| lower_token(*byte) == 0).unwrap_or(bytes.len())
}

const ONES: u64 = u64::MAX / 255;
/// The bit of each byte of a word in which the functions below answer; the others mean nothing.
const HIGH: u64 = ONES << 7;

/// Which bytes are below `most`, at most 0x80.
#[inline]
fn below(word: u64, most: u8) -> u64 {
    // no byte of the sum reaches into the next one
    !(((word & !HIGH) + ONES * u64::from(0x80 - most)) | word)
}

/// Which bytes are `byte`.
#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// Where the first byte of a class is, looked for eight at a time. `class` answers as `below` does.
#[inline]
fn first_of(bytes: &[u8], class: impl Fn(u64) -> u64) -> usize {
    const WORD: usize = 8;
    let find = |word: [u8; WORD]| match class(u64::from_le_bytes(word)) & HIGH {
        0 => None,
        found => Some(found.trailing_zeros() as usize / 8),
    };
    let (mut at, mut rest) = (0, bytes);
    while let Some((word, after)) = rest.split_first_chunk() {
        if let Some(more) = find(*word) {
            return at + more;
        }
        at += WORD;
        rest = after;
    }
    if rest.is_empty() {
        return at;
    }
    if let Some(word) = bytes.last_chunk() {
        // It begins with bytes that were looked at and are not of the class.
        return find(*word).map_or(bytes.len(), |more| bytes.len() - WORD + more);
    }
    let is_of = |byte: &u8| class(u64::from(*byte)) & 0x80 != 0;
    rest.iter().position(is_of).unwrap_or(rest.len())
}

/// From here on it is worth looking at whole blocks first.
const LONG: usize = 64;
const BLOCK: usize = 32;

/// How many bytes at the beginning of a long text are in blocks without a byte of the class.
#[inline]
fn skip_blocks(bytes: &[u8], is_of: impl Fn(u8) -> bool) -> usize {
    if bytes.len() < LONG {
        return 0;
    }
    let has_none = |block: &[u8]| !block.iter().fold(false, |any, byte| any | is_of(*byte));
    bytes.chunks_exact(BLOCK).take_while(|block| has_none(block)).count() * BLOCK
}

/// A value without the white space around it (RFC 9112 §5.1: blanks and HTAB).
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

static TOKEN: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0usize;
    while byte < 256 {
        let is_token = matches!(
            byte as u8,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
                | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'
        );
        if is_token {
            table[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// A class with what its bytes are, one by one.
    type Class = (fn(&[u8]) -> usize, fn(u8) -> bool);

    const CLASSES: [Class; 4] = [
        (value_length, |byte| byte < b' ' && byte != b'\t' || byte == 0x7f),
        (ascii_value_length, |byte| byte < b' ' && byte != b'\t' || byte >= 0x7f),
        (target_length, |byte| byte <= b' ' || byte == 0x7f),
        (ascii_target_length, |byte| byte <= b' ' || byte >= 0x7f || byte == b'#'),
    ];

    #[test]
    fn h_03_every_byte_is_of_its_class_wherever_it_is() {
        for (length_of, is_of) in CLASSES {
            for length in (0..30).chain([63, 64, 65, 96, 100]) {
                for at in 0..length {
                    for byte in 0..=255 {
                        let mut bytes = vec![b'a'; length];
                        bytes[at] = byte;
                        let wanted = if is_of(byte) { at } else { length };
                        assert_eq!(length_of(&bytes), wanted, "{byte:#x} at {at} of {length}");
                        // another one behind it changes nothing
                        bytes[length - 1] = 0;
                        let wanted = if is_of(byte) { at } else { length - 1 };
                        assert_eq!(length_of(&bytes), wanted, "{byte:#x} at {at} of {length}");
                    }
                }
                assert_eq!(length_of(&vec![b'a'; length]), length);
            }
        }
    }

    #[test]
    fn neighbours_make_no_difference() {
        for (length_of, is_of) in CLASSES {
            for first in 0..=255 {
                for second in 0..=255 {
                    let bytes =
                        [b'a', first, second, first, second, b'a', first, b'b', second, b'c'];
                    let wanted = bytes.iter().position(|byte| is_of(*byte)).unwrap_or(bytes.len());
                    assert_eq!(length_of(&bytes), wanted, "{first:#x} {second:#x}");
                }
            }
        }
    }
}
