//! Lines of heads: the status line, and request heads that we are given. Source: RFC 9112 §2.2, §4, §5; H-03, T-30.

use crate::response::Fault;
use sallyport_http1::{is_token, is_value, lower_token, value_length, CheckedHead};

/// The head of a request that is to be sent: request line and `name: value` lines, each with CRLF.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// What was looked at when it was received, and is sent as it was; none = everything is in `made`.
    received: Option<CheckedHead<'a>>,
    /// What is made here: lines behind those that were received, or the whole head. It is looked at before it is sent.
    made: &'a [u8],
    /// It was looked at before.
    is_known: bool,
}

impl<'a> RequestHead<'a> {
    /// A head that was made as a whole.
    pub fn whole(made: &'a [u8]) -> Self {
        RequestHead { received: None, made, is_known: false }
    }

    /// One that goes on as it was received, with lines behind its own.
    pub fn behind(received: CheckedHead<'a>, made: &'a [u8]) -> Self {
        RequestHead { received: Some(received), made, is_known: false }
    }

    /// The same with lines of which whoever gives them knows that [`are_fields`] holds.
    pub fn behind_known(received: CheckedHead<'a>, lines: &'a [u8]) -> Self {
        debug_assert!(are_fields(lines));
        RequestHead { received: Some(received), made: lines, is_known: true }
    }

    /// Where the request line is.
    pub(crate) fn start(&self) -> &'a [u8] {
        self.received.map_or(self.made, CheckedHead::bytes)
    }

    /// It is one request's head (H-123).
    pub(crate) fn is_valid(&self, looked_at: &mut LookedAt) -> bool {
        match self.received {
            None => is_request_head(self.made),
            Some(_) => self.is_known || looked_at.are_fields(self.made),
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if let Some(received) = self.received {
            out.extend_from_slice(received.bytes());
        }
        out.extend_from_slice(self.made);
    }
}

/// A request line and `name: value` lines with names in lower case, each with CRLF, no empty line (H-123).
pub(crate) fn is_request_head(head: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', head) else { return false };
    let Some(line) = head[..end].strip_suffix(b" HTTP/1.1\r") else { return false };
    let Some(blank) = memchr::memchr(b' ', line) else { return false };
    let (method, target) = (&line[..blank], &line[blank + 1..]);
    if !is_token(method) {
        return false;
    }
    if target.is_empty() || !target.iter().all(|byte| *byte > b' ' && *byte != 0x7f) {
        return false;
    }
    are_fields(&head[end + 1..])
}

/// `name: value` lines with names in lower case, each with CRLF (H-123).
pub fn are_fields(lines: &[u8]) -> bool {
    let mut rest = lines;
    while !rest.is_empty() {
        let is_name = |byte: &&u8| **byte != 0 && lower_token(**byte) == **byte;
        let name = rest.iter().take_while(is_name).count();
        let Some(value) = rest[name..].strip_prefix(b": ") else { return false };
        let Some(after) = value[value_length(value)..].strip_prefix(b"\r\n") else { return false };
        if name == 0 {
            return false;
        }
        rest = after;
    }
    true
}

/// `are_fields` of lines that begin, one time after the other, with the same ones: these are not looked at again.
#[derive(Debug, Default)]
pub struct LookedAt {
    /// The last lines that were fields.
    lines: Vec<u8>,
}

impl LookedAt {
    /// Longer lines are looked at each time.
    const MOST_BYTES: usize = 2048;

    /// See [`are_fields`].
    pub fn are_fields(&mut self, lines: &[u8]) -> bool {
        let same = common_length(&self.lines, lines);
        // whole lines of it: they were fields, whatever stands behind them
        let start = memchr::memrchr(b'\n', &lines[..same]).map_or(0, |end| end + 1);
        if !are_fields(&lines[start..]) {
            return false;
        }
        if lines.len() <= Self::MOST_BYTES {
            self.lines.truncate(start);
            self.lines.extend_from_slice(&lines[start..]);
        }
        true
    }
}

/// How many bytes at the beginning are the same.
fn common_length(one: &[u8], other: &[u8]) -> usize {
    const BLOCK: usize = 16;
    let (mut rest, mut other_rest) = (one, other);
    while let (Some((block, after)), Some((other_block, other_after))) =
        (rest.split_first_chunk::<BLOCK>(), other_rest.split_first_chunk::<BLOCK>())
    {
        if block != other_block {
            break;
        }
        (rest, other_rest) = (after, other_after);
    }
    let start = one.len() - rest.len();
    let bytes = one[start..].iter().zip(&other[start..]);
    start + bytes.take_while(|(one, other)| one == other).count()
}

/// Judges the beginning of a status line.
pub(crate) fn check_status_start(line: &[u8]) -> Result<(), Fault> {
    const START: &[u8] = b"HTTP/1.";
    let length = line.len().min(START.len());
    if line[..length] == START[..length] {
        Ok(())
    } else {
        Err(Fault("no HTTP/1 answer"))
    }
}

/// A status line: minor version, status, reason phrase.
pub(crate) fn split_status(line: &[u8]) -> Result<(u8, u16, &[u8]), Fault> {
    const BAD: Fault = Fault("a status line that is none");
    check_status_start(line)?;
    let (minor, rest) = match line.get(7..) {
        Some([minor @ (b'0' | b'1'), b' ', rest @ ..]) => (minor - b'0', rest),
        _ => return Err(BAD),
    };
    let (digits, rest) = rest.split_at_checked(3).ok_or(BAD)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    let reason = match rest {
        // The blank before an absent reason phrase is left out by many.
        [] => rest,
        [b' ', reason @ ..] => reason,
        _ => return Err(BAD),
    };
    if !is_value(reason) {
        return Err(Fault("a control byte in the reason phrase"));
    }
    if !(100..=599).contains(&status) {
        return Err(Fault("a status outside 100 to 599"));
    }
    Ok((minor, status, reason))
}

/// The standard phrase of a status, for answers whose own is not plain ASCII (RFC 9110 §15).
pub(crate) fn standard_reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        // A reason phrase may be empty (RFC 9112 §4).
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::{are_fields, is_request_head, LookedAt};

    #[test]
    fn h_123_lines_are_fields_whatever_was_looked_at_before() {
        let texts = [
            "x-forwarded-for: 127.0.0.1\r\nx-request-id: 1234\r\n",
            "x-forwarded-for: 127.0.0.1\r\nx-request-id: 1235\r\n",
            "x-forwarded-for: 127.0.0.1\r\nx-request-id: 12",
            "x-forwarded-for: 127.0.0.1\r\nX-request-id: 1235\r\n",
            "x-forwarded-for: 127.0.0.1\r\n\r\nGET / HTTP/1.1\r\n",
            "x-forwarded-for: 127.0.0.1\r\n",
            "x-forwarded-for: 127.0.0.1\rx-request-id: 1235\r\n",
            "x-forwarded-for: 127.0.0.1\r\nx: y\r\nx-request-id: 1235\r\n",
            "x-forwarded-for: 127.0.0.1\r\nx: y\r\n x-request-id: 1235\r\n",
            "\nx: y\r\n",
            "",
            "y: z\r\n",
        ];
        // every one behind every other one
        for first in texts {
            for second in texts {
                let mut looked_at = LookedAt::default();
                for text in [first, second, first] {
                    let text = text.as_bytes();
                    assert_eq!(
                        looked_at.are_fields(text),
                        are_fields(text),
                        "{first:?} {second:?}"
                    );
                }
            }
        }
        let long = format!("a: {}\r\n", "b".repeat(4000));
        let mut looked_at = LookedAt::default();
        assert!(looked_at.are_fields(long.as_bytes()) && looked_at.are_fields(long.as_bytes()));
        assert!(!looked_at.are_fields(&long.as_bytes()[..4000]));
    }

    #[test]
    fn a_request_head_is_one_request_only() {
        for good in [
            "GET / HTTP/1.1\r\n",
            "GET /?a=%20\u{e9} HTTP/1.1\r\nhost: a\r\nx-a: \tb \r\nempty: \r\n",
        ] {
            assert!(is_request_head(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "",
            "GET / HTTP/1.1",
            "GET / HTTP/1.1\n",
            "GET  HTTP/1.1\r\n",
            "GET / HTTP/1.0\r\n",
            " / HTTP/1.1\r\n",
            "G T / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nhost: a",
            "GET / HTTP/1.1\r\nhost: a\n",
            "GET / HTTP/1.1\r\nhost:a\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.1\r\n: a\r\n",
            "GET / HTTP/1.1\r\na b: c\r\n",
            "GET / HTTP/1.1\r\na\u{0}b: c\r\n",
            "GET / HTTP/1.1\r\na: b\u{7f}\r\n",
            "GET / HTTP/1.1\r\na: b\r\r\n",
            "GET / HTTP/1.1\r\na: b\rc: d\r\n",
            "GET / HTTP/1.1\r\na: b\nc: d\r\n",
            "GET / HTTP/1.1\r\na: \u{0}\r\n",
            "GET /\r\nx: y HTTP/1.1\r\n",
        ] {
            assert!(!is_request_head(bad.as_bytes()), "{bad:?}");
        }
    }
}
