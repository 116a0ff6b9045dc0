//! What carries a connection's bytes: the socket as it is, or a TLS session on it.
//!
//! Source: RFC 8446 §6.1, RFC 9112 §9.8: an end without close_notify may be somebody else's doing.

use rustix::fd::OwnedFd;
use sallyport_tls::{ClientContext, Fault, FaultKind, Session, MAX_RECORD_BYTES};

use crate::pool::READ_BYTES;
use crate::socket;

/// Room for what a session has in part, and one read behind it.
const CIPHER_BYTES: usize = 2 * READ_BYTES;
/// Plaintext that is encrypted at a time.
const WRITE_BYTES: usize = 64 * 1024;

/// Memory for reads, shared by all connections of a pool.
pub(crate) struct Buffers {
    raw: Vec<u8>,
    /// Plaintext, and what it came in: only where there is TLS.
    clear: Vec<u8>,
    cipher: Vec<u8>,
    is_clear: bool,
    /// Bytes of the last read.
    pub(crate) length: usize,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Buffers {
            raw: vec![0; READ_BYTES],
            clear: Vec::new(),
            cipher: Vec::new(),
            is_clear: false,
            length: 0,
        }
    }

    /// What the last read brought, in plain.
    pub(crate) fn bytes(&self) -> &[u8] {
        let bytes = if self.is_clear { &self.clear } else { &self.raw };
        &bytes[..self.length]
    }

    /// Where the last read's bytes lie.
    pub(crate) fn memory(&mut self) -> &mut Vec<u8> {
        if self.is_clear {
            &mut self.clear
        } else {
            &mut self.raw
        }
    }

    /// Puts what the last read brought aside, for a read of something else (a secure transport's) in between.
    pub(crate) fn shelve(&mut self) -> (Vec<u8>, bool, usize) {
        (std::mem::take(&mut self.clear), self.is_clear, std::mem::take(&mut self.length))
    }

    pub(crate) fn unshelve(&mut self, (clear, is_clear, length): (Vec<u8>, bool, usize)) {
        (self.clear, self.is_clear, self.length) = (clear, is_clear, length);
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let length = self.length;
        &mut self.memory()[..length]
    }
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Nothing, at present.
    Nothing,
    /// [`Buffers::length`] bytes, perhaps none (the peers' own business). `is_drained`: there was no more.
    Bytes { is_drained: bool },
    /// The peer has ended.
    End,
    /// The connection has ended, and whether the peer wanted that cannot be known.
    Truncated,
}

/// Why a transport cannot go on.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) detail: String,
    /// Another TLS library may get along with the peer.
    pub(crate) is_incompatible: bool,
}

impl From<rustix::io::Errno> for Broken {
    fn from(error: rustix::io::Errno) -> Self {
        Broken { detail: error.to_string(), is_incompatible: false }
    }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        let is_incompatible = fault.kind == FaultKind::Incompatible;
        Broken { detail: fault.detail, is_incompatible }
    }
}

pub(crate) struct Transport {
    pub(crate) socket: OwnedFd,
    tls: Option<Box<Session>>,
}

impl Transport {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Transport { socket, tls: None }
    }

    /// Begins a handshake on a socket that is connected.
    pub(crate) fn secure(&mut self, context: &ClientContext, name: &str) -> Result<(), Broken> {
        self.tls = Some(Box::new(context.connect(name)?));
        self.flush()
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_handshaking())
    }

    /// The server has chosen this protocol (ALPN).
    pub(crate) fn has_agreed_on(&self, protocol: &[u8]) -> bool {
        self.tls.as_ref().is_some_and(|session| session.facts().alpn == protocol)
    }

    /// The peer has said that nothing more follows.
    pub(crate) fn is_ended(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_peer_closed())
    }

    /// A record has come in part.
    pub(crate) fn has_partial(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.partial_bytes() > 0)
    }

    /// Everything that was accepted is with the system.
    pub(crate) fn is_flushed(&self) -> bool {
        self.tls.as_ref().is_none_or(|session| session.outgoing().is_empty())
    }

    /// Reads once.
    pub(crate) fn receive(&mut self, buffers: &mut Buffers) -> Result<Received, Broken> {
        buffers.is_clear = self.tls.is_some();
        let Some(session) = &mut self.tls else {
            let received = socket::receive(&self.socket, &mut buffers.raw)?;
            buffers.length = received.unwrap_or(0);
            return Ok(match received {
                None => Received::Nothing,
                Some(0) => Received::End,
                Some(length) => Received::Bytes { is_drained: length < READ_BYTES },
            });
        };
        buffers.length = 0;
        if session.is_peer_closed() {
            return Ok(Received::End);
        }
        buffers.cipher.resize(CIPHER_BYTES, 0);
        let kept = session.copy_partial(&mut buffers.cipher);
        // Never more plaintext than a read of a plain socket brings; handshakes may have more outstanding.
        let room = if kept < MAX_RECORD_BYTES { READ_BYTES - kept } else { MAX_RECORD_BYTES };
        let length = match socket::receive(&self.socket, &mut buffers.cipher[kept..kept + room])? {
            None => return Ok(Received::Nothing),
            Some(0) => return Ok(Received::Truncated),
            Some(length) => length,
        };
        buffers.clear.clear();
        let result = session.receive(&mut buffers.cipher[..kept + length], &mut buffers.clear);
        buffers.length = buffers.clear.len();
        let is_drained = length < room && !session.is_peer_closed();
        // A fault too has something to say to the peer, and what it says matters more than whether that arrives.
        let sent = self.flush();
        result?;
        sent?;
        Ok(Received::Bytes { is_drained })
    }

    /// Writes as much as there is room for; 0 = nothing at present. A session takes no more than a piece at a time, and says
    /// nothing when there is room for the next: it is offered until it takes none.
    pub(crate) fn send(&mut self, pieces: &[&[u8]]) -> Result<usize, Broken> {
        if self.tls.is_none() {
            return Ok(socket::send(&self.socket, pieces)?);
        }
        self.flush()?;
        let Some(session) = &mut self.tls else { return Ok(0) };
        if !session.outgoing().is_empty() {
            return Ok(0);
        }
        let accepted = if let [piece] | [[], piece, []] = pieces {
            let piece = &piece[..piece.len().min(WRITE_BYTES)];
            session.write(piece)?;
            piece.len()
        } else {
            // One record for small pieces that belong together.
            let mut together = Vec::new();
            for piece in pieces {
                let room = WRITE_BYTES - together.len();
                together.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            session.write(&together)?;
            together.len()
        };
        self.flush()?;
        Ok(accepted)
    }

    /// Hands what a session has to say to the system, as far as that takes it.
    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        let Some(session) = &mut self.tls else { return Ok(()) };
        while !session.outgoing().is_empty() {
            match socket::send(&self.socket, &[session.outgoing()])? {
                0 => break,
                length => session.sent(length),
            }
        }
        Ok(())
    }

    /// Nothing more is sent. False: not yet, something still waits.
    pub(crate) fn end_sending(&mut self) -> bool {
        if let Some(session) = &mut self.tls {
            session.close();
            if self.flush().is_ok() && !self.is_flushed() {
                return false;
            }
        }
        socket::end_sending(&self.socket);
        true
    }
}

impl Drop for Transport {
    /// A peer that gets the end of the connection knows that it was meant (RFC 8446 §6.1), if there is room to say so.
    fn drop(&mut self) {
        if let Some(session) = &mut self.tls {
            session.close();
            let _ = self.flush();
        }
    }
}
