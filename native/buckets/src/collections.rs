//! Collections of the rule matcher (`ip`, `global`, …) that all processes of a gateway share.
//!
//! A record holds the members of one collection under one key, [`RECORD_BYTES`] bytes of them: what does not fit is
//! not stored, and counted. A new key takes the place of an expired record of its two sets, else of the one used longest
//! ago. Times are of `CLOCK_BOOTTIME`.
//!
//! # A process may be killed between any two stores
//!
//! A record's length is 0 while its bytes are written, so whoever comes next finds it whole or without members. The tag of
//! a new record is set last.
//!
//! Source: seclang.md section 10.1; the timeout is `SecCollectionTimeout`.

use std::hash::Hasher;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::error::{Error, Kind};
use crate::shared_memory::{
    now_nanos, random_key, Mapping, Record, RecordSet, Unit, RECORD_BYTES, WAYS,
};

/// A million records are half a gigabyte.
const MOST_RECORDS: u32 = 1 << 20;
const MOST_SHARDS: usize = 64;
/// Length of a name, length of a value, time of expiry.
const MEMBER_HEAD_BYTES: usize = 1 + 2 + 8;

/// Collections in shared memory, as one process sees them.
pub struct Collections {
    memory: Mapping<RecordSet>,
    hash_key: [u8; 16],
}

impl std::fmt::Debug for Collections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collections").field("bytes", &self.memory.bytes()).finish_non_exhaustive()
    }
}

/// Facts about a table of collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectionsSummary {
    /// Records the table can hold.
    pub records: u64,
    /// Size of the shared memory.
    pub bytes: u64,
    /// Records ever thrown out although they had not expired.
    pub evictions: u64,
    /// Members ever not stored because their record was full.
    pub refusals: u64,
}

/// A member as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    name: Vec<u8>,
    value: Vec<u8>,
    /// Nanoseconds of the clock; 0: never.
    expires_nanos: u64,
}

/// What a change makes of a member's old value: the new one, or `None` to delete it.
pub type MemberChange<'a> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'a;

/// Members by name: name and value.
pub type Members = Vec<(Vec<u8>, Vec<u8>)>;

/// Which record is meant, and how long it lives without a change.
#[derive(Debug, Clone, Copy)]
pub struct RecordKey<'a> {
    /// Number of the collection.
    pub collection: u8,
    /// Its key, such as an address.
    pub key: &'a [u8],
    /// How long it lives without a change.
    pub timeout: Duration,
}

impl Collections {
    /// Makes a table with room for `records` (rounded up), replacing what is at `path`.
    ///
    /// # Errors
    /// When `records` is out of range or the file cannot be made or its space not be reserved.
    pub fn create(path: &Path, records: u32) -> Result<Self, Error> {
        if records == 0 || records > MOST_RECORDS {
            let table = RecordSet::NAME;
            return Err(Error::new(Kind::Entries { table, asked: records, most: MOST_RECORDS }));
        }
        let sets = (records as usize).div_ceil(WAYS);
        let shards = (sets / 8).next_power_of_two().clamp(1, MOST_SHARDS);
        let key = random_key::<RecordSet>(path)?;
        Ok(Self::over(Mapping::create(path, shards, sets.div_ceil(shards) * shards, key)?))
    }

    /// Opens a table that another process made.
    ///
    /// # Errors
    /// When the file is missing or is not a table of this version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self::over(Mapping::open(path)?))
    }

    fn over(memory: Mapping<RecordSet>) -> Self {
        let hash_key = memory.hash_key();
        Collections { memory, hash_key }
    }

    /// The value of a member, if it lives.
    ///
    /// # Errors
    /// When the shard stays locked for 250 ms (a stopped process holds it).
    pub fn get(&self, record: RecordKey<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let members = self.read(record, now_nanos)?;
        Ok(members.into_iter().find(|member| member.name == name).map(|member| member.value))
    }

    /// All members that live, by name.
    ///
    /// # Errors
    /// As `get`.
    pub fn members(&self, record: RecordKey<'_>) -> Result<Members, Error> {
        let mut members = self.read(record, now_nanos)?;
        members.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(members.into_iter().map(|member| (member.name, member.value)).collect())
    }

    /// Replaces a member's value by what `change` makes of it; `None` deletes it. What does not fit is not stored.
    ///
    /// # Errors
    /// As `get`.
    pub fn update(
        &self,
        record: RecordKey<'_>,
        name: &[u8],
        change: &mut MemberChange<'_>,
    ) -> Result<(), Error> {
        self.change(record, now_nanos, |members| {
            let place = members.iter().position(|member| member.name == name);
            let value = change(place.map(|place| members[place].value.as_slice()));
            match (place, value) {
                (Some(place), Some(value)) => members[place].value = value,
                (Some(place), None) => {
                    members.remove(place);
                }
                (None, Some(value)) => {
                    members.push(Member { name: name.to_vec(), value, expires_nanos: 0 });
                }
                (None, None) => {}
            }
        })
    }

    /// Lets a member vanish after some time.
    ///
    /// # Errors
    /// As `get`.
    pub fn expire(&self, record: RecordKey<'_>, name: &[u8], after: Duration) -> Result<(), Error> {
        let expires = now_nanos().saturating_add(nanos(after)).max(1);
        self.change(record, now_nanos, |members| {
            if let Some(member) = members.iter_mut().find(|member| member.name == name) {
                member.expires_nanos = expires;
            }
        })
    }

    /// Size and losses.
    pub fn summary(&self) -> CollectionsSummary {
        let header = self.memory.header();
        CollectionsSummary {
            records: (self.memory.sets() * WAYS) as u64,
            bytes: self.memory.bytes() as u64,
            evictions: header.evictions.load(Ordering::Relaxed),
            refusals: header.refusals.load(Ordering::Relaxed),
        }
    }

    fn read(
        &self,
        record: RecordKey<'_>,
        clock: impl FnOnce() -> u64,
    ) -> Result<Vec<Member>, Error> {
        let (tag, key) = self.hash(record);
        let (shard, sets) = self.places(tag, key);
        let _guard = self.memory.lock(shard)?;
        let now = clock();
        Ok(find(sets, tag, key)
            .map_or_else(Vec::new, |found| live_members(found, nanos(record.timeout), now)))
    }

    fn change(
        &self,
        record: RecordKey<'_>,
        clock: impl FnOnce() -> u64,
        change: impl FnOnce(&mut Vec<Member>),
    ) -> Result<(), Error> {
        let (tag, key) = self.hash(record);
        let (shard, sets) = self.places(tag, key);
        let guard = self.memory.lock(shard)?;
        if guard.inherited {
            self.memory.header().repairs.fetch_add(1, Ordering::Relaxed);
        }
        let now = clock();
        let timeout = nanos(record.timeout);
        let known = find(sets, tag, key);
        let mut members = known.map_or_else(Vec::new, |found| live_members(found, timeout, now));
        let before = members.clone();
        change(&mut members);
        if members == before && known.is_none() {
            return Ok(());
        }
        let bytes = encode(&members).unwrap_or_else(|| {
            self.memory.header().refusals.fetch_add(1, Ordering::Relaxed);
            encode(&before).unwrap_or_default()
        });
        let found = known.unwrap_or_else(|| self.make(sets, tag, key, timeout, now));
        write(found, &bytes);
        found.used_nanos.store(now, Ordering::Release);
        Ok(())
    }

    /// The shard of a key and the two sets of that shard in which it may lie.
    fn places(&self, tag: u64, key: u64) -> (usize, [&RecordSet; 2]) {
        let shards = self.memory.shards() as u64;
        let sets_per_shard = self.memory.sets() as u64 / shards;
        let shard = tag % shards;
        let set =
            |choice: u64| self.memory.set(((choice % sets_per_shard) * shards + shard) as usize);
        (shard as usize, [set(tag / shards), set(key)])
    }

    /// 128 bits under the table's random key: nobody can aim at another client's record. The first half is never 0.
    fn hash(&self, record: RecordKey<'_>) -> (u64, u64) {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key);
        hasher.write(&[record.collection]);
        hasher.write(record.key);
        let hash = hasher.finish128();
        (hash.h1.max(1), hash.h2)
    }

    /// Gives a key a record: an empty or expired one, else the one used longest ago.
    fn make<'a>(
        &self,
        sets: [&'a RecordSet; 2],
        tag: u64,
        key: u64,
        timeout_nanos: u64,
        now: u64,
    ) -> &'a Record {
        let mut best: Option<(&RecordSet, usize, u64)> = None;
        for set in sets {
            for (way, record) in set.records.iter().enumerate() {
                let is_empty = set.tags[way].load(Ordering::Relaxed) == 0;
                let used = if is_empty { 0 } else { record.used_nanos.load(Ordering::Relaxed) };
                if best.is_none_or(|(_, _, oldest)| used < oldest) {
                    best = Some((set, way, used));
                }
            }
        }
        // two sets of eight records have an oldest one
        let (set, way, used) = best.unwrap_or((sets[0], 0, 0));
        if used != 0 && used.saturating_add(timeout_nanos) > now {
            self.memory.header().evictions.fetch_add(1, Ordering::Relaxed);
        }
        let record = &set.records[way];
        set.tags[way].store(0, Ordering::Release);
        record.length.store(0, Ordering::Release);
        record.key.store(key, Ordering::Release);
        record.used_nanos.store(now, Ordering::Release);
        set.tags[way].store(tag, Ordering::Release);
        record
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn find(sets: [&RecordSet; 2], tag: u64, key: u64) -> Option<&Record> {
    sets.into_iter().find_map(|set| {
        let ways = set.tags.iter().zip(&set.records);
        ways.filter(|(known, _)| known.load(Ordering::Relaxed) == tag)
            .map(|(_, record)| record)
            .find(|record| record.key.load(Ordering::Relaxed) == key)
    })
}

fn live_members(record: &Record, timeout_nanos: u64, now: u64) -> Vec<Member> {
    if record.used_nanos.load(Ordering::Relaxed).saturating_add(timeout_nanos) <= now {
        return Vec::new();
    }
    let length = (record.length.load(Ordering::Acquire) as usize).min(RECORD_BYTES);
    let mut bytes = [0; RECORD_BYTES];
    for (eight, word) in bytes.chunks_exact_mut(8).zip(&record.words).take(length.div_ceil(8)) {
        eight.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    decode(&bytes[..length], now)
}

fn write(record: &Record, bytes: &[u8]) {
    record.length.store(0, Ordering::Release);
    for (eight, word) in bytes.chunks(8).zip(&record.words) {
        let mut padded = [0; 8];
        padded[..eight.len()].copy_from_slice(eight);
        word.store(u64::from_le_bytes(padded), Ordering::Release);
    }
    record.length.store(bytes.len() as u64, Ordering::Release);
}

/// `None` when the members do not fit into a record.
fn encode(members: &[Member]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(RECORD_BYTES);
    for Member { name, value, expires_nanos } in members {
        bytes.push(u8::try_from(name.len()).ok()?);
        bytes.extend(u16::try_from(value.len()).ok()?.to_le_bytes());
        bytes.extend(expires_nanos.to_le_bytes());
        bytes.extend(name);
        bytes.extend(value);
    }
    (bytes.len() <= RECORD_BYTES).then_some(bytes)
}

/// The members that live; bytes that are no members end the list.
fn decode(mut bytes: &[u8], now: u64) -> Vec<Member> {
    let mut members = Vec::new();
    while bytes.len() >= MEMBER_HEAD_BYTES {
        let (head, rest) = bytes.split_at(MEMBER_HEAD_BYTES);
        let name_bytes = usize::from(head[0]);
        let value_bytes = usize::from(u16::from_le_bytes([head[1], head[2]]));
        let expires_nanos = u64::from_le_bytes(std::array::from_fn(|at| head[3 + at]));
        let Some((name, rest)) = rest.split_at_checked(name_bytes) else { break };
        let Some((value, rest)) = rest.split_at_checked(value_bytes) else { break };
        if expires_nanos == 0 || expires_nanos > now {
            members.push(Member { name: name.to_vec(), value: value.to_vec(), expires_nanos });
        }
        bytes = rest;
    }
    members
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("sallyport-collections-{name}-{}", std::process::id());
            Scratch(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn record(collection: u8, key: &str) -> RecordKey<'_> {
        RecordKey { collection, key: key.as_bytes(), timeout: Duration::from_secs(3600) }
    }

    fn add_one(old: Option<&[u8]>) -> Option<Vec<u8>> {
        let text = String::from_utf8_lossy(old.unwrap_or(b"0")).into_owned();
        Some((text.parse::<u64>().unwrap_or(0) + 1).to_string().into_bytes())
    }

    #[test]
    fn members_are_kept_by_collection_key_and_name() {
        let scratch = Scratch::new("members");
        let table = Collections::create(&scratch.0, 64).unwrap();
        let other = Collections::open(&scratch.0).unwrap();
        table.update(record(1, "a"), b"count", &mut add_one).unwrap();
        other.update(record(1, "a"), b"count", &mut add_one).unwrap();
        table.update(record(1, "a"), b"block", &mut |_| Some(b"yes".to_vec())).unwrap();
        assert_eq!(other.get(record(1, "a"), b"count").unwrap(), Some(b"2".to_vec()));
        assert_eq!(table.get(record(2, "a"), b"count").unwrap(), None);
        assert_eq!(table.get(record(1, "b"), b"count").unwrap(), None);
        let members = table.members(record(1, "a")).unwrap();
        assert_eq!(
            members,
            [(b"block".to_vec(), b"yes".to_vec()), (b"count".to_vec(), b"2".to_vec())]
        );
        table.update(record(1, "a"), b"count", &mut |_| None).unwrap();
        assert_eq!(other.get(record(1, "a"), b"count").unwrap(), None);
    }

    #[test]
    fn what_expires_is_gone() {
        let scratch = Scratch::new("expiry");
        let table = Collections::create(&scratch.0, 64).unwrap();
        table.update(record(1, "a"), b"x", &mut add_one).unwrap();
        table.update(record(1, "a"), b"y", &mut add_one).unwrap();
        table.expire(record(1, "a"), b"x", Duration::ZERO).unwrap();
        assert_eq!(table.get(record(1, "a"), b"x").unwrap(), None);
        assert_eq!(table.get(record(1, "a"), b"y").unwrap(), Some(b"1".to_vec()));
        let dead = RecordKey { timeout: Duration::ZERO, ..record(1, "a") };
        assert!(table.members(dead).unwrap().is_empty());
        // a record that timed out begins anew
        table.update(dead, b"z", &mut add_one).unwrap();
        assert_eq!(table.members(record(1, "a")).unwrap().len(), 1);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_counted() {
        let scratch = Scratch::new("full");
        let table = Collections::create(&scratch.0, 64).unwrap();
        table.update(record(1, "a"), b"kept", &mut add_one).unwrap();
        table.update(record(1, "a"), b"large", &mut |_| Some(vec![b'x'; 480])).unwrap();
        assert_eq!(table.members(record(1, "a")).unwrap().len(), 1);
        table.update(record(1, "a"), &[b'n'; 300], &mut add_one).unwrap();
        assert_eq!(table.members(record(1, "a")).unwrap().len(), 1);
        assert_eq!(table.summary().refusals, 2);
        table.update(record(1, "a"), b"fits", &mut |_| Some(vec![b'x'; 400])).unwrap();
        assert_eq!(table.get(record(1, "a"), b"fits").unwrap().unwrap().len(), 400);
    }

    #[test]
    fn a_full_table_forgets_what_was_used_longest_ago() {
        let scratch = Scratch::new("evictions");
        let table = Collections::create(&scratch.0, WAYS as u32).unwrap();
        for key in 0..WAYS + 1 {
            table.update(record(1, &key.to_string()), b"x", &mut add_one).unwrap();
        }
        assert_eq!(table.summary().evictions, 1);
        assert_eq!(table.get(record(1, "0"), b"x").unwrap(), None);
        assert_eq!(table.get(record(1, "8"), b"x").unwrap(), Some(b"1".to_vec()));
    }

    #[test]
    fn a_file_of_buckets_is_no_table_of_collections() {
        let scratch = Scratch::new("other");
        crate::Table::create(&scratch.0, 64).unwrap();
        let refusal = Collections::open(&scratch.0).unwrap_err().to_string();
        assert!(refusal.contains("is not a collection table"), "{refusal}");
        assert!(Collections::create(&scratch.0, 0).is_err());
    }

    #[test]
    fn bytes_that_are_no_members_end_the_list() {
        assert!(decode(&[200; 40], 1).is_empty());
        assert!(decode(&[], 1).is_empty());
    }

    /// The child of `many_processes_lose_no_count`.
    #[test]
    fn child_that_counts() {
        let Ok(path) = std::env::var("SALLYPORT_COUNT_IN") else { return };
        let table = Collections::open(Path::new(&path)).unwrap();
        for _ in 0..2000 {
            table.update(record(1, "shared"), b"count", &mut add_one).unwrap();
        }
    }

    #[test]
    fn many_processes_lose_no_count() {
        let scratch = Scratch::new("processes");
        let table = Collections::create(&scratch.0, 64).unwrap();
        let children: Vec<_> = (0..3)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "collections::tests::child_that_counts"])
                    .env("SALLYPORT_COUNT_IN", &scratch.0)
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(table.get(record(1, "shared"), b"count").unwrap(), Some(b"6000".to_vec()));
    }
}
