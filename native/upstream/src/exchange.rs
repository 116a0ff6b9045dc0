//! A request on its connection: the request is written, the answer is read, and the connection serves the next one. Source: H-31 …
//! H-35, H-53, H-82.

use std::time::Duration;

use crate::connection::Phase;
use crate::deadline::{after, Deadline};
use crate::event::{Event, Reason};
use crate::passing::write_passed;
use crate::pool::Pool;
use crate::request::{RequestBody, KEEP_BUFFER_BYTES};
use crate::socket::Flags;
use crate::transport::Received;

/// How long a request waits for others, once it could be sent.
const MOST_POSTPONED: Duration = Duration::from_millis(1);

impl Pool {
    pub(crate) fn ready(&mut self, key: u64, flags: Flags) -> Option<Event> {
        let gone = flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR);
        let connection = self.connections.get_mut(key)?;
        match connection.phase {
            Phase::Connecting => self.connected(key),
            Phase::Shaking => {
                connection.is_closing |= gone;
                self.shake(key)
            }
            Phase::Idle => {
                let target = connection.target;
                // A change may be of bytes that were read together with earlier ones.
                if gone || !self.is_quiet(key) {
                    self.forget_idle(key);
                    self.drop_connection(key);
                    self.forget_if_unused(target);
                }
                None
            }
            Phase::Shared => {
                self.ready_shared(key, flags);
                None
            }
            Phase::Busy if connection.is_unsent => {
                // It came while the connection was idle. Had the request been sent, that would look like its answer.
                if gone || !self.is_quiet(key) {
                    let leg_key = self.connections.get(key)?.leg;
                    let detail = "the idle connection was not quiet".to_owned();
                    self.fail(leg_key, Reason::Reset, detail, true);
                }
                None
            }
            Phase::Busy => {
                connection.is_closing |= gone;
                let leg_key = connection.leg;
                let mut event = Event::new(leg_key);
                if flags.contains(Flags::OUT) {
                    event.writable = self.flush(key);
                    self.end_tunnel(key);
                }
                if gone || flags.contains(Flags::IN) {
                    let is_paused = self.legs.get(leg_key).is_some_and(|leg| leg.is_paused);
                    if is_paused {
                        self.connections.get_mut(key)?.is_unread = true;
                    } else {
                        self.read(key, &mut event);
                    }
                }
                (!event.is_empty()).then_some(event)
            }
        }
    }

    /// Puts a leg's request on an established connection.
    pub(crate) fn begin(&mut self, key: u64, leg_key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(leg) = self.legs.get_mut(leg_key) else { return };
        connection.phase = Phase::Busy;
        connection.leg = leg_key;
        connection.expires = None;
        connection.uses = connection.uses.saturating_add(1);
        connection.response.reset(leg.is_head);
        if leg.purpose.upgrade {
            connection.response.allow_upgrade(leg.purpose.other_upgrade);
        }
        if leg.purpose.interim {
            connection.response.keep_interim();
        }
        if leg.purpose.trailers {
            connection.response.keep_trailers();
        }
        leg.connection = key;
        if self.postpones {
            connection.is_unsent = true;
            self.leave_unsent(key);
        } else {
            self.flush(key);
        }
        self.refresh_first_byte(leg_key);
    }

    fn leave_unsent(&mut self, key: u64) {
        if self.unsent.is_empty() {
            self.unsent_since = self.now;
        }
        self.unsent.push(key);
        if self.now.duration_since(self.unsent_since) >= MOST_POSTPONED {
            self.send_postponed();
        }
    }

    /// Writes what waits. True when the writer is to be told that there is room again.
    pub(crate) fn flush(&mut self, key: u64) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if connection.phase != Phase::Busy {
            return false;
        }
        let Some(leg) = self.legs.get_mut(connection.leg) else { return false };
        connection.is_unsent = false;
        if !connection.is_write_broken && connection.transport.flush().is_err() {
            connection.is_write_broken = true;
            self.poller.rearm(&connection.transport.socket, key);
        }
        if leg.out_at < leg.out.len() {
            while leg.out_at < leg.out.len() && !connection.is_write_broken {
                match connection.transport.send(&[&leg.out[leg.out_at..]]) {
                    Ok(0) => break,
                    Ok(length) => {
                        leg.out_at += length;
                        // A plain socket that takes a part takes no more; a session takes one piece after the other.
                        if !connection.transport.is_secure() {
                            break;
                        }
                    }
                    Err(_) => {
                        connection.is_write_broken = true;
                        self.poller.rearm(&connection.transport.socket, key);
                    }
                }
            }
            if connection.is_write_broken {
                leg.out_at = leg.out.len();
            }
            if leg.out_at < leg.out.len() {
                let leg_key = connection.leg;
                self.refresh_first_byte(leg_key);
                return false;
            }
            leg.out.clear();
            leg.out.shrink_to(KEEP_BUFFER_BYTES.max(self.buffer_bytes));
            leg.out_at = 0;
        }
        let leg_key = connection.leg;
        let tell = std::mem::take(&mut leg.wants_writable);
        self.refresh_first_byte(leg_key);
        tell
    }

    /// Reads once, and fills in what it brought.
    pub(crate) fn read(&mut self, key: u64, event: &mut Event) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let leg_key = connection.leg;
        self.reads += 1;
        let received = connection.transport.receive(&mut self.buffers);
        connection.is_drained = matches!(received, Ok(Received::Bytes { is_drained: true }));
        let is_drained = match received {
            Ok(Received::Nothing) => return,
            Ok(Received::Bytes { is_drained }) => is_drained,
            Ok(Received::End) => {
                match connection.response.finish() {
                    Ok(()) => {
                        event.ended = true;
                        self.leg_done(key, leg_key);
                    }
                    Err(fault) => self.fail_now(event, leg_key, Reason::Reset, fault.to_string()),
                }
                return;
            }
            Ok(Received::Truncated) => {
                let detail = "the connection ended without close_notify".to_owned();
                self.fail_now(event, leg_key, Reason::Reset, detail);
                return;
            }
            Err(broken) => {
                self.fail_now(event, leg_key, Reason::Reset, broken.detail);
                return;
            }
        };
        // A short read has emptied the socket, unless the end of file is behind it.
        let is_more = !is_drained || connection.is_closing;
        if self.buffers.length == 0 {
            if is_more {
                self.again.push_back(key);
            }
            return;
        }
        let parsed = match connection.response.read(self.buffers.bytes_mut()) {
            Ok(parsed) => parsed,
            Err(fault) => {
                // A head that came in the same read is not told: nothing of a bad answer gets out if it can be helped.
                self.fail_now(event, leg_key, Reason::BadResponse, fault.to_string());
                return;
            }
        };
        event.interim = connection.response.take_interim(&mut self.interim);
        if let Some(head) = parsed.head {
            self.head.clear();
            let text = connection.response.head();
            if parsed.ended {
                let lines = self.legs.get(leg_key).and_then(|leg| leg.answer_lines.as_deref());
                event.is_passed = lines.is_some_and(|it| write_passed(&mut self.head, text, it));
            }
            if !event.is_passed {
                self.head.extend_from_slice(text);
            }
            event.head = parsed.head;
            if head.status == 101 {
                if let Some(leg) = self.legs.get_mut(leg_key) {
                    leg.body = RequestBody::Tunnel;
                }
            }
        }
        self.data = parsed.data;
        event.has_data = parsed.data.1 > parsed.data.0;
        event.ended = parsed.ended;
        if parsed.ended {
            event.has_trailers = !connection.response.trailers().is_empty();
            if event.has_trailers {
                self.trailers.clear();
                self.trailers.extend_from_slice(connection.response.trailers());
            }
            self.leg_done(key, leg_key);
            return;
        }
        if is_more {
            self.again.push_back(key);
        }
        let Some(leg) = self.legs.get_mut(leg_key) else { return };
        leg.head_seen |= parsed.head.is_some();
        if leg.head_seen {
            let idle =
                self.targets.get(leg.target).map_or(Duration::ZERO, |target| target.options.idle);
            leg.deadline = if leg.body == RequestBody::Tunnel {
                // Both ways count there; whoever asked for it measures.
                None
            } else {
                after(self.now, idle, Deadline::Idle)
            };
        }
    }

    /// The answer is complete: the connection serves the next request, idles, or closes.
    pub(crate) fn leg_done(&mut self, key: u64, leg_key: u64) {
        let Some(leg) = self.legs.remove(leg_key) else { return };
        let is_written = leg.body == RequestBody::Complete && leg.out_at == leg.out.len();
        let target_key = leg.target;
        self.keep_buffer(leg.out);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(target) = self.targets.get_mut(target_key) else { return };
        // H-82: given up a second before the upstream does.
        let hint = connection.response.keep_alive_timeout_s();
        let kept = match hint.map(|seconds| Duration::from_secs(seconds.saturating_sub(1))) {
            Some(hinted) if target.options.keep_alive.is_zero() => hinted,
            Some(hinted) => hinted.min(target.options.keep_alive),
            None => target.options.keep_alive,
        };
        let is_refused = hint.is_some() && kept.is_zero();
        let transport = &connection.transport;
        let is_broken = connection.is_closing
            || connection.is_write_broken
            || transport.is_ended()
            || transport.has_partial();
        let stays = is_written && transport.is_flushed() && connection.response.keeps_alive();
        // A connection beside those of HTTP/2 was made for one WebSocket.
        let is_wanted = !target.is_retired && !target.is_http2;
        let is_reusable = stays && !is_broken && !is_refused && is_wanted;
        if is_reusable {
            connection.phase = Phase::Idle;
            connection.leg = 0;
            connection.idle_since = self.now;
            connection.expires = if kept.is_zero() { None } else { Some(self.now + kept) };
            target.idle.push(key);
        } else {
            self.drop_connection(key);
        }
        self.serve_waiting(target_key);
        self.forget_if_unused(target_key);
    }
}
