//! Addresses that are listened on.

use std::net::SocketAddr;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, sockopt, AddressFamily, SocketFlags, SocketType};
use sallyport_tls::ServerContext;

/// Connections that wait to be accepted; the system bounds it further.
const BACKLOG: i32 = 512;

/// Why an address cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenError(pub String);

impl std::fmt::Display for ListenError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for ListenError {}

pub(crate) struct Listener {
    /// The driver's name for it.
    pub(crate) id: u32,
    /// `None` = closed; its connections go on.
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) proxy_protocol: bool,
    /// For connections that come from now on.
    pub(crate) tls: Option<ServerContext>,
    pub(crate) connections: usize,
    /// Connections that speak HTTP/2.
    pub(crate) shared: usize,
    pub(crate) tunnels: usize,
    /// Tunnels that are streams.
    pub(crate) streamed_tunnels: usize,
}

impl Listener {
    pub(crate) fn new(id: u32, socket: Option<OwnedFd>, proxy_protocol: bool) -> Self {
        Listener {
            id,
            socket,
            proxy_protocol,
            tls: None,
            connections: 0,
            shared: 0,
            tunnels: 0,
            streamed_tunnels: 0,
        }
    }
}

/// Binds and listens, side by side with other processes (SO_REUSEPORT). `::` takes IPv4 too.
pub(crate) fn listen(address: SocketAddr) -> Result<(OwnedFd, u16), ListenError> {
    open(address).map_err(|error| {
        let detail = std::io::Error::from(error);
        ListenError(format!("cannot listen on {address}: {detail}"))
    })
}

fn open(address: SocketAddr) -> Result<(OwnedFd, u16), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    let bound: SocketAddr = net::getsockname(&socket)?.try_into()?;
    Ok((socket, bound.port()))
}

/// What one look at the queue brought.
pub(crate) enum Accepted {
    Connection(OwnedFd, SocketAddr),
    /// Nobody waits.
    None,
    /// Descriptors or memory are short: nothing is accepted for a while.
    Exhausted,
}

pub(crate) fn accept(socket: &OwnedFd) -> Accepted {
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        return match net::acceptfrom_with(socket, flags) {
            Ok((client, address)) => {
                // Answers leave whole; there is nothing to be gained by waiting for more.
                let _ = sockopt::set_tcp_nodelay(&client, true);
                let Some(Ok(address)) = address.map(SocketAddr::try_from) else { continue };
                Accepted::Connection(client, address)
            }
            Err(Errno::AGAIN) => Accepted::None,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Accepted::Exhausted,
            // Of a connection that is gone already (accept(2)).
            Err(Errno::INVAL | Errno::BADF | Errno::NOTSOCK) => Accepted::None,
            Err(_) => continue,
        };
    }
}
