//! Decoder of the chunked coding, strict, for any cutting of the bytes. Source: RFC 9112 §7.1; H-24 … H-26.

use crate::head::{check_field_start, split_field, LineReader};
use crate::response::Fault;

const MAX_EXTENSION_LINE_BYTES: usize = 256;
const MAX_EXTENSION_BYTES: usize = 16 * 1024;
const MAX_TRAILER_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many hexadecimal digits of the size have been read.
    Size(u8),
    /// After `;`: a name must begin.
    NameStart,
    Name,
    /// After `=`: a value must begin.
    ValueStart,
    Value,
    Quoted,
    Escaped,
    /// After the closing quote.
    QuotedEnd,
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
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        ChunkedDecoder::new()
    }
}

impl ChunkedDecoder {
    /// At the beginning of a body.
    pub fn new() -> Self {
        ChunkedDecoder {
            state: State::Size(0),
            left: 0,
            line_bytes: 0,
            extension_bytes: 0,
            trailer: LineReader::new(MAX_TRAILER_BYTES),
        }
    }

    /// Whether the last chunk and the trailer section have been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes in place: data moves to the front of `bytes`. Returns how many bytes of data there are, and how many
    /// bytes were read (fewer than all only when the body is done).
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<(usize, usize), Fault> {
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
                State::Trailer => {
                    let (line, used) = self.trailer.read(&bytes[at..], check_field_start)?;
                    at += used;
                    match line {
                        None => {}
                        Some([]) => self.state = State::Done,
                        // Dropped, but only when it is one (H-26).
                        Some(line) => {
                            split_field(line)?;
                        }
                    }
                    self.trailer.taken();
                }
                State::Done => break,
                _ => {
                    self.step(bytes[at])?;
                    at += 1;
                }
            }
        }
        Ok((kept, at))
    }

    fn step(&mut self, byte: u8) -> Result<(), Fault> {
        const SIZE: Fault = Fault("a chunk size that is none");
        const EXTENSION: Fault = Fault("a chunk extension that is none");
        self.state = match (self.state, byte) {
            (State::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == 16 {
                    return Err(SIZE);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                self.left = self.left << 4 | u64::from(digit);
                State::Size(digits + 1)
            }
            (State::Size(1..), b'\r') => State::SizeLf,
            (State::Size(1..), b';') => State::NameStart,
            (State::Size(_), _) => return Err(SIZE),
            (State::NameStart | State::Name, byte) if is_token(byte) => State::Name,
            (State::Name, b'=') => State::ValueStart,
            (State::ValueStart, b'"') => State::Quoted,
            (State::ValueStart | State::Value, byte) if is_token(byte) => State::Value,
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
            (State::SizeLf, _) => return Err(Fault("a chunk size line without CRLF")),
            (State::DataCr | State::DataLf, _) => return Err(Fault("chunk data without CRLF")),
            _ => return Err(EXTENSION),
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
            return Err(Fault("chunk extensions beyond the limit"));
        }
        Ok(())
    }
}

fn is_token(byte: u8) -> bool {
    crate::head::lower_token(byte) != 0
}
