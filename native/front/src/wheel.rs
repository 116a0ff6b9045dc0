//! Deadlines of connections: a wheel of ticks. An entry only says when to look; whoever is looked at says whether its
//! time has come, so that a deadline that moves back costs nothing.

/// How often deadlines are looked at, in milliseconds.
pub(crate) const TICK_MS: u64 = 250;
/// Beyond `PLACES` ticks an entry is looked at early, and put back.
const PLACES: usize = 512;

pub(crate) struct Wheel {
    places: Vec<Vec<u64>>,
    /// The first tick that was not looked at.
    next: u64,
}

impl Wheel {
    pub(crate) fn new(now_ms: u64) -> Self {
        Wheel { places: (0..PLACES).map(|_| Vec::new()).collect(), next: now_ms / TICK_MS }
    }

    /// Puts a key where it is looked at when `at_ms` has passed. Returns the tick.
    pub(crate) fn put(&mut self, key: u64, at_ms: u64) -> u64 {
        let tick = (at_ms / TICK_MS + 1).clamp(self.next, self.next + PLACES as u64 - 1);
        self.places[tick as usize % PLACES].push(key);
        tick
    }

    /// The keys of the next tick that has passed, with it.
    pub(crate) fn take(&mut self, now_ms: u64) -> Option<(u64, Vec<u64>)> {
        if self.next > now_ms / TICK_MS {
            return None;
        }
        let tick = self.next;
        self.next += 1;
        Some((tick, std::mem::take(&mut self.places[tick as usize % PLACES])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_when_their_time_has_passed_and_once() {
        let mut wheel = Wheel::new(1_000);
        wheel.put(1, 1_100);
        wheel.put(2, 1_600);
        wheel.put(3, 10_000_000);
        let mut seen = Vec::new();
        for now in (1_000..200_000).step_by(70) {
            while let Some((_, keys)) = wheel.take(now) {
                seen.extend(keys.into_iter().map(|key| (key, now)));
            }
        }
        assert_eq!(seen.iter().map(|one| one.0).collect::<Vec<_>>(), vec![1, 2, 3]);
        assert!(seen[0].1 >= 1_100 && seen[0].1 < 1_600, "{seen:?}");
        assert!(seen[1].1 >= 1_600 && seen[1].1 < 2_200, "{seen:?}");
        // Beyond the wheel: looked at early.
        assert!(seen[2].1 < 130_000, "{seen:?}");
    }
}
