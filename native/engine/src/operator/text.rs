//! `@contains`, `@containsWord`, `@beginsWith`, `@endsWith`, `@streq`, `@strmatch`, `@within`: plain byte comparison.
//!
//! Source: `seclang.md` section 7.3.

use memchr::memmem;

use super::Evidence;

/// An argument that may hold macros.
#[derive(Debug)]
pub(super) struct Argument {
    text: Vec<u8>,
    has_macros: bool,
}

impl Argument {
    pub(super) fn new(text: &[u8]) -> Self {
        Argument { text: text.to_vec(), has_macros: memmem::find(text, b"%{").is_some() }
    }

    pub(super) fn template(&self) -> Option<&[u8]> {
        self.has_macros.then_some(&self.text[..])
    }
}

/// What a text operator asks of the value and its argument.
#[derive(Clone, Copy, Debug)]
pub(super) enum TextTest {
    Contains,
    ContainsWord,
    BeginsWith,
    EndsWith,
    Equals,
    Within,
}

#[derive(Debug)]
pub(super) struct Text {
    test: TextTest,
    argument: Argument,
    /// Finds the argument as written.
    finder: memmem::Finder<'static>,
    /// The argument as the only entry of a list of phrases.
    phrase: [Vec<u8>; 1],
}

impl Text {
    pub(super) fn new(test: TextTest, argument: &[u8]) -> Self {
        let finder = memmem::Finder::new(argument).into_owned();
        Text { test, argument: Argument::new(argument), finder, phrase: [argument.to_vec()] }
    }

    /// The same without macros.
    pub(super) fn fixed(test: TextTest, argument: &[u8]) -> Self {
        let mut text = Text::new(test, argument);
        text.argument.has_macros = false;
        text
    }

    pub(super) fn template(&self) -> Option<&[u8]> {
        self.argument.template()
    }

    /// Whether it asks if a value is part of a text.
    pub(super) fn is_within(&self) -> bool {
        matches!(self.test, TextTest::Within)
    }

    /// What it compares with, unless that is only known when it is asked or the value may be a part of it.
    pub(super) fn evidence(&self) -> Evidence<'_> {
        match self.test {
            TextTest::Within => Evidence::None,
            _ if self.argument.has_macros => Evidence::None,
            _ => Evidence::Phrases(&self.phrase),
        }
    }

    pub(super) fn matches(&self, value: &[u8], expanded: Option<&[u8]>) -> bool {
        let argument = expanded.unwrap_or(&self.argument.text);
        match self.test {
            TextTest::Contains => match expanded {
                Some(text) => memmem::find(value, text).is_some(),
                None => self.finder.find(value).is_some(),
            },
            TextTest::ContainsWord => contains_word(value, argument),
            TextTest::BeginsWith => value.starts_with(argument),
            TextTest::EndsWith => value.ends_with(argument),
            TextTest::Equals => value == argument,
            TextTest::Within => is_part_of(value, argument),
        }
    }
}

/// Whether a value stands in a text. To prepare a search costs more than to try the few places where a short one can begin.
fn is_part_of(value: &[u8], text: &[u8]) -> bool {
    const SHORT_BYTES: usize = 32;
    match value {
        [] => true,
        // The first byte is often one that separates words.
        short if value.len() <= SHORT_BYTES => {
            let (before, after) = short.split_at(short.len() / 2);
            memchr::memchr_iter(after[0], text)
                .any(|at| text[at..].starts_with(after) && text[..at].ends_with(before))
        }
        _ => memmem::find(text, value).is_some(),
    }
}

/// Whether the word stands in the value with no ASCII letter beside it. (v3's reading, which the vectors pin; to v2 digits
/// and the underscore belong to words too.)
fn contains_word(value: &[u8], word: &[u8]) -> bool {
    let is_word_byte = |byte: &u8| byte.is_ascii_alphabetic();
    if word.is_empty() || value == word {
        return true;
    }
    let finder = memmem::Finder::new(word);
    let mut from = 0;
    while let Some(offset) = finder.find(&value[from..]) {
        let start = from + offset;
        let before = start.checked_sub(1).and_then(|index| value.get(index));
        let after = value.get(start + word.len());
        if !before.is_some_and(is_word_byte) && !after.is_some_and(is_word_byte) {
            return true;
        }
        from = start + 1;
    }
    false
}
