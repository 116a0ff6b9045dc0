//! Regular expressions of policies: RE2's language as Go speaks it, linear time, Go's replacement syntax.
//!
//! The `regex` crate does the matching; its own language differs from RE2 in some twenty places (`\d`, `\w` and `\b` know all
//! of Unicode, `[a&&b]` intersects, `\<` is a word boundary, `{` must be a repetition …), so [`syntax`] reads the pattern
//! by RE2's rules and writes it anew.
//!
//! Source: traffic-policy.md §3 (RE2, no look-around, no back-references), §5.17 (replacement); Go's regexp/syntax.

mod error;
mod syntax;
mod template;

use std::fmt;

pub use error::Error;

/// Longest pattern, bytes. As for expressions (traffic-policy.md §3).
const LONGEST_PATTERN_BYTES: usize = 16 * 1024;
/// Size of a compiled pattern, bytes.
const LARGEST_PROGRAM_BYTES: usize = 10 << 20;
/// Longest result of a replacement, bytes.
const LONGEST_RESULT_BYTES: usize = 16 << 20;

/// A compiled policy regular expression.
pub struct Pattern {
    regex: regex::Regex,
    /// Names of the groups by number; group 0 is the whole match.
    names: Vec<Option<String>>,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.regex.as_str()).finish()
    }
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// When it is not RE2, is longer than 16 KiB, or would compile to more than 10 MiB.
    pub fn new(pattern: &str) -> Result<Pattern, Error> {
        if pattern.len() > LONGEST_PATTERN_BYTES {
            return Err(Error::new(format!(
                "the pattern has {} bytes; at most {LONGEST_PATTERN_BYTES} are allowed",
                pattern.len()
            )));
        }
        let translated = syntax::translate(pattern)?;
        let regex = regex::RegexBuilder::new(&translated.pattern)
            .size_limit(LARGEST_PROGRAM_BYTES)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(limit) => Error::new(format!(
                    "the pattern compiles to more than {limit} bytes; make its repetitions smaller"
                )),
                // The last line of the crate's message is the reason; the lines before quote the rewritten pattern.
                other => {
                    let text = other.to_string();
                    let reason = text.lines().last().unwrap_or_default();
                    Error::new(reason.trim_start_matches("error: ").to_owned())
                }
            })?;
        Ok(Pattern { regex, names: translated.names })
    }

    /// Whether the pattern matches anywhere in `text`.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Replaces every match as Go's `Regexp.ReplaceAllString` does; `None` when nothing matched.
    ///
    /// # Errors
    /// When the result would be longer than 16 MiB.
    pub fn replace_all(&self, text: &str, replacement: &str) -> Result<Option<String>, Error> {
        let mut matches = self.regex.captures_iter(text).peekable();
        if matches.peek().is_none() {
            return Ok(None);
        }
        let pieces = template::parse(replacement);
        let mut result = String::with_capacity(text.len());
        let mut end = 0;
        for groups in matches {
            let whole = groups.get_match();
            result.push_str(&text[end..whole.start()]);
            template::expand(&pieces, &groups, &self.names, &mut result);
            end = whole.end();
            if result.len() > LONGEST_RESULT_BYTES {
                break;
            }
        }
        if result.len() + text.len() - end > LONGEST_RESULT_BYTES {
            return Err(Error::new(format!(
                "the replacement makes more than {LONGEST_RESULT_BYTES} bytes"
            )));
        }
        result.push_str(&text[end..]);
        Ok(Some(result))
    }

    /// The first `limit` matches, leftmost first.
    pub fn find_all<'t>(&self, text: &'t str, limit: usize) -> Vec<&'t str> {
        self.regex.find_iter(text).take(limit).map(|found| found.as_str()).collect()
    }
}

#[cfg(test)]
mod tests;
