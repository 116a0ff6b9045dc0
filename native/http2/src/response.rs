//! Answers of upstreams: from the fields of a header block to the flat head of the gateway; trailers of both sides.
//!
//! Source: RFC 9113 §8.1, §8.3.2; H-26, H-31, H-35, H-50, H-62, T-30, T-35.

use sallyport_http1::{is_dropped, is_hop_by_hop};

use crate::field::{self, Fault};

/// Beyond it an answer is not taken; as with answers in HTTP/1.1.
pub(crate) const MAX_HEAD_BYTES: usize = 128 * 1024;
/// H-14, of trailers.
const MAX_TRAILER_BYTES: usize = 64 * 1024;
const MAX_TRAILERS: usize = 200;

/// An answer's final head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// `HTTP/1.1 STATUS reason` and `name: value` lines, each with CRLF; no framing and no hop-by-hop fields.
    pub head: Vec<u8>,
    /// 200 to 599.
    pub status: u16,
    /// Content-Length as sent (also of HEAD and 304), -1 = none.
    pub content_length: i64,
    /// 0 = no body follows, -1 = unknown until its end.
    pub body_length: i64,
}

/// What a header block of an upstream turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 1xx: status line and lines (H-62).
    Interim(u16, Vec<u8>),
    Final(ResponseHead),
}

pub(crate) struct ResponseReader {
    status: Option<u16>,
    lines: Vec<u8>,
    content_length: Option<u64>,
    has_regular: bool,
    bytes: usize,
    fault: Option<&'static str>,
}

impl ResponseReader {
    pub(crate) fn new() -> Self {
        ResponseReader {
            status: None,
            lines: Vec::new(),
            content_length: None,
            has_regular: false,
            bytes: 0,
            fault: None,
        }
    }

    pub(crate) fn take(&mut self, name: &[u8], value: &[u8]) {
        self.bytes = self.bytes.saturating_add(name.len() + value.len());
        if self.bytes > MAX_HEAD_BYTES {
            self.fault.get_or_insert("a header section beyond the limit");
        }
        if self.fault.is_none() {
            self.fault = self.read(name, value).err();
        }
    }

    fn read(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.first() == Some(&b':') {
            if name != b":status" || self.status.is_some() || self.has_regular {
                return Err("a pseudo-field out of place");
            }
            let status = field::read_length(value).filter(|_| value.len() == 3);
            let status = status.filter(|status| (100..=599).contains(status));
            self.status = Some(status.ok_or("a status outside 100 to 599")? as u16);
            return Ok(());
        }
        self.has_regular = true;
        field::check(name, value).map_err(|fault| match fault {
            Fault::Malformed(text) => text,
            Fault::ControlByte => "a control byte in a field value",
        })?;
        if name == b"content-length" {
            let length = field::read_length(value).ok_or("Content-Length is no decimal number")?;
            if self.content_length.replace(length).is_some() {
                return Err("Content-Length twice");
            }
        } else if !is_hop_by_hop(name) {
            field::write_line(&mut self.lines, name, value);
        }
        Ok(())
    }

    /// `ends`: nothing follows. Fails when the answer is malformed.
    pub(crate) fn finish(self, is_head_request: bool, ends: bool) -> Result<Answer, &'static str> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let status = self.status.ok_or("no :status")?;
        if status < 200 {
            // HTTP/2 has no 101 (RFC 9113 §8.6).
            return if ends || status == 101 {
                Err("an interim answer out of place")
            } else {
                Ok(Answer::Interim(status, write_head(status, &self.lines)))
            };
        }
        let is_bodiless = is_head_request || status == 204 || status == 304;
        if ends && !is_bodiless && self.content_length.is_some_and(|length| length > 0) {
            return Err("Content-Length and no body");
        }
        let length = self.content_length.map_or(-1, |length| length as i64);
        Ok(Answer::Final(ResponseHead {
            head: write_head(status, &self.lines),
            status,
            content_length: if status == 204 { -1 } else { length },
            body_length: if ends || is_bodiless { 0 } else { length },
        }))
    }
}

fn write_head(status: u16, lines: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(lines.len() + 40);
    head.extend_from_slice(format!("HTTP/1.1 {status} ").as_bytes());
    let reason = http::StatusCode::from_u16(status).ok().and_then(|one| one.canonical_reason());
    head.extend_from_slice(reason.unwrap_or("").as_bytes());
    head.extend_from_slice(b"\r\n");
    head.extend_from_slice(lines);
    head
}

/// Trailers as lines; fields that do not belong there are dropped (H-26).
pub(crate) struct TrailerReader {
    lines: Vec<u8>,
    fields: usize,
    bytes: usize,
    fault: Option<&'static str>,
}

impl TrailerReader {
    pub(crate) fn new() -> Self {
        TrailerReader { lines: Vec::new(), fields: 0, bytes: 0, fault: None }
    }

    pub(crate) fn take(&mut self, name: &[u8], value: &[u8]) {
        self.fields += 1;
        self.bytes = self.bytes.saturating_add(name.len() + value.len());
        if self.fault.is_some() {
            return;
        }
        if name.first() == Some(&b':') {
            self.fault = Some("a pseudo-field in trailers");
        } else if self.bytes > MAX_TRAILER_BYTES || self.fields > MAX_TRAILERS {
            self.fault = Some("a trailer section beyond the limit");
        } else if let Err(fault) = field::check(name, value) {
            self.fault = Some(match fault {
                Fault::Malformed(text) => text,
                Fault::ControlByte => "a control byte in a field value",
            });
        } else if !is_dropped(name) {
            field::write_line(&mut self.lines, name, value);
        }
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>, &'static str> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self.lines),
        }
    }
}
