//! Why a pattern or a replacement is refused.

use std::fmt;

/// A refused pattern or replacement; its text is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    message: String,
    /// Place in the pattern, in characters from 1.
    character: Option<usize>,
}

impl Error {
    pub(crate) fn new(message: String) -> Self {
        Error { message, character: None }
    }

    pub(crate) fn at(index: usize, message: impl Into<String>) -> Self {
        Error { message: message.into(), character: Some(index + 1) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.character {
            Some(character) => write!(f, "{} (at character {character})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}
