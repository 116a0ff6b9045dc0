//! RE2's meaning where it differs from the matching crate's, and Go's replacement rules.

use super::Pattern;

fn compile(pattern: &str) -> Pattern {
    Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

fn replace(pattern: &str, text: &str, replacement: &str) -> Option<String> {
    compile(pattern).replace_all(text, replacement).unwrap()
}

/// Pattern, texts it matches, texts it does not.
type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

#[test]
fn means_what_re2_means() {
    let cases: &[Case] = &[
        ("", &["", "a"], &[]),
        ("a|b", &["xbx"], &["c"]),
        ("^a$", &["a"], &["a\n", "ba", "ab"]),
        ("(?m)^a$", &["b\na\nc"], &["ba"]),
        ("a.c", &["abc", "aéc"], &["a\nc"]),
        ("(?s)a.c", &["a\nc"], &["ac"]),
        ("(?i)straße", &["STRAßE"], &["STRASSE"]),
        ("(?i)k", &["\u{212a}"], &[]),
        ("(?i:a)b", &["Ab"], &["AB"]),
        ("a(?i)b|c", &["aB", "C"], &["AB"]),
        // ASCII classes, unlike the crate's.
        (r"^\d$", &["7"], &["٣"]),
        (r"^\w$", &["a", "_", "0"], &["é", "-"]),
        (r"^\W$", &["é", "-"], &["a"]),
        (r"^\s$", &[" ", "\t", "\n", "\r", "\u{c}"], &["\u{b}", "\u{a0}"]),
        (r"^[\s\d]+$", &["1 2"], &["a"]),
        (r"^[^\W_]+$", &["ab1"], &["a_b", "é"]),
        (r"^\D\S$", &["é!"], &["1!"]),
        (r"\bé", &["aé"], &["é"]),
        (r"a\Bb", &["ab"], &["a b"]),
        // Escapes that the crate reads otherwise or not at all.
        (r"\<a\>", &["<a>"], &["a"]),
        (r"\Q.*\E+", &[".*", ".**"], &["a", "."]),
        (r"\Q[a", &["[a"], &["a"]),
        (r"\_\-\/\ \%", &["_-/ %"], &[]),
        (r"^\x41\x{1F600}\101\0$", &["A😀A\0"], &[]),
        (r"\a\f\v\t", &["\u{7}\u{c}\u{b}\t"], &[]),
        (r"\Aab\z", &["ab"], &["ab\n", "cab"]),
        (r"^\pL\p{Greek}\PL\p{^L}$", &["éα1-"], &["1α1-"]),
        (r"^[\p{Lu}\P{L}]$", &["A", "1"], &["a"]),
        // Classes: nothing but brackets, ranges and escapes is special.
        (r"^[[a]$", &["[", "a"], &["b", "]"]),
        (r"^[]a]$", &["]", "a"], &["["]),
        (r"^[^]a]$", &["b"], &["]", "a"]),
        (r"^[a&&b]$", &["a", "&", "b"], &["c"]),
        (r"^[a~~b+--c]$", &["a", "~", "b", "+", ",", "-", "c"], &["d", "."]),
        (r"^[a\-c]$", &["a", "-", "c"], &["b"]),
        (r"^[-a]$", &["-", "a"], &["b"]),
        (r"^[a-]$", &["-", "a"], &["b"]),
        (r"^[[:alpha:]-z]$", &["q", "-", "Z"], &["1"]),
        (r"^[[:^digit:]]$", &["a"], &["1"]),
        (r"^[[:word:]]$", &["_"], &["é"]),
        (r"^[+-.]$", &["+", ",", "-", "."], &["/"]),
        (r"^[\x00-\x{10FFFF}]$", &["a", "\n"], &["ab"]),
        (r"^[^a]$", &["\n"], &["a"]),
        // Braces that are no repetition are text.
        (r"^a{2}$", &["aa"], &["a"]),
        (r"^a{1,2}?$", &["a", "aa"], &["aaa"]),
        (r"^a{2,}$", &["aaa"], &["a"]),
        (r"^a{,2}$", &["a{,2}"], &["aa"]),
        (r"^{x}a{b$", &["{x}a{b"], &[]),
        (r"^a{01}$", &["a{01}"], &["a"]),
        (r"^a{0}b$", &["b"], &["ab"]),
        (r"^x{1000}$", &[], &["x"]),
        (r"(?U)a+", &["aa"], &[]),
        (r"(?P<one>a)(?<2>b)", &["ab"], &[]),
        (r"(|a)*b", &["aab"], &["c"]),
        (r"#&~", &["#&~"], &[]),
        (r"a b", &["a b"], &["ab"]),
    ];
    let mut ran = 0;
    for (pattern, matching, other) in cases {
        let compiled = compile(pattern);
        for text in *matching {
            assert!(compiled.is_match(text), "{pattern} should match {text:?}");
            ran += 1;
        }
        for text in *other {
            assert!(!compiled.is_match(text), "{pattern} should not match {text:?}");
            ran += 1;
        }
    }
    assert!(ran >= 130, "only {ran} cases ran");
}

#[test]
fn refuses_what_re2_refuses_and_says_why() {
    let cases: &[(&str, &str)] = &[
        ("a(?=b)", "RE2 has no such group: `(?=` (look-ahead) (at character 2)"),
        ("(?!a)", "look-ahead"),
        ("(?<=a)b", "look-behind"),
        ("(?<!a)b", "look-behind"),
        ("(?>a)", "atomic"),
        (r"(a)\1", r"RE2 has no back-references: `\1` (at character 4)"),
        (r"\8", "back-references"),
        (r"(?P<a>x)(?P=a)", "back-reference"),
        ("(?#c)a", "comment"),
        ("(a", "missing `)` for this `(` (at character 1)"),
        ("a)", "unexpected `)` (at character 2)"),
        ("[a", "missing `]`"),
        ("[]", "missing `]`"),
        ("*a", "nothing to repeat before `*`"),
        ("a|*", "nothing to repeat"),
        ("(?i)+", "nothing to repeat"),
        ("a**", "`*` repeats a repetition"),
        ("a+*", "repeats a repetition"),
        ("a{2}{3}", "repeats a repetition"),
        ("a??+", "repeats a repetition"),
        ("a{1001}", "counts to 1000"),
        ("a{99999999999}", "counts to 1000"),
        ("a{1,1001}", "counts to 1000"),
        ("a{3,2}", "from 3 to 2"),
        ("[b-a]", "a range from `b` to `a`"),
        (r"[a-\d]", r"RE2 has no escape `\d`"),
        ("[[:nope:]]", "no class is named `[:nope:]`"),
        (r"\p{Nope}", "property"),
        ("(?i-s-m)a", "RE2 has no flag `-`"),
        (r"\p", "names no class"),
        (r"\p{L", "missing `}`"),
        (r"\u0041", r"RE2 has no escape `\u`"),
        (r"\Z", "no escape"),
        (r"\h", "no escape"),
        (r"\C", "no escape"),
        (r"a\", "ends in a backslash"),
        (r"\x4", "needs two digits"),
        (r"\x{}", "needs two digits"),
        (r"\x{110000}", "no such character"),
        ("(?x)a b", "RE2 has no flag `x`"),
        ("(?R)a", "RE2 has no flag `R`"),
        ("(?u)a", "RE2 has no flag `u`"),
        ("(?i-)a", "names no flag"),
        ("(?P<>a)", "a group's name"),
        ("(?P<a-b>a)", "a group's name"),
        ("(?P<a", "a group's name"),
        ("(?P<a>x)(?P<a>y)", "two groups are named `a`"),
        (r"(?:\pL{1000}){1000}", "compiles to more than"),
    ];
    for (pattern, part) in cases {
        let refusal = Pattern::new(pattern).expect_err(pattern).to_string();
        assert!(refusal.contains(part), "{pattern}: {refusal}");
        assert!(!refusal.contains('\n'), "{pattern}: {refusal}");
    }
    let refusal = Pattern::new(&"a".repeat(20_000)).unwrap_err().to_string();
    assert!(refusal.contains("at most 16384"), "{refusal}");
    let refusal = Pattern::new(&"(".repeat(5_000)).unwrap_err().to_string();
    assert!(refusal.contains("missing `)`"), "{refusal}");
    let nested = format!("{}a{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(Pattern::new(&nested).is_err());
}

/// traffic-policy.md §5.17: `Regexp.ReplaceAllString`.
#[test]
fn replaces_as_go_does() {
    let cases: &[(&str, &str, &str, Option<&str>)] = &[
        ("a", "banana", "o", Some("bonono")),
        ("x", "banana", "o", None),
        ("(n)(a)", "banana", "$2$1", Some("baanan")),
        ("(?P<first>a)", "ba", "[$first]", Some("b[a]")),
        ("(?P<first>a)", "ba", "[${first}x]", Some("b[ax]")),
        // $1x is the group named 1x.
        ("(a)", "ba", "<$1x>", Some("b<>")),
        ("(a)", "ba", "<${1}x>", Some("b<ax>")),
        ("(?P<1x>a)", "ba", "<$1x>", Some("b<a>")),
        ("(a)", "ba", "<$1_>", Some("b<>")),
        ("(a)", "ba", "<$1->", Some("b<a->")),
        ("a", "ba", "$0$0", Some("baa")),
        ("a", "ba", "$$1 $", Some("b$1 $")),
        ("a", "ba", "$-", Some("b$-")),
        ("a", "ba", "${", Some("b${")),
        ("a", "ba", "${}", Some("b${}")),
        ("a", "ba", "${1", Some("b${1")),
        ("a", "ba", "${a b}", Some("b${a b}")),
        ("a", "ba", "$7", Some("b")),
        ("a", "ba", "$01", Some("b")),
        ("(a)|(b)", "ab", "<$1|$2>", Some("<a|><|b>")),
        ("(a)", "ba", r"\1", Some(r"b\1")),
        // Empty matches: none right behind a match.
        ("a*", "baac", "x", Some("xbxcx")),
        ("", "éa", "-", Some("-é-a-")),
        ("$", "a", "!", Some("a!")),
        ("(?i)HTTP", "http://Http", "x", Some("x://x")),
        (
            "^(https?://[^/]+)/old/(.*)$",
            "https://a.example/old/b?c=d",
            "$1/new/$2",
            Some("https://a.example/new/b?c=d"),
        ),
        (
            "(?P<scheme>https?)://(?P<host>[^/]+)(?P<path>/v1)?(.*)",
            "http://h/v1/x",
            "$scheme://$host$path/new$4",
            Some("http://h/v1/new/x"),
        ),
    ];
    for (pattern, text, replacement, expected) in cases {
        assert_eq!(
            replace(pattern, text, replacement).as_deref(),
            *expected,
            "{pattern} {replacement}"
        );
    }
}

#[test]
fn a_result_has_a_longest_length() {
    let text = "a".repeat(1 << 20);
    let refusal = compile("a").replace_all(&text, &"b".repeat(64)).unwrap_err().to_string();
    assert!(refusal.contains("more than 16777216 bytes"), "{refusal}");
    assert_eq!(replace("a", &text, "bb").unwrap().len(), 2 << 20);
}

#[test]
fn finds_the_leftmost_matches_up_to_a_limit() {
    let pattern = compile(r"\d+");
    assert_eq!(pattern.find_all("a1 b22 c333", 10), ["1", "22", "333"]);
    assert_eq!(pattern.find_all("a1 b22 c333", 2), ["1", "22"]);
    assert!(pattern.find_all("abc", 10).is_empty());
    assert!(pattern.find_all("1", 0).is_empty());
}

/// T-67: patterns that make a backtracking engine run for ever take linear time.
#[test]
fn takes_linear_time() {
    let text = format!("{}!", "a".repeat(100_000));
    for pattern in ["(a+)+$", "^(a|a)*$", "(a|aa)+$", "(.*a){12}$", "([a-z]+)*x"] {
        let compiled = compile(pattern);
        let start = std::time::Instant::now();
        assert!(!compiled.is_match(&text), "{pattern}");
        assert!(start.elapsed().as_secs() < 5, "{pattern}: {:?}", start.elapsed());
    }
}
