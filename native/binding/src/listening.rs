//! Listening sockets that are about to close: the kernel is told to begin no new connection on them, so that those it has
//! begun can be taken first. Closing at once would reset what waits in the queue (O-22).

use std::ffi::c_int;
use std::mem::{size_of, size_of_val, MaybeUninit};

use napi::Result;
use napi_derive::napi;

/// Attaches a filter to this process's listening sockets of these ports: segments that ask for a new connection (SYN
/// without ACK) are dropped, all others pass. Clients ask again a second later and then find the socket closed, or
/// another one in its place. Returns how many sockets were found.
#[napi(catch_unwind)]
pub fn stop_new_connections(ports: Vec<u32>) -> Result<u32> {
    let mut found = 0;
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<c_int>().ok())
        else {
            continue;
        };
        if is_listening(fd) && port_of(fd).is_some_and(|port| ports.contains(&u32::from(port))) {
            found += u32::from(attach(fd));
        }
    }
    Ok(found)
}

fn is_listening(fd: c_int) -> bool {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to locals of the sizes given. A descriptor that is no socket, or was closed meanwhile, is
    // an error code.
    let code = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            (&raw mut value).cast(),
            &mut length,
        )
    };
    code == 0 && value != 0
}

fn port_of(fd: c_int) -> Option<u16> {
    let mut address = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `address` is as long as `length` says, and zeroes are a valid value of it; the casts go to the type that its
    // family names, both smaller than the storage.
    unsafe {
        if libc::getsockname(fd, address.as_mut_ptr().cast(), &mut length) != 0 {
            return None;
        }
        let address = address.assume_init();
        match c_int::from(address.ss_family) {
            libc::AF_INET => {
                let address = *(&raw const address).cast::<libc::sockaddr_in>();
                Some(u16::from_be(address.sin_port))
            }
            libc::AF_INET6 => {
                let address = *(&raw const address).cast::<libc::sockaddr_in6>();
                Some(u16::from_be(address.sin6_port))
            }
            _ => None,
        }
    }
}

/// Byte 13 of a TCP header holds its flags; the filter of a TCP socket sees segments from their TCP header on.
fn attach(fd: c_int) -> bool {
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let code = |parts: u32| parts as u16;
    let load_byte = code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS);
    let mask = code(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K);
    let jump = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    let answer = code(libc::BPF_RET | libc::BPF_K);
    let mut program = [
        libc::sock_filter { code: load_byte, jt: 0, jf: 0, k: 13 },
        libc::sock_filter { code: mask, jt: 0, jf: 0, k: SYN | ACK },
        libc::sock_filter { code: jump, jt: 0, jf: 1, k: SYN },
        libc::sock_filter { code: answer, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: answer, jt: 0, jf: 0, k: u32::MAX },
    ];
    let filter =
        libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program of `len` instructions before the call returns, and checks it.
    let status = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    status == 0
}
