//! What can go wrong with a shared table.

use std::fmt;
use std::io;

/// An error of a shared table.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// An operation on the file failed.
    File { table: &'static str, path: String, doing: &'static str, cause: io::Error },
    /// The file is not a table of this version.
    NotATable { table: &'static str, path: String, found: String },
    /// The number of entries asked for is out of range.
    Entries { table: &'static str, asked: u32, most: u32 },
    /// The window is not a positive length of at most 400 days.
    Window { window_ms: f64 },
    /// Another process keeps a shard locked although its work there takes less than a microsecond.
    Stuck { table: &'static str, waited_ms: u64 },
}

impl Error {
    pub(crate) fn new(kind: Kind) -> Self {
        Error { kind }
    }

    pub(crate) fn file(
        table: &'static str,
        path: &std::path::Path,
        doing: &'static str,
        cause: io::Error,
    ) -> Self {
        Error::new(Kind::File { table, path: path.display().to_string(), doing, cause })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::File { table, path, doing, cause } => {
                write!(f, "cannot {doing} the {table} {path}: {cause}")
            }
            Kind::NotATable { table, path, found } => write!(f, "{path} is not a {table}: {found}"),
            Kind::Entries { table, asked, most } => {
                write!(f, "a {table} has 1 to {most} entries, not {asked}")
            }
            Kind::Window { window_ms } => {
                write!(f, "a window is above 0 ms and at most 400 days, not {window_ms} ms")
            }
            Kind::Stuck { table, waited_ms } => write!(
                f,
                "a shard of the {table} stayed locked for {waited_ms} ms (a stopped process holds it)"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::File { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
