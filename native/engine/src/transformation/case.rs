//! `lowercase`, `uppercase`: ASCII letters only.

use super::scan;

pub(super) fn lower(input: &[u8]) -> Option<Vec<u8>> {
    scan::any(input, |byte| byte.is_ascii_uppercase()).then(|| input.to_ascii_lowercase())
}

pub(super) fn upper(input: &[u8]) -> Option<Vec<u8>> {
    scan::any(input, |byte| byte.is_ascii_lowercase()).then(|| input.to_ascii_uppercase())
}
