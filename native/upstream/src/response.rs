//! One upstream answer, parsed strictly for any cutting of its bytes.
//!
//! Source: RFC 9110 §6.4.1, §8.6, §15.2; RFC 9112 §4 … §7; H-20 … H-26, H-31 … H-35, H-50, H-62, T-30, T-35.

use crate::head::{check_status_start, split_status, standard_reason};
use sallyport_http1::{
    check_field_start, is_hop_by_hop, remove_named, split_field, ChunkedDecoder, ConnectionOptions,
    LineReader, Refusal,
};

/// Beyond it the answer is not taken.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// Interim answers (1xx) before the final one (T-35).
const MAX_INTERIM: u32 = 16;
/// Of interim heads that are kept to be passed on; what is beyond is dropped.
const MAX_INTERIM_BYTES: usize = 16 * 1024;

/// What is wrong with an answer, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault(pub &'static str);

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for Fault {}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Fault(refusal.text)
    }
}

/// Facts of a final head; its text is [`Response::head`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalHead {
    /// 200 to 599, or 101 where it was asked for.
    pub status: u16,
    /// 0 = no body follows, -1 = until the end of chunks or of the connection.
    pub body_length: i64,
    /// Content-Length as sent (also of HEAD and 304), -1 = none.
    pub content_length: i64,
}

/// What a piece of bytes held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The final head was completed.
    pub head: Option<FinalHead>,
    /// Where body data lies in the piece, decoded in place.
    pub data: (usize, usize),
    /// The answer is complete.
    pub ended: bool,
    /// Bytes follow the end: the connection must not be used again (H-34).
    pub excess: bool,
}

#[derive(Debug)]
enum Body {
    Head,
    Length(u64),
    Chunked,
    UntilClose,
    Done,
}

/// Facts that decide framing and reuse, gathered while fields are read.
#[derive(Debug, Default)]
struct Fields {
    content_length: Option<u64>,
    is_chunked: bool,
    connection: ConnectionOptions,
    keep_alive_timeout_s: Option<u64>,
    /// The protocol that `Upgrade` names, lower case.
    upgrade: Vec<u8>,
}

/// Parser of one answer after the other on a connection; `reset` before each.
#[derive(Debug)]
pub struct Response {
    is_head_request: bool,
    body: Body,
    lines: LineReader,
    chunked: ChunkedDecoder,
    has_status: bool,
    minor: u8,
    status: u16,
    interim: u32,
    text: Vec<u8>,
    fields: Fields,
    keeps_alive: bool,
    begun: bool,
    /// The request asked for a WebSocket: 101 is a final answer.
    may_upgrade: bool,
    /// To another protocol, which whoever asked looks at.
    is_other_upgrade: bool,
    keeps_interim: bool,
    interim_text: Vec<u8>,
    keeps_trailers: bool,
}

impl Response {
    /// For an answer to a HEAD request, or to any other.
    pub fn new(is_head_request: bool) -> Self {
        Response {
            is_head_request,
            body: Body::Head,
            lines: LineReader::new(MAX_HEAD_BYTES),
            chunked: ChunkedDecoder::new(),
            has_status: false,
            minor: 1,
            status: 0,
            interim: 0,
            text: Vec::with_capacity(512),
            fields: Fields::default(),
            keeps_alive: false,
            begun: false,
            may_upgrade: false,
            is_other_upgrade: false,
            keeps_interim: false,
            interim_text: Vec::new(),
            keeps_trailers: false,
        }
    }

    /// After `reset`: the request asked to go on as a WebSocket, so that 101 is an answer, behind which bytes are passed
    /// as they are until the connection ends (H-60).
    ///
    /// `is_other`: it asked for another protocol. The answer's head then has `upgrade`, for whoever asked to look at.
    pub fn allow_upgrade(&mut self, is_other: bool) {
        self.may_upgrade = true;
        self.is_other_upgrade = is_other;
    }

    /// After `reset`: heads of interim answers are kept for `take_interim` (H-62).
    pub fn keep_interim(&mut self) {
        self.keeps_interim = true;
    }

    /// After `reset`: trailers are kept, as far as they may travel (H-26).
    pub fn keep_trailers(&mut self) {
        self.keeps_trailers = true;
    }

    /// Those of an answer that is complete, as lines.
    pub fn trailers(&self) -> &[u8] {
        self.chunked.trailers()
    }

    /// Heads of interim answers other than 100 that came since the last call, each with its empty line.
    pub fn take_interim(&mut self, into: &mut Vec<u8>) -> bool {
        into.clear();
        into.append(&mut self.interim_text);
        !into.is_empty()
    }

    /// Makes ready for the next answer; buffers are kept.
    pub fn reset(&mut self, is_head_request: bool) {
        self.is_head_request = is_head_request;
        self.body = Body::Head;
        self.interim = 0;
        self.keeps_alive = false;
        self.begun = false;
        self.may_upgrade = false;
        self.keeps_interim = false;
        self.interim_text.clear();
        self.keeps_trailers = false;
        self.chunked = ChunkedDecoder::new();
        self.begin_head();
    }

    fn begin_head(&mut self) {
        self.lines.reset();
        self.has_status = false;
        self.text.clear();
        self.fields.content_length = None;
        self.fields.is_chunked = false;
        self.fields.connection.clear();
        self.fields.keep_alive_timeout_s = None;
        self.fields.upgrade.clear();
    }

    /// The final head, once complete: status line and `name: value` lines, names in lower case, each line with CRLF;
    /// no framing and no hop-by-hop fields.
    pub fn head(&self) -> &[u8] {
        &self.text
    }

    /// Whether any byte of an answer has come.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether the connection may be used again after this answer, which must have ended (H-53).
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// Seconds of `Keep-Alive: timeout=` (H-82).
    pub fn keep_alive_timeout_s(&self) -> Option<u64> {
        self.fields.keep_alive_timeout_s
    }

    /// Reads the next piece; body data is moved together inside it.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<Parsed, Fault> {
        let mut parsed = Parsed::default();
        let mut at = 0;
        self.begun |= !bytes.is_empty();
        while matches!(self.body, Body::Head) && at < bytes.len() {
            at += self.read_line(&bytes[at..], &mut parsed)?;
        }
        let rest = bytes.len() - at;
        match &mut self.body {
            Body::Head => return Ok(parsed),
            Body::Done => parsed.ended = true,
            Body::UntilClose => {
                parsed.data = (at, bytes.len());
                at = bytes.len();
            }
            Body::Length(left) => {
                let length = rest.min(usize::try_from(*left).unwrap_or(usize::MAX));
                parsed.data = (at, at + length);
                at += length;
                *left -= length as u64;
                parsed.ended = *left == 0;
            }
            Body::Chunked => {
                let (kept, used) = self.chunked.decode(&mut bytes[at..])?;
                parsed.data = (at, at + kept);
                at += used;
                parsed.ended = self.chunked.is_done();
            }
        }
        if parsed.ended {
            self.body = Body::Done;
            parsed.excess = at < bytes.len();
            self.keeps_alive &= !parsed.excess;
        }
        Ok(parsed)
    }

    /// The connection has ended. Fine only where its end is the answer's (H-32).
    pub fn finish(&mut self) -> Result<(), Fault> {
        self.keeps_alive = false;
        match self.body {
            Body::UntilClose | Body::Done => {
                self.body = Body::Done;
                Ok(())
            }
            _ if !self.begun => Err(Fault("the connection was closed before an answer")),
            _ => Err(Fault("the connection was closed inside the answer")),
        }
    }

    fn read_line(&mut self, bytes: &[u8], parsed: &mut Parsed) -> Result<usize, Fault> {
        if self.has_status {
            if let Some((name, value, used)) = self.lines.read_field(bytes) {
                take_field(name, value, &mut self.text, &mut self.fields)?;
                return Ok(used);
            }
        }
        let start = if self.has_status { check_field } else { check_status_start };
        let (line, used) = self.lines.read(bytes, start)?;
        match line {
            None => return Ok(used),
            Some(line) if !self.has_status => {
                let (minor, status, reason) = split_status(line)?;
                (self.minor, self.status, self.has_status) = (minor, status, true);
                write_status(&mut self.text, status, reason);
            }
            Some([]) => {
                self.lines.taken();
                self.end_head(parsed)?;
                return Ok(used);
            }
            Some(line) => {
                let (name, value) = split_field(line)?;
                take_field(name, value, &mut self.text, &mut self.fields)?;
            }
        }
        self.lines.taken();
        Ok(used)
    }

    fn end_head(&mut self, parsed: &mut Parsed) -> Result<(), Fault> {
        let status = self.status;
        if status < 200 {
            self.interim += 1;
            if status == 101 {
                return self.end_upgrade(parsed);
            }
            if self.interim > MAX_INTERIM {
                return Err(Fault("too many interim answers"));
            }
            if self.keeps_interim && status != 100 {
                self.obey_connection();
                if self.interim_text.len() + self.text.len() <= MAX_INTERIM_BYTES {
                    self.interim_text.extend_from_slice(&self.text);
                    self.interim_text.extend_from_slice(b"\r\n");
                }
            }
            self.begin_head();
            return Ok(());
        }
        let (content_length, is_chunked) = (self.fields.content_length, self.fields.is_chunked);
        if is_chunked && content_length.is_some() {
            return Err(Fault("Content-Length beside Transfer-Encoding"));
        }
        if is_chunked && self.minor == 0 {
            return Err(Fault("Transfer-Encoding in an HTTP/1.0 answer"));
        }
        self.obey_connection();
        let connection = &self.fields.connection;
        self.keeps_alive = !connection.close && (self.minor == 1 || connection.keep_alive);
        let length = content_length.map_or(-1, |length| length as i64);
        let is_bodiless = self.is_head_request || status == 204 || status == 304;
        self.body = match content_length {
            _ if is_bodiless => Body::Done,
            Some(0) => Body::Done,
            Some(length) => Body::Length(length),
            None if is_chunked => {
                self.chunked = if self.keeps_trailers {
                    ChunkedDecoder::keeping_trailers()
                } else {
                    ChunkedDecoder::new()
                };
                Body::Chunked
            }
            None => {
                self.keeps_alive = false;
                Body::UntilClose
            }
        };
        parsed.head = Some(FinalHead {
            status,
            body_length: if is_bodiless { 0 } else { length },
            content_length: if status == 204 { -1 } else { length },
        });
        Ok(())
    }

    /// From here on bytes mean nothing to us.
    fn end_upgrade(&mut self, parsed: &mut Parsed) -> Result<(), Fault> {
        if !self.may_upgrade {
            return Err(Fault("101 without an upgrade"));
        }
        if self.is_other_upgrade {
            self.text.extend_from_slice(b"upgrade: ");
            self.text.extend_from_slice(&self.fields.upgrade);
            self.text.extend_from_slice(b"\r\n");
        } else if self.fields.upgrade != b"websocket" {
            return Err(Fault("101 to another protocol than was asked for"));
        }
        self.obey_connection();
        self.keeps_alive = false;
        self.body = Body::UntilClose;
        parsed.head = Some(FinalHead { status: 101, body_length: -1, content_length: -1 });
        Ok(())
    }

    /// What `Connection` names goes (H-50).
    fn obey_connection(&mut self) {
        let named = self.fields.connection.named();
        if !named.is_empty() {
            let start = memchr::memchr(b'\n', &self.text).map_or(self.text.len(), |end| end + 1);
            remove_named(&mut self.text, start, named, stays, &mut Vec::new());
        }
    }

    /// Whether an end of the connection here would lie inside a line of the head.
    pub fn is_inside_line(&self) -> bool {
        self.lines.has_partial()
    }
}

fn check_field(line: &[u8]) -> Result<(), Fault> {
    Ok(check_field_start(line)?)
}

fn write_status(text: &mut Vec<u8>, status: u16, reason: &[u8]) {
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(status.to_string().as_bytes());
    text.push(b' ');
    if reason.is_ascii() {
        text.extend_from_slice(reason);
    } else {
        text.extend_from_slice(standard_reason(status).as_bytes());
    }
    text.extend_from_slice(b"\r\n");
}

/// Reads one field: framing and hop-by-hop fields into `fields`, everything else into `text`.
fn take_field(
    name: &[u8],
    value: &[u8],
    text: &mut Vec<u8>,
    fields: &mut Fields,
) -> Result<(), Fault> {
    let start = text.len();
    text.extend_from_slice(name);
    text[start..].make_ascii_lowercase();
    match &text[start..] {
        b"content-length" => {
            if fields.content_length.is_some() {
                return Err(Fault("Content-Length twice"));
            }
            fields.content_length = Some(read_length(value)?);
        }
        b"transfer-encoding" => {
            if fields.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault("Transfer-Encoding is not exactly chunked"));
            }
            fields.is_chunked = true;
        }
        b"connection" => fields.connection.read(value),
        b"keep-alive" => {
            fields.keep_alive_timeout_s = read_timeout(value).or(fields.keep_alive_timeout_s)
        }
        b"upgrade" => {
            fields.upgrade.clear();
            fields.upgrade.extend(value.iter().map(u8::to_ascii_lowercase));
        }
        name if is_hop_by_hop(name) => {}
        _ => {
            text.extend_from_slice(b": ");
            text.extend_from_slice(value);
            text.extend_from_slice(b"\r\n");
            return Ok(());
        }
    }
    text.truncate(start);
    Ok(())
}

/// H-23: 1 to 16 decimal digits.
fn read_length(value: &[u8]) -> Result<u64, Fault> {
    if value.is_empty() || value.len() > 16 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Fault("Content-Length is not a decimal number"));
    }
    Ok(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// `timeout=N` of a `Keep-Alive` value.
fn read_timeout(value: &[u8]) -> Option<u64> {
    value.split(|byte| *byte == b',').find_map(|parameter| {
        let (name, digits) = parameter.trim_ascii().split_at_checked(8)?;
        if !name.eq_ignore_ascii_case(b"timeout=") || digits.is_empty() || digits.len() > 9 {
            return None;
        }
        std::str::from_utf8(digits).ok()?.parse().ok()
    })
}

/// An answer that names these in `Connection` only harms itself: they stay (H-52 is about requests).
fn stays(name: &[u8]) -> bool {
    matches!(
        name,
        b"set-cookie"
            | b"content-type"
            | b"content-encoding"
            | b"cache-control"
            | b"location"
            | b"content-range"
    )
}
