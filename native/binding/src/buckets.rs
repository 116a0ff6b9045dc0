//! Rate-limit buckets in shared memory.

use std::path::Path;

use napi::{Error, Result};
use napi_derive::napi;
use sallyport_buckets::{Table, Take};

use crate::registry::Registry;

static BUCKETS: Registry<Table> = Registry::new("bucket table");

fn refuse(error: sallyport_buckets::Error) -> Error {
    Error::from_reason(error.to_string())
}

/// Makes the file and maps it (the primary, before it forks).
#[napi(catch_unwind)]
pub fn create_buckets(path: String, entries: u32) -> Result<u32> {
    BUCKETS.insert(Table::create(Path::new(&path), entries).map_err(refuse)?)
}

/// Maps a file that `create_buckets` made (workers).
#[napi(catch_unwind)]
pub fn open_buckets(path: String) -> Result<u32> {
    BUCKETS.insert(Table::open(Path::new(&path)).map_err(refuse)?)
}

/// Unmaps; a stale handle does no harm.
#[napi(catch_unwind)]
pub fn close_buckets(buckets: u32) {
    BUCKETS.remove(buckets);
}

/// `{"entries","bytes","evictions","repairs"}`.
#[napi(catch_unwind)]
pub fn buckets_summary(buckets: u32) -> Result<String> {
    let summary = BUCKETS.get(buckets)?.summary();
    Ok(format!(
        r#"{{"entries":{},"bytes":{},"evictions":{},"repairs":{}}}"#,
        summary.entries, summary.bytes, summary.evictions, summary.repairs
    ))
}

/// Takes one event; the key is the first `key_length` bytes. `>= 0`: admitted, so many remain; `< 0`: refused for so many
/// milliseconds.
#[napi(catch_unwind)]
pub fn take_bucket(
    buckets: u32,
    key: &[u8],
    key_length: u32,
    capacity: f64,
    window_ms: f64,
) -> Result<f64> {
    let key = key
        .get(..key_length as usize)
        .ok_or_else(|| Error::from_reason("the key is shorter than its length says"))?;
    // Capacities end at 2·10⁹ (traffic-policy.md §5.16); what is negative or no number becomes 0: all refused.
    match BUCKETS.get(buckets)?.take(key, capacity as u64, window_ms).map_err(refuse)? {
        Take::Admitted { remaining } => Ok(remaining as f64),
        Take::Refused { retry_after_ms } => Ok(-(retry_after_ms as f64)),
    }
}
