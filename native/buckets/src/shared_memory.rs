//! The file that all processes map, the mutexes in it, and the clock: the only unsafe code of this crate.
//!
//! Layout, all in the machine's byte order: one page of [`Header`], then [`Lock`]s, then [`Set`]s. Everything behind the
//! header consists of atomics and mutexes, for which all bytes are valid, so other processes may write at any time.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::marker::PhantomData;
use std::mem::{align_of, size_of, MaybeUninit};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::window::Counts;

/// Entries in which a key may be found.
pub(crate) const WAYS: usize = 8;
/// Version of the layouts. A process of another version must not share a table.
const LAYOUT_VERSION: u32 = 2;
const HEADER_BYTES: usize = 4096;
const LOCK_BYTES: usize = 64;
/// Longest wait for a shard. Its holder needs less than a microsecond, but may have been descheduled by a busy machine, or
/// killed and not yet buried; only a stopped process keeps it longer than this.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// Facts of the whole table; written once by the creator, except for the two counters.
#[repr(C)]
pub(crate) struct Header {
    magic: AtomicU64,
    version: AtomicU32,
    pub(crate) shards: AtomicU32,
    pub(crate) sets: AtomicU32,
    padding: AtomicU32,
    pub(crate) hash_key: [AtomicU64; 2],
    pub(crate) evictions: AtomicU64,
    pub(crate) repairs: AtomicU64,
    pub(crate) refusals: AtomicU64,
}

/// What a table is made of: a row of these.
///
/// # Safety
/// Implementors consist of atomics only, in `repr(C)`, with an alignment of at most 64 and a size that is a multiple of 64.
pub(crate) unsafe trait Unit {
    /// How the file begins.
    const MAGIC: u64;
    /// What a table of these is called in errors.
    const NAME: &'static str;
}

/// One bucket.
#[repr(C)]
pub(crate) struct Entry {
    /// Second half of the key's hash. The first half is in [`Set::tags`].
    pub(crate) key: AtomicU64,
    /// The newest slot that `counts` knows.
    pub(crate) newest_slot: AtomicU64,
    /// Length of a slot, nanoseconds.
    pub(crate) slot_nanos: AtomicU64,
    /// When the bucket was asked last, nanoseconds of the clock.
    pub(crate) used_nanos: AtomicU64,
    pub(crate) counts: Counts,
    padding: AtomicU32,
}

/// The entries in which one key may be found; their tags share a cache line.
#[repr(C, align(64))]
pub(crate) struct Set {
    /// First halves of the keys' hashes; 0: the entry is empty.
    pub(crate) tags: [AtomicU64; WAYS],
    pub(crate) entries: [Entry; WAYS],
}

// SAFETY: atomics in `repr(C)`, aligned to 64; the size is checked below.
unsafe impl Unit for Set {
    const MAGIC: u64 = u64::from_le_bytes(*b"SPBUCKET");
    const NAME: &'static str = "bucket table";
}

/// Bytes of a record that hold its members.
pub(crate) const RECORD_BYTES: usize = 488;

/// One record of a collection.
#[repr(C)]
pub(crate) struct Record {
    /// Second half of the key's hash. The first half is in [`RecordSet::tags`].
    pub(crate) key: AtomicU64,
    /// When the record was changed last, nanoseconds of the clock.
    pub(crate) used_nanos: AtomicU64,
    /// How many bytes of `words` count; 0 while they are written.
    pub(crate) length: AtomicU64,
    pub(crate) words: [AtomicU64; RECORD_BYTES / 8],
}

/// The records in which one key may be found.
#[repr(C, align(64))]
pub(crate) struct RecordSet {
    /// First halves of the keys' hashes; 0: the record is empty.
    pub(crate) tags: [AtomicU64; WAYS],
    pub(crate) records: [Record; WAYS],
}

// SAFETY: atomics in `repr(C)`, aligned to 64; the size is checked below.
unsafe impl Unit for RecordSet {
    const MAGIC: u64 = u64::from_le_bytes(*b"SPRECORD");
    const NAME: &'static str = "collection table";
}

#[repr(C, align(64))]
struct Lock {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
}

const _: () = {
    assert!(size_of::<Header>() <= HEADER_BYTES);
    assert!(size_of::<Lock>() == LOCK_BYTES);
    assert!(size_of::<Set>() == WAYS * 288);
    assert!(size_of::<RecordSet>() == 64 + WAYS * 512);
    assert!(align_of::<RecordSet>() == align_of::<Set>());
    assert!(HEADER_BYTES % align_of::<Set>() == 0 && LOCK_BYTES % align_of::<Set>() == 0);
};

/// A table's memory as this process sees it.
pub(crate) struct Mapping<U> {
    base: NonNull<u8>,
    bytes: usize,
    shards: usize,
    sets: usize,
    unit: PhantomData<U>,
}

// SAFETY: the memory behind `base` consists of atomics and of process-shared mutexes that are only used through
// pthread calls; both may be used from any thread. The mapping lives until drop, which needs exclusive ownership.
unsafe impl<U: Unit> Send for Mapping<U> {}
// SAFETY: as above; `&Mapping` gives out only `&` to atomics, and the mutexes through `lock`.
unsafe impl<U: Unit> Sync for Mapping<U> {}

/// A shard held by this thread; let go of by drop.
pub(crate) struct Guard<'a> {
    lock: &'a Lock,
    /// The last holder died inside its critical section.
    pub(crate) inherited: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: this thread locked the mutex in `Mapping::lock`, and a guard cannot leave its thread (`UnsafeCell` behind
        // `&Lock` makes it neither Send nor Sync).
        unsafe { libc::pthread_mutex_unlock(self.lock.mutex.get()) };
    }
}

fn bytes_of<U: Unit>(shards: usize, sets: usize) -> usize {
    HEADER_BYTES + shards * LOCK_BYTES + sets * size_of::<U>()
}

/// A key for a new table.
pub(crate) fn random_key<U: Unit>(path: &Path) -> Result<[u64; 2], Error> {
    let mut key = [0u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut key))
        .map_err(|cause| Error::file(U::NAME, path, "choose a key for", cause))?;
    Ok([
        u64::from_le_bytes(std::array::from_fn(|i| key[i])),
        u64::from_le_bytes(std::array::from_fn(|i| key[i + 8])),
    ])
}

impl<U: Unit> Mapping<U> {
    /// Makes the file (0600, its space reserved, moved into place whole) and maps it.
    pub(crate) fn create(
        path: &Path,
        shards: usize,
        sets: usize,
        hash_key: [u64; 2],
    ) -> Result<Self, Error> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(format!(".{}.new", std::process::id()));
        let unfinished = Path::new(&unfinished);
        let _ = std::fs::remove_file(unfinished); // of a process with our number that died here
        let made = Self::create_at(unfinished, shards, sets, hash_key).and_then(|mapping| {
            std::fs::rename(unfinished, path)
                .map_err(|cause| Error::file(U::NAME, path, "put in place", cause))?;
            Ok(mapping)
        });
        if made.is_err() {
            let _ = std::fs::remove_file(unfinished); // the error that matters is `made`
        }
        made
    }

    fn create_at(
        path: &Path,
        shards: usize,
        sets: usize,
        hash_key: [u64; 2],
    ) -> Result<Self, Error> {
        let bytes = bytes_of::<U>(shards, sets);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|cause| Error::file(U::NAME, path, "create", cause))?;
        // Reserved now: a full /dev/shm is an error here and not a SIGBUS in traffic.
        let length = libc::off_t::try_from(bytes).unwrap_or(libc::off_t::MAX);
        // SAFETY: a plain system call on a descriptor that `file` keeps open.
        let code = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) };
        if code != 0 {
            return Err(Error::file(
                U::NAME,
                path,
                "reserve the memory of",
                std::io::Error::from_raw_os_error(code),
            ));
        }
        let mapping = Self::map(&file, path, bytes, shards, sets)?;
        for shard in 0..shards {
            mapping
                .lock_at(shard)
                .init()
                .map_err(|cause| Error::file(U::NAME, path, "lock", cause))?;
        }
        let header = mapping.header();
        header.shards.store(shards as u32, Ordering::Relaxed);
        header.sets.store(sets as u32, Ordering::Relaxed);
        header.hash_key[0].store(hash_key[0], Ordering::Relaxed);
        header.hash_key[1].store(hash_key[1], Ordering::Relaxed);
        header.version.store(LAYOUT_VERSION, Ordering::Relaxed);
        header.magic.store(U::MAGIC, Ordering::Release);
        Ok(mapping)
    }

    /// Maps a file that `create` made.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|cause| Error::file(U::NAME, path, "open", cause))?;
        let length =
            file.metadata().map_err(|cause| Error::file(U::NAME, path, "measure", cause))?.len()
                as usize;
        let not_a_table = |found: String| {
            Error::new(Kind::NotATable { table: U::NAME, path: path.display().to_string(), found })
        };
        if length < HEADER_BYTES {
            return Err(not_a_table(format!("{length} bytes")));
        }
        let first = Self::map(&file, path, HEADER_BYTES, 0, 0)?;
        let header = first.header();
        if header.magic.load(Ordering::Acquire) != U::MAGIC {
            return Err(not_a_table("another beginning".to_owned()));
        }
        let version = header.version.load(Ordering::Relaxed);
        if version != LAYOUT_VERSION {
            return Err(not_a_table(format!("layout {version}, not {LAYOUT_VERSION}")));
        }
        let shards = header.shards.load(Ordering::Relaxed) as usize;
        let sets = header.sets.load(Ordering::Relaxed) as usize;
        let bytes = bytes_of::<U>(shards, sets);
        if shards == 0 || sets == 0 || sets % shards != 0 || bytes != length {
            return Err(not_a_table(format!("{length} bytes for {shards} shards of {sets} sets")));
        }
        Self::map(&file, path, bytes, shards, sets)
    }

    fn map(
        file: &File,
        path: &Path,
        bytes: usize,
        shards: usize,
        sets: usize,
    ) -> Result<Self, Error> {
        // SAFETY: a new shared mapping of a file of at least `bytes` bytes, at an address the kernel chooses. The mapping
        // outlives the descriptor. That nobody truncates the file is kept by its mode 0600.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(base.cast::<u8>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => {
                Ok(Mapping { base, bytes, shards, sets, unit: PhantomData })
            }
            _ => Err(Error::file(U::NAME, path, "map", std::io::Error::last_os_error())),
        }
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned and at least HEADER_BYTES long; Header is atomics only.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// The key under which the table's keys are hashed.
    pub(crate) fn hash_key(&self) -> [u8; 16] {
        let mut key = [0u8; 16];
        let halves = &self.header().hash_key;
        key[..8].copy_from_slice(&halves[0].load(Ordering::Relaxed).to_le_bytes());
        key[8..].copy_from_slice(&halves[1].load(Ordering::Relaxed).to_le_bytes());
        key
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards
    }

    pub(crate) fn sets(&self) -> usize {
        self.sets
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// One unit: a set of entries. Callers hold the shard that it belongs to.
    pub(crate) fn set(&self, set: usize) -> &U {
        assert!(set < self.sets);
        let offset = HEADER_BYTES + self.shards * LOCK_BYTES + set * size_of::<U>();
        // SAFETY: `set < sets`, so the whole unit lies inside the mapping (`bytes_of`); every offset is a multiple of 64,
        // the alignment of units, and the base is page-aligned. Units are atomics only.
        unsafe { self.base.add(offset).cast::<U>().as_ref() }
    }

    fn lock_at(&self, shard: usize) -> &Lock {
        assert!(shard < self.shards);
        // SAFETY: `shard < shards`, so the Lock lies inside the mapping, at a multiple of 64. Its contents are only touched
        // through pthread calls on the pointer of its UnsafeCell.
        unsafe { self.base.add(HEADER_BYTES + shard * LOCK_BYTES).cast::<Lock>().as_ref() }
    }

    /// Takes a shard. Spins, then naps: the holder is done within a microsecond unless it was descheduled.
    ///
    /// # Errors
    /// After 250 ms: the holder is stopped.
    pub(crate) fn lock(&self, shard: usize) -> Result<Guard<'_>, Error> {
        let lock = self.lock_at(shard);
        if let Some(guard) = lock.try_lock() {
            return Ok(guard);
        }
        let start = now_nanos();
        let mut tries = 0u32;
        loop {
            if let Some(guard) = lock.try_lock() {
                return Ok(guard);
            }
            tries += 1;
            if tries < 64 {
                std::hint::spin_loop();
            } else if tries < 80 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(Duration::from_micros(50));
            }
            let waited = now_nanos().saturating_sub(start);
            if tries >= 80 && waited > LONGEST_WAIT.as_nanos() as u64 {
                return Err(Error::new(Kind::Stuck {
                    table: U::NAME,
                    waited_ms: waited / 1_000_000,
                }));
            }
        }
    }
}

impl<U> Drop for Mapping<U> {
    fn drop(&mut self) {
        // SAFETY: unmaps what `map` mapped; no reference into it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

impl Lock {
    /// Makes the mutex process-shared and robust. Only the creator calls this, before any other process sees the file.
    fn init(&self) -> Result<(), std::io::Error> {
        let check = |code: i32| match code {
            0 => Ok(()),
            code => Err(std::io::Error::from_raw_os_error(code)),
        };
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: `attributes` is initialised by the first call before the others use it, and destroyed once at the end.
        // The mutex lies in memory that no other thread or process knows yet.
        unsafe {
            check(libc::pthread_mutexattr_init(attributes.as_mut_ptr()))?;
            let attributes = attributes.as_mut_ptr();
            let made =
                check(libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED))
                    .and_then(|()| {
                        check(libc::pthread_mutexattr_setrobust(
                            attributes,
                            libc::PTHREAD_MUTEX_ROBUST,
                        ))
                    })
                    .and_then(|()| check(libc::pthread_mutex_init(self.mutex.get(), attributes)));
            libc::pthread_mutexattr_destroy(attributes);
            made
        }
    }

    fn try_lock(&self) -> Option<Guard<'_>> {
        // SAFETY: the creator initialised the mutex before the file got its name.
        match unsafe { libc::pthread_mutex_trylock(self.mutex.get()) } {
            0 => Some(Guard { lock: self, inherited: false }),
            libc::EOWNERDEAD => {
                // The entries are whole after every single store (table.rs), so there is nothing to repair but the mutex.
                // SAFETY: this thread now owns the mutex, in the inconsistent state that this call ends.
                unsafe { libc::pthread_mutex_consistent(self.mutex.get()) };
                Some(Guard { lock: self, inherited: true })
            }
            _ => None, // EBUSY
        }
    }
}

/// Nanoseconds of CLOCK_BOOTTIME: the same in all processes, never stepped, running while the machine sleeps.
pub(crate) fn now_nanos() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the call fills `now`; it cannot fail for a clock that Linux has had since 2.6.39 and a valid pointer.
    let now = unsafe {
        let code = libc::clock_gettime(libc::CLOCK_BOOTTIME, now.as_mut_ptr());
        assert_eq!(code, 0, "CLOCK_BOOTTIME is missing");
        now.assume_init()
    };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Kills this process as the kernel would: no destructor, no unlock.
#[cfg(test)]
pub(crate) fn kill_this_process() {
    // SAFETY: a plain system call.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}
