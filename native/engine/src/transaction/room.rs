//! Memory that a thread's transactions use one after the other.

use std::cell::RefCell;

use super::targets::{SpecTargets, Target};
use super::Hit;
use crate::exchange::Exchange;
use crate::spares::Spares;
use crate::store::ValueId;
use crate::tx::TxRoom;

/// How much memory one transaction may leave, and how much a thread keeps of several.
const SPARE_BYTES: usize = 1 << 20;
const MOST_BYTES: usize = 3 << 18;

thread_local! {
    /// What transactions of this thread left.
    static SPARES: RefCell<Spares<Room>> = const { RefCell::new(Spares::new(MOST_BYTES)) };
}

/// Empty tables with room in them. `spec_cache` alone keeps what it holds: it belongs to readings that are over.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) spec_cache: Vec<SpecTargets>,
    pub(super) spec_members: Vec<Target>,
    pub(super) spec_summaries: Vec<u64>,
    pub(super) visits: Vec<u64>,
    pub(super) there: Vec<u64>,
    pub(super) target_room: Vec<Target>,
    pub(super) put_off: Vec<(u32, ValueId)>,
    pub(super) text_room: Vec<u8>,
    pub(super) matched_vars: Vec<Hit>,
    pub(super) exchange: Exchange,
    pub(super) tx: TxRoom,
    /// The number of a reading that nothing in `spec_cache` belongs to.
    pub(super) reading: u32,
}

impl Room {
    /// What the last transaction of this thread left.
    pub(super) fn take() -> Self {
        let mut room = SPARES.with_borrow_mut(Spares::take);
        // 0 marks what was never read.
        room.reading = next_reading(room.reading, &mut room.spec_cache);
        room
    }

    /// Leaves the room to the next transaction of this thread, unless it is much.
    pub(super) fn recycle(mut self) {
        let bytes = self.spec_members.capacity() * size_of::<Target>()
            + self.target_room.capacity() * size_of::<Target>()
            + self.matched_vars.capacity() * size_of::<Hit>()
            + self.spec_cache.capacity() * size_of::<SpecTargets>()
            + (self.spec_summaries.capacity() + self.visits.capacity()) * size_of::<u64>()
            + self.text_room.capacity()
            + self.exchange.capacity_bytes()
            + self.tx.capacity_bytes();
        if bytes > SPARE_BYTES {
            return;
        }
        self.spec_members.clear();
        self.spec_summaries.clear();
        self.visits.clear();
        self.target_room.clear();
        self.put_off.clear();
        self.matched_vars.clear();
        self.exchange.clear();
        // A thread that ends keeps nothing.
        let _ = SPARES.try_with(|spares| spares.borrow_mut().keep(self, bytes));
    }
}

/// The number of the next reading; when they are used up, what was read before is forgotten.
pub(super) fn next_reading(reading: u32, spec_cache: &mut [SpecTargets]) -> u32 {
    reading.checked_add(1).unwrap_or_else(|| {
        spec_cache.fill(SpecTargets::default());
        1
    })
}
