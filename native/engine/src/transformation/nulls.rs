//! `removeNulls`, `replaceNulls`.

use memchr::memchr;

pub(super) fn remove(input: &[u8]) -> Option<Vec<u8>> {
    memchr(0, input)?;
    Some(input.iter().copied().filter(|&byte| byte != 0).collect())
}

pub(super) fn replace(input: &[u8]) -> Option<Vec<u8>> {
    memchr(0, input)?;
    Some(input.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect())
}
