//! The exports that are called by way of `raw`, beside those that napi-rs makes.
//!
//! With `unsafe`: the raw Node-API has no safe form.

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;

use napi::bindgen_prelude::{JsObjectValue, Object};
use napi::{sys, JsValue, Result, Unknown};
use napi_derive::napi;

use crate::driver::check;

type Function = unsafe extern "C" fn(sys::napi_env, sys::napi_callback_info) -> sys::napi_value;

const FUNCTIONS: [(&str, Function); 9] = [
    ("readLibraryHead", crate::library_head::read_library_head),
    ("scanHeldRequest", crate::scan::scan_held_request),
    ("scanHeldResponse", crate::scan::scan_held_response),
    ("scanRequest", crate::scan::scan_request),
    ("scanResponse", crate::scan::scan_response),
    ("startResponseTransaction", crate::scan::start_response_transaction),
    ("takeBucket", crate::buckets::take_bucket),
    ("upstreamSend", crate::upstream::upstream_send),
    ("upstreamRelay", crate::upstream::upstream_relay),
];

/// Adds them to the addon's exports.
#[napi(module_exports)]
pub fn export_functions(mut exports: Object) -> Result<()> {
    let env = exports.value().env;
    for (name, function) in FUNCTIONS {
        let mut value = null_mut();
        let start = name.as_ptr().cast::<c_char>();
        // SAFETY: the name is copied; the function is of the type that Node-API calls; no data goes with it.
        let exported = unsafe {
            let data: *mut c_void = null_mut();
            let length = name.len() as isize;
            let made =
                sys::napi_create_function(env, start, length, Some(function), data, &mut value);
            check(made, "napi_create_function")?;
            Unknown::from_raw_unchecked(env, value)
        };
        exports.set_named_property(name, exported)?;
    }
    Ok(())
}
