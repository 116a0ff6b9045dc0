//! PROXY protocol, versions 1 and 2: the addresses that a load balancer in front of us has seen.
//!
//! A listener that expects the header reads nothing else before it, and one that does not never looks for it: whoever
//! may send it may say any address (O-71).
//!
//! Source: <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt> §2 … §2.2; O-71.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Version 1, line end included (§2.1: "107 chars").
const MAX_LINE_BYTES: usize = 107;
/// Version 2 behind its first 16 bytes: addresses take 36, the rest are fields of which senders in use need a few hundred.
const MAX_BLOCK_BYTES: usize = 4096;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Bytes it took; the connection's own begin behind them.
    pub consumed: usize,
    /// None: the sender speaks for itself (health checks), or knows no addresses; the socket's count.
    pub addresses: Option<ProxyAddresses>,
}

/// Who talks to whom, as the first proxy has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyAddresses {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// Bytes that are no header, for the log. The connection ends without an answer: what follows cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyFault(pub &'static str);

impl std::fmt::Display for ProxyFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for ProxyFault {}

/// Reads the header at the beginning of a connection. `bytes`: everything that came so far. `None`: more are needed.
///
/// # Errors
/// As soon as the bytes can be no header.
pub fn read_proxy_header(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyFault> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => read_line(bytes),
        Some(_) => read_block(bytes),
    }
}

const NO_HEADER: ProxyFault = ProxyFault("no PROXY header");

fn starts_alike(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, expected)| byte == expected)
}

/// Version 1: `PROXY TCP4 source destination source-port destination-port\r\n`.
fn read_line(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyFault> {
    const BAD: ProxyFault = ProxyFault("a PROXY line that is none");
    if !starts_alike(bytes, b"PROXY ") {
        return Err(NO_HEADER);
    }
    let head = &bytes[..bytes.len().min(MAX_LINE_BYTES)];
    let Some(end) = memchr::memchr(b'\n', head) else {
        return if bytes.len() >= MAX_LINE_BYTES {
            Err(ProxyFault("a PROXY line that is too long"))
        } else {
            Ok(None)
        };
    };
    let line = head[6..end].strip_suffix(b"\r").ok_or(BAD)?;
    let consumed = end + 1;
    // Whatever follows this word is to be ignored.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(Some(ProxyHeader { consumed, addresses: None }));
    }
    let mut words = std::str::from_utf8(line).map_err(|_| BAD)?.split(' ');
    let family = words.next();
    let mut address = || -> Result<IpAddr, ProxyFault> {
        let word = words.next().unwrap_or("");
        match family {
            Some("TCP4") => word.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| BAD),
            Some("TCP6") => word.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| BAD),
            _ => Err(BAD),
        }
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || words.next().and_then(read_port).ok_or(BAD);
    let (source_port, destination_port) = (port()?, port()?);
    if words.next().is_some() {
        return Err(BAD);
    }
    let addresses = ProxyAddresses {
        source: SocketAddr::new(canonical(source), source_port),
        destination: SocketAddr::new(canonical(destination), destination_port),
    };
    Ok(Some(ProxyHeader { consumed, addresses: Some(addresses) }))
}

/// Digits only, without leading zeros.
fn read_port(word: &str) -> Option<u16> {
    let is_plain =
        word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if is_plain {
        word.parse().ok()
    } else {
        None
    }
}

/// One form for one client: IPv4 within IPv6 is IPv4.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Version 2: twelve fixed bytes, command, family, length, addresses, fields.
fn read_block(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyFault> {
    if !starts_alike(bytes, SIGNATURE) {
        return Err(NO_HEADER);
    }
    let Some(command) = bytes.get(12) else { return Ok(None) };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        0x22..=0x2f => return Err(ProxyFault("a PROXY command that is not known")),
        _ => return Err(ProxyFault("a version of the PROXY protocol that is not known")),
    };
    let Some(family) = bytes.get(13) else { return Ok(None) };
    let addresses_bytes = match family {
        // unspecified
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        // Unix sockets
        0x31 | 0x32 => 216,
        // LOCAL: receivers accept and ignore what stands here.
        _ if is_local => 0,
        _ => return Err(ProxyFault("an address family that is not known")),
    };
    let Some(length) = bytes.get(14..16) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length > MAX_BLOCK_BYTES {
        return Err(ProxyFault("a PROXY header that is too long"));
    }
    if !is_local && length < addresses_bytes {
        return Err(ProxyFault("a PROXY header that is too short for its addresses"));
    }
    let consumed = 16 + length;
    let Some(block) = bytes.get(16..consumed) else { return Ok(None) };
    if is_local {
        return Ok(Some(ProxyHeader { consumed, addresses: None }));
    }
    check_fields(&bytes[..consumed], 16 + addresses_bytes)?;
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    let addresses = match family {
        0x11 => {
            Some((octets::<4>(block, 0).into(), octets::<4>(block, 4).into(), port(8), port(10)))
        }
        0x21 => Some((
            octets::<16>(block, 0).into(),
            octets::<16>(block, 16).into(),
            port(32),
            port(34),
        )),
        // Datagrams and sockets of a machine have no address that means anything to us.
        _ => None,
    };
    let addresses = addresses.map(
        |(source, destination, source_port, destination_port): (IpAddr, IpAddr, u16, u16)| {
            ProxyAddresses {
                source: SocketAddr::new(canonical(source), source_port),
                destination: SocketAddr::new(canonical(destination), destination_port),
            }
        },
    );
    Ok(Some(ProxyHeader { consumed, addresses }))
}

fn octets<const COUNT: usize>(block: &[u8], at: usize) -> [u8; COUNT] {
    let mut octets = [0; COUNT];
    octets.copy_from_slice(&block[at..at + COUNT]);
    octets
}

/// Type, two bytes of length, value, again and again: whole ones only, and a checksum that is right where there is one
/// (§2.2.3: "the receiver MUST drop the connection"). What the fields say is not used.
fn check_fields(header: &[u8], start: usize) -> Result<(), ProxyFault> {
    const CRC32C: u8 = 0x03;
    let mut at = start;
    while at < header.len() {
        let Some([kind, high, low]) = header.get(at..at + 3) else {
            return Err(ProxyFault("a PROXY field that is cut off"));
        };
        let end = at + 3 + usize::from(u16::from_be_bytes([*high, *low]));
        let Some(value) = header.get(at + 3..end) else {
            return Err(ProxyFault("a PROXY field that is cut off"));
        };
        if *kind == CRC32C {
            let Ok(sum) = <[u8; 4]>::try_from(value) else {
                return Err(ProxyFault("a PROXY checksum that is none"));
            };
            if crc32c(header, at + 3) != u32::from_be_bytes(sum) {
                return Err(ProxyFault("a PROXY checksum that is wrong"));
            }
        }
        at = end;
    }
    Ok(())
}

/// CRC-32C (RFC 4960 Appendix B) of the header with the four bytes from `hole` on taken as zero.
fn crc32c(header: &[u8], hole: usize) -> u32 {
    let mut sum = u32::MAX;
    for (at, byte) in header.iter().enumerate() {
        let byte = if (hole..hole + 4).contains(&at) { 0 } else { *byte };
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}
