//! Differential test against the C library, which Debian's libmodsecurity3 (3.0.9) exports.
//!
//! `SALLYPORT_LIBMODSECURITY` names the library, default `libmodsecurity.so.3`; where it cannot be opened the test says so
//! and passes. `SALLYPORT_ORACLE_INPUTS` is the number of inputs, default 200000. That version takes any `on…` attribute
//! for an event handler (`libinjection.md` section 8), so XSS is compared with `Events::Any`.

use std::env;
use std::ffi::{c_char, c_int};

use libloading::{Library, Symbol};
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

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn input(&mut self) -> Vec<u8> {
        let mut input = Vec::new();
        for _ in 0..1 + self.below(12) {
            match self.below(8) {
                0 => input.push(self.next() as u8),
                1 => input.push(b" '\"-/*#@<>=`\0\xFF\xA0\x0B"[self.below(16)]),
                _ => input.extend(FRAGMENTS[self.below(FRAGMENTS.len())].bytes()),
            }
            if self.below(3) == 0 {
                input.push(b' ');
            }
        }
        input
    }
}

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
    let mut random = Random(seed.unwrap_or(7));
    let (mut injections, mut scripts, mut different) = (0u64, 0u64, 0u64);
    for _ in 0..inputs {
        let mut input = random.input();
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
        if ours_letters != &letters[..end] || xss_with(input, Events::Any) != script {
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
    println!("{inputs} inputs, {injections} SQLi, {scripts} XSS, {different} different");
    assert_eq!(different, 0);
}
