//! One client's bytes: the socket, what waits to be written to it, and the transport between the two.
//!
//! The seam for TLS is here: with it `receive` gives plaintext and `send` takes plaintext, and nothing outside this file
//! sees a difference.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, sockopt, RecvFlags, SendAncillaryBuffer, SendFlags};

/// A buffer above this is not kept once it is empty.
const KEEP_BYTES: usize = 16 * 1024;

/// How bytes travel on a connection.
pub(crate) enum Transport {
    /// As they are.
    Plain,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes; true: the socket has no more at present.
    Bytes(usize, bool),
    /// Nothing at present.
    Nothing,
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
    is_broken: bool,
}

impl Wire {
    pub(crate) fn new(socket: OwnedFd, transport: Transport) -> Self {
        Wire { socket, transport, out: Vec::new(), out_at: 0, is_broken: false }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Bytes that the system has not taken yet.
    pub(crate) fn pending(&self) -> usize {
        self.out.len() - self.out_at
    }

    /// Writing has failed: the client is gone.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Reads once.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match self.transport {
            Transport::Plain => receive(&self.socket, buffer),
        }
    }

    /// Writes the pieces, one behind the other; what the system does not take is kept.
    pub(crate) fn send(&mut self, pieces: &[&[u8]]) {
        match self.transport {
            Transport::Plain => self.send_raw(pieces),
        }
    }

    fn send_raw(&mut self, pieces: &[&[u8]]) {
        if self.is_broken {
            return;
        }
        let mut sent = 0;
        if self.pending() == 0 {
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
    pub(crate) fn rest(&mut self) {
        if self.pending() == 0 {
            self.out = Vec::new();
            self.out_at = 0;
        }
    }

    /// Nothing more is sent: the client reads an end behind what was.
    pub(crate) fn end(&mut self) {
        // Fails only when the connection is gone.
        let _ = net::shutdown(&self.socket, net::Shutdown::Write);
    }

    /// Closing shall look like a failure, not like an end.
    pub(crate) fn reset_on_close(&mut self) {
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Our side of the connection.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        net::getsockname(&self.socket).ok().and_then(|address| address.try_into().ok())
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
            if count == 1 {
                net::send(socket, &slices[0], flags)
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
