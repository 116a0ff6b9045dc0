//! Request heads, and bodies in chunks.

use crate::cut::{pieces, split};
use sallyport_http1::{
    BodyReader, Framing, Refusal, RequestHead, RequestReader, RequestRules, Upgrade,
};

pub(crate) const HEADS: &[&[u8]] = &[
    b"GET /a?b=c HTTP/1.1\r\nHost: gw.test\r\n\r\n\0",
    b"\r\nPOST http://a.b:8/c HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nX-A: \tb \r\n\r\nhello\x03",
    b"OPTIONS * HTTP/1.0\r\nConnection: keep-alive, X-A\r\nX-A: b\r\nX_Forwarded_For: c\r\n\r\n\x01",
    b"PUT / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nExpect: 100-continue\r\n\r\n\x02",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: a, b\r\n\r\n\x05",
    b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 1\r\n\r\n\x07",
    b"TRACE / HTTP/1.2\r\nHost : a\r\n b\r\nA: \x00\n\r\n\x09",
];

pub(crate) const BODIES: &[&[u8]] = &[
    b"5\r\nhello\r\n0\r\n\r\n\0",
    b"A;a;b=c; d = \"e;\\\"f\"\r\n0123456789\r\n000\r\nX-T: 1\r\nHost: a\r\n\r\nGET\x03",
    b"1FfFfFfFfFfFfF\r\na\x02",
    b"1\r\naX0\r\n\r\n\x01",
    b"0\r\na b: c\r\n : d\n\r\n\x04",
];

/// A complete head with what was written of it.
type Read = Result<Option<(RequestHead, Vec<u8>, Vec<u8>)>, Refusal>;

fn read_head(bytes: &[u8], ends: impl Iterator<Item = usize>, rules: &RequestRules) -> Read {
    let mut reader = RequestReader::new();
    let (mut text, mut lines) = (Vec::new(), Vec::new());
    for end in ends {
        if let Some(head) = reader.read(&bytes[..end], rules, &mut text, &mut lines)? {
            return Ok(Some((head, text, lines)));
        }
        assert!(text.is_empty() && lines.is_empty(), "an incomplete head is not written");
    }
    Ok(None)
}

/// A head, whole and cut; what goes on is one head without framing, and means the same when it is read again.
pub fn request_head(input: &[u8]) {
    let (bytes, cut) = split(input);
    let small = RequestRules {
        uri_bytes: 40,
        head_bytes: 200,
        fields: 8,
        body_bytes: 99,
        is_https: true,
        other_upgrades: true,
    };
    for rules in [RequestRules::default(), small] {
        let whole = read_head(bytes, [bytes.len()].into_iter(), &rules);
        let mut end = 0;
        let ends = pieces(bytes, cut).into_iter().map(|piece| {
            end += piece.len();
            end
        });
        assert_eq!(read_head(bytes, ends, &rules), whole, "pieces make a difference");
        match whole {
            Ok(Some((head, text, lines))) => check_head(bytes, &head, &text, &lines, &rules),
            Ok(None) => {}
            Err(refusal) => assert!(
                matches!(refusal.status, 400 | 405 | 413 | 414 | 417 | 426 | 431 | 501 | 505)
                    && refusal.rule.starts_with("H-"),
                "{refusal:?}"
            ),
        }
    }
}

fn check_head(bytes: &[u8], head: &RequestHead, text: &[u8], lines: &[u8], rules: &RequestRules) {
    assert!(head.consumed <= bytes.len() && bytes[..head.consumed].ends_with(b"\r\n"));
    assert!(text.len() + lines.len() < 2 * bytes.len() + 64, "no more is written than was read");
    let (start_line, section) = split_line(text);
    assert!(start_line.ends_with(b" HTTP/1.1"), "H-09");
    assert_eq!(start_line.iter().filter(|byte| **byte == b' ').count(), 2, "H-01");
    assert_eq!(start_line.starts_with(b"HEAD "), head.is_head);
    let is_upgrade = head.upgrade != Upgrade::None;
    let mut hosts = 0;
    for (name, value) in fields(section) {
        let is_framing = matches!(
            name,
            b"content-length" | b"transfer-encoding" | b"te" | b"expect" | b"trailer"
        );
        let is_hop =
            matches!(name, b"connection" | b"upgrade" | b"keep-alive" | b"proxy-connection");
        assert!(
            !is_framing && (!is_hop || (is_upgrade && !name.starts_with(b"keep"))),
            "H-50: {name:?}"
        );
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0 | 0x7f)), "H-03");
        hosts += usize::from(name == b"host");
    }
    assert_eq!(hosts, usize::from(head.has_host), "H-07, H-15");
    let _ = fields(lines).count();
    if is_upgrade {
        return;
    }
    // What goes upstream is read there as the same, and holds no second request. A Host may have come from the target.
    let again = [text, b"\r\n"].concat();
    let mut rules = *rules;
    (rules.uri_bytes, rules.head_bytes) = (rules.uri_bytes + 2, 2 * rules.head_bytes);
    rules.fields += 1;
    match read_head(&again, [again.len()].into_iter(), &rules) {
        Ok(Some((second, second_text, second_lines))) => {
            assert_eq!(second.consumed, again.len());
            assert_eq!(second.framing, Framing::None);
            assert!(second_text == text && second_lines.is_empty());
        }
        Err(refusal) => assert!(!head.has_host && refusal.rule == "H-15", "{refusal:?}"),
        Ok(None) => panic!("a head that is complete is not complete"),
    }
}

fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a line");
    (&bytes[..end], &bytes[end + 2..])
}

fn fields(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, others) = split_line(rest);
        rest = others;
        let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
        assert!(colon > 0 && line[colon..].starts_with(b": "), "flat form");
        assert!(line[..colon].iter().all(|byte| !byte.is_ascii_uppercase()), "lower case");
        Some((&line[..colon], &line[colon + 2..]))
    })
}

/// Data, trailers, bytes read, complete; data before a refusal is not compared.
type ReadBody = Result<(Vec<u8>, Vec<u8>, usize, bool), Refusal>;

fn read_body(pieces: &[&[u8]]) -> ReadBody {
    let mut body = BodyReader::new(Framing::Chunked, 0, true);
    let (mut data, mut used) = (Vec::new(), 0);
    for piece in pieces {
        if body.is_done() {
            break;
        }
        let mut piece = piece.to_vec();
        let read = body.read(&mut piece)?;
        assert!(read.data <= read.used && read.used <= piece.len());
        assert!(read.is_last || read.used == piece.len(), "all is read before the end");
        data.extend_from_slice(&piece[..read.data]);
        used += read.used;
    }
    Ok((data, body.trailers().to_vec(), used, body.is_done()))
}

/// A body in chunks, whole and cut; encoded again it is the same body.
pub fn chunked_body(input: &[u8]) {
    let (bytes, cut) = split(input);
    let whole = read_body(&[bytes]);
    assert_eq!(read_body(&pieces(bytes, cut)), whole, "pieces make a difference");
    let Ok((data, trailers, used, true)) = whole else { return };
    assert!(bytes[..used].ends_with(b"\r\n\r\n") || bytes[..used].ends_with(b"\n\r\n"));
    let _ = fields(&trailers).count();
    let mut again = Vec::new();
    if !data.is_empty() {
        again.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        again.extend_from_slice(&data);
        again.extend_from_slice(b"\r\n");
    }
    again.extend_from_slice(b"0\r\n");
    again.extend_from_slice(&trailers);
    again.extend_from_slice(b"\r\n");
    let length = again.len();
    assert_eq!(read_body(&[&again]), Ok((data, trailers, length, true)));
}
