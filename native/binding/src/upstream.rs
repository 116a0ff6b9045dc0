//! The upstream pool on the worker's own event loop (`driver`): its calls, and what its events are to JavaScript.
//!
//! With `unsafe`: the raw Node-API has no safe form.

use std::cell::RefCell;
use std::ffi::{c_char, CStr};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::null_mut;
use std::rc::Rc;
use std::time::Duration;

use napi::{sys, Error, JsValue, Result, Unknown};
use napi_derive::napi;
use sallyport_upstream::{
    Event, LegId, Pool, RequestHead, Sent, TargetId, TargetOptions, READ_BYTES,
};

use crate::driver::{check, Arguments, Driver, Drivers, SharedMemory, Source};
use crate::library_head::with_kept;
use crate::raw::{run, Call};
use crate::tls::client_context;

/// Bits of an event's `kind`; src/native/upstream-pool.ts has the same.
const CONNECTED_NEW: u32 = 1;
const CONNECTED_REUSED: u32 = 2;
const WRITABLE: u32 = 4;
const HEAD: u32 = 8;
const DATA: u32 = 16;
const END: u32 = 32;
const FAILURE: u32 = 64;
const PASSED: u32 = 128;

/// What `upstream_send` adds to a leg shifted by one bit.
const REUSED: u64 = 1;
const OVERFLOW: f64 = -1.0;
const NO_TARGET: f64 = -2.0;
const BAD_HEAD: f64 = -3.0;
const NOT_KEPT: f64 = -4.0;

thread_local! {
    static POOLS: Drivers<Pool> = const { Drivers::new() };
}

fn driver(pool: u32) -> Result<Rc<Driver<Pool>>> {
    POOLS
        .with(|pools| pools.get(pool))
        .ok_or_else(|| Error::from_reason(format!("no upstream pool has the handle {pool}")))
}

/// A pool whose events go to `on_event(slot, kind, status, head, bodyLength, contentLength, dataLength)`; the data of an
/// event is at the beginning of `bytes` during the call.
#[napi(catch_unwind)]
pub fn create_upstream_pool(buffer_bytes: u32, bytes: Unknown, on_event: Unknown) -> Result<u32> {
    let function = on_event.value();
    let (env, value) = (function.env, function.value);
    let mut pool = Pool::new(buffer_bytes as usize)?;
    pool.postpone(true);
    let (mut memory, mut memory_length) = (null_mut(), 0);
    // SAFETY: all values come from the call under way; all out pointers are to locals.
    let driver = unsafe {
        let owner = bytes.value().value;
        check(
            sys::napi_get_buffer_info(env, owner, &mut memory, &mut memory_length),
            "napi_get_buffer_info",
        )?;
        if memory_length < READ_BYTES {
            return Err(Error::from_reason(format!(
                "the buffer has fewer than {READ_BYTES} bytes"
            )));
        }
        // Whether the process goes on is for the timers and sockets of the requests to say.
        Driver::start(pool, env, value, SharedMemory { start: memory, owner })?
    };
    Ok(POOLS.with(|pools| pools.add(driver)))
}

/// Closes every connection; no event follows. A stale handle does no harm.
#[napi(catch_unwind)]
pub fn close_upstream_pool(pool: u32) {
    if let Some(driver) = POOLS.with(|pools| pools.remove(pool)) {
        driver.end();
    }
}

/// What an event is told with.
const ARGUMENTS: usize = 7;

impl Source for Pool {
    type Event = Event;
    const NAME: &'static CStr = c"sallyport:upstream";
    const PANIC: &'static CStr = c"the upstream pool panicked";

    fn descriptor(&self) -> RawFd {
        self.fd().as_raw_fd()
    }

    fn turn(&mut self) {
        Pool::turn(self);
    }

    fn next_event(&mut self) -> Option<Event> {
        Pool::next_event(self)
    }

    fn before_wait(&mut self) {
        self.send_postponed();
    }

    fn close(&mut self) {
        Pool::close(self);
    }

    unsafe fn fill(driver: &Driver<Self>, event: Event, arguments: &mut Arguments) -> usize {
        let env = driver.env;
        let pool = driver.source.borrow();
        let mut kind = match event.connected {
            None => 0,
            Some(false) => CONNECTED_NEW,
            Some(true) => CONNECTED_REUSED,
        };
        if event.writable {
            kind |= WRITABLE;
        }
        let (mut status, mut body_length, mut content_length) = (0, 0, 0);
        let mut text = arguments[3];
        let mut data_length = 0;
        if let Some(head) = event.head {
            kind |= HEAD;
            (status, body_length, content_length) =
                (u32::from(head.status), head.body_length, head.content_length);
            let bytes = pool.head();
            // SAFETY: the bytes are copied by the call.
            unsafe {
                let start = bytes.as_ptr().cast::<c_char>();
                sys::napi_create_string_latin1(env, start, bytes.len() as isize, &mut text);
            }
        }
        if event.has_data {
            kind |= DATA;
            let bytes = pool.data();
            data_length = bytes.len() as u32;
            // SAFETY: both have READ_BYTES (checked at creation, and no event has more) and are not the same; the buffer
            // lives as long as its owner, which goes only after the last event, and JavaScript never detaches it.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), driver.memory.cast(), bytes.len())
            };
        }
        if event.ended {
            kind |= END;
        }
        if event.is_passed {
            kind |= PASSED;
        }
        if let Some(failure) = &event.failure {
            kind |= FAILURE;
            status = failure.reason as u32;
            body_length = i64::from(failure.not_processed);
            // SAFETY: the bytes are copied by the call.
            unsafe {
                let start = failure.detail.as_ptr().cast::<c_char>();
                sys::napi_create_string_utf8(env, start, failure.detail.len() as isize, &mut text);
            }
        }
        // SAFETY: each out pointer is an element of the array.
        unsafe {
            sys::napi_create_uint32(env, event.leg.slot(), &mut arguments[0]);
            sys::napi_create_uint32(env, kind, &mut arguments[1]);
            sys::napi_create_uint32(env, status, &mut arguments[2]);
            sys::napi_create_int64(env, body_length, &mut arguments[4]);
            sys::napi_create_int64(env, content_length, &mut arguments[5]);
            sys::napi_create_uint32(env, data_length, &mut arguments[6]);
        }
        arguments[3] = text;
        ARGUMENTS
    }
}

// ── targets ──

#[allow(clippy::too_many_arguments)]
pub(crate) fn options(
    connect_ms: u32,
    queue_ms: u32,
    first_byte_ms: u32,
    idle_ms: u32,
    keep_alive_ms: u32,
    max_connections: u32,
    max_queued: u32,
) -> TargetOptions {
    let time = |ms: u32| Duration::from_millis(u64::from(ms));
    TargetOptions {
        connect: time(connect_ms),
        queue: time(queue_ms),
        first_byte: time(first_byte_ms),
        idle: time(idle_ms),
        keep_alive: time(keep_alive_ms),
        max_connections: max_connections as usize,
        max_queued: max_queued as usize,
    }
}

/// `addresses`: `ip:port` or `[ip]:port`, separated by commas.
pub(crate) fn socket_addresses(addresses: &str) -> Result<Vec<SocketAddr>> {
    addresses
        .split(',')
        .map(|address| {
            address
                .parse()
                .map_err(|_| Error::from_reason(format!("{address} is no address and port")))
        })
        .collect()
}

/// A new target of a pool.
#[allow(clippy::too_many_arguments)]
#[napi(catch_unwind)]
pub fn add_upstream_target(
    pool: u32,
    addresses: String,
    connect_ms: u32,
    queue_ms: u32,
    first_byte_ms: u32,
    idle_ms: u32,
    keep_alive_ms: u32,
    max_connections: u32,
    max_queued: u32,
) -> Result<f64> {
    let options = options(
        connect_ms,
        queue_ms,
        first_byte_ms,
        idle_ms,
        keep_alive_ms,
        max_connections,
        max_queued,
    );
    let addresses = socket_addresses(&addresses)?;
    let target = driver(pool)?.source.borrow_mut().add_target(options, addresses);
    target
        .map(|target| target.0 as f64)
        .ok_or_else(|| Error::from_reason("too many upstream targets"))
}

/// Has a new target speak HTTP/2: by prior knowledge, or with a server that agrees to it when TLS is spoken.
#[napi(catch_unwind)]
pub fn upstream_speaks_http2(pool: u32, target: f64) -> Result<()> {
    driver(pool)?.source.borrow_mut().set_http2(TargetId(target as u64));
    Ok(())
}

/// Has a new target speak TLS with a server that is verified by `name` (a host name or an address) against `authorities`
/// (PEM; null = not verified). False: there is no verifying by such a name, or against such a text.
#[napi(catch_unwind)]
pub fn secure_upstream_target(
    pool: u32,
    target: f64,
    authorities: Option<String>,
    name: String,
    is_http2: bool,
) -> Result<bool> {
    let Some(context) = client_context(authorities, &name, is_http2) else { return Ok(false) };
    let driver = driver(pool)?;
    driver.source.borrow_mut().set_tls(TargetId(target as u64), context, name);
    Ok(true)
}

/// New addresses, limits and timers of a target, for what begins from now on.
#[allow(clippy::too_many_arguments)]
#[napi(catch_unwind)]
pub fn change_upstream_target(
    pool: u32,
    target: f64,
    addresses: String,
    connect_ms: u32,
    queue_ms: u32,
    first_byte_ms: u32,
    idle_ms: u32,
    keep_alive_ms: u32,
    max_connections: u32,
    max_queued: u32,
) -> Result<()> {
    let options = options(
        connect_ms,
        queue_ms,
        first_byte_ms,
        idle_ms,
        keep_alive_ms,
        max_connections,
        max_queued,
    );
    let addresses = socket_addresses(&addresses)?;
    let driver = driver(pool)?;
    let mut pool = driver.source.borrow_mut();
    pool.set_options(TargetId(target as u64), options);
    pool.set_addresses(TargetId(target as u64), addresses);
    Ok(())
}

/// No new requests; idle connections close.
#[napi(catch_unwind)]
pub fn retire_upstream_target(pool: u32, target: f64) -> Result<()> {
    driver(pool)?.source.borrow_mut().retire(TargetId(target as u64));
    Ok(())
}

// ── requests ──

/// `upstreamSend(pool, target, head, bodyLength, body)`. `bodyLength` counts when `body` is null: 0 = none, -1 = chunked.
/// Returns twice the leg, plus 1 when it has a reused connection already; -1 = the queue is full; -2 = no such target; -3 =
/// not a request head.
pub(crate) unsafe extern "C" fn upstream_send(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let send = |call: &Call| {
        let driver = driver(call.uint32(0)?)?;
        let target = TargetId(call.double(1)? as u64);
        let body_length = call.double(3)? as i64;
        // SAFETY: nothing of JavaScript runs, so that nobody changes the bytes, until this closure is left.
        let body = unsafe { call.bytes(4)? }.ok_or(body_length);
        let sent = HEAD_TEXT.with_borrow_mut(|text| {
            let head = latin1_of(call.env, call.argument(2), text)?;
            Ok::<_, Error>(driver.source.borrow_mut().send(target, head, body))
        })?;
        Ok(call.number(number_of(sent)))
    };
    // SAFETY: Node-API calls with what belongs to the call under way.
    unsafe { run(env, info, send) }
}

fn number_of(sent: Sent) -> f64 {
    match sent {
        Sent::Reused(leg) => (leg.0 << 1 | REUSED) as f64,
        Sent::Later(leg) => (leg.0 << 1) as f64,
        Sent::Overflow => OVERFLOW,
        Sent::NoTarget => NO_TARGET,
        Sent::BadHead => BAD_HEAD,
    }
}

/// `upstreamRelay(pool, target, number, lines, split)`: a request without a body goes on with the head that `readLibraryHead`
/// read last, under `number`, and `lines` behind it, up to `split`; what is behind that may go with an answer that leaves as it
/// came. A negative `split`: every answer is asked for, and all lines are the request's. Returns what `upstreamSend` does, or
/// -4: another head was read meanwhile.
pub(crate) unsafe extern "C" fn upstream_relay(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let relay = |call: &Call| {
        let driver = driver(call.uint32(0)?)?;
        let target = TargetId(call.double(1)? as u64);
        let number = call.double(2)? as u64;
        let split = usize::try_from(call.double(4)? as i64).ok();
        let sent = with_kept(number, |received| {
            HEAD_TEXT.with_borrow_mut(|text| {
                let lines = latin1_of(call.env, call.argument(3), text)?;
                let (lines, answer) = match split {
                    Some(at) if at <= lines.len() => (&lines[..at], Some(&lines[at..])),
                    _ => (lines, None),
                };
                let head = RequestHead::behind(received, lines);
                Ok::<_, Error>(driver.source.borrow_mut().relay(target, head, answer))
            })
        });
        Ok(call.number(sent.transpose()?.map_or(NOT_KEPT, number_of)))
    };
    // SAFETY: Node-API calls with what belongs to the call under way.
    unsafe { run(env, info, relay) }
}

thread_local! {
    /// Where heads are copied to on their way.
    pub(crate) static HEAD_TEXT: RefCell<Vec<u8>> = RefCell::new(vec![0; 16 * 1024]);
}

/// The characters of a string as bytes, in one call unless it is longer than any before.
pub(crate) fn latin1<'a>(text: &Unknown, space: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    latin1_of(text.value().env, text.value().value, space)
}

/// The same of a value that is at hand as it is.
pub(crate) fn latin1_of(
    env: sys::napi_env,
    value: sys::napi_value,
    space: &mut Vec<u8>,
) -> Result<&[u8]> {
    let copy = |space: &mut Vec<u8>, length: &mut usize| {
        let start = space.as_mut_ptr().cast::<c_char>();
        // SAFETY: the value comes from the call under way; at most `space.len()` bytes are written.
        let copied =
            unsafe { sys::napi_get_value_string_latin1(env, value, start, space.len(), length) };
        check(copied, "the head")
    };
    let mut length = 0;
    copy(space, &mut length)?;
    // One place is for the NUL behind the text: when nothing else is left the text may be longer.
    if length + 1 >= space.len() {
        // SAFETY: as above; without a place to write to only the length is told.
        let asked =
            unsafe { sys::napi_get_value_string_latin1(env, value, null_mut(), 0, &mut length) };
        check(asked, "the head")?;
        space.resize(length + 2, 0);
        copy(space, &mut length)?;
    }
    Ok(&space[..length])
}

/// False: wait for the event.
#[napi(catch_unwind)]
pub fn upstream_write(pool: u32, leg: f64, bytes: &[u8]) -> Result<bool> {
    Ok(driver(pool)?.source.borrow_mut().write(LegId(leg as u64), bytes))
}

/// The request body is complete.
#[napi(catch_unwind)]
pub fn upstream_end(pool: u32, leg: f64) -> Result<()> {
    driver(pool)?.source.borrow_mut().end(LegId(leg as u64));
    Ok(())
}

/// No more reads for this leg.
#[napi(catch_unwind)]
pub fn upstream_pause(pool: u32, leg: f64) -> Result<()> {
    driver(pool)?.source.borrow_mut().pause(LegId(leg as u64));
    Ok(())
}

/// Reads again.
#[napi(catch_unwind)]
pub fn upstream_resume(pool: u32, leg: f64) -> Result<()> {
    driver(pool)?.source.borrow_mut().resume(LegId(leg as u64));
    Ok(())
}

/// Gives up; no event follows.
#[napi(catch_unwind)]
pub fn upstream_abort(pool: u32, leg: f64) -> Result<()> {
    driver(pool)?.source.borrow_mut().abort(LegId(leg as u64));
    Ok(())
}

/// Looks at deadlines and hands out what came of it. Returns how many legs and connections there are.
#[napi(catch_unwind)]
pub fn upstream_tick(pool: u32) -> Result<u32> {
    let driver = driver(pool)?;
    driver.source.borrow_mut().tick();
    driver.dispatch();
    let pool = driver.source.borrow();
    Ok((pool.legs() + pool.connections().open) as u32)
}

/// Connections: `[established or being established, of these without a request, requests that wait for one]`.
#[napi(catch_unwind)]
pub fn upstream_connections(pool: u32) -> Result<Vec<u32>> {
    let connections = driver(pool)?.source.borrow().connections();
    Ok(vec![connections.open as u32, connections.idle as u32, connections.waiting as u32])
}

/// Reads that a pool has made, for the test that an unread end of file costs none.
#[napi(catch_unwind)]
pub fn upstream_reads(pool: u32) -> Result<f64> {
    Ok(driver(pool)?.source.borrow().reads() as f64)
}
