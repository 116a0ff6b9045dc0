//! Attacks with raw frames: what costs the client nothing ends the connection before it costs us anything (H-103).

use super::*;

fn goaway(client: &mut Client) -> String {
    let seen = client.seen();
    assert!(client.server.is_closed(), "{seen:?}");
    seen.iter().rev().find(|text| text.starts_with("goaway")).cloned().unwrap_or_default()
}

fn flood(mut client: Client, mut next: impl FnMut(u32) -> Vec<u8>, most: u32) -> (u32, String) {
    for round in 0..most {
        client.send(&next(round));
        if client.server.is_closed() {
            return (round, goaway(&mut client).rsplit(' ').next().unwrap_or("").to_owned());
        }
    }
    (most, "none".to_owned())
}

#[test]
fn rapid_reset() {
    let head = block(&GET);
    let (rounds, code) = flood(
        Client::new(),
        |round| {
            let stream = 2 * round + 1;
            let mut bytes = frame(frame::HEADERS, ENDS, stream, &head);
            bytes.extend(frame(frame::RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            bytes
        },
        10_000,
    );
    assert_eq!((rounds, code.as_str()), (100, "11"));
}

#[test]
fn rapid_reset_in_one_write_announces_no_more_than_the_budget() {
    let mut client = Client::new();
    let mut bytes = Vec::new();
    let head = block(&GET);
    for stream in (1..8_000).step_by(2) {
        bytes.extend(frame(frame::HEADERS, ENDS, stream, &head));
        bytes.extend(frame(frame::RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    client.send(&bytes);
    assert_eq!(goaway(&mut client).rsplit(' ').next(), Some("11"));
    let told = client.told();
    assert!(told.iter().filter(|text| text.contains("request")).count() <= 101, "{}", told.len());
}

#[test]
fn resets_over_a_long_time_are_fine() {
    let mut client = Client::new();
    for round in 0..500u32 {
        let stream = 2 * round + 1;
        client.get(stream);
        client.send(&frame(frame::RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        client.now += Duration::from_millis(150);
    }
    client.still_works(1001);
}

#[test]
fn made_you_reset_by_malformed_requests() {
    let head = block(&with(&GET, &[("Upper", "x")]));
    let (rounds, code) =
        flood(Client::new(), |round| frame(frame::HEADERS, ENDS, 2 * round + 1, &head), 10_000);
    assert_eq!((rounds, code.as_str()), (100, "11"));
}

#[test]
fn made_you_reset_by_windows_of_nothing() {
    let head = block(&GET);
    let (rounds, code) = flood(
        Client::new(),
        |round| {
            let stream = 2 * round + 1;
            let mut bytes = frame(frame::HEADERS, ENDS, stream, &head);
            // An increment of 0 is a stream error (RFC 9113 §6.9), and h2 makes it one of the connection.
            bytes.extend(frame(frame::WINDOW_UPDATE, 0, stream, &[0, 0, 0, 0]));
            bytes
        },
        10_000,
    );
    assert!(rounds <= 100, "{rounds} {code}");
}

#[test]
fn made_you_reset_by_windows_that_overflow() {
    let head = block(&GET);
    let (rounds, code) = flood(
        Client::new(),
        |round| {
            let stream = 2 * round + 1;
            let mut bytes = frame(frame::HEADERS, ENDS, stream, &head);
            bytes.extend(frame(frame::WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]));
            bytes
        },
        10_000,
    );
    assert_eq!((rounds, code.as_str()), (100, "11"));
}

#[test]
fn made_you_reset_by_data_on_closed_streams() {
    let head = block(&GET);
    let (rounds, _) = flood(
        Client::new(),
        |round| {
            let stream = 2 * round + 1;
            let mut bytes = frame(frame::HEADERS, ENDS, stream, &head);
            bytes.extend(frame(frame::DATA, 0, stream, b"x"));
            bytes
        },
        10_000,
    );
    assert!(rounds <= 100, "{rounds}");
}

#[test]
fn streams_beyond_the_limit_are_refused_and_flooding_them_ends_the_connection() {
    let mut client = Client::new();
    for round in 0..128 {
        client.get(2 * round + 1);
    }
    assert_eq!(client.told().len(), 128);
    client.get(257);
    assert_eq!(client.seen(), ["257 reset 7"]);
    assert_eq!(client.told(), ["257 refused 503 overflow reset"]);
    let head = block(&GET);
    let mut rounds = 0;
    while !client.server.is_closed() {
        rounds += 1;
        client.send(&frame(frame::HEADERS, ENDS, 257 + 2 * rounds, &head));
    }
    assert_eq!((rounds, goaway(&mut client).rsplit(' ').next()), (100, Some("11")));
}

#[test]
fn continuation_flood() {
    let mut client = Client::new();
    client.send(&frame(frame::HEADERS, 1, 1, &block(&GET)));
    let mut rounds = 0;
    while !client.server.is_closed() && rounds < 10_000 {
        rounds += 1;
        client.send(&frame(frame::CONTINUATION, 0, 1, &block(&[("x", "y")])));
    }
    assert_eq!((rounds, goaway(&mut client).as_str()), (33, "goaway 0 11"));
    assert_eq!(client.told(), ["closed 11"]);
}

#[test]
fn continuation_flood_of_nothing() {
    let mut client = Client::new();
    client.send(&frame(frame::HEADERS, 1, 1, &[]));
    let mut rounds = 0;
    while !client.server.is_closed() && rounds < 10_000 {
        rounds += 1;
        client.send(&frame(frame::CONTINUATION, 0, 1, &[]));
    }
    assert_eq!(rounds, 33);
}

#[test]
fn a_block_without_end_is_not_kept() {
    let mut client = Client::new();
    client.send(&frame(frame::HEADERS, 1, 1, &block(&GET)));
    let mut bytes = 0;
    while !client.server.is_closed() {
        client.send(&frame(frame::CONTINUATION, 0, 1, &[0; 16_384]));
        bytes += 16_384;
        assert!(bytes < 1 << 20, "no bound");
    }
    assert_eq!(goaway(&mut client), "goaway 0 11");
}

/// Few bytes that become many: references to one large entry of the table.
#[test]
fn header_bomb() {
    let mut client = Client::new();
    let mut bomb = indexed(b"x", &[b'v'; 120]);
    bomb.extend(std::iter::repeat_n(0xbe, 16_000));
    let mut head = block(&GET);
    head.extend(bomb);
    client.send(&frame(frame::HEADERS, ENDS, 1, &head[..16_384.min(head.len())]));
    assert_eq!(client.told(), ["1 refused 431 H-14"]);
    client.server.respond(1, 431, b"", Some(0), true);
    client.pump();
    client.still_works(3);
}

#[test]
fn settings_flood() {
    let (rounds, code) =
        flood(Client::new(), |_| frame(frame::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]), 10_000);
    assert_eq!((rounds, code.as_str()), (98, "11"));
}

#[test]
fn ping_flood() {
    let (rounds, code) = flood(Client::new(), |_| frame(frame::PING, 0, 0, &[0; 8]), 10_000);
    assert_eq!((rounds, code.as_str()), (500, "11"));
}

#[test]
fn pings_in_step_with_answers_are_fine() {
    let mut client = Client::new();
    for round in 0..1_000 {
        let stream = 2 * round + 1;
        client.get(stream);
        client.server.respond(stream, 204, b"", None, true);
        client.send(&frame(frame::PING, 0, 0, &[0; 8]));
    }
    client.still_works(2_001);
}

#[test]
fn empty_data_flood() {
    let mut client = Client::new();
    client.headers(1, 4, &POST);
    let (rounds, code) = flood(client, |_| frame(frame::DATA, 0, 1, &[]), 10_000);
    assert_eq!((rounds, code.as_str()), (100, "11"));
    let mut client = Client::new();
    client.headers(1, 4, &POST);
    let padded = [[9; 1].as_slice(), &[0; 9]].concat();
    let (rounds, code) = flood(client, |_| frame(frame::DATA, 8, 1, &padded), 10_000);
    assert!(rounds <= 100, "{rounds}");
    assert_eq!(code, "11");
}

#[test]
fn window_update_flood() {
    let (rounds, code) =
        flood(Client::new(), |_| frame(frame::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 10_000);
    assert_eq!((rounds, code.as_str()), (1_000, "11"));
}

#[test]
fn priority_flood() {
    let (rounds, code) =
        flood(Client::new(), |_| frame(frame::PRIORITY, 0, 3, &[0, 0, 0, 1, 9]), 10_000);
    assert_eq!((rounds, code.as_str()), (1_000, "11"));
}

#[test]
fn flood_of_unknown_frames() {
    let (rounds, code) = flood(Client::new(), |_| frame(0x42, 0, 0, b"x"), 10_000);
    assert_eq!((rounds, code.as_str()), (1_000, "11"));
}

/// Small pieces that nobody takes: each would cost more than its bytes.
#[test]
fn tiny_data_on_a_paused_stream() {
    let mut client = Client::new();
    client.headers(1, 4, &POST);
    client.server.pause(1);
    let (rounds, code) = flood(client, |_| frame(frame::DATA, 0, 1, b"x"), 60_000);
    assert!(rounds < 10_000, "{rounds}");
    assert_eq!(code, "11");
}

/// Windows of nothing on all streams: no more waits than the buffers of those streams, and it ends.
#[test]
fn window_stall() {
    let mut client = Client::new();
    client.send(&frame(frame::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    for round in 0..128 {
        let stream = 2 * round + 1;
        client.get(stream);
        client.server.respond(stream, 200, b"", None, false);
        let piece = [b'x'; 16_384];
        let mut pieces = 0;
        while client.server.write(stream, &piece) {
            pieces += 1;
        }
        assert!(pieces <= 16, "{pieces}");
    }
    client.pump();
    assert_eq!(client.body.len(), 0);
    client.told();
    client.now += Duration::from_secs(60);
    client.server.tick(client.now);
    client.pump();
    let told = client.told();
    assert_eq!(told.iter().filter(|text| text.ends_with(" reset 8")).count(), 128);
    assert_eq!(client.server.streams(), 0);
}

#[test]
fn what_breaks_the_framing_ends_the_connection() {
    let large = frame(frame::DATA, 0, 1, &[0; 16_385]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("CONTINUATION without a head", frame(frame::CONTINUATION, 4, 1, &[]), "1"),
        ("PUSH_PROMISE", frame(frame::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x82]), "1"),
        ("HEADERS on stream 0", frame(frame::HEADERS, ENDS, 0, &block(&GET)), "1"),
        ("HEADERS on an even stream", frame(frame::HEADERS, ENDS, 2, &block(&GET)), "1"),
        ("DATA on stream 0", frame(frame::DATA, 0, 0, b"x"), "1"),
        ("DATA on an idle stream", frame(frame::DATA, 0, 9, b"x"), "1"),
        ("padding beyond the frame", frame(frame::HEADERS, ENDS | 8, 1, &[200, 0x82]), "1"),
        ("half a priority", frame(frame::HEADERS, ENDS | 32, 1, &[0, 0]), "6"),
        ("a bad block", frame(frame::HEADERS, ENDS, 1, &[0x80]), "9"),
        ("half a string", frame(frame::HEADERS, ENDS, 1, &[0, 9, b'x']), "9"),
        ("a large frame", large, "6"),
    ];
    for (what, bytes, code) in cases {
        let mut client = Client::new();
        client.send(&bytes);
        assert_eq!(goaway(&mut client).rsplit(' ').next(), Some(code), "{what}");
        // Nothing after it is read.
        client.get(11);
        assert_eq!(client.told().iter().filter(|text| text.contains("request")).count(), 0);
    }
}

#[test]
fn nothing_comes_between_the_frames_of_a_block() {
    for other in [
        frame(frame::DATA, 0, 1, b"x"),
        frame(frame::PING, 0, 0, &[0; 8]),
        frame(frame::HEADERS, ENDS, 3, &block(&GET)),
        frame(frame::CONTINUATION, 4, 3, &[]),
        frame(0x42, 0, 0, &[]),
    ] {
        let mut client = Client::new();
        client.send(&frame(frame::HEADERS, 1, 1, &block(&GET)));
        client.send(&other);
        assert_eq!(goaway(&mut client), "goaway 0 1");
    }
}

#[test]
fn another_protocol_is_none() {
    for bytes in [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"] {
        let mut client = Client::silent(OPTIONS);
        client.send(bytes);
        assert!(client.server.is_closed());
        assert_eq!(client.told().iter().filter(|text| text.contains("request")).count(), 0);
    }
    let mut client = Client::silent(OPTIONS);
    client.send(frame::PREFACE);
    client.get(1);
    assert_eq!(goaway(&mut client).rsplit(' ').next(), Some("1"), "SETTINGS come first");
}
