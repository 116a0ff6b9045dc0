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
    first_of(bytes, |byte| (byte < b' ') & (byte != b'\t') | (byte == 0x7f))
}

/// How many bytes at the beginning are neither a control byte, nor a blank, nor DEL.
#[inline]
pub(crate) fn target_length(bytes: &[u8]) -> usize {
    first_of(bytes, |byte| (byte <= b' ') | (byte == 0x7f))
}

/// How many bytes at the beginning are token bytes.
#[inline]
pub(crate) fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| lower_token(*byte) == 0).unwrap_or(bytes.len())
}

/// Where the first byte of a class is. A block at a time, in a form that the compiler turns into vector code; the last block
/// overlaps the one before.
#[inline]
pub(crate) fn first_of(bytes: &[u8], is_of: impl Fn(u8) -> bool) -> usize {
    const BLOCK: usize = 16;
    const SMALL: usize = 8;
    let mut at = 0;
    for block in bytes.chunks_exact(BLOCK) {
        if block.iter().fold(false, |found, byte| found | is_of(*byte)) {
            return at + block.iter().position(|byte| is_of(*byte)).unwrap_or(BLOCK);
        }
        at += BLOCK;
    }
    if let (true, Some(block)) = (at > 0, bytes.last_chunk::<BLOCK>()) {
        if !block.iter().fold(false, |found, byte| found | is_of(*byte)) {
            return bytes.len();
        }
    } else if let (Some(first), Some(last)) =
        (bytes.first_chunk::<SMALL>(), bytes.last_chunk::<SMALL>())
    {
        let (first, last) = (first.iter(), last.iter());
        if !first.zip(last).fold(false, |found, (one, two)| found | is_of(*one) | is_of(*two)) {
            return bytes.len();
        }
    }
    bytes[at..].iter().position(|byte| is_of(*byte)).map_or(bytes.len(), |more| at + more)
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
    use super::first_of;

    #[test]
    fn the_first_byte_of_a_class_is_found_wherever_it_is() {
        for length in 0..70 {
            let mut bytes = vec![b'a'; length];
            assert_eq!(first_of(&bytes, |byte| byte == b'b'), length);
            for at in (0..length).rev() {
                bytes[at] = b'b';
                assert_eq!(first_of(&bytes, |byte| byte == b'b'), at, "{length}");
                // the last one only
                let mut one = vec![b'a'; length];
                one[at] = b'b';
                assert_eq!(first_of(&one, |byte| byte == b'b'), at, "{length}");
            }
        }
    }
}
