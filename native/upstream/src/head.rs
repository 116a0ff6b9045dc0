//! Lines of a head: cutting, status line, fields. Source: RFC 9112 §2.2, §4, §5; H-03, T-30.

use crate::response::Fault;

/// A token byte in lower case; 0 for every other byte.
pub(crate) fn lower_token(byte: u8) -> u8 {
    TOKEN[byte as usize]
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

/// Bytes that a field value or a reason phrase may hold.
static VALUE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0usize;
    while byte < 256 {
        table[byte] = byte == 0x09 || (byte >= 0x20 && byte != 0x7f);
        byte += 1;
    }
    table
};

/// Cuts lines out of bytes that arrive in pieces: each ends in CRLF, a CR or LF elsewhere is a fault.
#[derive(Debug)]
pub(crate) struct LineReader {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    is_taken: bool,
    left: usize,
    most: usize,
}

impl LineReader {
    /// `most`: bytes of all lines together.
    pub(crate) fn new(most: usize) -> Self {
        LineReader { partial: Vec::new(), is_taken: false, left: most, most }
    }

    pub(crate) fn reset(&mut self) {
        self.partial.clear();
        self.is_taken = false;
        self.left = self.most;
    }

    pub(crate) fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// The next line without its CRLF, if it is complete, and how many bytes were used. `start` judges the beginning
    /// of a line whose end has not come. Call `taken` when done with the line.
    pub(crate) fn read<'a>(
        &'a mut self,
        bytes: &'a [u8],
        start: fn(&[u8]) -> Result<(), Fault>,
    ) -> Result<(Option<&'a [u8]>, usize), Fault> {
        const TOO_LONG: Fault = Fault("a head or trailer section beyond the limit");
        let end = memchr::memchr(b'\n', bytes).map(|at| at + 1);
        let used = end.unwrap_or(bytes.len());
        self.left = self.left.checked_sub(used).ok_or(TOO_LONG)?;
        if end.is_none() || !self.partial.is_empty() {
            self.partial.extend_from_slice(&bytes[..used]);
            if end.is_none() {
                start(&self.partial)?;
                return Ok((None, used));
            }
            self.is_taken = true;
            return Ok((Some(without_crlf(&self.partial)?), used));
        }
        Ok((Some(without_crlf(&bytes[..used])?), used))
    }

    pub(crate) fn taken(&mut self) {
        if std::mem::take(&mut self.is_taken) {
            self.partial.clear();
        }
    }
}

fn without_crlf(line: &[u8]) -> Result<&[u8], Fault> {
    let line = line.strip_suffix(b"\r\n").ok_or(Fault("a line that ends in a bare LF"))?;
    if memchr::memchr(b'\r', line).is_some() {
        return Err(Fault("a bare CR"));
    }
    Ok(line)
}

/// A request line and `name: value` lines with names in lower case, each with CRLF, no empty line (H-123).
pub(crate) fn is_request_head(head: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', head) else { return false };
    let Some(line) = head[..end].strip_suffix(b" HTTP/1.1\r") else { return false };
    let Some(blank) = memchr::memchr(b' ', line) else { return false };
    let (method, target) = (&line[..blank], &line[blank + 1..]);
    if method.is_empty() || !method.iter().all(|byte| lower_token(*byte) != 0) {
        return false;
    }
    if target.is_empty() || !target.iter().all(|byte| *byte > b' ' && *byte != 0x7f) {
        return false;
    }
    let mut rest = &head[end + 1..];
    while !rest.is_empty() {
        let name = rest.iter().take_while(|byte| lower_token(**byte) == **byte).count();
        let Some(value) = rest[name..].strip_prefix(b": ") else { return false };
        let length = value.iter().take_while(|byte| VALUE[**byte as usize]).count();
        let Some(after) = value[length..].strip_prefix(b"\r\n") else { return false };
        if name == 0 {
            return false;
        }
        rest = after;
    }
    true
}

/// Judges the beginning of a field line.
pub(crate) fn check_field_start(line: &[u8]) -> Result<(), Fault> {
    match line {
        [first, ..] if *first != b'\r' && lower_token(*first) == 0 => {
            Err(Fault("a field name that is no token"))
        }
        [b'\r', second, ..] if *second != b'\n' => Err(Fault("a bare CR")),
        _ => Ok(()),
    }
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
    if !reason.iter().all(|byte| VALUE[*byte as usize]) {
        return Err(Fault("a control byte in the reason phrase"));
    }
    if !(100..=599).contains(&status) {
        return Err(Fault("a status outside 100 to 599"));
    }
    Ok((minor, status, reason))
}

/// A field line: name as sent, value without the white space around it.
pub(crate) fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let colon = memchr::memchr(b':', line).ok_or(Fault("a field line without a colon"))?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.is_empty() || name.iter().any(|byte| lower_token(*byte) == 0) {
        return Err(Fault("a field name that is no token"));
    }
    if !line[colon + 1..].iter().all(|byte| VALUE[*byte as usize]) {
        return Err(Fault("a control byte in a field value"));
    }
    Ok((name, value))
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
    use super::is_request_head;

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
            "GET / HTTP/1.1\r\na: b\rc: d\r\n",
            "GET / HTTP/1.1\r\na: b\nc: d\r\n",
            "GET / HTTP/1.1\r\na: \u{0}\r\n",
            "GET /\r\nx: y HTTP/1.1\r\n",
        ] {
            assert!(!is_request_head(bad.as_bytes()), "{bad:?}");
        }
    }
}
