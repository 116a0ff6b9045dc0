//! All bytes of a client's connection: heads and bodies one after the other, as a front end reads them.

use crate::cut::{pieces, split};
use sallyport_http1::{BodyReader, Refusal, RequestReader, RequestRules};

pub(crate) const SEEDS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /c HTTP/1.1\r\nHost: a\r\n\r\n\x05",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\0",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n\x02",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n\x03",
    b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\x01",
];

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// Heads, each with its body, complete or not.
    requests: Vec<(Vec<u8>, Vec<u8>, bool)>,
    refusal: Option<Refusal>,
}

/// The requests of a connection and their bodies, whole and cut.
pub fn connection(input: &[u8]) {
    let (bytes, cut) = split(input);
    let whole = play(&[bytes]);
    let cut = play(&pieces(bytes, cut));
    assert_eq!(cut.refusal, whole.refusal, "pieces make a difference");
    assert_eq!(cut.requests.len(), whole.requests.len());
    for (cut, whole) in cut.requests.iter().zip(&whole.requests) {
        assert_eq!((&cut.0, cut.2), (&whole.0, whole.2));
        // Before a refusal more data may have gone on in pieces than at once.
        assert!(if cut.2 { cut.1 == whole.1 } else { cut.1.starts_with(&whole.1) });
    }
}

fn play(pieces: &[&[u8]]) -> Outcome {
    let rules = RequestRules::default();
    let mut outcome = Outcome { requests: Vec::new(), refusal: None };
    let mut reader = RequestReader::new();
    let mut body: Option<(BodyReader, bool)> = None;
    let mut waiting: Vec<u8> = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            if let Some((reading, keep_alive)) = &mut body {
                let request = outcome.requests.last_mut().expect("a request");
                match reading.read(&mut waiting) {
                    Ok(read) => {
                        request.1.extend_from_slice(&waiting[..read.data]);
                        waiting.drain(..read.used);
                        if !read.is_last {
                            break;
                        }
                        request.2 = true;
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
            let (mut text, mut lines) = (Vec::new(), Vec::new());
            match reader.read(&waiting, &rules, &mut text, &mut lines) {
                Ok(None) => break,
                Ok(Some(head)) => {
                    waiting.drain(..head.consumed);
                    outcome.requests.push((text, Vec::new(), false));
                    body = Some((BodyReader::new(head.framing, 0, false), head.keep_alive));
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
