//! Answers of upstreams.

use crate::cut::{pieces, split};
use sallyport_upstream::{FinalHead, Response};

pub(crate) const SEEDS: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\x10",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX-T: 1\r\n\r\n\x11",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 \r\nConnection: close, X-A\r\nX-A: b\r\n\r\nto the end\x03",
    b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na\x02",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nKeep-Alive: timeout=5\r\n\r\n\x01",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nbytes\0",
    b"HTTP/1.1 200 O\rK\r\nA : b\r\n c\n\r\n\x07",
];

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    head: Option<(FinalHead, Vec<u8>)>,
    body: Vec<u8>,
    ended: bool,
    keeps_alive: bool,
    is_refused: bool,
}

fn read(pieces: &[&[u8]], is_head: bool) -> Outcome {
    let mut response = Response::new(is_head);
    let mut outcome = Outcome {
        head: None,
        body: Vec::new(),
        ended: false,
        keeps_alive: false,
        is_refused: false,
    };
    let mut has_excess = false;
    for piece in pieces {
        if outcome.ended {
            has_excess = true;
            break;
        }
        let mut piece = piece.to_vec();
        let Ok(parsed) = response.read(&mut piece) else {
            outcome.is_refused = true;
            return outcome;
        };
        if let Some(head) = parsed.head {
            assert!(outcome.head.is_none(), "one head");
            outcome.head = Some((head, response.head().to_vec()));
        }
        let (from, to) = parsed.data;
        assert!(from <= to && to <= piece.len());
        assert!(outcome.head.is_some() || from == to, "data before a head");
        outcome.body.extend_from_slice(&piece[from..to]);
        outcome.ended = parsed.ended;
        has_excess |= parsed.excess;
    }
    outcome.keeps_alive = outcome.ended && response.keeps_alive() && !has_excess;
    outcome
}

/// An answer, whole and cut; what goes on is one head without framing (H-124).
pub fn response(input: &[u8]) {
    let (bytes, cut) = split(input);
    let is_head = cut & 0x40 != 0;
    let whole = read(&[bytes], is_head);
    let cut = read(&pieces(bytes, cut & 0x3f), is_head);
    assert_eq!(cut.is_refused, whole.is_refused, "pieces make a difference");
    if !whole.is_refused {
        assert_eq!(cut, whole, "pieces make a difference");
    }
    let Some((facts, head)) = whole.head else { return };
    assert!((200..600).contains(&facts.status));
    assert!(head.ends_with(b"\r\n") && !head.windows(4).any(|end| end == b"\r\n\r\n"));
    for line in head[..head.len() - 2].split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':').expect("a field");
        assert!(!matches!(
            &line[..colon],
            b"content-length" | b"transfer-encoding" | b"connection" | b"keep-alive" | b"upgrade"
        ));
        assert!(!line.iter().any(|byte| matches!(byte, b'\r' | 0)), "H-03");
    }
}
