//! One TLS connection, either side.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, HandshakeKind, ServerConfig};

use crate::client_hello::{ClientHello, Hello};
use crate::fault::{Fault, FaultKind};
use crate::server::ServerContext;

/// More than any record has: 2^14 bytes, what encryption adds, and the header.
pub const MAX_RECORD_BYTES: usize = 16 * 1024 + 2048 + 5;
/// What a handshake may have outstanding: one message in several records.
const MAX_PARTIAL_BYTES: usize = 64 * 1024 + MAX_RECORD_BYTES;
/// Plaintext in one record.
const FRAGMENT_BYTES: usize = 16 * 1024;
/// What encryption adds to a record at most, header included.
const RECORD_OVERHEAD_BYTES: usize = 5 + 8 + 1 + 16;
/// Room for messages that go out before data: key updates, tickets.
const CONTROL_BYTES: usize = 256;
/// Output memory that a quiet session keeps.
const KEEP_BYTES: usize = 2048;

enum Side {
    /// A server that has not read the greeting yet.
    Waiting(ServerContext),
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
    Broken,
}

/// What is known of a connection once the handshake is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `0x0303` = TLS 1.2, `0x0304` = TLS 1.3.
    pub version: u16,
    /// The cipher suite's number in IANA's registry.
    pub cipher: u16,
    /// Agreed by ALPN; empty = none.
    pub alpn: Vec<u8>,
    /// Servers: what the client asked for, in lower case; empty = nothing.
    pub server_name: String,
    /// Servers: one of the context's hosts has that name.
    pub is_name_known: bool,
    /// Servers: the number of the context, and which of its hosts it is.
    pub context: u32,
    /// See there.
    pub host: usize,
    /// Servers: the client's fingerprint by FoxIO's JA4, without hashes for lists that are empty.
    pub ja4: String,
    /// DER of what the peer showed, its own certificate first; empty = nothing.
    pub peer_certificates: Vec<Vec<u8>>,
    /// The session was resumed.
    pub is_resumed: bool,
}

/// See the module. After a fault the session only has its alert to send.
pub struct Session {
    side: Side,
    /// A record, or a handshake message, that came in part.
    partial: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
    is_peer_closed: bool,
    is_close_sent: bool,
    /// A fault has come: rustls may not be asked again, for it trusts that bytes follow those it has seen.
    has_failed: bool,
    server_name: String,
    ja4: String,
    is_name_known: bool,
    context: u32,
    host: usize,
}

/// What a turn of rustls's machine came to.
enum Step {
    Again,
    Rest,
    Stuck,
}

impl Session {
    pub(crate) fn client(connection: UnbufferedClientConnection) -> Result<Self, Fault> {
        let mut session = Session::of(Side::Client(Box::new(connection)));
        session.advance(&mut [], &mut Vec::new(), None)?;
        Ok(session)
    }

    /// A server's side: the client speaks first, and which of the hosts it gets is decided by what it says.
    pub fn server(context: &ServerContext) -> Self {
        Session::of(Side::Waiting(context.clone()))
    }

    fn of(side: Side) -> Self {
        Session {
            side,
            partial: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            is_peer_closed: false,
            is_close_sent: false,
            has_failed: false,
            server_name: String::new(),
            ja4: String::new(),
            is_name_known: false,
            context: 0,
            host: 0,
        }
    }

    /// Before a read: copies what came in part to the beginning of the caller's memory, which must have room for
    /// [`MAX_RECORD_BYTES`] more than that. The bytes of the read belong behind it. Returns how many were copied.
    pub fn copy_partial(&self, space: &mut [u8]) -> usize {
        let length = self.partial.len();
        space[..length].copy_from_slice(&self.partial);
        length
    }

    /// Bytes that [`Session::copy_partial`] copies.
    pub fn partial_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Takes in received bytes (behind what [`Session::copy_partial`] gave) and appends their plaintext to `plain`, never
    /// more than they were. Replies are in [`Session::outgoing`] afterwards, after a fault too, behind which everything else fails.
    pub fn receive(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<(), Fault> {
        let result = self.receive_in(bytes, plain);
        self.has_failed |= result.is_err();
        result
    }

    fn receive_in(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<(), Fault> {
        self.partial.clear();
        if self.has_failed {
            return Err(Fault::failed("the session has failed"));
        }
        if let Side::Waiting(context) = &self.side {
            let context = context.clone();
            self.context = context.id();
            match ClientHello::read(bytes) {
                Hello::Partial => {
                    return self.keep(bytes);
                }
                Hello::NotTls => {
                    self.side = Side::Broken;
                    let detail = "the first bytes are not TLS".to_owned();
                    return Err(Fault { kind: FaultKind::NotTls, detail });
                }
                // rustls says what is wrong with it
                Hello::Broken => {
                    let config = context.config(0);
                    self.begin(config)?;
                }
                Hello::Complete(hello) => {
                    let host = context.host_for(&hello.server_name);
                    self.is_name_known = host.is_some();
                    self.host = host.unwrap_or(0);
                    let config = context.config(self.host);
                    self.server_name = hello.server_name;
                    self.ja4 = hello.ja4;
                    self.begin(config)?;
                }
            }
        }
        let used = self.advance(bytes, plain, None)?;
        if self.is_peer_closed {
            return Ok(());
        }
        let kept = self.keep(&bytes[used..]);
        if self.partial.is_empty() {
            self.partial.shrink_to(KEEP_BYTES);
        }
        kept
    }

    /// Runs the machine without news: what came in part must lie before it all the same.
    fn advance_partial(&mut self, data: Option<&[u8]>) -> Result<(), Fault> {
        if self.has_failed {
            return Err(Fault::failed("the session has failed"));
        }
        let mut partial = std::mem::take(&mut self.partial);
        let result = self.advance(&mut partial, &mut Vec::new(), data);
        if let Ok(used) = &result {
            partial.drain(..used);
        }
        self.partial = partial;
        result.map(|_| ())
    }

    fn begin(&mut self, config: Arc<ServerConfig>) -> Result<(), Fault> {
        self.side = Side::Server(Box::new(UnbufferedServerConnection::new(config)?));
        Ok(())
    }

    fn keep(&mut self, rest: &[u8]) -> Result<(), Fault> {
        if self.partial.len() + rest.len() > MAX_PARTIAL_BYTES {
            return Err(Fault::failed("a handshake message is too large"));
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// Encrypts; the result is behind what waits in [`Session::outgoing`]. Only after the handshake.
    pub fn write(&mut self, plain: &[u8]) -> Result<(), Fault> {
        if plain.is_empty() {
            return Ok(());
        }
        self.advance_partial(Some(plain))
    }

    /// Has both sides go on with new keys (RFC 8446 §4.6.3); not before TLS 1.3.
    pub fn update_keys(&mut self) {
        if self.is_handshaking() || self.advance_partial(None).is_err() {
            return;
        }
        let partial = &mut self.partial;
        // refused where the version has no such message
        let _ = match &mut self.side {
            Side::Client(one) => match one.process_tls_records(partial).state {
                Ok(ConnectionState::WriteTraffic(traffic)) => traffic.refresh_traffic_keys(),
                _ => Ok(()),
            },
            Side::Server(one) => match one.process_tls_records(partial).state {
                Ok(ConnectionState::WriteTraffic(traffic)) => traffic.refresh_traffic_keys(),
                _ => Ok(()),
            },
            Side::Waiting(_) | Side::Broken => Ok(()),
        };
        let _ = self.advance_partial(None);
    }

    /// Tells the peer that nothing more follows; once, and only after the handshake. What it says may still be read.
    pub fn close(&mut self) {
        if self.is_close_sent || self.is_handshaking() {
            return;
        }
        self.is_close_sent = true;
        if self.advance_partial(None).is_err() {
            return;
        }
        let room = self.room(CONTROL_BYTES);
        let partial = &mut self.partial;
        let written = match &mut self.side {
            Side::Client(one) => {
                close_notify(one.process_tls_records(partial), &mut self.outgoing[room..])
            }
            Side::Server(one) => {
                close_notify(one.process_tls_records(partial), &mut self.outgoing[room..])
            }
            _ => 0,
        };
        self.outgoing.truncate(room + written);
    }

    /// To be sent, in this order.
    pub fn outgoing(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// So many of those bytes are on their way.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent < self.outgoing.len() {
            return;
        }
        self.sent = 0;
        self.outgoing.clear();
        self.outgoing.shrink_to(KEEP_BYTES);
    }

    /// Keys are not agreed yet: no data either way.
    pub fn is_handshaking(&self) -> bool {
        self.state().is_none_or(CommonState::is_handshaking)
    }

    /// The peer has said that nothing more follows. An end of the connection without that may be somebody else's doing.
    pub fn is_peer_closed(&self) -> bool {
        self.is_peer_closed
    }

    /// As far as they are known.
    pub fn facts(&self) -> Facts {
        let Some(state) = self.state() else { return Facts::default() };
        Facts {
            version: state.protocol_version().map_or(0, u16::from),
            cipher: state.negotiated_cipher_suite().map_or(0, |suite| u16::from(suite.suite())),
            alpn: state.alpn_protocol().unwrap_or_default().to_vec(),
            server_name: self.server_name.clone(),
            is_name_known: self.is_name_known,
            context: self.context,
            host: self.host,
            ja4: self.ja4.clone(),
            peer_certificates: state
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
            is_resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    fn state(&self) -> Option<&CommonState> {
        match &self.side {
            Side::Client(one) => Some(one),
            Side::Server(one) => Some(one),
            Side::Waiting(_) | Side::Broken => None,
        }
    }

    /// Makes room for so many bytes at the end of `outgoing`, and returns where they begin.
    fn room(&mut self, bytes: usize) -> usize {
        let at = self.outgoing.len();
        self.outgoing.resize(at + bytes, 0);
        at
    }

    /// Runs rustls's machine until it rests, on `bytes` from their beginning. Returns how many of them are used up.
    fn advance(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        mut data: Option<&[u8]>,
    ) -> Result<usize, Fault> {
        let mut at = 0;
        loop {
            let (discard, step) = match &mut self.side {
                Side::Client(one) => {
                    let status = one.process_tls_records(&mut bytes[at..]);
                    turn(status, plain, &mut self.outgoing, &mut self.is_peer_closed, &mut data)
                }
                Side::Server(one) => {
                    let status = one.process_tls_records(&mut bytes[at..]);
                    turn(status, plain, &mut self.outgoing, &mut self.is_peer_closed, &mut data)
                }
                Side::Waiting(_) | Side::Broken => return Err(Fault::failed("no session")),
            };
            at += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Rest) => return Ok(at),
                Ok(Step::Stuck) => {
                    return Err(Fault::failed("data before the end of the handshake"))
                }
                Err(fault) => {
                    self.has_failed = true;
                    self.take_alert();
                    return Err(fault);
                }
            }
        }
    }

    /// What rustls has to tell the peer about a fault; it says so once, behind the error.
    fn take_alert(&mut self) {
        while self.state().is_some_and(CommonState::wants_write) {
            let (_, step) = match &mut self.side {
                Side::Client(one) => turn(
                    one.process_tls_records(&mut []),
                    &mut Vec::new(),
                    &mut self.outgoing,
                    &mut self.is_peer_closed,
                    &mut None,
                ),
                Side::Server(one) => turn(
                    one.process_tls_records(&mut []),
                    &mut Vec::new(),
                    &mut self.outgoing,
                    &mut self.is_peer_closed,
                    &mut None,
                ),
                Side::Waiting(_) | Side::Broken => return,
            };
            if !matches!(step, Ok(Step::Again)) {
                break;
            }
        }
        self.is_close_sent = true;
    }
}

/// Does what the machine asks for.
fn turn<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
    is_peer_closed: &mut bool,
    data: &mut Option<&[u8]>,
) -> (usize, Result<Step, Fault>) {
    let mut discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error.into())),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            let mut result = Ok(Step::Again);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    Err(error) => {
                        result = Err(error.into());
                        break;
                    }
                }
            }
            result
        }
        ConnectionState::EncodeTlsData(mut encode) => {
            let at = outgoing.len();
            outgoing.resize(at + CONTROL_BYTES, 0);
            let mut written = encode.encode(&mut outgoing[at..]);
            if let Err(EncodeError::InsufficientSize(needed)) = &written {
                outgoing.resize(at + needed.required_size, 0);
                written = encode.encode(&mut outgoing[at..]);
            }
            outgoing.truncate(at + *written.as_ref().unwrap_or(&0));
            written.map(|_| Step::Again).map_err(|error| Fault::failed(error.to_string()))
        }
        // `outgoing` keeps the order: from here on it is as good as sent
        ConnectionState::TransmitTlsData(transmit) => {
            transmit.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed => {
            *is_peer_closed = true;
            Ok(Step::Again)
        }
        ConnectionState::WriteTraffic(mut traffic) => match data.take() {
            None => Ok(Step::Rest),
            Some(data) => {
                let records = data.len().div_ceil(FRAGMENT_BYTES);
                let at = outgoing.len();
                outgoing
                    .resize(at + data.len() + records * RECORD_OVERHEAD_BYTES + CONTROL_BYTES, 0);
                let mut written = traffic.encrypt(data, &mut outgoing[at..]);
                if let Err(EncryptError::InsufficientSize(needed)) = &written {
                    outgoing.resize(at + needed.required_size, 0);
                    written = traffic.encrypt(data, &mut outgoing[at..]);
                }
                outgoing.truncate(at + *written.as_ref().unwrap_or(&0));
                written.map(|_| Step::Again).map_err(|error| Fault::failed(error.to_string()))
            }
        },
        ConnectionState::Closed | ConnectionState::BlockedHandshake if data.is_some() => {
            Ok(Step::Stuck)
        }
        // early data is never accepted
        _ => Ok(Step::Rest),
    };
    (discard, step)
}

fn close_notify<Data>(status: UnbufferedStatus<'_, '_, Data>, space: &mut [u8]) -> usize {
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            traffic.queue_close_notify(space).unwrap_or(0)
        }
        _ => 0,
    }
}
