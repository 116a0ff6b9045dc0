//! One client's bytes: the socket, what waits to be written to it, and the transport between the two.
//!
//! TLS is here: with it `receive` gives plaintext and `send` takes plaintext, and nothing outside this file sees a
//! difference, but for what is known of a session, and for clients that do not speak TLS where they should.

use std::cell::RefCell;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, sockopt, RecvFlags, SendAncillaryBuffer, SendFlags};
use sallyport_tls::{Facts, FaultKind, ServerContext, Session, MAX_RECORD_BYTES};

/// A buffer above this is not kept once it is empty.
const KEEP_BYTES: usize = 16 * 1024;
/// What of answers waits on a connection for others, at most.
const POSTPONED_BYTES: usize = 4 * 1024;
/// Plaintext that is encrypted at a time.
const WRITE_BYTES: usize = 64 * 1024;

thread_local! {
    /// What a session gave, on its way into the reader's memory.
    static CLEAR: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How bytes travel on a connection.
pub(crate) enum Transport {
    /// As they are.
    Plain,
    /// Encrypted.
    Tls(Box<Session>),
}

impl Transport {
    pub(crate) fn for_listener(tls: Option<&ServerContext>) -> Self {
        tls.map_or(Transport::Plain, |context| Transport::Tls(Box::new(Session::server(context))))
    }
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes; true: the socket has no more at present.
    Bytes(usize, bool),
    /// Nothing at present.
    Nothing,
    /// So many bytes of something that is not TLS; the answer leaves as it is.
    NotTls(usize),
    /// The client has ended its side.
    End,
    /// The connection is gone.
    Broken,
}

pub(crate) struct Wire {
    socket: OwnedFd,
    transport: Transport,
    out: Vec<u8>,
    out_at: usize,
    /// What is put waits for `flush`.
    is_postponing: bool,
    /// All that waits has never been offered to the system.
    is_postponed: bool,
    is_broken: bool,
    /// Closing shall look like a failure.
    is_reset: bool,
}

impl Wire {
    pub(crate) fn new(socket: OwnedFd, transport: Transport) -> Self {
        Wire {
            socket,
            transport,
            out: Vec::new(),
            out_at: 0,
            is_postponing: false,
            is_postponed: false,
            is_broken: false,
            is_reset: false,
        }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether its bytes travel encrypted.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// The connection has ended by a reset: what was written last did not arrive.
    pub(crate) fn has_failed(&self) -> bool {
        self.is_broken || !matches!(sockopt::socket_error(&self.socket), Ok(Ok(())))
    }

    /// Bytes that the system has not taken yet.
    pub(crate) fn pending(&self) -> usize {
        self.out.len() - self.out_at
    }

    /// Writing has failed: the client is gone.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// What is known of a TLS session once its handshake is done.
    pub(crate) fn facts(&self) -> Option<Facts> {
        match &self.transport {
            Transport::Tls(session) if !session.is_handshaking() => Some(session.facts()),
            _ => None,
        }
    }

    /// Reads once; a handshake, until something else comes of it.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        loop {
            let Transport::Tls(session) = &mut self.transport else {
                return receive(&self.socket, buffer);
            };
            if session.is_peer_closed() {
                return Received::End;
            }
            let kept = session.partial_bytes();
            if kept + MAX_RECORD_BYTES / 2 > buffer.len() {
                return Received::Broken;
            }
            session.copy_partial(buffer);
            let (length, is_drained) = match receive(&self.socket, &mut buffer[kept..]) {
                Received::Bytes(length, is_drained) => (kept + length, is_drained),
                other => return other,
            };
            match self.decrypt(&mut buffer[..length], is_drained) {
                Received::Nothing if !is_drained => {}
                received => return received,
            }
        }
    }

    /// Puts the plaintext of what was received into its place.
    fn decrypt(&mut self, bytes: &mut [u8], is_drained: bool) -> Received {
        let Transport::Tls(session) = &mut self.transport else { return Received::Broken };
        let outcome = CLEAR.with_borrow_mut(|clear| {
            clear.clear();
            let result = session.receive(bytes, clear);
            bytes[..clear.len()].copy_from_slice(clear);
            result.map(|()| clear.len())
        });
        let is_closed = session.is_peer_closed();
        let is_not_tls = matches!(&outcome, Err(fault) if fault.kind == FaultKind::NotTls && session.is_handshaking());
        if is_not_tls {
            self.transport = Transport::Plain;
            return Received::NotTls(bytes.len());
        }
        self.put_session();
        match outcome {
            Err(_) => Received::Broken,
            // The client's farewell is behind its data.
            Ok(clear) if clear > 0 => Received::Bytes(clear, is_drained && !is_closed),
            Ok(_) if is_closed => Received::End,
            Ok(_) => Received::Nothing,
        }
    }

    /// What was plain so far speaks TLS from now on; `bytes` of it have come already.
    pub(crate) fn secure(&mut self, context: &ServerContext, bytes: &mut [u8]) -> Received {
        self.transport = Transport::for_listener(Some(context));
        if bytes.is_empty() {
            return Received::Nothing;
        }
        self.decrypt(bytes, true)
    }

    /// Writes the pieces, one behind the other; what the system does not take is kept.
    pub(crate) fn send(&mut self, pieces: &[&[u8]]) {
        let Transport::Tls(session) = &mut self.transport else {
            self.put(pieces);
            return;
        };
        if self.is_broken {
            return;
        }
        let written = if let [piece] = pieces {
            piece.chunks(WRITE_BYTES).try_for_each(|part| session.write(part))
        } else {
            // One record for small pieces that belong together.
            let together = pieces.concat();
            together.chunks(WRITE_BYTES).try_for_each(|part| session.write(part))
        };
        // Nothing can be said before the handshake is done.
        self.is_broken |= written.is_err();
        self.put_session();
    }

    /// So many bytes may wait for `flush`: nothing else does, and they are few.
    pub(crate) fn may_postpone(&self, length: usize) -> bool {
        !self.is_broken
            && (self.pending() == 0 || self.is_postponed)
            && self.pending() + length <= POSTPONED_BYTES
    }

    /// As `send`, but all of it waits for `flush`, in `space` if there is none yet.
    pub(crate) fn postpone(&mut self, pieces: &[&[u8]], space: Vec<u8>) {
        if self.out.capacity() == 0 {
            self.out = space;
        }
        self.is_postponing = true;
        self.send(pieces);
        self.is_postponing = false;
        self.is_postponed = true;
    }

    /// What the session has to say goes out behind what waits.
    fn put_session(&mut self) {
        let transport = std::mem::replace(&mut self.transport, Transport::Plain);
        if let Transport::Tls(mut session) = transport {
            let length = session.outgoing().len();
            if length > 0 {
                self.put(&[session.outgoing()]);
                session.sent(length);
            }
            self.transport = Transport::Tls(session);
        }
    }

    fn put(&mut self, pieces: &[&[u8]]) {
        if self.is_broken {
            return;
        }
        let mut sent = 0;
        if self.pending() == 0 && !self.is_postponing {
            self.empty();
            match send(&self.socket, pieces) {
                Ok(length) => sent = length,
                Err(_) => {
                    self.is_broken = true;
                    return;
                }
            }
        }
        for piece in pieces {
            let skipped = sent.min(piece.len());
            self.out.extend_from_slice(&piece[skipped..]);
            sent -= skipped;
        }
    }

    /// Writes what waits. Returns how many bytes the system took.
    pub(crate) fn flush(&mut self) -> usize {
        self.is_postponed = false;
        if self.pending() == 0 || self.is_broken {
            return 0;
        }
        match send(&self.socket, &[&self.out[self.out_at..]]) {
            Ok(length) => {
                self.out_at += length;
                if self.out_at == self.out.len() {
                    self.empty();
                }
                length
            }
            Err(_) => {
                self.is_broken = true;
                self.empty();
                0
            }
        }
    }

    fn empty(&mut self) {
        self.out.clear();
        self.out_at = 0;
        if self.out.capacity() > KEEP_BYTES {
            self.out = Vec::new();
        }
    }

    /// Gives memory back that an idle connection does not need.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        if self.pending() > 0 {
            return Vec::new();
        }
        self.out_at = 0;
        std::mem::take(&mut self.out)
    }

    /// Nothing more is sent: the client reads an end behind what was.
    pub(crate) fn end(&mut self) {
        self.say_goodbye();
        // Fails only when the connection is gone.
        let _ = net::shutdown(&self.socket, net::Shutdown::Write);
    }

    /// Tells a client behind TLS that the end is meant (RFC 8446 §6.1).
    fn say_goodbye(&mut self) {
        if let Transport::Tls(session) = &mut self.transport {
            session.close();
            self.put_session();
        }
    }

    /// Closing shall look like a failure, not like an end.
    pub(crate) fn reset_on_close(&mut self) {
        self.is_reset = true;
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Our side of the connection.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        net::getsockname(&self.socket).ok().and_then(|address| address.try_into().ok())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.is_postponed && !self.is_reset {
            self.flush();
        }
        if !self.is_broken && !self.is_reset && self.pending() == 0 {
            self.say_goodbye();
        }
    }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Received {
    let room = buffer.len();
    loop {
        return match net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Received::End,
            Ok((length, _)) => Received::Bytes(length, length < room),
            Err(Errno::AGAIN) => Received::Nothing,
            Err(Errno::INTR) => continue,
            Err(_) => Received::Broken,
        };
    }
}

fn send(socket: &OwnedFd, pieces: &[&[u8]]) -> Result<usize, Errno> {
    const MOST: usize = 8;
    /// Less than this is copied together: the system takes one piece for less than a list of them.
    const TOGETHER_BYTES: usize = 2048;
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        let sent = if let [piece] = pieces {
            net::send(socket, piece, flags)
        } else {
            let mut slices = [IoSlice::new(&[]); MOST];
            let mut count = 0;
            for piece in pieces.iter().filter(|piece| !piece.is_empty()).take(MOST) {
                slices[count] = IoSlice::new(piece);
                count += 1;
            }
            let length = slices[..count].iter().map(|slice| slice.len()).sum();
            if count == 1 {
                net::send(socket, &slices[0], flags)
            } else if length <= TOGETHER_BYTES {
                let mut together = [0; TOGETHER_BYTES];
                let mut at = 0;
                for slice in &slices[..count] {
                    together[at..at + slice.len()].copy_from_slice(slice);
                    at += slice.len();
                }
                net::send(socket, &together[..length], flags)
            } else {
                net::sendmsg(socket, &slices[..count], &mut SendAncillaryBuffer::default(), flags)
            }
        };
        return match sent {
            Err(Errno::AGAIN) => Ok(0),
            Err(Errno::INTR) => continue,
            other => other,
        };
    }
}
