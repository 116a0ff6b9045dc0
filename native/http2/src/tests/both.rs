//! Both sides against one another, and the server against bytes that are nearly right.

use super::*;
use crate::{ClientConnection, ClientEvent, ClientOptions};
use fastrand::Rng;

/// Bytes from one side to the other in pieces of any size.
fn carry(numbers: &mut Rng, from: &mut Vec<u8>, mut to: impl FnMut(&[u8])) {
    while !from.is_empty() {
        let length = 1 + numbers.usize(..from.len().min(9_000));
        let piece: Vec<u8> = from.drain(..length).collect();
        to(&piece);
        if numbers.usize(..3) == 0 {
            return;
        }
    }
}

#[test]
fn bodies_of_many_streams_arrive_whole_under_any_cutting_and_slowness() {
    for seed in 1..16 {
        let mut numbers = Rng::with_seed(seed * 0x9e37_79b9);
        let now = Instant::now();
        let mut server = ServerConnection::new(OPTIONS, now);
        let mut client = ClientConnection::new(ClientOptions {
            max_streams: 100,
            stream_window: 70_000,
            connection_window: 200_000,
            buffer_bytes: 30_000,
            is_secure: true,
        });
        const STREAMS: usize = 12;
        let lengths: Vec<usize> = (0..STREAMS).map(|_| numbers.usize(..300_000)).collect();
        let mut left = lengths.clone();
        let mut echoed = [0usize; STREAMS];
        let mut ended = [false; STREAMS];
        let mut may_write = [true; STREAMS];
        let mut owed: Vec<(u32, Vec<u8>)> = Vec::new();
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for _ in 0..STREAMS {
            client
                .send(b"POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\n", None, false)
                .expect("room");
        }
        let index = |stream: u32| (stream as usize - 1) / 2;
        let mut rounds = 0;
        while !ended.iter().all(|one| *one) {
            rounds += 1;
            assert!(rounds < 200_000, "{seed}: {echoed:?} of {lengths:?}");
            let at = numbers.usize(..STREAMS);
            let stream = 2 * at as u32 + 1;
            if left[at] > 0 && may_write[at] {
                let length = left[at].min(1 + numbers.usize(..20_000));
                may_write[at] = client.write(stream, &vec![at as u8; length]);
                left[at] -= length;
                if left[at] == 0 {
                    client.end(stream, b"x-up: 1\r\n");
                }
            } else if lengths[at] == 0 && echoed[at] == 0 {
                client.end(stream, b"x-up: 1\r\n");
            }
            match numbers.usize(..8) {
                0 => server.pause(stream),
                1 => client.pause(stream),
                2 | 3 => server.resume(stream),
                4 | 5 => client.resume(stream),
                _ => {}
            }
            while let Some(event) = client.next_event() {
                match event {
                    ClientEvent::Data(stream, bytes) => {
                        assert!(bytes.iter().all(|byte| usize::from(*byte) == index(stream)));
                        echoed[index(stream)] += bytes.len();
                    }
                    ClientEvent::End(stream, trailers) => {
                        assert_eq!(trailers, b"x-down: 1\r\n");
                        assert_eq!(echoed[index(stream)], lengths[index(stream)]);
                        ended[index(stream)] = true;
                    }
                    ClientEvent::Writable(stream) => may_write[index(stream)] = true,
                    ClientEvent::Head(..) | ClientEvent::Settled => {}
                    other => panic!("{seed}: {other:?}"),
                }
            }
            while let Some(event) = server.next_event() {
                match event {
                    ServerEvent::Request(stream, head) => {
                        assert_eq!(head.head, b"POST / HTTP/1.1\r\nhost: a\r\n");
                        server.respond(stream, 200, b"", None, false);
                    }
                    ServerEvent::Data(stream, bytes) => {
                        if !server.write(stream, &bytes) {
                            server.pause(stream);
                        }
                    }
                    ServerEvent::Writable(stream) => server.resume(stream),
                    ServerEvent::End(stream, trailers) => {
                        assert_eq!(trailers, b"x-up: 1\r\n");
                        owed.push((stream, b"x-down: 1\r\n".to_vec()));
                    }
                    ServerEvent::Done(_) => {}
                    other => panic!("{seed}: {other:?}"),
                }
            }
            for (stream, trailers) in owed.drain(..) {
                server.end(stream, &trailers);
            }
            let most = numbers.usize(..5_000);
            client.transmit(|bytes| {
                let length = bytes.len().min(most);
                up.extend_from_slice(&bytes[..length]);
                length
            });
            server.transmit(|bytes| {
                let length = bytes.len().min(most);
                down.extend_from_slice(&bytes[..length]);
                length
            });
            if server.wants_input() {
                carry(&mut numbers, &mut up, |piece| server.receive(piece, now));
            }
            if client.wants_input() {
                carry(&mut numbers, &mut down, |piece| client.receive(piece, now));
            }
        }
        // Both ends have forgotten everything, once the last frames have been carried.
        while server.next_event().is_some() {}
        client.transmit(|bytes| bytes.len());
        server.transmit(|bytes| bytes.len());
        while server.next_event().is_some() {}
        assert_eq!((client.streams(), server.streams()), (0, 0), "{seed}");
    }
}

/// A conversation with some of its bytes changed: nothing panics, nothing is announced twice, and every stream that was
/// announced comes to an end.
#[test]
fn bytes_that_are_nearly_right() {
    let mut good = frame::PREFACE.to_vec();
    good.extend(frame(frame::SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]));
    for stream in [1, 3, 5] {
        good.extend(frame(frame::HEADERS, 4, stream, &block(&with(&POST, &[("x", "y")]))));
        good.extend(frame(frame::DATA, 0, stream, b"some bytes"));
        good.extend(frame(frame::PING, 0, 0, &[7; 8]));
        good.extend(frame(frame::WINDOW_UPDATE, 0, stream, &[0, 0, 1, 0]));
        good.extend(frame(frame::HEADERS, ENDS, stream, &indexed(b"x-t", b"z")));
    }
    for seed in 1..1_500u64 {
        let mut numbers = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = good.clone();
        for _ in 0..=numbers.usize(..4) {
            let at = numbers.usize(..bytes.len());
            match numbers.usize(..4) {
                0 => bytes[at] = numbers.usize(..256) as u8,
                1 => bytes[at] ^= 1 << numbers.usize(..8),
                2 => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, numbers.usize(..256) as u8),
            }
        }
        let mut client = Client::silent(OPTIONS);
        client.cut = 1 + numbers.usize(..300);
        client.send(&bytes);
        let mut open = std::collections::BTreeSet::new();
        for event in std::mem::take(&mut client.events) {
            match event {
                ServerEvent::Request(stream, _) => {
                    assert!(open.insert(stream), "{seed}: {stream} twice");
                    client.server.respond(stream, 200, b"", None, true);
                }
                ServerEvent::Refused(stream, refusal) if !refusal.is_malformed => {
                    open.insert(stream);
                    client.server.respond(stream, 400, b"", None, true);
                }
                ServerEvent::Reset(stream, _) => {
                    open.remove(&stream);
                }
                _ => {}
            }
        }
        client.pump();
        client.server.receive_end();
        client.pump();
        for event in std::mem::take(&mut client.events) {
            if let ServerEvent::Done(stream) | ServerEvent::Reset(stream, _) = event {
                open.remove(&stream);
            }
        }
        assert!(open.is_empty(), "{seed}: {open:?}");
        assert!(client.server.is_closed(), "{seed}");
        assert_eq!(client.server.streams(), 0);
    }
}
