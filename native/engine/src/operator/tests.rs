//! Cases of our own for every operator; section numbers are those of `seclang.md`.

use super::{Captures, Evidence, Operator, OperatorError};

fn compile_with(name: &str, argument: &[u8], file: &[u8]) -> Result<Operator, OperatorError> {
    Operator::compile(name, argument, &mut |path| {
        if path == "list.data" {
            Ok(file.to_vec())
        } else {
            Err(format!("no file {path}"))
        }
    })
}

fn compile(name: &str, argument: &[u8]) -> Operator {
    compile_with(name, argument, b"").unwrap_or_else(|error| panic!("@{name}: {error}"))
}

#[track_caller]
fn check(name: &str, argument: &[u8], matching: &[&[u8]], other: &[&[u8]]) {
    let operator = compile(name, argument);
    for (values, expected) in [(matching, true), (other, false)] {
        for value in values {
            let text = value.escape_ascii();
            assert_eq!(operator.matches(value, None, None), expected, "@{name} on {text}");
            let mut captures = Captures::default();
            let with_captures = operator.matches(value, None, Some(&mut captures));
            assert_eq!(with_captures, expected, "@{name} with captures on {text}");
        }
    }
}

/// The groups up to the last one set.
fn groups(operator: &Operator, value: &[u8]) -> Vec<Option<String>> {
    let mut captures = Captures::default();
    captures.groups[9] = Some(b"left from before".to_vec());
    assert!(operator.matches(value, None, Some(&mut captures)));
    let text = |group: &Option<Vec<u8>>| {
        group.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let mut groups: Vec<_> = captures.groups.iter().map(text).collect();
    while groups.last() == Some(&None) {
        groups.pop();
    }
    groups
}

fn phrases(operator: &Operator) -> &[Vec<u8>] {
    match operator.evidence() {
        Evidence::Phrases(phrases) => phrases,
        _ => panic!("no phrases"),
    }
}

#[test]
fn section_7_1_names() {
    assert!(compile_with("ENDSWITH", b"x", b"").is_ok());
    assert_eq!(compile_with("nonsense", b"", b"").unwrap_err(), OperatorError::Unknown);
    for name in ["inspectFile", "geolookup", "rbl", "fuzzyHash", "verifyCC", "validateSchema"] {
        let error = compile_with(name, b"x", b"").unwrap_err();
        assert!(matches!(error, OperatorError::Unsupported(_)), "{name}: {error}");
    }
    check("unconditionalMatch", b"", &[b"", b"x"], &[]);
    check("noMatch", b"", &[], &[b"", b"x"]);
}

#[test]
fn section_7_2_rx_follows_v2() {
    // Dot matches newline; anchors see only the ends, and $ not before a final newline.
    check("rx", b"^a.c$", &[b"abc", b"a\nc"], &[b"abc\n", b"x\nabc", b"abc\nx"]);
    check("rx", b"", &[b"", b"x"], &[]);
    // Bytes, never characters.
    check("rx", b"^.{2}$", &["é".as_bytes(), b"ab"], &[b"a"]);
    check("rx", b"(?i)^k$", &[b"K"], &["\u{212A}".as_bytes()]);
    check("rx", b"\\x{bc}", &[b"a\xBC"], &["\u{BC}".as_bytes().split_at(1).0]);
    check("rx", "^[é]+$".as_bytes(), &[b"\xC3", b"\xA9\xC3"], &[b"e"]);
    check("rx", b"a\\s\\d\\wb", &[b"a\x0b1_b"], &[b"a\x851_b"]);
}

#[test]
fn section_7_2_rx_captures() {
    let host = compile("rx", b"^(https?)://(www\\.)?([a-z.]+)(/x)?");
    let expected = ["http://a.b", "http", "", "a.b"].map(|text| Some(text.to_owned()));
    assert_eq!(groups(&host, b"http://a.b/y"), expected);
    // Leftmost-first, as a backtracking engine finds it.
    assert_eq!(groups(&compile("rx", b"a|ab"), b"xab"), [Some("a".to_owned())]);
    assert_eq!(groups(&compile("rx", b"^.*$"), b""), [Some(String::new())]);
    let eleven = compile("rx", b"(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)");
    assert_eq!(groups(&eleven, b"abcdefghijk").len(), 10);
}

#[test]
fn section_7_2_rx_spells_pcre_as_pcre_means_it() {
    check("rx", b"^a{b}{$", &[b"a{b}{"], &[]);
    check("rx", b"^[[a]&&b]$", &[b"[&&b]", b"a&&b]"], &[b"a", b"b"]);
    check("rx", b"^[a-\\d-z]+$", &[b"a-5z"], &[b"b"]);
    check("rx", b"^[]x-]+$", &[b"]-x"], &[b"y"]);
    check("rx", b"^[+--]$", &[b"+", b",", b"-"], &[b"."]);
    check("rx", b"^[a~~b]$", &[b"~", b"a"], &[b"c"]);
    check("rx", b"^[[:alpha:][:^digit:]]$", &[b"a", b"-"], &[b"1"]);
    check("rx", b"^\\<b\\>$", &[b"<b>"], &[b"b"]);
    check("rx", b"^\\h\\v\\N$", &[b"\xA0\x85x", b"\t\rx"], &[b" \n\n", b"\x0b\x0bx"]);
    check("rx", b"^[\\H]$", &[b"a"], &[b" "]);
    check("rx", b"^\\e\\cA\\012\\0[\\b\\1]$", &[b"\x1b\x01\n\0\x08", b"\x1b\x01\n\0\x01"], &[]);
    check("rx", b"^\\x4\\x$", &[b"\x04\0"], &[]);
    check("rx", b"^a(?#note)b(?i:C)(?<n>d)$", &[b"abcd"], &[b"abcD"]);
    check("rx", b"a\\b{1}", &[b"a b"], &[b"ab"]);
}

#[test]
fn section_7_2_rx_takes_a_fixed_look_ahead_at_the_end() {
    check("rx", b"<\\?(?!xml)", &[b"<?", b"<?x", b"<?xm", b"<?xmL", b"<?xml<?"], &[b"<?xml", b"<"]);
    check("rx", b"(?i)a+(?!b[cd])", &[b"aab", b"ABe", b"aabc"], &[b"abc", b"ABD"]);
    check("rx", b"a(?=\\d[^x])", &[b"a1y"], &[b"a1", b"a1x"]);
    let operator = compile("rx", b"(a+)(?!b)");
    assert_eq!(groups(&operator, b"aab"), ["a", "a"].map(|text| Some(text.to_owned())));
    assert_eq!(groups(&operator, b"aa"), ["aa", "aa"].map(|text| Some(text.to_owned())));
}

#[test]
fn section_7_2_rx_names_what_it_cannot_run() {
    for (pattern, construct) in [
        (&b"a(?=b)c"[..], "look-ahead"),
        (b"a(?!b+)", "look-ahead"),
        (b"a|b(?!c)", "look-ahead"),
        (b"(a(?!b))", "look-ahead"),
        (b"(?<=a)b", "look-behind"),
        (b"(?<!a)b", "look-behind"),
        (b"(a)\\1", "back-reference"),
        (b"(?<n>a)\\k<n>", "back-reference"),
        (b"(?P<n>a)(?P=n)", "back-reference"),
        (b"(?>a)b", "atomic"),
        (b"a++", "possessive"),
        (b"a{2}+", "possessive"),
        (b"(?(1)a|b)", "conditional"),
        (b"(?R)", "recursion"),
        (b"(?-1)", "recursion"),
        (b"(?|a|b)", "branch reset"),
        (b"(*UTF)a", "verb"),
        (b"a\\Kb", "\\K"),
        (b"\\p{L}", "\\p"),
        (b"(?x)a b", "extended"),
        (b"\\Qa.b\\E", "quoting"),
        (b"[[=a=]]", "collating"),
        (b"a{,2}", "{,n}"),
    ] {
        match compile_with("rx", pattern, b"") {
            Err(OperatorError::Unsupported(reason)) => {
                assert!(reason.contains(construct), "{reason} should name {construct}");
            }
            other => panic!("{}: {other:?}", pattern.escape_ascii()),
        }
    }
    let broken: [&[u8]; 9] =
        [b"(", b")", b"[a", b"a**", b"\\", b"\\x{100}", b"[z-a]", b"\\y", b"*a"];
    for pattern in broken {
        let error = compile_with("rx", pattern, b"").unwrap_err();
        assert!(matches!(error, OperatorError::Argument(_)), "{}", pattern.escape_ascii());
    }
}

#[test]
fn section_7_3_pm() {
    check("pm", b"abc def", &[b"xABCx", b"DeF"], &[b"", b"ab", b"de f"]);
    check("pm", b"\"two words\"", &[b"words"], &[b"x"]);
    check("pm", b"a|62 63|d \\:\\;\\\"\\\\", &[b"abcd", b":;\"\\"], &[b"a"]);
    check("pm", b"", &[], &[b"", b"x"]);
    for wrong in [&b"a|4"[..], b"|4|", b"|zz|", b"\\n"] {
        assert!(compile_with("pm", wrong, b"").is_err(), "{}", wrong.escape_ascii());
    }
    let operator = compile("pm", b"Select union lect x");
    assert_eq!(phrases(&operator).len(), 4);
    // First to end, the longest of those, as the list spells it.
    assert_eq!(groups(&operator, b"UNION SELECT"), [Some("union".to_owned())]);
    assert_eq!(groups(&operator, b"a SELECT union"), [Some("Select".to_owned())]);
}

#[test]
fn section_7_3_pm_from_file() {
    let file = b"# comment\n\nfoo bar\r\n leading\na\\b|c\n";
    let operator = compile_with("pmFromFile", b"list.data", file).unwrap();
    assert_eq!(phrases(&operator), [&b"foo bar"[..], b" leading", b"a\\b|c"]);
    assert!(operator.matches(b"xFOO BARx", None, None));
    assert!(operator.matches(b"A\\B|C", None, None));
    assert!(!operator.matches(b"leading", None, None));
    assert!(!operator.matches(b"# comment", None, None));
    let two = compile_with("pmf", b"list.data list.data", file).unwrap();
    assert_eq!(phrases(&two).len(), 6);
    assert!(matches!(
        compile_with("pmFromFile", b"other.data", b""),
        Err(OperatorError::Argument(reason)) if reason.contains("other.data")
    ));
    assert!(compile_with("pmFromFile", b"", b"").is_err());
    assert!(matches!(
        compile_with("pmFromFile", b"https://example.org/x", b""),
        Err(OperatorError::Unsupported(_))
    ));
}

#[test]
fn section_7_3_text() {
    check("within", b"GET POST", &[b"", b"GET", b"T P"], &[b"get", b"PUT"]);
    check("contains", b"b\0", &[b"ab\0"], &[b"ab", b""]);
    check("contains", b"", &[b"", b"x"], &[]);
    check("beginsWith", b"ab", &[b"abc"], &[b"ABC", b"a"]);
    check("endsWith", b"bc", &[b"abc"], &[b"bcd"]);
    check("streq", b"ab", &[b"ab"], &[b"abc", b"AB", b""]);
    check("strmatch", b"%{b}", &[b"a%{b}"], &[b"b"]);
    check("containsWord", b"ab", &[b"ab", b"x ab", b"xab.ab!", b"1ab_"], &[b"xab", b"abx", b""]);
    check("containsWord", b"aa", &[b"aaa aa"], &[b"aaa"]);
}

#[test]
fn section_10_3_macros_are_left_to_the_caller() {
    for name in
        ["within", "contains", "beginsWith", "endsWith", "streq", "eq", "ge", "gt", "le", "lt"]
    {
        assert_eq!(compile(name, b"5").argument_template(), None, "{name}");
        let operator = compile(name, b"%{tx.a}");
        assert_eq!(operator.argument_template(), Some(&b"%{tx.a}"[..]), "{name}");
    }
    assert!(compile("within", b"%{tx.a}").matches(b"GET", Some(b"GET POST"), None));
    assert!(!compile("contains", b"%{tx.a}").matches(b"GET", Some(b"x"), None));
    assert!(compile("gt", b"%{tx.a}").matches(b"10", Some(b"9"), None));
}

#[test]
fn section_7_3_numbers_are_read_as_atoi_does() {
    check("eq", b"12", &[b"12", b" +12abc", b"\t012"], &[b"-12", b"1 2", b""]);
    check("eq", b"x", &[b"0", b"", b"abc", b"-"], &[b"1"]);
    check("ge", b"5", &[b"5", b"99999999999999999999999"], &[b"4", b"-6"]);
    check("gt", b"-2", &[b"-1", b""], &[b"-2", b"-99999999999999999999999"]);
    check("le", b"5", &[b"5", b"-5"], &[b"6"]);
    check("lt", b"5", &[b"4"], &[b"5"]);
}

#[test]
fn section_7_3_ip_match() {
    check(
        "ipMatch",
        b"127.0.0.1, 10.1.2.3/8,::1,2001:db8::/33,0.0.0.0/32",
        &[b"127.0.0.1", b"10.255.0.1", b"::1", b"2001:DB8:7fff::1", b"0.0.0.0"],
        &[b"127.0.0.2", b"11.0.0.0", b"::2", b"2001:db8:8000::1", b"", b"x", b"10.1.2", b"::1 "],
    );
    check("ipMatch", b"0.0.0.0/0", &[b"255.255.255.255"], &[b"::1"]);
    check("ipMatch", b"::/0", &[b"ffff::"], &[b"1.2.3.4"]);
    for wrong in [&b"10.0.0.0/33"[..], b"::1/129", b"host", b"10.0.0.0/x", b"1.2.3.4,,"] {
        assert!(compile_with("ipMatch", wrong, b"").is_err(), "{}", wrong.escape_ascii());
    }
    let file = b"# nets\n10.0.0.0/8 # private\n\n::1\n";
    let operator = compile_with("ipMatchFromFile", b"list.data", file).unwrap();
    assert!(operator.matches(b"10.9.8.7", None, None));
    assert!(operator.matches(b"::1", None, None));
    assert!(!operator.matches(b"11.0.0.0", None, None));
}

#[test]
fn section_7_3_validation() {
    check("validateByteRange", b"10, 13,32-126", &[b"\0", b"ab\x7F"], &[b"", b"a\r\n~ "]);
    check("validateByteRange", b"0-255", &[], &[b"\0\xFF"]);
    for wrong in [&b"256"[..], b"9-1", b"0-999999999999"] {
        assert!(compile_with("validateByteRange", wrong, b"").is_err(), "{}", wrong.escape_ascii());
    }
    check("validateUrlEncoding", b"", &[b"%", b"a%4", b"%4g", b"%%41"], &[b"", b"a", b"%41%fF"]);
    check(
        "validateUtf8Encoding",
        b"",
        &[
            b"\x80",
            b"\xC3",
            b"\xC0\xAF",
            b"\xE0\x80\xAF",
            b"\xED\xA0\x80",
            b"\xF4\x90\x80\x80",
            b"\xF5",
        ],
        &[b"", b"a\0", "é€😀".as_bytes()],
    );
}

#[test]
fn section_7_4_libinjection() {
    check("detectSQLi", b"", &[b"1' OR '1'='1"], &[b"", b"select a plan"]);
    assert_eq!(groups(&compile("detectSQLi", b""), b"1' OR '1'='1"), [Some("s&sos".to_owned())]);
    check("detectXSS", b"", &[b"<script>", b"' onclick=x"], &[b"", b"<b onfoo=1>"]);
    assert_eq!(groups(&compile("detectXSS", b""), b"a<script>"), [Some("a<script>".to_owned())]);
}

#[test]
fn a_gate_can_read_patterns() {
    let operator = compile("rx", b"(?i)a\\x{bc}");
    let Evidence::Pattern(pattern) = operator.evidence() else { panic!("no pattern") };
    let mut parser = regex_syntax::ParserBuilder::new();
    let parser = parser.unicode(false).utf8(false).dot_matches_new_line(true);
    assert!(parser.build().parse(pattern).is_ok(), "{pattern}");
    assert_eq!(phrases(&compile("streq", b"a")), [b"a"]);
    assert!(matches!(compile("streq", b"%{tx.a}").evidence(), Evidence::None));
    assert!(matches!(compile("within", b"a").evidence(), Evidence::None));
}
