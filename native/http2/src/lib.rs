//! HTTP/2 connections without sockets and without a runtime: bytes in, bytes out, one event at a time.
//!
//! The `h2` crate, polled by hand, keeps streams, windows and settings; heads, limits and floods are judged here, before
//! it (see `gate`). Heads are the flat text that the gateway knows from HTTP/1.1, so that nobody behind this crate asks
//! which protocol a request came in. Nothing here knows Node, sockets or TLS.
//!
//! Source: RFC 9113, RFC 7541, RFC 8441; operations.md H-94, H-100 … H-105.
#![forbid(unsafe_code)]

mod client;
mod drive;
mod field;
mod flood;
mod frame;
mod gate;
mod hpack;
mod huffman;
mod request;
mod response;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ClientConnection, ClientEvent, ClientOptions, StreamFailure};
pub use request::{Refusal, RequestHead, RequestLimits};
pub use response::ResponseHead;
pub use server::{ServerConnection, ServerEvent, ServerOptions};

/// A code of RST_STREAM: the request has not been looked at and may be sent again (RFC 9113 §8.7).
pub const REFUSED_STREAM: u32 = 7;
