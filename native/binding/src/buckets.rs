//! Rate-limit buckets in shared memory.
//!
//! With `unsafe`: taking is a function of the raw Node-API.

use std::cell::RefCell;
use std::path::Path;

use napi::{sys, Error, Result};
use napi_derive::napi;
use sallyport_buckets::{Table, Take};

use crate::raw::{run, Call};
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

thread_local! {
    /// Where keys are copied to.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// `takeBucket(buckets, key, capacity, windowMs)`: takes one event. `>= 0`: admitted, so many remain; `< 0`: refused for so many
/// milliseconds.
pub(crate) unsafe extern "C" fn take_bucket(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let take = |call: &Call| {
        let buckets = call.uint32(0)?;
        // Capacities end at 2·10⁹ (traffic-policy.md §5.16); what is negative or no number becomes 0: all refused.
        let (capacity, window_ms) = (call.double(2)? as u64, call.double(3)?);
        let taken = KEY.with_borrow_mut(|key| {
            call.utf8_into(1, key)?;
            BUCKETS.get(buckets)?.take(key, capacity, window_ms).map_err(refuse)
        })?;
        Ok(call.number(match taken {
            Take::Admitted { remaining } => remaining as f64,
            Take::Refused { retry_after_ms } => -(retry_after_ms as f64),
        }))
    };
    // SAFETY: Node-API calls with what belongs to the call under way.
    unsafe { run(env, info, take) }
}
