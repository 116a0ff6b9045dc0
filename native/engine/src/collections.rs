//! Collections that outlive a transaction (`IP`, `GLOBAL`, `SESSION`, `USER`, `RESOURCE`): in a store that the embedder
//! gives, which processes may share, else in memory of this process.
//!
//! Source: `seclang.md` section 10.1.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::variable::Variable;

/// Which record of which collection, and how long it lives without a change (`SecCollectionTimeout`).
#[derive(Clone, Copy, Debug)]
pub struct CollectionRecord<'a> {
    /// Number of the collection, the same in every rule set.
    pub collection: u8,
    /// What `initcol` bound it to.
    pub key: &'a [u8],
    /// How long it lives without a change.
    pub timeout: Duration,
}

/// What a change makes of a member's old value: the new one, or `None` to delete it.
pub type MemberChange<'a> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'a;

/// Members of a record: name and value.
pub type CollectionMembers = Vec<(Vec<u8>, Vec<u8>)>;

/// Where members of collections are kept. Names come in lower case. A store that cannot be reached has no members and
/// forgets changes: no request fails for it.
pub trait CollectionStore: Debug + Send + Sync {
    /// The value of a member that has not expired.
    fn get(&self, record: CollectionRecord<'_>, name: &[u8]) -> Option<Vec<u8>>;

    /// All members that have not expired, sorted by name.
    fn members(&self, record: CollectionRecord<'_>) -> CollectionMembers;

    /// Replaces a member's value by what `change` makes of it, as one step; `None` deletes it.
    fn update(&self, record: CollectionRecord<'_>, name: &[u8], change: &mut MemberChange<'_>);

    /// Lets a member vanish after some time.
    fn expire(&self, record: CollectionRecord<'_>, name: &[u8], after: Duration);
}

/// The persistent collections as one rule set uses them.
#[derive(Debug)]
pub(crate) struct Collections {
    timeout: Duration,
    store: Arc<dyn CollectionStore>,
}

impl Collections {
    pub(crate) fn new(timeout_s: u64) -> Self {
        Collections {
            timeout: Duration::from_secs(timeout_s),
            store: Arc::new(ProcessStore::default()),
        }
    }

    pub(crate) fn use_store(&mut self, store: Arc<dyn CollectionStore>) {
        self.store = store;
    }

    fn record<'a>(&self, collection: Variable, key: &'a [u8]) -> CollectionRecord<'a> {
        let collection = match collection {
            Variable::Ip => 1,
            Variable::Global => 2,
            Variable::Session => 3,
            Variable::User => 4,
            Variable::Resource => 5,
            _ => 0,
        };
        CollectionRecord { collection, key, timeout: self.timeout }
    }

    /// The value of a member.
    pub(crate) fn get(&self, collection: Variable, key: &[u8], name: &[u8]) -> Option<Vec<u8>> {
        self.store.get(self.record(collection, key), &name.to_ascii_lowercase())
    }

    /// All members, by name.
    pub(crate) fn members(&self, collection: Variable, key: &[u8]) -> CollectionMembers {
        self.store.members(self.record(collection, key))
    }

    /// Changes a member: `change` gets the old value and returns the new one, `None` deletes it.
    pub(crate) fn update(
        &self,
        collection: Variable,
        key: &[u8],
        name: &[u8],
        mut change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) {
        self.store.update(self.record(collection, key), &name.to_ascii_lowercase(), &mut change);
    }

    /// Lets a member vanish after some seconds.
    pub(crate) fn expire(&self, collection: Variable, key: &[u8], name: &[u8], seconds: u64) {
        let after = Duration::from_secs(seconds);
        self.store.expire(self.record(collection, key), &name.to_ascii_lowercase(), after);
    }
}

/// How many records are kept; when full, expired ones go first, then the one that was used longest ago.
const RECORD_LIMIT: usize = 65_536;
/// How many members one record has at most.
const MEMBER_LIMIT: usize = 256;
/// How long a value may be, bytes.
const VALUE_LIMIT: usize = 4096;

#[derive(Debug)]
struct Stored {
    value: Vec<u8>,
    expires: Option<Instant>,
}

impl Stored {
    fn is_live(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }
}

#[derive(Debug)]
struct Record {
    /// By lower-cased name.
    members: HashMap<Box<[u8]>, Stored>,
    used: Instant,
}

type Key = (u8, Box<[u8]>);

/// A store in memory of this process.
#[derive(Debug, Default)]
struct ProcessStore {
    records: Mutex<HashMap<Key, Record>>,
}

impl ProcessStore {
    fn records(&self) -> MutexGuard<'_, HashMap<Key, Record>> {
        match self.records.lock() {
            Ok(records) => records,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

impl CollectionStore for ProcessStore {
    fn get(&self, record: CollectionRecord<'_>, name: &[u8]) -> Option<Vec<u8>> {
        let now = Instant::now();
        let records = self.records();
        let known = records.get(&(record.collection, record.key.into()))?;
        if known.used + record.timeout <= now {
            return None;
        }
        let stored = known.members.get(name)?;
        stored.is_live(now).then(|| stored.value.clone())
    }

    fn members(&self, record: CollectionRecord<'_>) -> CollectionMembers {
        let now = Instant::now();
        let records = self.records();
        let Some(known) = records.get(&(record.collection, record.key.into())) else {
            return Vec::new();
        };
        if known.used + record.timeout <= now {
            return Vec::new();
        }
        let live = known.members.iter().filter(|(_, stored)| stored.is_live(now));
        let mut members: Vec<_> =
            live.map(|(name, stored)| (name.to_vec(), stored.value.clone())).collect();
        members.sort();
        members
    }

    fn update(&self, record: CollectionRecord<'_>, name: &[u8], change: &mut MemberChange<'_>) {
        let now = Instant::now();
        let mut records = self.records();
        let key: Key = (record.collection, record.key.into());
        if !records.contains_key(&key) {
            make_room(&mut records, now, record.timeout);
        }
        let known =
            records.entry(key).or_insert_with(|| Record { members: HashMap::new(), used: now });
        if known.used + record.timeout <= now {
            known.members.clear();
        }
        known.used = now;
        let live = known.members.get(name).filter(|stored| stored.is_live(now));
        let expires = live.and_then(|stored| stored.expires);
        match change(live.map(|stored| stored.value.as_slice())) {
            None => {
                known.members.remove(name);
            }
            Some(mut value) => {
                value.truncate(VALUE_LIMIT);
                if known.members.len() < MEMBER_LIMIT || known.members.contains_key(name) {
                    known.members.insert(name.into(), Stored { value, expires });
                }
            }
        }
    }

    fn expire(&self, record: CollectionRecord<'_>, name: &[u8], after: Duration) {
        let mut records = self.records();
        let Some(known) = records.get_mut(&(record.collection, record.key.into())) else { return };
        if let Some(stored) = known.members.get_mut(name) {
            stored.expires = Instant::now().checked_add(after);
        }
    }
}

fn make_room(records: &mut HashMap<Key, Record>, now: Instant, timeout: Duration) {
    if records.len() < RECORD_LIMIT {
        return;
    }
    records.retain(|_, record| record.used + timeout > now);
    // Drop an eighth at once, so that a full table is not searched for every new key.
    if records.len() >= RECORD_LIMIT {
        let mut ages: Vec<Instant> = records.values().map(|record| record.used).collect();
        let nth = ages.len() / 8;
        let (_, limit, _) = ages.select_nth_unstable(nth);
        let limit = *limit;
        records.retain(|_, record| record.used > limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_live_as_long_as_they_may() {
        let collections = Collections::new(3600);
        let add = |old: Option<&[u8]>| {
            let count = old.map_or(0, crate::number::parse_number) + 1;
            Some(count.to_string().into_bytes())
        };
        collections.update(Variable::Ip, b"1.2.3.4", b"Counter", add);
        collections.update(Variable::Ip, b"1.2.3.4", b"counter", add);
        assert_eq!(collections.get(Variable::Ip, b"1.2.3.4", b"COUNTER"), Some(b"2".to_vec()));
        assert_eq!(collections.get(Variable::Ip, b"5.6.7.8", b"counter"), None);
        assert_eq!(collections.get(Variable::Global, b"1.2.3.4", b"counter"), None);
        collections.expire(Variable::Ip, b"1.2.3.4", b"counter", 0);
        assert_eq!(collections.get(Variable::Ip, b"1.2.3.4", b"counter"), None);
        assert!(collections.members(Variable::Ip, b"1.2.3.4").is_empty());
    }

    #[test]
    fn the_table_is_bounded() {
        let store = ProcessStore::default();
        for key in 0..RECORD_LIMIT + 10 {
            let key = key.to_string();
            let timeout = Duration::from_secs(3600);
            let record = CollectionRecord { collection: 1, key: key.as_bytes(), timeout };
            store.update(record, b"x", &mut |_| Some(b"1".to_vec()));
        }
        assert!(store.records().len() <= RECORD_LIMIT);
    }
}
