//! A table of numbers by number.

use crate::hash::fold;

const UNKNOWN: u32 = u32::MAX;

/// Numbers by number, in open addressing.
#[derive(Debug, Default)]
pub(crate) struct NumberTable {
    /// A power of two of places, at most half of which are taken; the value [`UNKNOWN`] is a free one.
    places: Vec<(u64, u32)>,
    taken: usize,
}

impl NumberTable {
    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.places.len() * size_of::<(u64, u32)>()
    }

    const LEAST_PLACES: usize = 256;

    /// The first place to look at; keys need not be mixed.
    #[inline]
    fn home(&self, key: u64) -> usize {
        // The upper half of the product depends on all bits of the key.
        (fold(key, 0x9E37_79B9_7F4A_7C15) as usize) & (self.places.len() - 1)
    }

    #[inline]
    pub(crate) fn get(&self, key: u64) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = self.home(key);
        loop {
            match self.places[at] {
                (_, UNKNOWN) => return None,
                (known, value) if known == key => return Some(value),
                _ => at = (at + 1) & (self.places.len() - 1),
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        if self.taken > 0 {
            self.places.fill((0, UNKNOWN));
            self.taken = 0;
        }
    }

    /// Sets the number of a key, which is never [`UNKNOWN`].
    pub(crate) fn insert(&mut self, key: u64, value: u32) {
        if 2 * (self.taken + 1) > self.places.len() {
            let more = (4 * self.places.len()).max(Self::LEAST_PLACES);
            let old = std::mem::replace(&mut self.places, vec![(0, UNKNOWN); more]);
            self.taken = 0;
            for (key, value) in old.into_iter().filter(|(_, value)| *value != UNKNOWN) {
                self.insert(key, value);
            }
        }
        let mut at = self.home(key);
        while self.places[at].1 != UNKNOWN && self.places[at].0 != key {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.taken += usize::from(self.places[at].1 == UNKNOWN);
        self.places[at] = (key, value);
    }
}
