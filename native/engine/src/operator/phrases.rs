//! `@pm`, `@pmFromFile`: many phrases at once, without regard to ASCII case.
//!
//! Source: `seclang.md` section 7.3. Lines of a file are taken as they are; the hexadecimal and backslash forms belong to
//! `@pm` alone.

use std::fmt;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::{load_files, Captures, OperatorError};

pub(super) struct Phrases {
    list: Vec<Vec<u8>>,
    automaton: AhoCorasick,
}

impl fmt::Debug for Phrases {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Phrases({} of them)", self.list.len())
    }
}

impl Phrases {
    /// Blank-separated phrases.
    pub(super) fn from_argument(argument: &[u8]) -> Result<Self, OperatorError> {
        let text = decode(argument)?;
        let words = text.split(|byte| matches!(byte, 0x09..=0x0D | b' '));
        Phrases::new(words.filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// One phrase per line.
    pub(super) fn from_files(
        argument: &[u8],
        load: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Self, OperatorError> {
        let mut list = Vec::new();
        load_files(argument, load, |line| {
            list.push(line.to_vec());
            Ok(())
        })?;
        Phrases::new(list)
    }

    fn new(list: Vec<Vec<u8>>) -> Result<Self, OperatorError> {
        let build = |kind| {
            let mut builder = AhoCorasick::builder();
            // The first phrase to end wins, and of those that end together the longest.
            builder.ascii_case_insensitive(true).match_kind(MatchKind::Standard).kind(kind);
            builder.build(&list)
        };
        // A table of all states and bytes is hardly faster behind the gate, and twenty times as large.
        let automaton = build(Some(AhoCorasickKind::ContiguousNFA))
            .or_else(|_| build(None))
            .map_err(|error| OperatorError::Argument(format!("the phrases: {error}")))?;
        Ok(Phrases { list, automaton })
    }

    pub(super) fn list(&self) -> &[Vec<u8>] {
        &self.list
    }

    /// Captures the phrase as the list spells it.
    pub(super) fn matches(&self, value: &[u8], captures: Option<&mut Captures>) -> bool {
        let Some(captures) = captures else { return self.automaton.is_match(value) };
        let Some(found) = self.automaton.find(value) else { return false };
        captures.set_whole(&self.list[found.pattern().as_usize()]);
        true
    }
}

/// Quotes around the whole, `|41 42|` and the escapes of `:` `;` `"` `\`.
fn decode(argument: &[u8]) -> Result<Vec<u8>, OperatorError> {
    let wrong = |reason: &str| Err(OperatorError::Argument(reason.into()));
    let argument = match argument {
        [b'"', text @ .., b'"'] => text,
        text => text,
    };
    let mut output = Vec::with_capacity(argument.len());
    let mut bytes = argument.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(&escaped @ (b':' | b';' | b'"' | b'\\')) => output.push(escaped),
                _ => return wrong("a backslash escapes only : ; \" and \\ in phrases"),
            },
            b'|' => {
                let mut high = None;
                loop {
                    let Some(&byte) = bytes.next() else { return wrong("a | is not closed") };
                    match (char::from(byte).to_digit(16), high) {
                        (Some(digit), None) => high = Some(digit),
                        (Some(digit), Some(first)) => {
                            output.push((first << 4 | digit) as u8);
                            high = None;
                        }
                        (None, None) if byte == b'|' => break,
                        (None, _) if byte == b' ' => {}
                        _ => {
                            return wrong("only pairs of hexadecimal digits stand between | and |")
                        }
                    }
                }
            }
            _ => output.push(byte),
        }
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_phrases_take_little_memory() {
        let list: Vec<String> = (0..90).map(|n| format!("{}phrase{n:02}", n * 7919)).collect();
        let phrases = Phrases::from_argument(list.join(" ").as_bytes()).unwrap();
        let bytes: usize = list.iter().map(String::len).sum();
        // A table of all states and bytes takes more than two hundred bytes for each of them.
        assert!(phrases.automaton.memory_usage() < 40 * bytes);
        assert!(list.iter().all(|text| phrases.matches(text.to_uppercase().as_bytes(), None)));
        assert!(!phrases.matches(b"7919phrase0", None));
    }
}
