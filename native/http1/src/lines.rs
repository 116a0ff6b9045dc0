//! Lines that arrive in pieces, and field lines. Source: RFC 9112 §2.2, §5; H-02 … H-04.

use crate::bytes::{is_token, is_value, lower_token, trim};
use crate::refusal::{Refusal, BAD_LINE, BAD_NAME, BARE_CR, BARE_LF, LONG_HEAD};

/// Cuts lines out of bytes that arrive in pieces: each ends in CRLF, a CR or LF elsewhere is a fault.
#[derive(Debug)]
pub struct LineReader {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    is_taken: bool,
    left: usize,
    most: usize,
}

impl LineReader {
    /// `most`: bytes of all lines together.
    pub fn new(most: usize) -> Self {
        LineReader { partial: Vec::new(), is_taken: false, left: most, most }
    }

    /// Makes ready for other lines; the buffer is kept.
    pub fn reset(&mut self) {
        self.partial.clear();
        self.is_taken = false;
        self.left = self.most;
    }

    /// Whether the beginning of a line waits for its end.
    pub fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// The next line without its CRLF, if it is complete, and how many bytes were used. `start` judges the beginning
    /// of a line, which may not be complete. Call `taken` when done with the line.
    ///
    /// # Errors
    /// A lone CR or LF, more bytes than allowed, or what `start` says.
    pub fn read<'a, E: From<Refusal>>(
        &'a mut self,
        bytes: &'a [u8],
        start: fn(&[u8]) -> Result<(), E>,
    ) -> Result<(Option<&'a [u8]>, usize), E> {
        let end = memchr::memchr(b'\n', bytes).map(|at| at + 1);
        let used = end.unwrap_or(bytes.len());
        self.left = self.left.checked_sub(used).ok_or(LONG_HEAD)?;
        if end.is_none() || !self.partial.is_empty() {
            self.partial.extend_from_slice(&bytes[..used]);
            start(&self.partial)?;
            if end.is_none() {
                return Ok((None, used));
            }
            self.is_taken = true;
            return Ok((Some(without_crlf(&self.partial)?), used));
        }
        start(&bytes[..used])?;
        Ok((Some(without_crlf(&bytes[..used])?), used))
    }

    /// The line that `read` gave is not needed any more.
    pub fn taken(&mut self) {
        if std::mem::take(&mut self.is_taken) {
            self.partial.clear();
        }
    }
}

fn without_crlf(line: &[u8]) -> Result<&[u8], Refusal> {
    let line = line.strip_suffix(b"\r\n").ok_or(BARE_LF)?;
    if memchr::memchr(b'\r', line).is_some() {
        return Err(BARE_CR);
    }
    Ok(line)
}

/// Judges the beginning of a field line.
///
/// # Errors
/// When no field line begins like this.
pub fn check_field_start(line: &[u8]) -> Result<(), Refusal> {
    match line {
        [first, ..] if *first != b'\r' && lower_token(*first) == 0 => Err(BAD_NAME),
        [b'\r', second, ..] if *second != b'\n' => Err(BARE_CR),
        _ => Ok(()),
    }
}

/// A field line: appends the name in lower case to `text`, and returns the value without the white space around it. On an error
/// some of the name may be appended.
///
/// # Errors
/// As [`split_field`].
pub fn lower_field<'a>(line: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], Refusal> {
    let start = text.len();
    text.reserve(line.len());
    text.extend(line.iter().map(|byte| lower_token(*byte)).take_while(|lower| *lower != 0));
    let length = text.len() - start;
    let Some((b':', value)) = line[length..].split_first() else { return Err(BAD_NAME) };
    if length == 0 {
        return Err(BAD_NAME);
    }
    if !is_value(value) {
        return Err(BAD_LINE);
    }
    Ok(trim(value))
}

/// A field line: name as sent, value without the white space around it.
///
/// # Errors
/// When the name is no token (H-04), or the value holds a control byte (H-03).
pub fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = memchr::memchr(b':', line).ok_or(BAD_NAME)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err(BAD_NAME);
    }
    if !is_value(value) {
        return Err(BAD_LINE);
    }
    Ok((name, trim(value)))
}
