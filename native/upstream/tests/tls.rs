//! The pool over TLS against real sockets; the server side runs in threads, by scripts.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use sallyport_tls::{
    Authorities, ClientContext, ClientOptions, ServerContext, ServerHost, Session, Version,
};
use sallyport_upstream::{LegId, Pool, Sent, TargetId, TargetOptions};

const MS: fn(u64) -> Duration = Duration::from_millis;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n";

/// One connection of the server.
struct Peer {
    stream: TcpStream,
    session: Session,
}

impl Peer {
    /// Waits for the end of a request head; what came, or what there was when the client ended.
    fn head(&mut self) -> String {
        let mut plain = Vec::new();
        while !plain.ends_with(b"\r\n\r\n") && self.read(&mut plain) {}
        String::from_utf8_lossy(&plain).into_owned()
    }

    /// Reads once; false at the end.
    fn read(&mut self, plain: &mut Vec<u8>) -> bool {
        let mut space = vec![0; 128 * 1024];
        let kept = self.session.copy_partial(&mut space);
        let length = self.stream.read(&mut space[kept..]).unwrap_or(0);
        if length == 0 {
            return false;
        }
        let result = self.session.receive(&mut space[..kept + length], plain);
        self.flush();
        result.is_ok() && !self.session.is_peer_closed()
    }

    fn say(&mut self, bytes: &[u8]) {
        self.session.write(bytes).expect("encrypted");
        self.flush();
    }

    fn flush(&mut self) {
        let bytes = self.session.outgoing().to_vec();
        self.session.sent(bytes.len());
        // The client may be gone.
        let _ = self.stream.write_all(&bytes);
    }

    fn close_notify(&mut self) {
        self.session.close();
        self.flush();
    }

    fn end(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

type Script = fn(&mut Peer, &Sender<String>, &Receiver<()>);

/// A server that plays one script on each connection.
struct Server {
    address: SocketAddr,
    authority: String,
    said: Receiver<String>,
    go: Vec<Sender<()>>,
    _listener: TcpListener,
    peers: Receiver<Sender<()>>,
}

fn serve(max: Version, script: Script) -> Server {
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(vec!["up.test".to_owned()]).expect("params");
    let certificate = params.self_signed(&key).expect("certificate");
    let host = ServerHost {
        names: vec!["up.test".to_owned()],
        chain: certificate.pem(),
        key: key.serialize_pem(),
        min: Version::Tls12,
        max,
        ciphers: Vec::new(),
        clients: None,
    };
    let context = ServerContext::new(vec![host], &[b"http/1.1".to_vec()]).expect("context");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, said) = channel();
    let (announce, peers) = channel();
    let accepting = listener.try_clone().expect("a descriptor");
    spawn(move || {
        while let Ok((stream, _)) = accepting.accept() {
            stream.set_read_timeout(Some(MS(5_000))).expect("a timeout");
            let (go, wait) = channel();
            if announce.send(go).is_err() {
                return;
            }
            let (tell, session) = (tell.clone(), Session::server(&context));
            spawn(move || script(&mut Peer { stream, session }, &tell, &wait));
        }
    });
    Server {
        address,
        authority: certificate.pem(),
        said,
        go: Vec::new(),
        _listener: listener,
        peers,
    }
}

impl Server {
    /// Lets the script of a connection, by its place, go on.
    fn go(&mut self, place: usize) {
        while self.go.len() <= place {
            self.go.push(self.peers.recv_timeout(MS(5_000)).expect("a connection"));
        }
        self.go[place].send(()).expect("a script that waits");
    }

    fn said(&self) -> String {
        self.said.recv_timeout(MS(5_000)).expect("a word")
    }
}

struct Stage {
    pool: Pool,
    target: TargetId,
    seen: Vec<(LegId, String)>,
    turns: usize,
}

fn options() -> TargetOptions {
    TargetOptions {
        connect: MS(2_000),
        queue: MS(2_000),
        first_byte: MS(2_000),
        idle: MS(2_000),
        keep_alive: MS(60_000),
        max_connections: 4,
        max_queued: 4,
    }
}

impl Stage {
    fn new(server: &Server, name: &str, options: TargetOptions) -> Self {
        Stage::to(server.address, Some(&server.authority), name, options)
    }

    fn to(
        address: SocketAddr,
        authority: Option<&str>,
        name: &str,
        options: TargetOptions,
    ) -> Self {
        let mut pool = Pool::new(64 * 1024).expect("descriptors");
        let target = pool.add_target(options, vec![address]).expect("room");
        let authorities = authority.map(|text| Authorities::from_pem(text).expect("authorities"));
        let alpn = vec![b"http/1.1".to_vec()];
        let context = ClientContext::new(ClientOptions { authorities, alpn }).expect("context");
        pool.set_tls(target, context, name.to_owned());
        Stage { pool, target, seen: Vec::new(), turns: 0 }
    }

    fn get(&mut self) -> LegId {
        match self.pool.send(self.target, GET, Ok(b"")) {
            Sent::Reused(leg) | Sent::Later(leg) => leg,
            other => panic!("{other:?}"),
        }
    }

    fn pump(&mut self, wait: Duration) {
        use rustix::event::{poll, PollFd, PollFlags, Timespec};
        let time = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as i64 };
        let fd = self.pool.fd();
        if poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)).expect("poll") > 0 {
            self.turns += 1;
            self.pool.turn();
        }
        self.pool.tick();
        while let Some(event) = self.pool.next_event() {
            let mut text = String::new();
            if event.connected.is_some() {
                text += "connected ";
            }
            if let Some(head) = event.head {
                text += &format!("{} ", head.status);
            }
            if event.has_data {
                let data = self.pool.data();
                text += &if data.len() > 20 {
                    format!("<{}> ", data.len())
                } else {
                    format!("{} ", String::from_utf8_lossy(data))
                };
            }
            if event.ended {
                text += "end ";
            }
            if let Some(failure) = event.failure {
                text += &format!("{:?}:{} ", failure.reason, failure.not_processed);
            }
            self.seen.push((event.leg, text));
        }
    }

    fn told(&self, leg: LegId) -> String {
        let texts: String = self
            .seen
            .iter()
            .filter(|(one, _)| *one == leg)
            .map(|(_, text)| text.as_str())
            .collect();
        texts.trim_end().to_owned()
    }

    /// Until a leg is over.
    fn finish(&mut self, leg: LegId) -> String {
        let end = Instant::now() + MS(10_000);
        while !self.told(leg).ends_with("end") && !self.told(leg).contains(':') {
            assert!(Instant::now() < end, "still {:?}", self.told(leg));
            self.pump(MS(20));
        }
        self.told(leg)
    }

    fn pump_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.pump(MS(20));
        }
    }
}

fn answer_all(peer: &mut Peer, tell: &Sender<String>, _: &Receiver<()>) {
    while !peer.head().is_empty() {
        let _ = tell.send(format!("resumed {}", peer.session.facts().is_resumed));
        peer.say(OK);
    }
}

#[test]
fn a_connection_carries_many_requests_and_the_next_resumes_its_session() {
    for version in [Version::Tls12, Version::Tls13] {
        let server = serve(version, answer_all);
        let mut stage = Stage::new(&server, "up.test", options());
        for _ in 0..3 {
            let leg = stage.get();
            assert!(stage.finish(leg).ends_with("200 ok end"));
            assert_eq!(server.said(), "resumed false");
        }
        assert_eq!(stage.pool.connections().open, 1);
        let (first, second) = (stage.get(), stage.get());
        stage.finish(first);
        stage.finish(second);
        let mut said = [server.said(), server.said()];
        said.sort();
        assert_eq!(said, ["resumed false", "resumed true"], "{version:?}");
    }
}

#[test]
fn what_peers_say_of_their_session_leaves_idle_connections_alone_and_costs_one_read() {
    let mut server = serve(Version::Tls13, |peer, tell, wait| {
        assert!(peer.head().starts_with("GET"));
        peer.say(OK);
        let _ = wait.recv();
        peer.session.update_keys();
        peer.flush();
        let _ = tell.send("told".to_owned());
        assert!(peer.head().starts_with("GET"));
        peer.say(OK);
    });
    let mut stage = Stage::new(&server, "up.test", options());
    let leg = stage.get();
    stage.finish(leg);
    server.go(0);
    server.said();
    let (reads, turns) = (stage.pool.reads(), stage.turns);
    stage.pump_for(MS(200));
    assert!(stage.pool.reads() - reads <= 2 && stage.turns - turns <= 2, "no busy loop");
    assert_eq!(stage.pool.connections().idle, 1);
    let leg = stage.get();
    assert_eq!(stage.finish(leg), "200 ok end", "the same connection");
}

/// T-31, H-34, and the trap of the end that nobody reads.
#[test]
fn idle_connections_with_news_are_dropped_and_the_loop_rests() {
    let scripts: [Script; 4] = [
        |peer, tell, wait| {
            peer.head();
            peer.say(OK);
            let _ = wait.recv();
            peer.say(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 4\r\n\r\nevil");
            let _ = tell.send(peer.head());
        },
        |peer, tell, wait| {
            peer.head();
            peer.say(OK);
            let _ = wait.recv();
            peer.close_notify();
            let _ = tell.send(peer.head());
        },
        |peer, tell, wait| {
            peer.head();
            peer.say(OK);
            let _ = wait.recv();
            peer.end();
            let _ = tell.send(peer.head());
        },
        |peer, tell, wait| {
            peer.head();
            peer.say(OK);
            let _ = wait.recv();
            let _ =
                peer.stream.write_all(b"\x17\x03\x03\x00\x20 not a record of ours, surely not..");
            let _ = tell.send(peer.head());
        },
    ];
    for script in scripts {
        let mut server = serve(Version::Tls13, script);
        let mut stage = Stage::new(&server, "up.test", options());
        let leg = stage.get();
        stage.finish(leg);
        assert_eq!(stage.pool.connections().idle, 1);
        server.go(0);
        let end = Instant::now() + MS(5_000);
        while stage.pool.connections().open > 0 && Instant::now() < end {
            stage.pump(MS(20));
        }
        assert_eq!(stage.pool.connections().open, 0);
        assert_eq!(server.said(), "", "no further request came there");
        let (reads, turns) = (stage.pool.reads(), stage.turns);
        stage.pump_for(MS(200));
        assert_eq!((stage.pool.reads() - reads, stage.turns - turns), (0, 0));
    }
}

#[test]
fn an_end_that_nobody_reads_costs_nothing() {
    let mut server = serve(Version::Tls13, |peer, _, wait| {
        peer.head();
        peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc");
        let _ = wait.recv();
        peer.say(b"defg");
        peer.end();
        sleep(MS(2_000));
    });
    let mut stage = Stage::new(&server, "up.test", options());
    let leg = stage.get();
    while !stage.told(leg).contains("abc") {
        stage.pump(MS(20));
    }
    stage.pool.pause(leg);
    server.go(0);
    stage.pump_for(MS(100));
    let (reads, turns) = (stage.pool.reads(), stage.turns);
    stage.pump_for(MS(300));
    assert_eq!((stage.pool.reads() - reads, stage.turns - turns), (0, 0));
    stage.pool.resume(leg);
    assert_eq!(stage.finish(leg), "connected 200 abc defg Reset:false");
}

/// RFC 9112 §9.8: where the end of the connection is the end of the answer, it must have been meant.
#[test]
fn an_answer_that_ends_with_its_connection() {
    let scripts: [(Script, &str); 3] = [
        (
            |peer, _, _| {
                peer.head();
                peer.say(b"HTTP/1.1 200 OK\r\n\r\nall of it");
                peer.close_notify();
                peer.end();
            },
            "connected 200 all of it end",
        ),
        (
            |peer, _, _| {
                peer.head();
                peer.say(b"HTTP/1.1 200 OK\r\n\r\na part");
                peer.end();
            },
            "connected 200 a part Reset:false",
        ),
        (
            // meant, but too early
            |peer, _, _| {
                peer.head();
                peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
                peer.close_notify();
                // and the connection stays open
                sleep(MS(1_000));
            },
            "connected 200 half Reset:false",
        ),
    ];
    for (script, expected) in scripts {
        let server = serve(Version::Tls13, script);
        let mut stage = Stage::new(&server, "up.test", options());
        let leg = stage.get();
        assert_eq!(stage.finish(leg), expected);
        assert_eq!(stage.pool.connections().open, 0);
    }
}

#[test]
fn h_56_handshakes_that_fail_have_processed_nothing() {
    let server = serve(Version::Tls13, answer_all);
    let mut stage = Stage::new(&server, "other.test", options());
    let leg = stage.get();
    assert_eq!(stage.finish(leg), "TlsFailed:true", "another name");
    let mut stage = Stage::to(server.address, None, "other.test", options());
    let leg = stage.get();
    assert_eq!(stage.finish(leg), "connected 200 ok end", "not verified");
    for (answer, reason) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "TlsFailed:true"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "TlsIncompatible:true"),
        (b"", "TlsFailed:true"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(answer);
        });
        let mut stage = Stage::to(address, None, "up.test", options());
        let leg = stage.get();
        assert_eq!(stage.finish(leg), reason, "{answer:?}");
        assert_eq!(stage.pool.connections().open, 0);
    }
}

#[test]
fn h_80_the_handshake_counts_as_connecting() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut stage =
        Stage::to(address, None, "up.test", TargetOptions { connect: MS(200), ..options() });
    let leg = stage.get();
    assert_eq!(stage.finish(leg), "ConnectTimeout:true");
}

#[test]
fn large_bodies_both_ways() {
    let server = serve(Version::Tls13, |peer, tell, _| {
        let mut plain = Vec::new();
        while plain.len() < 3_000_000 && peer.read(&mut plain) {}
        let _ = tell.send(plain.len().to_string());
        let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n".to_vec();
        answer.resize(answer.len() + 3_000_000, b'x');
        peer.say(&answer);
    });
    let mut stage = Stage::new(&server, "up.test", options());
    let head = b"PUT / HTTP/1.1\r\nhost: a\r\n";
    let body = vec![b'y'; 3_000_000];
    let Sent::Later(leg) = stage.pool.send(stage.target, head, Ok(&body)) else {
        panic!("not sent")
    };
    let told = stage.finish(leg);
    assert!(server.said().parse::<usize>().expect("a number") >= 3_000_000);
    let bytes: usize = told
        .split_whitespace()
        .filter_map(|word| word.strip_prefix('<')?.strip_suffix('>')?.parse::<usize>().ok())
        .sum();
    assert!((2_999_900..=3_000_000).contains(&bytes), "{bytes}");
}

/// H-38: what waits for a peer that does not read is bounded, and everything arrives in the end.
#[test]
fn a_peer_that_does_not_read_stops_the_writer() {
    let mut server = serve(Version::Tls13, |peer, tell, wait| {
        let mut plain = Vec::new();
        while peer.session.is_handshaking() && peer.read(&mut plain) {}
        let _ = wait.recv();
        while !plain.ends_with(b"0\r\n\r\n") && peer.read(&mut plain) {}
        let _ = tell.send(plain.len().to_string());
        peer.say(OK);
    });
    let mut stage = Stage::new(&server, "up.test", options());
    let head = b"POST / HTTP/1.1\r\nhost: a\r\n";
    let Sent::Later(leg) = stage.pool.send(stage.target, head, Err(-1)) else { panic!("not sent") };
    while !stage.told(leg).contains("connected") {
        stage.pump(MS(20));
    }
    // 200 kB at a time is more than a session takes at once
    let piece = vec![b'z'; 200_000];
    let mut written = 0;
    while stage.pool.write(leg, &piece) {
        written += piece.len();
        stage.pump(MS(1));
        assert!(written < 100_000_000, "nobody stops the writer");
    }
    written += piece.len();
    server.go(0);
    stage.pump_for(MS(100));
    stage.pool.end(leg);
    assert_eq!(stage.finish(leg), "connected 200 ok end");
    assert!(server.said().parse::<usize>().expect("a number") > written);
}
