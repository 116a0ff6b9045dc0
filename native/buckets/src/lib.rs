//! Tables in memory that the worker processes of a gateway share: rate-limit buckets, and collections of the rule matcher
//! ([`Collections`]).
//!
//! # Buckets
//!
//! Sliding windows, one table per gateway, exact over all its worker processes.
//!
//! A bucket holds 61 counts: the current slot and the 60 before it, a slot being a sixtieth of the window. An event is
//! admitted iff their sum is below the capacity, so no window ever holds more than the capacity; a refused event leaves
//! no trace. Source of the rule: traffic-policy.md §5.16.
//!
//! # Exactness across processes and their death
//!
//! Each shard of the table is guarded by a robust process-shared mutex. A process killed inside the critical section
//! leaves the shard to the next one (`EOWNERDEAD`), and what it finds there is whole: every change is a sequence of
//! single stores whose every prefix is a valid state ([`table`] names them). At most the one event that the dead process was
//! taking is counted without having been used.
//!
//! # Bounds
//!
//! The number of entries is given at creation and the memory (288 bytes an entry and a little) is reserved then. A new
//! key finds its place among the sixteen entries of its two sets: an empty one or one whose counts have all left their
//! window, else the one used longest ago. **Only the last case loses counts**: that bucket starts anew when its key comes
//! back, and may then admit up to its capacity once more within the window. [`Table::summary`] counts these
//! evictions; a table with room for half again as many keys as the longest window sees practically has none.
//!
//! # Clock
//!
//! `CLOCK_BOOTTIME`, read inside the critical section: the same in all processes, never stepped by NTP or an operator,
//! and running on while the machine sleeps (T-76).

mod collections;
mod error;
mod shared_memory;
mod table;
mod window;

pub use collections::{Collections, CollectionsSummary, MemberChange, Members, RecordKey};
pub use error::Error;
pub use table::{Summary, Table, Take};
