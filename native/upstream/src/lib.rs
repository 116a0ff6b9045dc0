//! Keep-alive connections to upstreams: requests out in HTTP/1.1 or HTTP/2, answers strictly parsed in, one epoll instance.
//!
//! Nothing here knows Node: [`Pool`] owns an epoll descriptor that whoever drives it polls (libuv in the gateway, a
//! plain loop in the tests), and [`Pool::next`] hands out one event at a time without ever calling back, so that the
//! receiver may call into the pool from inside an event. No `unsafe`: system calls go through `rustix`.
//!
//! Source: RFC 9112; operations.md H-20 … H-35, H-62, H-70, H-80, H-82, H-120 … H-125; threats.md T-30 … T-35.
#![forbid(unsafe_code)]

mod connection;
mod deadline;
mod event;
mod exchange;
mod head;
mod http2;
mod passing;
mod pool;
mod request;
mod response;
mod slab;
mod socket;
mod target;
mod transport;
mod websocket;

pub use event::{Event, Failure, HeadFacts, LegId, Lent, Reason};
pub use head::{are_fields, LookedAt, RequestHead};
pub use pool::{Connections, Pool, READ_BYTES};
pub use request::{Sent, Use};
pub use response::{Fault, FinalHead, Parsed, Response};
pub use slab::{slot_of, Slab};
pub use target::{TargetId, TargetOptions};
pub use websocket::websocket_accept;
