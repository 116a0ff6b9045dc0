//! Budgets of frames that cost the peer next to nothing: beyond one the connection ends with ENHANCE_YOUR_CALM.
//!
//! Source: RFC 9113 §10.5; H-103; CVE-2019-9511 … 9518, CVE-2023-44487, CVE-2024-27316, CVE-2025-8671.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(10);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Cheap {
    /// RST_STREAM of the peer, and streams that end for an error of the peer, whoever resets them.
    Reset,
    Settings,
    Ping,
    WindowUpdate,
    Priority,
    /// DATA that neither carries bytes nor ends a stream.
    EmptyData,
    /// Frames of kinds that we do not know.
    Unknown,
}

const KINDS: usize = 7;
/// In ten seconds. Clients ping, and open windows, in step with what they receive: see `earn`.
const BUDGETS: [u32; KINDS] = [100, 100, 500, 1_000, 1_000, 100, 1_000];

#[derive(Debug)]
pub(crate) struct Floods {
    started: Option<Instant>,
    counts: [u32; KINDS],
    earned: u32,
}

impl Floods {
    pub(crate) fn new() -> Self {
        Floods { started: None, counts: [0; KINDS], earned: 0 }
    }

    /// A DATA or HEADERS frame of ours, which may make the peer ping once and open two windows.
    pub(crate) fn earn(&mut self) {
        self.earned = self.earned.saturating_add(2);
    }

    pub(crate) fn begin(&mut self, now: Instant) {
        if self.started.is_none_or(|started| now.duration_since(started) >= WINDOW) {
            *self = Floods { started: Some(now), ..Floods::new() };
        }
    }

    /// False: too many.
    pub(crate) fn count(&mut self, what: Cheap) -> bool {
        let count = &mut self.counts[what as usize];
        *count = count.saturating_add(1);
        let earned = match what {
            Cheap::Ping | Cheap::WindowUpdate => self.earned,
            _ => 0,
        };
        *count <= BUDGETS[what as usize].saturating_add(earned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_lasts_ten_seconds() {
        let start = Instant::now();
        let mut floods = Floods::new();
        floods.begin(start);
        assert!((0..100).all(|_| floods.count(Cheap::Reset)));
        assert!(!floods.count(Cheap::Reset));
        assert!(floods.count(Cheap::Settings));
        floods.begin(start + Duration::from_millis(9_999));
        assert!(!floods.count(Cheap::Reset));
        floods.begin(start + WINDOW);
        assert!(floods.count(Cheap::Reset));
    }

    #[test]
    fn what_we_send_earns_pings_and_windows_only() {
        let mut floods = Floods::new();
        floods.begin(Instant::now());
        (0..1_000).for_each(|_| floods.earn());
        assert!((0..2_500).all(|_| floods.count(Cheap::Ping)));
        assert!(!floods.count(Cheap::Ping));
        assert!((0..100).all(|_| floods.count(Cheap::EmptyData)));
        assert!(!floods.count(Cheap::EmptyData));
    }
}
