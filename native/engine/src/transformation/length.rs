//! `length`: the number of bytes in decimal.

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    Some(input.len().to_string().into_bytes())
}
