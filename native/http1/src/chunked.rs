//! Decoder of the chunked coding, strict, for any cutting of the bytes; one for requests and answers.
//! Source: RFC 9112 §7.1; H-24 … H-27.

use crate::bytes::lower_token;
use crate::lines::{check_field_start, split_field, LineReader};
use crate::refusal::{
    Refusal, BAD_CHUNK_END, BAD_CHUNK_EXTENSION, BAD_CHUNK_LINE, BAD_CHUNK_SIZE,
    LONG_CHUNK_EXTENSION, LONG_HEAD, LONG_TRAILER,
};
use crate::trailer::is_dropped;

/// Like lengths (H-23): larger ones are not exact as numbers of JavaScript.
const MAX_CHUNK_BYTES: u64 = (1 << 53) - 1;
const MAX_EXTENSION_LINE_BYTES: usize = 256;
const MAX_EXTENSION_BYTES: usize = 16 * 1024;
const MAX_TRAILER_BYTES: usize = 64 * 1024;
const MAX_TRAILER_FIELDS: u32 = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many hexadecimal digits of the size have been read.
    Size(u8),
    /// After `;`, and blanks: a name must begin.
    NameStart,
    Name,
    /// After blanks behind a name: `=` or `;` must come.
    NameEnd,
    /// After `=`, and blanks: a value must begin.
    ValueStart,
    Value,
    Quoted,
    Escaped,
    /// After the closing quote.
    QuotedEnd,
    /// After blanks behind a value: `;` must come.
    ValueEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    Done,
}

/// Takes a body in the chunked coding apart.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// The size being read, then what is still to come of the chunk.
    left: u64,
    line_bytes: usize,
    extension_bytes: usize,
    trailer: LineReader,
    trailer_fields: u32,
    keeps_trailers: bool,
    trailers: Vec<u8>,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        ChunkedDecoder::new()
    }
}

impl ChunkedDecoder {
    /// At the beginning of a body; trailers are checked and dropped.
    pub fn new() -> Self {
        ChunkedDecoder {
            state: State::Size(0),
            left: 0,
            line_bytes: 0,
            extension_bytes: 0,
            trailer: LineReader::new(MAX_TRAILER_BYTES),
            trailer_fields: 0,
            keeps_trailers: false,
            trailers: Vec::new(),
        }
    }

    /// At the beginning of a body whose trailers are kept, as far as they may travel (H-26).
    pub fn keeping_trailers() -> Self {
        ChunkedDecoder { keeps_trailers: true, ..ChunkedDecoder::new() }
    }

    /// Whether the last chunk and the trailer section have been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer fields that were kept: `name: value` lines with names in lower case, each with CRLF.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Decodes in place: data moves to the front of `bytes`. Returns how many bytes of data there are, and how many
    /// bytes were read (fewer than all only when the body is done).
    ///
    /// # Errors
    /// Whatever is not exactly the chunked coding. Nothing may be read from the connection afterwards (H-121).
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<(usize, usize), Refusal> {
        let mut at = 0;
        let mut kept = 0;
        while at < bytes.len() {
            match self.state {
                State::Data => {
                    let length =
                        (bytes.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                    bytes.copy_within(at..at + length, kept);
                    kept += length;
                    at += length;
                    self.left -= length as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                }
                State::Trailer => at += self.read_trailer(&bytes[at..])?,
                State::Done => break,
                _ => {
                    self.step(bytes[at])?;
                    at += 1;
                }
            }
        }
        Ok((kept, at))
    }

    fn read_trailer(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let (line, used) = self.trailer.read(bytes, check_field_start).map_err(|refusal| {
            if refusal == LONG_HEAD {
                LONG_TRAILER
            } else {
                refusal
            }
        })?;
        match line {
            None => {}
            Some([]) => self.state = State::Done,
            Some(line) => {
                let (name, value) = split_field(line)?;
                self.trailer_fields += 1;
                if self.trailer_fields > MAX_TRAILER_FIELDS {
                    return Err(LONG_TRAILER);
                }
                if self.keeps_trailers {
                    let start = self.trailers.len();
                    self.trailers.extend(name.iter().map(|byte| lower_token(*byte)));
                    if is_dropped(&self.trailers[start..]) {
                        self.trailers.truncate(start);
                    } else {
                        self.trailers.extend_from_slice(b": ");
                        self.trailers.extend_from_slice(value);
                        self.trailers.extend_from_slice(b"\r\n");
                    }
                }
            }
        }
        self.trailer.taken();
        Ok(used)
    }

    fn step(&mut self, byte: u8) -> Result<(), Refusal> {
        self.state = match (self.state, byte) {
            (State::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == 16 {
                    return Err(BAD_CHUNK_SIZE);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                self.left = self.left << 4 | u64::from(digit);
                if self.left > MAX_CHUNK_BYTES {
                    return Err(BAD_CHUNK_SIZE);
                }
                State::Size(digits + 1)
            }
            (State::Size(1..), b'\r') => State::SizeLf,
            (State::Size(1..), b';') => State::NameStart,
            (State::Size(_), _) => return Err(BAD_CHUNK_SIZE),
            (State::NameStart | State::Name, byte) if lower_token(byte) != 0 => State::Name,
            (State::Name | State::NameEnd, b'=') => State::ValueStart,
            // Blanks are tolerated where the grammar has them, and only there: not before the first `;`, where some
            // take them for the end of the size, and not at the end of the line.
            (State::NameStart, b' ' | b'\t') => State::NameStart,
            (State::Name | State::NameEnd, b' ' | b'\t') => State::NameEnd,
            (State::ValueStart, b' ' | b'\t') => State::ValueStart,
            (State::Value | State::QuotedEnd | State::ValueEnd, b' ' | b'\t') => State::ValueEnd,
            (State::NameEnd | State::ValueEnd, b';') => State::NameStart,
            (State::ValueStart, b'"') => State::Quoted,
            (State::ValueStart | State::Value, byte) if lower_token(byte) != 0 => State::Value,
            (State::Quoted, b'"') => State::QuotedEnd,
            (State::Quoted, b'\\') => State::Escaped,
            (State::Quoted | State::Escaped, b'\t' | b' '..=b'~' | 0x80..) => State::Quoted,
            (State::Name | State::Value | State::QuotedEnd, b';') => State::NameStart,
            (State::Name | State::Value | State::QuotedEnd, b'\r') => State::SizeLf,
            (State::SizeLf, b'\n') => {
                self.line_bytes = 0;
                if self.left == 0 {
                    State::Trailer
                } else {
                    State::Data
                }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0),
            (State::SizeLf, _) => return Err(BAD_CHUNK_LINE),
            (State::DataCr | State::DataLf, _) => return Err(BAD_CHUNK_END),
            _ => return Err(BAD_CHUNK_EXTENSION),
        };
        if matches!(
            self.state,
            State::Size(_)
                | State::SizeLf
                | State::Data
                | State::DataCr
                | State::DataLf
                | State::Trailer
        ) {
            return Ok(());
        }
        self.line_bytes += 1;
        self.extension_bytes += 1;
        if self.line_bytes > MAX_EXTENSION_LINE_BYTES || self.extension_bytes > MAX_EXTENSION_BYTES
        {
            return Err(LONG_CHUNK_EXTENSION);
        }
        Ok(())
    }
}

/// `SIZE CRLF` in hexadecimal digits: what begins a chunk that is sent (RFC 9112 §7.1).
pub fn chunk_size(space: &mut [u8; 18], length: usize) -> &[u8] {
    space[16..].copy_from_slice(b"\r\n");
    let mut at = 16;
    let mut left = length;
    while at > 0 && (left > 0 || at == 16) {
        at -= 1;
        space[at] = b"0123456789abcdef"[left & 15];
        left >>= 4;
    }
    &space[at..]
}
