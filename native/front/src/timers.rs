//! How long a client may take: for its head, its body, its next request, and for reading what it is answered.
//!
//! Source: H-80 … H-83, T-17 … T-23.

use rustix::event::Timespec;
use rustix::time::{timerfd_settime, Itimerspec, TimerfdTimerFlags};

use crate::connection::Phase;
use crate::event::End;
use crate::exchange::Answer;
use crate::front::Front;

/// How often deadlines of both sides are looked at.
const TIMER_MS: i64 = 100;
/// H-83: an upload or a reader below this on the average of a window is given up.
pub(crate) const PROGRESS_BYTES_PER_SECOND: u64 = 240;

impl Front {
    /// The timer runs while there is anything to be looked at.
    pub(crate) fn keep_time(&mut self) {
        let open = self.pool.open_connections();
        let wanted = !self.connections.is_empty() || open > 0 || self.has_starved;
        if wanted == self.is_timing {
            return;
        }
        self.is_timing = wanted;
        let time = Timespec { tv_sec: 0, tv_nsec: if wanted { TIMER_MS * 1_000_000 } else { 0 } };
        let setting = Itimerspec { it_interval: time, it_value: time };
        // Cannot fail for these values.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting);
    }

    pub(crate) fn tick(&mut self) {
        self.feed_starved();
        self.pool.tick();
        while let Some((tick, keys)) = self.wheel.take(self.now_ms) {
            for key in keys {
                let Some(connection) = self.connections.get_mut(key) else { continue };
                if connection.wheel_tick != tick {
                    continue;
                }
                connection.wheel_tick = 0;
                let at_ms = connection.deadline_ms;
                if at_ms == 0 {
                    continue;
                }
                if at_ms <= self.now_ms {
                    self.expired(key);
                } else {
                    connection.wheel_tick = self.wheel.put(key, at_ms);
                }
            }
        }
    }

    /// Looks at a connection when so much time has passed; 0 = never.
    pub(crate) fn deadline_in(&mut self, key: u64, ms: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if ms == 0 {
            connection.deadline_ms = 0;
            return;
        }
        let at_ms = self.now_ms + ms;
        connection.deadline_ms = at_ms;
        let tick = at_ms / crate::wheel::TICK_MS + 1;
        if connection.wheel_tick == 0 || tick < connection.wheel_tick {
            connection.wheel_tick = self.wheel.put(key, at_ms);
        }
    }

    /// Begins to measure progress (H-83).
    pub(crate) fn measure(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.window_start_ms = self.now_ms;
        connection.window_bytes = 0;
        self.deadline_in(key, self.limits.progress_ms);
    }

    fn expired(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match connection.phase {
            Phase::Proxy => self.close_connection(key, End::Aborted),
            Phase::Head => {
                if connection.http1().reader.has_begun() {
                    self.head_too_slow(key);
                } else {
                    // H-81: an idle connection just closes.
                    self.close_connection(key, End::Aborted);
                }
            }
            Phase::Linger => {
                let is_sent = connection.wire.pending() == 0;
                self.close_connection(key, if is_sent { End::Complete } else { End::Aborted });
            }
            Phase::Streams => self.look_at_streams(key),
            Phase::Tunnel => self.tunnel_idle(key),
            Phase::Body | Phase::Answer => {
                let waits = connection.wire.pending() == 0
                    && (connection.phase == Phase::Answer || connection.is_paused);
                if connection.is_ended && waits && connection.window_bytes == 0 {
                    // It has ended its side, and nothing moves: nobody is known to wait.
                    self.close_connection(key, End::ClientAbort);
                    return;
                }
                let elapsed_ms = self.now_ms - connection.window_start_ms;
                let needed = PROGRESS_BYTES_PER_SECOND * elapsed_ms / 1000;
                if waits || connection.window_bytes >= needed.max(1) {
                    self.measure(key);
                } else {
                    self.too_slow(key);
                }
            }
        }
    }

    /// H-83: the client sends or reads too slowly.
    fn too_slow(&mut self, key: u64) {
        let Some(connection) = self.connections.get(key) else { return };
        let exchange = connection.exchange();
        let is_reader = connection.wire.pending() > 0;
        if let Some(state) = self.exchanges.get_mut(exchange) {
            if state.answer == Answer::None && !is_reader {
                state.rule = "H-83";
                state.keeps_alive = false;
                self.answer_error(exchange, 408, "the request body came too slowly\n");
                return;
            }
        }
        self.close_connection(key, End::Aborted);
    }
}
