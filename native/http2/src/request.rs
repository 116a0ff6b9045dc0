//! Request heads: from the fields of a header block to the flat head of the gateway, or to a refusal.
//!
//! Source: RFC 9113 §8.2, §8.3; RFC 8441 §4; H-07, H-10 … H-15, H-18, H-50, H-61, H-100, H-101.

use sallyport_http1::{check_offer, check_target, is_colliding, is_hop_by_hop, is_host, is_token};

use crate::field::{self, Fault};

/// One field with its name (H-14).
const MAX_FIELD_BYTES: usize = 32 * 1024;
const MAX_METHOD_BYTES: usize = 32;
/// Of method and target in a refusal's request line.
const MAX_LINE_BYTES: usize = 256;

/// What a request may be.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// H-14: names and values of all fields together; beyond it 431.
    pub head_bytes: usize,
    /// H-14: beyond it 431.
    pub fields: usize,
    /// H-13: beyond it 414.
    pub uri_bytes: usize,
    /// H-36: announced body bytes, 0 = unlimited; beyond it 413.
    pub body_bytes: u64,
    /// H-94: whether requests with `:protocol` are taken.
    pub extended_connect: bool,
}

/// A request that passed every rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// `METHOD target HTTP/1.1` and `name: value` lines, each with CRLF: `host` first, names in lower case, cookies in
    /// one line, no framing and no hop-by-hop fields. Values are bytes as they came.
    pub head: Vec<u8>,
    /// The framing and hop-by-hop lines that the head lacks.
    pub connection_lines: Vec<u8>,
    /// 0 = no body, -1 = unknown until its end.
    pub body_length: i64,
    /// HEAD.
    pub is_head: bool,
    /// The client waits for 100 (H-61).
    pub expects_continue: bool,
    /// The client takes trailers (H-26).
    pub accepts_trailers: bool,
    /// The head has a field that proxies write (`x-…`, `forwarded`, `via`, `traceparent`, `tracestate`).
    pub proxy_fields: bool,
    /// An extended CONNECT for a WebSocket (H-94): the head is that of the same wish in HTTP/1.1, without a key, and ends in
    /// its `connection` and `upgrade` lines; what comes on the stream is not a body.
    pub is_web_socket: bool,
}

/// A request that is not passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 405, 413, 414, 417, 431 or 501.
    pub status: u16,
    /// The rule behind it, as in `bad_request:H-100`.
    pub rule: &'static str,
    /// For the answer and the log; never holds bytes of the request (H-86).
    pub text: &'static str,
    /// The message is malformed in the sense of RFC 9113 §8.1.1: its stream is reset and not answered.
    pub is_malformed: bool,
    /// Method and target as far as they were readable, bounded, not escaped.
    pub request_line: Vec<u8>,
}

/// Gathers the fields of one block.
#[derive(Debug)]
pub(crate) struct RequestReader {
    limits: RequestLimits,
    method: Option<Vec<u8>>,
    scheme: Option<Vec<u8>>,
    authority: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    protocol: Option<Vec<u8>>,
    lines: Vec<u8>,
    connection_lines: Vec<u8>,
    cookie: Vec<u8>,
    host: Option<Vec<u8>>,
    content_length: Option<Option<u64>>,
    expect: Option<bool>,
    accepts_trailers: bool,
    proxy_fields: bool,
    has_content_type: bool,
    has_authorization: bool,
    has_regular: bool,
    bytes: usize,
    fields: usize,
    /// The first thing that is wrong; a malformed message goes before everything else.
    refusal: Option<(u16, &'static str, &'static str, bool)>,
}

impl RequestReader {
    pub(crate) fn new(limits: RequestLimits) -> Self {
        RequestReader {
            limits,
            method: None,
            scheme: None,
            authority: None,
            path: None,
            protocol: None,
            lines: Vec::new(),
            connection_lines: Vec::new(),
            cookie: Vec::new(),
            host: None,
            content_length: None,
            expect: None,
            accepts_trailers: false,
            proxy_fields: false,
            has_content_type: false,
            has_authorization: false,
            has_regular: false,
            bytes: 0,
            fields: 0,
            refusal: None,
        }
    }

    fn malformed(&mut self, text: &'static str) {
        if !self.refusal.is_some_and(|(_, _, _, is_malformed)| is_malformed) {
            self.refusal = Some((400, "H-100", text, true));
        }
    }

    fn refuse(&mut self, status: u16, rule: &'static str, text: &'static str) {
        self.refusal.get_or_insert((status, rule, text, false));
    }

    /// The next field of the block.
    pub(crate) fn take(&mut self, name: &[u8], value: &[u8]) {
        self.bytes = self.bytes.saturating_add(name.len() + value.len());
        if name.first() == Some(&b':') {
            self.take_pseudo(name, value);
            return;
        }
        self.has_regular = true;
        self.fields += 1;
        match field::check(name, value) {
            Ok(()) => {}
            Err(Fault::Malformed(text)) => return self.malformed(text),
            Err(Fault::ControlByte) => {
                return self.refuse(
                    400,
                    "H-03",
                    "a header value holds a byte that is not allowed there",
                )
            }
        }
        // The target has a limit of its own.
        let target = self.path.as_ref().map_or(0, Vec::len);
        let is_long = self.bytes.saturating_sub(target) > self.limits.head_bytes
            || self.fields > self.limits.fields
            || name.len() + value.len() > MAX_FIELD_BYTES;
        if is_long {
            self.refuse(431, "H-14", "the header section is too large");
        }
        // What is refused is read to its end, for the sake of the table, but not kept.
        if self.refusal.is_none() {
            self.take_regular(name, value);
        }
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) {
        if self.has_regular {
            return self.malformed("a pseudo-field behind a regular one");
        }
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" if self.limits.extended_connect => &mut self.protocol,
            _ => return self.malformed("a pseudo-field that requests do not have"),
        };
        if place.is_some() {
            return self.malformed("a pseudo-field twice");
        }
        if value.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
            *place = Some(Vec::new());
            return self.malformed("a control byte in a pseudo-field");
        }
        let is_kept = value.len() <= MAX_FIELD_BYTES.max(self.limits.uri_bytes);
        *place = Some(value[..if is_kept { value.len() } else { MAX_LINE_BYTES }].to_vec());
        if !is_kept {
            if name == b":path" {
                self.refuse(414, "H-13", "the request target is too long");
            } else {
                self.refuse(431, "H-14", "the header section is too large");
            }
        }
    }

    fn take_regular(&mut self, name: &[u8], value: &[u8]) {
        const REPEATED: &str = "a header that may appear once appears twice";
        match name {
            b"host" => {
                if self.host.replace(value.to_vec()).is_some() {
                    self.refuse(400, "H-07", REPEATED);
                }
                return;
            }
            b"content-length" => {
                if self.content_length.is_some() {
                    return self.malformed("Content-Length twice");
                }
                self.content_length = Some(field::read_length(value));
                if self.content_length == Some(None) {
                    return self.malformed("Content-Length that is no decimal number");
                }
                return field::write_line(&mut self.connection_lines, name, value);
            }
            b"expect" => {
                if self.expect.replace(value.eq_ignore_ascii_case(b"100-continue")).is_some() {
                    self.refuse(400, "H-07", REPEATED);
                }
                return field::write_line(&mut self.connection_lines, name, value);
            }
            b"cookie" => {
                // RFC 9113 §8.2.3.
                if !self.cookie.is_empty() {
                    self.cookie.extend_from_slice(b"; ");
                }
                return self.cookie.extend_from_slice(value);
            }
            b"content-type" if std::mem::replace(&mut self.has_content_type, true) => {
                return self.refuse(400, "H-07", REPEATED)
            }
            b"authorization" if std::mem::replace(&mut self.has_authorization, true) => {
                return self.refuse(400, "H-07", REPEATED)
            }
            b"via" | b"forwarded" | b"traceparent" | b"tracestate" => self.proxy_fields = true,
            b"te" => self.accepts_trailers = true,
            // HTTP/2 has none (RFC 8441 §5): one of ours goes upstream.
            b"sec-websocket-key" if self.protocol.is_some() => return,
            _ => {}
        }
        self.proxy_fields |= name.starts_with(b"x-");
        if is_hop_by_hop(name) {
            return field::write_line(&mut self.connection_lines, name, value);
        }
        if !name.contains(&b'_') || !is_colliding(name) {
            field::write_line(&mut self.lines, name, value);
        }
    }

    /// Judges the block as a whole. `ends`: no body follows.
    pub(crate) fn finish(mut self, ends: bool) -> Result<RequestHead, Refusal> {
        if let Some(head) = self.judge(ends) {
            return Ok(head);
        }
        let (status, rule, text, is_malformed) =
            self.refusal.unwrap_or((400, "H-100", "malformed", true));
        let mut request_line = self.method.unwrap_or_default();
        request_line.push(b' ');
        request_line.extend_from_slice(&self.path.unwrap_or_default());
        request_line.truncate(MAX_LINE_BYTES);
        Err(Refusal { status, rule, text, is_malformed, request_line })
    }

    fn judge(&mut self, ends: bool) -> Option<RequestHead> {
        let is_connect = self.method.as_deref() == Some(b"CONNECT");
        let is_extended = self.protocol.is_some();
        let has_target = self.scheme.is_some() && self.path.is_some();
        if self.method.is_none() {
            self.malformed("no :method");
        } else if is_extended && !is_connect {
            self.malformed(":protocol without CONNECT");
        } else if is_connect && !is_extended {
            if self.scheme.is_some() || self.path.is_some() || self.authority.is_none() {
                self.malformed("CONNECT with a scheme or a path, or without an authority");
            }
        } else if !has_target {
            self.malformed("no :scheme or no :path");
        } else if self.path.as_ref().is_some_and(Vec::is_empty) {
            self.malformed("an empty :path");
        } else if is_extended && self.authority.is_none() {
            self.malformed("extended CONNECT without an authority");
        }
        if ends && matches!(self.content_length, Some(Some(1..))) {
            self.malformed("Content-Length and no body");
        }
        let mut method = self.method.clone().unwrap_or_default();
        match method.as_slice() {
            long if long.len() > MAX_METHOD_BYTES => {
                self.refuse(501, "H-10", "the method is too long")
            }
            one if !is_token(one) => self.refuse(400, "H-10", "the method is not a token"),
            b"CONNECT" if !is_extended => self.refuse(501, "H-10", "CONNECT is not supported"),
            b"TRACE" | b"TRACK" => self.refuse(405, "H-10", "the method is not allowed"),
            _ => {}
        }
        let path = self.path.clone().unwrap_or_default();
        if path.len() > self.limits.uri_bytes {
            self.refuse(414, "H-13", "the request target is too long");
        } else if let (Err(bad), false) = (check_target(&method, &path), is_connect && !is_extended)
        {
            self.refuse(bad.status, bad.rule, bad.text);
        }
        // A proxy in front that ends TLS keeps the client's scheme, so both are taken on every listener.
        let scheme = self.scheme.clone().unwrap_or_default();
        if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
            self.refuse(400, "H-11", "the scheme is neither http nor https");
        }
        let host = match (&self.authority, &self.host) {
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                self.refuse(400, "H-101", "the Host header is not the request's authority");
                return None;
            }
            (Some(one), _) | (None, Some(one)) => one.clone(),
            (None, None) => {
                self.refuse(400, "H-15", "the Host header is missing");
                return None;
            }
        };
        if !is_host(&host) {
            self.refuse(400, "H-15", "the Host header is not a valid host");
        }
        if is_extended {
            self.judge_web_socket(ends);
        }
        if self.expect == Some(false) {
            self.refuse(417, "H-61", "the expectation cannot be met");
        }
        let announced = self.content_length.flatten();
        if self.limits.body_bytes > 0 && announced.is_some_and(|one| one > self.limits.body_bytes) {
            self.refuse(413, "H-36", "the request body is too large");
        }
        if self.refusal.is_some() {
            return None;
        }
        let is_head = method == b"HEAD";
        if is_extended {
            // As the same wish reads in HTTP/1.1 (RFC 8441 §4).
            method = b"GET".to_vec();
        }
        let mut head = Vec::with_capacity(self.lines.len() + path.len() + host.len() + 64);
        head.extend_from_slice(&method);
        head.push(b' ');
        head.extend_from_slice(&path);
        head.extend_from_slice(b" HTTP/1.1\r\n");
        field::write_line(&mut head, b"host", &host);
        head.append(&mut self.lines);
        if !self.cookie.is_empty() {
            field::write_line(&mut head, b"cookie", &self.cookie);
        }
        if is_extended {
            head.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
        }
        Some(RequestHead {
            head,
            connection_lines: std::mem::take(&mut self.connection_lines),
            body_length: match announced {
                _ if ends => 0,
                Some(length) => length as i64,
                None => -1,
            },
            is_head,
            expects_continue: self.expect == Some(true) && !ends,
            accepts_trailers: self.accepts_trailers,
            proxy_fields: self.proxy_fields,
            is_web_socket: is_extended,
        })
    }

    /// RFC 8441 §5: what a request for a WebSocket must have, as in HTTP/1.1 (H-90).
    fn judge_web_socket(&mut self, ends: bool) {
        if !self.protocol.as_deref().is_some_and(|one| one.eq_ignore_ascii_case(b"websocket")) {
            self.refuse(501, "H-94", "connections are upgraded to WebSockets only");
        } else if ends || self.content_length.is_some() {
            self.refuse(400, "H-90", "a WebSocket is asked for without a body");
        } else if let Err(bad) = check_offer(&self.lines) {
            self.refuse(bad.status, bad.rule, bad.text);
        }
    }
}
