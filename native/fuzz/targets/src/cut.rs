//! Cuts an input into pieces, the same ones each time for the same input.

/// The last byte of an input decides how the others are cut.
pub(crate) fn split(input: &[u8]) -> (&[u8], u8) {
    match input.split_last() {
        Some((cut, bytes)) => (bytes, *cut),
        None => (&[], 0),
    }
}

/// Pieces of `bytes`, of lengths that `cut` decides; 0 = of one byte each.
pub(crate) fn pieces(bytes: &[u8], cut: u8) -> Vec<&[u8]> {
    if cut == 0 {
        return bytes.chunks(1).collect();
    }
    let mut random = u64::from(cut) << 32 | 0x9e37_79b9;
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let (piece, others) = rest.split_at(rest.len().min(1 + (random % u64::from(cut)) as usize));
        pieces.push(piece);
        rest = others;
    }
    pieces
}
