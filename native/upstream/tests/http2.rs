//! The pool against servers that speak HTTP/2, over real sockets: the server side runs in the same thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use sallyport_http2::{RequestLimits, ServerConnection, ServerEvent, ServerOptions};
use sallyport_upstream::{Event, LegId, Pool, RequestHead, Sent, TargetId, TargetOptions, Use};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn options() -> TargetOptions {
    TargetOptions {
        connect: MS(2_000),
        queue: MS(2_000),
        first_byte: MS(2_000),
        idle: MS(2_000),
        keep_alive: MS(60_000),
        max_connections: 2,
        max_queued: 4,
    }
}

fn server_options() -> ServerOptions {
    ServerOptions {
        request: RequestLimits {
            head_bytes: 64 * 1024,
            fields: 200,
            uri_bytes: 16 * 1024,
            body_bytes: 0,
            extended_connect: false,
        },
        max_streams: 128,
        stream_window: 64 * 1024,
        connection_window: 1024 * 1024,
        buffer_bytes: 64 * 1024,
        head_timeout: Duration::ZERO,
        stall_timeout: Duration::ZERO,
        stall_bytes_per_second: 240,
    }
}

/// One accepted connection.
struct Peer {
    socket: TcpStream,
    h2: ServerConnection,
    /// `stream what`.
    told: Vec<String>,
    received: usize,
    is_reading: bool,
    is_ended: bool,
}

struct Stage {
    pool: Pool,
    listener: TcpListener,
    target: TargetId,
    server: ServerOptions,
    peers: Vec<Peer>,
    /// Connections beyond so many, as they are.
    most_peers: usize,
    beside: Vec<TcpStream>,
    seen: Vec<(LegId, String)>,
    data: usize,
}

impl Stage {
    fn new(options: TargetOptions) -> Self {
        Stage::with(options, server_options())
    }

    fn with(options: TargetOptions, server: ServerOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a mode");
        let address = listener.local_addr().expect("an address");
        let mut pool = Pool::new(64 * 1024).expect("descriptors");
        let target = pool.add_target(options, vec![address]).expect("room");
        pool.set_http2(target);
        Stage {
            pool,
            listener,
            target,
            server,
            peers: Vec::new(),
            most_peers: usize::MAX,
            beside: Vec::new(),
            seen: Vec::new(),
            data: 0,
        }
    }

    fn send(&mut self, head: &str, body: Result<&[u8], i64>) -> LegId {
        match self.pool.send(self.target, head.as_bytes(), body) {
            Sent::Later(leg) | Sent::Reused(leg) => leg,
            other => panic!("{other:?}"),
        }
    }

    fn get(&mut self) -> LegId {
        self.send("GET /x HTTP/1.1\r\nhost: a.test\r\n", Err(0))
    }

    /// Both sides, once.
    fn pump(&mut self) {
        self.pool.turn();
        while let Some(event) = self.pool.next_event() {
            let text = self.describe(&event);
            self.seen.push((event.leg, text));
        }
        while let Ok((socket, _)) = self.listener.accept() {
            socket.set_nonblocking(true).expect("a mode");
            if self.peers.len() >= self.most_peers {
                self.beside.push(socket);
                continue;
            }
            self.peers.push(Peer {
                socket,
                h2: ServerConnection::new(self.server, Instant::now()),
                told: Vec::new(),
                received: 0,
                is_reading: true,
                is_ended: false,
            });
        }
        self.peers.iter_mut().for_each(Peer::pump);
        std::thread::sleep(MS(1));
    }

    fn until(&mut self, mut is_done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + MS(10_000);
        while !is_done(self) {
            assert!(
                Instant::now() < end,
                "too late: {:?} {:?}",
                self.seen,
                self.peers.iter().map(|peer| &peer.told).collect::<Vec<_>>()
            );
            self.pump();
            self.pool.tick();
        }
    }

    /// Until the servers have been told so many things.
    fn heard(&mut self, count: usize) {
        self.until(|stage| stage.peers.iter().map(|peer| peer.told.len()).sum::<usize>() >= count);
    }

    fn describe(&mut self, event: &Event) -> String {
        let flat = |text: &[u8]| String::from_utf8_lossy(text).replace("\r\n", "|");
        let mut parts: Vec<String> = Vec::new();
        if let Some(reused) = event.connected {
            parts.push(if reused { "reused" } else { "new" }.to_owned());
        }
        if event.writable {
            parts.push("writable".to_owned());
        }
        if event.interim {
            parts.push(flat(self.pool.interim()));
        }
        if let Some(head) = event.head {
            parts.push(format!("{} {}", flat(self.pool.head()), head.body_length));
        }
        if event.has_data {
            let data = self.pool.data();
            self.data += data.len();
            if data.len() < 20 {
                parts.push(String::from_utf8_lossy(data).into_owned());
            }
        }
        if event.ended {
            parts.push("end".to_owned());
        }
        if event.has_trailers {
            parts.push(flat(self.pool.trailers()));
        }
        if let Some(failure) = &event.failure {
            parts.push(format!("{:?}:{}", failure.reason, failure.not_processed));
        }
        parts.join(" ")
    }

    fn told(&self, leg: LegId) -> String {
        let mine = self.seen.iter().filter(|(one, _)| *one == leg).map(|(_, text)| text.as_str());
        mine.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn is_over(&self, leg: LegId) -> bool {
        let told = self.told(leg);
        told.contains(" end") || told.ends_with(":true") || told.ends_with(":false")
    }

    fn finish(&mut self, leg: LegId) -> String {
        self.until(|stage| stage.is_over(leg));
        self.told(leg)
    }
}

impl Peer {
    fn pump(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while self.is_reading && !self.is_ended && self.h2.wants_input() {
            match self.socket.read(&mut buffer) {
                Ok(0) => {
                    self.is_ended = true;
                    self.h2.receive_end();
                }
                Ok(length) => self.h2.receive(&buffer[..length], Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.is_ended = true;
                    self.h2.receive_end();
                }
            }
            self.listen();
        }
        self.listen();
        self.flush();
    }

    fn listen(&mut self) {
        while let Some(event) = self.h2.next_event() {
            let text = match event {
                ServerEvent::Request(stream, head) => format!(
                    "{stream} {} {}",
                    String::from_utf8_lossy(&head.head).replace("\r\n", "|"),
                    head.body_length
                ),
                ServerEvent::Data(_, bytes) => {
                    self.received += bytes.len();
                    continue;
                }
                ServerEvent::End(stream, trailers) => {
                    format!("{stream} end {}", String::from_utf8_lossy(&trailers).trim())
                }
                ServerEvent::Reset(stream, code) => format!("{stream} reset {code}"),
                ServerEvent::Closed(code) => format!("closed {code}"),
                ServerEvent::Refused(stream, refusal) => format!("{stream} {}", refusal.rule),
                ServerEvent::Done(_) | ServerEvent::Writable(_) => continue,
            };
            self.told.push(text);
        }
    }

    fn flush(&mut self) {
        let socket = &mut self.socket;
        self.h2.transmit(|bytes| match socket.write(bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => bytes.len(),
        });
    }

    fn answer(&mut self, stream: u32, lines: &str, body: &[u8]) {
        self.h2.respond(stream, 200, lines.as_bytes(), Some(body.len() as u64), body.is_empty());
        if !body.is_empty() {
            self.h2.write(stream, body);
            self.h2.end(stream, b"");
        }
        self.flush();
    }
}

#[test]
fn requests_share_a_connection_and_a_whole_answer_is_one_event() {
    let mut stage = Stage::new(options());
    let legs: Vec<LegId> = (0..20).map(|_| stage.get()).collect();
    stage.heard(20);
    assert_eq!(stage.peers.len(), 1);
    assert_eq!(stage.peers[0].told[0], "1 GET /x HTTP/1.1|host: a.test| 0");
    assert_eq!(stage.pool.connections().open, 1);
    // Answered in another order.
    for stream in (0..20).rev() {
        stage.peers[0].answer(2 * stream + 1, "x-n: 1\r\n", format!("body {stream}").as_bytes());
    }
    for (at, leg) in legs.iter().enumerate() {
        let begin = if at == 0 { "new" } else { "reused" };
        let length = format!("body {at}").len();
        assert_eq!(
            stage.finish(*leg),
            format!("{begin} HTTP/1.1 200 OK|x-n: 1| {length} body {at} end")
        );
    }
    let last = stage.seen.iter().filter(|(_, text)| text.contains("200")).count();
    assert_eq!(last, 20, "one event each");
    assert_eq!((stage.pool.legs(), stage.pool.connections().idle), (0, 1));
    // And again, at once.
    assert!(matches!(
        stage.pool.send(stage.target, b"GET / HTTP/1.1\r\nhost: a\r\n", Err(0)),
        Sent::Reused(_)
    ));
}

#[test]
fn bodies_and_trailers_in_both_directions() {
    let mut stage = Stage::new(options());
    let post = "POST /rpc HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\n";
    let whole = stage.send(post, Ok(b"whole"));
    let chunked = stage.send(post, Err(-1));
    let known = stage.send(post, Err(6));
    stage.until(|stage| stage.told(known).contains("writable"));
    assert!(stage.pool.write(chunked, b"abc"));
    assert!(stage.pool.write(known, b"123"));
    assert!(stage.pool.write(known, b"456"));
    stage.pool.end(known);
    stage.pool.end_with(chunked, b"x-sum: 7\r\n");
    stage.heard(6);
    let mut told = stage.peers[0].told.clone();
    told.sort();
    assert_eq!(
        told,
        [
            "1 POST /rpc HTTP/1.1|host: a.test| 5",
            "1 end ",
            "3 POST /rpc HTTP/1.1|host: a.test| -1",
            "3 end x-sum: 7",
            "5 POST /rpc HTTP/1.1|host: a.test| 6",
            "5 end "
        ]
    );
    assert_eq!(stage.peers[0].received, 14);
    let peer = &mut stage.peers[0];
    peer.h2.respond(3, 200, b"content-type: application/grpc\r\n", None, false);
    peer.h2.write(3, b"message");
    peer.h2.end(3, b"grpc-status: 0\r\n");
    peer.answer(1, "", b"");
    peer.answer(5, "", b"");
    peer.flush();
    assert_eq!(
        stage.finish(chunked),
        "reused writable HTTP/1.1 200 OK|content-type: application/grpc| -1 message end grpc-status: 0|"
    );
    assert_eq!(stage.finish(whole), "new HTTP/1.1 200 OK| 0 end");
    assert_eq!(stage.finish(known), "reused writable HTTP/1.1 200 OK| 0 end");
}

#[test]
fn h_62_interim_answers_come_to_those_who_want_them() {
    let mut stage = Stage::new(options());
    let purpose = Use { interim: true, ..Use::default() };
    let head = b"GET / HTTP/1.1\r\nhost: a\r\n";
    let Sent::Later(leg) =
        stage.pool.send_for(stage.target, RequestHead::whole(head), Err(0), purpose)
    else {
        panic!("no leg")
    };
    stage.heard(1);
    let peer = &mut stage.peers[0];
    peer.h2.inform(1, 100, b"");
    peer.h2.inform(1, 103, b"link: </a>\r\n");
    peer.answer(1, "", b"");
    assert_eq!(
        stage.finish(leg),
        "new HTTP/1.1 103 Early Hints|link: </a>|| HTTP/1.1 200 OK| 0 end"
    );
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: a.test\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nconnection: upgrade\r\nupgrade: websocket\r\n";

impl Stage {
    fn upgrade(&mut self) -> LegId {
        let purpose = Use { upgrade: true, ..Use::default() };
        let head = RequestHead::whole(UPGRADE.as_bytes());
        match self.pool.send_for(self.target, head, Ok(b""), purpose) {
            Sent::Later(leg) | Sent::Reused(leg) => leg,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn h_94_a_web_socket_is_a_stream_where_the_server_takes_it() {
    let mut server = server_options();
    server.request.extended_connect = true;
    let mut stage = Stage::with(options(), server);
    let (leg, gone, refused) = (stage.upgrade(), stage.upgrade(), stage.upgrade());
    // It waits for the server's word, and nobody misses it.
    stage.pool.abort(gone);
    stage.heard(2);
    assert_eq!(
        stage.peers[0].told,
        ["1", "3"].map(|stream| format!(
            "{stream} GET /ws HTTP/1.1|host: a.test|sec-websocket-version: 13|connection: upgrade|upgrade: websocket| -1"
        ))
    );
    let peer = &mut stage.peers[0];
    peer.h2.respond(1, 200, b"sec-websocket-protocol: chat\r\n", None, false);
    peer.h2.become_tunnel(1);
    peer.h2.write(1, b"hello");
    peer.h2.respond(3, 403, b"", Some(2), false);
    peer.h2.write(3, b"no");
    peer.h2.end(3, b"");
    peer.flush();
    assert_eq!(stage.finish(refused), "new HTTP/1.1 403 Forbidden| 2 no end");
    stage.until(|stage| stage.told(leg).contains("hello"));
    assert_eq!(
        stage.told(leg),
        "new HTTP/1.1 101 Switching Protocols|sec-websocket-protocol: chat|sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=| -1 hello"
    );
    // More than every window, as long as somebody reads it.
    let mut goes_on = true;
    let mut written = 0;
    while written < 400_000 {
        if goes_on {
            goes_on = stage.pool.write(leg, &[b'x'; 10_000]);
            written += 10_000;
        } else {
            let told = stage.told(leg).matches("writable").count();
            stage.until(|stage| stage.told(leg).matches("writable").count() > told);
            goes_on = true;
        }
    }
    stage.pool.end(leg);
    stage.until(|stage| stage.peers[0].told.iter().any(|told| told == "1 end "));
    assert_eq!(stage.peers[0].received, 400_000);
    stage.peers[0].h2.end(1, b"");
    assert!(stage.finish(leg).ends_with("end"));
    assert_eq!((stage.pool.legs(), stage.pool.open_connections()), (0, 1));
}

#[test]
fn h_94_and_a_connection_beside_the_others_where_it_does_not() {
    let mut stage =
        Stage::with(TargetOptions { max_connections: 1, ..options() }, server_options());
    stage.most_peers = 1;
    let first = stage.upgrade();
    let mut text = Vec::new();
    stage.until(|stage| {
        let mut piece = [0; 1024];
        let length = stage.beside.first_mut().map_or(0, |one| one.read(&mut piece).unwrap_or(0));
        text.extend_from_slice(&piece[..length]);
        text.ends_with(b"\r\n\r\n")
    });
    assert_eq!(String::from_utf8_lossy(&text), format!("{UPGRADE}\r\n"));
    let answer = b"HTTP/1.1 101 S\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello";
    stage.beside[0].write_all(answer).expect("room");
    stage.until(|stage| stage.told(first).contains("hello"));
    assert!(stage.told(first).starts_with("new HTTP/1.1 101 "), "{}", stage.told(first));
    // It is known now, and such connections do not count.
    let second = stage.upgrade();
    stage.until(|stage| stage.beside.len() == 2);
    stage.get();
    stage.heard(1);
    assert_eq!(stage.peers[0].told, ["1 GET /x HTTP/1.1|host: a.test| 0"]);
    stage.beside.clear();
    stage.until(|stage| stage.is_over(first) && stage.told(second).contains("Reset"));
    stage.pool.retire(stage.target);
    assert_eq!(stage.pool.open_connections(), 1, "a request is under way");
}

#[test]
fn h_70_what_the_server_has_not_looked_at_may_be_repeated() {
    let mut stage = Stage::new(options());
    let (first, second) = (stage.get(), stage.get());
    stage.heard(2);
    stage.peers[0].h2.reset(3, 7);
    stage.peers[0].flush();
    assert_eq!(stage.finish(second), "reused Reset:true");
    // GOAWAY after the first stream: what was under way goes on, and new requests go elsewhere.
    stage.peers[0].h2.drain();
    stage.peers[0].flush();
    stage.until(|stage| stage.peers[0].told.len() >= 2 && stage.seen.len() >= 2);
    for _ in 0..20 {
        stage.pump();
    }
    let third = stage.get();
    stage.until(|stage| stage.peers.len() == 2 && stage.peers[1].told.len() == 1);
    stage.peers[1].answer(1, "", b"");
    assert_eq!(stage.finish(third), "new HTTP/1.1 200 OK| 0 end");
    stage.peers[0].answer(1, "", b"late");
    assert_eq!(stage.finish(first), "new HTTP/1.1 200 OK| 4 late end");
    stage.until(|stage| stage.pool.connections().open == 1);
}

#[test]
fn h_105_a_leg_that_fails_leaves_the_others_alone() {
    let mut stage = Stage::new(TargetOptions { first_byte: MS(150), ..options() });
    let (late, bad, aborted, good) = (stage.get(), stage.get(), stage.get(), stage.get());
    stage.heard(4);
    let peer = &mut stage.peers[0];
    // A length that the body does not have.
    peer.h2.respond(3, 200, b"", Some(9), false);
    peer.h2.end(3, b"");
    peer.h2.respond(7, 200, b"", None, false);
    peer.flush();
    stage.pool.abort(aborted);
    let told = stage.finish(bad);
    assert!(told.ends_with("BadResponse:false"), "{told}");
    assert_eq!(stage.finish(late), "new FirstByteTimeout:false");
    stage.peers[0].h2.write(7, b"fine");
    stage.peers[0].h2.end(7, b"");
    stage.peers[0].flush();
    assert_eq!(stage.finish(good), "reused HTTP/1.1 200 OK| -1 fine end");
    stage.until(|stage| stage.peers[0].told.len() >= 6);
    let told = &stage.peers[0].told;
    assert!(told.contains(&"1 reset 8".to_owned()), "{told:?}");
    assert!(told.contains(&"5 reset 8".to_owned()), "{told:?}");
    assert_eq!((stage.peers.len(), stage.pool.connections().idle), (1, 1));
    assert!(!stage.told(aborted).contains("200"));
}

#[test]
fn the_end_of_a_connection_fails_its_legs() {
    let mut stage = Stage::new(options());
    let (one, two) = (stage.get(), stage.get());
    stage.heard(2);
    stage.peers[0].h2.respond(1, 200, b"", None, false);
    stage.peers[0].h2.write(1, b"half");
    stage.peers[0].flush();
    stage.until(|stage| stage.told(one).contains("half"));
    stage.peers.clear();
    assert_eq!(stage.finish(one), "new HTTP/1.1 200 OK| -1 half Reset:false");
    assert_eq!(stage.finish(two), "reused Reset:false");
    assert_eq!(stage.pool.connections().open, 0);
}

#[test]
fn streams_of_the_server_are_a_limit_and_requests_wait_in_order() {
    let server = ServerOptions { max_streams: 1, ..server_options() };
    let mut stage = Stage::with(TargetOptions { max_connections: 1, ..options() }, server);
    let first = stage.get();
    stage.heard(1);
    // The settings have come with the first answer at the latest.
    stage.peers[0].answer(1, "", b"");
    stage.finish(first);
    let legs: Vec<LegId> = (0..5).map(|_| stage.get()).collect();
    assert_eq!(stage.pool.connections().waiting, 4);
    assert_eq!(
        stage.pool.send(stage.target, b"GET / HTTP/1.1\r\nhost: a\r\n", Err(0)),
        Sent::Overflow
    );
    for (at, leg) in legs.into_iter().enumerate() {
        stage.heard(2 + at);
        stage.peers[0].answer(2 * at as u32 + 3, "", b"");
        let told = stage.finish(leg);
        assert!(told.ends_with("HTTP/1.1 200 OK| 0 end"), "{told}");
    }
    assert_eq!(stage.peers.len(), 1);
}

#[test]
fn idle_connections_expire_and_retired_targets_close() {
    let mut stage = Stage::new(TargetOptions { keep_alive: MS(50), ..options() });
    let leg = stage.get();
    stage.heard(1);
    stage.peers[0].answer(1, "", b"");
    stage.finish(leg);
    stage.until(|stage| stage.pool.connections().open == 0);
    stage.until(|stage| stage.peers[0].told.iter().any(|text| text.starts_with("closed")));
    let mut stage = Stage::new(options());
    let leg = stage.get();
    stage.heard(1);
    stage.pool.retire(stage.target);
    assert_eq!(
        stage.pool.send(stage.target, b"GET / HTTP/1.1\r\nhost: a\r\n", Err(0)),
        Sent::NoTarget
    );
    stage.peers[0].answer(1, "", b"");
    assert_eq!(stage.finish(leg), "new HTTP/1.1 200 OK| 0 end");
    stage.until(|stage| stage.pool.connections().open == 0);
}

#[test]
fn nobody_there_and_another_protocol() {
    let mut stage = Stage::new(options());
    stage.listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    stage.listener.set_nonblocking(true).expect("a mode");
    let leg = stage.get();
    assert_eq!(stage.finish(leg), "ConnectFailed:true");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    stage.pool.set_addresses(stage.target, vec![address]);
    let leg = stage.get();
    let (mut socket, _) = listener.accept().expect("a connection");
    socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").expect("room");
    assert_eq!(stage.finish(leg), "new BadResponse:false");
    assert_eq!(stage.pool.connections().open, 0);
}

#[test]
fn h_38_16_mb_each_way_against_a_side_that_does_not_move() {
    let mut stage = Stage::new(options());
    const MB16: usize = 16 << 20;
    let leg = stage.send("POST / HTTP/1.1\r\nhost: a\r\n", Err(-1));
    stage.heard(1);
    stage.until(|stage| stage.told(leg).contains("writable"));
    let piece = vec![b'x'; 16 * 1024];
    // The server reads nothing.
    stage.peers[0].h2.pause(1);
    let (mut written, mut goes_on) = (0, true);
    let mut writables = 1;
    for _ in 0..200 {
        while goes_on {
            goes_on = stage.pool.write(leg, &piece);
            written += piece.len();
        }
        stage.pump();
        let now = stage.seen.iter().filter(|(_, text)| text.contains("writable")).count();
        goes_on = now > writables;
        writables = now;
    }
    assert!(written < 1 << 20, "{written}");
    stage.peers[0].h2.resume(1);
    stage.until(|stage| {
        let now = stage.seen.iter().filter(|(_, text)| text.contains("writable")).count();
        let mut goes_on = now > writables || goes_on;
        writables = now;
        while goes_on && written < MB16 {
            goes_on = stage.pool.write(leg, &piece);
            written += piece.len();
        }
        if written >= MB16 {
            stage.pool.end(leg);
        }
        stage.peers[0].received == written && written >= MB16
    });
    // And down, to one who does not look.
    stage.pool.pause(leg);
    stage.peers[0].h2.respond(1, 200, b"", None, false);
    let mut given = 0;
    for _ in 0..200 {
        while given < MB16 && stage.peers[0].h2.write(1, &piece) {
            given += piece.len();
        }
        stage.pump();
        if stage.data > 0 {
            break;
        }
    }
    assert!(given < 1 << 20, "{given}");
    assert_eq!(stage.data, 0);
    stage.pool.resume(leg);
    let mut given = given + piece.len();
    stage.until(|stage| {
        while given < MB16 && stage.peers[0].h2.write(1, &piece) {
            given += piece.len();
        }
        stage.data > (1 << 20)
    });
    stage.peers[0].h2.end(1, b"");
    stage.until(|stage| stage.is_over(leg));
}
