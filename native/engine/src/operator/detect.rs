//! `@detectSQLi`, `@detectXSS`.
//!
//! Source: `seclang.md` sections 7.3 and 7.4 (version B: event handlers by the list), `libinjection.md`.

use sallyport_libinjection::{sqli, xss};

use super::Captures;

/// Captures the fingerprint.
pub(super) fn sql_injection(value: &[u8], captures: Option<&mut Captures>) -> bool {
    let Some(fingerprint) = sqli(value) else { return false };
    if let Some(captures) = captures {
        captures.set_whole(&fingerprint);
    }
    true
}

/// Captures the whole value.
pub(super) fn scripting(value: &[u8], captures: Option<&mut Captures>) -> bool {
    let found = xss(value);
    if let (true, Some(captures)) = (found, captures) {
        captures.set_whole(value);
    }
    found
}
