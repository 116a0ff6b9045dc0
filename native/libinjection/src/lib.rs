//! The SQL injection and cross-site scripting checks behind `@detectSQLi` and `@detectXSS`: an implementation of our own
//! that gives the verdicts, fingerprints and tokens of libinjection (state of February 2025).
//!
//! Source: `libinjection.md`; the tables in `data/` are libinjection's (BSD-3-Clause, `data/COPYING`). Everything is
//! ASCII and bytes: nothing is decoded. No call allocates, and time is linear in the input's length.

pub mod html;
pub mod sqli;
mod tables;
mod xss;

pub use sqli::{sqli, Fingerprint};
pub use xss::{xss, xss_in, xss_with, Events};
