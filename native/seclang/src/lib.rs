//! SecLang text to a syntax tree with positions. This crate reads; it gives no rule a meaning and matches nothing.
//!
//! Source: the SecLang subset of OWASP CRS v4 (`seclang.md` sections 2 and 3), after ModSecurity v2.
//!
//! ```
//! use sallyport_seclang::{parse, SourceFile};
//!
//! let source = SourceFile::new("rules.conf", "SecRule ARGS \"@rx attack\" \"id:1,deny\"");
//! let (document, diagnostics) = parse(&[source], &[]);
//! assert!(diagnostics.is_empty());
//! assert_eq!(document.directives.len(), 1);
//! ```

mod action;
mod ast;
mod diagnostic;
mod glob;
mod line;
mod operator;
mod parser;
mod path;
mod reference;
mod source;
mod target;

pub use action::parse_actions;
pub use ast::{
    Action, Directive, DirectiveKind, Document, IdRange, OperatorText, Rule, Scope, Selector,
    Setting, Target,
};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use glob::glob_matches;
pub use line::Argument;
pub use parser::{parse, KNOWN_SETTINGS};
pub use path::{directory_of, resolve};
pub use reference::{references, Reference};
pub use source::{Position, SourceFile};
pub use target::parse_targets;
