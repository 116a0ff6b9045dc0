//! A small file that all processes of a gateway map, given to JavaScript as an ArrayBuffer: what is in it, and who may
//! write what, is src/shared-state. JavaScript touches it through `Atomics` only.

use std::ffi::c_void;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::null_mut;

use napi::{sys, Env, Error, Result, Unknown};
use napi_derive::napi;

/// A mapping that JavaScript holds; freed by the collector.
struct Mapping {
    base: *mut c_void,
    bytes: usize,
}

fn failed(what: &str, path: &str, error: std::io::Error) -> Error {
    Error::from_reason(format!("cannot {what} {path}: {error}"))
}

/// Maps a file of `bytes` bytes into an ArrayBuffer. `create`: makes it first, empty and 0600, in place of one that is
/// there; its space is reserved, so that a full disk is an error here and not a SIGBUS in traffic.
#[napi(catch_unwind)]
pub fn map_shared_memory<'env>(
    env: &'env Env,
    path: String,
    bytes: u32,
    create: bool,
) -> Result<Unknown<'env>> {
    let bytes = bytes as usize;
    if create {
        // Others may still map the old one.
        let _ = std::fs::remove_file(&path); // that it is not there is fine
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(create)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(Path::new(&path))
        .map_err(|error| failed("open", &path, error))?;
    if create {
        let length = libc::off_t::try_from(bytes).unwrap_or(libc::off_t::MAX);
        // SAFETY: a plain system call on a descriptor that `file` keeps open.
        let code = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) };
        if code != 0 {
            let error = std::io::Error::from_raw_os_error(code);
            return Err(failed("reserve the memory of", &path, error));
        }
    }
    let length = file.metadata().map_err(|error| failed("measure", &path, error))?.len();
    if length != bytes as u64 || bytes == 0 {
        return Err(Error::from_reason(format!("{path} has {length} bytes, not {bytes}")));
    }
    // SAFETY: a new shared mapping of a file of exactly `bytes` bytes, at an address the kernel chooses. The mapping
    // outlives the descriptor. That nobody truncates the file is kept by its mode 0600.
    let base = unsafe {
        libc::mmap(
            null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(failed("map", &path, std::io::Error::last_os_error()));
    }
    let hint = Box::into_raw(Box::new(Mapping { base, bytes }));
    let mut value = null_mut();
    // SAFETY: `base` is `bytes` long, readable, writable and page-aligned until `unmap`, which the engine calls once when
    // the last view is gone. The memory changes under the engine's feet, which is why src/shared-state reads and writes it
    // through `Atomics` alone; those compile to the machine's atomic instructions for every ArrayBuffer.
    unsafe {
        let status = sys::napi_create_external_arraybuffer(
            env.raw(),
            base,
            bytes,
            Some(unmap),
            hint.cast(),
            &mut value,
        );
        if status != sys::Status::napi_ok {
            unmap(env.raw(), base, hint.cast());
            return Err(Error::from_reason(format!("no ArrayBuffer could be made ({status})")));
        }
        Ok(Unknown::from_raw_unchecked(env.raw(), value))
    }
}

/// The collector has freed the ArrayBuffer.
unsafe extern "C" fn unmap(_env: sys::napi_env, _data: *mut c_void, hint: *mut c_void) {
    // SAFETY: `hint` is the box that `map_shared_memory` leaked, and this is called once for it; nothing refers to the
    // mapping any more.
    unsafe {
        let mapping = Box::from_raw(hint.cast::<Mapping>());
        libc::munmap(mapping.base, mapping.bytes);
    }
}

/// Gives memory that was freed back to the system: what compiling a rule set needs for a moment would stay with the process.
pub(crate) fn give_back_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer; glibc locks its own arenas.
    unsafe {
        libc::malloc_trim(0);
    }
}
