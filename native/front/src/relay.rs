//! Exchanges between their two sides: the request's body on its way up, the upstream's answer on its way down, and what the
//! gateway asks for.
//!
//! Source: H-30, H-33, H-36 … H-39, H-62, H-70, H-71.

use sallyport_http1::CheckedHead;
use sallyport_upstream::{
    Event as UpstreamEvent, Failure, LegId, Reason, RequestHead, Sent, TargetId, Use,
};

use crate::downstream::BodyFacts;
use crate::edits::{Edits, KeptEdits};
use crate::event::{End, Event, ExchangeId};
use crate::exchange::{Answer, Sink};
use crate::front::Front;
use crate::head::{AnswerHead, BadHead};
use crate::held::{Held, LentBody};

/// What a request needs no second look for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Relay<'a> {
    /// The head to be sent is that of the request as it came, with the given lines behind it.
    pub adds: bool,
    /// The answer may leave at once, with these edits. `Passed`, or the record, tells of it; where it cannot (101), there is
    /// a `Response` as always.
    pub answer: Option<Edits<'a>>,
}

impl Front {
    // ── the request's body ──

    /// A piece of a request's body.
    pub(crate) fn take(&mut self, exchange: u64, data: &[u8]) {
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        state.received += data.len() as u64;
        match state.sink {
            Sink::Discard => {}
            Sink::Hold => {
                state.held.extend_from_slice(data);
                self.pause_request(exchange);
            }
            Sink::Collect => {
                state.held.extend_from_slice(data);
                if state.held.len() as i64 >= state.collect {
                    self.collected(exchange, false);
                }
            }
            Sink::Upstream => {
                let Some(leg) = state.leg else { return };
                if state.held.is_empty() && state.leg_writable {
                    state.keep(data);
                    state.leg_writable = self.pool.write(leg, data);
                    if !state.leg_writable {
                        self.pause_request(exchange);
                    }
                    return;
                }
                state.held.extend_from_slice(data);
                if state.held.len() >= self.limits.stream_buffer_bytes {
                    self.pause_request(exchange);
                }
            }
        }
    }

    /// All of a request's body has come.
    pub(crate) fn request_complete(&mut self, exchange: u64) {
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        state.is_complete = true;
        match state.sink {
            Sink::Collect => self.collected(exchange, true),
            Sink::Upstream if state.held.is_empty() => {
                if let Some(leg) = state.leg {
                    self.pool.end_with(leg, &state.trailers_up);
                }
            }
            Sink::Hold | Sink::Upstream | Sink::Discard => {}
        }
    }

    fn collected(&mut self, exchange: u64, is_complete: bool) {
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        state.sink = Sink::Hold;
        let is_complete = is_complete && state.held.len() as i64 <= state.collect;
        let is_held = state.holds_request;
        self.pause_request(exchange);
        self.push(Event::RequestBody { exchange: ExchangeId(exchange), is_complete, is_held });
    }

    /// Collects the request's body up to so many bytes; `RequestBody` answers once. Ignored unless more is asked for than before.
    pub fn read_request_body(&mut self, exchange: ExchangeId, limit_bytes: usize) {
        self.collect_request(exchange, limit_bytes, false);
    }

    /// The same for who reads it where it lies.
    pub fn hold_request_body(&mut self, exchange: ExchangeId, limit_bytes: usize) {
        self.collect_request(exchange, limit_bytes, true);
    }

    fn collect_request(&mut self, exchange: ExchangeId, limit_bytes: usize, is_held: bool) {
        self.look_at_clock();
        let Some(state) = self.exchanges.get_mut(exchange.0) else { return };
        if state.sink != Sink::Hold || limit_bytes as i64 <= state.collect {
            return;
        }
        state.collect = limit_bytes as i64;
        state.holds_request = is_held;
        state.sink = Sink::Collect;
        if state.is_complete || state.held.len() >= limit_bytes {
            let is_complete = state.is_complete;
            self.collected(exchange.0, is_complete);
            return;
        }
        self.owe_continue(exchange.0);
        self.resume_request(exchange.0);
    }

    /// What `RequestBody` told of, no more than was asked for.
    pub fn request_body(&mut self, exchange: ExchangeId) -> &[u8] {
        self.exchanges.get_mut(exchange.0).map_or(&[], |state| {
            let (bytes, most) = (state.held.bytes(), usize::try_from(state.collect).unwrap_or(0));
            &bytes[..bytes.len().min(most)]
        })
    }

    /// The same to be read by another thread. It must be over before the request goes upstream, or that is copied.
    pub fn lend_request_body(&mut self, exchange: ExchangeId) -> Option<LentBody> {
        let state = self.exchanges.get_mut(exchange.0)?;
        Some(state.held.lend(usize::try_from(state.collect).unwrap_or(0)))
    }

    // ── upstream ──

    /// Sends the request upstream, or once more to another server: `head` as it shall arrive there, framing is added; `body`
    /// replaces the client's; a request for a WebSocket has none.
    ///
    /// # Errors
    /// When `head` is not one request's, or `relay` has what is no lines; nothing was sent.
    pub fn forward(
        &mut self,
        exchange: ExchangeId,
        target: TargetId,
        head: &[u8],
        body: Option<&[u8]>,
        relay: Relay<'_>,
    ) -> Result<(), BadHead> {
        self.look_at_clock_between_turns();
        let key = exchange.0;
        let Some(state) = self.exchanges.get_mut(key) else { return Ok(()) };
        if state.answer != Answer::None || state.tunnel {
            return Ok(());
        }
        if state.upstream.is_some() {
            if state.sink == Sink::Upstream {
                state.sink = Sink::Hold;
            }
            state.take_back();
        }
        self.drop_leg(key);
        let Some(state) = self.exchanges.get_mut(key) else { return Ok(()) };
        state.forget_upstream();
        if self.borrowed == key {
            self.borrowed = 0;
        }
        if relay.adds && state.head.is_empty()
            || relay.answer.is_some_and(|edits| !edits.are_valid(&mut self.answer_lines))
        {
            return Err(BadHead);
        }
        if state.upgrade {
            let mut whole = if relay.adds { state.head.clone() } else { Vec::new() };
            whole.extend_from_slice(head);
            return self.forward_upgrade(key, target, &whole);
        }
        if let Some(edits) = relay.answer {
            let space = self.spare.pop().unwrap_or_default();
            state.pass = Some(KeptEdits::new(edits, space));
        }
        // collected whole its length is known, however it came (H-28)
        let is_known = state.is_complete && state.held.len() as i64 <= state.collect;
        let purpose = Use {
            interim: !state.is_http10,
            chunked: state.body_length == -1 && !is_known,
            says_zero: state.says_zero,
            trailers: state.accepts_trailers,
            ..Use::default()
        };
        let kept = std::mem::take(&mut state.head);
        let is_whole = state.is_complete && state.trailers_up.is_empty();
        let announced;
        let line = &state.trailer_rules.line;
        let is_chunked = body.is_none() && !is_whole && state.body_length == -1;
        let made = if is_chunked && !line.is_empty() {
            announced = [head, line].concat();
            &announced
        } else {
            head
        };
        let head = if relay.adds {
            RequestHead::behind(CheckedHead::written(&kept), made)
        } else {
            RequestHead::whole(made)
        };
        let sent = if let Some(body) = body {
            state.sink = Sink::Discard;
            self.pool.send_for(target, head, Ok(body), Use { chunked: false, ..purpose })
        } else if is_whole {
            self.pool.send_for(target, head, Ok(state.held.bytes()), purpose)
        } else {
            // Trailers follow a body that is written, even one that is there as a whole.
            state.sink = Sink::Upstream;
            self.pool.send_for(target, head, Err(state.body_length), purpose)
        };
        state.head = kept;
        self.started(key, sent)?;
        let Some(state) = self.exchanges.get(key) else { return Ok(()) };
        if !state.is_complete {
            self.owe_continue(key);
            if state_wants_more(self, key) {
                self.resume_request(key);
            }
        }
        Ok(())
    }

    pub(crate) fn started(&mut self, key: u64, sent: Sent) -> Result<(), BadHead> {
        let now = self.clock_at(self.pool.now());
        let Some(state) = self.exchanges.get_mut(key) else { return Ok(()) };
        let (leg, is_reused) = match sent {
            Sent::Reused(leg) => (leg, true),
            Sent::Later(leg) => (leg, false),
            Sent::Overflow => {
                self.fail_leg(key, Reason::Overflow, "too many requests wait for a connection");
                return Ok(());
            }
            Sent::NoTarget => {
                self.fail_leg(key, Reason::ConnectFailed, "the target is gone");
                return Ok(());
            }
            Sent::BadHead => {
                if state.sink == Sink::Upstream {
                    state.sink = Sink::Hold;
                }
                return Err(BadHead);
            }
        };
        state.leg = Some(leg);
        state.connected_at_ms = 0.0;
        state.reused = is_reused;
        if is_reused {
            state.connected_at_ms = now;
        }
        let slot = leg.slot() as usize;
        if self.legs.len() <= slot {
            self.legs.resize(slot + 1, 0);
        }
        self.legs[slot] = key;
        if is_reused {
            self.leg_writable(key);
        }
        Ok(())
    }

    /// A leg that never came about.
    pub(crate) fn fail_leg(&mut self, key: u64, reason: Reason, detail: &str) {
        let failure = Failure { reason, detail: detail.to_owned(), not_processed: true };
        self.upstream_failed(key, failure);
    }

    /// Ends the leg without a word to the gateway.
    pub(crate) fn drop_leg(&mut self, key: u64) {
        let Some(state) = self.exchanges.get_mut(key) else { return };
        if let Some(leg) = state.leg.take() {
            self.pool.abort(leg);
        }
    }

    /// Nothing of an answer has left us, and the request's body could be sent again from the beginning (H-71).
    pub fn can_repeat(&self, exchange: ExchangeId) -> bool {
        self.exchanges
            .get(exchange.0)
            .is_some_and(|state| state.answer == Answer::None && !state.replay_lost)
    }

    /// The leg takes body.
    fn leg_writable(&mut self, key: u64) {
        let Some(state) = self.exchanges.get_mut(key) else { return };
        let Some(leg) = state.leg else { return };
        if state.tunnel {
            self.tunnel_writable(key);
            return;
        }
        if state.sink != Sink::Upstream {
            return;
        }
        state.leg_writable = true;
        if !state.held.is_empty() {
            let held = state.held.take();
            state.keep(&held);
            state.leg_writable = self.pool.write(leg, &held);
        }
        if state.is_complete {
            self.pool.end_with(leg, &state.trailers_up);
        } else if state.leg_writable {
            self.resume_request(key);
        }
    }

    // ── the upstream's answer ──

    /// Something happened to a leg.
    pub(crate) fn upstream_event(&mut self, event: UpstreamEvent) {
        let Some(key) = self.exchange_of(event.leg) else { return };
        let is_over = event.ended || event.failure.is_some();
        let now =
            if event.connected.is_some() || event.head.is_some() { self.clock_ms() } else { 0.0 };
        let Some(state) = self.exchanges.get_mut(key) else { return };
        if let Some(is_reused) = event.connected {
            state.connected_at_ms = now;
            state.reused = is_reused;
        }
        if is_over {
            state.leg = None;
        }
        if let Some(failure) = event.failure {
            self.upstream_failed(key, failure);
            return;
        }
        state.upstream_ended |= event.ended;
        if event.has_trailers && state.accepts_trailers {
            state.trailers_down = self.pool.trailers().to_vec();
            if state.filtered {
                drop_digests(&mut state.trailers_down);
            }
        }
        if event.writable {
            self.leg_writable(key);
        }
        if event.interim {
            let interim = std::mem::take(&mut self.text);
            let mut interim = interim;
            interim.clear();
            interim.extend_from_slice(self.pool.interim());
            self.inform(key, &interim);
            self.text = interim;
        }
        if event.head.is_some_and(|head| head.status == 101) && !self.is_right_upgrade(key) {
            return self.refuse_upgrade(key);
        }
        if let Some(head) = event.head {
            let Some(state) = self.exchanges.get_mut(key) else { return };
            state.first_byte_at_ms = now;
            state.upstream = Some(head);
            if event.has_data {
                self.borrowed = key;
            }
            if head.status != 101 {
                if let Some(mut edits) = state.pass.take() {
                    edits.fill_clocks(&mut self.iso);
                    self.pass(key, head.status, &edits);
                    self.recycle(edits.into_space());
                    return;
                }
            }
            let (exchange, status) = (ExchangeId(key), head.status);
            let body_length = if status == 101 { 0 } else { head.body_length };
            self.push(Event::Response { exchange, status, body_length });
            return;
        }
        if event.has_data {
            self.upstream_data(key, event.ended);
        } else if event.ended {
            self.upstream_ended(key);
        }
    }

    fn exchange_of(&self, leg: LegId) -> Option<u64> {
        let key = *self.legs.get(leg.slot() as usize)?;
        (self.exchanges.get(key)?.leg == Some(leg)).then_some(key)
    }

    /// Text of the head that `Response` told of; right after the event only.
    pub fn response_head(&self) -> &[u8] {
        self.pool.head()
    }

    /// Body data of the last event is the pool's until the next: what nobody has taken is kept.
    pub(crate) fn keep_borrowed(&mut self) {
        let key = std::mem::take(&mut self.borrowed);
        if key == 0 {
            return;
        }
        let Some(state) = self.exchanges.get_mut(key) else { return };
        state.out.extend_from_slice(self.pool.data());
        // Nobody has said where the body goes: it waits upstream.
        if let Some(leg) = state.leg {
            self.pool.pause(leg);
        }
    }

    /// A piece of the body, in the pool.
    fn upstream_data(&mut self, key: u64, is_last: bool) {
        let Some(state) = self.exchanges.get_mut(key) else { return };
        if state.filtered {
            let data = self.pool.data().to_vec();
            self.push(Event::FilterData { exchange: ExchangeId(key), data });
            if is_last {
                self.push(Event::FilterEnd { exchange: ExchangeId(key) });
            }
            return;
        }
        if state.answer == Answer::None {
            state.out.extend_from_slice(self.pool.data());
            let is_enough =
                state.collect_response >= 0 && state.out.len() as i64 >= state.collect_response;
            if is_enough || (is_last && state.collect_response >= 0) {
                self.response_collected(key, is_last);
            }
            return;
        }
        if state.tunnel {
            self.tunnel_down(key, is_last);
            return;
        }
        // Straight from the pool's memory to the client's socket.
        let data = self.pool.lend();
        self.send_body(key, data.bytes(), is_last);
        self.pool.take_back(data);
    }

    /// The body is complete.
    fn upstream_ended(&mut self, key: u64) {
        let Some(state) = self.exchanges.get_mut(key) else { return };
        if state.filtered {
            self.push(Event::FilterEnd { exchange: ExchangeId(key) });
        } else if state.answer == Answer::None {
            if state.collect_response >= 0 {
                self.response_collected(key, true);
            }
        } else if state.tunnel {
            self.tunnel_down_ended(key);
        } else {
            self.send_body(key, &[], true);
        }
    }

    pub(crate) fn upstream_failed(&mut self, key: u64, failure: Failure) {
        let Some(state) = self.exchanges.get_mut(key) else { return };
        state.leg = None;
        if state.answer != Answer::None {
            self.break_off(key, End::Truncated, Some(failure));
            return;
        }
        let touched = state.leg_touched;
        state.forget_upstream();
        if state.standing != 0 {
            return self.failed_standing(key, failure);
        }
        // A body that was not touched, or is still at hand, can go to another target.
        let body_consumed = touched && !state.take_back();
        if state.sink == Sink::Upstream {
            if body_consumed {
                self.discard_request(key);
            } else {
                state.sink = Sink::Hold;
            }
        }
        self.push(Event::UpstreamFailed { exchange: ExchangeId(key), failure, body_consumed });
    }

    /// Collects the answer's body up to so many bytes before anything is sent; `ResponseBody` answers. Again only for more.
    pub fn read_response_body(&mut self, exchange: ExchangeId, limit_bytes: usize) {
        self.collect_response(exchange, limit_bytes, false);
    }

    /// The same for who reads it where it lies.
    pub fn hold_response_body(&mut self, exchange: ExchangeId, limit_bytes: usize) {
        self.collect_response(exchange, limit_bytes, true);
    }

    fn collect_response(&mut self, exchange: ExchangeId, limit_bytes: usize, is_held: bool) {
        self.look_at_clock();
        let key = exchange.0;
        if self.borrowed == key {
            self.keep_borrowed();
        }
        let Some(state) = self.exchanges.get_mut(key) else { return };
        let Some(upstream) = &state.upstream else { return };
        if limit_bytes as i64 <= state.collect_response || state.answer != Answer::None {
            return;
        }
        state.collect_response = limit_bytes as i64;
        state.holds_response = is_held;
        let announced = usize::try_from(upstream.body_length).unwrap_or(0);
        state.out.expect(announced.min(limit_bytes));
        if state.upstream_ended || state.out.len() >= limit_bytes {
            let is_complete = state.upstream_ended;
            self.response_collected(key, is_complete);
        } else if let Some(leg) = state.leg {
            self.pool.resume(leg);
        }
    }

    fn response_collected(&mut self, key: u64, is_complete: bool) {
        let Some(state) = self.exchanges.get_mut(key) else { return };
        if let Some(leg) = state.leg {
            self.pool.pause(leg);
        }
        let is_complete = is_complete && state.out.len() as i64 <= state.collect_response;
        let is_held = state.holds_response;
        self.push(Event::ResponseBody { exchange: ExchangeId(key), is_complete, is_held });
    }

    /// What `ResponseBody` told of, no more than was asked for.
    pub fn response_body(&mut self, exchange: ExchangeId) -> &[u8] {
        self.exchanges.get_mut(exchange.0).map_or(&[], |state| {
            let most = usize::try_from(state.collect_response).unwrap_or(0);
            let bytes = state.out.bytes();
            &bytes[..bytes.len().min(most)]
        })
    }

    /// The same to be read by another thread. It must be over before the answer goes on, or that is copied.
    pub fn lend_response_body(&mut self, exchange: ExchangeId) -> Option<LentBody> {
        let state = self.exchanges.get_mut(exchange.0)?;
        Some(state.out.lend(usize::try_from(state.collect_response).unwrap_or(0)))
    }

    /// Sends the upstream's answer on: `head` as it shall leave us, then what was collected, then the rest; or `body` instead
    /// of all that. `is_filtered`: the body goes through `FilterData` and comes back by `write_response` and
    /// `end_response`; returns whether it does, which is only where a body follows.
    ///
    /// # Errors
    /// When `head` is not one answer's; nothing was sent.
    pub fn continue_response(
        &mut self,
        exchange: ExchangeId,
        head: &[u8],
        body: Option<&[u8]>,
        is_filtered: bool,
    ) -> Result<bool, BadHead> {
        self.look_at_clock_between_turns();
        let key = exchange.0;
        let Some(state) = self.exchanges.get_mut(key) else { return Ok(false) };
        let is_upgrade = state.upstream.is_some_and(|upstream| upstream.status == 101);
        if is_upgrade && state.answer == Answer::None {
            return self.open_tunnel(key, head).map(|()| false);
        }
        self.continue_with(key, AnswerHead::Made(head), body, is_filtered)
    }

    /// Sends the upstream's answer on without a question.
    fn pass(&mut self, key: u64, status: u16, edits: &KeptEdits) {
        let Some(state) = self.exchanges.get_mut(key) else { return };
        state.passed_status = status;
        // The head is one of ours, and the edits were looked at when they came.
        let _ = self.continue_with(key, AnswerHead::Passed(edits), None, false);
        let Some(state) = self.exchanges.get_mut(key) else { return };
        state.passed_status = 0;
        if state.standing != 0 {
            return self.passed_standing(key, status);
        }
        let (exchange, first_byte_at_ms) = (ExchangeId(key), state.first_byte_at_ms);
        self.push(Event::Passed { exchange, status, first_byte_at_ms });
    }

    fn continue_with(
        &mut self,
        key: u64,
        head: AnswerHead<'_>,
        body: Option<&[u8]>,
        is_filtered: bool,
    ) -> Result<bool, BadHead> {
        let Some(state) = self.exchanges.get_mut(key) else { return Ok(false) };
        if state.answer != Answer::None {
            return Ok(false);
        }
        let Some(upstream) = state.upstream else { return Ok(false) };
        // The body has gone up, or will: nothing is sent again.
        state.replay_lost = true;
        state.replay = Vec::new();
        if state.is_complete {
            state.held = Held::new();
        }
        let request_head = std::mem::take(&mut state.head);
        if let AnswerHead::Made(head) = head {
            let is_empty = state.is_head || matches!(head.get(9..12), Some(b"204" | b"304"));
            if is_filtered && !is_empty && upstream.body_length != 0 {
                return self.continue_filtered(key, head).map(|()| true);
            }
        }
        self.recycle(request_head);
        let Some(state) = self.exchanges.get_mut(key) else { return Ok(false) };
        if let Some(body) = body {
            self.drop_leg(key);
            if self.borrowed == key {
                self.borrowed = 0;
            }
            state_without_trailers(self, key);
            let length = body.len() as i64;
            let announced = if is_filtered || length == 0 { -1 } else { length };
            self.start_answer(key, head, BodyFacts { length, announced }, body, true)?;
            return Ok(false);
        }
        let is_ended = state.upstream_ended;
        let announced = if is_filtered { -1 } else { upstream.content_length };
        let mut length = upstream.body_length;
        if self.borrowed == key && state.out.is_empty() {
            // The usual case: from the pool's memory to the socket, without a copy.
            self.borrowed = 0;
            let data = self.pool.lend();
            if is_ended && length < 0 {
                length = data.bytes().len() as i64;
            }
            let body = BodyFacts { length, announced };
            let result = self.start_answer(key, head, body, data.bytes(), is_ended);
            self.pool.take_back(data);
            result?;
        } else {
            let out = state.out.take();
            if is_ended && length < 0 {
                length = out.len() as i64;
            }
            self.start_answer(key, head, BodyFacts { length, announced }, &out, is_ended)?;
            self.recycle(out);
        }
        self.resume_response(key);
        Ok(false)
    }

    fn continue_filtered(&mut self, key: u64, head: &[u8]) -> Result<(), BadHead> {
        if self.borrowed == key {
            self.keep_borrowed();
        }
        let mut text = self.buffer();
        let written = crate::head::write_answer(&mut text, head);
        self.recycle(text);
        written?;
        let Some(state) = self.exchanges.get_mut(key) else { return Ok(()) };
        state.filtered = true;
        // It leaves with the first bytes that the filter makes: until then what goes wrong is still a 502.
        state.filtered_head = Some(head.to_vec());
        let data = state.out.take();
        let is_ended = state.upstream_ended;
        if !data.is_empty() {
            self.push(Event::FilterData { exchange: ExchangeId(key), data });
        }
        if is_ended {
            self.push(Event::FilterEnd { exchange: ExchangeId(key) });
        } else {
            self.resume_response(key);
        }
        Ok(())
    }

    /// More of the upstream's body may come.
    pub(crate) fn resume_response(&mut self, key: u64) {
        let Some(state) = self.exchanges.get(key) else { return };
        if state.is_blocked {
            return;
        }
        if let Some(leg) = state.leg {
            self.pool.resume(leg);
        }
    }

    /// Answers by ourselves, whole. Ends the upstream leg; the request's body is thrown away (H-37). After bytes of another
    /// answer went out the connection closes instead.
    ///
    /// # Errors
    /// When `head` is not one answer's; nothing was sent.
    pub fn respond(
        &mut self,
        exchange: ExchangeId,
        head: &[u8],
        body: &[u8],
    ) -> Result<(), BadHead> {
        self.look_at_clock();
        let key = exchange.0;
        let Some(state) = self.exchanges.get_mut(key) else { return Ok(()) };
        let has_answered = state.answer != Answer::None;
        self.drop_leg(key);
        if self.borrowed == key {
            self.borrowed = 0;
        }
        if has_answered {
            self.break_off(key, End::Aborted, None);
            return Ok(());
        }
        self.respond_whole(key, head, body)
    }

    /// Closes the client's connection without an answer.
    pub fn abort(&mut self, exchange: ExchangeId) {
        self.look_at_clock();
        self.break_off(exchange.0, End::Aborted, None);
    }

    // ── filters ──

    /// A piece of what the filter made. False: no more before `FilterWritable`.
    pub fn write_response(&mut self, exchange: ExchangeId, data: &[u8]) -> bool {
        self.look_at_clock();
        if !data.is_empty() {
            self.send_filtered(exchange.0, data, false);
        }
        self.exchanges.get(exchange.0).is_none_or(|state| !state.is_blocked)
    }

    /// The filter has made everything.
    pub fn end_response(&mut self, exchange: ExchangeId) {
        self.look_at_clock();
        self.send_filtered(exchange.0, &[], true);
    }

    fn send_filtered(&mut self, key: u64, data: &[u8], is_last: bool) {
        let Some(state) = self.exchanges.get_mut(key) else { return };
        let Some(head) = state.filtered_head.take() else {
            self.send_body(key, data, is_last);
            return;
        };
        let body = BodyFacts { length: -1, announced: -1 };
        // It was looked at when it came.
        let _ = self.start_answer(key, AnswerHead::Made(&head), body, data, is_last);
    }

    /// The filter wants no more of the upstream's body at present, or wants more again.
    pub fn hold_upstream(&mut self, exchange: ExchangeId, is_held: bool) {
        self.look_at_clock();
        let Some(state) = self.exchanges.get_mut(exchange.0) else { return };
        state.is_held = is_held;
        let Some(leg) = state.leg else { return };
        if is_held {
            self.pool.pause(leg);
        } else {
            self.pool.resume(leg);
        }
    }

    /// The upstream's body cannot be changed as asked: an answer that has begun breaks off.
    pub fn break_response(&mut self, exchange: ExchangeId, detail: &str) {
        self.look_at_clock();
        self.drop_leg(exchange.0);
        let failure = Failure {
            reason: Reason::BadResponse,
            detail: detail.to_owned(),
            not_processed: false,
        };
        self.upstream_failed(exchange.0, failure);
    }
}

/// The answer's body is another one: what was said of the upstream's goes.
fn state_without_trailers(front: &mut Front, key: u64) {
    if let Some(state) = front.exchanges.get_mut(key) {
        state.trailers_down = Vec::new();
    }
}

/// Trailers that speak of the bytes of a body that was changed (H-59).
fn drop_digests(trailers: &mut Vec<u8>) {
    let mut kept = Vec::with_capacity(trailers.len());
    for line in trailers.split_inclusive(|byte| *byte == b'\n') {
        if !line.starts_with(b"digest:") && !line.starts_with(b"repr-digest:") {
            kept.extend_from_slice(line);
        }
    }
    *trailers = kept;
}

/// Whether the request's body may be read on after a leg was begun.
fn state_wants_more(front: &Front, key: u64) -> bool {
    front.exchanges.get(key).is_some_and(|state| match state.sink {
        Sink::Discard => true,
        Sink::Upstream => state.held.len() < front.limits.stream_buffer_bytes,
        Sink::Hold | Sink::Collect => false,
    })
}
