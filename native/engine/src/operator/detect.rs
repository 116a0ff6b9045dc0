//! `@detectSQLi`, `@detectXSS`.
//!
//! Source: `seclang.md` sections 7.3 and 7.4 (version B: event handlers by the list), `libinjection.md`.

use sallyport_libinjection::{sqli, xss_with, Events};

use super::{Captures, OperatorError};

/// Which attributes `@detectXSS` takes for event handlers: without an argument those of the list, as libinjection has it
/// since 2023; `any` means every name that begins with `on`, as before, for comparison with engines that bundle it.
pub(super) fn events(argument: &[u8]) -> Result<Events, OperatorError> {
    match argument.trim_ascii() {
        b"" => Ok(Events::Listed),
        b"any" => Ok(Events::Any),
        _ => Err(OperatorError::Argument("nothing or `any` is expected".into())),
    }
}

/// Captures the fingerprint.
pub(super) fn sql_injection(value: &[u8], captures: Option<&mut Captures>) -> bool {
    let Some(fingerprint) = sqli(value) else { return false };
    if let Some(captures) = captures {
        captures.set_whole(&fingerprint);
    }
    true
}

/// Captures the whole value.
pub(super) fn scripting(value: &[u8], events: Events, captures: Option<&mut Captures>) -> bool {
    let found = xss_with(value, events);
    if let (true, Some(captures)) = (found, captures) {
        captures.set_whole(value);
    }
    found
}
