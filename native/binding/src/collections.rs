//! Collections of the rule matcher in shared memory.

use std::path::Path;
use std::time::Duration;

use napi::{Error, Result};
use napi_derive::napi;
use sallyport_buckets::{Collections, RecordKey};
use sallyport_engine::{CollectionMembers, CollectionRecord, CollectionStore, MemberChange};

use crate::registry::Registry;

/// A table of collections as the matcher uses it.
#[derive(Debug)]
pub(crate) struct SharedCollections(Collections);

pub(crate) static COLLECTIONS: Registry<SharedCollections> = Registry::new("collection table");

fn key(record: CollectionRecord<'_>) -> RecordKey<'_> {
    let CollectionRecord { collection, key, timeout } = record;
    RecordKey { collection, key, timeout }
}

/// A shard that stays locked (a stopped process holds it) is one without members, as the matcher wants it.
impl CollectionStore for SharedCollections {
    fn get(&self, record: CollectionRecord<'_>, name: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key(record), name).unwrap_or_default()
    }

    fn members(&self, record: CollectionRecord<'_>) -> CollectionMembers {
        self.0.members(key(record)).unwrap_or_default()
    }

    fn update(&self, record: CollectionRecord<'_>, name: &[u8], change: &mut MemberChange<'_>) {
        let _ = self.0.update(key(record), name, change);
    }

    fn expire(&self, record: CollectionRecord<'_>, name: &[u8], after: Duration) {
        let _ = self.0.expire(key(record), name, after);
    }
}

fn refuse(error: sallyport_buckets::Error) -> Error {
    Error::from_reason(error.to_string())
}

/// Makes the file and maps it (the primary, before it forks).
#[napi(catch_unwind)]
pub fn create_collections(path: String, records: u32) -> Result<u32> {
    let table = Collections::create(Path::new(&path), records).map_err(refuse)?;
    COLLECTIONS.insert(SharedCollections(table))
}

/// Maps a file that `create_collections` made (workers).
#[napi(catch_unwind)]
pub fn open_collections(path: String) -> Result<u32> {
    COLLECTIONS.insert(SharedCollections(Collections::open(Path::new(&path)).map_err(refuse)?))
}

/// Lets go; rule sets keep what they use.
#[napi(catch_unwind)]
pub fn close_collections(collections: u32) {
    COLLECTIONS.remove(collections);
}

/// `{"records","bytes","evictions","refusals"}`.
#[napi(catch_unwind)]
pub fn collections_summary(collections: u32) -> Result<String> {
    let summary = COLLECTIONS.get(collections)?.0.summary();
    Ok(format!(
        r#"{{"records":{},"bytes":{},"evictions":{},"refusals":{}}}"#,
        summary.records, summary.bytes, summary.evictions, summary.refusals
    ))
}
