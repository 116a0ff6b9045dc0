//! `sha1`: the 20 raw bytes of the digest. Not for security: rules compare it with kept values.

use sha1::{Digest, Sha1};

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    Some(Sha1::digest(input).to_vec())
}
