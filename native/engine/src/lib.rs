//! The rule matcher: SecLang sources become an immutable [`RuleSet`]; a [`Transaction`] runs one exchange through it.
//!
//! ```text
//! sources --RuleSet::load--> RuleSet (shared by threads) --Profile::new--> Profile
//! request head and body --Transaction::request--> phases 1, 2   (flags)
//! response head and body --Transaction::response--> phases 3, 4  (flags)
//! Transaction::details (only when something matched), Transaction::finish (phase 5)
//! ```
//!
//! ```
//! use std::sync::Arc;
//! use sallyport_engine::{Client, Profile, ProfileOptions, RuleSet, SourceFile, Transaction};
//!
//! let rules = SourceFile::new("rules.conf", "SecRule ARGS:q \"@contains attack\" \"id:7,phase:2,deny\"");
//! let set = Arc::new(RuleSet::load(&[rules], &[], &[])?);
//! let profile = Arc::new(Profile::new(set, ProfileOptions::default()));
//! let client = Client::parse(b"203.0.113.7 40000 192.0.2.1 443 request-1");
//! let mut transaction =
//!     Transaction::request(&profile, &client, b"GET /?q=an+attack HTTP/1.1\r\nhost: h\r\n", None);
//! let stop = transaction.interruption().expect("a rule denies it");
//! assert_eq!((stop.rule_id, stop.status), (7, 403));
//! transaction.finish();
//! # Ok::<(), sallyport_engine::LoadErrors>(())
//! ```
//!
//! Source: `seclang.md` (SecLang as OWASP CRS v4 uses it; ModSecurity v2 decides where engines differ).

mod body;
mod bytes;
mod collections;
mod configuration;
mod details;
mod error;
mod escape;
mod exchange;
mod gate;
mod hash;
mod listing;
mod load;
mod number;
mod number_table;
pub mod operator;
mod plan;
mod profile;
mod rule;
mod rule_set;
mod spares;
mod store;
mod template;
mod transaction;
pub mod transformation;
mod transformation_tree;
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

/// The examples of README.md are run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
