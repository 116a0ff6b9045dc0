//! The handshake of a WebSocket, as far as a request shows it. Source: RFC 6455 §4.2.1; H-90.

use crate::bytes::{is_token, trim};
use crate::facts::Framing;
use crate::refusal::{
    Refusal, WEB_SOCKET_KEY, WEB_SOCKET_METHOD, WEB_SOCKET_PROTOCOL, WEB_SOCKET_VERSION,
};

/// What is wrong with a request to become a WebSocket, if anything. `lines`: its flat header lines.
pub(crate) fn check_handshake(
    method: &[u8],
    framing: Framing,
    lines: &[u8],
) -> Result<(), Refusal> {
    if method != b"GET" || framing != Framing::None {
        return Err(WEB_SOCKET_METHOD);
    }
    check_offer(lines)?;
    let mut keys = values(lines, b"sec-websocket-key: ");
    if !keys.next().is_some_and(is_key) || keys.next().is_some() {
        return Err(WEB_SOCKET_KEY);
    }
    Ok(())
}

/// The same as far as it does not depend on the protocol that it comes in: HTTP/2 has neither key nor method for it
/// (RFC 8441 §5).
///
/// # Errors
/// 426 for another version, 400 for a list of subprotocols that is none.
pub fn check_offer(lines: &[u8]) -> Result<(), Refusal> {
    let mut versions = values(lines, b"sec-websocket-version: ");
    if versions.next() != Some(b"13") || versions.next().is_some() {
        return Err(WEB_SOCKET_VERSION);
    }
    let mut protocols: Vec<&[u8]> = values(lines, b"sec-websocket-protocol: ")
        .filter(|value| !value.is_empty())
        .flat_map(|value| value.split(|byte| *byte == b',').map(trim))
        .collect();
    protocols.sort_unstable();
    let is_list = protocols.iter().all(|protocol| is_token(protocol))
        && protocols.windows(2).all(|pair| pair[0] != pair[1]);
    if is_list {
        Ok(())
    } else {
        Err(WEB_SOCKET_PROTOCOL)
    }
}

/// The values of a field's lines. `start`: lower-case name, colon and blank.
fn values<'a>(lines: &'a [u8], start: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    lines
        .split(|byte| *byte == b'\n')
        .filter_map(move |line| line.strip_prefix(start)?.strip_suffix(b"\r"))
}

/// 16 bytes in base64: the last digit before the padding has four bits to spare.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key[..21].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        && matches!(key[21], b'A' | b'Q' | b'g' | b'w')
        && key.ends_with(b"==")
}
