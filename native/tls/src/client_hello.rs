//! The greeting of a TLS client, read before a session exists: which host it wants, and what kind of client it is.
//!
//! Source: RFC 8446 §4.1.2, §5.1; RFC 6066 §3; RFC 8701 (GREASE); JA4 by FoxIO (the TLS client fingerprint, public).

use ring::digest::{digest, SHA256};

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const MAX_RECORD: usize = 16 * 1024 + 256;
/// More than any client says; rustls has a bound of its own.
const MAX_HELLO: usize = 64 * 1024;

/// What a server wants to know of the first message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Lower case; empty = none.
    pub server_name: String,
    /// As offered, in order.
    pub alpn: Vec<Vec<u8>>,
    /// JA4 fingerprint.
    pub ja4: String,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// More bytes are needed to tell.
    Partial,
    /// Not a TLS handshake.
    NotTls,
    /// A handshake that begins with something else, or is badly built.
    Broken,
    /// All of it.
    Complete(ClientHello),
}

impl ClientHello {
    /// Reads it from the beginning of a connection; it may span records.
    pub fn read(bytes: &[u8]) -> Hello {
        let mut message = Vec::new();
        let mut rest = bytes;
        loop {
            match rest {
                [] => return Hello::Partial,
                [kind, ..] if *kind != HANDSHAKE => {
                    return if message.is_empty() { Hello::NotTls } else { Hello::Broken };
                }
                [_, major, ..] if *major != 3 => {
                    return if message.is_empty() { Hello::NotTls } else { Hello::Broken };
                }
                [_, _, _, high, low, body @ ..] => {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    if length == 0 || length > MAX_RECORD {
                        return Hello::Broken;
                    }
                    message.extend_from_slice(&body[..length.min(body.len())]);
                    if let [kind, a, b, c, hello @ ..] = &message[..] {
                        let wanted = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                        if *kind != CLIENT_HELLO || wanted > MAX_HELLO {
                            return Hello::Broken;
                        }
                        if hello.len() >= wanted {
                            return match parse(&hello[..wanted]) {
                                Some(hello) => Hello::Complete(hello),
                                None => Hello::Broken,
                            };
                        }
                    }
                    if body.len() < length {
                        return Hello::Partial;
                    }
                    rest = &body[length..];
                }
                _ => return Hello::Partial,
            }
        }
    }
}

/// Values that clients send so that servers do not grow allergic to new ones.
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<usize> {
        self.take(1).map(|bytes| usize::from(bytes[0]))
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A piece with its length in two bytes before it.
    fn piece(&mut self) -> Option<Reader<'a>> {
        let length = self.short()?;
        self.take(usize::from(length)).map(Reader)
    }

    fn shorts(mut self) -> Option<Vec<u16>> {
        let mut values = Vec::with_capacity(self.0.len() / 2);
        while !self.0.is_empty() {
            values.push(self.short()?);
        }
        Some(values)
    }
}

fn parse(hello: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(hello);
    let mut version = reader.short()?;
    reader.take(32)?;
    let session = reader.byte()?;
    reader.take(session)?;
    let ciphers = reader.piece()?.shorts()?;
    let compressions = reader.byte()?;
    reader.take(compressions)?;
    let mut found = ClientHello::default();
    let mut extensions = Vec::new();
    let mut schemes = Vec::new();
    let mut has_name = false;
    if !reader.0.is_empty() {
        let mut list = reader.piece()?;
        while !list.0.is_empty() {
            let kind = list.short()?;
            let body = list.piece()?;
            extensions.push(kind);
            match kind {
                SERVER_NAME => {
                    has_name = true;
                    found.server_name = server_name(body).unwrap_or_default();
                }
                ALPN => found.alpn = protocols(body)?,
                SIGNATURE_ALGORITHMS => schemes = { body }.piece()?.shorts()?,
                SUPPORTED_VERSIONS => {
                    let mut body = body;
                    let length = body.byte()?;
                    let offered = Reader(body.take(length)?).shorts()?;
                    version = offered.into_iter().filter(|it| !is_grease(*it)).max()?;
                }
                _ => {}
            }
        }
    }
    found.ja4 = ja4(version, has_name, &ciphers, &extensions, &found.alpn, &schemes);
    Some(found)
}

fn server_name(mut body: Reader<'_>) -> Option<String> {
    let mut list = body.piece()?;
    while !list.0.is_empty() {
        let kind = list.byte()?;
        let name = list.piece()?;
        if kind == 0 {
            let name = std::str::from_utf8(name.0).ok()?;
            return Some(name.trim_end_matches('.').to_ascii_lowercase());
        }
    }
    None
}

fn protocols(mut body: Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = body.piece()?;
    let mut found = Vec::new();
    while !list.0.is_empty() {
        let length = list.byte()?;
        found.push(list.take(length)?.to_vec());
    }
    Some(found)
}

fn ja4(
    version: u16,
    has_name: bool,
    ciphers: &[u16],
    extensions: &[u16],
    alpn: &[Vec<u8>],
    schemes: &[u16],
) -> String {
    let version = match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        _ => "00",
    };
    let mut ciphers: Vec<u16> = ciphers.iter().copied().filter(|it| !is_grease(*it)).collect();
    let mut extensions: Vec<u16> =
        extensions.iter().copied().filter(|it| !is_grease(*it)).collect();
    let counts = format!("{:02}{:02}", ciphers.len().min(99), extensions.len().min(99));
    ciphers.sort_unstable();
    extensions.retain(|it| *it != SERVER_NAME && *it != ALPN);
    extensions.sort_unstable();
    let mut last = list(&extensions);
    let schemes: Vec<u16> = schemes.iter().copied().filter(|it| !is_grease(*it)).collect();
    if !schemes.is_empty() && !last.is_empty() {
        last = format!("{last}_{}", list(&schemes));
    }
    format!(
        "t{version}{}{counts}{}_{}_{}",
        if has_name { 'd' } else { 'i' },
        alpn_mark(alpn),
        short_hash(&list(&ciphers)),
        short_hash(&last)
    )
}

/// First and last character of the first protocol; of its hexadecimal form when one is no letter or digit.
fn alpn_mark(alpn: &[Vec<u8>]) -> String {
    let Some([first, .., last] | [first @ last]) = alpn.first().map(Vec::as_slice) else {
        return "00".to_owned();
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return format!("{}{}", char::from(*first), char::from(*last));
    }
    format!("{:x}{:x}", first >> 4, last & 15)
}

fn list(values: &[u16]) -> String {
    values.iter().map(|value| format!("{value:04x}")).collect::<Vec<_>>().join(",")
}

fn short_hash(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    digest(&SHA256, text.as_bytes()).as_ref()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
