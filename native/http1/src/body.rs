//! The body of a request behind its head. Source: RFC 9112 §6; H-24 … H-30, H-36.

use crate::chunked::ChunkedDecoder;
use crate::facts::Framing;
use crate::refusal::{Refusal, LONG_BODY};

/// Takes the body of one request out of the bytes that follow its head.
#[derive(Debug)]
pub struct BodyReader {
    framing: State,
    /// What may still come; `u64::MAX` = unlimited.
    allowed: u64,
}

#[derive(Debug)]
enum State {
    Length(u64),
    // Boxed: most requests have none, and a connection that waits need not have room for it.
    Chunked(Box<ChunkedDecoder>),
}

/// What a piece of bytes held of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPiece {
    /// Bytes of data, which stand at the front of the piece now.
    pub data: usize,
    /// Bytes that were read; what stands behind them belongs to the next request.
    pub used: usize,
    /// The body is complete.
    pub is_last: bool,
}

impl BodyReader {
    /// `limit_bytes`: 0 = unlimited. `keeps_trailers`: see [`ChunkedDecoder::keeping_trailers`].
    pub fn new(framing: Framing, limit_bytes: u64, keeps_trailers: bool) -> Self {
        let framing = match framing {
            Framing::None => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked if keeps_trailers => {
                State::Chunked(Box::new(ChunkedDecoder::keeping_trailers()))
            }
            Framing::Chunked => State::Chunked(Box::default()),
        };
        BodyReader { framing, allowed: if limit_bytes == 0 { u64::MAX } else { limit_bytes } }
    }

    /// Whether the whole body has been read.
    pub fn is_done(&self) -> bool {
        match &self.framing {
            State::Length(left) => *left == 0,
            State::Chunked(decoder) => decoder.is_done(),
        }
    }

    /// The trailer fields that were kept, see [`ChunkedDecoder::trailers`].
    pub fn trailers(&self) -> &[u8] {
        match &self.framing {
            State::Length(_) => &[],
            State::Chunked(decoder) => decoder.trailers(),
        }
    }

    /// Reads the next piece; data is moved to its front.
    ///
    /// # Errors
    /// When the framing is wrong, or the limit is crossed (413). Nothing may be read from the connection afterwards.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<BodyPiece, Refusal> {
        let (data, used) = match &mut self.framing {
            State::Length(left) => {
                let length = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= length as u64;
                (length, length)
            }
            State::Chunked(decoder) => decoder.decode(bytes)?,
        };
        self.allowed = self.allowed.checked_sub(data as u64).ok_or(LONG_BODY)?;
        Ok(BodyPiece { data, used, is_last: self.is_done() })
    }
}
