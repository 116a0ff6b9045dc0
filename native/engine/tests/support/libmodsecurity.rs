//! libmodsecurity 3 as a library, called as its C interface is documented (`modsecurity/transaction.h`).
//!
//! The only unsafe code of this crate's tests. Strings that go in are NUL-terminated copies or come with their length.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::sync::Mutex;

use libloading::Library;

type Pointer = *mut c_void;
type LogCallback = unsafe extern "C" fn(Pointer, *const c_void);

/// `ModSecurityIntervention` of `modsecurity/intervention.h`.
#[repr(C)]
struct Intervention {
    status: c_int,
    pause: c_int,
    url: *mut c_char,
    log: *mut c_char,
    disruptive: c_int,
}

/// One request as it is given to both engines.
pub struct Request<'a> {
    /// Method of the request line.
    pub method: &'a str,
    /// Target as sent.
    pub target: &'a [u8],
    /// Header fields in order.
    pub headers: &'a [(Vec<u8>, Vec<u8>)],
    /// The body, empty when there is none.
    pub body: &'a [u8],
}

/// What libmodsecurity did with one exchange.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Lines of its log, in order.
    pub lines: Vec<String>,
    /// Status of the first intervention.
    pub status: Option<u16>,
}

macro_rules! calls {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The calls that the library exports.
        struct Calls {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Calls {
            fn find(library: &Library) -> Result<Self, libloading::Error> {
                Ok(Calls {
                    $(
                        // SAFETY: the signatures are those of modsecurity.h, rules_set.h and transaction.h of 3.0.9.
                        $name: *unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }?,
                    )*
                })
            }
        }
    };
}

calls! {
    msc_init: fn() -> Pointer;
    msc_cleanup: fn(Pointer);
    msc_set_log_cb: fn(Pointer, LogCallback);
    msc_create_rules_set: fn() -> Pointer;
    msc_rules_add_file: fn(Pointer, *const c_char, *mut *const c_char) -> c_int;
    msc_rules_cleanup: fn(Pointer) -> c_int;
    msc_new_transaction: fn(Pointer, Pointer, Pointer) -> Pointer;
    msc_process_connection: fn(Pointer, *const c_char, c_int, *const c_char, c_int) -> c_int;
    msc_process_uri: fn(Pointer, *const c_char, *const c_char, *const c_char) -> c_int;
    msc_add_n_request_header: fn(Pointer, *const u8, usize, *const u8, usize) -> c_int;
    msc_process_request_headers: fn(Pointer) -> c_int;
    msc_append_request_body: fn(Pointer, *const u8, usize) -> c_int;
    msc_process_request_body: fn(Pointer) -> c_int;
    msc_add_n_response_header: fn(Pointer, *const u8, usize, *const u8, usize) -> c_int;
    msc_process_response_headers: fn(Pointer, c_int, *const c_char) -> c_int;
    msc_append_response_body: fn(Pointer, *const u8, usize) -> c_int;
    msc_process_response_body: fn(Pointer) -> c_int;
    msc_process_logging: fn(Pointer) -> c_int;
    msc_intervention: fn(Pointer, *mut Intervention) -> c_int;
    msc_transaction_cleanup: fn(Pointer);
}

/// The library with one rule set.
pub struct Reference {
    calls: Calls,
    engine: Pointer,
    rules: Pointer,
    _library: Library,
}

extern "C" {
    /// Of the C library: texts of an intervention are allocated by it.
    fn free(pointer: Pointer);
}

unsafe extern "C" fn keep_line(data: Pointer, line: *const c_void) {
    if data.is_null() || line.is_null() {
        return;
    }
    // SAFETY: `data` is the list that `Reference::run` gave with this transaction and outlives it.
    let lines = unsafe { &*data.cast::<Mutex<Vec<String>>>() };
    // SAFETY: without properties the library gives a NUL-terminated text.
    let line = unsafe { CStr::from_ptr(line.cast()) }.to_string_lossy().into_owned();
    if let Ok(mut lines) = lines.lock() {
        lines.push(line);
    }
}

impl Reference {
    /// Opens the library and loads a rule file; says in a sentence why it cannot be done.
    pub fn open(library: &str, rules: &std::path::Path) -> Result<Self, String> {
        // SAFETY: loading runs the library's initialisers; Debian's build does nothing there but set up its own state.
        let library = unsafe { Library::new(library) }.map_err(|error| error.to_string())?;
        let calls = Calls::find(&library).map_err(|error| error.to_string())?;
        // SAFETY: takes nothing; what it returns is freed once, in `drop`.
        let engine = unsafe { (calls.msc_init)() };
        // SAFETY: `engine` is alive, the callback has the documented form.
        unsafe { (calls.msc_set_log_cb)(engine, keep_line) };
        // SAFETY: takes nothing; what it returns is freed once, in `drop`.
        let set = unsafe { (calls.msc_create_rules_set)() };
        let reference = Reference { calls, engine, rules: set, _library: library };
        let path = CString::new(rules.to_string_lossy().as_bytes()).map_err(|e| e.to_string())?;
        let mut error: *const c_char = std::ptr::null();
        // SAFETY: the set is alive, the path NUL-terminated, `error` may be written.
        let added = unsafe {
            (reference.calls.msc_rules_add_file)(reference.rules, path.as_ptr(), &mut error)
        };
        if added < 0 {
            let text = match error.is_null() {
                true => "unknown error".into(),
                // SAFETY: the library leaves a NUL-terminated text here.
                false => unsafe { CStr::from_ptr(error) }.to_string_lossy(),
            };
            return Err(format!("libmodsecurity refuses the rules: {text}"));
        }
        Ok(reference)
    }

    /// Runs one exchange through all five phases.
    pub fn run(&self, request: &Request<'_>, response: &[(&str, &str)], body: &[u8]) -> Outcome {
        let calls = &self.calls;
        let text = |bytes: &[u8]| CString::new(bytes.to_vec()).unwrap_or_default();
        let lines: Box<Mutex<Vec<String>>> = Box::default();
        let data: Pointer = std::ptr::from_ref(lines.as_ref()).cast_mut().cast();
        let (address, target) = (text(b"127.0.0.1"), text(request.target));
        let (method, version) = (text(request.method.as_bytes()), text(b"1.1"));
        let protocol = text(b"HTTP/1.1");
        let (mut status, mut denials) = (None, Vec::new());
        // SAFETY: engine and rules live as long as `self`; every text is NUL-terminated or comes with its length and
        // lives until the call is over (the library copies); `lines` outlives the transaction, which is freed once.
        unsafe {
            let transaction = (calls.msc_new_transaction)(self.engine, self.rules, data);
            let mut check = || {
                let mut found = Intervention {
                    status: 200,
                    pause: 0,
                    url: std::ptr::null_mut(),
                    log: std::ptr::null_mut(),
                    disruptive: 0,
                };
                let stops = (calls.msc_intervention)(transaction, &mut found) != 0;
                if stops && status.is_none() {
                    status = u16::try_from(found.status).ok();
                }
                // The line of the rule that stops comes here and not through the callback. Both texts are the caller's.
                if !found.log.is_null() {
                    denials.push(CStr::from_ptr(found.log).to_string_lossy().into_owned());
                    free(found.log.cast());
                }
                if !found.url.is_null() {
                    free(found.url.cast());
                }
                !stops
            };
            (calls.msc_process_connection)(
                transaction,
                address.as_ptr(),
                40000,
                address.as_ptr(),
                80,
            );
            (calls.msc_process_uri)(
                transaction,
                target.as_ptr(),
                method.as_ptr(),
                version.as_ptr(),
            );
            for (name, value) in request.headers {
                (calls.msc_add_n_request_header)(
                    transaction,
                    name.as_ptr(),
                    name.len(),
                    value.as_ptr(),
                    value.len(),
                );
            }
            (calls.msc_process_request_headers)(transaction);
            let mut goes_on = check();
            if goes_on {
                if !request.body.is_empty() {
                    (calls.msc_append_request_body)(
                        transaction,
                        request.body.as_ptr(),
                        request.body.len(),
                    );
                }
                (calls.msc_process_request_body)(transaction);
                goes_on = check();
            }
            if goes_on {
                for (name, value) in response {
                    (calls.msc_add_n_response_header)(
                        transaction,
                        name.as_ptr(),
                        name.len(),
                        value.as_ptr(),
                        value.len(),
                    );
                }
                (calls.msc_process_response_headers)(transaction, 200, protocol.as_ptr());
                goes_on = check();
            }
            if goes_on {
                (calls.msc_append_response_body)(transaction, body.as_ptr(), body.len());
                (calls.msc_process_response_body)(transaction);
                check();
            }
            (calls.msc_process_logging)(transaction);
            (calls.msc_transaction_cleanup)(transaction);
        }
        let mut lines = lines.into_inner().unwrap_or_default();
        lines.extend(denials);
        Outcome { lines, status }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // SAFETY: both were made by `open`, and no transaction is alive.
        unsafe {
            (self.calls.msc_rules_cleanup)(self.rules);
            (self.calls.msc_cleanup)(self.engine);
        }
    }
}
