//! Collections that outlive a transaction (`IP`, `GLOBAL`, `SESSION`, `USER`, `RESOURCE`), in memory of this process.
//!
//! Source: `seclang.md` section 10.1.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::variable::Variable;

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

type Key = (Variable, Box<[u8]>);

/// The persistent collections of one rule set.
#[derive(Debug)]
pub(crate) struct Collections {
    timeout: Duration,
    records: Mutex<HashMap<Key, Record>>,
}

impl Collections {
    pub(crate) fn new(timeout_s: u64) -> Self {
        Collections { timeout: Duration::from_secs(timeout_s), records: Mutex::default() }
    }

    fn records(&self) -> MutexGuard<'_, HashMap<Key, Record>> {
        match self.records.lock() {
            Ok(records) => records,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// The value of a member.
    pub(crate) fn get(&self, collection: Variable, key: &[u8], name: &[u8]) -> Option<Vec<u8>> {
        let now = Instant::now();
        let records = self.records();
        let record = records.get(&(collection, key.into()))?;
        if record.used + self.timeout <= now {
            return None;
        }
        let stored = record.members.get(name.to_ascii_lowercase().as_slice())?;
        stored.is_live(now).then(|| stored.value.clone())
    }

    /// All members, by name.
    pub(crate) fn members(&self, collection: Variable, key: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let now = Instant::now();
        let records = self.records();
        let Some(record) = records.get(&(collection, key.into())) else { return Vec::new() };
        if record.used + self.timeout <= now {
            return Vec::new();
        }
        let live = record.members.iter().filter(|(_, stored)| stored.is_live(now));
        let mut members: Vec<_> =
            live.map(|(name, stored)| (name.to_vec(), stored.value.clone())).collect();
        members.sort();
        members
    }

    /// Changes a member: `change` gets the old value and returns the new one, `None` deletes it.
    pub(crate) fn update(
        &self,
        collection: Variable,
        key: &[u8],
        name: &[u8],
        change: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>,
    ) {
        let now = Instant::now();
        let mut records = self.records();
        let record_key: Key = (collection, key.into());
        if !records.contains_key(&record_key) {
            make_room(&mut records, now, self.timeout);
        }
        let record = records
            .entry(record_key)
            .or_insert_with(|| Record { members: HashMap::new(), used: now });
        if record.used + self.timeout <= now {
            record.members.clear();
        }
        record.used = now;
        let name: Box<[u8]> = name.to_ascii_lowercase().into();
        let live = record.members.get(&name).filter(|stored| stored.is_live(now));
        let expires = live.and_then(|stored| stored.expires);
        match change(live.map(|stored| stored.value.as_slice())) {
            None => {
                record.members.remove(&name);
            }
            Some(mut value) => {
                value.truncate(VALUE_LIMIT);
                if record.members.len() < MEMBER_LIMIT || record.members.contains_key(&name) {
                    record.members.insert(name, Stored { value, expires });
                }
            }
        }
    }

    /// Lets a member vanish after some seconds.
    pub(crate) fn expire(&self, collection: Variable, key: &[u8], name: &[u8], seconds: u64) {
        let mut records = self.records();
        let Some(record) = records.get_mut(&(collection, key.into())) else { return };
        let stored = record.members.get_mut(name.to_ascii_lowercase().as_slice());
        if let Some(stored) = stored {
            stored.expires = Instant::now().checked_add(Duration::from_secs(seconds));
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
        let collections = Collections::new(3600);
        for key in 0..RECORD_LIMIT + 10 {
            let key = key.to_string();
            collections.update(Variable::Ip, key.as_bytes(), b"x", |_| Some(b"1".to_vec()));
        }
        assert!(collections.records().len() <= RECORD_LIMIT);
    }
}
