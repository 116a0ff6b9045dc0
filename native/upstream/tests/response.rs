//! The answer parser: any cutting of the bytes gives the same result; what is strict; bounded random input.

use fastrand::Rng;
use sallyport_upstream::{FinalHead, Response};

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    head: Option<(FinalHead, String)>,
    body: Vec<u8>,
    /// `None` = refused.
    ended: Option<bool>,
    keeps_alive: bool,
}

/// Feeds pieces; bytes after the end are not fed, as the pool does not read on.
fn parse(pieces: &[&[u8]], is_head: bool, then_close: bool) -> Outcome {
    let mut response = Response::new(is_head);
    let mut outcome =
        Outcome { head: None, body: Vec::new(), ended: Some(false), keeps_alive: false };
    let mut has_excess = false;
    for piece in pieces {
        if outcome.ended == Some(true) {
            has_excess |= !piece.is_empty();
            continue;
        }
        let mut piece = piece.to_vec();
        match response.read(&mut piece) {
            Err(_) => {
                return Outcome { head: None, body: Vec::new(), ended: None, keeps_alive: false }
            }
            Ok(parsed) => {
                if let Some(head) = parsed.head {
                    assert!(outcome.head.is_none(), "one head only");
                    let text = response.head().iter().map(|byte| char::from(*byte)).collect();
                    outcome.head = Some((head, text));
                }
                assert!(parsed.data.0 <= parsed.data.1 && parsed.data.1 <= piece.len());
                assert!(
                    outcome.head.is_some() || parsed.data.0 == parsed.data.1,
                    "data before a head"
                );
                outcome.body.extend_from_slice(&piece[parsed.data.0..parsed.data.1]);
                has_excess |= parsed.excess;
                if parsed.ended {
                    outcome.ended = Some(true);
                }
            }
        }
    }
    if outcome.ended == Some(false) && then_close {
        outcome.ended = match response.finish() {
            Ok(()) => Some(true),
            Err(_) => Some(false),
        };
    }
    outcome.keeps_alive = outcome.ended == Some(true) && response.keeps_alive() && !has_excess;
    outcome
}

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b;c=\"d;\\\" e\"\r\nok\r\nA\r\n0123456789\r\n0\r\nX-T: 1\r\nContent-Length: 9\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 \r\nX-A:  b \t\r\nConnection: close, X-A\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\nto the end",
    "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na",
    "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 304 X\r\nContent-Length: 10\r\nTransfer-Encoding : chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "HTTP/1.1 200 O\rK\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokX\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000000\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nbad trailer\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
    "HTTP/1.1 500 Ori\u{c3}\u{ab}ntatie\r\nX: \u{e4}\r\nContent-Length: 0\r\n\r\n",
];

fn bytes_of(text: &str) -> Vec<u8> {
    text.chars().map(|one| u8::try_from(u32::from(one)).expect("latin1")).collect()
}

#[test]
fn h_125_any_cut_gives_the_same_result() {
    let mut cuts = 0;
    for text in ANSWERS {
        let bytes = bytes_of(text);
        for is_head in [false, true] {
            for then_close in [false, true] {
                let whole = parse(&[&bytes], is_head, then_close);
                for first in 0..=bytes.len() {
                    let (a, b) = bytes.split_at(first);
                    assert_eq!(
                        parse(&[a, b], is_head, then_close),
                        whole,
                        "{text:?} cut at {first}"
                    );
                    for second in (0..=b.len()).step_by(7) {
                        let (b, c) = b.split_at(second);
                        assert_eq!(parse(&[a, b, c], is_head, then_close), whole, "{text:?}");
                        cuts += 1;
                    }
                }
                let single: Vec<&[u8]> = bytes.chunks(1).collect();
                assert_eq!(parse(&single, is_head, then_close), whole, "{text:?} byte by byte");
            }
        }
    }
    assert!(cuts > 5_000);
}

fn whole(text: &str) -> Outcome {
    parse(&[&bytes_of(text)], false, false)
}

#[test]
fn the_head_is_flat_lower_case_and_free_of_hop_by_hop_fields() {
    let outcome = whole(
        "HTTP/1.1 200 Fine\r\nServer: a\r\nX-Hop: 1\r\nSet-Cookie: a=b\r\nConnection: X-Hop, set-cookie\r\n\
         Keep-Alive: timeout=5, max=9\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nTE: x\r\nTrailer: y\r\n\
         Content-Length: 2\r\nX-EMPTY:\r\n\r\nok",
    );
    let (facts, head) = outcome.head.expect("a head");
    assert_eq!(head, "HTTP/1.1 200 Fine\r\nserver: a\r\nset-cookie: a=b\r\nx-empty: \r\n");
    assert_eq!(facts, FinalHead { status: 200, body_length: 2, content_length: 2 });
    assert!(outcome.keeps_alive);
}

#[test]
fn h_31_bodiless_answers() {
    let length = |text: &str, is_head| {
        let outcome = parse(&[text.as_bytes()], is_head, false);
        let (facts, _) = outcome.head.expect("a head");
        (facts.body_length, facts.content_length, outcome.ended, outcome.keeps_alive)
    };
    let done = Some(true);
    assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", true), (0, 7, done, true));
    assert_eq!(length("HTTP/1.1 304 X\r\nContent-Length: 7\r\n\r\n", false), (0, 7, done, true));
    assert_eq!(length("HTTP/1.1 204 X\r\nContent-Length: 7\r\n\r\n", false), (0, -1, done, true));
    // Bytes that follow anyway make the connection unusable.
    assert_eq!(length("HTTP/1.1 304 X\r\nContent-Length: 2\r\n\r\nok", false), (0, 2, done, false));
}

#[test]
fn what_ends_and_what_stays_open() {
    assert!(
        !whole("HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n").keeps_alive
    );
    assert!(!whole("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").keeps_alive);
    assert!(
        whole("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n").keeps_alive
    );
    // H-32: to the end of the connection, and only then.
    assert_eq!(whole("HTTP/1.1 200 OK\r\n\r\nabc").ended, Some(false));
    assert_eq!(parse(&[b"HTTP/1.1 200 OK\r\n\r\nabc"], false, true).ended, Some(true));
    // T-32: everything else that ends early is not complete.
    for text in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
    ] {
        assert_eq!(parse(&[text.as_bytes()], false, true).ended, Some(false), "{text:?}");
    }
}

#[test]
fn t_30_what_is_refused() {
    let refused = [
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\u{0}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\u{7f}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 12345678901234567\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "SSH-2.0-OpenSSH",
    ];
    for text in refused {
        assert_eq!(whole(text).ended, None, "{text:?}");
    }
}

#[test]
fn t_35_bounds() {
    let interim = "HTTP/1.1 103 X\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(whole(&(interim.repeat(16) + last)).ended, Some(true));
    assert_eq!(whole(&(interim.repeat(17) + last)).ended, None);
    assert_eq!(whole(&format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(129 * 1024))).ended, None);
    let many = "X: a\r\n".repeat(30_000);
    assert_eq!(whole(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")).ended, None);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(whole(&format!("{chunked}1;a={}\r\na\r\n0\r\n\r\n", "b".repeat(300))).ended, None);
    let extensions = format!("1;a={}\r\na\r\n", "b".repeat(200)).repeat(100);
    assert_eq!(whole(&format!("{chunked}{extensions}0\r\n\r\n")).ended, None);
    assert_eq!(whole(&format!("{chunked}0\r\n{many}")).ended, None);
}

#[test]
fn random_changes_and_cuts_never_panic_and_agree() {
    let mut random = Rng::with_seed(0x9e37_79b9_7f4a_7c15);
    let bytes = b"\r\n \t:;=\",0aF\x00\x7f\xff-";
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..20_000 {
        let mut text = bytes_of(ANSWERS[random.usize(..ANSWERS.len())]);
        for _ in 0..random.usize(..4) {
            let at = random.usize(..text.len());
            match random.usize(..3) {
                0 => text[at] = bytes[random.usize(..bytes.len())],
                1 => text.insert(at, bytes[random.usize(..bytes.len())]),
                _ => drop(text.remove(at)),
            }
        }
        let whole = parse(&[&text], false, round % 2 == 0);
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut rest = &text[..];
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(1 + random.usize(..rest.len().min(20)));
            pieces.push(piece);
            rest = others;
        }
        assert_eq!(
            parse(&pieces, false, round % 2 == 0),
            whole,
            "{:?}",
            String::from_utf8_lossy(&text)
        );
        match whole.ended {
            None => refused += 1,
            Some(_) => accepted += 1,
        }
        if let Some((facts, head)) = whole.head {
            // H-124: nothing that a second answer or a second framing could be made of.
            assert!((200..600).contains(&facts.status));
            assert!(head.ends_with("\r\n") && !head.contains("\r\n\r\n"));
            for line in head[..head.len() - 2].split("\r\n").skip(1) {
                let (name, value) = line.split_once(": ").expect("a field");
                assert!(!["content-length", "transfer-encoding", "connection"].contains(&name));
                assert!(!value.contains(['\r', '\n', '\0']), "{line:?}");
            }
        }
    }
    assert!(accepted > 2_000 && refused > 2_000, "{accepted} accepted, {refused} refused");
}
