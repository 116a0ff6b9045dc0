//! Why a rule set did not load.

use std::fmt;

use sallyport_seclang::{Diagnostic, Document};
use serde::Serialize;

/// One error of a load, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadDiagnostic {
    /// The file.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
    /// A stable word for the kind of error, such as `unknown-variable`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
}

/// Every error of a load, in order of files and lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadErrors {
    /// The errors; never empty.
    pub diagnostics: Vec<LoadDiagnostic>,
}

impl LoadErrors {
    pub(crate) fn new(document: &Document, diagnostics: Vec<Diagnostic>) -> Self {
        let mut diagnostics = diagnostics;
        diagnostics.sort_by_key(|diagnostic| diagnostic.position);
        let diagnostics = diagnostics
            .into_iter()
            .map(|diagnostic| LoadDiagnostic {
                path: document
                    .files
                    .get(diagnostic.position.file as usize)
                    .cloned()
                    .unwrap_or_default(),
                line: diagnostic.position.line,
                column: diagnostic.position.column,
                code: diagnostic.code,
                message: diagnostic.message,
            })
            .collect();
        LoadErrors { diagnostics }
    }

    /// The errors as JSON: `{"diagnostics":[{"path","line","column","code","message"}…]}`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{\"diagnostics\":[]}".to_string())
    }
}

impl fmt::Display for LoadErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(
                formatter,
                "{}:{}:{}: {} ({})",
                error.path, error.line, error.column, error.message, error.code
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadErrors {}
