//! Policy regular expressions.

use napi::{Error, Result};
use napi_derive::napi;
use sallyport_pattern::Pattern;

use crate::registry::Registry;

static PATTERNS: Registry<Pattern> = Registry::new("pattern");

fn refuse(error: sallyport_pattern::Error) -> Error {
    Error::from_reason(error.to_string())
}

/// Compiles; the error says why not, in one line.
#[napi(catch_unwind)]
pub fn compile_pattern(pattern: String) -> Result<u32> {
    PATTERNS.insert(Pattern::new(&pattern).map_err(refuse)?)
}

/// Whether it matches anywhere.
#[napi(catch_unwind)]
pub fn pattern_test(pattern: u32, text: String) -> Result<bool> {
    Ok(PATTERNS.get(pattern)?.is_match(&text))
}

/// All matches replaced; null when nothing matched.
#[napi(catch_unwind)]
pub fn pattern_replace(pattern: u32, text: String, replacement: String) -> Result<Option<String>> {
    PATTERNS.get(pattern)?.replace_all(&text, &replacement).map_err(refuse)
}

/// The first `limit` matches.
#[napi(catch_unwind)]
pub fn pattern_find_all(pattern: u32, text: String, limit: u32) -> Result<Vec<String>> {
    let pattern = PATTERNS.get(pattern)?;
    Ok(pattern.find_all(&text, limit as usize).into_iter().map(str::to_owned).collect())
}

/// Lets go; a stale handle does no harm.
#[napi(catch_unwind)]
pub fn release_pattern(pattern: u32) {
    PATTERNS.remove(pattern);
}
