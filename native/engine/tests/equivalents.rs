//! Patterns of CRS 3.3 that the engine spells out, against PCRE2 itself on made-up texts.
//!
//! The library is the system's (`libpcre2-8.so.0`); where there is none the test says so and passes.

use libloading::Library;
use sallyport_engine::operator::Operator;
use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};

/// `PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY`, as ModSecurity v2 compiles.
const OPTIONS: u32 = 0x20 | 0x10;

type Compile = unsafe extern "C" fn(
    *const u8,
    usize,
    u32,
    *mut c_int,
    *mut usize,
    *const c_void,
) -> *mut c_void;
type MakeData = unsafe extern "C" fn(*const c_void, *const c_void) -> *mut c_void;
type Match = unsafe extern "C" fn(
    *const c_void,
    *const u8,
    usize,
    usize,
    u32,
    *mut c_void,
    *const c_void,
) -> c_int;

const PATTERNS: [(&str, &str, &[&str]); 4] = [
    (
        "920120",
        r##"(?<!&(?:[aAoOuUyY]uml)|&(?:[aAeEiIoOuU]circ)|&(?:[eEiIoOuUyY]acute)|&(?:[aAeEiIoOuU]grave)|&(?:[cC]cedil)|&(?:[aAnNoO]tilde)|&(?:amp)|&(?:apos));|['"=]"##,
        &[
            "&", ";", "&auml;", "&Ocirc", "&eacute;", "&agrave;", "&ccedil;", "&ntilde", "&amp;",
            "&apos;", "uml", "a", "x", "circ;",
        ],
    ),
    (
        "920600",
        P920600,
        &[
            "text/html",
            "*/*",
            "*",
            "/",
            ";",
            "; ",
            ",",
            " , ",
            "=",
            " = ",
            "q=0.8",
            "charset",
            "utf-8",
            "\"utf-8\"",
            " ",
            "\t",
            "c",
            "ch",
            "x",
            "\"",
            "level=1",
        ],
    ),
    (
        "942260",
        r##"(?i:["'`]\s*?(?:(?:n(?:and|ot)|(?:x?x)?or|between|\|\||and|div|&&)\s+[\s\w]+=\s*?\w+\s*?having\s+|like(?:\s+[\s\w]+=\s*?\w+\s*?having\s+|\W*?["'`\d])|[^?\w\s=.,;)(]++\s*?[(@"'`]*?\s*?\w+\W+\w|\*\s*?\w+\W+["'`])|(?:union\s*?(?:distinct|[(!@]*?|all)?\s*?[([]*?\s*?select|select\s+?[\[\]()\s\w\.,"'`-]+from)\s+|\w\s+like\s+["'`]|find_in_set\s*?\(|like\s*?["'`]%)"##,
        &[
            "\"", "'", "`", "@", "(", "[", "*", "%", " ", "a", "x1", "=", "union", "select",
            "like", "or ", "-", "+", ".", "&&",
        ],
    ),
    (
        "942380",
        r##"having\b ?(?:['"][^=]{1,10}['" ?[=<>]+|\d{1,10} ?[=<>]+)"##,
        &["having", " ", "'", "\"", "[", "=", "<", "1", "22", "x", "]"],
    ),
];

const P920600: &str = r##"^(?:(?:\*|[^"(),\/:;<=>?![\x5c\]{}]+)\/(?:\*|[^"(),\/:;<=>?![\x5c\]{}]+))(?:\s*+;\s*+(?:(?:charset\s*+=\s*+(?:"?(?:iso-8859-15?|windows-1252|utf-8)\b"?))|(?:(?:c(?:h(?:a(?:r(?:s(?:e[^t"(),\/:;<=>?![\x5c\]{}]|[^e"(),/:;<=>?![\x5c\]{}])|[^s"(),/:;<=>?![\x5c\]{}])|[^r"(),/:;<=>?![\x5c\]{}])|[^a"(),/:;<=>?![\x5c\]{}])|[^h"(),/:;<=>?![\x5c\]{}])|[^c"(),/:;<=>?![\x5c\]{}])[^"(),/:;<=>?![\x5c\]{}]*(?:)\s*+=\s*+[^(),/:;<=>?![\x5c\]{}]+)|;?))*(?:\s*+,\s*+(?:(?:\*|[^"(),\/:;<=>?![\x5c\]{}]+)\/(?:\*|[^"(),\/:;<=>?![\x5c\]{}]+))(?:\s*+;\s*+(?:(?:charset\s*+=\s*+(?:"?(?:iso-8859-15?|windows-1252|utf-8)\b"?))|(?:(?:c(?:h(?:a(?:r(?:s(?:e[^t"(),\/:;<=>?![\x5c\]{}]|[^e"(),/:;<=>?![\x5c\]{}])|[^s"(),/:;<=>?![\x5c\]{}])|[^r"(),/:;<=>?![\x5c\]{}])|[^a"(),/:;<=>?![\x5c\]{}])|[^h"(),/:;<=>?![\x5c\]{}])|[^c"(),/:;<=>?![\x5c\]{}])[^"(),/:;<=>?![\x5c\]{}]*(?:)\s*+=\s*+[^(),/:;<=>?![\x5c\]{}]+)|;?))*)*$"##;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound as u64) as usize
    }
}

#[test]
fn spelt_out_patterns_match_what_pcre2_matches() {
    // SAFETY: the library's initialisers set up its own state only.
    let library = match unsafe { Library::new("libpcre2-8.so.0") } {
        Ok(library) => library,
        Err(error) => {
            println!("skipped: equivalents against PCRE2: {error}");
            return;
        }
    };
    // SAFETY: the signatures of these calls are those of pcre2.h, 8-bit library.
    let (compile, make_data, find) = unsafe {
        (
            library.get::<Compile>(b"pcre2_compile_8\0").expect("exported"),
            library.get::<MakeData>(b"pcre2_match_data_create_from_pattern_8\0").expect("exported"),
            library.get::<Match>(b"pcre2_match_8\0").expect("exported"),
        )
    };
    for (name, pattern, pieces) in PATTERNS {
        let (mut error, mut offset) = (0, 0);
        // SAFETY: the pattern comes with its length; both numbers may be written. What is made lives as long as the test.
        let code = unsafe {
            compile(pattern.as_ptr(), pattern.len(), OPTIONS, &mut error, &mut offset, null())
        };
        assert!(!code.is_null(), "{name}: PCRE2 error {error} at {offset}");
        // SAFETY: `code` is a compiled pattern.
        let data = unsafe { make_data(code, null()) };
        let mut none = |_: &str| Err(String::new());
        let operator = Operator::compile("rx", pattern.as_bytes(), &mut none)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut random = Random(7);
        let mut matched = 0;
        for _ in 0..60_000 {
            let mut text = Vec::new();
            for _ in 0..1 + random.below(9) {
                text.extend(pieces[random.below(pieces.len())].bytes());
                if random.below(12) == 0 {
                    text.push(random.below(256) as u8);
                }
            }
            // SAFETY: the text comes with its length; `data` belongs to `code`.
            let theirs = unsafe {
                find(code, text.as_ptr(), text.len(), 0, 0, data.cast::<c_void>(), null_mut())
            } > 0;
            let ours = operator.matches(&text, None, None);
            assert_eq!(ours, theirs, "{name}: {}", text.escape_ascii());
            matched += usize::from(theirs);
        }
        println!("{name}: 60000 texts, {matched} match");
        assert!(
            matched > 500 && matched < 59_500,
            "{name}: {matched} of 60000 match, which proves little"
        );
    }
}

#[test]
fn other_look_behinds_and_possessive_quantifiers_are_errors() {
    let mut none = |_: &str| Err(String::new());
    for pattern in ["(?<!a)b", "(?<=a)b", "a++b", "(a)\\1", "x(?!y)z"] {
        assert!(Operator::compile("rx", pattern.as_bytes(), &mut none).is_err(), "{pattern}");
    }
}
