//! Lines that arrive in pieces, and field lines. Source: RFC 9112 §2.2, §5; H-02 … H-04.

use crate::bytes::{is_token, is_value, lower_token, token_length, trim, value_length};
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

    /// A field line at the beginning of `bytes`, if all of it is there and nothing is wrong with it: name as sent, value without the
    /// white space around it, and how many bytes were used. `None`: `read` says what is to be said of it.
    pub fn read_field<'a>(&mut self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8], usize)> {
        let name = token_length(bytes);
        let (b':', rest) = bytes[name..].split_first()? else { return None };
        let (value, end) = rest.split_at(value_length(rest));
        if name == 0 || !self.partial.is_empty() || !end.starts_with(b"\r\n") {
            return None;
        }
        let used = name + value.len() + b":\r\n".len();
        self.left = self.left.checked_sub(used)?;
        Some((&bytes[..name], trim(value), used))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, value and used bytes.
    type Field = (Vec<u8>, Vec<u8>, usize);

    /// What `read` and `split_field` make of the same bytes.
    fn by_line(bytes: &[u8], most: usize) -> Result<Option<Field>, Refusal> {
        let mut lines = LineReader::new(most);
        let (line, used) = lines.read(bytes, check_field_start)?;
        match line {
            None | Some([]) => Ok(None),
            Some(line) => {
                let (name, value) = split_field(line)?;
                Ok(Some((name.to_vec(), value.to_vec(), used)))
            }
        }
    }

    #[test]
    fn h_03_h_04_a_field_read_at_once_is_the_one_that_its_line_has() {
        let lines: [&[u8]; 20] = [
            b"a: b\r\n",
            b"Content-Type:  \t text/html; charset=utf-8 \r\nnext: x\r\n",
            b"a:\r\n",
            b"a: \xe9\t\xff\r\n\r\n",
            b"a: b",
            b"a: b\r",
            b"a",
            b"",
            b"\r\n",
            b": b\r\n",
            b"a b: c\r\n",
            b"a : c\r\n",
            b" a: c\r\n",
            b"a: b\n",
            b"a: b\rc\r\n",
            b"a: b\r\r\n",
            b"a: \x00\r\n",
            b"a: \x7f\r\n",
            b"a\x00: b\r\n",
            b"a\r\nb: c\r\n",
        ];
        let mut count = 0;
        for bytes in lines {
            let mut at_once = LineReader::new(100);
            let Some((name, value, used)) = at_once.read_field(bytes) else {
                assert!(!matches!(by_line(bytes, 100), Ok(Some(_))), "{bytes:?}");
                assert_eq!(at_once.left, 100);
                continue;
            };
            count += 1;
            let wanted = (name.to_vec(), value.to_vec(), used);
            assert_eq!(by_line(bytes, 100), Ok(Some(wanted)), "{bytes:?}");
            assert_eq!(at_once.left, 100 - used);
            assert!(LineReader::new(used).read_field(bytes).is_some());
            assert!(LineReader::new(used - 1).read_field(bytes).is_none());
            assert_eq!(by_line(bytes, used - 1), Err(LONG_HEAD));
        }
        assert_eq!(count, 4);
        // the beginning of the line has come before
        let mut lines = LineReader::new(100);
        assert_eq!(lines.read(b"a", check_field_start), Ok::<_, Refusal>((None, 1)));
        assert_eq!(lines.read_field(b"b: c\r\n"), None);
    }
}
