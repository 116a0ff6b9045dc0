//! Reads a request head out of the bytes of a connection: lines and limits, byte for byte.
//!
//! A head that is there as a whole, as nearly all are, is read in one pass. Of one that is not, only the place is kept
//! up to which it was looked at; when its end has come it is read once more, from the beginning. So every byte is
//! looked at three times at most, whatever the pieces, and a connection that waits costs nothing but its bytes.
//!
//! Source: RFC 9112 §2.2, §3, §5; H-01 … H-06, H-08, H-10, H-13, H-14, H-125.

use crate::bytes::{target_length, token_length, value_length};
use crate::decide::decide;
use crate::facts::{Lines, RequestHead, RequestRules, Version};
use crate::fields::Fields;
use crate::refusal::{
    Refusal, BAD_LINE, BAD_METHOD, BAD_NAME, BAD_REQUEST_LINE, BAD_TARGET, BAD_VERSION, BARE_CR,
    BARE_LF, BLANK_FIRST, FOLDED_LINE, LONG_HEAD, LONG_METHOD, LONG_TARGET, MANY_EMPTY_LINES,
    OTHER_VERSION,
};

const MAX_EMPTY_LINES: u8 = 8;
const MAX_METHOD_BYTES: usize = 32;
const MAX_LINE_BYTES: usize = 32 * 1024;

/// Reader of one head after the other on a connection.
#[derive(Clone, Debug, Default)]
pub struct RequestReader {
    scan: Scan,
}

impl RequestReader {
    /// At the beginning of a request.
    pub fn new() -> Self {
        RequestReader::default()
    }

    /// Whether anything of the next head has come, empty lines before it aside. A connection that ends or is idle
    /// too long before that has done nothing wrong (H-81).
    pub fn has_begun(&self) -> bool {
        !matches!(self.scan.part, Part::Empty)
    }

    /// Looks for a head at the beginning of `bytes`: all bytes of the connection since the request before, also those
    /// that were given before. `None`: more are needed.
    ///
    /// A complete head is appended to `text` as the gateway's flat form (request line in origin-form with `HTTP/1.1`,
    /// then `name: value\r\n` lines with names in lower case, in the order received); its framing and hop-by-hop
    /// lines, in the same form, to `connection_lines`, behind the request line as it was sent where that differs
    /// ([`RECEIVED_LINE`](crate::RECEIVED_LINE)). Nothing is appended otherwise. Afterwards the reader is at the
    /// beginning of the next request.
    ///
    /// # Errors
    /// The first thing in the order of the bytes that makes the head impossible, as soon as that byte is there; what
    /// depends on the whole head comes at its end.
    pub fn read(
        &mut self,
        bytes: &[u8],
        rules: &RequestRules,
        text: &mut Vec<u8>,
        connection_lines: &mut Vec<u8>,
    ) -> Result<Option<RequestHead>, Refusal> {
        if self.scan.at > 0 {
            match self.scan.run(bytes, rules, &mut Nothing) {
                Ok(true) => self.scan = Scan::default(),
                Ok(false) => return Ok(None),
                Err(refusal) => {
                    self.scan = Scan::default();
                    return Err(refusal);
                }
            }
        }
        let (text_start, lines_start) = (text.len(), connection_lines.len());
        let mut fields = Fields::new(text, connection_lines, rules);
        let result = match self.scan.run(bytes, rules, &mut fields) {
            Ok(true) => decide(fields, rules).map(Some),
            Ok(false) => Ok(None),
            Err(refusal) => Err(refusal),
        };
        match result {
            Ok(Some(mut head)) => {
                head.consumed = self.scan.at;
                self.scan = Scan::default();
                Ok(Some(head))
            }
            other => {
                if other.is_err() {
                    self.scan = Scan::default();
                }
                text.truncate(text_start);
                connection_lines.truncate(lines_start);
                other
            }
        }
    }
}

/// The lines of a head that is not complete are judged only.
struct Nothing;

impl Lines<'_> for Nothing {
    fn request_line(&mut self, _: &[u8], _: &[u8], _: Version) {}
    fn field(&mut self, _: &[u8], _: &[u8]) {}
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// Before the request line.
    #[default]
    Empty,
    Method,
    Target,
    /// Version and line end.
    Version,
    LineStart,
    Name,
    Value,
}

/// A place in a head. Offsets count from the beginning of the bytes.
#[derive(Clone, Debug, Default)]
struct Scan {
    part: Part,
    /// Everything before it has been looked at.
    at: usize,
    /// Beginning of the line.
    line: usize,
    /// End of the method or of the field name.
    first_end: usize,
    /// End of the target.
    second_end: usize,
    /// Beginning of the header section.
    section: usize,
    fields: usize,
    empty_lines: u8,
}

impl Scan {
    /// Goes on to the end of the head (true: `at` is behind it) or of the bytes (false).
    ///
    /// Everything is decided by the first byte that allows it, never by what stands behind: so the pieces in which
    /// the bytes come make no difference.
    fn run<'a>(
        &mut self,
        bytes: &'a [u8],
        rules: &RequestRules,
        lines: &mut impl Lines<'a>,
    ) -> Result<bool, Refusal> {
        loop {
            if self.at >= bytes.len() {
                return Ok(false);
            }
            match self.part {
                Part::Empty => match bytes[self.at] {
                    b'\r' => match bytes.get(self.at + 1) {
                        None => return Ok(false),
                        Some(b'\n') => {
                            self.at += 2;
                            self.empty_lines += 1;
                            if self.empty_lines > MAX_EMPTY_LINES {
                                return Err(MANY_EMPTY_LINES);
                            }
                        }
                        Some(_) => return Err(BARE_CR),
                    },
                    b'\n' => return Err(BARE_LF),
                    _ => {
                        self.line = self.at;
                        self.part = Part::Method;
                    }
                },
                Part::Method => {
                    let end = bytes.len().min(self.line + MAX_METHOD_BYTES + 1);
                    self.at += token_length(&bytes[self.at..end]);
                    if self.at - self.line > MAX_METHOD_BYTES {
                        return Err(LONG_METHOD);
                    }
                    match bytes.get(self.at) {
                        None => return Ok(false),
                        Some(b' ') if self.at > self.line => {}
                        Some(b'\r' | b' ') => return Err(BAD_REQUEST_LINE),
                        Some(b'\n') => return Err(BARE_LF),
                        Some(_) => return Err(BAD_METHOD),
                    }
                    self.first_end = self.at;
                    self.at += 1;
                    self.part = Part::Target;
                }
                Part::Target => {
                    let start = self.first_end + 1;
                    let end =
                        bytes.len().min(start.saturating_add(rules.uri_bytes).saturating_add(1));
                    self.at += target_length(&bytes[self.at..end]);
                    if self.at - start > rules.uri_bytes {
                        return Err(LONG_TARGET);
                    }
                    match bytes.get(self.at) {
                        None => return Ok(false),
                        Some(b' ') if self.at > start => {}
                        Some(b' ') => return Err(BAD_REQUEST_LINE),
                        // No version: HTTP/0.9, or nothing that is known (H-08).
                        Some(b'\r') => return Err(BAD_VERSION),
                        Some(b'\n') => return Err(BARE_LF),
                        Some(_) => return Err(BAD_TARGET),
                    }
                    self.second_end = self.at;
                    self.at += 1;
                    self.part = Part::Version;
                }
                Part::Version => {
                    let start = self.second_end + 1;
                    let version = &bytes[start..bytes.len().min(start + 10)];
                    if !read_version(version)? {
                        self.at = start + version.len();
                        return Ok(false);
                    }
                    self.at = start + 10;
                    let version = match (version[5], version[7]) {
                        (b'1', b'0') => Version::Http10,
                        (b'1', _) => Version::Http11,
                        (b'0', b'9') => return Err(BAD_VERSION),
                        _ => return Err(OTHER_VERSION),
                    };
                    lines.request_line(
                        &bytes[self.line..self.first_end],
                        &bytes[self.first_end + 1..self.second_end],
                        version,
                    );
                    self.section = self.at;
                    self.part = Part::LineStart;
                }
                Part::LineStart => {
                    match bytes[self.at] {
                        b'\r' => match bytes.get(self.at + 1) {
                            None => return Ok(false),
                            Some(b'\n') => {
                                self.at += 2;
                                return Ok(true);
                            }
                            Some(_) => return Err(BARE_CR),
                        },
                        b'\n' => return Err(BARE_LF),
                        b' ' | b'\t' if self.fields == 0 => return Err(BLANK_FIRST),
                        b' ' | b'\t' => return Err(FOLDED_LINE),
                        _ => {}
                    }
                    self.fields += 1;
                    if self.fields > rules.fields {
                        return Err(LONG_HEAD);
                    }
                    self.line = self.at;
                    self.part = Part::Name;
                }
                Part::Name => {
                    let end = bytes.len().min(self.line_limit(rules));
                    self.at += token_length(&bytes[self.at..end]);
                    if self.at == end {
                        return self.ran_out(bytes);
                    }
                    match bytes[self.at] {
                        b':' if self.at > self.line => {}
                        b':' | b' ' | b'\t' | b'\r' => return Err(BAD_NAME),
                        b'\n' => return Err(BARE_LF),
                        _ => return Err(BAD_LINE),
                    }
                    self.first_end = self.at;
                    self.at += 1;
                    self.part = Part::Value;
                }
                Part::Value => {
                    let end = bytes.len().min(self.line_limit(rules));
                    self.at += value_length(&bytes[self.at..end]);
                    if self.at == end {
                        return self.ran_out(bytes);
                    }
                    match bytes[self.at] {
                        b'\r' if self.at + 1 == end => {
                            return if end < bytes.len() { Err(LONG_HEAD) } else { Ok(false) }
                        }
                        b'\r' if bytes[self.at + 1] == b'\n' => {}
                        b'\r' => return Err(BARE_CR),
                        b'\n' => return Err(BARE_LF),
                        _ => return Err(BAD_LINE),
                    }
                    lines.field(
                        &bytes[self.line..self.first_end],
                        &bytes[self.first_end + 1..self.at],
                    );
                    self.at += 2;
                    self.part = Part::LineStart;
                }
            }
        }
    }

    /// Where a field line must have ended (H-14).
    fn line_limit(&self, rules: &RequestRules) -> usize {
        (self.line + MAX_LINE_BYTES).min(self.section.saturating_add(rules.head_bytes))
    }

    /// The end of the bytes was reached, or that of what is allowed.
    fn ran_out(&self, bytes: &[u8]) -> Result<bool, Refusal> {
        if self.at < bytes.len() {
            Err(LONG_HEAD)
        } else {
            Ok(false)
        }
    }
}

/// `HTTP/d.d` and CRLF; false: as far as it goes (H-08).
fn read_version(bytes: &[u8]) -> Result<bool, Refusal> {
    const FORM: &[u8; 10] = b"HTTP/1.1\r\n";
    if bytes == FORM {
        return Ok(true);
    }
    for (at, byte) in bytes.iter().enumerate() {
        let is_right = match at {
            5 | 7 => byte.is_ascii_digit(),
            _ => *byte == FORM[at],
        };
        if !is_right {
            return Err(match (at, byte) {
                (_, b'\n') => BARE_LF,
                (9, _) => BARE_CR,
                (8, b' ' | b'\t') => BAD_REQUEST_LINE,
                _ => BAD_VERSION,
            });
        }
    }
    Ok(bytes.len() == FORM.len())
}

/// Method and target for the log of a refused request, as far as they are there: bounded, without a line end.
pub fn request_line(bytes: &[u8]) -> &[u8] {
    const MOST: usize = 256;
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let line = &bytes[start..bytes.len().min(start + MOST)];
    let line =
        &line[..line.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(line.len())];
    line.strip_suffix(b" HTTP/1.1").or(line.strip_suffix(b" HTTP/1.0")).unwrap_or(line)
}
