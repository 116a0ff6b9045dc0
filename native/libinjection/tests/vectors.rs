//! libinjection's own test cases: `test-tokens-*`, `test-folding-*`, `test-sqli-*`, `test-html5-*`, `test-xss-*`.
//!
//! The folder comes from `SALLYPORT_LIBINJECTION_VECTORS`, by default `shared/libinjection-vectors` beside the checkout;
//! without it the test says so and passes.

use std::path::PathBuf;
use std::{env, fs};

use sallyport_libinjection::html::{Context, TokenKind, Tokenizer as HtmlTokenizer};
use sallyport_libinjection::sqli::{fold, Dialect, Quote, Token, Tokenizer};
use sallyport_libinjection::{sqli, xss};

/// Below this many passed cases of the shared folder something is wrong with the run itself.
const FLOOR: usize = 326;

fn folder() -> (PathBuf, usize) {
    match env::var_os("SALLYPORT_LIBINJECTION_VECTORS") {
        Some(folder) => (folder.into(), 1),
        None => {
            let beside =
                concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/libinjection-vectors");
            (beside.into(), FLOOR)
        }
    }
}

fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [head @ .., last] = text {
        if !last.is_ascii_whitespace() && *last != 0x0B {
            break;
        }
        text = head;
    }
    text
}

fn position(text: &[u8], mark: &[u8]) -> Option<usize> {
    text.windows(mark.len()).position(|window| window == mark)
}

/// (input, expected) of a file.
fn parse(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    const INPUT: &[u8] = b"--INPUT--\n";
    const EXPECTED: &[u8] = b"--EXPECTED--";
    let input = position(file, INPUT).expect("an input") + INPUT.len();
    let expected = input + position(&file[input..], EXPECTED).expect("an expected text");
    let after = &file[expected + EXPECTED.len()..];
    let after = after.strip_prefix(b"\n").unwrap_or(after);
    (trim_end(&file[input..expected]).to_vec(), trim_end(after).to_vec())
}

fn print(token: &Token, out: &mut Vec<u8>) {
    out.push(token.kind);
    out.push(b' ');
    if matches!(token.kind, b's' | b'v') {
        out.extend(std::iter::repeat_n(b'@', usize::from(token.count)));
        out.extend(Some(token.open).filter(|&quote| quote != 0));
        out.extend(token.value());
        out.extend(Some(token.close).filter(|&quote| quote != 0));
    } else {
        out.extend(token.value());
    }
    out.push(b'\n');
}

fn html_name(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::DataText => "DATA_TEXT",
        TokenKind::TagNameOpen => "TAG_NAME_OPEN",
        TokenKind::TagNameClose => "TAG_NAME_CLOSE",
        TokenKind::TagNameSelfclose => "TAG_NAME_SELFCLOSE",
        TokenKind::TagClose => "TAG_CLOSE",
        TokenKind::AttrName => "ATTR_NAME",
        TokenKind::AttrValue => "ATTR_VALUE",
        TokenKind::TagComment => "TAG_COMMENT",
        TokenKind::Doctype => "DOCTYPE",
    }
}

fn run(prefix: &str, input: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match prefix {
        "tokens" => {
            let mut tokenizer = Tokenizer::new(input, Quote::None, Dialect::Ansi);
            while let Some(token) = tokenizer.next_token() {
                print(&token, &mut out);
            }
        }
        "folding" => {
            let mut tokenizer = Tokenizer::new(input, Quote::None, Dialect::Ansi);
            for token in fold(&mut tokenizer).tokens() {
                print(token, &mut out);
            }
        }
        "sqli" => out.extend(sqli(input).iter().flat_map(|print| print.to_vec())),
        "html5" => {
            for token in HtmlTokenizer::new(input, Context::Data) {
                out.extend(format!("{},{},", html_name(token.kind), token.text.len()).bytes());
                out.extend(token.text);
                out.push(b'\n');
            }
        }
        "xss" => out.push(if xss(input) { b'1' } else { b'0' }),
        _ => return None,
    }
    Some(trim_end(&out).to_vec())
}

#[test]
fn libinjection_vectors() {
    let (folder, floor) = folder();
    let Ok(entries) = fs::read_dir(&folder) else {
        println!("skipped: no folder {}", folder.display());
        return;
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("test-") && name.ends_with(".txt"))
        .collect();
    names.sort();

    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for name in &names {
        let prefix = name["test-".len()..].split('-').next().unwrap_or_default();
        let (input, expected) = parse(&fs::read(folder.join(name)).expect("a readable file"));
        match run(prefix, &input) {
            None => {
                skipped += 1;
                println!("left out: {name}: nothing runs this prefix");
            }
            Some(actual) if actual == expected => passed += 1,
            Some(actual) => {
                failed += 1;
                let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
                println!("FAILED {name}\n  input    {}", text(&input));
                println!("  expected {}\n  actual   {}", text(&expected), text(&actual));
            }
        }
    }
    println!("libinjection vectors: {passed} passed, {failed} failed, {skipped} skipped");
    assert_eq!(failed, 0);
    assert!(passed >= floor, "{passed} passed, at least {floor} expected");
}
