//! All bytes of a client's connection: heads and bodies one after the other, as a front end reads them.

use crate::cut::{pieces, split};
use sallyport_http1::{BodyReader, Refusal, RequestHead, RequestReader, RequestRules};

pub(crate) const SEEDS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /c HTTP/1.1\r\nHost: a\r\n\r\n\x05",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\0",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n\x02",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n\x03",
    b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\x01",
];

/// What the bytes of a connection come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) requests: Vec<Played>,
    pub(crate) refusal: Option<Refusal>,
}

/// A request as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Played {
    pub(crate) head: Vec<u8>,
    /// Where the head ends among all bytes.
    pub(crate) body_at: usize,
    pub(crate) body: Vec<u8>,
    /// The body is whole.
    pub(crate) is_complete: bool,
    pub(crate) facts: RequestHead,
}

/// The requests of a connection and their bodies, whole and cut.
pub fn connection(input: &[u8]) {
    let (bytes, cut) = split(input);
    let rules = RequestRules::default();
    let whole = play(&[bytes], &rules);
    let cut = play(&pieces(bytes, cut), &rules);
    assert_eq!(cut.refusal, whole.refusal, "pieces make a difference");
    assert_eq!(cut.requests.len(), whole.requests.len());
    for (cut, whole) in cut.requests.iter().zip(&whole.requests) {
        assert_eq!((&cut.head, cut.is_complete), (&whole.head, whole.is_complete));
        assert_eq!(cut.body_at, whole.body_at);
        // Before a refusal more data may have gone on in pieces than at once.
        let is_alike = if cut.is_complete {
            cut.body == whole.body
        } else {
            cut.body.starts_with(&whole.body)
        };
        assert!(is_alike);
    }
}

/// Reads them one after the other, until one is refused or ends the connection.
pub(crate) fn play(pieces: &[&[u8]], rules: &RequestRules) -> Outcome {
    let mut outcome = Outcome { requests: Vec::new(), refusal: None };
    let mut reader = RequestReader::new();
    let mut body: Option<(BodyReader, bool)> = None;
    let mut waiting: Vec<u8> = Vec::new();
    let mut at = 0;
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            if let Some((reading, keep_alive)) = &mut body {
                let request = outcome.requests.last_mut().expect("a request");
                match reading.read(&mut waiting) {
                    Ok(read) => {
                        request.body.extend_from_slice(&waiting[..read.data]);
                        waiting.drain(..read.used);
                        at += read.used;
                        if !read.is_last {
                            break;
                        }
                        request.is_complete = true;
                        if !*keep_alive {
                            return outcome;
                        }
                    }
                    Err(refusal) => {
                        outcome.refusal = Some(refusal);
                        return outcome;
                    }
                }
                body = None;
            }
            let (mut head, mut lines) = (Vec::new(), Vec::new());
            match reader.read(&waiting, rules, &mut head, &mut lines) {
                Ok(None) => break,
                Ok(Some(facts)) => {
                    waiting.drain(..facts.consumed);
                    at += facts.consumed;
                    let reading = BodyReader::new(facts.framing, rules.body_bytes, false);
                    body = Some((reading, facts.keep_alive));
                    let (body_at, is_complete) = (at, false);
                    let body = Vec::new();
                    outcome.requests.push(Played { head, body_at, body, is_complete, facts });
                }
                Err(refusal) => {
                    outcome.refusal = Some(refusal);
                    return outcome;
                }
            }
        }
    }
    outcome
}
