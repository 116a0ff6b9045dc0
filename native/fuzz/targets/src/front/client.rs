//! A client: it sends its pieces as the socket takes them, and keeps what it gets.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, sockopt, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use sallyport_front::{ConnectionId, Front};

use super::reference::Reference;
use super::server::SOCKET_BYTES;

pub(super) struct Client {
    pub(super) connection: ConnectionId,
    pub(super) peer: SocketAddr,
    pub(super) reference: Reference,
    /// `None` = it is gone.
    pub(super) socket: Option<OwnedFd>,
    /// What is to be sent in the present step.
    pub(super) out: Vec<u8>,
    pub(super) received: Vec<u8>,
    /// It has read to the end.
    pub(super) has_end: bool,
    /// The end was a failure, or there was no one to write to.
    pub(super) is_broken: bool,
    pub(super) has_ended_side: bool,
    /// Requests that the front end told of, by what the gateway calls them.
    pub(super) told: Vec<usize>,
    pub(super) refusals: usize,
}

impl Client {
    pub(super) fn new(front: &mut Front, listener: u32, port: u16, reference: Reference) -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .expect("a pair of sockets");
        for socket in [&ours, &theirs] {
            sockopt::set_socket_send_buffer_size(socket, SOCKET_BYTES).expect("a small buffer");
        }
        let peer = SocketAddr::from(([192, 0, 2, 1], port));
        let connection = front.adopt(listener, theirs, peer).expect("a listener");
        Client {
            connection,
            peer,
            reference,
            socket: Some(ours),
            out: Vec::new(),
            received: Vec::new(),
            has_end: false,
            is_broken: false,
            has_ended_side: false,
            told: Vec::new(),
            refusals: 0,
        }
    }

    /// Sends and reads what goes at once. Returns whether anything did.
    pub(super) fn work(&mut self, reads: bool) -> bool {
        let Some(socket) = &self.socket else { return false };
        let mut has_worked = false;
        while !self.out.is_empty() && !self.is_broken {
            match net::send(socket, &self.out, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(length) => {
                    self.out.drain(..length);
                    has_worked = true;
                }
                Err(Errno::AGAIN) => break,
                Err(_) => self.is_broken = true,
            }
        }
        let mut buffer = [0; 16 * 1024];
        while reads && !self.has_end {
            match net::recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => self.has_end = true,
                Ok((length, _)) => {
                    self.received.extend_from_slice(&buffer[..length]);
                    has_worked = true;
                }
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.has_end = true;
                    self.is_broken = true;
                }
            }
        }
        has_worked
    }

    /// Sends no more; the front end reads an end.
    pub(super) fn end(&mut self) {
        self.has_ended_side = true;
        if let Some(socket) = &self.socket {
            let _ = net::shutdown(socket, net::Shutdown::Write);
        }
    }

    /// Is gone, whatever was still to come.
    pub(super) fn vanish(&mut self) {
        self.has_ended_side = true;
        self.socket = None;
    }
}
