//! What fuzzing runs: one function per parser, which panics when an input breaks a promise of that parser.
//!
//! [`TARGETS`] lists them. `npm run fuzz -- TARGET SECONDS` runs one under libFuzzer (`native/fuzz/fuzz_targets`); the
//! tests of this crate run each over its seeds, over the inputs kept in `native/fuzz/corpus/TARGET/`, and over a bounded
//! number of changes to both. A new target: a function here, a line in the list, a file and a `[[bin]]` for libFuzzer.
//!
//! Source: threats.md T-80; H-125; seclang.md for the rule matcher.
#![forbid(unsafe_code)]

mod bodies;
mod connection;
mod cost;
mod cut;
mod front;
mod gate;
mod http2_answers;
mod injections;
mod proxy;
mod request;
mod response;
mod rules;
mod tls_session;
mod transformations;

pub use bodies::bodies;
pub use connection::connection;
pub use cost::cost;
pub use front::front;
pub use gate::gate;
pub use http2_answers::http2_answers;
pub use injections::injections;
pub use proxy::proxy_header;
pub use request::{chunked_body, request_head};
pub use response::response;
pub use rules::rules;
pub use tls_session::tls_session;
pub use transformations::transformations;

/// Changed inputs that every run of the tests tries for a parser, which is quick.
const MANY: usize = 40_000;

/// A parser under test.
pub struct Target {
    /// Of the function, of the file in `fuzz_targets`, and of the folder in `corpus`.
    pub name: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with, besides the folder's.
    pub seeds: &'static [&'static [u8]],
    /// How many changed inputs every run of the tests tries.
    pub changes: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "request_head", run: request_head, seeds: request::HEADS, changes: MANY },
    Target { name: "chunked_body", run: chunked_body, seeds: request::BODIES, changes: MANY },
    Target { name: "connection", run: connection, seeds: connection::SEEDS, changes: MANY },
    // Sockets and system calls: fewer.
    Target { name: "front", run: front, seeds: front::SEEDS, changes: 3_000 },
    Target { name: "response", run: response, seeds: response::SEEDS, changes: MANY },
    Target { name: "proxy_header", run: proxy_header, seeds: proxy::SEEDS, changes: MANY },
    Target {
        name: "http2_answers",
        run: http2_answers,
        seeds: http2_answers::SEEDS,
        changes: 10_000,
    },
    // Two handshakes of some hundred microseconds each.
    Target { name: "tls_session", run: tls_session, seeds: tls_session::SEEDS, changes: 1_000 },
    // The rule matcher: its seeds lie in the folders.
    Target { name: "rules", run: rules, seeds: &[], changes: 1_000 },
    Target { name: "transformations", run: transformations, seeds: &[], changes: 20_000 },
    Target { name: "bodies", run: bodies, seeds: &[], changes: 4_000 },
    Target { name: "gate", run: gate, seeds: &[], changes: 3_000 },
    Target { name: "injections", run: injections, seeds: &[], changes: 10_000 },
    Target { name: "cost", run: cost, seeds: &[], changes: 20 },
];
