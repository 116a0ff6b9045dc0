//! Bodies behind heads: lengths, chunks, trailers, limits, whatever the pieces.

use sallyport_http1::{BodyReader, ChunkedDecoder, Framing, Refusal};

/// Data, trailers, bytes that were read, complete.
type Read = Result<(Vec<u8>, Vec<u8>, usize, bool), Refusal>;

fn read(framing: Framing, limit: u64, bytes: &[u8], piece_bytes: usize) -> Read {
    let mut body = BodyReader::new(framing, limit, true);
    let (mut data, mut used) = (Vec::new(), 0);
    for piece in bytes.chunks(piece_bytes.max(1)) {
        if body.is_done() {
            break;
        }
        let mut piece = piece.to_vec();
        let read = body.read(&mut piece)?;
        data.extend_from_slice(&piece[..read.data]);
        used += read.used;
        assert_eq!(read.is_last, body.is_done());
        assert!(read.used == piece.len() || read.is_last, "all is read before the end");
    }
    Ok((data, body.trailers().to_vec(), used, body.is_done()))
}

/// The same for every length of pieces; data may have been given before a refusal.
fn read_chunked(text: &str) -> Read {
    let bytes: Vec<u8> = text.chars().map(|one| one as u32 as u8).collect();
    let whole = read(Framing::Chunked, 0, &bytes, bytes.len());
    for piece_bytes in 1..bytes.len().min(40) {
        assert_eq!(
            read(Framing::Chunked, 0, &bytes, piece_bytes),
            whole,
            "{text:?} by {piece_bytes}"
        );
    }
    whole
}

fn good(text: &str) -> (String, String, usize) {
    let (data, trailers, used, is_done) =
        read_chunked(text).unwrap_or_else(|refusal| panic!("{text:?}: {refusal}"));
    assert!(is_done, "{text:?} is not complete");
    (
        String::from_utf8_lossy(&data).into_owned(),
        String::from_utf8_lossy(&trailers).into_owned(),
        used,
    )
}

#[test]
fn lengths() {
    for piece in 1..8 {
        assert_eq!(
            read(Framing::Length(5), 0, b"helloGET", piece).map(|read| (read.0, read.3)),
            Ok((b"hello".to_vec(), true))
        );
    }
    assert_eq!(read(Framing::Length(5), 0, b"hell", 9).map(|read| read.3), Ok(false));
    assert!(BodyReader::new(Framing::None, 0, false).is_done());
    assert!(BodyReader::new(Framing::Length(0), 0, false).is_done());
}

#[test]
fn h_24_h_25_chunks() {
    assert_eq!(good("5\r\nhello\r\n0\r\n\r\nGET"), ("hello".into(), String::new(), 15));
    assert_eq!(good("A;a;b=c;d=\"e;\\\"f\u{e9}\"\r\n0123456789\r\n000\r\n\r\n").0, "0123456789");
    assert_eq!(good("000000000000000a\r\n0123456789\r\n0;x\r\n\r\n").0, "0123456789");
    for text in [
        "\r\n",
        " 5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "+5\r\n",
        "-1\r\n",
        "g\r\n",
        "5 \r\nhello\r\n",
        "5\t;a\r\n",
        "5;\r\n",
        "5; \r\n",
        "5;a \r\n",
        "5;a b\r\n",
        "5;a=b c\r\n",
        "5;a=b \r\n",
        "5 ;a\r\n",
        "5;a=\r\n",
        "5;a=\"b\r\n",
        "5;a=\"b\"c\r\n",
        "5;=b\r\n",
        "5\n",
        "5\rX",
        "5;a\n",
        "5;a=\"\u{0}\"",
        "00000000000000005\r\n",
        "fffffffffffffffff\r\n",
        "0020000000000000\r\n",
    ] {
        assert_eq!(
            read_chunked(text).map_err(|refusal| (refusal.status, refusal.rule)),
            Err((400, "H-24")),
            "{text:?}"
        );
    }
    for text in ["5\r\nhelloX", "5\r\nhello\n", "5\r\nhello\rX", "5\r\nhello0\r\n\r\n"] {
        assert_eq!(read_chunked(text).map_err(|refusal| refusal.rule), Err("H-25"), "{text:?}");
    }
    assert_eq!(good("5; a ;\tb = c ; d=\"e\" ;f\r\nhello\r\n0\r\n\r\n").0, "hello");
    // The largest size there is.
    assert_eq!(
        read_chunked("001FFFFFFFFFFFFF\r\nabc").map(|read| (read.0, read.3)),
        Ok((b"abc".to_vec(), false))
    );
}

#[test]
fn h_24_extensions_are_bounded() {
    let rule = |text: &str| {
        read(Framing::Chunked, 0, text.as_bytes(), 1 << 20).map_err(|refusal| refusal.rule)
    };
    assert!(rule(&format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(255))).is_ok());
    assert_eq!(rule(&format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(256))), Err("H-24"));
    assert_eq!(rule(&format!("1;{}\r\na\r\n", "e".repeat(199)).repeat(100)), Err("H-24"));
}

#[test]
fn h_26_trailers() {
    let (_, trailers, used) = good(
        "0\r\nX-Sum:  1 \r\nGrpc-Status: 0\r\nContent-Length: 5\r\nHost: a\r\nCookie: b\r\nTransfer-Encoding: chunked\r\n\
         Authorization: c\r\nX_A: d\r\nX-Forwarded-For: e\r\nCache-Control: f\r\nConnection: x-sum\r\n\r\nrest",
    );
    assert_eq!(trailers, "x-sum: 1\r\ngrpc-status: 0\r\n");
    assert!(used > 100);
    let mut dropping = ChunkedDecoder::new();
    dropping.decode(&mut b"0\r\nX-Sum: 1\r\n\r\n".to_vec()).expect("good");
    assert!(dropping.is_done() && dropping.trailers().is_empty());
    for text in [
        "0\r\nbad\r\n",
        "0\r\na b: c\r\n",
        "0\r\n: c\r\n",
        "0\r\n c: d\r\n",
        "0\r\na: b\nc",
        "0\r\na: \u{0}\r\n",
        "0\r\n\n",
        "0\r\n\rX",
    ] {
        assert_eq!(read_chunked(text).map_err(|refusal| refusal.status), Err(400), "{text:?}");
    }
    let status = |text: String| {
        read(Framing::Chunked, 0, text.as_bytes(), 1 << 20)
            .map_err(|refusal| refusal.status)
            .map(|read| read.3)
    };
    assert_eq!(status(format!("0\r\n{}\r\n", "A:\r\n".repeat(200))), Ok(true));
    assert_eq!(status(format!("0\r\n{}\r\n", "A:\r\n".repeat(201))), Err(431));
    assert_eq!(status(format!("0\r\nA: {}", "b".repeat(70_000))), Err(431));
}

#[test]
fn h_36_a_limit_is_crossed_by_data_only() {
    let limited = |limit, text: &str| {
        read(Framing::Chunked, limit, text.as_bytes(), 3)
            .map_err(|refusal| (refusal.status, refusal.rule))
            .map(|read| read.0.len())
    };
    assert_eq!(limited(6, "3;a=b\r\nabc\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"), Ok(6));
    assert_eq!(limited(5, "3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n"), Err((413, "H-36")));
}
