//! Request heads as nearly all of them are: those in which nothing is to be decided. Whatever is not plainly so is left to
//! those who decide. Source: H-07 … H-23, H-50, H-61; src/listener/read-head.ts, which makes the same of them.

use crate::bytes::{ascii_target_length, ascii_value_length, is_token};
use crate::connection::is_hop_by_hop;
use crate::target::is_plain_path;

/// What is known of a usual head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsualHead {
    /// `CLOSE` … `HEAD`.
    pub flags: u32,
    /// Where the value of Host begins in the text, and its length.
    pub host: (usize, usize),
    /// 0 when there is none.
    pub content_length: u32,
}

/// `Connection: close`.
pub const CLOSE: u32 = 1;
/// `Connection: keep-alive`.
pub const KEEP_ALIVE: u32 = 2;
/// There are fields that proxies write: `x-…`, Via, Forwarded, or those of W3C Trace Context.
pub const PROXY_FIELDS: u32 = 4;
/// There is a Content-Length.
pub const HAS_LENGTH: u32 = 8;
/// It stands before Connection.
pub const LENGTH_FIRST: u32 = 16;
/// The method is HEAD.
pub const HEAD: u32 = 32;
/// Host is that of the usual head which was read before by the same [`UsualReader`](crate::UsualReader).
pub const SAME_HOST: u32 = 64;

/// The path is canonical as it stands (H-65).
pub const PLAIN_PATH: u32 = 128;

/// Fields that may come once (H-07), and those that do not go on.
const HOST: u32 = 1;
const CONNECTION: u32 = 2;
const CONTENT_LENGTH: u32 = 4;
const CONTENT_TYPE: u32 = 8;
const AUTHORIZATION: u32 = 16;

const MOST_METHOD_BYTES: usize = 32;
/// A length of so many digits fits into 32 bits.
const MOST_LENGTH_DIGITS: usize = 9;

/// Bytes of names as they are usually sent: token bytes in lower case, but `_`, which takes a decision (H-18).
static USUAL_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(
            byte as u8,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'`' | b'|' | b'~'
                | b'0'..=b'9' | b'a'..=b'z'
        );
        byte += 1;
    }
    table
};

/// Appends the head to `text`: request line and `name: value` lines without Connection and Content-Length, each with CRLF.
/// `None`, with any text, when something in it has to be decided: a fault, a byte beyond ASCII, a hop-by-hop field, an
/// expectation, a name with `_`; or when it is longer than allowed. Names come in lower case.
pub fn read_usual_head<'a>(
    text: &mut Vec<u8>,
    method: &[u8],
    target: &[u8],
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    uri_bytes: usize,
    head_bytes: usize,
) -> Option<UsualHead> {
    if method.len() > MOST_METHOD_BYTES || !is_token(method) {
        return None;
    }
    if !is_usual_target(target, uri_bytes) {
        return None;
    }
    let mut head = UsualHead::default();
    match method {
        b"HEAD" => head.flags = HEAD,
        b"CONNECT" | b"TRACE" | b"TRACK" => return None,
        _ => {}
    }
    if is_plain_path(target) {
        head.flags |= PLAIN_PATH;
    }
    text.extend_from_slice(method);
    text.push(b' ');
    text.extend_from_slice(target);
    text.extend_from_slice(b" HTTP/1.1\r\n");
    let start = text.len();
    let mut seen = 0;
    let mut taken_out = 0;
    for (name, value) in fields {
        if !name.iter().all(|byte| USUAL_NAME[*byte as usize]) || !is_usual_value(value) {
            return None;
        }
        let once = match name {
            b"host" => HOST,
            b"connection" => CONNECTION,
            b"content-length" => CONTENT_LENGTH,
            b"content-type" => CONTENT_TYPE,
            b"authorization" => AUTHORIZATION,
            b"expect" => return None,
            b"via" | b"forwarded" | b"traceparent" | b"tracestate" => {
                head.flags |= PROXY_FIELDS;
                0
            }
            [b'x', b'-', ..] => {
                head.flags |= PROXY_FIELDS;
                0
            }
            _ if is_hop_by_hop(name) => return None,
            _ => 0,
        };
        if once & seen != 0 {
            return None;
        }
        seen |= once;
        match once {
            HOST => head.host = (text.len() + b"host: ".len(), value.len()),
            CONNECTION => {
                head.flags |= match value {
                    b"keep-alive" => KEEP_ALIVE,
                    b"close" => CLOSE,
                    _ => return None,
                };
            }
            CONTENT_LENGTH => {
                head.content_length = usual_length(value)?;
                head.flags |= HAS_LENGTH;
                if seen & CONNECTION == 0 {
                    head.flags |= LENGTH_FIRST;
                }
            }
            _ => {}
        }
        if once == CONNECTION || once == CONTENT_LENGTH {
            taken_out += name.len() + value.len() + b": \r\n".len();
            continue;
        }
        text.extend_from_slice(name);
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    }
    (seen & HOST != 0 && text.len() - start + taken_out <= head_bytes).then_some(head)
}

/// Origin-form, of bytes that need no second look (H-12, T-09); `uri_bytes` are path and query without the `?` (H-13).
fn is_usual_target(target: &[u8], uri_bytes: usize) -> bool {
    let query = memchr::memchr(b'?', target);
    let path = &target[..query.unwrap_or(target.len())];
    target.first() == Some(&b'/')
        && target.len() - usize::from(query.is_some()) <= uri_bytes
        && ascii_target_length(target) == target.len()
        && memchr::memchr(b'\\', path).is_none()
}

/// Visible ASCII, blanks and HTAB.
fn is_usual_value(value: &[u8]) -> bool {
    ascii_value_length(value) == value.len()
}

fn usual_length(value: &[u8]) -> Option<u32> {
    let is_plain = value == b"0" || value.first().is_some_and(|digit| *digit != b'0');
    if !is_plain || value.len() > MOST_LENGTH_DIGITS || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |length, digit| length * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Field<'a> = (&'a str, &'a str);

    fn read(method: &str, target: &str, fields: &[Field]) -> Option<(String, UsualHead)> {
        let mut text = Vec::new();
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let head =
            read_usual_head(&mut text, method.as_bytes(), target.as_bytes(), fields, 100, 200)?;
        Some((String::from_utf8(text).unwrap(), head))
    }

    #[test]
    fn a_usual_head_is_written_as_it_goes_on() {
        let fields =
            [("host", "a:80"), ("accept", "*/*"), ("cookie", "a=b; c"), ("connection", "close")];
        let (text, head) = read("HEAD", "/a?b=\\c", &fields).unwrap();
        assert_eq!(
            text,
            "HEAD /a?b=\\c HTTP/1.1\r\nhost: a:80\r\naccept: */*\r\ncookie: a=b; c\r\n"
        );
        assert_eq!(&text[head.host.0..][..head.host.1], "a:80");
        assert_eq!((head.flags, head.content_length), (HEAD | CLOSE | PLAIN_PATH, 0));

        let fields =
            [("content-length", "120"), ("host", "a"), ("connection", "keep-alive"), ("x-a", "")];
        let (text, head) = read("PUT", "/", &fields).unwrap();
        assert_eq!(text, "PUT / HTTP/1.1\r\nhost: a\r\nx-a: \r\n");
        assert_eq!(head.flags & !PLAIN_PATH, HAS_LENGTH | LENGTH_FIRST | KEEP_ALIVE | PROXY_FIELDS);
        assert_eq!(head.content_length, 120);
        let fields = [("host", "a"), ("connection", "keep-alive"), ("content-length", "0")];
        assert_eq!(
            read("PUT", "//", &fields).unwrap().1.flags,
            HAS_LENGTH | KEEP_ALIVE,
            "and the path is not plain"
        );
        for name in ["via", "forwarded", "traceparent", "tracestate", "x-"] {
            assert_eq!(
                read("GET", "/", &[("host", "a"), (name, "b")]).unwrap().1.flags,
                PROXY_FIELDS | PLAIN_PATH
            );
        }
    }

    #[test]
    fn what_takes_a_decision_is_left_to_others() {
        let host = ("host", "a");
        for (method, target) in [
            ("", "/"),
            ("G T", "/"),
            ("CONNECT", "/"),
            ("TRACE", "/"),
            ("TRACK", "/"),
            ("GET", ""),
            ("GET", "*"),
            ("GET", "a"),
            ("GET", "/ "),
            ("GET", "/\u{7f}"),
            ("GET", "/\u{e9}"),
            ("GET", "/?\u{e9}"),
            ("GET", "/#"),
            ("GET", "/?#"),
            ("GET", "/\\"),
        ] {
            assert_eq!(read(method, target, &[host]), None, "{method} {target}");
        }
        assert_eq!(read(&"A".repeat(33), "/", &[host]), None);
        assert!(read(&"A".repeat(32), "/", &[host]).is_some());
        assert_eq!(read("GET", &format!("/{}", "a".repeat(100)), &[host]), None);
        assert!(read("GET", &format!("/?{}", "a".repeat(99)), &[host]).is_some());
        assert_eq!(read("GET", "/", &[host, ("a", &"b".repeat(187))]), None);
        assert_eq!(read("GET", "/", &[]), None);
        for field in [
            ("host", "b"),
            ("expect", "100-continue"),
            ("connection", "upgrade"),
            ("connection", "Close"),
            ("te", "trailers"),
            ("keep-alive", "a"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "a"),
            ("trailer", "a"),
            ("proxy-connection", "a"),
            ("proxy-authorization", "a"),
            ("http2-settings", "a"),
            ("a_b", "c"),
            ("A", "b"),
            ("a b", "c"),
            ("a", "\u{7f}"),
            ("a", "\r"),
            ("a", "\u{e9}"),
            ("a\u{e9}", "b"),
            ("content-length", ""),
            ("content-length", "00"),
            ("content-length", "01"),
            ("content-length", "+1"),
            ("content-length", "1, 1"),
            ("content-length", "1234567890"),
        ] {
            assert_eq!(read("GET", "/", &[host, field]), None, "{field:?}");
        }
        for (name, value) in [
            ("connection", "close"),
            ("content-length", "1"),
            ("content-type", "a"),
            ("authorization", "a"),
        ] {
            assert!(read("GET", "/", &[host, (name, value)]).is_some());
            assert_eq!(
                read("GET", "/", &[host, (name, value), (name, value)]),
                None,
                "{name} twice"
            );
        }
    }
}
