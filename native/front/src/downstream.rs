//! What is done to a client on behalf of an exchange: the head of its answer, the body, its end.
//!
//! Source: RFC 9112 §6, §7, §9; H-27, H-28, H-31 … H-33, H-37, H-53, H-58, H-62.

use std::time::{Duration, Instant};

use sallyport_http1::chunk_size;

use crate::connection::{Coding, Phase};
use crate::event::{End, Event, ExchangeId};
use crate::exchange::{Answer, Sink};
use crate::front::Front;
use crate::head::{
    extra_lines, phrase, write_answer, write_length, write_passed, AnswerHead, BadHead,
};
use crate::held::Held;
use crate::http1::DISCARD_BYTES;
use crate::wire::Received;

/// How long an answer waits for others.
const MOST_POSTPONED: Duration = Duration::from_micros(500);

/// The body of an answer, as far as it is known when its head leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyFacts {
    /// -1 = unknown.
    pub(crate) length: i64,
    /// What to announce where no body follows (HEAD, 304); -1 = nothing.
    pub(crate) announced: i64,
}

fn is_event_stream(head: &[u8]) -> bool {
    memchr::memmem::find(head, b"\ncontent-type: text/event-stream").is_some()
}

/// What follows the last data of a chunked answer that has trailers; empty without any.
fn last_chunk(trailers: Vec<u8>) -> Vec<u8> {
    if trailers.is_empty() {
        return trailers;
    }
    [b"\r\n0\r\n", trailers.as_slice(), b"\r\n"].concat()
}

impl Front {
    /// Interim lines, to a client that understands them and before its answer (H-62).
    pub(crate) fn inform(&mut self, exchange: u64, text: &[u8]) {
        let Some(state) = self.exchanges.get(exchange) else { return };
        if state.is_http10 || state.answer != Answer::None {
            return;
        }
        if state.stream != 0 {
            return self.inform_stream(exchange, text);
        }
        if let Some(connection) = self.connections.get_mut(state.connection) {
            connection.wire.send(&[text]);
        }
    }

    /// Writes the head, and what is there of the body. `is_last`: nothing follows `first`.
    pub(crate) fn start_answer(
        &mut self,
        exchange: u64,
        head: AnswerHead<'_>,
        body: BodyFacts,
        first: &[u8],
        is_last: bool,
    ) -> Result<(), BadHead> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let result = self.start_answer_in(&mut text, exchange, head, body, first, is_last);
        self.text = text;
        result
    }

    fn start_answer_in(
        &mut self,
        text: &mut Vec<u8>,
        exchange: u64,
        head: AnswerHead<'_>,
        body: BodyFacts,
        first: &[u8],
        is_last: bool,
    ) -> Result<(), BadHead> {
        let (status, has_date) = match head {
            AnswerHead::Made(head) => write_answer(text, head)?,
            AnswerHead::Passed(edits) => write_passed(text, self.pool.head(), edits)?,
        };
        let Some(state) = self.exchanges.get_mut(exchange) else { return Ok(()) };
        if state.stream != 0 {
            self.start_stream(exchange, (text, status, has_date), body, first, is_last);
            return Ok(());
        }
        let key = state.connection;
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let is_empty = state.is_head || status == 204 || status == 304;
        let has_trailers = !state.trailers_down.is_empty() && !state.is_http10;
        let left = state.body_length - state.received as i64;
        // What is still to come of the request is read and thrown away, or ends the connection (H-37).
        let leaves_body = !state.is_complete
            && (state.body_length == -1 || state.expects_continue || left > DISCARD_BYTES as i64);
        let mut closes = !state.keeps_alive || self.is_draining || state.upgrade || leaves_body;
        let coding = if is_empty {
            Coding::Empty
        } else if body.length >= 0 && !has_trailers {
            Coding::Length(body.length as u64)
        } else if state.is_http10 {
            closes = true;
            Coding::UntilClose
        } else {
            Coding::Chunked
        };
        if closes {
            text.extend_from_slice(b"connection: close\r\n");
        } else if state.is_http10 {
            text.extend_from_slice(b"connection: keep-alive\r\n");
        }
        if !has_date {
            text.extend_from_slice(self.date.now());
        }
        match coding {
            Coding::Empty => {
                if status != 204 && body.announced >= 0 {
                    write_length(text, body.announced as u64);
                }
            }
            Coding::Length(length) => write_length(text, length),
            Coding::Chunked => {
                state.is_event_stream = is_event_stream(text);
                text.extend_from_slice(b"transfer-encoding: chunked\r\n");
            }
            Coding::UntilClose => {}
        }
        text.extend_from_slice(b"\r\n");
        let http1 = connection.http1();
        http1.coding = coding;
        http1.closes = closes;
        state.status = status;
        state.answer = Answer::Body;
        if is_empty {
            state.answer = Answer::Ended;
            self.put_answer(exchange, key, &[text]);
            return Ok(());
        }
        self.write_body(exchange, text, first, is_last);
        Ok(())
    }

    /// A piece of the body behind a head that is out.
    pub(crate) fn send_body(&mut self, exchange: u64, data: &[u8], is_last: bool) {
        let Some(state) = self.exchanges.get(exchange) else { return };
        if state.answer != Answer::Body {
            return;
        }
        if state.stream != 0 {
            self.write_stream(exchange, data, is_last);
        } else {
            self.write_body(exchange, &[], data, is_last);
        }
    }

    fn write_body(&mut self, exchange: u64, before: &[u8], data: &[u8], is_last: bool) {
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        let key = state.connection;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut size = [0; 18];
        let http1 = connection.http1();
        let mut data = data;
        let mut is_last = is_last;
        let trailers = if is_last && http1.coding == Coding::Chunked {
            last_chunk(std::mem::take(&mut state.trailers_down))
        } else {
            Vec::new()
        };
        let (prefix, suffix): (&[u8], &[u8]) = match &mut http1.coding {
            Coding::Chunked if !trailers.is_empty() && data.is_empty() => (b"", &trailers[2..]),
            Coding::Chunked if !trailers.is_empty() => {
                (chunk_size(&mut size, data.len()), &trailers)
            }
            Coding::Chunked if data.is_empty() => (b"", if is_last { b"0\r\n\r\n" } else { b"" }),
            Coding::Chunked => (
                chunk_size(&mut size, data.len()),
                if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" },
            ),
            Coding::Length(left) => {
                // More than was announced never leaves (H-124); less is found by whoever ends the answer.
                data = &data[..data.len().min(usize::try_from(*left).unwrap_or(usize::MAX))];
                *left -= data.len() as u64;
                is_last = *left == 0;
                (b"", b"")
            }
            Coding::UntilClose | Coding::Empty => (b"", b""),
        };
        state.sent += data.len() as u64;
        if is_last {
            state.answer = Answer::Ended;
        }
        if !before.is_empty() && prefix.is_empty() && suffix.is_empty() {
            self.put_answer(exchange, key, &[before, data]);
        } else if !before.is_empty() || !prefix.is_empty() || !suffix.is_empty() {
            self.put_answer(exchange, key, &[before, prefix, data, suffix]);
        } else if !data.is_empty() {
            self.put_answer(exchange, key, &[data]);
        } else {
            self.sent(exchange, key);
        }
    }

    /// Writes a part of an answer. The small last part of one waits for those of others: one send after the other costs the
    /// system less than sends between reads. For the exchange it is out.
    fn put_answer(&mut self, exchange: u64, key: u64, pieces: &[&[u8]]) {
        let Some(state) = self.exchanges.get(exchange) else { return };
        let is_last = state.answer == Answer::Ended;
        let space = if is_last && self.in_turn { self.buffer() } else { Vec::new() };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let waits = is_last
            && self.in_turn
            && connection.phase == Phase::Answer
            && !connection.is_ended
            && !connection.http1().closes
            && connection.wire.may_postpone(length);
        if !waits {
            connection.wire.send(pieces);
            return self.sent(exchange, key);
        }
        let is_first = connection.wire.pending() == 0;
        connection.wire.postpone(pieces, space);
        if is_first {
            if self.postponed.is_empty() {
                self.postponed_since = Instant::now();
            }
            self.postponed.push(key);
        }
        self.answered(exchange, key);
    }

    /// Sends what was postponed.
    pub(crate) fn send_postponed(&mut self) {
        let mut postponed = std::mem::take(&mut self.postponed);
        for key in postponed.drain(..) {
            self.flush(key);
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if connection.phase == Phase::Head {
                let space = connection.wire.rest();
                self.recycle(space);
            }
        }
        self.postponed = postponed;
    }

    /// The same, if it has waited for too long: JavaScript is called next.
    pub(crate) fn send_overdue(&mut self) {
        if !self.postponed.is_empty() && self.postponed_since.elapsed() >= MOST_POSTPONED {
            self.send_postponed();
        }
    }

    /// After a write: is the answer out, is the client too slow, is it gone?
    pub(crate) fn sent(&mut self, exchange: u64, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.wire.is_broken() {
            self.close_connection(key, End::ClientAbort);
            return;
        }
        let pending = connection.wire.pending();
        if connection.is_ended {
            // Something was written: the connection is looked at again after a whole window (see `expired`).
            connection.window_bytes += 1;
        }
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        if pending == 0 {
            if state.answer == Answer::Ended {
                self.answered(exchange, key);
            }
            return;
        }
        let begins = connection.deadline_ms == 0;
        let blocks = !state.is_blocked && pending >= self.limits.stream_buffer_bytes;
        if blocks {
            state.is_blocked = true;
            if let Some(leg) = state.leg {
                self.pool.pause(leg);
            }
        }
        if begins {
            self.measure(key);
        }
    }

    /// The socket takes more.
    pub(crate) fn flush(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let taken = connection.wire.flush();
        connection.window_bytes += taken as u64;
        if connection.wire.is_broken() {
            self.close_connection(key, End::ClientAbort);
            return;
        }
        let pending = connection.wire.pending();
        if connection.phase == Phase::Streams {
            if pending == 0 {
                self.work_streams(key);
            }
            return;
        }
        if pending == 0 && connection.phase == Phase::Linger && connection.exchange() == 0 {
            self.linger(key);
            return;
        }
        if pending == 0 && connection.phase == Phase::Answer && !connection.is_ended {
            connection.deadline_ms = 0;
        }
        let exchange = connection.exchange();
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        if pending == 0 && state.answer == Answer::Ended {
            self.answered(exchange, key);
        } else if state.is_blocked && pending <= self.limits.stream_buffer_bytes / 4 {
            self.unblock(exchange);
        }
    }

    /// The client takes more.
    pub(crate) fn unblock(&mut self, exchange: u64) {
        let Some(state) = self.exchanges.get_mut(exchange) else { return };
        state.is_blocked = false;
        let (filtered, is_held) = (state.filtered, state.is_held);
        if let (Some(leg), false) = (state.leg, is_held) {
            self.pool.resume(leg);
        }
        if filtered {
            self.push(Event::FilterWritable { exchange: ExchangeId(exchange) });
        }
    }

    /// All bytes of the answer are with the system.
    fn answered(&mut self, exchange: u64, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let closes = connection.http1().closes;
        let phase = connection.phase;
        if phase == Phase::Tunnel {
            connection.wire.end();
        }
        if connection.is_ended && phase == Phase::Answer {
            match self.read_to_end(key) {
                Some(Received::End) => return self.confirm_answer(key),
                Some(Received::Broken) => return self.close_connection(key, End::ClientAbort),
                _ => {}
            }
        }
        self.end_exchange(exchange, End::Complete, None);
        if closes || phase == Phase::Tunnel || phase == Phase::Linger {
            self.close_after_answer(key);
        } else if phase == Phase::Answer {
            self.next_request(key);
        } else {
            // The rest of the request's body is thrown away first.
            let Some(connection) = self.connections.get_mut(key) else { return };
            connection.discarded = 0;
            let was_paused = std::mem::replace(&mut connection.is_paused, false);
            let may_have_more = was_paused || connection.is_readable;
            self.measure(key);
            if may_have_more {
                self.push_again(key);
            }
        }
    }

    /// What is left to be read of a client that has ended its side, or may have: requests, which go to its buffer, or nothing.
    /// `None` where that is not to be known now.
    pub(crate) fn read_to_end(&mut self, key: u64) -> Option<Received> {
        let connection = self.connections.get_mut(key)?;
        // Without memory somebody else is reading just now.
        if !connection.input.is_empty() || self.scratch.is_empty() {
            return None;
        }
        let received = connection.wire.receive(&mut self.scratch);
        if let Received::Bytes(length, _) = received {
            connection.input.extend_from_slice(&self.scratch[..length]);
        }
        Some(received)
    }

    /// The answer is out to a client that had ended its side. One that only half-closed takes it (T-23); one that was gone
    /// refuses it, and that is a client that did not wait (O-62). The exchange ends when that is known.
    fn confirm_answer(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.phase = Phase::Linger;
        connection.wire.end();
        connection.is_readable = false;
        if connection.wire.has_failed() {
            self.close_connection(key, End::ClientAbort);
            return;
        }
        self.deadline_in(key, self.limits.linger_ms);
    }

    /// Answers an error by ourselves, inside an exchange of which nothing has left us.
    pub(crate) fn answer_error(&mut self, exchange: u64, status: u16, body: &str) {
        let head = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n{}",
            phrase(status),
            extra_lines(status)
        );
        // The head is ours.
        let _ = self.respond(ExchangeId(exchange), head.as_bytes(), body.as_bytes());
    }

    /// See [`Front::respond`].
    pub(crate) fn respond_whole(
        &mut self,
        exchange: u64,
        head: &[u8],
        body: &[u8],
    ) -> Result<(), BadHead> {
        let Some(state) = self.exchanges.get_mut(exchange) else { return Ok(()) };
        state.sink = Sink::Discard;
        state.held = Held::new();
        state.out = Held::new();
        state.trailers_down = Vec::new();
        let length = body.len() as i64;
        let announced = if length > 0 { length } else { -1 };
        let head = AnswerHead::Made(head);
        self.start_answer(exchange, head, BodyFacts { length, announced }, body, true)?;
        self.resume_request(exchange);
        Ok(())
    }

    /// The answer breaks off: the client must see that it is not whole (H-33).
    pub(crate) fn break_off(
        &mut self,
        exchange: u64,
        end: End,
        failure: Option<sallyport_upstream::Failure>,
    ) {
        let Some(state) = self.exchanges.get(exchange) else { return };
        if state.stream != 0 {
            return self.break_stream(exchange, end, failure);
        }
        let key = state.connection;
        if let Some(connection) = self.connections.get_mut(key) {
            if connection.http1().coding == Coding::UntilClose {
                connection.wire.reset_on_close();
            }
        }
        self.end_exchange(exchange, end, failure);
        self.close_connection(key, end);
    }
}
