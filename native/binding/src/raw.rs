//! A call without the conversions of napi-rs, for what is called with every request: those cost some 1,500 instructions.
//!
//! With `unsafe`: the raw Node-API has no safe form.

use std::ffi::c_char;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::null_mut;

use napi::{sys, Error, Result};

use crate::driver::check;

/// Arguments of a call; those that were not given are undefined.
pub(crate) const MOST_ARGUMENTS: usize = 10;

/// `napi_get_value_string_latin1` and its like.
type GetString = unsafe extern "C" fn(
    sys::napi_env,
    sys::napi_value,
    *mut c_char,
    usize,
    *mut usize,
) -> sys::napi_status;

/// A call under way.
pub(crate) struct Call {
    pub(crate) env: sys::napi_env,
    arguments: [sys::napi_value; MOST_ARGUMENTS],
}

impl Call {
    /// An argument as it is.
    pub(crate) fn argument(&self, at: usize) -> sys::napi_value {
        self.arguments[at]
    }

    /// A number that fits.
    pub(crate) fn uint32(&self, at: usize) -> Result<u32> {
        let mut number = 0;
        // SAFETY: the value comes from the call under way; the out pointer is to a local.
        let got = unsafe { sys::napi_get_value_uint32(self.env, self.arguments[at], &mut number) };
        check(got, "napi_get_value_uint32")?;
        Ok(number)
    }

    /// Any number.
    pub(crate) fn double(&self, at: usize) -> Result<f64> {
        let mut number = 0.0;
        // SAFETY: as above.
        let got = unsafe { sys::napi_get_value_double(self.env, self.arguments[at], &mut number) };
        check(got, "napi_get_value_double")?;
        Ok(number)
    }

    /// True or false.
    pub(crate) fn boolean(&self, at: usize) -> Result<bool> {
        let mut is = false;
        // SAFETY: as above.
        let got = unsafe { sys::napi_get_value_bool(self.env, self.arguments[at], &mut is) };
        check(got, "napi_get_value_bool")?;
        Ok(is)
    }

    /// Whether it is a string.
    pub(crate) fn is_string(&self, at: usize) -> Result<bool> {
        let mut kind = 0;
        // SAFETY: as above.
        let got = unsafe { sys::napi_typeof(self.env, self.arguments[at], &mut kind) };
        check(got, "napi_typeof")?;
        Ok(kind == sys::ValueType::napi_string)
    }

    /// Puts the characters of a string into `text`, one byte each.
    pub(crate) fn latin1_into(&self, at: usize, text: &mut Vec<u8>) -> Result<()> {
        self.string_into(at, text, sys::napi_get_value_string_latin1)
    }

    /// Puts a string into `text` as UTF-8.
    pub(crate) fn utf8_into(&self, at: usize, text: &mut Vec<u8>) -> Result<()> {
        self.string_into(at, text, sys::napi_get_value_string_utf8)
    }

    /// In one call unless it is longer than any before.
    fn string_into(&self, at: usize, text: &mut Vec<u8>, get: GetString) -> Result<()> {
        /// For the NUL behind the text, and what a character that does not fit leaves free.
        const MARGIN: usize = 4;
        let value = self.arguments[at];
        let mut length = 0;
        text.clear();
        // SAFETY: the value comes from the call under way; no more is written than the room that there is.
        let got =
            unsafe { get(self.env, value, text.as_mut_ptr().cast(), text.capacity(), &mut length) };
        check(got, "a string is expected")?;
        if length + MARGIN >= text.capacity() {
            // SAFETY: as above; without a place to write to only the length is told.
            let asked = unsafe { get(self.env, value, null_mut(), 0, &mut length) };
            check(asked, "a string is expected")?;
            text.reserve(length + MARGIN + 1);
            // SAFETY: as above.
            let got = unsafe {
                get(self.env, value, text.as_mut_ptr().cast(), text.capacity(), &mut length)
            };
            check(got, "a string is expected")?;
        }
        // SAFETY: so many bytes were written.
        unsafe { text.set_len(length) };
        Ok(())
    }

    /// The bytes of a Uint8Array; `None` for null.
    ///
    /// # Safety
    /// JavaScript does not run while the result is in use.
    pub(crate) unsafe fn bytes(&self, at: usize) -> Result<Option<&[u8]>> {
        let (env, value) = (self.env, self.arguments[at]);
        let (mut value_kind, mut kind, mut length, mut memory) = (0, 0, 0, null_mut());
        // SAFETY: the value comes from the call under way; all out pointers are to locals.
        unsafe {
            check(sys::napi_typeof(env, value, &mut value_kind), "napi_typeof")?;
            if value_kind == sys::ValueType::napi_null {
                return Ok(None);
            }
            let (buffer, offset) = (null_mut(), null_mut());
            let asked = sys::napi_get_typedarray_info(
                env,
                value,
                &mut kind,
                &mut length,
                &mut memory,
                buffer,
                offset,
            );
            check(asked, "napi_get_typedarray_info")?;
        }
        if kind != sys::TypedarrayType::uint8_array {
            return Err(Error::from_reason("a Uint8Array is expected"));
        }
        if length == 0 {
            return Ok(Some(&[]));
        }
        // SAFETY: Node-API gives start and length of the array's memory, which lives as long as the array, an argument.
        Ok(Some(unsafe { std::slice::from_raw_parts(memory.cast::<u8>(), length) }))
    }

    /// A number to return.
    pub(crate) fn number(&self, number: f64) -> sys::napi_value {
        let mut value = null_mut();
        // SAFETY: the out pointer is to a local.
        unsafe { sys::napi_create_double(self.env, number, &mut value) };
        value
    }

    /// A string to return.
    pub(crate) fn latin1(&self, text: &[u8]) -> sys::napi_value {
        let mut value = null_mut();
        // SAFETY: the bytes are copied by the call; the out pointer is to a local.
        unsafe {
            let start = text.as_ptr().cast::<c_char>();
            sys::napi_create_string_latin1(self.env, start, text.len() as isize, &mut value);
        }
        value
    }
}

/// Runs the body of an export. What it fails with, panics included, is thrown; a null value is undefined to JavaScript.
///
/// # Safety
/// `env` and `info` are those of the call under way.
pub(crate) unsafe fn run(
    env: sys::napi_env,
    info: sys::napi_callback_info,
    body: impl FnOnce(&Call) -> Result<sys::napi_value>,
) -> sys::napi_value {
    let mut call = Call { env, arguments: [null_mut(); MOST_ARGUMENTS] };
    let mut count = MOST_ARGUMENTS;
    // SAFETY: as for this function; the array has as many elements as `count` says, and the rest is not wanted.
    let status = unsafe {
        let arguments = call.arguments.as_mut_ptr();
        sys::napi_get_cb_info(env, info, &mut count, arguments, null_mut(), null_mut())
    };
    let ran = catch_unwind(AssertUnwindSafe(|| {
        check(status, "napi_get_cb_info")?;
        body(&call)
    }));
    let error = match ran {
        Ok(Ok(value)) => return value,
        Ok(Err(error)) => error.reason.clone(),
        Err(_) => "the native part panicked".into(),
    };
    let text: Vec<u8> = error.bytes().filter(|byte| *byte != 0).chain([0]).collect();
    // SAFETY: the text ends in NUL.
    unsafe { sys::napi_throw_error(env, null_mut(), text.as_ptr().cast::<c_char>()) };
    null_mut()
}
