//! The server's side of a connection, without sockets: bytes in, bytes out, events.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream};

use crate::drive::{self, Flag, Ready, Received, Sending, StreamFlag, Wire};
use crate::gate::{self, Gate, Note};
use crate::request::{Refusal, RequestHead, RequestLimits};

/// Bytes given to h2 per stream ahead of the windows.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// Input that waits for h2 above which no more is taken.
const MAX_INPUT: usize = 64 * 1024;

/// Limits and timers of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// What a request may be.
    pub request: RequestLimits,
    /// H-103: at a time; beyond it streams are refused.
    pub max_streams: u32,
    /// Bytes that a stream's body may bring before somebody takes them (H-38).
    pub stream_window: u32,
    /// The same of all streams together.
    pub connection_window: u32,
    /// H-38: bytes of an answer that may wait per stream before `write` says stop.
    pub buffer_bytes: usize,
    /// For the preface, and for a header block in several frames; zero = off (H-80).
    pub head_timeout: Duration,
    /// The window in which a client must take so much of an answer that waits for it; zero = off (H-83).
    pub stall_timeout: Duration,
    /// How much: bytes per second on the average of such a window, and one byte at least.
    pub stall_bytes_per_second: u64,
}

/// What happens on a connection. A stream's number is not used again.
#[derive(Debug)]
pub enum ServerEvent {
    /// A request; its body follows unless `body_length` is 0.
    Request(u32, Box<RequestHead>),
    /// A request that goes no further. When it is malformed its stream has been reset; otherwise it waits for
    /// [`ServerConnection::respond`], and nothing of its body is told.
    Refused(u32, Box<Refusal>),
    /// Body bytes.
    Data(u32, Bytes),
    /// The request is complete; with its trailers as lines.
    End(u32, Vec<u8>),
    /// `write` may be called again.
    Writable(u32),
    /// The last byte of the answer has been handed out; nothing more comes of the stream.
    Done(u32),
    /// The stream is over before its time, with the code of its reset: by the client, or by us for an error of the
    /// client, or with the connection.
    Reset(u32, u32),
    /// The connection is over once its output has been sent; with the code of its GOAWAY. The last event.
    Closed(u32),
}

enum State {
    Handshake(Box<Handshake<Wire, Bytes>>),
    Open(Box<Connection<Wire, Bytes>>),
    Closed,
}

struct Stream {
    flag: Arc<StreamFlag>,
    waker: Waker,
    respond: SendResponse<Bytes>,
    receiving: Option<RecvStream>,
    sending: Option<Sending>,
    is_paused: bool,
    /// It goes on as long as it likes.
    is_tunnel: bool,
    /// Nothing of the body is told.
    is_refused: bool,
    has_answer: bool,
    /// Since when the client's progress is measured; `None` = nothing waits for it.
    moved: Option<Instant>,
    /// Bytes that have left since then.
    moved_bytes: u64,
}

/// See the module.
pub struct ServerConnection {
    options: ServerOptions,
    gate: Rc<RefCell<Gate>>,
    state: State,
    flag: Arc<Flag>,
    waker: Waker,
    ready: Ready,
    streams: HashMap<u32, Stream>,
    events: VecDeque<ServerEvent>,
    /// What was told of streams before h2 announced them.
    early: HashMap<u32, Vec<Note>>,
    /// Since when a head or the preface is incomplete.
    head_began: Option<Instant>,
    is_draining: bool,
    is_faulty: bool,
    code: u32,
    now: Instant,
}

impl ServerConnection {
    /// For a new connection on which nothing has been read.
    pub fn new(options: ServerOptions, now: Instant) -> Self {
        let gate = Rc::new(RefCell::new(Gate::server(options.request)));
        let mut builder = Builder::new();
        builder
            .max_concurrent_streams(options.max_streams)
            .initial_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window)
            .max_header_list_size(u32::try_from(options.request.head_bytes).unwrap_or(u32::MAX))
            .max_send_buffer_size(MAX_SEND_BUFFER)
            // The gate counts errors and resets.
            .max_local_error_reset_streams(None)
            .max_pending_accept_reset_streams(options.max_streams as usize);
        if options.request.extended_connect {
            builder.enable_connect_protocol();
        }
        let flag = Flag::new();
        ServerConnection {
            options,
            state: State::Handshake(Box::new(builder.handshake(Wire(Rc::clone(&gate))))),
            gate,
            waker: Waker::from(Arc::clone(&flag)),
            flag,
            ready: Ready::default(),
            streams: HashMap::new(),
            events: VecDeque::new(),
            early: HashMap::new(),
            head_began: Some(now),
            is_draining: false,
            is_faulty: false,
            code: 0,
            now,
        }
    }

    /// Whether `receive` may be called: what came before has been looked at.
    pub fn wants_input(&self) -> bool {
        let gate = self.gate.borrow();
        gate.input.len() - gate.in_at < MAX_INPUT && gate.fault.is_none()
    }

    /// Bytes of the client. Then ask for events until there are none.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        self.now = now;
        let mut gate = self.gate.borrow_mut();
        gate.receive(bytes, now);
        let is_inside = gate.is_inside_head();
        self.head_began = if is_inside { self.head_began.or(Some(now)) } else { None };
        self.flag.raise();
    }

    /// The client has ended its half.
    pub fn receive_end(&mut self) {
        self.gate.borrow_mut().is_end_of_input = true;
        self.flag.raise();
    }

    /// Hands out bytes for the wire: `send` returns how many it took, fewer than all when it is full. True: nothing is
    /// left for now.
    pub fn transmit(&mut self, mut send: impl FnMut(&[u8]) -> usize) -> bool {
        loop {
            self.drive();
            if self.gate.borrow().output().is_empty() {
                self.flush_ready();
            }
            let mut gate = self.gate.borrow_mut();
            let length = gate.output().len();
            if length == 0 {
                return true;
            }
            let taken = send(gate.output());
            if gate.sent(taken) {
                gate.is_blocked = false;
                self.flag.raise();
            }
            if taken < length {
                return false;
            }
        }
    }

    /// Whether bytes wait for the wire.
    pub fn has_output(&mut self) -> bool {
        self.drive();
        !self.gate.borrow().output().is_empty()
    }

    /// Whether `next_event` has something to tell without further input.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty() || !drive::lock(&self.ready).is_empty()
    }

    /// Streams that are not over.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether the last event has been told or waits to be.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    // ── answers ──

    /// An interim answer (103): status and lines.
    pub fn inform(&mut self, stream: u32, status: u16, lines: &[u8]) {
        let Some(one) = self.streams.get_mut(&stream) else { return };
        if one.has_answer || !(100..200).contains(&status) || status == 101 {
            return;
        }
        let mut interim = http::Response::new(());
        *interim.status_mut() =
            http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::CONTINUE);
        if one.respond.send_informational(interim).is_ok() {
            self.put_head(stream, status, lines, None);
        }
    }

    /// The answer's head: status and `name: value` lines, without framing; `length` adds Content-Length. `ends`:
    /// nothing follows.
    pub fn respond(
        &mut self,
        stream: u32,
        status: u16,
        lines: &[u8],
        length: Option<u64>,
        ends: bool,
    ) {
        let Some(one) = self.streams.get_mut(&stream) else { return };
        if std::mem::replace(&mut one.has_answer, true) {
            return;
        }
        // What h2 makes of it never leaves.
        if let Ok(sending) = one.respond.send_response(http::Response::new(()), ends) {
            one.sending = Some(Sending::new(sending));
            if ends {
                if let Some(sending) = &mut one.sending {
                    sending.end_told();
                }
            }
            one.moved = Some(self.now);
            self.put_head(stream, status, lines, length);
        }
    }

    fn put_head(&mut self, stream: u32, status: u16, lines: &[u8], length: Option<u64>) {
        let status = status.to_string();
        let text = length.map(|length| length.to_string());
        let mut fields = vec![(&b":status"[..], status.as_bytes())];
        if let Some(text) = &text {
            fields.push((b"content-length", text.as_bytes()));
        }
        self.gate.borrow_mut().put_block(stream, gate::block_of(&fields, lines));
        self.flag.raise();
    }

    /// A stream of which the answer's head is out goes on as a tunnel: how long it may stand still is not looked at here.
    pub fn become_tunnel(&mut self, stream: u32) {
        if let Some(one) = self.streams.get_mut(&stream) {
            one.is_tunnel = true;
        }
    }

    /// A piece of the answer's body. False: wait for `Writable` before the next.
    pub fn write(&mut self, stream: u32, bytes: &[u8]) -> bool {
        let most = self.options.buffer_bytes;
        let Some(one) = self.streams.get_mut(&stream) else { return true };
        let Some(sending) = &mut one.sending else { return true };
        one.moved.get_or_insert(self.now);
        let goes_on = sending.write(bytes, most);
        self.flush(stream);
        goes_on
    }

    /// The answer is complete, with trailers as lines when there are any.
    pub fn end(&mut self, stream: u32, trailers: &[u8]) {
        let Some(one) = self.streams.get_mut(&stream) else { return };
        let Some(sending) = &mut one.sending else { return };
        one.moved.get_or_insert(self.now);
        sending.end(trailers);
        self.flush(stream);
    }

    /// Ends a stream before its time (H-33); no event follows.
    pub fn reset(&mut self, stream: u32, code: u32) {
        let Some(mut one) = self.streams.remove(&stream) else { return };
        match &mut one.sending {
            Some(sending) => sending.reset(Reason::from(code)),
            None => one.respond.send_reset(Reason::from(code)),
        }
        self.gate.borrow_mut().forget(stream);
        self.flag.raise();
    }

    /// No more body bytes of a stream, so that its window closes.
    pub fn pause(&mut self, stream: u32) {
        if let Some(one) = self.streams.get_mut(&stream) {
            one.is_paused = true;
        }
    }

    /// Body bytes again.
    pub fn resume(&mut self, stream: u32) {
        if let Some(one) = self.streams.get_mut(&stream) {
            if std::mem::replace(&mut one.is_paused, false) {
                one.flag.raise();
            }
        }
    }

    // ── the connection ──

    /// GOAWAY: streams that exist go on, new ones are refused after a round trip, and then the connection closes (O-21,
    /// H-104).
    pub fn drain(&mut self) {
        if std::mem::replace(&mut self.is_draining, true) {
            return;
        }
        if let State::Open(connection) = &mut self.state {
            connection.graceful_shutdown();
        }
        self.flag.raise();
    }

    /// GOAWAY with a code, and the end.
    pub fn shut_down(&mut self, code: u32) {
        self.gate.borrow_mut().fault.get_or_insert(Reason::from(code));
        self.flag.raise();
    }

    /// Looks at deadlines; call it every 100 ms or so while there are streams, or a head is under way.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        let is_late = |since: Option<Instant>, time: Duration| {
            !time.is_zero() && since.is_some_and(|since| now.duration_since(since) >= time)
        };
        if is_late(self.head_began, self.options.head_timeout) {
            self.shut_down(Reason::ENHANCE_YOUR_CALM.into());
        }
        let ServerOptions { stall_timeout, stall_bytes_per_second, .. } = self.options;
        let mut late = Vec::new();
        for (stream, one) in &mut self.streams {
            let Some(since) = one.moved.filter(|since| is_late(Some(*since), stall_timeout)) else {
                continue;
            };
            let needed = stall_bytes_per_second * now.duration_since(since).as_secs();
            if one.is_tunnel || one.moved_bytes >= needed.max(1) {
                one.moved = Some(now);
                one.moved_bytes = 0;
            } else {
                late.push(*stream);
            }
        }
        for stream in late {
            let code = Reason::CANCEL.into();
            self.reset(stream, code);
            self.events.push_back(ServerEvent::Reset(stream, code));
        }
    }

    /// The next event. The connection may be called between any two.
    pub fn next_event(&mut self) -> Option<ServerEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            self.drive();
            if !self.events.is_empty() {
                continue;
            }
            let stream = drive::lock(&self.ready).pop_front()?;
            self.serve(stream);
        }
    }

    /// Answers whose windows have opened move on, although their events have not been asked for.
    fn flush_ready(&mut self) {
        let streams: Vec<u32> = drive::lock(&self.ready).iter().copied().collect();
        for stream in streams {
            if self.flush(stream) {
                self.events.push_back(ServerEvent::Writable(stream));
            }
        }
        self.drive();
    }

    /// Lets h2 do what is to be done.
    fn drive(&mut self) {
        while self.flag.lower() || self.has_new_fault() {
            let mut context = Context::from_waker(&self.waker);
            match &mut self.state {
                State::Closed => return self.read_notes(),
                State::Handshake(handshake) => {
                    match Pin::new(handshake.as_mut()).poll(&mut context) {
                        Poll::Pending => {}
                        Poll::Ready(Ok(mut connection)) => {
                            if self.is_draining {
                                connection.graceful_shutdown();
                            }
                            self.state = State::Open(Box::new(connection));
                            self.flag.raise();
                        }
                        Poll::Ready(Err(_)) => self.close(Reason::PROTOCOL_ERROR.into()),
                    }
                }
                State::Open(connection) => {
                    let fault = self.gate.borrow().fault;
                    if let Some(fault) = fault.filter(|_| !self.is_faulty) {
                        self.is_faulty = true;
                        self.code = fault.into();
                        connection.abrupt_shutdown(fault);
                    }
                    match connection.poll_accept(&mut context) {
                        Poll::Ready(Some(Ok((request, respond)))) => {
                            self.accept(request.into_body(), respond);
                            self.flag.raise();
                        }
                        Poll::Ready(Some(Err(error))) => {
                            let code = error.reason().map_or(0, u32::from);
                            self.close(if self.code == 0 { code } else { self.code });
                        }
                        Poll::Ready(None) => self.close(self.code),
                        Poll::Pending => {}
                    }
                }
            }
            self.read_notes();
        }
        if !self.is_closed() {
            self.tell_orphans();
        }
    }

    fn has_new_fault(&self) -> bool {
        let is_open = matches!(self.state, State::Open(_));
        is_open && !self.is_faulty && self.gate.borrow().fault.is_some()
    }

    fn accept(&mut self, receiving: RecvStream, mut respond: SendResponse<Bytes>) {
        let stream = respond.stream_id().as_u32();
        let Some(request) = self.gate.borrow_mut().take_request(stream) else {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return;
        };
        let flag = StreamFlag::new(stream, &self.ready);
        let is_malformed = request.as_ref().is_err_and(|refusal| refusal.is_malformed);
        if is_malformed {
            respond.send_reset(Reason::PROTOCOL_ERROR);
        } else {
            let has_body = request.as_ref().is_ok_and(|head| head.body_length != 0);
            let one = Stream {
                waker: Waker::from(Arc::clone(&flag)),
                respond,
                receiving: has_body.then_some(receiving),
                sending: None,
                is_paused: false,
                is_tunnel: false,
                is_refused: request.is_err(),
                has_answer: false,
                moved: None,
                moved_bytes: 0,
                flag,
            };
            one.flag.raise();
            self.streams.insert(stream, one);
        }
        self.events.push_back(match request {
            Ok(head) => ServerEvent::Request(stream, Box::new(head)),
            Err(refusal) => ServerEvent::Refused(stream, Box::new(refusal)),
        });
        if let Some(notes) = self.early.remove(&stream) {
            self.gate.borrow_mut().notes.extend(notes);
        }
    }

    /// Requests that h2 has refused by itself, for the log: too many streams, or the connection is about to end.
    fn tell_orphans(&mut self) {
        let orphans = self.gate.borrow_mut().take_orphans();
        for (stream, request) in orphans {
            self.early.remove(&stream);
            let refusal = request.err().unwrap_or_else(|| Refusal {
                status: 503,
                rule: "overflow",
                text: "too many streams",
                is_malformed: true,
                request_line: Vec::new(),
            });
            let refusal = Refusal { is_malformed: true, ..refusal };
            self.events.push_back(ServerEvent::Refused(stream, Box::new(refusal)));
        }
    }

    fn read_notes(&mut self) {
        loop {
            let Some(note) = self.gate.borrow_mut().notes.pop_front() else { return };
            if let Note::PeerReset(stream, _)
            | Note::OwnReset(stream, _)
            | Note::BadTrailers(stream, _)
            | Note::Broken(stream, _) = &note
            {
                if self.gate.borrow().is_unannounced(*stream) {
                    self.early.entry(*stream).or_default().push(note);
                    continue;
                }
            }
            match note {
                Note::Moved(stream, bytes) => {
                    if let Some(one) = self.streams.get_mut(&stream) {
                        one.moved_bytes += bytes as u64;
                        if !one.sending.as_ref().is_some_and(Sending::is_busy) {
                            one.moved = None;
                            one.moved_bytes = 0;
                        }
                    }
                }
                Note::Sent(stream) => {
                    // What is left of the request is not wanted: h2 says so (RFC 9113 §8.1).
                    if self.streams.remove(&stream).is_some() {
                        self.gate.borrow_mut().forget_received(stream);
                        self.events.push_back(ServerEvent::Done(stream));
                    }
                }
                Note::PeerReset(stream, code) | Note::OwnReset(stream, code) => {
                    self.gate.borrow_mut().forget(stream);
                    if self.streams.remove(&stream).is_some() {
                        self.events.push_back(ServerEvent::Reset(stream, code));
                    }
                }
                Note::BadTrailers(stream, _) => self.break_off(stream, Reason::PROTOCOL_ERROR),
                Note::Broken(stream, code) => self.break_off(stream, code),
                Note::BadAnswer(..) | Note::Interim(..) | Note::GoAway(_) | Note::Settled => {}
            }
        }
    }

    fn break_off(&mut self, stream: u32, code: Reason) {
        if self.streams.contains_key(&stream) {
            let code = code.into();
            self.reset(stream, code);
            self.events.push_back(ServerEvent::Reset(stream, code));
        }
    }

    fn serve(&mut self, stream: u32) {
        let Some(one) = self.streams.get_mut(&stream) else { return };
        one.flag.lower();
        if !one.is_paused && !one.is_refused {
            if let Some(receiving) = &mut one.receiving {
                match drive::receive(receiving, &one.waker) {
                    Received::Data(bytes) => {
                        // There may be more.
                        one.flag.raise();
                        self.events.push_back(ServerEvent::Data(stream, bytes));
                    }
                    Received::End => {
                        one.receiving = None;
                        let trailers = self.gate.borrow_mut().take_trailers(stream);
                        self.gate.borrow_mut().forget_received(stream);
                        self.events.push_back(ServerEvent::End(stream, trailers));
                    }
                    // A reset, or the end of the connection, which is told by itself.
                    Received::Failed => one.receiving = None,
                    Received::Nothing => {}
                }
            }
        }
        if self.flush(stream) {
            self.events.push_back(ServerEvent::Writable(stream));
        }
    }

    fn flush(&mut self, stream: u32) -> bool {
        let Some(one) = self.streams.get_mut(&stream) else { return false };
        let Some(sending) = &mut one.sending else { return false };
        let gate = &self.gate;
        let put = |lines: &[u8]| gate.borrow_mut().put_block(stream, gate::block_of(&[], lines));
        // An error is a reset, which is told by itself.
        sending.flush(&one.waker, self.options.buffer_bytes, put).unwrap_or(false)
    }

    fn close(&mut self, code: u32) {
        self.state = State::Closed;
        self.read_notes();
        let mut streams: Vec<u32> = self.streams.drain().map(|(stream, _)| stream).collect();
        streams.sort_unstable();
        let ended = if code == 0 { Reason::CANCEL.into() } else { code };
        self.events.extend(streams.into_iter().map(|stream| ServerEvent::Reset(stream, ended)));
        self.events.push_back(ServerEvent::Closed(code));
    }
}
