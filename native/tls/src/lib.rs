//! TLS without sockets: received bytes in, plaintext out; plaintext in, bytes to send out. Both sides, by rustls.
//!
//! A [`Session`] knows neither descriptors nor Node: whoever owns the socket reads into memory of its own, hands the bytes
//! to [`Session::receive`], and writes what [`Session::outgoing`] holds. Nothing is kept of a quiet connection but the
//! keys, and a record that came in part. [`ClientContext`] and [`ServerContext`] are made once and shared.
//!
//! Source: RFC 5246, RFC 8446, RFC 6066 §3, RFC 7301; RFC 9112 §9.8 (what an end without close_notify means).
#![forbid(unsafe_code)]

mod authorities;
mod client;
mod client_hello;
mod fault;
mod server;
mod session;
mod tickets;

pub use authorities::Authorities;
pub use client::{ClientContext, ClientOptions};
pub use client_hello::{ClientHello, Hello};
pub use fault::{Fault, FaultKind};
pub use server::{ClientCertificates, ServerContext, ServerHost, Strategy, Version, CIPHER_NAMES};
pub use session::{Facts, Session, MAX_RECORD_BYTES};
pub use tickets::TicketSecret;
