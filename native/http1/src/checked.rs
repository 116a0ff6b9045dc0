//! Request heads that a reader of this crate has written, told apart from bytes that somebody says are one. Source: H-123.

use crate::usual::{read_usual_head, UsualHead, SAME_HOST};

/// One request's head, request line and `name: value` lines, each with CRLF: it needs no second look before it is sent on, and
/// lines may be put behind it.
#[derive(Clone, Copy, Debug)]
pub struct CheckedHead<'a>(&'a [u8]);

impl<'a> CheckedHead<'a> {
    /// `text`: what [`RequestReader::read`](crate::RequestReader::read) has appended for one head, as it was.
    pub fn written(text: &'a [u8]) -> Self {
        CheckedHead(text)
    }

    /// The head.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Reads usual heads one after the other, and keeps the last one, so that it can be sent on as it is.
#[derive(Debug, Default)]
pub struct UsualReader {
    text: Vec<u8>,
    /// Of the last usual head.
    host: Vec<u8>,
    /// Of the last head, below 2^53; heads that are not usual take a number too.
    number: u64,
    is_whole: bool,
}

impl UsualReader {
    /// One that has read nothing yet.
    pub const fn new() -> Self {
        UsualReader { text: Vec::new(), host: Vec::new(), number: 0, is_whole: false }
    }

    /// See [`read_usual_head`]. With the head comes its number, which no other head of this reader has.
    pub fn read<'b>(
        &mut self,
        method: &[u8],
        target: &[u8],
        fields: impl Iterator<Item = (&'b [u8], &'b [u8])>,
        uri_bytes: usize,
        head_bytes: usize,
    ) -> Option<(UsualHead, u64)> {
        self.number += 1;
        self.text.clear();
        let head = read_usual_head(&mut self.text, method, target, fields, uri_bytes, head_bytes);
        self.is_whole = head.is_some();
        let mut head = head?;
        let host = &self.text[head.host.0..][..head.host.1];
        if self.host == host {
            head.flags |= SAME_HOST;
        } else {
            self.host.clear();
            self.host.extend_from_slice(host);
        }
        Some((head, self.number))
    }

    /// The last head that was read; nothing that means anything when it was not usual.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The head of this number, as long as no other was read.
    pub fn kept(&self, number: u64) -> Option<CheckedHead<'_>> {
        (self.is_whole && number == self.number).then_some(CheckedHead(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_again_when_it_is_the_last_one() {
        let mut reader = UsualReader::new();
        let mut is_same = |host: &str, target: &str| {
            let fields = [(&b"host"[..], host.as_bytes())].into_iter();
            let read = reader.read(b"GET", target.as_bytes(), fields, 100, 100);
            read.map(|(head, _)| head.flags & SAME_HOST != 0)
        };
        assert_eq!(is_same("", "/"), Some(true), "none is that of no head");
        assert_eq!(is_same("a", "/"), Some(false));
        assert_eq!(is_same("a", "/other"), Some(true));
        assert_eq!(is_same("b", "/ "), None);
        assert_eq!(is_same("a", "/"), Some(true), "of a head that is not usual nothing is known");
        assert_eq!(is_same("ab", "/"), Some(false));
        assert_eq!(is_same("a", "/"), Some(false));
    }

    fn read(reader: &mut UsualReader, target: &[u8]) -> Option<u64> {
        let fields = [(&b"host"[..], &b"a"[..])].into_iter();
        Some(reader.read(b"GET", target, fields, 100, 100)?.1)
    }

    #[test]
    fn h_123_only_the_last_usual_head_is_kept() {
        let mut reader = UsualReader::new();
        assert!(reader.kept(0).is_none(), "nothing was read");
        let first = read(&mut reader, b"/1").unwrap();
        assert_eq!(reader.kept(first).unwrap().bytes(), b"GET /1 HTTP/1.1\r\nhost: a\r\n");
        assert!(reader.kept(first + 1).is_none());
        let second = read(&mut reader, b"/2").unwrap();
        assert!(reader.kept(first).is_none(), "another one was read");
        assert_eq!(reader.kept(second).unwrap().bytes(), reader.text());
        // its text ends in the middle
        assert_eq!(read(&mut reader, b"/ 3"), None);
        assert!(reader.kept(second).is_none() && reader.kept(second + 1).is_none());
    }
}
