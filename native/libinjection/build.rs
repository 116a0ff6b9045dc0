//! Turns the JSON tables in `data/` into static hash tables, so that nothing is built or allocated at run time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

include!("src/hash.rs");

fn read<T: serde_json_value::FromValue>(name: &str) -> T {
    let path = format!("data/{name}");
    println!("cargo:rerun-if-changed={path}");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    T::from_value(value)
}

/// The few shapes that the tables have.
mod serde_json_value {
    use std::collections::BTreeMap;

    use serde_json::Value;

    pub trait FromValue {
        fn from_value(value: Value) -> Self;
    }

    impl FromValue for Value {
        fn from_value(value: Value) -> Self {
            value
        }
    }

    impl FromValue for String {
        fn from_value(value: Value) -> Self {
            value.as_str().expect("a string").to_owned()
        }
    }

    impl<T: FromValue> FromValue for Vec<T> {
        fn from_value(value: Value) -> Self {
            let Value::Array(items) = value else { panic!("an array is expected") };
            items.into_iter().map(T::from_value).collect()
        }
    }

    impl<T: FromValue> FromValue for BTreeMap<String, T> {
        fn from_value(value: Value) -> Self {
            let Value::Object(items) = value else { panic!("an object is expected") };
            items.into_iter().map(|(key, item)| (key, T::from_value(item))).collect()
        }
    }
}

fn keywords(out: &mut String) {
    let table: BTreeMap<String, String> = read("sql-keywords.json");
    let mut slots = vec![0u16; KEYWORD_SLOTS];
    let mut lengths = [0u32; 128];
    writeln!(out, "static KEYWORDS: [Keyword; {}] = [", table.len()).unwrap();
    for (index, (text, kind)) in table.iter().enumerate() {
        assert!(text.len() < KEYWORD_WIDTH && kind.len() == 1, "keyword {text}");
        let mut key = [0u8; KEYWORD_WIDTH];
        key[..text.len()].copy_from_slice(text.as_bytes());
        lengths[usize::from(key[0])] |= 1 << text.len();
        let mut slot = keyword_slot(&key);
        while slots[slot] != 0 {
            slot = (slot + 1) % KEYWORD_SLOTS;
        }
        slots[slot] = u16::try_from(index + 1).unwrap();
        writeln!(out, "Keyword {{ text: {key:?}, kind: {} }},", kind.as_bytes()[0]).unwrap();
    }
    writeln!(out, "];").unwrap();
    writeln!(out, "static KEYWORD_INDEX: [u16; {KEYWORD_SLOTS}] = {slots:?};").unwrap();
    writeln!(out, "static KEYWORD_LENGTHS: [u32; 128] = {lengths:?};").unwrap();
}

fn fingerprints(out: &mut String) {
    let table: Vec<String> = read("sql-fingerprints.json");
    let mut codes = [0u8; 256];
    let mut next = 1;
    for &letter in table.iter().flat_map(|text| text.as_bytes()) {
        if codes[usize::from(letter)] == 0 {
            codes[usize::from(letter)] = next;
            next += 1;
        }
    }
    assert!(next <= 32, "five bits a letter");
    let mut slots = vec![0u32; FINGERPRINT_SLOTS];
    for text in &table {
        assert!((1..=5).contains(&text.len()), "fingerprint {text}");
        let pack = |packed, letter: &u8| packed << 5 | u32::from(codes[usize::from(*letter)]);
        let packed = text.as_bytes().iter().fold(0u32, pack);
        let mut slot = fingerprint_slot(packed);
        while slots[slot] != 0 {
            slot = (slot + 1) % FINGERPRINT_SLOTS;
        }
        slots[slot] = packed;
    }
    // Looked up in any case: a type letter and its capital share a code.
    for letter in b'a'..=b'z' {
        codes[usize::from(letter)] = codes[usize::from(letter.to_ascii_uppercase())];
    }
    writeln!(out, "static FINGERPRINT_CODES: [u8; 256] = {codes:?};").unwrap();
    writeln!(out, "static FINGERPRINTS: [u32; {FINGERPRINT_SLOTS}] = {slots:?};").unwrap();
}

fn dispatch(out: &mut String) {
    let table: Vec<String> = read("char-dispatch.json");
    assert_eq!(table.len(), 256, "one reader for each byte");
    writeln!(out, "pub(crate) static DISPATCH: [Reader; 256] = [").unwrap();
    for name in &table {
        let variant = match name.as_str() {
            "white" => "White",
            "op1" => "OperatorOne",
            "op2" => "OperatorTwo",
            "char" => "Single",
            "hash" => "Hash",
            "dash" => "Dash",
            "slash" => "Slash",
            "backslash" => "Backslash",
            "string" => "Text",
            "tick" => "Tick",
            "money" => "Money",
            "var" => "Variable",
            "bword" => "BracketWord",
            "other" => "Other",
            "number" => "Number",
            "bstring" => "BinaryString",
            "estring" => "EscapeString",
            "nqstring" => "NationalString",
            "qstring" => "QuoteString",
            "ustring" => "UnicodeString",
            "xstring" => "HexString",
            "word" => "Word",
            _ => panic!("reader {name}"),
        };
        writeln!(out, "Reader::{variant},").unwrap();
    }
    writeln!(out, "];").unwrap();
}

fn xss(out: &mut String) {
    let table: BTreeMap<String, serde_json::Value> = read("xss-tables.json");
    let list =
        |key: &str| -> Vec<String> { serde_json_value::FromValue::from_value(table[key].clone()) };
    let kinds = |key: &str| -> BTreeMap<String, String> {
        serde_json_value::FromValue::from_value(table[key].clone())
    };
    let bytes =
        |texts: &[String]| -> String { texts.iter().map(|text| format!("b{text:?}, ")).collect() };
    let kind = |name: &str| match name {
        "black" => "AttributeKind::Black",
        "url" => "AttributeKind::Url",
        "style" => "AttributeKind::Style",
        "indirect" => "AttributeKind::Indirect",
        _ => panic!("attribute kind {name}"),
    };

    let mut tags = list("tags");
    tags.sort();
    writeln!(out, "pub(crate) static TAGS: &[&[u8]] = &[{}];", bytes(&tags)).unwrap();
    let prefixes = bytes(&list("tag_prefixes"));
    writeln!(out, "pub(crate) static TAG_PREFIXES: &[&[u8]] = &[{prefixes}];").unwrap();
    for (name, key) in [("ATTRIBUTES", "attributes"), ("ATTRIBUTE_PREFIXES", "attribute_prefixes")]
    {
        writeln!(out, "pub(crate) static {name}: &[(&[u8], AttributeKind)] = &[").unwrap();
        for (text, name) in kinds(key) {
            writeln!(out, "(b{text:?}, {}),", kind(&name)).unwrap();
        }
        writeln!(out, "];").unwrap();
    }
    // The events are tested as prefixes: one that another begins decides for both.
    let mut events = list("events");
    events.sort();
    let mut shortest: Vec<String> = Vec::new();
    for event in events {
        if !shortest.last().is_some_and(|last| event.starts_with(last.as_str())) {
            shortest.push(event);
        }
    }
    writeln!(out, "pub(crate) static EVENTS: &[&[u8]] = &[{}];", bytes(&shortest)).unwrap();
    let schemes = bytes(&list("url_schemes"));
    writeln!(out, "pub(crate) static URL_SCHEMES: &[&[u8]] = &[{schemes}];").unwrap();
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/hash.rs");
    let mut out = String::new();
    keywords(&mut out);
    fingerprints(&mut out);
    dispatch(&mut out);
    xss(&mut out);
    let folder = env::var("OUT_DIR").expect("cargo names the output folder");
    fs::write(Path::new(&folder).join("tables.rs"), out).expect("the output folder is writable");
}
