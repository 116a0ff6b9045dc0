//! Differential test against the C library, which Debian's libmodsecurity3 (3.0.9) exports.
//!
//! `SALLYPORT_LIBMODSECURITY` names the library, default `libmodsecurity.so.3`; where it cannot be opened the test says so
//! and passes. `SALLYPORT_ORACLE_INPUTS` is the number of inputs, default 200000; `SALLYPORT_ORACLE_SEED` another sequence
//! of them. That version takes any `on…` attribute for an event handler (`libinjection.md` section 8), so XSS is compared
//! with `Events::Any`; with the list of events, only what names `on` may be let pass.

#![allow(unsafe_code)]

#[path = "support/mutated.rs"]
mod mutated;

use fastrand::Rng;
use std::env;
use std::ffi::{c_char, c_int};

use libloading::{Library, Symbol};
use mutated::Seeds;
use sallyport_libinjection::{sqli, xss_with, Events};

const FRAGMENTS: [&str; 96] = [
    "'",
    "\"",
    "`",
    "--",
    "-- ",
    "#",
    "/*",
    "*/",
    "/*!",
    "\\",
    "\\N",
    "''",
    "(",
    ")",
    "((",
    "))",
    ",",
    ";",
    "{",
    "}",
    ".",
    ":",
    "::",
    ":=",
    "<=>",
    "&&",
    "||",
    "!",
    "~",
    "%",
    "0x1F",
    "1",
    "2",
    "1e",
    "1.5e+3d",
    "0b01",
    "@",
    "@@v",
    "@`a`",
    "$",
    "$$",
    "$a$",
    "$1.0",
    "[",
    "]",
    "q'(",
    ")'",
    "nq'!",
    "n'",
    "e'",
    "u&'",
    "x'0F'",
    "b'01'",
    "select",
    "union",
    "all",
    "in",
    "boolean mode",
    "not",
    "like",
    "or",
    "and",
    "user(",
    "from",
    "into",
    "outfile",
    "if(",
    "sp_password",
    "collate",
    "latin1_bin",
    "int",
    "null",
    "database",
    "x",
    "foo.bar",
    " ",
    "\n",
    "<",
    "</",
    ">",
    "<!--",
    "-->",
    "-!>",
    "<%",
    "%>",
    "<![CDATA[",
    "]]>",
    "=",
    "/",
    " onload",
    "href=java",
    "&#x6a;",
    "<svg",
    "style=",
    "attributename=href",
    "xmlns=",
];

type SqliCall = unsafe extern "C" fn(*const c_char, usize, *mut c_char) -> c_int;
type XssCall = unsafe extern "C" fn(*const c_char, usize) -> c_int;

#[test]
fn same_results_as_the_c_library() {
    let name = env::var_os("SALLYPORT_LIBMODSECURITY").unwrap_or("libmodsecurity.so.3".into());
    // SAFETY: loading runs the library's initialisers; Debian's build does nothing there but set up its own state.
    let library = match unsafe { Library::new(&name) } {
        Ok(library) => library,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    // SAFETY: the signatures are those of libinjection.h (`libinjection.md` section 10).
    let sqli_call: Symbol<SqliCall> =
        unsafe { library.get(b"libinjection_sqli\0") }.expect("exported");
    // SAFETY: as above.
    let xss_call: Symbol<XssCall> =
        unsafe { library.get(b"libinjection_xss\0") }.expect("exported");

    let inputs = env::var("SALLYPORT_ORACLE_INPUTS").ok().and_then(|text| text.parse().ok());
    let inputs: u64 = inputs.unwrap_or(200_000);
    let seed = env::var("SALLYPORT_ORACLE_SEED").ok().and_then(|text| text.parse().ok());
    let mut random = Rng::with_seed(seed.unwrap_or(7));
    let seeds = Seeds::new(&FRAGMENTS);
    let (mut injections, mut scripts, mut different) = (0u64, 0u64, 0u64);
    for _ in 0..inputs {
        let mut input = seeds.input(&mut random);
        let length = input.len();
        // The C code looks one byte past the end in places.
        input.extend([0]);
        let text = input.as_ptr().cast::<c_char>();
        let mut letters = [0u8; 8];
        // SAFETY: `text` holds `length` bytes and one more; `letters` holds the eight bytes the call may write.
        unsafe { sqli_call(text, length, letters.as_mut_ptr().cast()) };
        // SAFETY: `text` holds `length` bytes and one more.
        let script = unsafe { xss_call(text, length) } != 0;
        let end = letters.iter().position(|&letter| letter == 0).unwrap_or(8);

        let input = &input[..length];
        let ours = sqli(input);
        let ours_letters: &[u8] = ours.as_deref().unwrap_or_default();
        injections += u64::from(ours.is_some());
        scripts += u64::from(script);
        let by_list = xss_with(input, Events::Listed);
        let names_on = input.windows(2).any(|pair| pair.eq_ignore_ascii_case(b"on"));
        let list_agrees = by_list == script || (script && names_on);
        let any_agrees = xss_with(input, Events::Any) == script;
        if ours_letters != &letters[..end] || !any_agrees || !list_agrees {
            different += 1;
            if different <= 20 {
                let text = input.escape_ascii();
                let theirs = letters[..end].escape_ascii();
                println!(
                    "DIFFERS {text}: C {theirs} {script}, ours {}",
                    ours_letters.escape_ascii()
                );
            }
        }
    }
    println!(
        "{inputs} inputs from {} texts, {injections} SQLi, {scripts} XSS, {different} different",
        seeds.len()
    );
    assert_eq!(different, 0);
}
