//! Heads that leave us. Source: RFC 9112 §4, §5; H-31, H-58, H-123.

use sallyport_http1::{is_value, lower_token};

use crate::edits::KeptEdits;

/// A head that the gateway made is not one answer's: nothing was sent (H-123).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHead;

impl std::fmt::Display for BadHead {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("not a valid response head")
    }
}

impl std::error::Error for BadHead {}

/// The head of an answer.
#[derive(Clone, Copy)]
pub(crate) enum AnswerHead<'a> {
    /// As the gateway made it.
    Made(&'a [u8]),
    /// That of the upstream's answer as the pool has it, with edits that were looked at.
    Passed(&'a KeptEdits),
}

/// Fields that only the gateway may send (O-73): an upstream's are dropped.
fn is_gateways(name: &[u8]) -> bool {
    matches!(name, b"x-request-id" | b"ngrok-error-code" | b"sallyport-error-code")
}

/// Fields that we write ourselves: framing, and what belongs to the connection.
fn is_ours(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection" | b"content-length" | b"transfer-encoding" | b"keep-alive" | b"upgrade"
    )
}

/// Appends status line and lines of an answer without the fields that are ours to write. Returns the status, and whether
/// there is a `date`. `text` is as before when the head is bad.
pub(crate) fn write_answer(text: &mut Vec<u8>, head: &[u8]) -> Result<(u16, bool), BadHead> {
    let start = text.len();
    copy_answer(text, head).inspect_err(|_| text.truncate(start))
}

fn copy_answer(text: &mut Vec<u8>, head: &[u8]) -> Result<(u16, bool), BadHead> {
    let end = memchr::memchr(b'\n', head).ok_or(BadHead)?;
    let line = head[..end].strip_suffix(b"\r").ok_or(BadHead)?;
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', digits @ ..] = line else {
        return Err(BadHead);
    };
    let (digits, reason) = digits.split_at_checked(3).ok_or(BadHead)?;
    if !digits.iter().all(u8::is_ascii_digit) || reason.first() != Some(&b' ') || !is_value(reason)
    {
        return Err(BadHead);
    }
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    if status != 101 && !(200..=599).contains(&status) {
        return Err(BadHead);
    }
    // Runs of lines that stay are copied together.
    let mut run = 0;
    let mut at = end + 1;
    let mut has_date = false;
    while at < head.len() {
        let end = at + memchr::memchr(b'\n', &head[at..]).ok_or(BadHead)?;
        let line = head[at..end].strip_suffix(b"\r").ok_or(BadHead)?;
        let colon = memchr::memchr(b':', line).ok_or(BadHead)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty()
            || !name.iter().all(|byte| *byte != 0 && lower_token(*byte) == *byte)
            || value.first() != Some(&b' ')
            || !is_value(value)
        {
            return Err(BadHead);
        }
        if is_ours(name) {
            text.extend_from_slice(&head[run..at]);
            run = end + 1;
        }
        has_date |= name == b"date";
        at = end + 1;
    }
    text.extend_from_slice(&head[run..]);
    Ok((status, has_date))
}

/// Appends the head of an upstream's answer, as its parser wrote it, without the gateway's own fields and those that `edits`
/// leave out, and the lines they add.
pub(crate) fn write_passed(
    text: &mut Vec<u8>,
    head: &[u8],
    edits: &KeptEdits,
) -> Result<(u16, bool), BadHead> {
    let has_removed = !edits.removed().is_empty();
    let digits = head.get(9..12).ok_or(BadHead)?;
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit & 15));
    let (mut run, mut at) = (0, memchr::memchr(b'\n', head).ok_or(BadHead)? + 1);
    let mut has_date = false;
    while at < head.len() {
        let end = at + memchr::memchr(b'\n', &head[at..]).ok_or(BadHead)? + 1;
        let line = &head[at..end];
        // All that are the gateway's begin with one of these.
        let mut is_kept = true;
        if has_removed || matches!(line[0], b'x' | b'n' | b's') {
            let colon = memchr::memchr(b':', line).ok_or(BadHead)?;
            is_kept = !is_gateways(&line[..colon]) && !edits.removes(&line[..colon]);
        }
        if is_kept {
            has_date |= line.starts_with(b"date:");
        } else {
            text.extend_from_slice(&head[run..at]);
            run = end;
        }
        at = end;
    }
    text.extend_from_slice(&head[run..]);
    text.extend_from_slice(edits.lines());
    Ok((status, has_date))
}

/// A request head that asks to go on with another protocol: the lines of the upgrade are made anew (H-60), and the key, where
/// one is given.
pub(crate) fn write_upgrade(text: &mut Vec<u8>, head: &[u8], key: Option<&str>, protocol: &[u8]) {
    for (index, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let name = &line[..memchr::memchr(b':', line).unwrap_or(0)];
        let is_replaced = key.is_some() && name == b"sec-websocket-key";
        if index == 0 || !is_ours(name) && !is_replaced {
            text.extend_from_slice(line);
        }
    }
    if let Some(key) = key {
        text.extend_from_slice(b"sec-websocket-key: ");
        text.extend_from_slice(key.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    write_protocol(text, protocol);
}

/// The two lines that name the protocol.
pub(crate) fn write_protocol(text: &mut Vec<u8>, protocol: &[u8]) {
    text.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
    text.extend_from_slice(protocol);
    text.extend_from_slice(b"\r\n");
}

/// The value of a field that appears once in a head.
pub(crate) fn value_of<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut values = head
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(b": ")?.strip_suffix(b"\r"));
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// `name: NUMBER` with CRLF.
pub(crate) fn write_length(text: &mut Vec<u8>, length: u64) {
    text.extend_from_slice(b"content-length: ");
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = length;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
    text.extend_from_slice(b"\r\n");
}

/// The phrase of a status that we answer ourselves (H-84).
pub(crate) fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// Lines that belong to a status (H-84).
pub(crate) fn extra_lines(status: u16) -> &'static str {
    match status {
        405 => "allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n",
        426 => "sec-websocket-version: 13\r\n",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sallyport_http1::chunk_size;

    #[test]
    fn h_58_h_50_our_own_fields_are_written_once() {
        let mut text = Vec::new();
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\na: b\r\nconnection: x\r\ndate: now\r\ntransfer-encoding: chunked\r\n";
        assert_eq!(write_answer(&mut text, head), Ok((200, true)));
        assert_eq!(text, b"HTTP/1.1 200 OK\r\na: b\r\ndate: now\r\n");
    }

    #[test]
    fn o_73_what_passes_has_nothing_of_ours_but_what_we_say() {
        let mut text = Vec::new();
        let head = b"HTTP/1.1 404 Not Found\r\nx-request-id: theirs\r\nx-a: b\r\nsallyport-error-code: 1\r\nngrok-error-code: 2\r\nserver: s\r\n";
        let ours = edits(b"x-request-id: ours\r\n", b"");
        assert_eq!(write_passed(&mut text, head, &ours), Ok((404, false)));
        assert_eq!(
            text,
            b"HTTP/1.1 404 Not Found\r\nx-a: b\r\nserver: s\r\nx-request-id: ours\r\n"
        );
        text.clear();
        assert_eq!(
            write_passed(&mut text, b"HTTP/1.1 200 OK\r\ndate: x\r\n", &edits(b"", b"")),
            Ok((200, true))
        );
        assert_eq!(text, b"HTTP/1.1 200 OK\r\ndate: x\r\n");
    }

    #[test]
    fn what_passes_is_without_the_fields_that_are_named() {
        let mut text = Vec::new();
        let head = b"HTTP/1.1 200 OK\r\nserver: a\r\ndate: b\r\nserver-timing: c\r\nserver: d\r\n";
        let without = edits(b"server: ours\r\n", b"server\ndate\n");
        // The gateway's own date takes the place of one that was left out.
        assert_eq!(write_passed(&mut text, head, &without), Ok((200, false)));
        assert_eq!(text, b"HTTP/1.1 200 OK\r\nserver-timing: c\r\nserver: ours\r\n");
    }

    fn edits(lines: &[u8], removed: &[u8]) -> KeptEdits {
        KeptEdits::new(crate::edits::Edits { lines, removed, clocks: &[] }, Vec::new())
    }

    #[test]
    fn h_123_what_is_not_one_head_is_refused() {
        for bad in [
            "",
            "HTTP/1.1 200 OK",
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.1 100 Continue\r\n",
            "HTTP/1.1 2xx OK\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n",
            "HTTP/1.1 200 OK\r\na: b\rc\r\n",
            "HTTP/1.1 200 OK\r\na: b\n",
            "HTTP/1.1 200 OK\r\na:b\r\n",
            "HTTP/1.1 200 OK\r\n: b\r\n",
            "HTTP/1.1 200 O\u{1}K\r\n",
        ] {
            let mut text = b"x".to_vec();
            assert_eq!(write_answer(&mut text, bad.as_bytes()), Err(BadHead), "{bad:?}");
            assert_eq!(text, b"x");
        }
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        let mut text = Vec::new();
        write_length(&mut text, 0);
        write_length(&mut text, 18_446_744_073_709_551_615);
        assert_eq!(text, b"content-length: 0\r\ncontent-length: 18446744073709551615\r\n");
        for (length, size) in [(0, "0\r\n"), (15, "f\r\n"), (65_536, "10000\r\n")] {
            assert_eq!(chunk_size(&mut [0; 18], length), size.as_bytes());
        }
    }
}
