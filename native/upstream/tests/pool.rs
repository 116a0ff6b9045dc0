//! The pool against real sockets, driven by a plain loop: the server side is scripted in the same thread.

use fastrand::Rng;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sallyport_upstream::{Event, LegId, Pool, RequestHead, Sent, TargetId, TargetOptions, Use};

const MS: fn(u64) -> Duration = Duration::from_millis;

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

/// A pool with one target, and its server.
struct Stage {
    pool: Pool,
    listener: TcpListener,
    target: TargetId,
    /// What became of each leg, as events come.
    seen: Vec<(LegId, String)>,
    pumps: usize,
}

impl Stage {
    fn new(options: TargetOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut pool = Pool::new(64 * 1024).expect("descriptors");
        let target = pool.add_target(options, vec![address]).expect("room");
        Stage { pool, listener, target, seen: Vec::new(), pumps: 0 }
    }

    /// Waits at most so long for the pool's descriptor, then takes all events.
    fn pump(&mut self, wait: Duration) {
        use rustix::event::{poll, PollFd, PollFlags, Timespec};
        let time = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as i64 };
        let fd = self.pool.fd();
        let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)).expect("poll");
        if ready == 0 {
            return;
        }
        self.pumps += 1;
        self.pool.turn();
        while let Some(event) = self.pool.next_event() {
            let text = self.describe(&event);
            self.seen.push((event.leg, text));
        }
    }

    fn describe(&self, event: &Event) -> String {
        let mut parts: Vec<String> = Vec::new();
        if let Some(reused) = event.connected {
            parts.push(if reused { "reused" } else { "new" }.to_owned());
        }
        if event.writable {
            parts.push("writable".to_owned());
        }
        if let Some(head) = event.head {
            parts.push(format!("{}:{}", head.status, head.body_length));
        }
        if event.has_data {
            let data = self.pool.data();
            parts.push(if data.len() > 20 {
                format!("<{}>", data.len())
            } else {
                String::from_utf8_lossy(data).into_owned()
            });
        }
        if event.ended {
            parts.push("end".to_owned());
        }
        if let Some(failure) = &event.failure {
            parts.push(format!("{:?}:{}", failure.reason, failure.not_processed));
        }
        parts.join(" ")
    }

    fn pump_until(&mut self, mut is_done: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + MS(5_000);
        while !is_done(self) {
            assert!(Instant::now() < end, "too late: {:?}", self.seen);
            self.pump(MS(20));
            self.pool.tick();
        }
    }

    /// Everything told about a leg so far.
    fn told(&self, leg: LegId) -> String {
        let parts: Vec<&str> = self
            .seen
            .iter()
            .filter(|(one, _)| *one == leg)
            .map(|(_, text)| text.as_str())
            .collect();
        parts.join(" ")
    }

    fn send(&mut self, body: Result<&[u8], i64>) -> LegId {
        match self.pool.send(self.target, b"GET / HTTP/1.1\r\nhost: a\r\n", body) {
            Sent::Later(leg) | Sent::Reused(leg) => leg,
            other => panic!("{other:?}"),
        }
    }

    fn get(&mut self) -> LegId {
        self.send(Err(0))
    }

    fn accept(&mut self) -> TcpStream {
        let (stream, _) = self.listener.accept().expect("a connection");
        stream.set_read_timeout(Some(MS(2_000))).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// Accepts, connects through, and reads the request.
    fn serve(&mut self, leg: LegId) -> TcpStream {
        let mut stream = self.accept();
        self.pump_until(|stage| stage.told(leg).contains("new"));
        read_head(&mut stream);
        stream
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).expect("a head"), 1, "closed inside {text:?}");
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("text")
}

/// Whether our side has closed.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(MS(500))).expect("a timeout");
    match stream.read(&mut [0; 64]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn one_event_per_answer_and_the_last_used_connection_first() {
    let mut stage = Stage::new(options());
    let (a, b) = (stage.get(), stage.get());
    let mut first = stage.serve(a);
    let mut second = stage.serve(b);
    first.write_all(OK).expect("written");
    stage.pump_until(|stage| stage.told(a).contains("end"));
    second.write_all(OK).expect("written");
    stage.pump_until(|stage| stage.told(b).contains("end"));
    assert_eq!(stage.told(a), "new 200:2 ok end");
    assert_eq!(stage.pool.connections().idle, 2);
    let Sent::Reused(third) = stage.pool.send(stage.target, b"GET /3 HTTP/1.1\r\n", Err(0)) else {
        panic!("an idle connection was there")
    };
    assert_eq!(read_head(&mut second), "GET /3 HTTP/1.1\r\n\r\n");
    second.write_all(OK).expect("written");
    stage.pump_until(|stage| stage.told(third).contains("end"));
    assert_eq!(stage.told(third), "200:2 ok end");
}

#[test]
fn h_28_framing_of_requests() {
    let mut stage = Stage::new(options());
    let mut check_for = |purpose: Use, head: &[u8], body: Result<&[u8], i64>, wanted: &str| {
        let leg = match stage.pool.send_for(stage.target, RequestHead::whole(head), body, purpose) {
            Sent::Later(leg) | Sent::Reused(leg) => leg,
            other => panic!("{other:?}"),
        };
        let mut stream = stage.accept();
        stage.pump_until(|stage| stage.told(leg).contains("new"));
        let text = read_head(&mut stream);
        assert_eq!(text.replace("\r\n", "|"), wanted);
        stage.pool.abort(leg);
    };
    // What the client said about a body that is not there, or at hand.
    let zero = Use { says_zero: true, ..Use::default() };
    check_for(zero, b"DELETE / HTTP/1.1\r\n", Ok(b""), "DELETE / HTTP/1.1|content-length: 0||");
    let chunked = Use { chunked: true, ..Use::default() };
    let wanted = "PUT / HTTP/1.1|transfer-encoding: chunked||";
    check_for(chunked, b"PUT / HTTP/1.1\r\n", Ok(b"abc"), wanted);
    let mut check = |head: &[u8], body: Result<&[u8], i64>, wanted: &str| {
        check_for(Use::default(), head, body, wanted);
    };
    check(b"GET / HTTP/1.1\r\na: b\r\n", Err(0), "GET / HTTP/1.1|a: b||");
    check(b"POST / HTTP/1.1\r\n", Err(0), "POST / HTTP/1.1|content-length: 0||");
    check(b"GET / HTTP/1.1\r\n", Ok(b"abc"), "GET / HTTP/1.1|content-length: 3||");
    check(b"GET / HTTP/1.1\r\n", Err(70_000), "GET / HTTP/1.1|content-length: 70000||");
    check(b"GET / HTTP/1.1\r\n", Err(-1), "GET / HTTP/1.1|transfer-encoding: chunked||");
}

#[test]
fn h_125_a_body_at_hand_stays_in_chunks() {
    for (body, wanted) in [(&b"hello"[..], "5\r\nhello\r\n0\r\n\r\n"), (b"", "0\r\n\r\n")] {
        let mut stage = Stage::new(options());
        let purpose = Use { chunked: true, ..Use::default() };
        let head = b"POST / HTTP/1.1\r\n";
        let (Sent::Later(leg) | Sent::Reused(leg)) =
            stage.pool.send_for(stage.target, RequestHead::whole(head), Ok(body), purpose)
        else {
            panic!("not sent")
        };
        let mut stream = stage.serve(leg);
        let mut got = vec![0; wanted.len()];
        stream.read_exact(&mut got).expect("the body");
        assert_eq!(String::from_utf8_lossy(&got), wanted);
        stream.write_all(OK).expect("written");
        stage.pump_until(|stage| stage.told(leg).contains("end"));
        assert_eq!(stage.pool.connections().idle, 1);
    }
}

#[test]
fn a_streamed_body_in_chunks() {
    let mut stage = Stage::new(options());
    let leg = stage.send(Err(-1));
    let mut stream = stage.serve(leg);
    assert_eq!(stage.told(leg), "new writable");
    for piece in [&b"hello"[..], b"", &[b'x'; 300]] {
        assert!(stage.pool.write(leg, piece));
    }
    stage.pool.end(leg);
    let wanted = format!("5\r\nhello\r\n12c\r\n{}\r\n0\r\n\r\n", "x".repeat(300));
    let mut got = vec![0; wanted.len()];
    stream.read_exact(&mut got).expect("the body");
    assert_eq!(String::from_utf8_lossy(&got), wanted);
    stream.write_all(OK).expect("written");
    stage.pump_until(|stage| stage.told(leg).contains("end"));
    assert_eq!(stage.pool.connections().idle, 1);
}

#[test]
fn h_26_trailers_follow_a_chunked_body_and_no_other() {
    for (length, wanted) in [(-1, "3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"), (3, "abc")] {
        let mut stage = Stage::new(options());
        let leg = stage.send(Err(length));
        let mut stream = stage.serve(leg);
        assert!(stage.pool.write(leg, b"abc"));
        stage.pool.end_with(leg, b"x-sum: 7\r\n");
        let mut got = vec![0; wanted.len()];
        stream.read_exact(&mut got).expect("the body");
        assert_eq!(String::from_utf8_lossy(&got), wanted);
        stream.write_all(OK).expect("written");
        stage.pump_until(|stage| stage.told(leg).contains("end"));
        assert_eq!(stage.pool.connections().idle, 1);
    }
}

#[test]
fn h_30_a_body_that_is_not_what_was_announced_breaks_the_request() {
    let mut stage = Stage::new(options());
    let short = stage.send(Err(10));
    let mut stream = stage.serve(short);
    stage.pool.write(short, b"abc");
    stage.pool.end(short);
    stage.pump_until(|stage| stage.told(short).contains("Reset"));
    let mut got = Vec::new();
    assert_eq!(stream.read_to_end(&mut got).expect("an end"), 3);
    let long = stage.send(Err(2));
    let mut stream = stage.serve(long);
    stage.pool.write(long, b"abc");
    stage.pump_until(|stage| stage.told(long).contains("Reset"));
    assert!(is_closed(&mut stream));
}

#[test]
fn h_122_an_answer_before_the_end_of_the_request_ends_the_connection() {
    let mut stage = Stage::new(options());
    let leg = stage.send(Err(1_000_000));
    let mut stream = stage.serve(leg);
    stage.pool.write(leg, &[b'x'; 1000]);
    stream.write_all(OK).expect("written");
    stage.pump_until(|stage| stage.told(leg).contains("end"));
    assert_eq!(stage.pool.connections().open, 0);
    assert!(stage.pool.write(leg, b"more"), "nothing happens to a leg that is over");
}

#[test]
fn t_31_what_comes_on_an_idle_connection_kills_it() {
    for unasked in [true, false] {
        let mut stage = Stage::new(options());
        let leg = stage.get();
        let mut stream = stage.serve(leg);
        stream.write_all(OK).expect("written");
        stage.pump_until(|stage| stage.told(leg).contains("end"));
        assert_eq!(stage.pool.connections().idle, 1);
        if unasked {
            stream.write_all(b"HTTP/1.1 408 X\r\n\r\n").expect("written");
        } else {
            drop(stream);
        }
        stage.pump_until(|stage| stage.pool.connections().open == 0);
    }
}

#[test]
fn t_31_unasked_bytes_are_seen_even_when_the_loop_has_not_turned() {
    let mut stage = Stage::new(options());
    let leg = stage.get();
    let mut stream = stage.serve(leg);
    stream.write_all(OK).expect("written");
    stage.pump_until(|stage| stage.told(leg).contains("end"));
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").expect("written");
    sleep(MS(30));
    // No pump in between: the request must not meet them.
    assert!(matches!(stage.pool.send(stage.target, b"GET / HTTP/1.1\r\n", Err(0)), Sent::Later(_)));
    assert!(is_closed(&mut stream));
}

#[test]
fn requests_that_are_postponed_leave_together() {
    let mut stage = Stage::new(options());
    let first: Vec<LegId> = (0..2).map(|_| stage.get()).collect();
    let mut streams: Vec<TcpStream> = first.iter().map(|leg| stage.serve(*leg)).collect();
    for stream in &mut streams {
        stream.write_all(OK).expect("written");
    }
    stage.pump_until(|stage| first.iter().all(|leg| stage.told(*leg).contains("end")));
    stage.pool.postpone(true);
    let second: Vec<LegId> = (0..2).map(|_| stage.get()).collect();
    for stream in &mut streams {
        stream.set_read_timeout(Some(MS(20))).expect("a timeout");
        assert_eq!(stream.read(&mut [0]).expect_err("nothing yet").kind(), ErrorKind::WouldBlock);
    }
    stage.pool.send_postponed();
    for stream in &mut streams {
        read_head(stream);
        stream.write_all(OK).expect("written");
    }
    stage.pump_until(|stage| second.iter().all(|leg| stage.told(*leg).contains("200:2 ok end")));
}

#[test]
fn t_31_what_comes_before_a_postponed_request_is_not_its_answer() {
    for unasked in [true, false] {
        let mut stage = Stage::new(options());
        let leg = stage.get();
        let mut stream = stage.serve(leg);
        stream.write_all(OK).expect("written");
        stage.pump_until(|stage| stage.told(leg).contains("end"));
        stage.pool.postpone(true);
        let next = stage.send(Ok(b"once"));
        if unasked {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").expect("written");
        } else {
            drop(stream);
        }
        // Nothing of it was sent, so that it may be repeated.
        stage.pump_until(|stage| stage.told(next).contains("Reset:true"));
        stage.pool.send_postponed();
        assert_eq!(stage.pool.connections().open, 0);
    }
}

#[test]
fn h_34_bytes_behind_an_answer_end_the_connection() {
    let mut stage = Stage::new(options());
    let leg = stage.get();
    let mut stream = stage.serve(leg);
    stream.write_all(&[OK, OK].concat()).expect("written");
    stage.pump_until(|stage| stage.told(leg).contains("end"));
    assert_eq!((stage.told(leg).as_str(), stage.pool.connections().open), ("new 200:2 ok end", 0));
}

/// The trap of level-triggered readiness: a peer's end of file that nobody reads must cost nothing.
#[test]
fn an_unread_end_of_file_costs_no_turn_of_the_loop() {
    let mut stage = Stage::new(options());
    // Paused in the middle of a body, and the peer has ended behind more bytes than were read.
    let leg = stage.get();
    let mut stream = stage.serve(leg);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc").expect("written");
    stage.pump_until(|stage| stage.told(leg).contains("abc"));
    stage.pool.pause(leg);
    stream.write_all(b"defg").expect("written");
    drop(stream);
    // Idle, closed by the peer.
    let other = stage.get();
    let mut idle = stage.serve(other);
    idle.write_all(OK).expect("written");
    stage.pump_until(|stage| stage.told(other).contains("end"));
    drop(idle);
    stage.pump_until(|stage| {
        stage.pool.connections() == sallyport_upstream::Connections { open: 1, idle: 0, waiting: 0 }
    });
    sleep(MS(20));
    stage.pump(MS(20));
    let (pumps, reads) = (stage.pumps, stage.pool.reads());
    let end = Instant::now() + MS(300);
    while Instant::now() < end {
        stage.pump(MS(10));
    }
    assert_eq!(
        (stage.pumps - pumps, stage.pool.reads() - reads),
        (0, 0),
        "the loop turned for nothing"
    );
    // What came before the end is not lost, and the end is seen.
    stage.pool.resume(leg);
    stage.pump_until(|stage| stage.told(leg).contains("Reset"));
    assert_eq!(stage.told(leg), "new 200:100 abc defg Reset:false");
}

#[test]
fn connections_are_opened_only_for_requests() {
    let mut stage = Stage::new(options());
    stage.listener.set_nonblocking(true).expect("non-blocking");
    for _ in 0..5 {
        stage.pump(MS(5));
        stage.pool.tick();
    }
    assert!(stage.listener.accept().is_err());
    assert_eq!(stage.pool.connections().open, 0);
}

#[test]
fn queue_overflow_and_hand_over() {
    let mut stage = Stage::new(TargetOptions { max_connections: 1, max_queued: 2, ..options() });
    let (a, b, c) = (stage.get(), stage.get(), stage.get());
    assert_eq!(stage.pool.send(stage.target, b"GET / HTTP/1.1\r\n", Err(0)), Sent::Overflow);
    // Who leaves the queue frees a place.
    stage.pool.abort(b);
    let d = stage.get();
    let mut stream = stage.serve(a);
    for leg in [a, c, d] {
        if leg != a {
            read_head(&mut stream);
        }
        stream.write_all(OK).expect("written");
        stage.pump_until(|stage| stage.told(leg).contains("end"));
    }
    assert_eq!(stage.told(b), "");
    assert_eq!(stage.told(c), "reused 200:2 ok end");
    // A connection that dies hands its place on, too.
    let (e, f) = (stage.get(), stage.get());
    drop(stream);
    stage.pump_until(|stage| stage.told(e).contains("Reset"));
    let mut stream = stage.serve(f);
    stream.write_all(OK).expect("written");
    stage.pump_until(|stage| stage.told(f).contains("end"));
}

#[test]
fn deadlines_and_their_reasons() {
    let quick = TargetOptions { first_byte: MS(100), idle: MS(100), ..options() };
    let mut stage = Stage::new(TargetOptions { max_connections: 2, ..quick });
    let silent = stage.get();
    let mut stream = stage.serve(silent);
    let stalled = stage.get();
    let mut other = stage.serve(stalled);
    other.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab").expect("written");
    let waiting = stage.get();
    stage.pump_until(|stage| {
        stage.told(silent).contains(':') && stage.told(stalled).contains("Idle")
    });
    assert_eq!(stage.told(silent), "new FirstByteTimeout:false");
    assert_eq!(stage.told(stalled), "new 200:5 ab IdleTimeout:false");
    assert!(is_closed(&mut stream) && is_closed(&mut other));
    stage.pump_until(|stage| !stage.told(waiting).is_empty());
    // Idle time does not run while the receiver is the slow one.
    stage.pool.abort(waiting);
    let slow = stage.get();
    let _ = stage.accept();
    let mut stream = stage.serve(slow);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").expect("written");
    stage.pump_until(|stage| stage.told(slow).contains("ab"));
    stage.pool.pause(slow);
    let end = Instant::now() + MS(300);
    while Instant::now() < end {
        stage.pump(MS(20));
        stage.pool.tick();
    }
    stream.write_all(b"cd").expect("written");
    stage.pool.resume(slow);
    stage.pump_until(|stage| stage.told(slow).contains("end"));
    assert_eq!(stage.told(slow), "new 200:4 ab cd end");
}

#[test]
fn a_request_waits_in_the_queue_only_so_long() {
    let mut stage = Stage::new(TargetOptions { queue: MS(100), max_connections: 1, ..options() });
    let first = stage.get();
    let _stream = stage.serve(first);
    let waiting = stage.get();
    assert_eq!(stage.pool.connections().waiting, 1);
    stage.pump_until(|stage| !stage.told(waiting).is_empty());
    assert_eq!(stage.told(waiting), "Overflow:true");
    assert_eq!(stage.pool.connections().waiting, 0);
    assert_eq!(stage.told(first), "new", "its neighbour is not disturbed");
}

#[test]
fn h_82_idle_connections_expire_before_the_upstream_closes_them() {
    let mut stage = Stage::new(TargetOptions { keep_alive: MS(100), ..options() });
    let leg = stage.get();
    let mut stream = stage.serve(leg);
    stream.write_all(OK).expect("written");
    stage.pump_until(|stage| stage.told(leg).contains("end"));
    assert_eq!(stage.pool.connections().idle, 1);
    stage.pump_until(|stage| stage.pool.connections().open == 0);
    let leg = stage.get();
    let mut stream = stage.serve(leg);
    let hint = b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(hint).expect("written");
    stage.pump_until(|stage| stage.told(leg).contains("end"));
    assert_eq!(stage.pool.connections().open, 0);
}

#[test]
fn failures_of_connecting_and_the_next_address() {
    let dead: SocketAddr = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    let mut stage = Stage::new(options());
    let alive = stage.listener.local_addr().expect("an address");
    stage.pool.set_addresses(stage.target, vec![dead]);
    let leg = stage.get();
    stage.pump_until(|stage| !stage.told(leg).is_empty());
    assert_eq!(stage.told(leg), "ConnectFailed:true");
    stage.pool.set_addresses(stage.target, vec![dead, alive]);
    let leg = stage.get();
    // The second attempt begins in the loop.
    stage.pump_until(|stage| stage.told(leg).contains("new"));
    let mut stream = stage.accept();
    assert!(read_head(&mut stream).starts_with("GET / "));
}

#[test]
fn a_reset_and_a_close_before_the_answer() {
    let mut stage = Stage::new(options());
    let leg = stage.get();
    drop(stage.serve(leg));
    stage.pump_until(|stage| stage.told(leg).contains("Reset"));
    assert_eq!(stage.told(leg), "new Reset:false");
    assert_eq!(stage.pool.connections().open, 0);
}

#[test]
fn a_bad_answer_tells_no_head() {
    let mut stage = Stage::new(options());
    let leg = stage.get();
    let mut stream = stage.serve(leg);
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        .expect("written");
    stage.pump_until(|stage| stage.told(leg).contains("Bad"));
    assert_eq!(stage.told(leg), "new BadResponse:false");
    assert!(is_closed(&mut stream));
}

#[test]
fn retired_targets_close_what_idles_and_finish_what_runs() {
    let mut stage = Stage::new(options());
    let (a, b) = (stage.get(), stage.get());
    let mut first = stage.serve(a);
    let mut second = stage.serve(b);
    first.write_all(OK).expect("written");
    stage.pump_until(|stage| stage.told(a).contains("end"));
    stage.pool.retire(stage.target);
    assert!(is_closed(&mut first));
    second.write_all(OK).expect("written");
    stage.pump_until(|stage| stage.told(b).contains("end"));
    assert!(is_closed(&mut second));
    assert_eq!(stage.pool.connections().open, 0);
    assert_eq!(stage.pool.send(stage.target, b"GET / HTTP/1.1\r\n", Err(0)), Sent::NoTarget);
}

/// Resident bytes of this process.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
}

#[test]
fn h_38_64_mb_each_way_against_a_side_that_does_not_move() {
    const TOTAL: usize = 64 * 1024 * 1024;
    let block = vec![b'x'; 64 * 1024];
    let mut stage = Stage::new(options());
    // Up: the server reads nothing.
    let leg = stage.send(Err(TOTAL as i64));
    let mut stream = stage.serve(leg);
    let before = resident_bytes();
    let mut written = 0;
    while stage.pool.write(leg, &block) {
        written += block.len();
        assert!(written < TOTAL, "nothing stops the writer");
    }
    written += block.len();
    stage.pump(MS(20));
    assert!(resident_bytes() - before < 4 << 20, "{} bytes more", resident_bytes() - before);
    // It reads: everything arrives.
    let reader = std::thread::spawn(move || {
        let mut space = vec![0; 1 << 20];
        let mut received = 0;
        while received < TOTAL {
            received += stream.read(&mut space).expect("the body");
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {TOTAL}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("written");
        let piece = vec![b'y'; 1 << 20];
        for _ in 0..TOTAL / piece.len() {
            stream.write_all(&piece).expect("written");
        }
        received
    });
    while written < TOTAL {
        let told = stage.seen.len();
        stage.pump_until(|stage| stage.seen[told..].iter().any(|(_, text)| text == "writable"));
        while written < TOTAL && stage.pool.write(leg, &block) {
            written += block.len();
        }
        if written < TOTAL {
            written += block.len();
        }
    }
    stage.pool.end(leg);
    // Down: we read nothing after the head.
    stage.pump_until(|stage| stage.told(leg).contains("200:"));
    stage.pool.pause(leg);
    let before = resident_bytes();
    for _ in 0..20 {
        stage.pump(MS(20));
    }
    assert!(resident_bytes().saturating_sub(before) < 4 << 20);
    stage.pool.resume(leg);
    stage.pump_until(|stage| stage.told(leg).contains("end"));
    assert_eq!(reader.join().expect("the server"), TOTAL);
    let told = stage.told(leg);
    let bytes: usize = told.split(['<', '>']).filter_map(|part| part.parse::<usize>().ok()).sum();
    assert!(bytes > TOTAL - 20 * 20 && bytes <= TOTAL, "{bytes} bytes");
}

/// Random servers and random calls: every leg ends exactly once, nothing is left over.
#[test]
fn every_leg_ends_once_whatever_both_sides_do() {
    for postpones in [false, true] {
        every_leg_ends_once(postpones);
    }
}

fn every_leg_ends_once(postpones: bool) {
    let mut generator = Rng::with_seed(0x2545_f491_4f6c_dd1d);
    let mut random = |most: u64| generator.u64(..most);
    let mut stage = Stage::new(TargetOptions {
        max_connections: 3,
        max_queued: 5,
        first_byte: MS(150),
        idle: MS(150),
        ..options()
    });
    stage.listener.set_nonblocking(true).expect("non-blocking");
    stage.pool.postpone(postpones);
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut alive: Vec<LegId> = Vec::new();
    let (mut sent, mut aborted) = (0, 0);
    for _ in 0..6_000 {
        match random(12) {
            0..=2 => match stage.pool.send(
                stage.target,
                b"PUT / HTTP/1.1\r\n",
                [Err(0), Err(-1), Err(5)][random(3) as usize],
            ) {
                Sent::Later(leg) | Sent::Reused(leg) => {
                    alive.push(leg);
                    sent += 1;
                }
                other => assert_eq!(other, Sent::Overflow),
            },
            3 if !alive.is_empty() => {
                let leg = alive.swap_remove(random(alive.len() as u64) as usize);
                aborted += 1;
                stage.pool.abort(leg);
                stage.seen.retain(|(one, _)| *one != leg);
            }
            4 if !alive.is_empty() => {
                let leg = alive[random(alive.len() as u64) as usize];
                match random(4) {
                    0 => drop(stage.pool.write(leg, b"hello")),
                    1 => stage.pool.end(leg),
                    2 => stage.pool.pause(leg),
                    _ => stage.pool.resume(leg),
                }
            }
            5 | 6 => {
                while let Ok((stream, _)) = stage.listener.accept() {
                    stream.set_nonblocking(true).expect("non-blocking");
                    streams.push(stream);
                }
            }
            7..=9 if !streams.is_empty() => {
                let at = random(streams.len() as u64) as usize;
                let _ = streams[at].read(&mut [0; 4096]);
                let answers: [&[u8]; 6] = [
                    OK,
                    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n",
                    b"0\r\n\r\n",
                    b"cde",
                    b"HTTP/1.1 200 OK\r\n\r\nx",
                ];
                let _ = streams[at].write(answers[random(6) as usize]);
            }
            10 if !streams.is_empty() => {
                drop(streams.swap_remove(random(streams.len() as u64) as usize));
            }
            _ => {
                stage.pool.send_postponed();
                stage.pump(MS(1));
            }
        }
        if random(50) == 0 {
            stage.pool.tick();
        }
        // A paused leg has no deadline: somebody resumes it in the end.
        let over: Vec<LegId> = stage
            .seen
            .iter()
            .filter(|(_, text)| {
                text.contains("end") || text.contains(":true") || text.contains(":false")
            })
            .map(|(leg, _)| *leg)
            .collect();
        alive.retain(|leg| !over.contains(leg));
    }
    for leg in alive.clone() {
        stage.pool.resume(leg);
        stage.pool.end(leg);
    }
    stage.pool.send_postponed();
    drop(streams);
    stage.pump_until(|stage| stage.pool.legs() == 0);
    stage.pump(MS(5));
    let mut ends = std::collections::HashMap::new();
    for (leg, text) in &stage.seen {
        let is_end = text.contains("end") || text.contains(":true") || text.contains(":false");
        *ends.entry(*leg).or_insert(0) += usize::from(is_end);
    }
    assert!(ends.values().all(|count| *count <= 1), "a leg ended twice");
    assert_eq!(ends.values().sum::<usize>(), sent - aborted, "of {sent} legs, {aborted} aborted");
    assert!(sent > 300 && stage.pool.connections().open <= 3);
}
