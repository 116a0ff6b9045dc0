//! The client's side of a connection, without sockets: requests out, answers in.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};

use crate::drive::{self, Flag, Ready, Received, Sending, StreamFlag, Wire};
use crate::field;
use crate::gate::{self, Gate, Note};
use crate::response::ResponseHead;

const MAX_SEND_BUFFER: usize = 64 * 1024;
const MAX_INPUT: usize = 64 * 1024;
/// Streams at a time before the server has said how many it takes.
const FIRST_STREAMS: usize = 100;

/// Limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// At a time, where the server takes more.
    pub max_streams: usize,
    /// Bytes that an answer's body may bring before somebody takes them (H-38).
    pub stream_window: u32,
    /// The same of all streams together.
    pub connection_window: u32,
    /// H-38: bytes of a request that may wait per stream before `write` says stop.
    pub buffer_bytes: usize,
    /// `:scheme` of requests: the connection is encrypted.
    pub is_secure: bool,
}

/// Why a stream is over before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamFailure {
    /// The server has not begun to process the request, and says so, or cannot have (H-70).
    NotProcessed(&'static str),
    /// The server has reset it, with a code.
    Reset(u32),
    /// The answer breaks a rule.
    BadAnswer(&'static str),
    /// The connection ended.
    Lost,
}

/// What happens on a connection.
#[derive(Debug)]
pub enum ClientEvent {
    /// An interim answer: its status, and status line and lines (H-62).
    Interim(u32, u16, Vec<u8>),
    /// The final head of an answer.
    Head(u32, Box<ResponseHead>),
    /// Body bytes.
    Data(u32, Bytes),
    /// The answer is complete, with its trailers as lines. Nothing more comes of the stream.
    End(u32, Vec<u8>),
    /// `write` may be called again.
    Writable(u32),
    /// Nothing more comes of the stream.
    Failed(u32, StreamFailure),
    /// The server has said what it takes: `takes_connect` knows.
    Settled,
    /// No new streams: the server is about to go, or all numbers are used. Those that exist go on.
    Leaving,
    /// The connection is over once its output has been sent. The last event.
    Closed,
}

enum State {
    Open(Box<Connection<Wire, Bytes>>),
    Closed,
}

enum Answer {
    Awaited(ResponseFuture),
    Body(RecvStream),
    Over,
}

struct Stream {
    flag: Arc<StreamFlag>,
    waker: Waker,
    answer: Answer,
    sending: Sending,
    is_paused: bool,
    /// The request has left.
    has_left: bool,
    /// Our last frame has left.
    is_sent: bool,
    /// Why h2 is going to say that the stream has failed.
    cause: Option<StreamFailure>,
}

/// See the module.
pub struct ClientConnection {
    options: ClientOptions,
    gate: Rc<RefCell<Gate>>,
    state: State,
    requests: Option<SendRequest<Bytes>>,
    flag: Arc<Flag>,
    waker: Waker,
    ready: Ready,
    streams: HashMap<u32, Stream>,
    events: VecDeque<ClientEvent>,
    is_leaving: bool,
    is_faulty: bool,
}

impl ClientConnection {
    /// For a connection on which the server awaits our preface.
    pub fn new(options: ClientOptions) -> Self {
        let gate = Rc::new(RefCell::new(Gate::client()));
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(FIRST_STREAMS)
            .initial_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window)
            .max_header_list_size(crate::response::MAX_HEAD_BYTES as u32)
            .max_send_buffer_size(MAX_SEND_BUFFER)
            .max_local_error_reset_streams(None);
        let flag = Flag::new();
        let waker = Waker::from(Arc::clone(&flag));
        let handshake = pin!(builder.handshake(Wire(Rc::clone(&gate))));
        // Our preface always finds room, so this is done at once.
        let (requests, state) = match handshake.poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok((requests, connection))) => {
                (Some(requests), State::Open(Box::new(connection)))
            }
            _ => (None, State::Closed),
        };
        ClientConnection {
            options,
            gate,
            state,
            requests,
            waker,
            flag,
            ready: Ready::default(),
            streams: HashMap::new(),
            events: VecDeque::new(),
            is_leaving: false,
            is_faulty: false,
        }
    }

    /// Whether `receive` may be called: what came before has been looked at.
    pub fn wants_input(&self) -> bool {
        let gate = self.gate.borrow();
        gate.input.len() - gate.in_at < MAX_INPUT && gate.fault.is_none()
    }

    /// Bytes of the server. Then ask for events until there are none.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        self.gate.borrow_mut().receive(bytes, now);
        self.flag.raise();
    }

    /// The server has ended its half.
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

    /// Streams that are not over.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether a request may be sent.
    pub fn has_room(&self) -> bool {
        let Some(requests) = &self.requests else { return false };
        let most = requests.current_max_send_streams().min(self.options.max_streams);
        !self.is_leaving && self.streams.len() < most
    }

    /// Whether no request will be taken any more.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving || self.is_closed()
    }

    /// Whether the last event has been told or waits to be.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    // ── requests ──

    /// Whether the server takes extended CONNECT (RFC 8441 §3). `None`: it has not said so far, `Settled` tells.
    pub fn takes_connect(&self) -> Option<bool> {
        self.gate.borrow().takes_connect()
    }

    /// Sends a request: `METHOD target HTTP/1.1` and `name: value` lines, each with CRLF; `length` adds Content-Length.
    /// `ends`: nothing follows. `None`: there is no room, or the head is none.
    pub fn send(&mut self, head: &[u8], length: Option<u64>, ends: bool) -> Option<u32> {
        let length = length.map(|length| length.to_string());
        let length = length.as_ref().map(|length| (&b"content-length"[..], length.as_bytes()));
        self.send_with(head, None, length, ends)
    }

    /// Asks for a tunnel that speaks `protocol`, in the place of the GET with which HTTP/1.1 upgrades: the server agrees by
    /// any 2xx, and from there on both sides of the stream are the tunnel's (RFC 8441 §4). The key of the handshake stays
    /// here (§5).
    pub fn send_connect(&mut self, head: &[u8], protocol: &[u8]) -> Option<u32> {
        self.send_with(head, Some((b":protocol", protocol)), None, false)
    }

    fn send_with<'a>(
        &mut self,
        head: &'a [u8],
        protocol: Option<(&'a [u8], &'a [u8])>,
        length: Option<(&'a [u8], &'a [u8])>,
        ends: bool,
    ) -> Option<u32> {
        if !self.has_room() {
            return None;
        }
        let line = memchr::memchr(b'\n', head)?;
        let lines = &head[line + 1..];
        let mut words = head[..line].strip_suffix(b" HTTP/1.1\r")?.splitn(2, |byte| *byte == b' ');
        let (method, target) = (words.next()?, words.next()?);
        let is_host = |field: &(&[u8], &[u8])| field.0 == b"host";
        let authority = field::lines(lines).find(is_host).map_or(&b""[..], |field| field.1);
        // What h2 makes of it never leaves.
        let sent = self.requests.as_mut()?.send_request(http::Request::new(()), ends);
        let Ok((mut answer, sending)) = sent else {
            // All numbers are used, or the connection has ended.
            self.leave();
            return None;
        };
        let stream = answer.stream_id().as_u32();
        let scheme: &[u8] = if self.options.is_secure { b"https" } else { b"http" };
        let method = if protocol.is_some() { b"CONNECT" } else { method };
        let mut fields: Vec<(&[u8], &[u8])> = vec![(b":method", method)];
        fields.extend(protocol);
        fields.extend([(&b":scheme"[..], scheme), (b":path", target)]);
        if !authority.is_empty() {
            fields.push((b":authority", authority));
        }
        fields.extend(length);
        let block = gate::request_block(&fields, lines, protocol.is_some());
        let mut gate = self.gate.borrow_mut();
        gate.ask(stream, method == b"HEAD");
        gate.put_block(stream, block);
        drop(gate);
        let flag = StreamFlag::new(stream, &self.ready);
        let waker = Waker::from(Arc::clone(&flag));
        // Only to be woken when it comes.
        if Pin::new(&mut answer).poll(&mut Context::from_waker(&waker)).is_ready() {
            self.leave();
            return None;
        }
        let mut sending = Sending::new(sending);
        if ends {
            sending.end_told();
        }
        let one = Stream {
            waker,
            answer: Answer::Awaited(answer),
            sending,
            is_paused: false,
            has_left: false,
            is_sent: false,
            cause: None,
            flag,
        };
        self.streams.insert(stream, one);
        self.flag.raise();
        Some(stream)
    }

    /// A piece of the request's body. False: wait for `Writable` before the next.
    pub fn write(&mut self, stream: u32, bytes: &[u8]) -> bool {
        let Some(one) = self.streams.get_mut(&stream) else { return true };
        let goes_on = one.sending.write(bytes, self.options.buffer_bytes);
        self.flush(stream);
        goes_on
    }

    /// The request is complete, with trailers as lines when there are any.
    pub fn end(&mut self, stream: u32, trailers: &[u8]) {
        let Some(one) = self.streams.get_mut(&stream) else { return };
        one.sending.end(trailers);
        self.flush(stream);
    }

    /// Whether bytes of the request wait for the server's windows.
    pub fn is_waiting(&self, stream: u32) -> bool {
        self.streams.get(&stream).is_some_and(|one| one.sending.has_waiting())
    }

    /// Gives up; no event follows.
    pub fn reset(&mut self, stream: u32) {
        let Some(mut one) = self.streams.remove(&stream) else { return };
        one.sending.reset(Reason::CANCEL);
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

    /// GOAWAY, and the end once there are no streams.
    pub fn shut_down(&mut self) {
        self.is_leaving = true;
        // h2's clients go when nobody can ask for more.
        self.requests = None;
        self.flag.raise();
    }

    /// Whether `next_event` has something to tell without further input.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty() || !drive::lock(&self.ready).is_empty()
    }

    // ── the connection ──

    /// The next event. The connection may be called between any two.
    pub fn next_event(&mut self) -> Option<ClientEvent> {
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

    fn flush_ready(&mut self) {
        let streams: Vec<u32> = drive::lock(&self.ready).iter().copied().collect();
        for stream in streams {
            if self.flush(stream) {
                self.events.push_back(ClientEvent::Writable(stream));
            }
        }
        self.drive();
    }

    fn has_new_fault(&self) -> bool {
        !self.is_closed() && !self.is_faulty && self.gate.borrow().fault.is_some()
    }

    fn drive(&mut self) {
        while self.flag.lower() || self.has_new_fault() {
            let State::Open(connection) = &mut self.state else { return self.read_notes() };
            let fault = self.gate.borrow().fault;
            if fault.is_some() && !std::mem::replace(&mut self.is_faulty, true) {
                // h2's clients cannot say GOAWAY with a code. With no more handles they go by themselves.
                self.read_notes();
                return self.close(fault);
            }
            let result = Pin::new(connection.as_mut()).poll(&mut Context::from_waker(&self.waker));
            self.read_notes();
            match result {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.close(None),
                Poll::Ready(Err(error)) => {
                    let is_theirs = error.is_library();
                    self.close(error.reason().filter(|_| is_theirs));
                }
            }
        }
    }

    fn read_notes(&mut self) {
        loop {
            let Some(note) = self.gate.borrow_mut().notes.pop_front() else { return };
            match note {
                Note::Moved(stream, _) => {
                    if let Some(one) = self.streams.get_mut(&stream) {
                        one.has_left = true;
                    }
                }
                Note::Sent(stream) => {
                    if let Some(one) = self.streams.get_mut(&stream) {
                        one.is_sent = true;
                    }
                }
                Note::PeerReset(stream, code) => {
                    let refused: u32 = Reason::REFUSED_STREAM.into();
                    let cause = if code == refused {
                        StreamFailure::NotProcessed("the server refused the stream")
                    } else {
                        StreamFailure::Reset(code)
                    };
                    self.blame(stream, cause);
                }
                Note::OwnReset(stream, _) => {
                    let cause = StreamFailure::BadAnswer("frames that break a rule of HTTP/2");
                    self.blame(stream, cause);
                }
                Note::BadTrailers(stream, fault) | Note::BadAnswer(stream, fault) => {
                    self.fail(stream, StreamFailure::BadAnswer(fault));
                }
                Note::Broken(stream, _) => {
                    let fault = "a frame that breaks a rule of its stream";
                    self.fail(stream, StreamFailure::BadAnswer(fault));
                }
                Note::Interim(stream, status, head) => {
                    if self.streams.contains_key(&stream) {
                        self.events.push_back(ClientEvent::Interim(stream, status, head));
                    }
                }
                // Nothing comes behind the last event.
                Note::Settled if self.is_closed() => {}
                Note::Settled => self.events.push_back(ClientEvent::Settled),
                Note::GoAway(last) => {
                    let mut above: Vec<u32> =
                        self.streams.keys().copied().filter(|stream| *stream > last).collect();
                    above.sort_unstable();
                    for stream in above {
                        let why = "the server goes and has not looked at the stream";
                        self.fail(stream, StreamFailure::NotProcessed(why));
                    }
                    self.leave();
                }
            }
        }
    }

    /// The stream has been reset on the wire; what came before is still told.
    fn blame(&mut self, stream: u32, cause: StreamFailure) {
        if let Some(one) = self.streams.get_mut(&stream) {
            one.cause.get_or_insert(cause);
            one.flag.raise();
        }
    }

    fn fail(&mut self, stream: u32, cause: StreamFailure) {
        if self.streams.contains_key(&stream) {
            self.reset(stream);
            self.events.push_back(ClientEvent::Failed(stream, cause));
        }
    }

    fn leave(&mut self) {
        if !std::mem::replace(&mut self.is_leaving, true) {
            self.events.push_back(ClientEvent::Leaving);
        }
    }

    fn serve(&mut self, stream: u32) {
        let Some(one) = self.streams.get_mut(&stream) else { return };
        one.flag.lower();
        if let Answer::Awaited(answer) = &mut one.answer {
            match Pin::new(answer).poll(&mut Context::from_waker(&one.waker)) {
                Poll::Ready(Ok(answer)) => {
                    one.answer = Answer::Body(answer.into_body());
                    if let Some(head) = self.gate.borrow_mut().take_answer(stream) {
                        self.events.push_back(ClientEvent::Head(stream, Box::new(head)));
                    }
                }
                Poll::Ready(Err(_)) => return self.end_failed(stream),
                Poll::Pending => {}
            }
        }
        if !one.is_paused {
            if let Answer::Body(body) = &mut one.answer {
                match drive::receive(body, &one.waker) {
                    Received::Data(bytes) => {
                        self.events.push_back(ClientEvent::Data(stream, bytes));
                        if body.is_end_stream() {
                            return self.end_answer(stream);
                        }
                        one.flag.raise();
                    }
                    Received::End => return self.end_answer(stream),
                    // The answer was complete when the server said that it wants no more of the request.
                    Received::Failed
                        if matches!(one.cause, Some(StreamFailure::Reset(_)))
                            && self.gate.borrow().has_ended(stream) =>
                    {
                        return self.end_answer(stream)
                    }
                    Received::Failed => return self.end_failed(stream),
                    Received::Nothing => {}
                }
            }
        }
        if self.flush(stream) {
            self.events.push_back(ClientEvent::Writable(stream));
        }
    }

    fn end_answer(&mut self, stream: u32) {
        let trailers = self.gate.borrow_mut().take_trailers(stream);
        let Some(mut one) = self.streams.remove(&stream) else { return };
        one.answer = Answer::Over;
        if one.is_sent || one.cause.is_some() {
            self.gate.borrow_mut().forget(stream);
        } else {
            // Nobody waits for the rest of the request.
            one.sending.reset(Reason::NO_ERROR);
            self.gate.borrow_mut().forget(stream);
            self.flag.raise();
        }
        self.events.push_back(ClientEvent::End(stream, trailers));
    }

    fn end_failed(&mut self, stream: u32) {
        let Some(one) = self.streams.remove(&stream) else { return };
        self.gate.borrow_mut().forget(stream);
        let cause = match one.cause {
            Some(cause) => cause,
            None if !one.has_left => StreamFailure::NotProcessed("the request had not left"),
            None => StreamFailure::Lost,
        };
        self.events.push_back(ClientEvent::Failed(stream, cause));
    }

    fn flush(&mut self, stream: u32) -> bool {
        let Some(one) = self.streams.get_mut(&stream) else { return false };
        let gate = &self.gate;
        let put = |lines: &[u8]| gate.borrow_mut().put_block(stream, gate::block_of(&[], lines));
        // An error is a reset, which is told by itself.
        one.sending.flush(&one.waker, self.options.buffer_bytes, put).unwrap_or(false)
    }

    /// `broken`: the server broke a rule of the protocol.
    fn close(&mut self, broken: Option<Reason>) {
        if self.is_closed() {
            return;
        }
        self.is_leaving = true;
        self.requests = None;
        // What is complete, and only waits to be told, is told.
        let mut streams: Vec<u32> = self.streams.keys().copied().collect();
        streams.sort_unstable();
        for stream in streams {
            if let (Some(one), Some(_)) = (self.streams.get_mut(&stream), broken) {
                let cause = StreamFailure::BadAnswer("a connection that breaks a rule of HTTP/2");
                one.cause.get_or_insert(cause);
            }
            self.finish(stream);
        }
        self.state = State::Closed;
        self.events.push_back(ClientEvent::Closed);
    }

    /// Tells what there is of a stream whose connection has ended. What is paused is told all the same: no more than
    /// its window.
    fn finish(&mut self, stream: u32) {
        if let Some(one) = self.streams.get_mut(&stream) {
            one.is_paused = false;
        }
        let mut told = usize::MAX;
        while self.streams.contains_key(&stream) && told != self.events.len() {
            told = self.events.len();
            self.serve(stream);
        }
        self.end_failed(stream);
    }
}
