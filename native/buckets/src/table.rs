//! The table: finds or makes a key's bucket and takes one event from it.
//!
//! # Every prefix of stores is a valid state
//!
//! A process may be killed between any two stores. In order:
//!
//! - *Advance*: slots that have left are set to 0 one by one, then `newest_slot` moves. Killed in between, the next
//!   process does the rest; time does not run backward, so what was emptied had left for it too.
//! - *Take*: one store adds the event. It happened or it did not.
//! - *New bucket*: the tag is set to 0 (the entry is empty), the fields are written, the tag is set last.
//!
//! The stores are `Release`, so that the compiler keeps their order; a killed process leaves a prefix of them.

use std::hash::Hasher;
use std::path::Path;
use std::sync::atomic::Ordering;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::error::{Error, Kind};
use crate::shared_memory::{now_nanos, random_key, Entry, Mapping, Set, Unit, WAYS};
use crate::window::{index, nanos_until_admitted, slot_nanos, sum, SLOTS, SLOTS_PER_WINDOW};

/// 4 million entries are 1.2 GB.
const MOST_ENTRIES: u32 = 4 << 20;
/// Enough that two of a hundred workers seldom want the same one.
const MOST_SHARDS: usize = 256;
const LONGEST_WINDOW_MS: f64 = 400.0 * 86_400_000.0;

/// A table of buckets in shared memory, as one process sees it.
pub struct Table {
    memory: Mapping<Set>,
    hash_key: [u8; 16],
}

/// The answer to one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Admitted; so many more would be now.
    Admitted {
        /// Events that would still be admitted now.
        remaining: u64,
    },
    /// Refused; nothing was counted.
    Refused {
        /// Milliseconds until an event may succeed, rounded up, at least 1.
        retry_after_ms: u64,
    },
}

/// Facts about a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Buckets the table can hold.
    pub entries: u64,
    /// Size of the shared memory.
    pub bytes: u64,
    /// Buckets ever thrown out although they still held counts of their window.
    pub evictions: u64,
    /// Times a process died inside a critical section.
    pub repairs: u64,
}

impl Table {
    /// Makes a table with room for `entries` buckets (rounded up to whole sets and shards), replacing what is at `path`.
    ///
    /// # Errors
    /// When `entries` is out of range or the file cannot be made or its space not be reserved.
    pub fn create(path: &Path, entries: u32) -> Result<Table, Error> {
        if entries == 0 || entries > MOST_ENTRIES {
            return Err(Error::new(Kind::Entries {
                table: Set::NAME,
                asked: entries,
                most: MOST_ENTRIES,
            }));
        }
        let sets = (entries as usize).div_ceil(WAYS);
        let shards = (sets / 8).next_power_of_two().clamp(1, MOST_SHARDS);
        let key = random_key::<Set>(path)?;
        Ok(Table::over(Mapping::create(path, shards, sets.div_ceil(shards) * shards, key)?))
    }

    /// Opens a table that another process made.
    ///
    /// # Errors
    /// When the file is missing or is not a table of this version.
    pub fn open(path: &Path) -> Result<Table, Error> {
        Ok(Table::over(Mapping::open(path)?))
    }

    fn over(memory: Mapping<Set>) -> Table {
        let hash_key = memory.hash_key();
        Table { memory, hash_key }
    }

    /// Takes one event from the bucket of `key` and `window_ms`, if fewer than `capacity` are in the window.
    ///
    /// # Errors
    /// When the window is out of range, or the shard stays locked for 250 ms (a stopped process holds it).
    pub fn take(&self, key: &[u8], capacity: u64, window_ms: f64) -> Result<Take, Error> {
        self.take_with_clock(key, capacity, window_ms, now_nanos)
    }

    /// As `take`; the clock is read inside the critical section, so that it never runs backward for a bucket.
    fn take_with_clock(
        &self,
        key: &[u8],
        capacity: u64,
        window_ms: f64,
        clock: impl FnOnce() -> u64,
    ) -> Result<Take, Error> {
        if !(window_ms > 0.0 && window_ms <= LONGEST_WINDOW_MS) {
            return Err(Error::new(Kind::Window { window_ms }));
        }
        let slot_nanos = slot_nanos((window_ms * 1e6).ceil() as u64);
        let (tag, rest) = self.hash(key, slot_nanos);
        let (shard, sets) = self.places(tag, rest);
        let guard = self.memory.lock(shard)?;
        if guard.inherited {
            self.memory.header().repairs.fetch_add(1, Ordering::Relaxed);
        }
        let now = clock();
        let entry = self.find_or_make(sets, tag, rest, slot_nanos, now);
        Ok(take_from(entry, capacity, slot_nanos, now))
    }

    /// The shard of a key and the two sets of that shard in which it may lie. Two choices of eight entries each fill a
    /// table evenly; one choice overflows at half the load.
    fn places(&self, tag: u64, rest: u64) -> (usize, [&Set; 2]) {
        let shards = self.memory.shards() as u64;
        let sets_per_shard = self.memory.sets() as u64 / shards;
        let shard = tag % shards;
        let set =
            |choice: u64| self.memory.set(((choice % sets_per_shard) * shards + shard) as usize);
        (shard as usize, [set(tag / shards), set(rest)])
    }

    /// Size, evictions and repairs.
    pub fn summary(&self) -> Summary {
        let header = self.memory.header();
        Summary {
            entries: (self.memory.sets() * WAYS) as u64,
            bytes: self.memory.bytes() as u64,
            evictions: header.evictions.load(Ordering::Relaxed),
            repairs: header.repairs.load(Ordering::Relaxed),
        }
    }

    /// 128 bits of the key and its window under the table's random key: nobody can aim at another client's bucket. The
    /// first half is never 0, which marks an empty entry. The length of a slot belongs to it, so that a limit whose window was
    /// changed starts a bucket of its own.
    fn hash(&self, key: &[u8], slot_nanos: u64) -> (u64, u64) {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key);
        hasher.write(key);
        hasher.write(&slot_nanos.to_le_bytes());
        let hash = hasher.finish128();
        (hash.h1.max(1), hash.h2)
    }

    fn find_or_make<'a>(
        &self,
        sets: [&'a Set; 2],
        tag: u64,
        key: u64,
        slot_nanos: u64,
        now: u64,
    ) -> &'a Entry {
        for set in sets {
            for (way, entry) in set.entries.iter().enumerate() {
                if set.tags[way].load(Ordering::Relaxed) == tag
                    && entry.key.load(Ordering::Relaxed) == key
                {
                    return entry;
                }
            }
        }
        let (set, way) = self.place_for_new(sets, now);
        let entry = &set.entries[way];
        store_u64(&set.tags[way], 0);
        for count in &entry.counts {
            store_u32(count, 0);
        }
        store_u64(&entry.key, key);
        store_u64(&entry.slot_nanos, slot_nanos);
        store_u64(&entry.newest_slot, now / slot_nanos);
        store_u64(&entry.used_nanos, now);
        store_u64(&set.tags[way], tag);
        entry
    }

    /// A place in the set that has more of them empty or expired (all counts have left); where neither has any, the
    /// entry of both used longest ago.
    fn place_for_new<'a>(&self, sets: [&'a Set; 2], now: u64) -> (&'a Set, usize) {
        let mut oldest = (sets[0], 0, u64::MAX);
        let mut best: Option<(&Set, usize, usize)> = None;
        for set in sets {
            let mut free = 0;
            let mut first = 0;
            for (way, entry) in set.entries.iter().enumerate().rev() {
                if set.tags[way].load(Ordering::Relaxed) == 0 || is_expired(entry, now) {
                    free += 1;
                    first = way;
                    continue;
                }
                let used = entry.used_nanos.load(Ordering::Relaxed);
                if used < oldest.2 {
                    oldest = (set, way, used);
                }
            }
            if free > best.map_or(0, |(_, _, most)| most) {
                best = Some((set, first, free));
            }
        }
        if let Some((set, way, _)) = best {
            return (set, way);
        }
        self.memory.header().evictions.fetch_add(1, Ordering::Relaxed);
        (oldest.0, oldest.1)
    }
}

fn is_expired(entry: &Entry, now: u64) -> bool {
    let slot = now / entry.slot_nanos.load(Ordering::Relaxed).max(1);
    slot.saturating_sub(entry.newest_slot.load(Ordering::Relaxed)) > SLOTS_PER_WINDOW
}

fn take_from(entry: &Entry, capacity: u64, slot_nanos: u64, now: u64) -> Take {
    let newest = entry.newest_slot.load(Ordering::Relaxed);
    let slot = (now / slot_nanos).max(newest);
    // Advance: empty what has left between the newest slot known and now, then move.
    for left in (newest + 1..=slot).take(SLOTS) {
        store_u32(&entry.counts[index(left)], 0);
    }
    if slot != newest {
        store_u64(&entry.newest_slot, slot);
    }
    store_u64(&entry.used_nanos, now);

    let taken = sum(&entry.counts);
    let count = &entry.counts[index(slot)];
    if taken < capacity && count.load(Ordering::Relaxed) < u32::MAX {
        store_u32(count, count.load(Ordering::Relaxed) + 1);
        return Take::Admitted { remaining: capacity - taken - 1 };
    }
    let wait = nanos_until_admitted(&entry.counts, capacity, slot, slot_nanos, now);
    Take::Refused { retry_after_ms: wait.div_ceil(1_000_000).max(1) }
}

fn store_u64(place: &std::sync::atomic::AtomicU64, value: u64) {
    crash_point();
    place.store(value, Ordering::Release);
}

fn store_u32(place: &std::sync::atomic::AtomicU32, value: u32) {
    crash_point();
    place.store(value, Ordering::Release);
}

#[cfg(not(test))]
#[inline(always)]
fn crash_point() {}

#[cfg(test)]
use tests::crash_point;

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    thread_local! {
        /// Stores left before this process kills itself; `None`: never.
        static STORES_TO_LIVE: Cell<Option<u32>> = const { Cell::new(None) };
    }

    pub(super) fn crash_point() {
        if let Some(left) = STORES_TO_LIVE.get() {
            if left == 0 {
                crate::shared_memory::kill_this_process();
            }
            STORES_TO_LIVE.set(Some(left.saturating_sub(1)));
        }
    }

    /// A path of its own in the shared-memory file system, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let directory = Path::new("/dev/shm");
            let directory =
                if directory.is_dir() { directory.to_owned() } else { std::env::temp_dir() };
            Scratch(directory.join(format!("sallyport-test-{}-{name}", std::process::id())))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    const MS: u64 = 1_000_000;
    const START: u64 = 1_000_000 * MS;

    fn take_at(table: &Table, key: &str, capacity: u64, window_ms: f64, now: u64) -> Take {
        table.take_with_clock(key.as_bytes(), capacity, window_ms, || now).unwrap()
    }

    #[test]
    fn admits_the_capacity_and_says_when_the_next_fits() {
        let scratch = Scratch::new("capacity");
        let table = Table::create(&scratch.0, 64).unwrap();
        for taken in 0..5 {
            let expected = Take::Admitted { remaining: 4 - taken };
            assert_eq!(take_at(&table, "a", 5, 600.0, START), expected);
        }
        // Slots of 10 ms; START begins one; it leaves when 61 of them have passed.
        assert_eq!(take_at(&table, "a", 5, 600.0, START), Take::Refused { retry_after_ms: 610 });
        assert_eq!(take_at(&table, "b", 5, 600.0, START), Take::Admitted { remaining: 4 });
        let just_before = START + 610 * MS - 1;
        assert_eq!(
            take_at(&table, "a", 5, 600.0, just_before),
            Take::Refused { retry_after_ms: 1 }
        );
        let then = START + 610 * MS;
        assert_eq!(take_at(&table, "a", 5, 600.0, then), Take::Admitted { remaining: 4 });
    }

    #[test]
    fn a_capacity_of_zero_refuses_all_and_a_window_of_its_own_is_a_bucket_of_its_own() {
        let scratch = Scratch::new("zero");
        let table = Table::create(&scratch.0, 64).unwrap();
        assert_eq!(take_at(&table, "a", 0, 600.0, START), Take::Refused { retry_after_ms: 600 });
        assert_eq!(take_at(&table, "a", 1, 600.0, START), Take::Admitted { remaining: 0 });
        assert_eq!(take_at(&table, "a", 1, 1200.0, START), Take::Admitted { remaining: 0 });
    }

    #[test]
    fn refuses_windows_that_are_no_length() {
        let scratch = Scratch::new("window");
        let table = Table::create(&scratch.0, 64).unwrap();
        for window in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e15] {
            assert!(table.take(b"a", 1, window).is_err(), "{window}");
        }
    }

    /// T-60: against a list of every admitted event, for 200,000 events at random times.
    #[test]
    fn agrees_with_a_log_of_every_event() {
        let scratch = Scratch::new("log");
        let table = Table::create(&scratch.0, 64).unwrap();
        let (capacity, window_ms, slot) = (50, 600.0, 10 * MS);
        let mut log: VecDeque<u64> = VecDeque::new();
        let mut now = START;
        let mut generator = Rng::with_seed(0x9e37_79b9_7f4a_7c15);
        let (mut admitted, mut refused) = (0u32, 0u32);
        for _ in 0..200_000 {
            let random = generator.u64(..);
            now += match random % 1000 {
                0 => 2_000 * MS,
                1..=10 => random % (300 * MS),
                _ => random % (15 * MS),
            };
            while log.front().is_some_and(|&event| now / slot - event / slot > 60) {
                log.pop_front();
            }
            match take_at(&table, "k", capacity, window_ms, now) {
                Take::Admitted { remaining } => {
                    log.push_back(now);
                    assert_eq!(log.len() as u64 + remaining, capacity);
                    // No window of the length asked for holds more than the capacity.
                    let in_window = log.iter().filter(|&&event| now - event < 600 * MS).count();
                    assert!(in_window as u64 <= capacity);
                    admitted += 1;
                }
                Take::Refused { retry_after_ms } => {
                    assert_eq!(log.len() as u64, capacity);
                    let free = (log[0] / slot + 61) * slot - now;
                    assert_eq!(retry_after_ms, free.div_ceil(MS).max(1));
                    refused += 1;
                }
            }
        }
        assert!(admitted > 10_000 && refused > 10_000, "{admitted} {refused}");
    }

    #[test]
    fn a_clock_that_stands_behind_counts_in_the_newest_slot() {
        let scratch = Scratch::new("behind");
        let table = Table::create(&scratch.0, 64).unwrap();
        assert_eq!(take_at(&table, "a", 2, 600.0, START), Take::Admitted { remaining: 1 });
        let behind = START - 25 * MS;
        assert_eq!(take_at(&table, "a", 2, 600.0, behind), Take::Admitted { remaining: 0 });
        assert!(matches!(take_at(&table, "a", 2, 600.0, START), Take::Refused { .. }));
    }

    #[test]
    fn new_keys_push_out_expired_buckets_before_live_ones() {
        let scratch = Scratch::new("eviction");
        let table = Table::create(&scratch.0, WAYS as u32).unwrap();
        assert_eq!(table.summary().entries, WAYS as u64);
        for key in 0..WAYS {
            take_at(&table, &format!("old {key}"), 5, 600.0, START + key as u64);
        }
        // All have left by now: nothing is lost.
        let later = START + 700 * MS;
        for key in 0..WAYS {
            take_at(&table, &format!("new {key}"), 1, 600.0, later + key as u64);
        }
        assert_eq!(table.summary().evictions, 0);
        // Full of live buckets: the one used longest ago goes, and only that one.
        take_at(&table, "one more", 5, 600.0, later + 100);
        assert_eq!(table.summary().evictions, 1);
        for key in 1..WAYS {
            let taken = take_at(&table, &format!("new {key}"), 1, 600.0, later + 200);
            assert!(matches!(taken, Take::Refused { .. }), "new {key}");
        }
        assert_eq!(table.summary().evictions, 1);
    }

    #[test]
    fn ten_thousand_keys_in_a_table_for_twice_as_many_lose_nothing() {
        let scratch = Scratch::new("many");
        let table = Table::create(&scratch.0, 20_000).unwrap();
        for round in 0..3u64 {
            for key in 0..10_000 {
                take_at(&table, &format!("198.51.100.{key}"), 10, 60_000.0, START + round);
            }
        }
        assert!(table.summary().evictions == 0, "{:?}", table.summary());
    }

    #[test]
    fn a_file_that_is_no_table_is_named() {
        use std::os::unix::fs::PermissionsExt;

        let scratch = Scratch::new("not-a-table");
        let refusal = Table::open(&scratch.0).err().unwrap().to_string();
        assert!(refusal.contains("cannot open"), "{refusal}");
        for contents in [vec![], vec![7u8; 100], vec![7u8; 10_000]] {
            std::fs::write(&scratch.0, contents).unwrap();
            let refusal = Table::open(&scratch.0).err().unwrap().to_string();
            assert!(refusal.contains("is not a bucket table"), "{refusal}");
        }
        Table::create(&scratch.0, 100).unwrap();
        let mode = std::fs::metadata(&scratch.0).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let file = std::fs::OpenOptions::new().write(true).open(&scratch.0).unwrap();
        file.set_len(8192).unwrap();
        assert!(Table::open(&scratch.0).is_err());
        assert!(Table::create(&scratch.0, 0).is_err());
        assert!(Table::create(Path::new("/nowhere/table"), 8).is_err());
    }

    #[test]
    fn a_shard_that_stays_locked_is_an_error_after_a_quarter_second() {
        let scratch = Scratch::new("stuck");
        let table = Table::create(&scratch.0, 8).unwrap();
        let guard = table.memory.lock(0).unwrap();
        let start = std::time::Instant::now();
        let refusal = table.take(b"a", 1, 600.0).unwrap_err().to_string();
        assert!(refusal.contains("stayed locked"), "{refusal}");
        let waited = start.elapsed().as_millis();
        assert!((250..2_000).contains(&waited), "{waited} ms");
        drop(guard);
        assert_eq!(table.take(b"a", 1, 600.0).unwrap(), Take::Admitted { remaining: 0 });
        assert_eq!(table.summary().repairs, 0);
    }

    /// The child of `killed_at_every_store`: advances a bucket, takes from it and makes another, dying at store N.
    #[test]
    fn child_that_dies_at_a_store() {
        let Ok(argument) = std::env::var("SALLYPORT_DIE_AT") else { return };
        let (path, store) = argument.split_once('|').unwrap();
        let table = Table::open(Path::new(path)).unwrap();
        STORES_TO_LIVE.set(Some(store.parse().unwrap()));
        take_at(&table, "known", 10, 600.0, START + 305 * MS);
        take_at(&table, "other", 10, 600.0, START + 305 * MS);
        STORES_TO_LIVE.set(None);
        println!("survived");
    }

    /// T-60: kill -9 at every store of the critical section; the shard stays usable and no event is invented or lost.
    #[test]
    fn killed_at_every_store() {
        let scratch = Scratch::new("killed");
        for store in 0.. {
            let table = Table::create(&scratch.0, WAYS as u32).unwrap();
            for event in 0..4 {
                take_at(&table, "known", 10, 600.0, START + event * 10 * MS);
            }
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "table::tests::child_that_dies_at_a_store", "--nocapture"])
                .env("SALLYPORT_DIE_AT", format!("{}|{store}", scratch.0.display()))
                .output()
                .unwrap();
            if String::from_utf8_lossy(&child.stdout).contains("survived") {
                assert!(store > 90, "only {store} stores were tried");
                return;
            }
            assert_eq!(table.summary().repairs, 0);
            // Four were taken before; the child's own counts once or not at all.
            let now = START + 305 * MS;
            let Take::Admitted { remaining } = take_at(&table, "known", 10, 600.0, now) else {
                panic!("store {store}: refused");
            };
            assert!((4..=5).contains(&remaining), "store {store}: {remaining}");
            let Take::Admitted { remaining } = take_at(&table, "other", 10, 600.0, now) else {
                panic!("store {store}: refused");
            };
            assert!((8..=9).contains(&remaining), "store {store}: {remaining}");
            assert_eq!(table.summary().repairs, 1, "store {store}");
        }
    }
}
