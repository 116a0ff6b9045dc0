//! The upstream pool on the worker's own event loop: libuv polls the pool's epoll descriptor, JavaScript is called once
//! per event, and all calls of one turn share a callback scope (microtasks run at its end).
//!
//! Pools belong to the thread that made them. No borrow of a pool is held while JavaScript runs: it calls back into
//! the same pool. With `unsafe`: libuv and the raw Node-API have no safe form.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int, c_void};
use std::net::SocketAddr;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::null_mut;
use std::rc::Rc;
use std::time::Duration;

use napi::{sys, Error, JsValue, Result, Unknown};
use napi_derive::napi;
use sallyport_upstream::{Event, LegId, Pool, Sent, TargetId, TargetOptions, READ_BYTES};
use std::os::fd::AsRawFd;

use crate::tls::client_context;

/// Bits of an event's `kind`; src/native.ts has the same.
const CONNECTED_NEW: u32 = 1;
const CONNECTED_REUSED: u32 = 2;
const WRITABLE: u32 = 4;
const HEAD: u32 = 8;
const DATA: u32 = 16;
const END: u32 = 32;
const FAILURE: u32 = 64;

/// What `upstream_send` adds to a leg shifted by one bit.
const REUSED: u64 = 1;
const OVERFLOW: f64 = -1.0;
const NO_TARGET: f64 = -2.0;
const BAD_HEAD: f64 = -3.0;

pub(crate) const UV_POLL: c_int = 8;
pub(crate) const UV_READABLE: c_int = 1;

/// `uv_poll_t`: its first member is ours to use; the rest is libuv's, with room to spare (checked at run time).
#[repr(C)]
pub(crate) struct UvPoll {
    pub(crate) data: *mut c_void,
    pub(crate) rest: [u64; 63],
}

extern "C" {
    pub(crate) fn uv_handle_size(kind: c_int) -> usize;
    pub(crate) fn uv_poll_init(
        uv_loop: *mut sys::uv_loop_s,
        handle: *mut UvPoll,
        fd: c_int,
    ) -> c_int;
    pub(crate) fn uv_poll_start(
        handle: *mut UvPoll,
        events: c_int,
        callback: unsafe extern "C" fn(*mut UvPoll, c_int, c_int),
    ) -> c_int;
    pub(crate) fn uv_close(handle: *mut UvPoll, callback: unsafe extern "C" fn(*mut UvPoll));
    pub(crate) fn uv_unref(handle: *mut UvPoll);
}

/// A pool and what drives it.
struct Driver {
    pool: RefCell<Pool>,
    env: sys::napi_env,
    callback: sys::napi_ref,
    /// Memory of a buffer that JavaScript sees too, which `bytes_owner` keeps: data of the present event.
    bytes: *mut u8,
    bytes_owner: sys::napi_ref,
    context: sys::napi_async_context,
    handle: *mut UvPoll,
    cleanup: Cell<sys::napi_async_cleanup_hook_handle>,
    is_closed: Cell<bool>,
    is_dispatching: Cell<bool>,
}

thread_local! {
    /// By handle minus one. A handle is not used again: a gateway makes a handful.
    static POOLS: RefCell<Vec<Option<Rc<Driver>>>> = const { RefCell::new(Vec::new()) };
}

fn driver(pool: u32) -> Result<Rc<Driver>> {
    POOLS
        .with_borrow(|pools| {
            let index = (pool as usize).checked_sub(1);
            index.and_then(|index| pools.get(index)?.clone())
        })
        .ok_or_else(|| Error::from_reason(format!("no upstream pool has the handle {pool}")))
}

pub(crate) fn check(status: sys::napi_status, what: &str) -> Result<()> {
    if status == sys::Status::napi_ok {
        return Ok(());
    }
    Err(Error::from_reason(format!("{what} failed with status {status}")))
}

/// A pool whose events go to `on_event(slot, kind, status, head, bodyLength, contentLength, dataLength)`; the data of an
/// event is at the beginning of `bytes` during the call.
#[napi(catch_unwind)]
pub fn create_upstream_pool(buffer_bytes: u32, bytes: Unknown, on_event: Unknown) -> Result<u32> {
    let function = on_event.value();
    let (env, value) = (function.env, function.value);
    let pool = Pool::new(buffer_bytes as usize)?;
    let fd = pool.fd().as_raw_fd();
    let name = c"sallyport:upstream";
    let mut uv_loop = null_mut();
    let mut name_value = null_mut();
    let mut callback = null_mut();
    let mut context = null_mut();
    let (mut memory, mut memory_length, mut bytes_owner) = (null_mut(), 0, null_mut());
    // SAFETY: `env` and `value` come from the call under way; all out pointers are to locals that live long enough.
    unsafe {
        check(sys::napi_get_uv_event_loop(env, &mut uv_loop), "napi_get_uv_event_loop")?;
        check(sys::napi_create_reference(env, value, 1, &mut callback), "napi_create_reference")?;
        let buffer = bytes.value().value;
        check(
            sys::napi_get_buffer_info(env, buffer, &mut memory, &mut memory_length),
            "napi_get_buffer_info",
        )?;
        if memory_length < READ_BYTES {
            return Err(Error::from_reason(format!(
                "the buffer has fewer than {READ_BYTES} bytes"
            )));
        }
        check(sys::napi_create_reference(env, buffer, 1, &mut bytes_owner), "the buffer")?;
        let length = name.to_bytes().len() as isize;
        check(
            sys::napi_create_string_latin1(env, name.as_ptr(), length, &mut name_value),
            "the name",
        )?;
        check(sys::napi_async_init(env, null_mut(), name_value, &mut context), "napi_async_init")?;
        if uv_handle_size(UV_POLL) > size_of::<UvPoll>() {
            return Err(Error::from_reason("this libuv's uv_poll_t is larger than expected"));
        }
    }
    let handle = Box::into_raw(Box::new(UvPoll { data: null_mut(), rest: [0; 63] }));
    // SAFETY: the loop is this thread's; the handle lives until `on_closed` frees it; the descriptor lives as long as
    // the driver, which `on_closed` lets go of after libuv has.
    let started = unsafe { uv_poll_init(uv_loop, handle, fd) };
    if started != 0 {
        // SAFETY: libuv did not take the handle, and nobody else knows the pointer.
        drop(unsafe { Box::from_raw(handle) });
        return Err(Error::from_reason(format!("uv_poll_init failed with {started}")));
    }
    let driver = Rc::new(Driver {
        pool: RefCell::new(pool),
        env,
        callback,
        bytes: memory.cast(),
        bytes_owner,
        context,
        handle,
        cleanup: Cell::new(null_mut()),
        is_closed: Cell::new(false),
        is_dispatching: Cell::new(false),
    });
    let mut cleanup = null_mut();
    let shared = Rc::into_raw(Rc::clone(&driver));
    // SAFETY: the handle is initialised; `shared` is one count of the driver that `on_closed` takes back; the hook's
    // argument is that same pointer, valid until `on_closed`, which also removes the hook.
    unsafe {
        (*handle).data = shared.cast_mut().cast();
        uv_poll_start(handle, UV_READABLE, on_ready);
        // Whether the process goes on is for the timers and sockets of the requests to say.
        uv_unref(handle);
        sys::napi_add_async_cleanup_hook(
            env,
            Some(on_teardown),
            shared.cast_mut().cast(),
            &mut cleanup,
        );
    }
    driver.cleanup.set(cleanup);
    POOLS.with_borrow_mut(|pools| {
        pools.push(Some(driver));
        Ok(pools.len() as u32)
    })
}

/// Closes every connection; no event follows. A stale handle does no harm.
#[napi(catch_unwind)]
pub fn close_upstream_pool(pool: u32) {
    let Ok(driver) = driver(pool) else { return };
    POOLS.with_borrow_mut(|pools| pools[pool as usize - 1] = None);
    driver.stop();
    // SAFETY: the environment is alive, since JavaScript is calling; both things were made by it and are used no more.
    unsafe {
        sys::napi_delete_reference(driver.env, driver.callback);
        sys::napi_delete_reference(driver.env, driver.bytes_owner);
        sys::napi_async_destroy(driver.env, driver.context);
    }
}

impl Driver {
    /// Closes pool and handle, once.
    fn stop(&self) {
        if self.is_closed.replace(true) {
            return;
        }
        self.pool.borrow_mut().close();
        // SAFETY: the handle is initialised and not yet closing; `on_closed` frees it.
        unsafe { uv_close(self.handle, on_closed) };
    }

    /// Hands all events to JavaScript. Must run inside a handle scope.
    fn dispatch(&self) {
        // A turn inside a turn would throw the outer one's batch away.
        if self.is_closed.get() || self.is_dispatching.replace(true) {
            return;
        }
        self.pool.borrow_mut().turn();
        while !self.is_closed.get() {
            let Some(event) = self.pool.borrow_mut().next_event() else { break };
            if !self.deliver(&event) {
                break;
            }
        }
        self.is_dispatching.set(false);
    }

    /// Calls JavaScript with one event. False when it cannot run any more.
    fn deliver(&self, event: &Event) -> bool {
        let env = self.env;
        let mut scope = null_mut();
        let mut receiver = null_mut();
        let mut function = null_mut();
        let mut arguments = [null_mut(); 7];
        // SAFETY: we are on the environment's thread inside a handle scope; all pointers are to locals, or to bytes of
        // the pool that are copied before the borrow ends; no borrow is held during `napi_call_function`.
        unsafe {
            if sys::napi_open_handle_scope(env, &mut scope) != sys::Status::napi_ok {
                return false;
            }
            sys::napi_get_undefined(env, &mut receiver);
            sys::napi_get_reference_value(env, self.callback, &mut function);
            self.fill(event, receiver, &mut arguments);
            let status =
                sys::napi_call_function(env, receiver, function, 7, arguments.as_ptr(), null_mut());
            if status == sys::Status::napi_pending_exception {
                let mut error = null_mut();
                sys::napi_get_and_clear_last_exception(env, &mut error);
                sys::napi_fatal_exception(env, error);
            }
            sys::napi_close_handle_scope(env, scope);
            status == sys::Status::napi_ok || status == sys::Status::napi_pending_exception
        }
    }

    /// The arguments of an event.
    ///
    /// # Safety
    /// Only on the environment's thread, inside a handle scope.
    unsafe fn fill(
        &self,
        event: &Event,
        undefined: sys::napi_value,
        arguments: &mut [sys::napi_value; 7],
    ) {
        let env = self.env;
        let pool = self.pool.borrow();
        let mut kind = match event.connected {
            None => 0,
            Some(false) => CONNECTED_NEW,
            Some(true) => CONNECTED_REUSED,
        };
        if event.writable {
            kind |= WRITABLE;
        }
        let (mut status, mut body_length, mut content_length) = (0, 0, 0);
        let mut text = undefined;
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
            // lives as long as `bytes_owner`, which goes only after the last event, and JavaScript never detaches it.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.bytes, bytes.len()) };
        }
        if event.ended {
            kind |= END;
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
    }
}

/// libuv: the pool has something to do.
unsafe extern "C" fn on_ready(handle: *mut UvPoll, _status: c_int, _events: c_int) {
    // SAFETY: `data` holds a count of the driver until `on_closed`, which does not come while this runs; the count
    // taken here keeps the driver until the end of this function.
    let driver = unsafe {
        let shared = (*handle).data.cast::<Driver>().cast_const();
        Rc::increment_strong_count(shared);
        Rc::from_raw(shared)
    };
    let (mut handles, mut callbacks) = (null_mut(), null_mut());
    // SAFETY: libuv calls on the environment's thread, outside of JavaScript; the scopes are closed in reverse order.
    unsafe {
        if sys::napi_open_handle_scope(driver.env, &mut handles) != sys::Status::napi_ok {
            return;
        }
        let opened =
            sys::napi_open_callback_scope(driver.env, null_mut(), driver.context, &mut callbacks);
        if opened == sys::Status::napi_ok {
            dispatch_caught(&driver);
            sys::napi_close_callback_scope(driver.env, callbacks);
        }
        sys::napi_close_handle_scope(driver.env, handles);
    }
}

/// A panic must not cross into C: it ends the pool's requests, never the process.
fn dispatch_caught(driver: &Driver) {
    if catch_unwind(AssertUnwindSafe(|| driver.dispatch())).is_err() {
        driver.is_dispatching.set(false);
        // SAFETY: on the environment's thread, inside a handle scope; throws an uncaught exception, which the worker
        // reports like any other.
        unsafe {
            let (mut text, mut error) = (null_mut(), null_mut());
            let message = c"the upstream pool panicked";
            let length = message.to_bytes().len() as isize;
            sys::napi_create_string_latin1(driver.env, message.as_ptr(), length, &mut text);
            sys::napi_create_error(driver.env, null_mut(), text, &mut error);
            sys::napi_fatal_exception(driver.env, error);
        }
    }
}

/// libuv has let go of the handle.
unsafe extern "C" fn on_closed(handle: *mut UvPoll) {
    // SAFETY: called once; `data` is the count given at creation, `handle` the box made there.
    let driver = unsafe {
        let handle = Box::from_raw(handle);
        Rc::from_raw(handle.data.cast::<Driver>().cast_const())
    };
    let cleanup = driver.cleanup.replace(null_mut());
    if !cleanup.is_null() {
        // SAFETY: the hook was added at creation and is removed only here.
        unsafe { sys::napi_remove_async_cleanup_hook(cleanup) };
    }
}

/// The environment ends (a worker thread, or the process) with the pool open.
unsafe extern "C" fn on_teardown(
    _hook: sys::napi_async_cleanup_hook_handle,
    argument: *mut c_void,
) {
    // SAFETY: the argument is the count that `on_closed` takes back, and that has not run: it removes this hook.
    let driver = unsafe { &*argument.cast::<Driver>().cast_const() };
    driver.stop();
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
    let target = driver(pool)?.pool.borrow_mut().add_target(options, addresses);
    target
        .map(|target| target.0 as f64)
        .ok_or_else(|| Error::from_reason("too many upstream targets"))
}

/// Has a new target speak HTTP/2: by prior knowledge, or with a server that agrees to it when TLS is spoken.
#[napi(catch_unwind)]
pub fn upstream_speaks_http2(pool: u32, target: f64) -> Result<()> {
    driver(pool)?.pool.borrow_mut().set_http2(TargetId(target as u64));
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
    driver.pool.borrow_mut().set_tls(TargetId(target as u64), context, name);
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
    let mut pool = driver.pool.borrow_mut();
    pool.set_options(TargetId(target as u64), options);
    pool.set_addresses(TargetId(target as u64), addresses);
    Ok(())
}

/// No new requests; idle connections close.
#[napi(catch_unwind)]
pub fn retire_upstream_target(pool: u32, target: f64) -> Result<()> {
    driver(pool)?.pool.borrow_mut().retire(TargetId(target as u64));
    Ok(())
}

// ── requests ──

/// `body_length` counts when `body` is null: 0 = none, -1 = chunked. Returns twice the leg, plus 1 when it has a reused
/// connection already; -1 = the queue is full; -2 = no such target; -3 = not a request head.
#[napi(catch_unwind)]
pub fn upstream_send(
    pool: u32,
    target: f64,
    head: Unknown,
    body_length: f64,
    body: Option<&[u8]>,
) -> Result<f64> {
    let body = body.ok_or(body_length as i64);
    let driver = driver(pool)?;
    let sent = HEAD_TEXT.with_borrow_mut(|text| {
        let head = latin1(&head, text)?;
        Ok::<_, Error>(driver.pool.borrow_mut().send(TargetId(target as u64), head, body))
    })?;
    Ok(match sent {
        Sent::Reused(leg) => (leg.0 << 1 | REUSED) as f64,
        Sent::Later(leg) => (leg.0 << 1) as f64,
        Sent::Overflow => OVERFLOW,
        Sent::NoTarget => NO_TARGET,
        Sent::BadHead => BAD_HEAD,
    })
}

thread_local! {
    /// Where heads are copied to on their way.
    pub(crate) static HEAD_TEXT: RefCell<Vec<u8>> = RefCell::new(vec![0; 16 * 1024]);
}

/// The characters of a string as bytes, in one call unless it is longer than any before.
pub(crate) fn latin1<'a>(text: &Unknown, space: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    let (env, value) = (text.value().env, text.value().value);
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
    Ok(driver(pool)?.pool.borrow_mut().write(LegId(leg as u64), bytes))
}

/// The request body is complete.
#[napi(catch_unwind)]
pub fn upstream_end(pool: u32, leg: f64) -> Result<()> {
    driver(pool)?.pool.borrow_mut().end(LegId(leg as u64));
    Ok(())
}

/// No more reads for this leg.
#[napi(catch_unwind)]
pub fn upstream_pause(pool: u32, leg: f64) -> Result<()> {
    driver(pool)?.pool.borrow_mut().pause(LegId(leg as u64));
    Ok(())
}

/// Reads again.
#[napi(catch_unwind)]
pub fn upstream_resume(pool: u32, leg: f64) -> Result<()> {
    driver(pool)?.pool.borrow_mut().resume(LegId(leg as u64));
    Ok(())
}

/// Gives up; no event follows.
#[napi(catch_unwind)]
pub fn upstream_abort(pool: u32, leg: f64) -> Result<()> {
    driver(pool)?.pool.borrow_mut().abort(LegId(leg as u64));
    Ok(())
}

/// Looks at deadlines and hands out what came of it. Returns how many legs and connections there are.
#[napi(catch_unwind)]
pub fn upstream_tick(pool: u32) -> Result<u32> {
    let driver = driver(pool)?;
    driver.pool.borrow_mut().tick();
    driver.dispatch();
    let pool = driver.pool.borrow();
    Ok((pool.legs() + pool.connections().open) as u32)
}

/// Connections: `[established or being established, of these without a request, requests that wait for one]`.
#[napi(catch_unwind)]
pub fn upstream_connections(pool: u32) -> Result<Vec<u32>> {
    let connections = driver(pool)?.pool.borrow().connections();
    Ok(vec![connections.open as u32, connections.idle as u32, connections.waiting as u32])
}

/// Reads that a pool has made, for the test that an unread end of file costs none.
#[napi(catch_unwind)]
pub fn upstream_reads(pool: u32) -> Result<f64> {
    Ok(driver(pool)?.pool.borrow().reads() as f64)
}
