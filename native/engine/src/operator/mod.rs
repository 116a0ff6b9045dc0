//! Operators (`@rx`, `@pm`, …): compiled once at load, then asked whether they match a value; one file per operator or
//! close family.
//!
//! Source: SecLang reference of ModSecurity v2 (`seclang.md` section 7).

use std::fmt;

/// What an operator leaves in `TX:0` … `TX:9` when its rule has `capture`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    /// Group 0 is the whole match (or what the operator defines as its find), 1–9 the pattern's groups.
    pub groups: [Option<Vec<u8>>; 10],
}

impl Captures {
    /// Forgets all groups.
    pub fn clear(&mut self) {
        self.groups = Default::default();
    }
}

/// Why an operator could not be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorError {
    /// No operator has this name.
    Unknown,
    /// The operator or a construct in its argument exists in SecLang but is not run by this engine; names it.
    Unsupported(String),
    /// The argument is malformed; says how.
    Argument(String),
}

impl fmt::Display for OperatorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OperatorError::Unknown => formatter.write_str("unknown operator"),
            OperatorError::Unsupported(reason) => write!(formatter, "unsupported: {reason}"),
            OperatorError::Argument(reason) => formatter.write_str(reason),
        }
    }
}

impl std::error::Error for OperatorError {}

/// A compiled operator. Immutable and shared by all threads.
#[derive(Debug)]
pub enum Operator {
    /// `@unconditionalMatch`
    UnconditionalMatch,
    /// `@noMatch`
    NoMatch,
}

impl Operator {
    /// Compiles an operator.
    ///
    /// `name` comes without `@` and `!` (without regard to case), `argument` as written, macros not expanded.
    /// `phrase_file` loads a data file named in the argument, relative to the rule's file.
    ///
    /// # Errors
    /// See [`OperatorError`].
    pub fn compile(
        name: &str,
        argument: &[u8],
        phrase_file: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Operator, OperatorError> {
        let _ = (name, argument, phrase_file);
        Err(OperatorError::Unknown)
    }

    /// The argument text when it holds macros (`%{…}`) and has to be expanded for every evaluation.
    pub fn argument_template(&self) -> Option<&[u8]> {
        None
    }

    /// Whether the value matches; negation (`!`) is the caller's business.
    ///
    /// `expanded` is the expanded argument and is needed exactly when [`Operator::argument_template`] is `Some`.
    /// `captures`, when given and the operator matches, is cleared and filled; otherwise it is left as it is.
    pub fn matches(
        &self,
        value: &[u8],
        expanded: Option<&[u8]>,
        captures: Option<&mut Captures>,
    ) -> bool {
        let _ = (value, expanded, captures);
        matches!(self, Operator::UnconditionalMatch)
    }

    /// The pattern of `@rx` as handed to the regex crate (flags not included), for a prefilter gate.
    pub fn rx_pattern(&self) -> Option<&str> {
        None
    }

    /// The phrases of `@pm` and `@pmFromFile` (match without regard to ASCII case), for a prefilter gate.
    pub fn phrases(&self) -> Option<&[Vec<u8>]> {
        None
    }
}
