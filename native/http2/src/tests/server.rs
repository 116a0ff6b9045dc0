//! Requests and answers over raw frames: what is taken (H-101), what never is (H-100), and that one bad stream leaves
//! the others alone (H-105).

use std::time::Duration;

use super::*;

#[test]
fn h_101_a_request_becomes_a_flat_head() {
    let mut client = Client::new();
    client.headers(
        1,
        ENDS,
        &with(
            &[
                (":method", "GET"),
                (":path", "/a%20b?x=1&<y>"),
                (":authority", "Shop.example:8080"),
                (":scheme", "http"),
            ],
            &[
                ("cookie", "a=1"),
                ("x-two", "1"),
                ("x-two", "2"),
                ("cookie", "b=2"),
                ("te", "trailers"),
                ("host", "shop.EXAMPLE:8080"),
                ("empty", ""),
            ],
        ),
    );
    let [ServerEvent::Request(1, head)] = client.events.as_slice() else {
        panic!("{:?}", client.events)
    };
    assert_eq!(
        String::from_utf8_lossy(&head.head),
        "GET /a%20b?x=1&<y> HTTP/1.1\r\nhost: Shop.example:8080\r\nx-two: 1\r\nx-two: 2\r\nempty: \r\ncookie: a=1; b=2\r\n"
    );
    assert_eq!(head.connection_lines, b"te: trailers\r\n");
    assert!(head.accepts_trailers && head.proxy_fields && !head.is_head);
    assert_eq!(head.body_length, 0);
}

#[test]
fn a_body_and_its_trailers_arrive_and_an_answer_with_trailers_leaves() {
    let mut client = Client::new();
    client.headers(1, 4, &with(&POST, &[("content-length", "7")]));
    client.data(1, 0, b"1234");
    client.data(1, 0, b"567");
    client.headers(1, ENDS, &[("grpc-status", "0"), ("content-length", "9"), ("x-sum", "z")]);
    assert_eq!(
        client.told(),
        [
            "1 request POST / HTTP/1.1|host: a.test| 7",
            "1 data 4",
            "1 data 3",
            "1 end grpc-status: 0|x-sum: z|"
        ]
    );
    client.server.inform(1, 103, b"link: </a>\r\n");
    client.server.respond(
        1,
        200,
        b"content-type: application/grpc\r\nconnection: x\r\n",
        None,
        false,
    );
    assert!(client.server.write(1, b"abc"));
    client.server.end(1, b"grpc-status: 0\r\n");
    client.pump();
    assert_eq!(
        client.seen(),
        [
            "1 headers :status=103 link=</a>",
            "1 headers :status=200 content-type=application/grpc",
            "1 data 3",
            "1 headers grpc-status=0 end"
        ]
    );
    assert_eq!(client.told(), ["1 done"]);
    assert_eq!(client.server.streams(), 0);
    client.still_works(3);
}

#[test]
fn any_cutting_of_the_bytes_gives_the_same() {
    for cut in [1, 2, 3, 7, 8, 9, 10, 100] {
        let mut client = Client::silent(OPTIONS);
        client.cut = cut;
        client.send(frame::PREFACE);
        client.send(&frame(frame::SETTINGS, 0, 0, &[]));
        let head = block(&with(&POST, &[("x-a", "b")]));
        let (first, rest) = head.split_at(20);
        // Padding, priority, and three frames.
        let mut payload = vec![3, 0, 0, 0, 0, 7];
        payload.extend_from_slice(first);
        payload.extend_from_slice(&[0; 3]);
        client.send(&frame(frame::HEADERS, 8 | 32, 1, &payload));
        client.send(&frame(frame::CONTINUATION, 0, 1, &rest[..5]));
        client.send(&frame(frame::CONTINUATION, 4, 1, &rest[5..]));
        client.send(&frame(frame::DATA, 8 | 1, 1, &[2, b'x', b'y', b'z', 0, 0]));
        assert_eq!(
            client.told(),
            ["1 request POST / HTTP/1.1|host: a.test|x-a: b| -1", "1 data 3", "1 end "],
            "{cut}"
        );
    }
}

/// Each is answered by a reset of its stream, told for the log, and leaves the connection as it was.
#[test]
fn h_100_malformed_requests_are_reset_and_the_connection_goes_on() {
    let cases: Vec<(&str, Fields)> = vec![
        ("an upper-case name", with(&GET, &[("X-Upper", "1")])),
        ("a space in a name", with(&GET, &[("x upper", "1")])),
        ("a colon in a name", with(&GET, &[("x:y", "1")])),
        ("an empty name", with(&GET, &[("", "1")])),
        ("CR LF in a value", with(&GET, &[("x", "1\r\ny: 2")])),
        ("LF in a value", with(&GET, &[("x", "1\n")])),
        ("CR in a value", with(&GET, &[("x", "a\rb")])),
        ("NUL in a value", with(&GET, &[("x", "a\0b")])),
        ("a leading space", with(&GET, &[("x", " a")])),
        ("a trailing tab", with(&GET, &[("x", "a\t")])),
        ("connection", with(&GET, &[("connection", "keep-alive")])),
        ("proxy-connection", with(&GET, &[("proxy-connection", "close")])),
        ("keep-alive", with(&GET, &[("keep-alive", "timeout=5")])),
        ("transfer-encoding", with(&GET, &[("transfer-encoding", "chunked")])),
        ("upgrade", with(&GET, &[("upgrade", "websocket")])),
        ("te: gzip", with(&GET, &[("te", "gzip")])),
        ("te: trailers, gzip", with(&GET, &[("te", "trailers, gzip")])),
        ("no method", GET[1..].to_vec()),
        ("no scheme", vec![GET[0], GET[2], GET[3]]),
        ("no path", vec![GET[0], GET[1], GET[3]]),
        ("an empty path", vec![GET[0], GET[1], (":path", ""), GET[3]]),
        ("two methods", with(&[GET[0]], &GET)),
        ("two paths", with(&[GET[2]], &GET)),
        ("two schemes", with(&[GET[1]], &GET)),
        ("two authorities", with(&[GET[3]], &GET)),
        ("a pseudo-field at the end", with(&with(&GET[..3], &[("x", "y")]), &GET[3..])),
        ("an unknown pseudo-field", with(&GET, &[(":unknown", "x")])),
        (":status", with(&GET, &[(":status", "200")])),
        (":protocol, which is off", with(&GET, &[(":protocol", "websocket")])),
        ("CR LF in the path", vec![GET[0], GET[1], (":path", "/\r\nx: y"), GET[3]]),
        (
            "CR LF in the method",
            vec![(":method", "GET / HTTP/1.1\r\nx: y"), GET[1], GET[2], GET[3]],
        ),
        ("CR LF in the authority", vec![GET[0], GET[1], GET[2], (":authority", "a\r\nx: y")]),
        ("a length that is none", with(&GET, &[("content-length", "1x")])),
        ("a signed length", with(&GET, &[("content-length", "+0")])),
        ("two lengths", with(&GET, &[("content-length", "0"), ("content-length", "0")])),
        ("a length and no body", with(&GET, &[("content-length", "3")])),
        ("CONNECT with a path", vec![(":method", "CONNECT"), GET[1], GET[2], GET[3]]),
        ("CONNECT without authority", vec![(":method", "CONNECT")]),
    ];
    for (what, fields) in cases {
        let mut client = Client::new();
        client.headers(1, 4, &POST);
        client.told();
        client.headers(3, ENDS, &fields);
        assert_eq!(client.seen(), ["3 reset 1"], "{what}");
        assert_eq!(client.told(), ["3 refused 400 H-100 reset"], "{what}");
        // The other stream is as it was (H-105), and so is the table.
        client.data(1, 1, b"abc");
        assert_eq!(client.told(), ["1 data 3", "1 end "], "{what}");
        client.still_works(5);
    }
}

#[test]
fn h_100_a_stream_that_depends_on_itself_is_malformed() {
    let mut client = Client::new();
    let mut payload = vec![0, 0, 0, 1, 7];
    payload.extend_from_slice(&block(&GET));
    client.send(&frame(frame::HEADERS, ENDS | 32, 1, &payload));
    assert_eq!(client.seen(), ["1 reset 1"]);
    client.still_works(3);
}

#[test]
fn h_100_a_length_that_disagrees_with_the_body_resets_the_stream() {
    for (length, data) in [("5", &b"abc"[..]), ("2", b"abc")] {
        let mut client = Client::new();
        client.headers(1, 4, &with(&POST, &[("content-length", length)]));
        client.data(1, 1, data);
        assert_eq!(client.seen(), ["1 reset 1"], "{length}");
        let told = client.told();
        assert_eq!(told.last().map(String::as_str), Some("1 reset 1"), "{told:?}");
        assert!(!told.iter().any(|text| text.starts_with("1 end")), "{told:?}");
        client.still_works(3);
    }
    // And in the trailers' place.
    let mut client = Client::new();
    client.headers(1, 4, &with(&POST, &[("content-length", "5")]));
    client.headers(1, ENDS, &[("x", "y")]);
    assert_eq!(client.seen(), ["1 reset 1"]);
}

#[test]
fn h_100_malformed_trailers_reset_the_stream() {
    for fields in [
        [("X-Upper", "1")],
        [(":path", "/")],
        [("x", "a\r\nb")],
        [("transfer-encoding", "chunked")],
        [("x", " a")],
    ] {
        let mut client = Client::new();
        client.headers(1, 4, &POST);
        client.headers(1, ENDS, &fields);
        assert_eq!(client.seen(), ["1 reset 1"], "{fields:?}");
        assert_eq!(client.told().last().map(String::as_str), Some("1 reset 1"));
        client.still_works(3);
    }
    // All of it before the connection was looked at for the first time.
    let mut client = Client::silent(OPTIONS);
    let mut bytes = frame::PREFACE.to_vec();
    bytes.extend(frame(frame::SETTINGS, 0, 0, &[]));
    bytes.extend(frame(frame::HEADERS, 4, 1, &block(&POST)));
    bytes.extend(frame(frame::DATA, 0, 1, b"abc"));
    bytes.extend(frame(frame::HEADERS, ENDS, 1, &block(&[("X-Upper", "1")])));
    client.send(&bytes);
    assert_eq!(client.seen(), ["1 reset 1"]);
    assert_eq!(client.server.streams(), 0);
    let mut client = Client::new();
    client.headers(1, 4, &POST);
    client.headers(1, 4, &[("x", "trailers that do not end")]);
    assert_eq!(client.seen(), ["1 reset 1"]);
    client.still_works(3);
}

/// Requests that HTTP/1.1 would be refused for, with the same statuses; whoever drives the connection answers them.
#[test]
fn h_101_bad_requests_wait_for_an_answer() {
    let long = format!("/{}", "a".repeat(16 * 1024));
    let huge = "a".repeat(33 * 1024);
    let path = |path| vec![GET[0], GET[1], (":path", path), GET[3]];
    let host = |host| vec![GET[0], GET[1], GET[2], (":authority", host)];
    let method = |method| vec![(":method", method), GET[1], GET[2], GET[3]];
    let many: Vec<(&str, &str)> = with(&GET, &[("x", "y"); 201]);
    let total: Vec<(&str, &str)> = with(&GET, &[("x", &huge[..20_000]); 4]);
    let cases: Vec<(&str, Fields, &str)> = vec![
        ("a long target", path(&long), "414 H-13"),
        ("a target beyond every limit", path(&huge), "414 H-13"),
        ("a fragment", path("/a#b"), "400 H-12"),
        ("a backslash", path("/a\\b"), "400 H-12"),
        ("a space", path("/a b"), "400 H-12"),
        ("bytes beyond ASCII in the path", path("/\u{e4}"), "400 H-12"),
        ("no slash", path("a"), "400 H-11"),
        ("an absolute target", path("http://a.test/"), "400 H-11"),
        ("* of GET", path("*"), "400 H-11"),
        ("user information", host("u@a.test"), "400 H-15"),
        ("a port beyond 65535", host("a.test:65536"), "400 H-15"),
        ("an empty authority", host(""), "400 H-15"),
        ("a comma in the host", host("a.test,b.test"), "400 H-15"),
        ("neither authority nor host", GET[..3].to_vec(), "400 H-15"),
        ("another host", with(&GET, &[("host", "b.test")]), "400 H-101"),
        ("two hosts", with(&GET[..3], &[("host", "a"), ("host", "a")]), "400 H-07"),
        ("two authorizations", with(&GET, &[("authorization", "a"); 2]), "400 H-07"),
        ("another scheme", vec![GET[0], (":scheme", "ftp"), GET[2], GET[3]], "400 H-11"),
        ("a method that is no token", method("G(T"), "400 H-10"),
        ("a long method", method("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG"), "501 H-10"),
        ("TRACE", method("TRACE"), "405 H-10"),
        ("CONNECT", vec![(":method", "CONNECT"), GET[3]], "501 H-10"),
        ("an expectation", with(&GET, &[("expect", "200-ok")]), "417 H-61"),
        ("a control byte", with(&GET, &[("x", "a\u{1}b")]), "400 H-03"),
        ("DEL", with(&GET, &[("x", "a\u{7f}b")]), "400 H-03"),
        ("201 fields", many, "431 H-14"),
        ("one huge field", with(&GET, &[("x", &huge)]), "431 H-14"),
        ("large fields", total, "431 H-14"),
    ];
    for (what, fields, expected) in cases {
        let mut client = Client::new();
        let head = block(&fields);
        let pieces: Vec<&[u8]> = head.chunks(16_384).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let kind = if at == 0 { frame::HEADERS } else { frame::CONTINUATION };
            let last = if at + 1 == pieces.len() { 4 } else { 0 };
            client.send(&frame(kind, last | u8::from(at == 0), 1, piece));
        }
        assert_eq!(client.told(), [format!("1 refused {expected}")], "{what}");
        assert_eq!(client.seen(), [""; 0], "{what}");
        client.server.respond(1, 400, b"", Some(0), true);
        client.pump();
        assert_eq!(client.seen(), ["1 headers :status=400 content-length=0 end"], "{what}");
        client.still_works(3);
    }
}

#[test]
fn h_18_underscore_spellings_of_trusted_fields_are_dropped() {
    let mut client = Client::new();
    client.headers(1, ENDS, &with(&GET, &[("x_forwarded_for", "1"), ("my_own", "2")]));
    assert_eq!(client.told(), ["1 request GET / HTTP/1.1|host: a.test|my_own: 2| 0"]);
}

#[test]
fn options_of_everything_and_head_are_taken() {
    let mut client = Client::new();
    client.headers(1, ENDS, &[(":method", "OPTIONS"), GET[1], (":path", "*"), GET[3]]);
    client.headers(3, ENDS, &[(":method", "HEAD"), GET[1], GET[2], ("host", "b.test")]);
    assert_eq!(
        client.told(),
        [
            "1 request OPTIONS * HTTP/1.1|host: a.test| 0",
            "3 request HEAD / HTTP/1.1|host: b.test| 0"
        ]
    );
}

#[test]
fn h_36_an_announced_body_beyond_the_limit_is_refused_and_not_told() {
    let options = ServerOptions { request: RequestLimits { body_bytes: 10, ..LIMITS }, ..OPTIONS };
    let mut client = Client::with(options);
    client.headers(1, 4, &with(&POST, &[("content-length", "11")]));
    client.data(1, 0, b"12345");
    assert_eq!(client.told(), ["1 refused 413 H-36"]);
    client.server.respond(1, 413, b"", Some(0), true);
    client.pump();
    // What is left is not wanted (RFC 9113 §8.1).
    assert_eq!(client.seen(), ["1 headers :status=413 content-length=0 end", "1 reset 0"]);
    client.still_works(3);
}

#[test]
fn h_94_extended_connect_is_taken_where_it_is_on() {
    let options =
        ServerOptions { request: RequestLimits { extended_connect: true, ..LIMITS }, ..OPTIONS };
    let mut client = Client::with(options);
    let connect = with(&[(":method", "CONNECT"), (":protocol", "websocket")], &GET[1..]);
    client.headers(1, 4, &with(&connect, &[("sec-websocket-version", "13")]));
    let [ServerEvent::Request(1, head)] = client.events.as_slice() else {
        panic!("{:?}", client.events)
    };
    assert_eq!(
        String::from_utf8_lossy(&head.head),
        "GET / HTTP/1.1\r\nhost: a.test\r\nsec-websocket-version: 13\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    );
    assert!(head.is_web_socket);
    client.told();
    client.server.respond(1, 200, b"", None, false);
    client.data(1, 0, b"up");
    assert!(client.server.write(1, b"down"));
    client.pump();
    assert_eq!(client.told(), ["1 data 2"]);
    assert_eq!(client.seen(), ["1 headers :status=200", "1 data 4"]);
    // Without the method, or without a path, it is malformed.
    client.headers(3, ENDS, &with(&GET, &[(":protocol", "websocket")]));
    client.headers(5, ENDS, &with(&connect[..2], &GET[3..]));
    assert_eq!(client.seen(), ["3 reset 1", "5 reset 1"]);
}

#[test]
fn h_94_what_is_no_web_socket_is_answered() {
    let options =
        ServerOptions { request: RequestLimits { extended_connect: true, ..LIMITS }, ..OPTIONS };
    let mut client = Client::with(options);
    let connect = |protocol, fields: &[(&'static str, &'static str)]| {
        let mut all = vec![(":method", "CONNECT"), (":protocol", protocol)];
        all.extend_from_slice(&GET[1..]);
        all.extend_from_slice(fields);
        all
    };
    const VERSION: (&str, &str) = ("sec-websocket-version", "13");
    client.headers(1, 4, &connect("connect-udp", &[VERSION]));
    client.headers(3, ENDS, &connect("websocket", &[VERSION]));
    client.headers(5, 4, &connect("websocket", &[VERSION, ("content-length", "2")]));
    client.headers(7, 4, &connect("websocket", &[("sec-websocket-version", "8")]));
    client.headers(9, 4, &connect("websocket", &[]));
    client.headers(11, 4, &connect("websocket", &[VERSION, ("sec-websocket-protocol", "a, a")]));
    let refusals: Vec<_> = client
        .events
        .iter()
        .map(|event| match event {
            ServerEvent::Refused(stream, one) => (*stream, one.status, one.rule, one.is_malformed),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        refusals,
        [
            (1, 501, "H-94", false),
            (3, 400, "H-90", false),
            (5, 400, "H-90", false),
            (7, 426, "H-90", false),
            (9, 426, "H-90", false),
            (11, 400, "H-90", false),
        ]
    );
}

#[test]
fn h_94_it_is_announced_where_it_is_on_only() {
    for (extended_connect, wanted) in [(true, Some(1)), (false, None)] {
        let request = RequestLimits { extended_connect, ..LIMITS };
        let mut connection =
            ServerConnection::new(ServerOptions { request, ..OPTIONS }, std::time::Instant::now());
        let mut sent = Vec::new();
        connection.receive(crate::frame::PREFACE, std::time::Instant::now());
        connection.receive(&[0, 0, 0, 4, 0, 0, 0, 0, 0], std::time::Instant::now());
        while connection.next_event().is_some() {}
        connection.transmit(|bytes| {
            sent.extend_from_slice(bytes);
            bytes.len()
        });
        let length = usize::from(sent[2]);
        let value = sent[9..9 + length]
            .chunks(6)
            .find(|one| one[..2] == [0, 8])
            .map(|one| u32::from_be_bytes([one[2], one[3], one[4], one[5]]));
        assert_eq!(value, wanted);
    }
    // Where it is off it is malformed, and its stream is reset.
    let mut client = Client::new();
    let connect = [(":method", "CONNECT"), (":protocol", "websocket")];
    client.headers(1, 4, &with(&connect, &GET[1..]));
    assert_eq!(client.seen(), ["1 reset 1"]);
}

#[test]
fn h_83_a_tunnel_may_stand_still() {
    let options =
        ServerOptions { request: RequestLimits { extended_connect: true, ..LIMITS }, ..OPTIONS };
    let mut client = Client::with(options);
    let connect = [(":method", "CONNECT"), (":protocol", "websocket")];
    client.headers(1, 4, &with(&with(&connect, &GET[1..]), &[("sec-websocket-version", "13")]));
    client.server.respond(1, 200, b"", None, false);
    client.server.become_tunnel(1);
    client.server.write(1, &[0; 200_000]);
    client.pump();
    client.server.tick(std::time::Instant::now() + Duration::from_secs(1_000));
    client.pump();
    assert_eq!(client.server.streams(), 1);
}

#[test]
fn h_38_a_paused_stream_closes_its_window_and_no_other() {
    let mut client = Client::new();
    client.headers(1, 4, &POST);
    client.server.pause(1);
    for _ in 0..4 {
        client.data(1, 0, &[b'x'; 16_384]);
    }
    assert_eq!(client.told(), ["1 request POST / HTTP/1.1|host: a.test| -1"]);
    assert!(!client.frames.iter().any(|text| text == "1 window"));
    // One byte more than the window: an error of that stream or of the connection, by h2.
    let mut other = Client::new();
    other.headers(1, 4, &POST);
    other.server.pause(1);
    for _ in 0..4 {
        other.data(1, 0, &[b'x'; 16_384]);
    }
    other.data(1, 0, b"x");
    assert_eq!(other.seen(), ["1 reset 3"]);
    // Read again, and the window opens.
    client.server.resume(1);
    client.pump();
    let told = client.told();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(client.frames.iter().any(|text| text == "1 window"));
    client.data(1, 1, b"last");
    assert_eq!(client.told(), ["1 data 4", "1 end "]);
    client.still_works(3);
}

#[test]
fn h_38_an_answer_waits_for_the_clients_windows() {
    let mut client = Client::new();
    client.get(1);
    client.server.respond(1, 200, b"", None, false);
    let piece = vec![b'x'; 64 * 1024];
    let mut pieces = 0;
    while client.server.write(1, &piece) {
        pieces += 1;
        client.pump();
        assert!(pieces < 20, "no bound");
    }
    client.pump();
    // The default window is one byte short of the first piece.
    assert_eq!(client.body.len(), 65_535);
    assert!((4..=6).contains(&pieces), "{pieces}");
    client.told();
    client.send(&frame(frame::WINDOW_UPDATE, 0, 0, &[0, 16, 0, 0]));
    assert_eq!(client.told(), [""; 0]);
    client.send(&frame(frame::WINDOW_UPDATE, 0, 1, &[0, 16, 0, 0]));
    assert_eq!(client.told(), ["1 writable"]);
    client.server.end(1, b"");
    client.pump();
    assert_eq!(client.body.len(), (pieces + 1) * piece.len());
    assert_eq!(client.told(), ["1 done"]);
}

#[test]
fn a_slow_wire_holds_h2_back() {
    let mut client = Client::new();
    client.send(&frame(frame::WINDOW_UPDATE, 0, 0, &[16, 0, 0, 0]));
    client.get(1);
    client.send(&frame(frame::WINDOW_UPDATE, 0, 1, &[16, 0, 0, 0]));
    client.server.respond(1, 200, b"", None, false);
    let piece = vec![b'x'; 64 * 1024];
    let mut written = 0;
    while client.server.write(1, &piece) {
        written += piece.len();
        while client.server.next_event().is_some() {}
        assert!(written < 2 << 20, "no bound");
    }
    // Some now, some later, and all in the end.
    let mut taken = 0;
    client.server.transmit(|bytes| {
        taken += bytes.len().min(1000);
        bytes.len().min(1000)
    });
    assert_eq!(taken, 1000);
    client.server.end(1, b"");
    assert!(client.server.transmit(|bytes| {
        taken += bytes.len();
        bytes.len()
    }));
    assert!(taken > written);
}

#[test]
fn h_33_a_broken_answer_ends_in_a_reset() {
    let mut client = Client::new();
    client.get(1);
    client.server.respond(1, 200, b"", Some(10), false);
    client.server.write(1, b"half");
    client.pump();
    client.server.reset(1, 2);
    client.pump();
    assert_eq!(client.seen(), ["1 headers :status=200 content-length=10", "1 data 4", "1 reset 2"]);
    client.still_works(3);
}

#[test]
fn h_61_the_client_learns_when_to_go_on() {
    let mut client = Client::new();
    client.headers(1, 4, &with(&POST, &[("expect", "100-continue")]));
    let [ServerEvent::Request(1, head)] = client.events.as_slice() else {
        panic!("{:?}", client.events)
    };
    assert!(head.expects_continue);
    client.server.inform(1, 100, b"");
    client.pump();
    assert_eq!(client.seen(), ["1 headers :status=100"]);
}

#[test]
fn h_104_a_drain_finishes_what_is_there() {
    let mut client = Client::new();
    client.get(1);
    client.told();
    client.server.drain();
    client.pump();
    assert_eq!(client.seen(), ["goaway 255 0", "ping 0"]);
    // On its way before the client heard of it.
    client.get(3);
    assert_eq!(client.told(), ["3 request GET / HTTP/1.1|host: a.test| 0"]);
    // h2's ping, as it names itself.
    client.send(&frame(frame::PING, 1, 0, &[0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54]));
    assert_eq!(client.seen(), ["goaway 3 0"]);
    client.get(5);
    assert!(!client.told().iter().any(|text| text.starts_with("5 request")));
    for stream in [1, 3] {
        client.server.respond(stream, 200, b"", Some(0), true);
        client.pump();
    }
    assert_eq!(
        client.seen(),
        [
            "1 headers :status=200 content-length=0 end",
            "3 headers :status=200 content-length=0 end"
        ]
    );
    assert_eq!(client.told(), ["1 done", "3 done", "closed 0"]);
    assert!(client.server.is_closed());
}

#[test]
fn the_end_of_the_connection_ends_its_streams() {
    let mut client = Client::new();
    client.headers(1, 4, &POST);
    client.get(3);
    client.told();
    client.server.receive_end();
    client.pump();
    assert_eq!(client.told(), ["1 reset 8", "3 reset 8", "closed 0"]);
    // Calls that come late do nothing.
    client.server.respond(1, 200, b"", None, true);
    client.server.reset(3, 2);
    client.server.resume(1);
    client.pump();
}

#[test]
fn a_client_that_takes_its_request_back_is_heard() {
    let mut client = Client::new();
    client.get(1);
    client.server.respond(1, 200, b"", None, false);
    client.told();
    client.send(&frame(frame::RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    assert_eq!(client.told(), ["1 reset 8"]);
    client.still_works(3);
}

/// What a client takes back in the same breath is told and taken back, whatever h2 had announced by then.
#[test]
fn h_103_streams_that_are_reset_before_they_are_announced_do_not_stay() {
    for is_first in [true, false] {
        let mut client = if is_first { Client::silent(OPTIONS) } else { Client::new() };
        let mut bytes = Vec::new();
        if is_first {
            bytes.extend_from_slice(frame::PREFACE);
            bytes.extend(frame(frame::SETTINGS, 0, 0, &[]));
        }
        for (stream, fields) in [(1, &GET), (3, &POST), (5, &GET)] {
            let flags = if stream == 3 { 4 } else { ENDS };
            bytes.extend(frame(frame::HEADERS, flags, stream, &block(fields)));
        }
        for stream in [1, 3, 5] {
            bytes.extend(frame(frame::RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        }
        client.send(&bytes);
        assert_eq!(client.server.streams(), 0, "{:?}", client.told());
        let told = client.told();
        for stream in [1, 3, 5] {
            let begins = told.iter().filter(|text| text.starts_with(&format!("{stream} request")));
            let ends = told.iter().filter(|text| **text == format!("{stream} reset 8"));
            assert_eq!(begins.count(), ends.count(), "{told:?}");
        }
        client.still_works(7);
    }
}

#[test]
fn h_83_an_answer_that_nobody_takes_ends_after_a_while() {
    let mut client = Client::new();
    // No window at all: the settings say 0.
    client.send(&frame(frame::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    client.get(1);
    client.server.respond(1, 200, b"", Some(5), false);
    client.server.write(1, b"hello");
    client.server.end(1, b"");
    client.pump();
    assert_eq!(client.seen(), ["1 headers :status=200 content-length=5"]);
    client.told();
    client.now += Duration::from_secs(59);
    client.server.tick(client.now);
    client.pump();
    assert_eq!(client.told(), [""; 0]);
    client.now += Duration::from_secs(1);
    client.server.tick(client.now);
    client.pump();
    assert_eq!(
        (client.told(), client.seen()),
        (vec!["1 reset 8".into()], vec!["1 reset 8".into()])
    );
    client.still_works(3);
}

#[test]
fn h_80_a_head_that_does_not_come_ends_the_connection() {
    let mut client = Client::new();
    client.send(&frame(frame::HEADERS, 1, 1, &block(&GET)));
    client.server.tick(client.now + Duration::from_secs(9));
    client.pump();
    assert_eq!(client.told(), [""; 0]);
    client.server.tick(client.now + Duration::from_secs(10));
    client.pump();
    assert_eq!(client.seen(), ["goaway 0 11"]);
    assert_eq!(client.told(), ["closed 11"]);
}
