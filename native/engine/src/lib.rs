//! The rule matcher: SecLang sources become an immutable [`RuleSet`]; a [`Transaction`] runs one exchange through it.
//!
//! ```text
//! sources --RuleSet::load--> RuleSet (shared by threads) --Profile::new--> Profile
//! request head and body --Transaction::request--> phases 1, 2   (flags)
//! response head and body --Transaction::response--> phases 3, 4  (flags)
//! Transaction::details (only when something matched), Transaction::finish (phase 5)
//! ```
//!
//! Source: `seclang.md` (SecLang as OWASP CRS v4 uses it; ModSecurity v2 decides where engines differ).

mod body;
mod collections;
mod configuration;
mod details;
mod error;
mod escape;
mod exchange;
mod gate;
mod load;
mod number;
pub mod operator;
mod plan;
mod profile;
mod rule;
mod rule_set;
mod store;
mod template;
mod transaction;
pub mod transformation;
mod tx;
mod variable;

pub use collections::{CollectionMembers, CollectionRecord, CollectionStore, MemberChange};
pub use configuration::{Configuration, EngineMode, LimitAction};
pub use details::{Details, Interruption, Match, Score, MATCH_VALUE_BYTES};
pub use error::{LoadDiagnostic, LoadErrors};
pub use profile::{Profile, ProfileOptions};
pub use rule_set::{LeftOut, RuleSet, Summary};
pub use sallyport_seclang::{references, Reference, SourceFile};
pub use transaction::{Client, Flags, Transaction, MATCH_LIMIT};
