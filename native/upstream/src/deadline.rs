//! Deadlines of requests, and of connections that nobody uses. Source: H-80, H-82.

use std::time::{Duration, Instant};

use crate::connection::Phase;
use crate::event::Reason;
use crate::pool::Pool;
use crate::request::RequestBody;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    Queue,
    Connect,
    FirstByte,
    Idle,
}

impl Pool {
    /// Looks at every deadline and at idle connections; call it every 100 ms or so while there is anything.
    pub fn tick(&mut self) {
        self.now = Instant::now();
        let now = self.now;
        let late: Vec<(u64, Deadline, bool)> = self
            .legs
            .keys()
            .filter_map(|key| {
                let leg = self.legs.get(key)?;
                let (at, kind) = leg.deadline?;
                let is_connected = self
                    .connections
                    .get(leg.connection)
                    .is_some_and(|one| matches!(one.phase, Phase::Busy | Phase::Shared));
                (at <= now).then_some((key, kind, is_connected))
            })
            .collect();
        for (key, kind, is_connected) in late {
            if kind == Deadline::Connect && self.next_address(key) {
                continue;
            }
            let (reason, detail) = match kind {
                Deadline::Connect => (Reason::ConnectTimeout, "no connection in time"),
                Deadline::Queue => (Reason::Overflow, "no connection became free in time"),
                Deadline::FirstByte => (Reason::FirstByteTimeout, "no answer in time"),
                Deadline::Idle => (Reason::IdleTimeout, "no progress in time"),
            };
            self.fail(key, reason, detail.to_owned(), !is_connected);
        }
        let expired: Vec<u64> = self
            .connections
            .keys()
            .filter(|key| {
                self.connections.get(*key).is_some_and(|one| {
                    let is_idle = match one.phase {
                        Phase::Idle => true,
                        Phase::Shared => self.idle_shared(&[*key]) == 1,
                        _ => false,
                    };
                    is_idle && one.expires.is_some_and(|at| at <= now)
                })
            })
            .collect();
        for key in expired {
            if self.connections.get(key).is_some_and(|one| one.phase == Phase::Shared) {
                self.end_shared_connection(key);
            } else {
                self.drop_connection(key);
            }
        }
    }

    /// Until the head has come: time runs while it is the upstream's turn, that is while bytes of ours wait in vain
    /// or the request is complete. A client that sends slowly is measured elsewhere (H-83).
    pub(crate) fn refresh_first_byte(&mut self, leg_key: u64) {
        let Some(leg) = self.legs.get_mut(leg_key) else { return };
        if leg.head_seen || leg.is_paused || leg.connection == 0 {
            return;
        }
        if !self.connections.get(leg.connection).is_some_and(|one| one.phase == Phase::Busy) {
            return;
        }
        let is_theirs = leg.body == RequestBody::Complete || leg.out_at < leg.out.len();
        let first_byte =
            self.targets.get(leg.target).map_or(Duration::ZERO, |target| target.options.first_byte);
        leg.deadline =
            if is_theirs { after(self.now, first_byte, Deadline::FirstByte) } else { None };
    }
}

pub(crate) fn after(now: Instant, time: Duration, kind: Deadline) -> Option<(Instant, Deadline)> {
    (!time.is_zero()).then(|| (now + time, kind))
}
