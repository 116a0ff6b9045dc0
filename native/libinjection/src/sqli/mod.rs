//! The SQL injection check: up to five passes in different quote contexts and dialects, each reduced to a fingerprint
//! of at most five token types that is looked up in a table.
//!
//! Source: `libinjection.md` section 3.

mod fold;
mod tokenizer;

use std::ops::Deref;

use memchr::{memchr, memmem};

pub use fold::{fold, Folded};
pub use tokenizer::{Dialect, Quote, Token, Tokenizer};

use crate::tables;

/// The token types of the pass that found an injection: one to five type letters, `X` for "evil" comments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    letters: [u8; fold::MOST_TOKENS],
    length: u8,
}

impl Deref for Fingerprint {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.letters[..usize::from(self.length)]
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Fingerprint({})", String::from_utf8_lossy(self))
    }
}

/// What a pass leaves behind.
struct Pass {
    found: Option<Fingerprint>,
    /// Something was read that the other dialect reads differently.
    ambiguous: bool,
}

/// Checks a value for SQL injection; gives the fingerprint of the first pass that finds one (section 3.4).
///
/// Never allocates. Time is linear in the input's length.
pub fn sqli(input: &[u8]) -> Option<Fingerprint> {
    if is_one_token(input) {
        return None;
    }
    let plain = pass(input, Quote::None, Dialect::Ansi);
    if plain.found.is_some() {
        return plain.found;
    }
    if plain.ambiguous {
        let found = pass(input, Quote::None, Dialect::MySql).found;
        if found.is_some() {
            return found;
        }
    }
    if memchr(b'\'', input).is_some() {
        let single = pass(input, Quote::Single, Dialect::Ansi);
        if single.found.is_some() {
            return single.found;
        }
        if single.ambiguous {
            let found = pass(input, Quote::Single, Dialect::MySql).found;
            if found.is_some() {
                return found;
            }
        }
    }
    if memchr(b'"', input).is_some() {
        return pass(input, Quote::Double, Dialect::MySql).found;
    }
    None
}

/// A single word or number: one token in the only pass there is, and no one-letter fingerprint but `X` is in the table.
#[inline]
fn is_one_token(input: &[u8]) -> bool {
    let Some(first) = input.first() else { return true };
    if first.is_ascii_digit() {
        return input.iter().all(u8::is_ascii_digit);
    }
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    !first.is_ascii_digit() && input.iter().all(is_word)
}

fn pass(input: &[u8], quote: Quote, dialect: Dialect) -> Pass {
    let mut tokenizer = Tokenizer::new(input, quote, dialect);
    let mut folded = fold(&mut tokenizer);
    let ambiguous = tokenizer.dashes > 0 || tokenizer.hashes > 0;
    let found = fingerprint(folded.tokens_mut())
        .filter(|print| tables::is_fingerprint(print))
        .filter(|print| is_injection(input, print, folded.tokens(), tokenizer.tokens));
    Pass { found, ambiguous }
}

/// Section 3.1.
fn fingerprint(tokens: &mut [Token]) -> Option<Fingerprint> {
    let length = tokens.len();
    let last = tokens.last_mut()?;
    if length > 2
        && last.kind == b'n'
        && last.open == b'`'
        && last.close == 0
        && last.value().is_empty()
    {
        last.kind = b'c';
    }
    if tokens.iter().any(|token| token.kind == b'X') {
        // Folding may end with a sixth token (rule D15), which is then an `X`.
        return Some(Fingerprint { letters: [b'X', 0, 0, 0, 0], length: 1 });
    }
    let mut letters = [0u8; fold::MOST_TOKENS];
    for (letter, token) in letters.iter_mut().zip(tokens.iter()) {
        *letter = token.kind;
    }
    Some(Fingerprint { letters, length: length as u8 })
}

/// Section 3.3: fingerprints in the table that are no injection after all.
fn is_injection(input: &[u8], print: &[u8], tokens: &[Token], delivered: usize) -> bool {
    if print.len() > 1
        && print.last() == Some(&b'c')
        && memmem::find(input, b"sp_password").is_some()
    {
        return true;
    }
    match print {
        &[first, second] => {
            let value = tokens[1].value();
            if second == b'U' {
                return delivered != 2;
            }
            if value.first() == Some(&b'#') {
                return false;
            }
            if first == b'n' && second == b'c' && value.first() != Some(&b'/') {
                return false;
            }
            if first == b'1' && second == b'c' {
                if value.first() == Some(&b'/') || delivered > 2 {
                    return true;
                }
                let index = tokens[0].value().len();
                let next = input.get(index + 1).copied();
                return match input.get(index).copied().unwrap_or(0) {
                    0..=0x20 | 0x80.. => true,
                    b'/' => next == Some(b'*'),
                    b'-' => next == Some(b'-'),
                    _ => false,
                };
            }
            !(value.len() > 2 && value[0] == b'-')
        }
        b"sos" | b"s&s" => {
            let (first, last) = (&tokens[0], &tokens[2]);
            first.open == 0 && last.close == 0 && first.close == last.open
        }
        b"s&n" | b"n&1" | b"1&1" | b"1&v" | b"1&s" => delivered != 3,
        [_, b'k', _] => {
            let value = tokens[1].value();
            value.len() >= 5 && value[..4].eq_ignore_ascii_case(b"INTO")
        }
        _ => true,
    }
}
