//! What is told beside the text of a request's head, so that nobody has to look for it there.

/// The host that was told of last.
pub(crate) type ToldHost = Vec<u8>;

/// Facts of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadFacts {
    /// Where the value of Host begins, and its length; an empty one when there is none.
    pub host: (usize, usize),
    /// It is that of the head before.
    pub is_same_host: bool,
    /// Its path is canonical as it stands: no escape, no segment that begins with a dot, no empty segment (H-65).
    pub is_plain_path: bool,
}

impl HeadFacts {
    /// `head`: as the readers of this workspace write it.
    pub(crate) fn of(head: &[u8], told: &mut ToldHost) -> Self {
        let line = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
        let host = host_of(head, line);
        let value = &head[host.0..][..host.1];
        let is_same_host = told == value;
        if !is_same_host {
            told.clear();
            told.extend_from_slice(value);
        }
        HeadFacts { host, is_same_host, is_plain_path: is_plain_path(&head[..line]) }
    }
}

/// `line`: where the lines begin.
fn host_of(head: &[u8], line: usize) -> (usize, usize) {
    const NAME: &[u8] = b"host: ";
    let mut line = line;
    while !head[line..].starts_with(NAME) {
        match memchr::memchr(b'\n', &head[line..]) {
            Some(end) => line += end + 1,
            None => return (head.len(), 0),
        }
    }
    let start = line + NAME.len();
    let length = memchr::memchr(b'\r', &head[start..]).unwrap_or(head.len() - start);
    (start, length)
}

/// Of a request line.
fn is_plain_path(line: &[u8]) -> bool {
    let start = memchr::memchr(b' ', line).map_or(line.len(), |blank| blank + 1);
    sallyport_http1::is_plain_path(&line[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found_wherever_it_stands() {
        let mut told = ToldHost::new();
        let mut facts = |head: &'static str| {
            let facts = HeadFacts::of(head.as_bytes(), &mut told);
            (&head[facts.host.0..][..facts.host.1], facts.is_same_host)
        };
        assert_eq!(facts("GET / HTTP/1.1\r\n"), ("", true));
        assert_eq!(facts("GET / HTTP/1.1\r\nhost: a:80\r\nx: y\r\n"), ("a:80", false));
        assert_eq!(facts("GET / HTTP/1.1\r\nx-host: y\r\nhost: a:80\r\n"), ("a:80", true));
        assert_eq!(facts("GET / HTTP/1.1\r\nx-host: y\r\n"), ("", false));
        assert_eq!(facts("GET /host: HTTP/1.1\r\nhost: \r\n"), ("", true));
    }

    #[test]
    fn h_65_a_path_is_plain_when_nothing_of_it_is_rewritten() {
        let is_plain = |target: &str| {
            let head = format!("GET {target} HTTP/1.1\r\nhost: a\r\n");
            HeadFacts::of(head.as_bytes(), &mut ToldHost::new()).is_plain_path
        };
        for plain in ["/", "/a/b", "/a.b/c", "/a?b=%20", "/a?//", "/a?/../", "*"] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in ["/%41", "//", "/a//b", "/.", "/a/../b", "/.well-known/x", "/a%2fb?c"] {
            assert!(!is_plain(other), "{other}");
        }
    }
}
