//! Frames on the wire. Source: RFC 9113 §4.1, §6, §7.

pub(crate) const HEAD_BYTES: usize = 9;
/// SETTINGS_MAX_FRAME_SIZE, which we leave at its default, and which every peer takes.
pub(crate) const MOST_BYTES: usize = 16_384;
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const WITH_PRIORITY: u8 = 32;

/// RFC 8441 §3.
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// What we want to know of the peer's SETTINGS, whose payload may come in pieces.
#[derive(Debug, Default)]
pub(crate) struct SettingsReader {
    entry: [u8; 6],
    have: usize,
    pub(crate) has_come: bool,
    pub(crate) takes_connect: bool,
}

impl SettingsReader {
    pub(crate) fn read(&mut self, payload: &[u8]) {
        for byte in payload {
            self.entry[self.have] = *byte;
            self.have += 1;
            if self.have == self.entry.len() {
                self.have = 0;
                let [a, b, value @ ..] = self.entry;
                if u16::from_be_bytes([a, b]) == ENABLE_CONNECT_PROTOCOL {
                    self.takes_connect = u32::from_be_bytes(value) == 1;
                }
            }
        }
    }

    /// A frame is complete. True: it was the first.
    pub(crate) fn end(&mut self) -> bool {
        self.have = 0;
        !std::mem::replace(&mut self.has_come, true)
    }
}

/// The first nine bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    pub(crate) fn read(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        Head {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.length as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The nine bytes of a head, which may come one at a time.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    bytes: [u8; HEAD_BYTES],
    have: usize,
}

impl HeadReader {
    /// Takes bytes from the front; the head when it is complete, with the bytes it came as.
    pub(crate) fn read(&mut self, bytes: &mut &[u8]) -> Option<(Head, [u8; HEAD_BYTES])> {
        let length = bytes.len().min(HEAD_BYTES - self.have);
        let (mine, rest) = bytes.split_at(length);
        self.bytes[self.have..self.have + length].copy_from_slice(mine);
        self.have += length;
        *bytes = rest;
        if self.have < HEAD_BYTES {
            return None;
        }
        self.have = 0;
        Some((Head::read(&self.bytes), self.bytes))
    }
}

/// A header block as HEADERS and as many CONTINUATION as it takes.
pub(crate) fn write_block(out: &mut Vec<u8>, stream: u32, ends: bool, block: &[u8]) {
    let mut pieces = block.chunks(MOST_BYTES).peekable();
    let mut kind = HEADERS;
    let mut flags = if ends { END_STREAM } else { 0 };
    loop {
        let piece = pieces.next().unwrap_or(&[]);
        if pieces.peek().is_none() {
            flags |= END_HEADERS;
        }
        Head { length: piece.len(), kind, flags, stream }.write(out);
        out.extend_from_slice(piece);
        if flags & END_HEADERS != 0 {
            return;
        }
        (kind, flags) = (CONTINUATION, 0);
    }
}
