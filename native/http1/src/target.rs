//! Targets of requests and hosts. Source: RFC 9110 §7.2; RFC 9112 §3.2; H-11, H-12, H-15, H-55, T-09.

use crate::refusal::{Refusal, BAD_AUTHORITY, BAD_FORM, BAD_SCHEME, BAD_TARGET};

/// A target as it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// `/` is to be written before `path`: the target had an authority and no path.
    pub adds_slash: bool,
    /// Path and query, or `*`.
    pub path: &'a [u8],
    /// Of an absolute-form: it replaces `Host` (H-11).
    pub authority: Option<&'a [u8]>,
}

/// Which form a target has, and whether its bytes may travel. It holds no blank and no control byte.
pub(crate) fn read_target<'a>(
    method: &[u8],
    target: &'a [u8],
    is_https: bool,
) -> Result<Target<'a>, Refusal> {
    if target.first() == Some(&b'/') {
        check_path(target)?;
        return Ok(Target { adds_slash: false, path: target, authority: None });
    }
    if target == b"*" {
        return if method == b"OPTIONS" {
            Ok(Target { adds_slash: false, path: target, authority: None })
        } else {
            Err(BAD_FORM)
        };
    }
    let Some(colon) = memchr::memmem::find(target, b"://") else { return Err(BAD_FORM) };
    let expected: &[u8] = if is_https { b"https" } else { b"http" };
    if !target[..colon].eq_ignore_ascii_case(expected) {
        return Err(BAD_SCHEME);
    }
    let rest = &target[colon + 3..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !is_host(authority) {
        return Err(BAD_AUTHORITY);
    }
    if path.is_empty() && method == b"OPTIONS" {
        return Ok(Target { adds_slash: false, path: b"*", authority: Some(authority) });
    }
    let adds_slash = path.first() != Some(&b'/');
    check_path(path)?;
    Ok(Target { adds_slash, path, authority: Some(authority) })
}

/// A target that is path and query, or `*` of OPTIONS: all that HTTP/2 has (H-101).
pub fn check_target(method: &[u8], target: &[u8]) -> Result<(), Refusal> {
    match target {
        [b'/', ..] => check_path(target),
        b"*" if method == b"OPTIONS" => Ok(()),
        _ => Err(BAD_FORM),
    }
}

/// The path: visible ASCII without backslash and `#` (T-09); of what RFC 3986 leaves out, only the harmless
/// `"<>^`{|}` pass. The query routes nothing: backslash and bytes from 0x80 pass there as they came (H-12).
fn check_path(path: &[u8]) -> Result<(), Refusal> {
    let end = path.iter().position(|byte| PATH[*byte as usize] != PATH_BYTE).unwrap_or(path.len());
    match path[end..] {
        [] => Ok(()),
        [b'?', ref query @ ..] if query.iter().all(|byte| PATH[*byte as usize] != REFUSED) => {
            Ok(())
        }
        _ => Err(BAD_TARGET),
    }
}

/// Whether the path at the beginning of these bytes is canonical as it stands: no escape, no segment that begins with a dot, no
/// empty segment (H-65). It ends with them, or before a `?` or a blank.
pub fn is_plain_path(target: &[u8]) -> bool {
    let mut before = 0;
    for byte in target {
        match byte {
            b'?' | b' ' => break,
            b'%' => return false,
            b'/' | b'.' if before == b'/' => return false,
            _ => before = *byte,
        }
    }
    true
}

const PATH_BYTE: u8 = 1;
const QUERY_BYTE: u8 = 2;
const REFUSED: u8 = 0;

static PATH: [u8; 256] = {
    let mut table = [REFUSED; 256];
    let mut byte = 0usize;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'#' | 0x7f | ..=b' ' => REFUSED,
            b'?' | b'\\' | 0x80.. => QUERY_BYTE,
            _ => PATH_BYTE,
        };
        byte += 1;
    }
    table
};

/// uri-host [":" port] of RFC 9110 §7.2, without user information and without percent-escapes (no name in use has them).
pub fn is_host(host: &[u8]) -> bool {
    let end = match host {
        [b'[', rest @ ..] => {
            let length = rest
                .iter()
                .position(|byte| !byte.is_ascii_hexdigit() && *byte != b':' && *byte != b'.')
                .unwrap_or(rest.len());
            if !(2..=45).contains(&length) || rest.get(length) != Some(&b']') {
                return false;
            }
            length + 2
        }
        [first, ..] if first.is_ascii_alphanumeric() || *first == b'_' => host
            .iter()
            .position(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b'_' | b'-'))
            .unwrap_or(host.len()),
        _ => return false,
    };
    match host[end..] {
        [] => true,
        [b':', ref port @ ..] => {
            (1..=5).contains(&port.len())
                && port.iter().all(u8::is_ascii_digit)
                && port.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0')) <= 65_535
        }
        _ => false,
    }
}
