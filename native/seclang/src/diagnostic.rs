//! Errors of a load, each with its place.

use crate::source::Position;

/// One error in a source text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub position: Position,
    /// A stable word for the kind of error, such as `unknown-directive`.
    pub code: &'static str,
    /// What is wrong, as a sentence without a final stop.
    pub message: String,
}

/// Collects the errors of one load.
#[derive(Debug, Default)]
pub struct Diagnostics {
    entries: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Adds an error.
    pub fn report(&mut self, position: Position, code: &'static str, message: impl Into<String>) {
        self.entries.push(Diagnostic { position, code, message: message.into() });
    }

    /// Whether nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many errors were reported.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The errors in the order they were found.
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.entries
    }
}
