//! Requests and answers as the strictest reader has them: what may leave us. It shares nothing with the product's parsers.
//!
//! Source: RFC 9112 §2 … §7; H-31 … H-33, H-58, H-123, H-124.

/// A message whose head was read.
#[derive(Debug)]
pub(super) struct Head {
    /// Three parts of the first line.
    pub(super) start: [Vec<u8>; 3],
    pub(super) lines: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) length: usize,
}

/// How the bytes behind a head are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// A body as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) data: Vec<u8>,
    pub(super) length: usize,
    pub(super) is_complete: bool,
}

impl Head {
    /// The values of a field.
    pub(super) fn all<'a>(&'a self, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
        let is_it = move |line: &&(Vec<u8>, Vec<u8>)| line.0.eq_ignore_ascii_case(name);
        self.lines.iter().filter(is_it).map(|line| line.1.as_slice())
    }

    pub(super) fn last(&self, name: &'static [u8]) -> Option<&[u8]> {
        self.all(name).last()
    }

    /// Of the fields that frame a message; panics when they are not one, or contradict each other.
    fn framing(&self) -> Option<Framing> {
        let lengths: Vec<_> = self.all(b"content-length").collect();
        let codings: Vec<_> = self.all(b"transfer-encoding").collect();
        assert!(lengths.len() + codings.len() <= 1, "framed twice: {self:?}");
        if let Some(length) = lengths.first() {
            assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit), "{self:?}");
            let text = std::str::from_utf8(length).expect("digits");
            return Some(Framing::Length(text.parse().unwrap_or(usize::MAX)));
        }
        let coding = codings.first()?;
        assert_eq!(*coding, b"chunked", "{self:?}");
        Some(Framing::Chunked)
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A head, when it is complete. Panics at the first byte that no head has.
fn head(bytes: &[u8]) -> Option<Head> {
    let end = bytes.windows(4).position(|end| end == b"\r\n\r\n");
    let known = &bytes[..end.map_or(bytes.len(), |end| end + 2)];
    for (at, byte) in known.iter().enumerate() {
        match byte {
            b'\r' => assert!(matches!(known.get(at + 1), None | Some(b'\n')), "a bare CR"),
            b'\n' => assert!(at > 0 && known[at - 1] == b'\r', "a bare LF"),
            0..=8 | 11..=31 | 127 => {
                panic!("a control byte in {:?}", String::from_utf8_lossy(known))
            }
            _ => {}
        }
    }
    let end = end?;
    let mut lines = bytes[..end]
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut start = lines.next()?.splitn(3, |byte| *byte == b' ').map(<[u8]>::to_vec);
    let mut part = || start.next().expect("three parts in the first line");
    let start = [part(), part(), part()];
    let lines = lines.map(|line| {
        let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        assert!(!name.is_empty() && name.iter().all(|byte| is_token(*byte)), "a name: {name:?}");
        (name.to_vec(), value.trim_ascii().to_vec())
    });
    Some(Head { start, lines: lines.collect(), length: end + 4 })
}

/// A request's head and the framing of what follows.
pub(super) fn request(bytes: &[u8]) -> Option<(Head, Framing)> {
    let head = head(bytes)?;
    let [method, target, version] = &head.start;
    assert!(!method.is_empty() && method.iter().all(|byte| is_token(*byte)), "{head:?}");
    assert!(!target.is_empty() && !target.contains(&b' '), "{head:?}");
    assert_eq!(version, b"HTTP/1.1", "{head:?}");
    assert!(head.all(b"host").count() <= 1, "{head:?}");
    let framing = head.framing().unwrap_or(Framing::Length(0));
    Some((head, framing))
}

/// An answer's head, its status, and the framing of what follows.
pub(super) fn answer(bytes: &[u8], is_head: bool) -> Option<(Head, u16, Framing)> {
    let head = head(bytes)?;
    let [version, status, _] = &head.start;
    assert_eq!(version, b"HTTP/1.1", "{head:?}");
    assert!(status.len() == 3 && status.iter().all(u8::is_ascii_digit), "{head:?}");
    let status = status.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    assert!((100..600).contains(&status), "{head:?}");
    let framing = head.framing();
    if status < 200 || status == 204 {
        assert_eq!(framing, None, "no body can follow (RFC 9110 §8.6): {head:?}");
    }
    let framing = match framing {
        _ if status < 200 || status == 204 || status == 304 || is_head => Framing::Length(0),
        Some(framing) => framing,
        None => Framing::UntilClose,
    };
    Some((head, status, framing))
}

/// What there is of a body. Panics where chunks are wrong.
pub(super) fn body(bytes: &[u8], framing: Framing) -> Body {
    match framing {
        Framing::Length(length) => {
            let data = bytes[..bytes.len().min(length)].to_vec();
            Body { length: data.len(), is_complete: data.len() == length, data }
        }
        Framing::UntilClose => {
            Body { data: bytes.to_vec(), length: bytes.len(), is_complete: false }
        }
        Framing::Chunked => chunks(bytes),
    }
}

fn chunks(bytes: &[u8]) -> Body {
    let mut body = Body::default();
    loop {
        let rest = &bytes[body.length..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits == rest.len() {
            return body;
        }
        assert!((1..=16).contains(&digits), "a chunk's size");
        let text = std::str::from_utf8(&rest[..digits]).expect("digits");
        let size = usize::from_str_radix(text, 16).expect("a size");
        let Some(after) = crlf(&rest[digits..]) else { return body };
        let start = digits + 2;
        if size == 0 {
            // trailers are the product's to drop or to pass: here only their end matters
            let Some(end) = after.windows(2).position(|end| end == b"\r\n") else { return body };
            if end == 0 {
                body.length += start + 2;
            } else {
                let Some((trailers, _)) = head_of_trailers(after) else { return body };
                body.length += start + trailers;
            }
            body.is_complete = true;
            return body;
        }
        let data = &after[..after.len().min(size)];
        if data.len() < size {
            body.data.extend_from_slice(data);
            body.length = bytes.len();
            return body;
        }
        body.data.extend_from_slice(data);
        if crlf(&after[size..]).is_none() {
            body.length = bytes.len();
            return body;
        }
        body.length += start + size + 2;
    }
}

fn head_of_trailers(bytes: &[u8]) -> Option<(usize, Head)> {
    let together = [b"A B C\r\n", bytes].concat();
    let head = head(&together)?;
    Some((head.length - 7, head))
}

/// What is behind CRLF; `None` = it has not come yet.
fn crlf(bytes: &[u8]) -> Option<&[u8]> {
    let expected = &b"\r\n"[..bytes.len().min(2)];
    assert!(bytes.starts_with(expected), "no CRLF where one must be");
    bytes.get(2..)
}
