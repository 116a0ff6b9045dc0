//! The request head that uWebSockets.js has parsed, taken from its memory in one call instead of one call per field.
//!
//! The library tells JavaScript of a head by one call for each field, with two strings each: with what becomes of them there, a
//! third of all that a request costs outside of the system. What it hands to JavaScript is an object with a pointer to its
//! own `HttpRequest`, which begins with an array of names and values. Neither is promised to anybody: before the first
//! use `src/listener/library-head.ts` has heads read by `probe_library_head`, which cannot fault, and compares them with what
//! the library itself tells.
//!
//! With `unsafe`: that memory is not ours.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int, c_void};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr::null_mut;
use std::slice;
use std::sync::OnceLock;

use napi::{sys, Error, JsValue, Result, Unknown};
use napi_derive::napi;
use sallyport_http1::{CheckedHead, UsualReader};

use crate::driver::check;
use crate::raw::{run, Call};

/// `int v8::Object::InternalFieldCount() const`
const COUNT: &[u8] = b"_ZNK2v86Object18InternalFieldCountEv\0";
/// `void* v8::Object::SlowGetAlignedPointerFromInternalField(int)`
const POINTER: &[u8] = b"_ZN2v86Object38SlowGetAlignedPointerFromInternalFieldEi\0";

/// `std::string_view` as libstdc++ and libc++ have it on 64-bit machines, in the order of the former.
#[repr(C)]
#[derive(Clone, Copy)]
struct View {
    length: usize,
    start: *const u8,
}

impl View {
    /// # Safety
    /// It refers to bytes that live for as long as the result.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: as for this function.
        unsafe { slice::from_raw_parts(self.start, self.length) }
    }
}

/// `uWS::HttpRequest::Header`. The first one is method and target; behind the last one comes one without a name.
#[repr(C)]
#[derive(Clone, Copy)]
struct Field {
    name: View,
    value: View,
}

/// The library's own bound, with method and target and the one without a name.
const MOST_FIELDS: usize = 100;
/// What a probe takes for possible.
const MOST_PROBED_BYTES: usize = 1024 * 1024;

/// How V8 gives away the pointer that an object holds: functions that node exports.
#[derive(Clone, Copy)]
struct PointerOf {
    count: Count,
    pointer: Pointer,
}

type Count = unsafe extern "C" fn(object: *const c_void) -> c_int;
type Pointer = unsafe extern "C" fn(object: *const c_void, index: c_int) -> *mut c_void;

impl PointerOf {
    /// `None` where this node has no such functions.
    fn find() -> Option<Self> {
        static FOUND: OnceLock<Option<PointerOf>> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let find = |name: &[u8]| {
                // SAFETY: the name ends in NUL; looking one up has no effect.
                let found =
                    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr().cast::<c_char>()) };
                (!found.is_null()).then_some(found)
            };
            let (count, pointer) = (find(COUNT)?, find(POINTER)?);
            // SAFETY: the names say the types; on the platforms that node has, `this` is the first argument.
            unsafe {
                Some(PointerOf {
                    count: std::mem::transmute::<*mut c_void, Count>(count),
                    pointer: std::mem::transmute::<*mut c_void, Pointer>(pointer),
                })
            }
        })
    }

    /// The pointer in an object; null when it has none (any more).
    ///
    /// # Safety
    /// `object` is a value of the call under way, and an object.
    unsafe fn of(self, object: sys::napi_value) -> *const u8 {
        // SAFETY: a Node-API value is a V8 handle, which is what a method of an object gets as `this`.
        unsafe {
            let object = object.cast_const().cast::<c_void>();
            if (self.count)(object) < 1 {
                return null_mut();
            }
            (self.pointer)(object, 0).cast_const().cast()
        }
    }
}

thread_local! {
    /// Keeps the last head, for a request that goes on as it came before another one is read.
    static HEADS: RefCell<UsualReader> = const { RefCell::new(UsualReader::new()) };
    /// `FACTS` numbers that JavaScript sees; null before `open_library_heads`.
    static NUMBERS: Cell<*mut f64> = const { Cell::new(null_mut()) };
}

/// Numbers that `read_library_head` leaves behind.
const FACTS: usize = 6;

/// Says where the facts of a head go: a Float64Array of this thread, kept for good. Once per thread.
#[napi(catch_unwind)]
pub fn open_library_heads(facts: Unknown) -> Result<()> {
    let (env, value) = (facts.value().env, facts.value().value);
    let (mut kind, mut length, mut memory, mut kept) = (0, 0, null_mut(), null_mut());
    // SAFETY: the value comes from the call under way; all out pointers are to locals.
    unsafe {
        let asked = sys::napi_get_typedarray_info(
            env,
            value,
            &mut kind,
            &mut length,
            &mut memory,
            null_mut(),
            null_mut(),
        );
        check(asked, "napi_get_typedarray_info")?;
        if kind != sys::TypedarrayType::float64_array || length < FACTS {
            return Err(Error::from_reason("a Float64Array for facts is expected"));
        }
        check(sys::napi_create_reference(env, value, 1, &mut kept), "napi_create_reference")?;
    }
    NUMBERS.set(memory.cast());
    Ok(())
}

/// `readLibraryHead(request, response, uriBytes, headBytes)`: the head as it goes on, when nothing in it is to be decided,
/// else undefined. Its facts: flags, place and length of Host's value, Content-Length, which connection it came on, and the
/// number under which it is kept until the next one is read.
/// Both objects must be the library's, in its own call.
pub(crate) unsafe extern "C" fn read_library_head(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let read = |call: &Call| {
        let numbers = NUMBERS.get();
        let Some(pointer_of) = PointerOf::find() else { return Ok(null_mut()) };
        // SAFETY: both are arguments of the call under way, and objects (above).
        let (request, response) =
            unsafe { (pointer_of.of(call.argument(0)), pointer_of.of(call.argument(1))) };
        if request.is_null() || numbers.is_null() {
            return Ok(null_mut());
        }
        let most_uri = call.uint32(2)? as usize;
        let most_head = call.uint32(3)? as usize;
        // SAFETY: the library is inside its call with this request, so that the pointer is to its HttpRequest, which begins as
        // described here (proven by `probe_library_head`) and lives, with the bytes it refers to, until that call is over.
        let fields = unsafe { slice::from_raw_parts(request.cast::<Field>(), MOST_FIELDS) };
        // SAFETY: as above.
        let bytes = |field: &Field| unsafe { (field.name.bytes(), field.value.bytes()) };
        HEADS.with_borrow_mut(|heads| {
            let mut fields = fields.iter().map(bytes).take_while(|(name, _)| !name.is_empty());
            let Some((method, target)) = fields.next() else { return Ok(null_mut()) };
            let read = heads.read(method, target, fields, most_uri, most_head);
            let Some((head, number)) = read else { return Ok(null_mut()) };
            let facts: [f64; FACTS] = [
                f64::from(head.flags),
                head.host.0 as f64,
                head.host.1 as f64,
                f64::from(head.content_length),
                // Below 2^53 on every machine there is.
                response as usize as f64,
                number as f64,
            ];
            // SAFETY: the array has FACTS numbers (checked), is kept for good and never detached.
            unsafe { std::ptr::copy_nonoverlapping(facts.as_ptr(), numbers, FACTS) };
            Ok(call.latin1(heads.text()))
        })
    };
    // SAFETY: Node-API calls with what belongs to the call under way.
    unsafe { run(env, info, read) }
}

/// The head that `read_library_head` read under this number on this thread, if it was the last one.
pub(crate) fn with_kept<T>(number: u64, look: impl FnOnce(CheckedHead<'_>) -> T) -> Option<T> {
    HEADS.with_borrow(|heads| heads.kept(number).map(look))
}

/// `method target` and `name: value` lines as `read_library_head` would see them, each with LF; nothing when they cannot be seen.
/// Looks through the kernel: an address that is none is an error there and no fault.
#[napi(catch_unwind)]
pub fn probe_library_head(request: Unknown) -> Option<Vec<u8>> {
    let pointer_of = PointerOf::find()?;
    // SAFETY: the argument of the call under way, and an object: the caller hands in what the library gave it.
    let start = unsafe { pointer_of.of(request.value().value) } as u64;
    let memory = File::open("/proc/self/mem").ok()?;
    let text_at = |at: u64| -> Option<Vec<u8>> {
        let mut view = [0; size_of::<View>()];
        memory.read_exact_at(&mut view, at).ok()?;
        let (length, start) = view.split_at(size_of::<usize>());
        let length = usize::from_ne_bytes(length.try_into().ok()?);
        if length > MOST_PROBED_BYTES {
            return None;
        }
        let mut text = vec![0; length];
        if length > 0 {
            memory.read_exact_at(&mut text, u64::from_ne_bytes(start.try_into().ok()?)).ok()?;
        }
        Some(text)
    };
    let mut text = Vec::new();
    for index in 0..MOST_FIELDS {
        let at = start + (index * size_of::<Field>()) as u64;
        let name = text_at(at)?;
        if name.is_empty() {
            return (index > 0).then_some(text);
        }
        text.extend_from_slice(&name);
        text.extend_from_slice(if index == 0 { b" " } else { b": " });
        text.extend_from_slice(&text_at(at + size_of::<View>() as u64)?);
        text.push(b'\n');
        if text.len() > MOST_PROBED_BYTES {
            return None;
        }
    }
    None
}

/// `libraryConnection(response)`, outside of `read_library_head`: which connection it is about; 0 = not known.
#[napi(catch_unwind)]
pub fn library_connection(response: Unknown) -> f64 {
    let Some(pointer_of) = PointerOf::find() else { return 0.0 };
    // SAFETY: as in `probe_library_head`.
    let pointer = unsafe { pointer_of.of(response.value().value) };
    pointer as usize as f64
}
