//! What fuzzing runs: one function per parser, which panics when an input breaks a promise of that parser.
//!
//! [`TARGETS`] lists them. `npm run fuzz -- TARGET SECONDS` runs one under libFuzzer (`native/fuzz/fuzz_targets`); the
//! tests of this crate run each over its seeds, over the inputs kept in `native/fuzz/corpus/TARGET/`, and over a bounded
//! number of changes to both. A new target: a function here, a line in the list, a file and a `[[bin]]` for libFuzzer.
//!
//! Source: threats.md T-80; H-125.
#![forbid(unsafe_code)]

mod connection;
mod cut;
mod proxy;
mod request;
mod response;

pub use connection::connection;
pub use proxy::proxy_header;
pub use request::{chunked_body, request_head};
pub use response::response;

/// A parser under test.
pub struct Target {
    /// Of the function, of the file in `fuzz_targets`, and of the folder in `corpus`.
    pub name: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: &'static [&'static [u8]],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "request_head", run: request_head, seeds: request::HEADS },
    Target { name: "chunked_body", run: chunked_body, seeds: request::BODIES },
    Target { name: "connection", run: connection, seeds: connection::SEEDS },
    Target { name: "response", run: response, seeds: response::SEEDS },
    Target { name: "proxy_header", run: proxy_header, seeds: proxy::SEEDS },
];
