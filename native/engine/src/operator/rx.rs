//! `@rx`: regular expressions over bytes, in linear time.
//!
//! Source: `seclang.md` section 7.2: dot matches newline, `^` and `$` see only the ends, no Unicode, leftmost-first.

use std::fmt;

use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures as Spans;
use regex_automata::util::syntax;
use regex_automata::Input;

use super::{pcre, Captures, OperatorError};

/// Upper bound for one compiled pattern, in bytes.
const SIZE_LIMIT_BYTES: usize = 64 * 1024 * 1024;

pub(super) struct Rx {
    pattern: String,
    regex: Regex,
}

impl fmt::Debug for Rx {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Rx({:?})", self.pattern)
    }
}

impl Rx {
    pub(super) fn compile(argument: &[u8]) -> Result<Self, OperatorError> {
        if memchr::memmem::find(argument, b"%{").is_some() {
            let reason = "a macro in a pattern, which would be compiled for every request";
            return Err(OperatorError::Unsupported(reason.into()));
        }
        let pattern = pcre::translate(argument)?;
        let regex = build(&pattern, true)?;
        Ok(Rx { pattern, regex })
    }

    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    pub(super) fn matches(&self, value: &[u8], captures: Option<&mut Captures>) -> bool {
        if !self.regex.is_match(value) {
            return false;
        }
        if let Some(captures) = captures {
            let mut spans = self.regex.create_captures();
            self.regex.search_captures(&Input::new(value), &mut spans);
            keep(value, &spans, captures);
        }
        true
    }
}

fn build(pattern: &str, prefilter: bool) -> Result<Regex, OperatorError> {
    let syntax = syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true);
    let config = Regex::config()
        .utf8_empty(false)
        .auto_prefilter(prefilter)
        .nfa_size_limit(Some(SIZE_LIMIT_BYTES))
        .onepass_size_limit(Some(1024 * 1024))
        .hybrid_cache_capacity(2 * 1024 * 1024);
    Regex::builder().syntax(syntax).configure(config).build(pattern).map_err(|error| {
        let reason = match error.syntax_error() {
            Some(syntax) => format!("the pattern: {syntax}"),
            None => format!("the pattern: {error}"),
        };
        OperatorError::Argument(reason)
    })
}

/// Groups 0–9; those before the last one that took part are at least empty.
fn keep(value: &[u8], spans: &Spans, captures: &mut Captures) {
    captures.clear();
    let count = spans.group_len().min(captures.groups.len());
    let Some(last) = (0..count).rev().find(|&group| spans.get_group(group).is_some()) else {
        return;
    };
    for (group, slot) in captures.groups[..=last].iter_mut().enumerate() {
        let span = spans.get_group(group);
        *slot = Some(span.map_or_else(Vec::new, |span| value[span.range()].to_vec()));
    }
}
