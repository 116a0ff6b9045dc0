//! One request and its answer, whatever the protocol: where the request's body goes, the upstream leg, where the answer comes
//! from.

use sallyport_upstream::{HeadFacts, LegId};

use crate::edits::KeptEdits;
use crate::frames::Frames;
use crate::held::Held;
use crate::ids::Ids;
use crate::trailers::TrailerRules;

/// H-71: what is kept of a request body so that it can be sent again.
pub(crate) const REPLAY_BYTES: usize = 64 * 1024;

/// Where the request's body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// Nobody has said so far: it waits.
    Hold,
    /// Into memory, for the gateway.
    Collect,
    /// To the upstream.
    Upstream,
    /// Nowhere.
    Discard,
}

/// What has become of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing has left us.
    None,
    /// The head is out; body may follow.
    Body,
    /// All of it is with the connection.
    Ended,
}

pub(crate) struct Exchange {
    pub(crate) connection: u64,
    pub(crate) listener: u32,
    /// Of HTTP/2; 0 = the connection has one exchange at a time.
    pub(crate) stream: u32,
    /// The standing relay by which it went up, while nobody was told of it; 0 = none.
    pub(crate) standing: u64,
    /// What it went up with, and when its head was complete.
    pub(crate) ids: Ids,
    pub(crate) received_at_ms: f64,
    pub(crate) is_head: bool,
    pub(crate) is_http10: bool,

    // ── request ──
    /// As it was told, for as long as it may be sent upstream.
    pub(crate) head: Vec<u8>,
    /// -1 = chunked.
    pub(crate) body_length: i64,
    /// The client said that it is 0 (H-28).
    pub(crate) says_zero: bool,
    pub(crate) received: u64,
    pub(crate) is_complete: bool,
    /// 100 is owed to the client before its body comes.
    pub(crate) expects_continue: bool,
    /// The client keeps the connection.
    pub(crate) keeps_alive: bool,
    pub(crate) upgrade: bool,
    /// What an upstream must answer to the key that was sent in the name of a client without one (H-94).
    pub(crate) wanted_accept: Option<String>,
    /// What the request asks to go on with, when that is no WebSocket.
    pub(crate) protocol: Vec<u8>,
    /// The client takes trailers (H-26).
    pub(crate) accepts_trailers: bool,
    /// Of the request, as lines.
    pub(crate) trailers_up: Vec<u8>,
    /// What the head says of them.
    pub(crate) trailer_rules: TrailerRules,
    pub(crate) sink: Sink,
    pub(crate) held: Held,
    /// What `read_request_body` asked for last; -1 = nothing.
    pub(crate) collect: i64,
    /// It is to be held: whoever asked reads it here.
    pub(crate) holds_request: bool,
    pub(crate) replay: Vec<u8>,
    /// More went upstream than is kept.
    pub(crate) replay_lost: bool,

    // ── upstream ──
    pub(crate) leg: Option<LegId>,
    pub(crate) leg_writable: bool,
    /// Something of the body went to the present leg.
    pub(crate) leg_touched: bool,
    pub(crate) connected_at_ms: f64,
    pub(crate) reused: bool,

    // ── answer ──
    /// It leaves without a question, with these edits.
    pub(crate) pass: Option<KeptEdits>,
    /// It left so, and nobody knows yet.
    pub(crate) passed_status: u16,
    pub(crate) upstream: Option<HeadFacts>,
    pub(crate) upstream_ended: bool,
    pub(crate) first_byte_at_ms: f64,
    /// What `read_response_body` asked for last; -1 = nothing.
    pub(crate) collect_response: i64,
    pub(crate) holds_response: bool,
    /// Body of the upstream that waits for somebody to say where it goes.
    pub(crate) out: Held,
    /// Of the upstream's answer, as lines, for a client that takes them.
    pub(crate) trailers_down: Vec<u8>,
    pub(crate) filtered: bool,
    /// The filter wants no more of the upstream's body at present.
    pub(crate) is_held: bool,
    /// The head in front of what the filter makes, until there is any of that.
    pub(crate) filtered_head: Option<Vec<u8>>,
    pub(crate) answer: Answer,
    pub(crate) status: u16,
    /// What has begun to leave does not end by itself.
    pub(crate) is_event_stream: bool,
    pub(crate) sent: u64,
    /// The client takes no more at present.
    pub(crate) is_blocked: bool,
    pub(crate) rule: &'static str,
    pub(crate) tunnel: bool,
    /// Of an open tunnel: the upstream's frames.
    pub(crate) frames: Option<Box<Frames>>,
    /// The client has been told that the tunnel closes: the upstream has nothing more to say to it.
    pub(crate) is_dismissed: bool,
    /// When something last came from either side of it. For a stream's upload: since when its progress is measured.
    pub(crate) moved_ms: u64,
    /// Bytes of the request that had come then.
    pub(crate) measured: u64,
    /// A stream of which no more body is wanted at present.
    pub(crate) is_paused: bool,
}

impl Exchange {
    pub(crate) fn new(connection: u64, listener: u32) -> Self {
        Exchange {
            connection,
            listener,
            stream: 0,
            standing: 0,
            ids: Ids::default(),
            received_at_ms: 0.0,
            is_head: false,
            is_http10: false,
            head: Vec::new(),
            body_length: 0,
            says_zero: false,
            received: 0,
            is_complete: true,
            expects_continue: false,
            keeps_alive: true,
            upgrade: false,
            wanted_accept: None,
            protocol: Vec::new(),
            accepts_trailers: false,
            trailers_up: Vec::new(),
            trailer_rules: TrailerRules::default(),
            sink: Sink::Hold,
            held: Held::new(),
            collect: -1,
            holds_request: false,
            replay: Vec::new(),
            replay_lost: false,
            leg: None,
            leg_writable: false,
            leg_touched: false,
            connected_at_ms: 0.0,
            reused: false,
            pass: None,
            passed_status: 0,
            upstream: None,
            upstream_ended: false,
            first_byte_at_ms: 0.0,
            collect_response: -1,
            holds_response: false,
            out: Held::new(),
            trailers_down: Vec::new(),
            filtered: false,
            is_held: false,
            filtered_head: None,
            answer: Answer::None,
            status: 0,
            is_event_stream: false,
            sent: 0,
            is_blocked: false,
            rule: "",
            tunnel: false,
            frames: None,
            is_dismissed: false,
            moved_ms: 0,
            measured: 0,
            is_paused: false,
        }
    }

    /// What was known of an upstream and its answer is nothing any more.
    pub(crate) fn forget_upstream(&mut self) {
        self.pass = None;
        self.upstream = None;
        self.upstream_ended = false;
        self.trailers_down = Vec::new();
        self.first_byte_at_ms = 0.0;
        self.collect_response = -1;
        self.out = Held::new();
        self.leg_writable = false;
        self.leg_touched = false;
        self.filtered = false;
        self.is_held = false;
        self.filtered_head = None;
    }

    /// Keeps what goes upstream, as long as it is little.
    pub(crate) fn keep(&mut self, data: &[u8]) {
        self.leg_touched = true;
        if self.replay_lost {
            return;
        }
        if self.replay.len() + data.len() > REPLAY_BYTES {
            self.replay_lost = true;
            self.replay = Vec::new();
        } else {
            self.replay.extend_from_slice(data);
        }
    }

    /// What went upstream waits again, to be sent once more. False when it was too much to be kept.
    pub(crate) fn take_back(&mut self) -> bool {
        if self.replay_lost {
            return false;
        }
        if !self.replay.is_empty() {
            let mut whole = std::mem::take(&mut self.replay);
            whole.extend_from_slice(self.held.bytes());
            self.held = Held::from(whole);
        }
        true
    }
}
