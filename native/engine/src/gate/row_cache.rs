//! What is known of values that come again: user agents, names of arguments, header values.
//!
//! Most values of an exchange were part of earlier ones. A cache of a thread keeps which probes of a gate may match them; a
//! probe that was let in and did not match is taken out, so that in the end a row says exactly what matches. An operator
//! behind a probe depends on nothing but the value, so what is remembered changes no verdict.
//!
//! A value is kept when it comes for the second time, so that values that never come again push none out.

use super::NodeBits;

/// A power of two.
const SETS: usize = 1024;
/// How many values with the same set there can be.
const WAYS: usize = 4;
/// Longer values are not kept.
pub(crate) const LONGEST_BYTES: usize = 512;
/// Rows of more words are not kept.
const ROW_WORDS: usize = 8;
/// How many sets of values are remembered to have come once; a power of two.
const NEWCOMER_SETS: usize = 2048;

/// A value before a gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowKey<'a> {
    /// Of a hash with a key of this process.
    pub(crate) hash: u64,
    /// The gate's stamp.
    pub(crate) gate: u64,
    pub(crate) value: &'a [u8],
}

/// One value with its row.
#[derive(Debug, Default)]
struct Entry {
    hash: u64,
    gate: u64,
    /// The lists of transformations that the row takes into account.
    nodes: NodeBits,
    row: [u64; ROW_WORDS],
    value: Vec<u8>,
    /// It was asked for since others were last pushed out beside it.
    is_used: bool,
}

/// The place of a value in the cache. Another value may have taken it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

/// Rows of values.
#[derive(Debug, Default)]
pub(crate) struct RowCache {
    /// Empty until the first value is kept.
    entries: Vec<Entry>,
    /// Parts of hashes, the newest of each set first.
    newcomers: Vec<[u32; 4]>,
}

impl RowCache {
    /// Where a value is, with the lists its row is of and the row.
    pub(crate) fn find(&mut self, key: RowKey<'_>) -> Option<(Place, NodeBits, &[u64])> {
        let first = Self::first(key);
        let ways = self.entries.get_mut(first..first + WAYS)?;
        let way = ways.iter().position(|entry| entry.is_of(key))?;
        let entry = &mut ways[way];
        entry.is_used = true;
        Some((Place((first + way) as u32), entry.nodes, &entry.row))
    }

    /// Keeps a row, if the value has come before.
    pub(crate) fn note(&mut self, key: RowKey<'_>, nodes: NodeBits, row: &[u64]) -> Option<Place> {
        if key.value.len() > LONGEST_BYTES || row.len() > ROW_WORDS {
            return None;
        }
        let tag = (key.hash >> 32) as u32 ^ key.gate as u32;
        self.newcomers.resize(NEWCOMER_SETS, [0; 4]);
        let newcomers = &mut self.newcomers[key.hash as usize & (NEWCOMER_SETS - 1)];
        if !newcomers.contains(&tag) {
            newcomers.copy_within(..3, 1);
            newcomers[0] = tag;
            return None;
        }
        if self.entries.is_empty() {
            self.entries.resize_with(SETS * WAYS, Entry::default);
        }
        let first = Self::first(key);
        let ways = &mut self.entries[first..first + WAYS];
        let way = ways.iter().position(|entry| !entry.is_used).unwrap_or_else(|| {
            ways.iter_mut().for_each(|entry| entry.is_used = false);
            (key.hash >> 60) as usize & (WAYS - 1)
        });
        let entry = &mut ways[way];
        (entry.hash, entry.gate, entry.nodes, entry.is_used) = (key.hash, key.gate, nodes, true);
        entry.row[..row.len()].copy_from_slice(row);
        entry.value.clear();
        entry.value.extend_from_slice(key.value);
        Some(Place((first + way) as u32))
    }

    /// Adds what was found out about further lists: the bits that `row` has and `before` had not.
    pub(crate) fn add(
        &mut self,
        place: Place,
        key: RowKey<'_>,
        nodes: NodeBits,
        row: &[u64],
        before: &[u64],
    ) {
        let Some(entry) = self.entry(place, key) else { return };
        entry.nodes |= nodes;
        for (known, (row, before)) in entry.row.iter_mut().zip(row.iter().zip(before)) {
            *known |= row & !before;
        }
    }

    /// Notes that a probe does not match a value.
    pub(crate) fn rule_out(&mut self, place: Place, key: RowKey<'_>, (word, mask): (usize, u64)) {
        if let Some(word) = self.entry(place, key).and_then(|entry| entry.row.get_mut(word)) {
            *word &= !mask;
        }
    }

    fn entry(&mut self, place: Place, key: RowKey<'_>) -> Option<&mut Entry> {
        self.entries.get_mut(place.0 as usize).filter(|entry| entry.is_of(key))
    }

    fn first(key: RowKey<'_>) -> usize {
        // The bits above choose the newcomer.
        ((key.hash >> 12) as usize & (SETS - 1)) * WAYS
    }
}

impl Entry {
    #[inline]
    fn is_of(&self, key: RowKey<'_>) -> bool {
        self.hash == key.hash && self.gate == key.gate && self.value == key.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(hash: u64, value: &[u8]) -> RowKey<'_> {
        RowKey { hash, gate: 1, value }
    }

    #[test]
    fn values_are_kept_when_they_come_again_and_told_apart_by_their_bytes() {
        let mut cache = RowCache::default();
        assert_eq!(cache.note(key(7, b"a"), 1, &[3]), None);
        assert!(cache.find(key(7, b"a")).is_none());
        let place = cache.note(key(7, b"a"), 1, &[3]).unwrap();
        assert_eq!(cache.find(key(7, b"a")), Some((place, 1, &[3, 0, 0, 0, 0, 0, 0, 0][..])));
        assert!(cache.find(key(7, b"b")).is_none());
        assert!(cache.find(RowKey { gate: 2, ..key(7, b"a") }).is_none());
        cache.rule_out(place, key(7, b"a"), (0, 1));
        cache.rule_out(place, key(7, b"b"), (0, 2));
        cache.add(place, key(7, b"a"), 4, &[11], &[3]);
        assert_eq!(cache.find(key(7, b"a")).unwrap().1, 5);
        assert_eq!(cache.find(key(7, b"a")).unwrap().2[0], 10);
    }

    #[test]
    fn a_set_keeps_what_is_asked_for_and_no_more_than_its_ways() {
        let mut cache = RowCache::default();
        let texts: Vec<Vec<u8>> = (0..20_u8).map(|text| vec![text]).collect();
        for text in &texts {
            if cache.note(key(7, text), 1, &[1]).is_none() {
                cache.note(key(7, text), 1, &[1]);
            }
        }
        let kept = texts.iter().filter(|text| cache.find(key(7, text)).is_some()).count();
        assert_eq!(kept, WAYS);
        let long = vec![0; LONGEST_BYTES + 1];
        assert!((0..3).all(|_| cache.note(key(9, &long), 1, &[1]).is_none()));
        assert!((0..3).all(|_| cache.note(key(9, b"a"), 1, &[1; ROW_WORDS + 1]).is_none()));
    }
}
