//! What can go wrong with a table of buckets.

use std::fmt;
use std::io;

/// An error of a table of buckets.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// An operation on the file failed.
    File { path: String, doing: &'static str, cause: io::Error },
    /// The file is not a table of this version.
    NotATable { path: String, found: String },
    /// The number of entries asked for is out of range.
    Entries { asked: u32, most: u32 },
    /// The window is not a positive length of at most 400 days.
    Window { window_ms: f64 },
    /// Another process keeps a shard locked although its work there takes less than a microsecond.
    Stuck { waited_ms: u64 },
}

impl Error {
    pub(crate) fn new(kind: Kind) -> Self {
        Error { kind }
    }

    pub(crate) fn file(path: &std::path::Path, doing: &'static str, cause: io::Error) -> Self {
        Error::new(Kind::File { path: path.display().to_string(), doing, cause })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::File { path, doing, cause } => {
                write!(f, "cannot {doing} the bucket table {path}: {cause}")
            }
            Kind::NotATable { path, found } => write!(f, "{path} is not a bucket table: {found}"),
            Kind::Entries { asked, most } => {
                write!(f, "a bucket table has 1 to {most} entries, not {asked}")
            }
            Kind::Window { window_ms } => {
                write!(f, "a window is above 0 ms and at most 400 days, not {window_ms} ms")
            }
            Kind::Stuck { waited_ms } => write!(
                f,
                "a shard of the bucket table stayed locked for {waited_ms} ms (a stopped process holds it)"
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
