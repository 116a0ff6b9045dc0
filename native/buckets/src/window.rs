//! The arithmetic of one bucket: slots, their sum, and when enough of them will have left.
//!
//! Source: traffic-policy.md §5.16. The same rule in Lua: src/rate-limit/take-sliding-window-1.lua.

use std::sync::atomic::{AtomicU32, Ordering};

/// Slots that a window is cut into.
pub(crate) const SLOTS_PER_WINDOW: u64 = 60;
/// Counts a bucket holds: the current slot and the 60 before it.
pub(crate) const SLOTS: usize = 61;

/// The counts of one bucket; slot `n` lives at index `n % 61`.
pub(crate) type Counts = [AtomicU32; SLOTS];

/// Length of a slot. Rounded up, so that 60 slots are never shorter than the window.
pub(crate) fn slot_nanos(window_nanos: u64) -> u64 {
    window_nanos.div_ceil(SLOTS_PER_WINDOW).max(1)
}

/// Place of a slot in [`Counts`].
pub(crate) fn index(slot: u64) -> usize {
    (slot % SLOTS as u64) as usize
}

/// Sum of all counts. The caller has emptied the slots that have left the window.
pub(crate) fn sum(counts: &Counts) -> u64 {
    counts.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum()
}

/// Nanoseconds from `now_nanos` until so many slots have left that one event fits. `slot` is the current slot.
///
/// With a capacity of 0 none ever fits: the length of a whole window is the answer.
pub(crate) fn nanos_until_admitted(
    counts: &Counts,
    capacity: u64,
    slot: u64,
    slot_nanos: u64,
    now_nanos: u64,
) -> u64 {
    if capacity == 0 {
        return slot_nanos * SLOTS_PER_WINDOW;
    }
    let mut too_many = (sum(counts) + 1).saturating_sub(capacity);
    for age in (0..=SLOTS_PER_WINDOW.min(slot)).rev() {
        let oldest = slot - age;
        too_many =
            too_many.saturating_sub(u64::from(counts[index(oldest)].load(Ordering::Relaxed)));
        if too_many == 0 {
            // Slot n counts while the current slot is at most n + 60.
            return ((oldest + SLOTS as u64) * slot_nanos).saturating_sub(now_nanos);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(filled: &[(u64, u32)]) -> Counts {
        let counts: Counts = std::array::from_fn(|_| AtomicU32::new(0));
        for &(slot, count) in filled {
            counts[index(slot)].store(count, Ordering::Relaxed);
        }
        counts
    }

    #[test]
    fn sixty_slots_are_never_shorter_than_the_window() {
        for window in [1, 59, 60, 61, 600_000_007, 60_000_000_000, 86_400_000_000_000] {
            assert!(slot_nanos(window) * SLOTS_PER_WINDOW >= window, "{window}");
        }
    }

    #[test]
    fn waits_for_the_slot_that_frees_enough() {
        // Capacity 10, slots of 100 ns: 4 events in slot 1000, 6 in slot 1030. Now is slot 1050.
        let counts = counts(&[(1000, 4), (1030, 6)]);
        assert_eq!(sum(&counts), 10);
        // One event must leave: slot 1000 leaves when slot 1061 begins.
        assert_eq!(nanos_until_admitted(&counts, 10, 1050, 100, 105_020), 106_100 - 105_020);
        // With a capacity of 6 five must leave: slot 1030 decides.
        assert_eq!(nanos_until_admitted(&counts, 6, 1050, 100, 105_020), 109_100 - 105_020);
    }

    #[test]
    fn nothing_ever_fits_into_a_capacity_of_zero() {
        assert_eq!(nanos_until_admitted(&counts(&[]), 0, 1050, 100, 105_020), 6_000);
    }
}
