//! HTTP/1.1 and 1.0 as bytes, strict, without sockets: request heads, bodies in chunks, PROXY protocol headers.
//!
//! [`RequestReader`] turns the first bytes of a connection into a flat head and [`RequestHead`], or refuses them;
//! [`BodyReader`] takes the body that follows apart; [`ChunkedDecoder`] serves requests and answers alike. Bytes may
//! come in any pieces: the result is that of all of them at once (H-125), and the work stays linear.
//!
//! Source: RFC 9110 §4 … §7, §10.1; RFC 9112 §2 … §9; operations.md H-01 … H-39, H-50 … H-64; threats.md T-01 … T-17.
#![forbid(unsafe_code)]

mod body;
mod bytes;
mod checked;
mod chunked;
mod connection;
mod decide;
mod facts;
mod fields;
mod lines;
pub mod proxy;
mod refusal;
mod request;
mod target;
mod trailer;
mod usual;
mod web_socket;

pub use body::{BodyPiece, BodyReader};
pub use bytes::{is_token, is_value, lower_token, value_length};
pub use checked::{CheckedHead, UsualReader};
pub use chunked::{chunk_size, ChunkedDecoder};
pub use connection::{is_hop_by_hop, remove_named, ConnectionOptions};
pub use facts::{Framing, RequestHead, RequestRules, Upgrade, Version};
pub use fields::{is_colliding, RECEIVED_LINE};
pub use lines::{check_field_start, split_field, LineReader};
pub use refusal::Refusal;
pub use request::{request_line, RequestReader};
pub use target::{check_target, is_host, is_plain_path};
pub use trailer::is_dropped;
pub use usual::{read_usual_head, UsualHead};
pub use web_socket::check_offer;
