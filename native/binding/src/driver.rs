//! What has sockets of its own on the worker's event loop: libuv polls its epoll descriptor, JavaScript is called once per event,
//! and all calls of one turn share a callback scope (microtasks run at its end).
//!
//! A driver belongs to the thread that made it. No borrow of its source is held while JavaScript runs: it calls back into the
//! same source. With `unsafe`: libuv and the raw Node-API have no safe form.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int, c_void, CStr};
use std::os::fd::RawFd;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::null_mut;
use std::rc::Rc;

use napi::{sys, Error, Result};

const UV_POLL: c_int = 8;
const UV_PREPARE: c_int = 9;
const UV_READABLE: c_int = 1;

/// `uv_poll_t` or `uv_prepare_t`: the first member is ours to use; the rest is libuv's, with room to spare (checked at run time).
#[repr(C)]
struct UvHandle {
    data: *mut c_void,
    rest: [u64; 63],
}

extern "C" {
    fn uv_handle_size(kind: c_int) -> usize;
    fn uv_poll_init(uv_loop: *mut sys::uv_loop_s, handle: *mut UvHandle, fd: c_int) -> c_int;
    fn uv_poll_start(
        handle: *mut UvHandle,
        events: c_int,
        callback: unsafe extern "C" fn(*mut UvHandle, c_int, c_int),
    ) -> c_int;
    fn uv_prepare_init(uv_loop: *mut sys::uv_loop_s, handle: *mut UvHandle) -> c_int;
    fn uv_prepare_start(
        handle: *mut UvHandle,
        callback: unsafe extern "C" fn(*mut UvHandle),
    ) -> c_int;
    fn uv_close(handle: *mut UvHandle, callback: unsafe extern "C" fn(*mut UvHandle));
    fn uv_ref(handle: *mut UvHandle);
    fn uv_unref(handle: *mut UvHandle);
}

/// An error that names the call which failed.
pub(crate) fn check(status: sys::napi_status, what: &str) -> Result<()> {
    if status == sys::Status::napi_ok {
        return Ok(());
    }
    Err(Error::from_reason(format!("{what} failed with status {status}")))
}

/// What a call to JavaScript has at most.
pub(crate) type Arguments = [sys::napi_value; 8 + 2 * (MOST_TOLD - 1)];

/// How many requests are told in one call.
pub(crate) const MOST_TOLD: usize = 16;

/// Hands out one event at a time, without ever calling back.
pub(crate) trait Source: Sized + 'static {
    /// What one event is.
    type Event;
    /// For traces of asynchronous work.
    const NAME: &'static CStr;
    /// What an uncaught exception says when this panicked.
    const PANIC: &'static CStr;
    /// What is polled.
    fn descriptor(&self) -> RawFd;
    /// Asks the system what has happened.
    fn turn(&mut self);
    /// The next event, if there is one.
    fn next_event(&mut self) -> Option<Self::Event>;
    /// The loop is about to wait for events.
    fn before_wait(&mut self) {}
    /// Closes all sockets; no event follows.
    fn close(&mut self);
    /// The arguments of an event, and how many they are; those that are not set are undefined.
    ///
    /// # Safety
    /// Only on the environment's thread, inside a handle scope.
    unsafe fn fill(driver: &Driver<Self>, event: Self::Event, arguments: &mut Arguments) -> usize;
    /// What JavaScript returned.
    ///
    /// # Safety
    /// As for `fill`.
    unsafe fn returned(_driver: &Driver<Self>, _value: sys::napi_value) {}
}

/// Memory that JavaScript sees too, in a buffer or a typed array of its own.
pub(crate) struct SharedMemory {
    /// Where it begins.
    pub(crate) start: *mut c_void,
    /// What owns it, which is never detached.
    pub(crate) owner: sys::napi_value,
}

/// A source and what drives it.
pub(crate) struct Driver<S: Source> {
    /// Never borrowed while JavaScript runs.
    pub(crate) source: RefCell<S>,
    /// The environment of the thread that made it.
    pub(crate) env: sys::napi_env,
    /// Kept by its owner until the last event.
    pub(crate) memory: *mut c_void,
    memory_owner: sys::napi_ref,
    callback: sys::napi_ref,
    context: sys::napi_async_context,
    handle: *mut UvHandle,
    prepare: *mut UvHandle,
    cleanup: Cell<sys::napi_async_cleanup_hook_handle>,
    is_closed: Cell<bool>,
    is_dispatching: Cell<bool>,
    /// What the event is about whose returned value matters.
    pub(crate) told: RefCell<Vec<u64>>,
}

impl<S: Source> Driver<S> {
    /// Drives `source` from now on; its events go to `callback`. Until `keep_alive` nothing of it keeps the process.
    ///
    /// # Safety
    /// `env`, `callback` and the owner of `memory` come from the call under way.
    pub(crate) unsafe fn start(
        source: S,
        env: sys::napi_env,
        callback: sys::napi_value,
        memory: SharedMemory,
    ) -> Result<Rc<Self>> {
        let (mut uv_loop, mut name, mut context) = (null_mut(), null_mut(), null_mut());
        let (mut callback_kept, mut memory_owner) = (null_mut(), null_mut());
        // SAFETY: as for this function; all out pointers are to locals that live long enough.
        unsafe {
            check(sys::napi_get_uv_event_loop(env, &mut uv_loop), "napi_get_uv_event_loop")?;
            let kept = sys::napi_create_reference(env, callback, 1, &mut callback_kept);
            check(kept, "napi_create_reference")?;
            let kept = sys::napi_create_reference(env, memory.owner, 1, &mut memory_owner);
            check(kept, "the shared memory")?;
            let length = S::NAME.to_bytes().len() as isize;
            let named = sys::napi_create_string_latin1(env, S::NAME.as_ptr(), length, &mut name);
            check(named, "the name")?;
            check(sys::napi_async_init(env, null_mut(), name, &mut context), "napi_async_init")?;
            if uv_handle_size(UV_POLL).max(uv_handle_size(UV_PREPARE)) > size_of::<UvHandle>() {
                return Err(Error::from_reason("this libuv's handles are larger than expected"));
            }
        }
        let new_handle = || Box::into_raw(Box::new(UvHandle { data: null_mut(), rest: [0; 63] }));
        let (handle, prepare) = (new_handle(), new_handle());
        // SAFETY: the loop is this thread's; the handle lives until `on_closed` frees it; the descriptor lives as long as
        // the driver, which `on_closed` lets go of after libuv has.
        let started = unsafe { uv_poll_init(uv_loop, handle, source.descriptor()) };
        if started != 0 {
            // SAFETY: libuv did not take the handles, and nobody else knows the pointers.
            drop(unsafe { (Box::from_raw(handle), Box::from_raw(prepare)) });
            return Err(Error::from_reason(format!("uv_poll_init failed with {started}")));
        }
        let driver = Rc::new(Driver {
            source: RefCell::new(source),
            env,
            memory: memory.start,
            memory_owner,
            callback: callback_kept,
            context,
            handle,
            prepare,
            cleanup: Cell::new(null_mut()),
            is_closed: Cell::new(false),
            is_dispatching: Cell::new(false),
            told: RefCell::new(Vec::with_capacity(MOST_TOLD)),
        });
        let mut cleanup = null_mut();
        let shared = Rc::into_raw(Rc::clone(&driver));
        // SAFETY: the handle is initialised; `shared` is one count of the driver that `on_closed` takes back; the hook's
        // argument is that same pointer, valid until `on_closed`, which also removes the hook.
        unsafe {
            (*handle).data = shared.cast_mut().cast();
            uv_poll_start(handle, UV_READABLE, on_ready::<S>);
            uv_unref(handle);
            // Neither can fail.
            uv_prepare_init(uv_loop, prepare);
            (*prepare).data = shared.cast_mut().cast();
            uv_prepare_start(prepare, on_prepare::<S>);
            uv_unref(prepare);
            sys::napi_add_async_cleanup_hook(
                env,
                Some(on_teardown::<S>),
                shared.cast_mut().cast(),
                &mut cleanup,
            );
        }
        driver.cleanup.set(cleanup);
        Ok(driver)
    }

    /// The process goes on as long as this is open.
    pub(crate) fn keep_alive(&self) {
        if !self.is_closed.get() {
            // SAFETY: the handle is initialised and not closing.
            unsafe { uv_ref(self.handle) };
        }
    }

    /// Ends it while JavaScript is calling; no event follows.
    pub(crate) fn end(&self) {
        self.stop();
        // SAFETY: the environment is alive, since JavaScript is calling; all were made by it and are used no more.
        unsafe {
            sys::napi_delete_reference(self.env, self.callback);
            sys::napi_delete_reference(self.env, self.memory_owner);
            sys::napi_async_destroy(self.env, self.context);
        }
    }

    /// Closes source and handle, once.
    fn stop(&self) {
        if self.is_closed.replace(true) {
            return;
        }
        self.source.borrow_mut().close();
        // SAFETY: the handles are initialised and not yet closing; `on_prepare_closed` and `on_closed` free them.
        unsafe {
            uv_close(self.prepare, on_prepare_closed);
            uv_close(self.handle, on_closed::<S>);
        }
    }

    /// Asks the system, and hands all events to JavaScript. Must run inside a handle scope.
    pub(crate) fn dispatch(&self) {
        // A turn inside a turn would throw the outer one's batch away.
        if self.is_closed.get() || self.is_dispatching.replace(true) {
            return;
        }
        self.source.borrow_mut().turn();
        self.deliver_all();
        self.is_dispatching.set(false);
    }

    /// Hands out the events there are. Must run inside a handle scope.
    pub(crate) fn deliver_all(&self) {
        while !self.is_closed.get() {
            let Some(event) = self.source.borrow_mut().next_event() else { break };
            if !self.deliver(event) {
                break;
            }
        }
    }

    /// Calls JavaScript with one event. False when it cannot run any more.
    fn deliver(&self, event: S::Event) -> bool {
        let env = self.env;
        let (mut scope, mut receiver, mut function) = (null_mut(), null_mut(), null_mut());
        let mut returned = null_mut();
        // SAFETY: we are on the environment's thread inside a handle scope; all pointers are to locals, or to bytes of
        // the event or the source that are copied before the borrow ends; no borrow is held during `napi_call_function`.
        unsafe {
            if sys::napi_open_handle_scope(env, &mut scope) != sys::Status::napi_ok {
                return false;
            }
            sys::napi_get_undefined(env, &mut receiver);
            sys::napi_get_reference_value(env, self.callback, &mut function);
            let mut arguments: Arguments =
                [receiver; size_of::<Arguments>() / size_of::<sys::napi_value>()];
            let count = S::fill(self, event, &mut arguments);
            let status = sys::napi_call_function(
                env,
                receiver,
                function,
                count,
                arguments.as_ptr(),
                &mut returned,
            );
            if status == sys::Status::napi_ok {
                S::returned(self, returned);
            }
            if status == sys::Status::napi_pending_exception {
                let mut error = null_mut();
                sys::napi_get_and_clear_last_exception(env, &mut error);
                sys::napi_fatal_exception(env, error);
            }
            sys::napi_close_handle_scope(env, scope);
            status == sys::Status::napi_ok || status == sys::Status::napi_pending_exception
        }
    }
}

/// libuv: the source has something to do.
unsafe extern "C" fn on_ready<S: Source>(handle: *mut UvHandle, _status: c_int, _events: c_int) {
    // SAFETY: `data` holds a count of the driver until `on_closed`, which does not come while this runs; the count
    // taken here keeps the driver until the end of this function.
    let driver = unsafe {
        let shared = (*handle).data.cast::<Driver<S>>().cast_const();
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

/// libuv: the loop is about to wait.
unsafe extern "C" fn on_prepare<S: Source>(handle: *mut UvHandle) {
    // SAFETY: `data` is the driver, which closes this handle before it goes.
    let driver = unsafe { &*(*handle).data.cast::<Driver<S>>().cast_const() };
    if catch_unwind(AssertUnwindSafe(|| driver.source.borrow_mut().before_wait())).is_err() {
        let mut handles = null_mut();
        // SAFETY: libuv calls on the environment's thread; the scope is closed at the end.
        unsafe {
            if sys::napi_open_handle_scope(driver.env, &mut handles) == sys::Status::napi_ok {
                report_panic(driver);
                sys::napi_close_handle_scope(driver.env, handles);
            }
        }
    }
}

/// libuv has let go of the other handle.
unsafe extern "C" fn on_prepare_closed(handle: *mut UvHandle) {
    // SAFETY: called once, with the box made at creation.
    drop(unsafe { Box::from_raw(handle) });
}

/// A panic must not cross into C.
fn dispatch_caught<S: Source>(driver: &Driver<S>) {
    if catch_unwind(AssertUnwindSafe(|| driver.dispatch())).is_err() {
        driver.is_dispatching.set(false);
        // SAFETY: on the environment's thread, inside a handle scope.
        unsafe { report_panic(driver) };
    }
}

/// It becomes an uncaught exception of this worker, which reports it like any other.
///
/// # Safety
/// Only on the environment's thread, inside a handle scope.
unsafe fn report_panic<S: Source>(driver: &Driver<S>) {
    let (mut text, mut error) = (null_mut(), null_mut());
    let start = S::PANIC.as_ptr().cast::<c_char>();
    let length = S::PANIC.to_bytes().len() as isize;
    // SAFETY: as for this function; the out pointers are to locals.
    unsafe {
        sys::napi_create_string_latin1(driver.env, start, length, &mut text);
        sys::napi_create_error(driver.env, null_mut(), text, &mut error);
        sys::napi_fatal_exception(driver.env, error);
    }
}

/// libuv has let go of the handle.
unsafe extern "C" fn on_closed<S: Source>(handle: *mut UvHandle) {
    // SAFETY: called once; `data` is the count given at creation, `handle` the box made there.
    let driver = unsafe {
        let handle = Box::from_raw(handle);
        Rc::from_raw(handle.data.cast::<Driver<S>>().cast_const())
    };
    let cleanup = driver.cleanup.replace(null_mut());
    if !cleanup.is_null() {
        // SAFETY: the hook was added at creation and is removed only here.
        unsafe { sys::napi_remove_async_cleanup_hook(cleanup) };
    }
}

/// The environment ends (a worker thread, or the process) with the source open.
unsafe extern "C" fn on_teardown<S: Source>(
    _hook: sys::napi_async_cleanup_hook_handle,
    argument: *mut c_void,
) {
    // SAFETY: the argument is the count that `on_closed` takes back, and that has not run: it removes this hook.
    let driver = unsafe { &*argument.cast::<Driver<S>>().cast_const() };
    driver.stop();
}

/// The drivers of a thread, by handle minus one. A handle is not used again: a gateway makes a handful.
pub(crate) struct Drivers<S: Source>(RefCell<Vec<Option<Rc<Driver<S>>>>>);

impl<S: Source> Drivers<S> {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// Its handle.
    pub(crate) fn add(&self, driver: Rc<Driver<S>>) -> u32 {
        let mut drivers = self.0.borrow_mut();
        drivers.push(Some(driver));
        drivers.len() as u32
    }

    pub(crate) fn get(&self, handle: u32) -> Option<Rc<Driver<S>>> {
        let index = (handle as usize).checked_sub(1)?;
        self.0.borrow().get(index)?.clone()
    }

    pub(crate) fn remove(&self, handle: u32) -> Option<Rc<Driver<S>>> {
        let index = (handle as usize).checked_sub(1)?;
        self.0.borrow_mut().get_mut(index)?.take()
    }
}
