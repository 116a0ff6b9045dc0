//! The native front end: listeners, clients' connections, exchanges and their upstream legs on one epoll instance.
//!
//! Nothing here knows Node, and nothing calls back: whoever drives it polls [`Front::fd`], calls [`Front::turn`] when
//! it is readable and then [`Front::next_event`] until that gives nothing. Calls into the front end are allowed between
//! any two events; what they bring about comes as further events. Bodies go from socket to socket in both directions
//! unless `read_request_body`, `read_response_body` or a filter asks for them. A body that is held (`hold_request_body`,
//! `hold_response_body`) is collected like one that is read, and stays here: whoever judges it reads it where it lies, also
//! from another thread ([`LentBody`]), which tells what it found by a [`Mailbox`].
//!
//! Where things are, and where further protocols plug in:
//!
//! - `wire` is a client's socket with what waits to be written. Its [`Transport`](wire::Transport) is the seam for TLS:
//!   `receive` gives plaintext, `send` takes plaintext, nothing outside that file sees a difference.
//! - `connection` is what is kept of a connection. `http1` turns received bytes into requests and their bodies
//!   (`Front::take`), which are not HTTP/1's own; `downstream` is everything that is done to a client (`start_answer`,
//!   `send_body`, `inform`, `resume_request`). A connection that begins with the preface of HTTP/2 goes on in `http2`, and
//!   so does everything that is done to an exchange that has a stream.
//! - `exchange` and `relay` are one request and its answer, whatever the protocol: the body's way up, the upstream leg, the
//!   answer's way down, back-pressure, and the calls of the gateway.
//!   `standing` sends requests up that the gateway need not see, with names that `ids` makes.
//!   `trailers` is what a request's head says about those of its body.
//! - `tunnel` is what a request becomes that both sides upgrade to a WebSocket: a connection, or a stream. `frames` knows where
//!   a frame ends.
//! - `front` has what there is and the loop, `clients` how connections come and go, `timers` how long they may take.
//!
//! Source: RFC 9110, RFC 9112; operations.md H-01 … H-93; native-front-end.md §7.
#![forbid(unsafe_code)]

mod clients;
mod connection;
mod date;
mod downstream;
mod edits;
mod event;
mod exchange;
mod frames;
mod front;
mod head;
mod head_facts;
mod held;
mod http1;
mod http2;
mod ids;
mod listener;
mod mailbox;
mod relay;
mod standing;
mod timers;
mod trailers;
mod tunnel;
mod wheel;
mod wire;

pub use edits::{Edits, MOST_CLOCKS};
pub use event::{ConnectionId, End, Event, ExchangeId, Record, Refused, Request, Version};
pub use front::{Addresses, Front, Limits, Open, MOST_ENDED};
pub use head::BadHead;
pub use head_facts::HeadFacts;
pub use held::LentBody;
pub use listener::ListenError;
pub use mailbox::Mailbox;
pub use relay::Relay;
pub use standing::{Announced, StandingEnd, StandingId, StandingRelay, MOST_STANDING};
