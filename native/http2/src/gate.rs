//! What stands between the wire and h2, in both directions.
//!
//! h2 keeps the states of streams, the windows and the settings. Header blocks never reach it: the gate takes those of
//! the peer apart itself, judges them by our rules, and hands h2 a block that says nothing; ours are put in the place
//! of the blocks that h2 makes. So one bad field resets one stream where h2 would end the connection (H-105), targets
//! and values stay the bytes that they are, and heads cost no map of fields. The gate also counts cheap frames (H-103).

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use h2::Reason;

use crate::field;
use crate::flood::{Cheap, Floods};
use crate::frame::{self, Head, HeadReader, SettingsReader, HEAD_BYTES};
use crate::hpack::{self, Decoder};
use crate::request::{Refusal, RequestHead, RequestLimits, RequestReader};
use crate::response::{Answer, ResponseHead, ResponseReader, TrailerReader, MAX_HEAD_BYTES};

/// CONTINUATION frames of one block.
const MAX_CONTINUATIONS: u32 = 32;
/// Interim answers before the final one (T-35).
const MAX_INTERIM: u32 = 16;
/// Bytes for the wire above which h2 is not asked for more.
const OUT_BYTES: usize = 64 * 1024;
/// `:method: GET`, `:scheme: http`, `:path: /`.
const NO_REQUEST: [u8; 3] = [0x82, 0x86, 0x84];
/// `:status: 200`.
const NO_ANSWER: u8 = 0x88;

/// What the frames of the peer have told, beside what h2 tells.
#[derive(Debug)]
pub(crate) enum Note {
    /// The peer has reset a stream.
    PeerReset(u32, u32),
    /// We have, be it h2 or whoever called it.
    OwnReset(u32, u32),
    /// Trailers of the peer are malformed: the stream must be reset.
    BadTrailers(u32, &'static str),
    /// An answer is malformed: the stream must be reset.
    BadAnswer(u32, &'static str),
    /// A frame breaks a rule of its stream, which must be reset: h2 would end the connection (H-105).
    Broken(u32, Reason),
    /// An interim answer has come: status and head.
    Interim(u32, u16, Vec<u8>),
    /// The peer goes: the last stream that it has processed.
    GoAway(u32),
    /// The peer's first SETTINGS have come.
    Settled,
    /// A piece of ours has left: so many bytes of body.
    Moved(u32, usize),
    /// Our last frame of a stream has left.
    Sent(u32),
}

#[derive(Debug, Default)]
struct Asked {
    is_head: bool,
    interim: u32,
    has_answer: bool,
    /// END_STREAM has come.
    has_ended: bool,
}

/// The streams of a side, as far as header blocks need to know them.
#[derive(Debug)]
enum Side {
    Server {
        limits: RequestLimits,
        last_stream: u32,
        /// Requests whose streams h2 has not announced yet.
        requests: HashMap<u32, Result<RequestHead, Refusal>>,
        /// Requests whose trailers may come.
        open: HashMap<u32, ()>,
        /// Requests that are complete, and not answered yet.
        ended: HashSet<u32>,
    },
    Client {
        streams: HashMap<u32, Asked>,
        answers: HashMap<u32, ResponseHead>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preface(usize),
    Head,
    /// Payload that goes on to h2.
    Pass(Head, usize),
    /// Payload of a header block.
    Block(Head, usize),
    /// Payload of WINDOW_UPDATE, which h2 gets when it is whole and says something.
    Window(Head, usize),
    /// Payload that h2 does not get.
    Drop(usize),
}

/// Both directions of one connection.
#[derive(Debug)]
pub(crate) struct Gate {
    side: Side,
    state: State,
    has_begun: bool,
    head: HeadReader,
    /// First bytes of a payload that is passed on, as far as they say anything.
    peek: [u8; 4],
    peeked: usize,
    settings: SettingsReader,
    decoder: Decoder,
    block: Vec<u8>,
    /// HEADERS whose block is not complete.
    unfinished: Option<Head>,
    continuations: u32,
    most_block_bytes: usize,
    trailers: HashMap<u32, Vec<u8>>,
    pub(crate) floods: Floods,
    pub(crate) notes: VecDeque<Note>,
    /// Ends the connection.
    pub(crate) fault: Option<Reason>,
    /// For h2, from `in_at` on.
    pub(crate) input: Vec<u8>,
    pub(crate) in_at: usize,
    pub(crate) is_end_of_input: bool,
    /// h2 has asked for more input than there is: it has seen everything else.
    pub(crate) is_starved: bool,
    /// h2 wanted to write more.
    pub(crate) is_blocked: bool,
    /// For the wire, from `out_at` on.
    out: Vec<u8>,
    out_at: usize,
    out_head: HeadReader,
    out_state: OutState,
    out_peek: [u8; 4],
    /// Of the connection's window, by DATA that h2 did not get: given back with the reset of its stream.
    owed: u32,
    /// Blocks that take the place of those h2 makes, by stream, in order.
    blocks: HashMap<u32, VecDeque<Vec<u8>>>,
    has_said_no_table: bool,
}

#[derive(Clone, Copy, Debug)]
enum OutState {
    Preface(usize),
    Head,
    Pass(Head, usize),
    /// A block of h2, which does not leave.
    Swallow(Head, usize),
}

impl Gate {
    pub(crate) fn server(limits: RequestLimits) -> Self {
        let side = Side::Server {
            limits,
            last_stream: 0,
            requests: HashMap::new(),
            open: HashMap::new(),
            ended: HashSet::new(),
        };
        let most = 2 * (limits.head_bytes + limits.uri_bytes) + frame::MOST_BYTES;
        Gate::new(side, State::Preface(frame::PREFACE.len()), OutState::Head, most)
    }

    pub(crate) fn client() -> Self {
        let side = Side::Client { streams: HashMap::new(), answers: HashMap::new() };
        let preface = OutState::Preface(frame::PREFACE.len());
        Gate::new(side, State::Head, preface, 2 * MAX_HEAD_BYTES)
    }

    fn new(side: Side, state: State, out_state: OutState, most_block_bytes: usize) -> Self {
        Gate {
            side,
            state,
            has_begun: false,
            head: HeadReader::default(),
            peek: [0; 4],
            peeked: 0,
            settings: SettingsReader::default(),
            decoder: Decoder::new(),
            block: Vec::new(),
            unfinished: None,
            continuations: 0,
            most_block_bytes,
            trailers: HashMap::new(),
            floods: Floods::new(),
            notes: VecDeque::new(),
            fault: None,
            input: Vec::new(),
            in_at: 0,
            is_end_of_input: false,
            is_starved: false,
            is_blocked: false,
            out: Vec::new(),
            out_at: 0,
            out_head: HeadReader::default(),
            out_state,
            out_peek: [0; 4],
            owed: 0,
            blocks: HashMap::new(),
            has_said_no_table: false,
        }
    }

    // ── from the wire ──

    /// Takes bytes of the peer. After a fault they go nowhere.
    pub(crate) fn receive(&mut self, bytes: &[u8], now: Instant) {
        if self.in_at == self.input.len() {
            self.input.clear();
            self.in_at = 0;
        }
        self.is_starved = false;
        self.floods.begin(now);
        let mut rest = bytes;
        // A frame without payload is complete with its head.
        while self.fault.is_none() && !rest.is_empty() {
            self.step(&mut rest);
        }
    }

    fn step(&mut self, rest: &mut &[u8]) {
        match self.state {
            State::Preface(left) => {
                let length = self.pass(rest, left);
                self.state =
                    if length == left { State::Head } else { State::Preface(left - length) };
            }
            State::Head => {
                let Some((head, bytes)) = self.head.read(rest) else { return };
                self.begin_frame(head, &bytes);
                match self.state {
                    State::Pass(_, 0) => self.end_passed(head),
                    State::Block(_, 0) => self.end_block_frame(head, self.block.len()),
                    State::Drop(0) => self.state = State::Head,
                    _ => {}
                }
            }
            State::Window(head, left) => {
                let length = left.min(rest.len());
                let at = self.peek.len() - left;
                self.peek[at..at + length].copy_from_slice(&rest[..length]);
                *rest = &rest[length..];
                self.state = State::Window(head, left - length);
                if length == left {
                    self.end_window(head);
                }
            }
            State::Drop(left) => {
                let length = left.min(rest.len());
                *rest = &rest[length..];
                self.state = if length == left { State::Head } else { State::Drop(left - length) };
            }
            State::Pass(head, left) => {
                let peeks = rest.len().min(self.peek.len() - self.peeked).min(left);
                self.peek[self.peeked..self.peeked + peeks].copy_from_slice(&rest[..peeks]);
                self.peeked += peeks;
                if head.kind == frame::SETTINGS {
                    self.settings.read(&rest[..left.min(rest.len())]);
                }
                let length = self.pass(rest, left);
                self.state = State::Pass(head, left - length);
                if length == left {
                    self.end_passed(head);
                }
            }
            State::Block(head, left) => {
                let length = left.min(rest.len());
                self.block.extend_from_slice(&rest[..length]);
                *rest = &rest[length..];
                self.state = State::Block(head, left - length);
                if length == left {
                    self.end_block_frame(head, self.block.len() - head.length);
                }
            }
        }
    }

    fn pass(&mut self, rest: &mut &[u8], most: usize) -> usize {
        let length = most.min(rest.len());
        self.input.extend_from_slice(&rest[..length]);
        *rest = &rest[length..];
        length
    }

    fn count(&mut self, what: Cheap) {
        // An upstream may refuse and reset what we have asked for.
        let is_free = what == Cheap::Reset && matches!(self.side, Side::Client { .. });
        if is_free {
            return;
        }
        if !self.floods.count(what) {
            self.fault.get_or_insert(Reason::ENHANCE_YOUR_CALM);
        }
    }

    fn begin_frame(&mut self, head: Head, bytes: &[u8; HEAD_BYTES]) {
        self.peeked = 0;
        let continues = head.kind == frame::CONTINUATION
            && self.unfinished.is_some_and(|open| open.stream == head.stream);
        // Nothing comes between the frames of a block (RFC 9113 §6.10), and nothing before SETTINGS (§3.4).
        if self.unfinished.is_some() != continues
            || head.kind == frame::CONTINUATION && !continues
            || !std::mem::replace(&mut self.has_begun, true) && head.kind != frame::SETTINGS
        {
            self.fault = Some(Reason::PROTOCOL_ERROR);
            return;
        }
        let is_right_length = match head.kind {
            frame::SETTINGS if head.has(frame::ACK) => head.length == 0,
            frame::SETTINGS => head.length % 6 == 0,
            frame::RST_STREAM | frame::WINDOW_UPDATE => head.length == 4,
            frame::PING => head.length == 8,
            frame::GOAWAY => head.length >= 8,
            _ => true,
        };
        if head.length > frame::MOST_BYTES || !is_right_length {
            self.fault = Some(Reason::FRAME_SIZE_ERROR);
            return;
        }
        match head.kind {
            frame::HEADERS | frame::CONTINUATION => {
                if head.stream == 0 {
                    self.fault = Some(Reason::PROTOCOL_ERROR);
                } else if continues {
                    self.continuations += 1;
                    if self.continuations > MAX_CONTINUATIONS {
                        self.fault = Some(Reason::ENHANCE_YOUR_CALM);
                    }
                } else {
                    self.block.clear();
                    self.continuations = 0;
                }
                if self.block.len() + head.length > self.most_block_bytes {
                    self.fault = Some(Reason::ENHANCE_YOUR_CALM);
                }
                self.state = State::Block(head, head.length);
                return;
            }
            // Nobody may push to us: servers never, and clients of ours do not allow it.
            frame::PUSH_PROMISE => {
                self.fault = Some(Reason::PROTOCOL_ERROR);
                return;
            }
            frame::DATA if self.is_behind_end(head.stream) => {
                // The bytes are the window's (RFC 9113 §6.9); no frame is longer than its head can say.
                self.owed = self.owed.saturating_add(head.length as u32);
                self.notes.push_back(Note::Broken(head.stream, Reason::STREAM_CLOSED));
                self.state = State::Drop(head.length);
                return;
            }
            frame::DATA | frame::GOAWAY => {}
            frame::RST_STREAM => self.count(Cheap::Reset),
            frame::SETTINGS => self.count(Cheap::Settings),
            frame::PING => self.count(Cheap::Ping),
            frame::WINDOW_UPDATE => {
                self.count(Cheap::WindowUpdate);
                if head.stream != 0 {
                    self.state = State::Window(head, head.length);
                    return;
                }
            }
            frame::PRIORITY => {
                self.count(Cheap::Priority);
                // An error of its stream (§6.3).
                if head.length != 5 && head.stream != 0 {
                    self.notes.push_back(Note::Broken(head.stream, Reason::FRAME_SIZE_ERROR));
                    self.state = State::Drop(head.length);
                    return;
                }
            }
            _ => self.count(Cheap::Unknown),
        }
        self.input.extend_from_slice(bytes);
        self.state = State::Pass(head, head.length);
    }

    /// An increment of nothing is an error of its stream (§6.9), or of the connection where there never was one.
    fn end_window(&mut self, head: Head) {
        self.state = State::Head;
        if u32::from_be_bytes(self.peek) & 0x7fff_ffff != 0 {
            head.write(&mut self.input);
            self.input.extend_from_slice(&self.peek);
        } else if self.is_idle(head.stream) {
            self.fault = Some(Reason::PROTOCOL_ERROR);
        } else {
            self.notes.push_back(Note::Broken(head.stream, Reason::PROTOCOL_ERROR));
        }
    }

    /// Whether a stream was never opened (servers know).
    fn is_idle(&self, stream: u32) -> bool {
        match &self.side {
            Side::Server { last_stream, .. } => stream % 2 == 0 || stream > *last_stream,
            Side::Client { .. } => false,
        }
    }

    /// Whether a request is complete, and its stream open for our answer only (servers know).
    fn is_behind_end(&self, stream: u32) -> bool {
        matches!(&self.side, Side::Server { ended, .. } if ended.contains(&stream))
    }

    fn end_passed(&mut self, head: Head) {
        self.state = State::Head;
        let [a, b, c, d] = self.peek;
        match head.kind {
            frame::DATA if head.has(frame::END_STREAM) => self.end_received(head.stream),
            frame::DATA => {
                let padding = if head.has(frame::PADDED) { usize::from(a) + 1 } else { 0 };
                if head.length <= padding {
                    self.count(Cheap::EmptyData);
                }
            }
            frame::RST_STREAM if head.length == 4 => {
                self.blocks.remove(&head.stream);
                let code = u32::from_be_bytes([a, b, c, d]);
                self.notes.push_back(Note::PeerReset(head.stream, code));
            }
            frame::SETTINGS if !head.has(frame::ACK) && self.settings.end() => {
                self.notes.push_back(Note::Settled);
            }
            frame::GOAWAY if head.length >= 8 => {
                let last = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
                self.notes.push_back(Note::GoAway(last));
            }
            _ => {}
        }
    }

    /// A frame of a block is complete; its payload is what the block holds from `start` on.
    fn end_block_frame(&mut self, head: Head, start: usize) {
        self.state = State::Head;
        if self.fault.is_some() {
            return;
        }
        let mut first = head;
        let mut depends_on_itself = false;
        if head.kind == frame::HEADERS {
            let mut from = start;
            let mut to = self.block.len();
            if head.has(frame::PADDED) {
                let padding = self.block.get(from).copied().map_or(usize::MAX, usize::from);
                from += 1;
                to = to.saturating_sub(padding);
            }
            if head.has(frame::WITH_PRIORITY) {
                if let Some([a, b, c, d]) = self.block.get(from..).and_then(<[u8]>::first_chunk) {
                    let parent = u32::from_be_bytes([*a, *b, *c, *d]) & 0x7fff_ffff;
                    depends_on_itself = parent == head.stream;
                }
                from += 5;
            }
            if from > to {
                let is_padding = head.has(frame::PADDED);
                let fault =
                    if is_padding { Reason::PROTOCOL_ERROR } else { Reason::FRAME_SIZE_ERROR };
                self.fault = Some(fault);
                return;
            }
            self.block.truncate(to);
            self.block.drain(start..from);
        } else if let Some(open) = self.unfinished {
            first = open;
        }
        if !head.has(frame::END_HEADERS) {
            self.unfinished = Some(first);
            return;
        }
        self.unfinished = None;
        let block = std::mem::take(&mut self.block);
        let ends = first.has(frame::END_STREAM);
        if self.end_block(first.stream, ends, &block, depends_on_itself).is_err() {
            self.fault = Some(Reason::COMPRESSION_ERROR);
        }
        self.block = block;
        self.block.clear();
        self.block.shrink_to(frame::MOST_BYTES);
    }

    fn end_block(
        &mut self,
        stream: u32,
        ends: bool,
        block: &[u8],
        depends_on_itself: bool,
    ) -> Result<(), hpack::BadBlock> {
        match &mut self.side {
            Side::Server { limits, last_stream, requests, open, ended } => {
                if stream % 2 == 1 && stream > *last_stream {
                    *last_stream = stream;
                    let mut reader = RequestReader::new(*limits);
                    self.decoder.decode(block, |name, value| reader.take(name, value))?;
                    if depends_on_itself {
                        // RFC 7540 §5.3.1.
                        reader.take(b":depends-on-itself", b"");
                    }
                    let request = reader.finish(ends);
                    let length = request.as_ref().map_or(-1, |head| head.body_length);
                    requests.insert(stream, request);
                    if ends {
                        ended.insert(stream);
                    } else {
                        open.insert(stream, ());
                    }
                    self.say_nothing(stream, ends, &NO_REQUEST, u64::try_from(length).ok());
                    return Ok(());
                }
                if ended.contains(&stream) {
                    self.decoder.decode(block, |_, _| {})?;
                    self.notes.push_back(Note::Broken(stream, Reason::STREAM_CLOSED));
                    return Ok(());
                }
                if open.contains_key(&stream) {
                    return self.end_trailers(stream, ends, block);
                }
            }
            Side::Client { streams, answers } => {
                // Behind the end of its stream a block is nobody's, whatever it holds (RFC 9113 §5.1).
                if let Some(asked) = streams.get_mut(&stream).filter(|one| !one.has_ended) {
                    if asked.has_answer {
                        return self.end_trailers(stream, ends, block);
                    }
                    let mut reader = ResponseReader::new();
                    self.decoder.decode(block, |name, value| reader.take(name, value))?;
                    match reader.finish(asked.is_head, ends) {
                        Ok(Answer::Interim(status, head)) => {
                            asked.interim += 1;
                            self.notes.push_back(if asked.interim > MAX_INTERIM {
                                Note::BadAnswer(stream, "too many interim answers")
                            } else {
                                Note::Interim(stream, status, head)
                            });
                        }
                        Ok(Answer::Final(head)) => {
                            asked.has_answer = true;
                            asked.has_ended = ends;
                            let length = u64::try_from(head.body_length).ok();
                            answers.insert(stream, head);
                            self.say_nothing(stream, ends, &[NO_ANSWER], length);
                        }
                        Err(fault) => self.notes.push_back(Note::BadAnswer(stream, fault)),
                    }
                    return Ok(());
                }
            }
        }
        // A stream that is closed, or never was: h2 knows what to say. The table must hear of it all the same.
        self.decoder.decode(block, |_, _| {})?;
        self.say_nothing(stream, ends, &[], None);
        Ok(())
    }

    fn end_received(&mut self, stream: u32) {
        match &mut self.side {
            Side::Client { streams, .. } => {
                if let Some(asked) = streams.get_mut(&stream) {
                    asked.has_ended = true;
                }
            }
            Side::Server { open, ended, .. } => {
                if open.remove(&stream).is_some() {
                    ended.insert(stream);
                }
            }
        }
    }

    /// Whether the peer's last frame of a stream has come (clients know).
    pub(crate) fn has_ended(&self, stream: u32) -> bool {
        match &self.side {
            Side::Server { .. } => false,
            Side::Client { streams, .. } => streams.get(&stream).is_some_and(|one| one.has_ended),
        }
    }

    fn end_trailers(
        &mut self,
        stream: u32,
        ends: bool,
        block: &[u8],
    ) -> Result<(), hpack::BadBlock> {
        let mut reader = TrailerReader::new();
        self.decoder.decode(block, |name, value| reader.take(name, value))?;
        match reader.finish() {
            _ if !ends => {
                let note = Note::BadTrailers(stream, "trailers that do not end the stream");
                self.notes.push_back(note);
            }
            Ok(lines) => {
                self.trailers.insert(stream, lines);
                self.end_received(stream);
                self.say_nothing(stream, ends, &[], None);
            }
            Err(fault) => self.notes.push_back(Note::BadTrailers(stream, fault)),
        }
        Ok(())
    }

    /// Hands h2 a block that tells it of the stream and of the length of what follows.
    fn say_nothing(&mut self, stream: u32, ends: bool, fields: &[u8], length: Option<u64>) {
        let mut block = fields.to_vec();
        if let Some(length) = length.filter(|_| !ends) {
            hpack::write_field(&mut block, b"content-length", length.to_string().as_bytes());
        }
        frame::write_block(&mut self.input, stream, ends, &block);
    }

    // ── what h2 asks for in exchange ──

    /// The request of a stream that h2 announces.
    pub(crate) fn take_request(&mut self, stream: u32) -> Option<Result<RequestHead, Refusal>> {
        match &mut self.side {
            Side::Server { requests, .. } => requests.remove(&stream),
            Side::Client { .. } => None,
        }
    }

    /// Whether a request has come of which h2 has not told yet.
    pub(crate) fn is_unannounced(&self, stream: u32) -> bool {
        matches!(&self.side, Side::Server { requests, .. } if requests.contains_key(&stream))
    }

    /// Requests that h2 has dropped without a word: everything has been read, and they were not announced.
    pub(crate) fn take_orphans(&mut self) -> Vec<(u32, Result<RequestHead, Refusal>)> {
        match &mut self.side {
            Side::Server { requests, open, ended, .. }
                if self.is_starved && !requests.is_empty() =>
            {
                let orphans: Vec<_> = requests.drain().collect();
                for (stream, _) in &orphans {
                    open.remove(stream);
                    ended.remove(stream);
                }
                orphans
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn take_answer(&mut self, stream: u32) -> Option<ResponseHead> {
        match &mut self.side {
            Side::Server { .. } => None,
            Side::Client { answers, .. } => answers.remove(&stream),
        }
    }

    pub(crate) fn take_trailers(&mut self, stream: u32) -> Vec<u8> {
        self.trailers.remove(&stream).unwrap_or_default()
    }

    /// A request of ours is about to leave.
    pub(crate) fn ask(&mut self, stream: u32, is_head: bool) {
        if let Side::Client { streams, .. } = &mut self.side {
            streams.insert(stream, Asked { is_head, ..Asked::default() });
        }
    }

    /// Nothing more is expected of a stream, or sent on it.
    pub(crate) fn forget(&mut self, stream: u32) {
        self.forget_received(stream);
        self.blocks.remove(&stream);
    }

    /// Nothing more is expected of a stream.
    pub(crate) fn forget_received(&mut self, stream: u32) {
        self.trailers.remove(&stream);
        match &mut self.side {
            Side::Server { open, ended, .. } => {
                open.remove(&stream);
                ended.remove(&stream);
            }
            Side::Client { streams, answers } => {
                streams.remove(&stream);
                answers.remove(&stream);
            }
        }
    }

    /// Whether the peer takes extended CONNECT (RFC 8441 §3). `None`: it has not said anything yet.
    pub(crate) fn takes_connect(&self) -> Option<bool> {
        self.settings.has_come.then_some(self.settings.takes_connect)
    }

    /// Whether a head or the preface has begun and is not complete.
    pub(crate) fn is_inside_head(&self) -> bool {
        self.unfinished.is_some() || matches!(self.state, State::Preface(_) | State::Block(..))
    }

    // ── to the wire ──

    /// The next block of a stream, in the place of the one that h2 is about to make.
    pub(crate) fn put_block(&mut self, stream: u32, block: Vec<u8>) {
        self.blocks.entry(stream).or_default().push_back(block);
    }

    /// Takes bytes of h2; 0 = enough for now.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        if self.out.len() - self.out_at >= OUT_BYTES {
            self.is_blocked = true;
            return 0;
        }
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            self.write_step(&mut rest);
        }
        bytes.len()
    }

    fn write_step(&mut self, rest: &mut &[u8]) {
        match self.out_state {
            OutState::Preface(left) => {
                let length = self.put(rest, left);
                self.out_state =
                    if length == left { OutState::Head } else { OutState::Preface(left - length) };
            }
            OutState::Head => {
                let Some((head, bytes)) = self.out_head.read(rest) else { return };
                if head.kind == frame::HEADERS || head.kind == frame::CONTINUATION {
                    self.out_state = OutState::Swallow(head, head.length);
                } else {
                    self.out.extend_from_slice(&bytes);
                    self.out_state = OutState::Pass(head, head.length);
                }
                if head.length == 0 {
                    self.end_written(head);
                }
            }
            OutState::Pass(head, left) => {
                let at = head.length - left;
                if head.kind == frame::RST_STREAM && at < 4 {
                    let peeks = rest.len().min(4 - at).min(left);
                    self.out_peek[at..at + peeks].copy_from_slice(&rest[..peeks]);
                }
                let length = self.put(rest, left);
                self.out_state = OutState::Pass(head, left - length);
                if length == left {
                    self.end_written(head);
                }
            }
            OutState::Swallow(head, left) => {
                let length = left.min(rest.len());
                *rest = &rest[length..];
                self.out_state = OutState::Swallow(head, left - length);
                if length == left {
                    self.end_written(head);
                }
            }
        }
    }

    fn put(&mut self, rest: &mut &[u8], most: usize) -> usize {
        let length = most.min(rest.len());
        self.out.extend_from_slice(&rest[..length]);
        *rest = &rest[length..];
        length
    }

    fn end_written(&mut self, head: Head) {
        self.out_state = OutState::Head;
        let ends = head.has(frame::END_STREAM);
        match head.kind {
            frame::HEADERS => {
                self.floods.earn();
                let blocks = self.blocks.get_mut(&head.stream);
                let block = blocks.and_then(VecDeque::pop_front);
                if ends {
                    self.blocks.remove(&head.stream);
                }
                // Absent when the peer has reset the stream a moment ago.
                let Some(mut block) = block else { return };
                if !std::mem::replace(&mut self.has_said_no_table, true) {
                    let mut first = Vec::with_capacity(block.len() + 1);
                    hpack::write_no_table(&mut first);
                    first.append(&mut block);
                    block = first;
                }
                frame::write_block(&mut self.out, head.stream, ends, &block);
                self.notes.push_back(Note::Moved(head.stream, 0));
            }
            frame::DATA => {
                self.floods.earn();
                self.notes.push_back(Note::Moved(head.stream, head.length));
            }
            frame::RST_STREAM => {
                let code = u32::from_be_bytes(self.out_peek);
                let is_theirs = ![Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR]
                    .contains(&Reason::from(code));
                if is_theirs {
                    self.count(Cheap::Reset);
                }
                self.blocks.remove(&head.stream);
                self.notes.push_back(Note::OwnReset(head.stream, code));
                let owed = std::mem::take(&mut self.owed);
                if owed > 0 {
                    let (kind, length) = (frame::WINDOW_UPDATE, 4);
                    Head { length, kind, flags: 0, stream: 0 }.write(&mut self.out);
                    self.out.extend_from_slice(&owed.to_be_bytes());
                }
            }
            _ => {}
        }
        if ends && matches!(head.kind, frame::HEADERS | frame::DATA) {
            self.notes.push_back(Note::Sent(head.stream));
        }
    }

    /// Bytes for the wire.
    pub(crate) fn output(&self) -> &[u8] {
        &self.out[self.out_at..]
    }

    /// So many of them have been sent. True: h2 may write again.
    pub(crate) fn sent(&mut self, length: usize) -> bool {
        self.out_at = (self.out_at + length).min(self.out.len());
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
            self.out.shrink_to(2 * OUT_BYTES);
        } else if self.out_at > OUT_BYTES {
            self.out.drain(..self.out_at);
            self.out_at = 0;
        }
        self.is_blocked && self.out.len() - self.out_at < OUT_BYTES
    }
}

/// A block of flat lines behind fields of its own.
pub(crate) fn block_of(pseudo: &[(&[u8], &[u8])], lines: &[u8]) -> Vec<u8> {
    write_block(pseudo, lines, |_| true)
}

/// The same without `host`, which is the authority, and for a tunnel without the key of the handshake.
pub(crate) fn request_block(pseudo: &[(&[u8], &[u8])], lines: &[u8], is_tunnel: bool) -> Vec<u8> {
    write_block(pseudo, lines, |name| {
        name != b"host" && !(is_tunnel && name == b"sec-websocket-key")
    })
}

fn write_block(
    pseudo: &[(&[u8], &[u8])],
    lines: &[u8],
    is_wanted: impl Fn(&[u8]) -> bool,
) -> Vec<u8> {
    let mut block = Vec::with_capacity(lines.len() + 32);
    for (name, value) in pseudo {
        hpack::write_field(&mut block, name, value);
    }
    for (name, value) in field::lines(lines) {
        let stays_here = matches!(
            name,
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade"
        );
        if !stays_here && is_wanted(name) {
            hpack::write_field(&mut block, name, value);
        }
    }
    block
}
