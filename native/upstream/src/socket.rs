//! Non-blocking TCP sockets and the epoll instance.

use std::io::IoSlice;
use std::net::SocketAddr;

use rustix::event::{epoll, eventfd, EventfdFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    self, sockopt, AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags,
    SocketType,
};

pub(crate) use rustix::event::epoll::EventFlags as Flags;

/// Event data of the wake-up descriptor; no connection has the key 0.
pub(crate) const WAKE: u64 = 0;

/// Reported once per change: everything is registered once, and a descriptor whose change was left unread is
/// registered anew when somebody wants to read it again.
const INTEREST: Flags = Flags::IN.union(Flags::OUT).union(Flags::RDHUP).union(Flags::ET);

/// What a readable-looking connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peek {
    Quiet,
    Bytes,
    Closed,
}

pub(crate) struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
    is_woken: bool,
    batch: Vec<epoll::Event>,
    at: usize,
}

impl Poller {
    pub(crate) fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), Flags::IN | Flags::ET)?;
        Ok(Poller { epoll, wake, is_woken: false, batch: Vec::with_capacity(256), at: 0 })
    }

    /// On an instance that somebody else asks, who hands in what concerns us.
    pub(crate) fn on(epoll: OwnedFd) -> Result<Self, Errno> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), Flags::IN | Flags::ET)?;
        Ok(Poller { epoll, wake, is_woken: false, batch: Vec::new(), at: 0 })
    }

    /// Forgets the last batch.
    pub(crate) fn begin(&mut self) {
        self.batch.clear();
        self.at = 0;
    }

    pub(crate) fn hand_in(&mut self, event: epoll::Event) {
        self.batch.push(event);
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Makes the descriptor readable, so that `next` is called although no connection has news.
    pub(crate) fn wake(&mut self) {
        if std::mem::replace(&mut self.is_woken, true) {
            return;
        }
        // Fails only when the counter is full, and then it is readable anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Fetches what is ready, without waiting. Returns how many.
    pub(crate) fn fetch(&mut self) -> usize {
        self.batch.clear();
        self.at = 0;
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // An interrupted call is repeated by whoever polls the descriptor: it is still readable.
        let _ = epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.batch),
            Some(&at_once),
        );
        self.batch.len()
    }

    /// The next of what was fetched.
    pub(crate) fn next(&mut self) -> Option<(u64, Flags)> {
        loop {
            let event = *self.batch.get(self.at)?;
            self.at += 1;
            if event.data.u64() != WAKE {
                return Some((event.data.u64(), event.flags));
            }
            self.is_woken = false;
            let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
        }
    }

    pub(crate) fn add(&self, socket: &OwnedFd, key: u64) -> Result<(), Errno> {
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(key), INTEREST)
    }

    /// Has the state of a socket reported again.
    pub(crate) fn rearm(&self, socket: &OwnedFd, key: u64) {
        // Cannot fail for a descriptor that was added.
        let _ = epoll::modify(&self.epoll, socket, epoll::EventData::new_u64(key), INTEREST);
    }
}

/// Nothing more is sent to the peer.
pub(crate) fn end_sending(socket: &OwnedFd) {
    // Fails only when the connection is gone.
    let _ = net::shutdown(socket, net::Shutdown::Write);
}

/// Begins to connect; success shows as an event.
pub(crate) fn connect(address: &SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    // Finds peers that are gone without a word while a connection idles.
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, std::time::Duration::from_secs(60))?;
    match net::connect(&socket, address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// How connecting went.
pub(crate) fn connect_result(socket: &OwnedFd) -> Result<(), Errno> {
    sockopt::socket_error(socket)?
}

pub(crate) fn peek(socket: &OwnedFd) -> Peek {
    let mut byte = [0u8; 1];
    loop {
        return match net::recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((0, _)) => Peek::Closed,
            Ok(_) => Peek::Bytes,
            Err(Errno::AGAIN) => Peek::Quiet,
            Err(Errno::INTR) => continue,
            Err(_) => Peek::Closed,
        };
    }
}

/// Reads what there is; `None` = nothing at present, 0 = the peer has ended.
pub(crate) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
    loop {
        return match net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => Ok(Some(length)),
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error),
        };
    }
}

/// Writes as much as the system takes; 0 = nothing at present.
pub(crate) fn send(socket: &OwnedFd, pieces: &[&[u8]]) -> Result<usize, Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        let sent = match pieces {
            [piece] => net::send(socket, piece, flags),
            [first, second, third] => {
                let slices = [IoSlice::new(first), IoSlice::new(second), IoSlice::new(third)];
                net::sendmsg(socket, &slices, &mut SendAncillaryBuffer::default(), flags)
            }
            _ => return Err(Errno::INVAL),
        };
        return match sent {
            Err(Errno::AGAIN) => Ok(0),
            Err(Errno::INTR) => continue,
            other => other,
        };
    }
}
