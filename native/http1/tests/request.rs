//! The request head reader: what goes on and in which form, what is refused and why, and that pieces make no difference.

use sallyport_http1::{
    request_line, Framing, Refusal, RequestHead, RequestReader, RequestRules, Upgrade, Version,
    RECEIVED_LINE,
};

/// A complete head: facts, text, connection lines.
type Read = Result<Option<(RequestHead, String, String)>, Refusal>;

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn bytes_of(text: &str) -> Vec<u8> {
    text.chars().map(|one| u8::try_from(u32::from(one)).expect("latin1")).collect()
}

/// Gives the bytes in pieces that end at `ends`; stops at the first decision.
fn read_in_pieces(bytes: &[u8], ends: impl Iterator<Item = usize>, rules: &RequestRules) -> Read {
    let mut reader = RequestReader::new();
    let (mut text, mut lines) = (b"before".to_vec(), Vec::new());
    for end in ends {
        let read = reader.read(&bytes[..end], rules, &mut text, &mut lines);
        match read {
            Ok(None) => assert!(text == b"before" && lines.is_empty(), "nothing is written yet"),
            Ok(Some(head)) => {
                assert!(!reader.has_begun(), "ready for the next request");
                return Ok(Some((head, latin1(&text[6..]), latin1(&lines))));
            }
            Err(refusal) => {
                assert!(text == b"before" && lines.is_empty(), "nothing is left behind");
                return Err(refusal);
            }
        }
    }
    Ok(None)
}

fn read_with(text: &str, rules: &RequestRules) -> Read {
    let bytes = bytes_of(text);
    let whole = read_in_pieces(&bytes, [bytes.len()].into_iter(), rules);
    let single = read_in_pieces(&bytes, 0..=bytes.len(), rules);
    assert_eq!(single, whole, "byte by byte: {text:?}");
    whole
}

fn read(text: &str) -> Read {
    read_with(text, &RequestRules::default())
}

fn good(text: &str) -> (RequestHead, String, String) {
    read(text).unwrap_or_else(|refusal| panic!("{text:?}: {refusal}")).expect("complete")
}

fn refused(text: &str) -> (u16, &'static str) {
    match read(text) {
        Err(refusal) => (refusal.status, refusal.rule),
        other => panic!("{text:?} was not refused: {other:?}"),
    }
}

#[test]
fn the_flat_head_and_the_lines_that_stop_here() {
    let (head, text, lines) = good(
        "POST /a?b=%20\u{e9} HTTP/1.1\r\nHost: gw.test:8080\r\nX-A:  b \t\r\nConnection: X-Hop, keep-alive\r\n\
         Content-Length: 007\r\nx-hop: 1\r\nTE: trailers;q=0.5, Trailers\r\nX_Forwarded_For: 1\r\nA_b: c\r\n\
         Keep-Alive: 5\r\nProxy-Authorization: x\r\nX-Empty:\r\nX-Hop: 2\r\nExpect: 100-Continue\r\n\
         X-A: \u{e4}\r\n\r\nnext",
    );
    assert_eq!(
        text,
        "POST /a?b=%20\u{e9} HTTP/1.1\r\nhost: gw.test:8080\r\nx-a: b\r\na_b: c\r\nx-empty: \r\nx-a: \u{e4}\r\n"
    );
    assert_eq!(
        lines,
        "connection: X-Hop, keep-alive\r\ncontent-length: 007\r\nte: trailers;q=0.5, Trailers\r\nkeep-alive: 5\r\n\
         proxy-authorization: x\r\nexpect: 100-Continue\r\nx-hop: 1\r\nx-hop: 2\r\n"
    );
    let expected = RequestHead {
        consumed: head.consumed,
        version: Version::Http11,
        is_head: false,
        framing: Framing::Length(7),
        keep_alive: true,
        expects_continue: true,
        upgrade: Upgrade::None,
        accepts_trailers: true,
        proxy_fields: true,
        has_host: true,
    };
    assert_eq!(head, expected);
}

#[test]
fn h_01_empty_lines_before_the_request_are_skipped_and_counted() {
    let (head, text, _) = good("\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET");
    assert_eq!((head.consumed, head.is_head), (4 + 17 + 9 + 2, true));
    assert_eq!(text, "HEAD / HTTP/1.1\r\nhost: a\r\n");
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    good(&("\r\n".repeat(8) + request));
    assert_eq!(refused(&("\r\n".repeat(9) + request)), (400, "H-01"));
    let mut reader = RequestReader::new();
    let (mut text, mut lines) = (Vec::new(), Vec::new());
    let rules = RequestRules::default();
    for piece in [&b"\r"[..], b"\r\n", b"\r\n\r"] {
        assert_eq!(reader.read(piece, &rules, &mut text, &mut lines), Ok(None));
        assert!(!reader.has_begun());
    }
    assert_eq!(reader.read(b"\r\nG", &rules, &mut text, &mut lines), Ok(None));
    assert!(reader.has_begun());
}

#[test]
fn h_01_to_h_10_request_lines_that_are_none() {
    let cases = [
        (" GET / HTTP/1.1\r\n", 400, "H-01"),
        ("GET  / HTTP/1.1\r\n", 400, "H-01"),
        ("GET /  HTTP/1.1\r\n", 400, "H-08"),
        ("GET / HTTP/1.1 \r\n", 400, "H-01"),
        ("GET\r\n", 400, "H-01"),
        ("GET /\r\n", 400, "H-08"),
        ("GET / HTTP/0.9\r\n", 400, "H-08"),
        ("GET / HTTP/1.10\r\n", 400, "H-08"),
        ("GET / HTTP/11.1\r\n", 400, "H-08"),
        ("GET / http/1.1\r\n", 400, "H-08"),
        ("GET / HTTP/2.0\r\n", 505, "H-08"),
        ("GET / HTTP/3.1\r\n", 505, "H-08"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "H-08"),
        ("GET / HTTP/1.1\n", 400, "H-02"),
        ("GET /\n", 400, "H-02"),
        ("GET\n", 400, "H-02"),
        ("\nGET / HTTP/1.1\r\n", 400, "H-02"),
        ("\rGET / HTTP/1.1\r\n", 400, "H-03"),
        ("GET / HTTP/1.1\rHost: a\r\r", 400, "H-03"),
        ("GET / HTTP/1.1\r\r\n", 400, "H-03"),
        ("G\u{0}T / HTTP/1.1\r\n", 400, "H-10"),
        ("GET\t/ HTTP/1.1\r\n", 400, "H-10"),
        ("\u{16}\u{3}\u{1}\u{2}", 400, "H-10"),
        ("GET /a\tb HTTP/1.1\r\n", 400, "H-12"),
        ("GET /a\u{7f} HTTP/1.1\r\n", 400, "H-12"),
        ("GET /a\u{0}", 400, "H-12"),
    ];
    for (text, status, rule) in cases {
        assert_eq!(refused(text), (status, rule), "{text:?}");
    }
    let long = "M".repeat(32);
    good(&format!("{long} / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(refused(&format!("{long}M")), (501, "H-10"));
}

#[test]
fn h_08_versions() {
    let version = |text| good(text).0.version;
    assert_eq!(version("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Version::Http11);
    assert_eq!(version("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), Version::Http11);
    assert_eq!(version("GET / HTTP/1.9\r\nHost: a\r\n\r\n"), Version::Http11);
    assert_eq!(version("GET / HTTP/1.0\r\nHost: a\r\n\r\n"), Version::Http10);
    // H-09, H-15, H-53.
    let (head, text, _) = good("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(text, "GET / HTTP/1.1\r\n");
    assert!(!head.has_host && !head.keep_alive);
    assert!(good("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").0.keep_alive);
    assert!(!good("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n").0.keep_alive);
    for proxy in ["Via: 1.0 old", "Proxy-Connection: keep-alive"] {
        let head = |version| {
            format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: keep-alive\r\n{proxy}\r\n\r\n")
        };
        assert!(!good(&head("1.0")).0.keep_alive, "H-53 {proxy}");
        assert!(good(&head("1.1")).0.keep_alive, "{proxy}");
    }
    assert!(!good("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, CLOSE\r\n\r\n").0.keep_alive);
    // What 1.0 does not know: codings are refused (H-22), expectations and upgrades ignored (H-60, H-61).
    assert_eq!(
        refused("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, "H-22")
    );
    let (head, text, _) = good(
        "GET / HTTP/1.0\r\nHost: a\r\nExpect: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nTE: trailers\r\n\r\n",
    );
    assert_eq!(text, "GET / HTTP/1.1\r\nhost: a\r\n");
    assert!(!head.expects_continue && !head.accepts_trailers && head.upgrade == Upgrade::None);
}

#[test]
fn h_02_to_h_06_lines_that_are_none() {
    let cases = [
        ("A: b\n", "H-02"),
        ("A\n", "H-02"),
        ("\n", "H-02"),
        ("A: b\rc", "H-03"),
        ("A: b\r\r\n", "H-03"),
        ("\rA", "H-03"),
        ("A: b\u{0}", "H-03"),
        ("A: b\u{b}", "H-03"),
        ("A: \u{7f}", "H-03"),
        ("A(: b", "H-03"),
        ("\u{e4}: b", "H-03"),
        ("A : b", "H-04"),
        ("A\t: b", "H-04"),
        (": b", "H-04"),
        ("A\r\n", "H-04"),
        ("A b: c", "H-04"),
        (" A: b", "H-05"),
        ("\tA: b", "H-05"),
        (" \r\n", "H-05"),
    ];
    for (line, rule) in cases {
        assert_eq!(
            refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{line}")),
            (400, rule),
            "{line:?}"
        );
    }
    assert_eq!(refused("GET / HTTP/1.1\r\n Host: a"), (400, "H-06"));
}

#[test]
fn h_07_what_may_appear_once() {
    for (name, value, rule) in [
        ("Host", "a", "H-07"),
        ("Content-Type", "a/b", "H-07"),
        ("AUTHORIZATION", "x", "H-07"),
        ("Expect", "100-continue", "H-07"),
        ("Content-Length", "1", "H-23"),
        ("Transfer-Encoding", "chunked", "H-21"),
    ] {
        let host = if name == "Host" { "" } else { "Host: a\r\n" };
        let text = format!(
            "GET / HTTP/1.1\r\n{host}{name}: {value}\r\nX: y\r\n{}: {value}\r\n\r\n",
            name.to_lowercase()
        );
        assert_eq!(refused(&text), (400, rule), "{name}");
    }
}

#[test]
fn h_10_h_11_methods_and_forms_of_targets() {
    let target = |line: &str| good(&format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n")).1;
    assert_eq!(target("get /"), "get / HTTP/1.1\r\nhost: h\r\n");
    assert_eq!(target("OPTIONS *"), "OPTIONS * HTTP/1.1\r\nhost: h\r\n");
    assert_eq!(target("GET http://A.b:8/c?d"), "GET /c?d HTTP/1.1\r\nhost: A.b:8\r\n");
    assert_eq!(target("GET HTTP://a?b"), "GET /?b HTTP/1.1\r\nhost: a\r\n");
    assert_eq!(target("GET http://a"), "GET / HTTP/1.1\r\nhost: a\r\n");
    assert_eq!(target("OPTIONS http://a"), "OPTIONS * HTTP/1.1\r\nhost: a\r\n");
    assert_eq!(target("OPTIONS http://a/"), "OPTIONS / HTTP/1.1\r\nhost: a\r\n");
    assert_eq!(
        target("GET //b/\"<>^`{|}?\\\u{80}\u{ff}?"),
        "GET //b/\"<>^`{|}?\\\u{80}\u{ff}? HTTP/1.1\r\nhost: h\r\n"
    );
    let refusal = |line: &str| refused(&format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"));
    for (line, status, rule) in [
        ("CONNECT h:80", 501, "H-10"),
        ("CONNECT /", 501, "H-10"),
        ("TRACE /", 405, "H-10"),
        ("TRACK /", 405, "H-10"),
        ("GET *", 400, "H-11"),
        ("GET h:80", 400, "H-11"),
        ("GET a/b", 400, "H-11"),
        ("GET ?a", 400, "H-11"),
        ("GET https://h/", 400, "H-11"),
        ("GET ftp://h/", 400, "H-11"),
        ("GET http://u@h/", 400, "H-11"),
        ("GET http:///a", 400, "H-11"),
        ("GET http://h:/a", 400, "H-11"),
        ("GET http://h/a#b", 400, "H-12"),
        ("GET http://h#b", 400, "H-12"),
        ("GET /a#b", 400, "H-12"),
        ("GET /?a#b", 400, "H-12"),
        ("GET /a\\b", 400, "H-12"),
        ("GET /\u{80}", 400, "H-12"),
    ] {
        assert_eq!(refusal(line), (status, rule), "{line}");
    }
    let https = RequestRules { is_https: true, ..RequestRules::default() };
    let text = "GET https://a/ HTTP/1.0\r\n\r\n";
    let (head, text, _) = read_with(text, &https).expect("good").expect("complete");
    assert_eq!(text, "GET / HTTP/1.1\r\nhost: a\r\n");
    assert!(head.has_host);
}

#[test]
fn h_13_h_14_limits_are_exact_to_the_byte() {
    let rules =
        RequestRules { uri_bytes: 10, head_bytes: 40, fields: 3, ..RequestRules::default() };
    let status = |text: &str| match read_with(text, &rules) {
        Ok(Some(_)) => 200,
        Ok(None) => 0,
        Err(refusal) => refusal.status,
    };
    let target =
        |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "b".repeat(bytes - 1));
    assert_eq!(status(&target(10)), 200);
    assert_eq!(status(&target(11)), 414);
    assert_eq!(status("GET /bbbbbbbbbb"), 414);
    // `Host: a` is 9 bytes with its line end, `X: ` 3, the next line end 2.
    let section = |bytes: usize| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "b".repeat(bytes - 14))
    };
    assert_eq!(status(&section(40)), 200);
    assert_eq!(status(&section(41)), 431);
    assert_eq!(status(&section(42)), 431);
    assert_eq!(status(&section(43)), 431);
    assert_eq!(status(&format!("GET / HTTP/1.1\r\n{}", "n".repeat(41))), 431);
    assert_eq!(status(&format!("GET / HTTP/1.1\r\n{}", "n".repeat(40))), 0);
    let many =
        |lines: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A:\r\n".repeat(lines - 1));
    assert_eq!(status(&many(3)), 200);
    assert_eq!(status(&many(4)), 431);
    // One line over 32 KiB.
    let line = |bytes: usize| {
        let bytes =
            bytes_of(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "b".repeat(bytes - 5)));
        read_in_pieces(&bytes, [bytes.len()].into_iter(), &RequestRules::default())
            .map_err(|refusal| refusal.status)
            .map(|head| head.is_some())
    };
    assert_eq!(line(32 * 1024), Ok(true));
    assert_eq!(line(32 * 1024 + 1), Err(431));
}

#[test]
fn h_15_hosts() {
    for host in
        ["a", "A.b-c_d.", "a:0", "a:65535", "[::1]", "[::ffff:1.2.3.4]:80", "1.2.3.4", "_a", "a..b"]
    {
        good(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    for host in [
        "",
        "a:",
        "a:65536",
        "a:123456",
        "a:-1",
        "a:b",
        "u@a",
        "a/b",
        "a,b",
        "a b",
        "-a",
        ".a",
        "[::1",
        "::1",
        "[]",
        "[:]",
        "[g::]",
        "[::1]a",
        "a%00b",
        "\u{e9}.test",
        "a#b",
        "a\\b",
    ] {
        assert_eq!(
            refused(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")),
            (400, "H-15"),
            "{host}"
        );
    }
    assert_eq!(refused("GET / HTTP/1.1\r\nA: b\r\n\r\n"), (400, "H-15"));
}

#[test]
fn h_18_underscore_spellings_of_what_we_trust_are_dropped() {
    let (_, text, lines) = good(
        "GET / HTTP/1.1\r\nHost: a\r\nX_Real_IP: 1\r\nx-forwarded_for: 1\r\nTransfer_Encoding: chunked\r\n\
         Content_Length: 5\r\nProxy_A: 1\r\nSallyport_x: 1\r\nX_Other: kept\r\n\r\n",
    );
    assert_eq!((&text[..], &lines[..]), ("GET / HTTP/1.1\r\nhost: a\r\nx_other: kept\r\n", ""));
}

#[test]
fn h_20_to_h_23_framing() {
    let framing = |lines: &str| match read(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")) {
        Ok(Some((head, ..))) => Ok(head.framing),
        Ok(None) => panic!("incomplete"),
        Err(refusal) => Err((refusal.status, refusal.rule)),
    };
    assert_eq!(framing(""), Ok(Framing::None));
    assert_eq!(framing("Content-Length: 0\r\n"), Ok(Framing::Length(0)));
    assert_eq!(framing("Content-Length: \t 12 \r\n"), Ok(Framing::Length(12)));
    assert_eq!(framing("Content-Length: 0000000000000009\r\n"), Ok(Framing::Length(9)));
    assert_eq!(framing("Content-Length: 9007199254740991\r\n"), Ok(Framing::Length((1 << 53) - 1)));
    assert_eq!(framing("tRANSFER-eNCODING: cHUNKED\r\n"), Ok(Framing::Chunked));
    for length in [
        "",
        "+1",
        "-1",
        "1,1",
        "1 1",
        "0x1",
        "1.0",
        "12345678901234567",
        "\u{a0}1",
        "9007199254740992",
    ] {
        assert_eq!(
            framing(&format!("Content-Length: {length}\r\n")),
            Err((400, "H-23")),
            "{length}"
        );
    }
    assert_eq!(framing("Content-Length: 1\r\nContent-Length: 1\r\n"), Err((400, "H-23")));
    assert_eq!(framing("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), Err((400, "H-20")));
    for coding in ["gzip, chunked", "a,b , Chunked"] {
        assert_eq!(
            framing(&format!("Transfer-Encoding: {coding}\r\n")),
            Err((501, "H-21")),
            "{coding}"
        );
    }
    for coding in [
        "",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "chunked, gzip",
        "gzip, chunked, chunked",
        "xchunked",
        "\"chunked\"",
        "chunked;a=b",
        "gzip",
        "identity",
        "chunked\u{85}",
        "chunked gzip",
    ] {
        assert_eq!(
            framing(&format!("Transfer-Encoding: {coding}\r\n")),
            Err((400, "H-21")),
            "{coding}"
        );
    }
    let limited = RequestRules { body_bytes: 10, ..RequestRules::default() };
    let status = |length| {
        read_with(
            &format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"),
            &limited,
        )
        .map_err(|refusal| (refusal.status, refusal.rule))
        .map(|head| head.is_some())
    };
    assert_eq!((status(10), status(11)), (Ok(true), Err((413, "H-36"))));
}

#[test]
fn h_50_h_52_connection() {
    let request = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    for value in ["", ",,,", "keep-alive", "close, X-Absent", "Te, Upgrade"] {
        good(&request(&format!("Connection: {value}\r\n")));
    }
    for name in
        ["Host", "content-LENGTH", "Cookie", "Authorization", "X-Forwarded-Whatever", "traceparent"]
    {
        assert_eq!(refused(&request(&format!("Connection: {name}\r\n"))), (400, "H-52"), "{name}");
    }
    for value in ["a b", "\"a\"", "a;b", "(x)", "caf\u{e9}"] {
        assert_eq!(
            refused(&request(&format!("Connection: {value}\r\n"))),
            (400, "H-50"),
            "{value}"
        );
    }
    let (head, text, lines) = good(&request(
        "A: 1\r\nConnection: a\r\nB: 2\r\nConnection: Close, C\r\nc: 3\r\nAb: 4\r\n",
    ));
    assert_eq!(text, "GET / HTTP/1.1\r\nhost: a\r\nb: 2\r\nab: 4\r\n");
    assert_eq!(lines, "connection: a\r\nconnection: Close, C\r\na: 1\r\nc: 3\r\n");
    assert!(!head.keep_alive);
}

#[test]
fn h_60_h_90_upgrades() {
    let request = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let handshake = |lines: &str| {
        request(&format!("Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n{lines}"))
    };
    let (head, text, lines) = good(&handshake(&format!(
        "{KEY}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: c\r\nTE: x\r\n"
    )));
    assert_eq!(head.upgrade, Upgrade::WebSocket);
    assert_eq!(
        text,
        "GET / HTTP/1.1\r\nhost: a\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
         sec-websocket-protocol: a, b\r\nsec-websocket-protocol: c\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    );
    assert_eq!(lines, "te: x\r\n");
    let version = "Sec-WebSocket-Version: 13\r\n";
    assert_eq!(refused(&handshake(KEY)), (426, "H-90"));
    assert_eq!(refused(&handshake(&format!("{KEY}Sec-WebSocket-Version: 8\r\n"))), (426, "H-90"));
    for lines in [
        version.to_owned(),
        format!("{version}{KEY}{KEY}"),
        format!("{version}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n"),
        format!("{version}Sec-WebSocket-Key: short\r\n"),
        format!("{version}{KEY}Sec-WebSocket-Protocol: a, a\r\n"),
        format!("{version}{KEY}Sec-WebSocket-Protocol: a, ,b\r\n"),
        format!("{version}{KEY}Content-Length: 0\r\n"),
    ] {
        assert_eq!(refused(&handshake(&lines)), (400, "H-90"), "{lines}");
    }
    // Asked for without `Connection`, or for HTTP/2: an ordinary request.
    for lines in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
    ] {
        let (head, text, _) = good(&request(lines));
        assert_eq!((head.upgrade, &text[..]), (Upgrade::None, "GET / HTTP/1.1\r\nhost: a\r\n"));
    }
    let other = request("Connection: upgrade\r\nUpgrade: irc/2\r\n");
    assert_eq!(refused(&other), (501, "H-60"));
    let rules = RequestRules { other_upgrades: true, ..RequestRules::default() };
    let (head, text, _) = read_with(&other, &rules).expect("good").expect("complete");
    assert_eq!(head.upgrade, Upgrade::Other);
    assert_eq!(text, "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: irc/2\r\n");
    for lines in [
        "Upgrade: a, b\r\n",
        "Upgrade: a\r\nUpgrade: b\r\n",
        "Upgrade: HTTP/3\r\n",
        "Upgrade: a\r\nContent-Length: 1\r\n",
    ] {
        let text = request(&format!("Connection: upgrade\r\n{lines}"));
        assert_eq!(
            read_with(&text, &rules).map_err(|refusal| refusal.rule),
            Err("H-60"),
            "{lines}"
        );
    }
}

#[test]
fn h_61_expectations() {
    let request = |value: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: {value}\r\n\r\n")
    };
    assert!(good(&request("100-CONTINUE")).0.expects_continue);
    for value in ["", "100-continue, x", "200-ok", "100"] {
        assert_eq!(refused(&request(value)), (417, "H-61"), "{value}");
    }
}

#[test]
fn t_28_framing_is_judged_before_everything_else() {
    let text = "TRACE bad HTTP/1.1\r\nConnection: host\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(text), (400, "H-20"));
    assert_eq!(refused("TRACE bad HTTP/1.1\r\nA: b\r\n\r\n"), (405, "H-10"));
    assert_eq!(refused("GET bad HTTP/1.1\r\nConnection: host\r\n\r\n"), (400, "H-11"));
}

#[test]
fn t_21_a_long_connection_list_is_cheap() {
    // Half of it names fields, half of it is fields: a few milliseconds, where every pair would be seconds.
    let names: Vec<String> = (0..190).map(|number| format!("n{number}")).collect();
    let mut text = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n", "a,".repeat(10_000));
    for name in &names {
        text += &format!("{name}: {}\r\n", "v".repeat(100));
    }
    let (_, head, _) = {
        let bytes = bytes_of(&(text + "\r\n"));
        read_in_pieces(&bytes, [bytes.len()].into_iter(), &RequestRules::default())
            .expect("good")
            .expect("complete")
    };
    assert_eq!(head.lines().count(), 192);
}

#[test]
fn the_log_sees_a_bounded_request_line() {
    assert_eq!(request_line(b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n"), b"GET /a");
    assert_eq!(request_line(b"GET /a HTTP/2.0\r\n"), b"GET /a HTTP/2.0");
    assert_eq!(request_line(b"\x16\x03"), b"\x16\x03");
    assert_eq!(request_line(&[b'a'; 1000]).len(), 256);
    assert_eq!(request_line(b""), b"");
}

#[test]
fn the_request_line_as_it_was_sent_is_kept_for_the_rule_matcher() {
    let mark = String::from_utf8(RECEIVED_LINE.to_vec()).unwrap();
    let lines_of = |line: &str| good(&format!("{line}\r\nHost: a\r\nConnection: close\r\n\r\n")).2;
    assert_eq!(lines_of("GET /a HTTP/1.1"), "connection: close\r\n");
    assert_eq!(
        lines_of("GET http://a?b HTTP/1.1"),
        format!("{mark}GET http://a?b HTTP/1.1\r\nconnection: close\r\n")
    );
    assert_eq!(
        lines_of("GET /a HTTP/1.0"),
        format!("{mark}GET /a HTTP/1.0\r\nconnection: close\r\n")
    );
    assert_eq!(refused("GET http:// HTTP/1.1\r\nHost: a\r\n\r\n").0, 400);
}
