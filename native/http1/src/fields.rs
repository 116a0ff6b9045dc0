//! The lines of a complete head: what they mean to us, and what of them goes on.
//! Source: H-07, H-18, H-50; T-15, T-16; src/listener/read-head.ts, which decides alike.

use crate::bytes::{lower_token, trim};
use crate::connection::ConnectionOptions;
use crate::facts::{Lines, RequestRules, Version};
use crate::refusal::Refusal;
use crate::target::read_target;

/// Begins the first of the connection lines when the request line of the text is not the one that was sent: its target had
/// an authority, or its version was 1.0. No field has such a name.
pub const RECEIVED_LINE: &[u8] = b"(request-line): ";

/// What is known of a head when all of its lines have been read.
pub(crate) struct Fields<'a, 'o> {
    pub text: &'o mut Vec<u8>,
    pub connection_lines: &'o mut Vec<u8>,
    pub lines_start: usize,
    is_https: bool,
    pub version: Version,
    pub method: &'a [u8],
    /// Judged in its turn.
    pub target: Result<(), Refusal>,
    pub authority: Option<&'a [u8]>,
    /// Where the header lines begin in the text.
    pub section: usize,
    pub host: Option<&'a [u8]>,
    pub content_length: Option<&'a [u8]>,
    pub transfer_encoding: Option<&'a [u8]>,
    pub expect: Option<&'a [u8]>,
    pub upgrade: Option<&'a [u8]>,
    pub upgrade_lines: usize,
    pub connection: ConnectionOptions,
    pub accepts_trailers: bool,
    pub proxy_fields: bool,
    /// A proxy speaks: there is `Via` or `Proxy-Connection`.
    pub is_proxied: bool,
    pub repeats_coding: bool,
    pub repeats_length: bool,
    /// Another field that may appear once appears twice (H-07).
    pub repeats: bool,
    has_content_type: bool,
    has_authorization: bool,
}

impl<'a, 'o> Fields<'a, 'o> {
    pub(crate) fn new(
        text: &'o mut Vec<u8>,
        connection_lines: &'o mut Vec<u8>,
        rules: &RequestRules,
    ) -> Self {
        Fields {
            lines_start: connection_lines.len(),
            text,
            connection_lines,
            is_https: rules.is_https,
            version: Version::Http11,
            method: &[],
            target: Ok(()),
            authority: None,
            section: 0,
            host: None,
            content_length: None,
            transfer_encoding: None,
            expect: None,
            upgrade: None,
            upgrade_lines: 0,
            connection: ConnectionOptions::default(),
            accepts_trailers: false,
            proxy_fields: false,
            is_proxied: false,
            repeats_coding: false,
            repeats_length: false,
            repeats: false,
            has_content_type: false,
            has_authorization: false,
        }
    }

    /// A line that stops here; its name stands at the end of the text.
    fn stop_line(&mut self, start: usize, value: &[u8]) {
        self.connection_lines.extend_from_slice(&self.text[start..]);
        self.text.truncate(start);
        end_line(self.connection_lines, value);
    }
}

/// Writes what follows a name.
pub(crate) fn end_line(lines: &mut Vec<u8>, value: &[u8]) {
    lines.extend_from_slice(b": ");
    lines.extend_from_slice(value);
    lines.extend_from_slice(b"\r\n");
}

impl<'a> Lines<'a> for Fields<'a, '_> {
    fn request_line(&mut self, method: &'a [u8], target: &'a [u8], version: Version) {
        self.method = method;
        self.version = version;
        self.text.extend_from_slice(method);
        self.text.push(b' ');
        match read_target(method, target, self.is_https) {
            Ok(read) => {
                if read.adds_slash {
                    self.text.push(b'/');
                }
                self.text.extend_from_slice(read.path);
                self.authority = read.authority;
            }
            Err(refusal) => self.target = Err(refusal),
        }
        self.text.extend_from_slice(b" HTTP/1.1\r\n");
        self.section = self.text.len();
        if self.target.is_ok() && (self.authority.is_some() || version == Version::Http10) {
            let protocol: &[u8] = match version {
                Version::Http10 => b" HTTP/1.0\r\n",
                Version::Http11 => b" HTTP/1.1\r\n",
            };
            for piece in [RECEIVED_LINE, method, b" ", target, protocol] {
                self.connection_lines.extend_from_slice(piece);
            }
        }
    }

    fn field(&mut self, name: &'a [u8], value: &'a [u8]) {
        let mut value = trim(value);
        let start = self.text.len();
        self.text.extend(name.iter().map(|byte| lower_token(*byte)));
        let mut has_underscore = false;
        match &self.text[start..] {
            b"host" => {
                self.repeats |= self.host.replace(value).is_some();
                // H-11: what the target says counts.
                value = self.authority.unwrap_or(value);
            }
            b"content-length" => {
                self.repeats_length |= self.content_length.replace(value).is_some();
                return self.stop_line(start, value);
            }
            b"transfer-encoding" => {
                self.repeats_coding |= self.transfer_encoding.replace(value).is_some();
                return self.stop_line(start, value);
            }
            b"expect" => {
                self.repeats |= self.expect.replace(value).is_some();
                return self.stop_line(start, value);
            }
            b"connection" => {
                self.connection.read(value);
                return self.stop_line(start, value);
            }
            b"upgrade" => {
                self.upgrade = Some(value);
                self.upgrade_lines += 1;
                return self.stop_line(start, value);
            }
            b"te" => {
                self.accepts_trailers |= value
                    .split(|byte| *byte == b',')
                    .any(|member| trim(member).eq_ignore_ascii_case(b"trailers"));
                return self.stop_line(start, value);
            }
            b"proxy-connection" => {
                self.is_proxied = true;
                return self.stop_line(start, value);
            }
            b"keep-alive"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"proxy-authentication-info"
            | b"trailer"
            | b"http2-settings" => return self.stop_line(start, value),
            b"content-type" => self.repeats |= std::mem::replace(&mut self.has_content_type, true),
            b"authorization" => {
                self.repeats |= std::mem::replace(&mut self.has_authorization, true)
            }
            b"via" => {
                self.proxy_fields = true;
                self.is_proxied = true;
            }
            b"forwarded" | b"traceparent" | b"tracestate" => self.proxy_fields = true,
            [b'x', b'-', rest @ ..] => {
                self.proxy_fields = true;
                has_underscore = rest.contains(&b'_');
            }
            other => has_underscore = other.contains(&b'_'),
        }
        if has_underscore && is_colliding(&self.text[start..]) {
            self.text.truncate(start);
            return;
        }
        end_line(self.text, value);
    }
}

/// Whether a name with underscores is another spelling of one that we set, strip or trust (H-18).
pub fn is_colliding(name: &[u8]) -> bool {
    let name: Vec<u8> = name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
    const PREFIXES: [&[u8]; 6] =
        [b"x-forwarded-", b"x-original-", b"x-rewrite-", b"proxy-", b"sallyport-", b"ngrok-"];
    matches!(
        &name[..],
        b"x-real-ip"
            | b"x-request-id"
            | b"x-client-ip"
            | b"forwarded"
            | b"via"
            | b"host"
            | b"connection"
            | b"content-length"
            | b"content-type"
            | b"transfer-encoding"
            | b"authorization"
            | b"cookie"
            | b"te"
            | b"trailer"
            | b"upgrade"
            | b"expect"
            | b"keep-alive"
            | b"traceparent"
            | b"tracestate"
    ) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
