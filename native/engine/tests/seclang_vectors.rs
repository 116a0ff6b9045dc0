//! Engine-level vectors: ModSecurity's unit tests (`secrules-language-tests`) and Coraza's (`coraza`), operators and
//! transformations, one case each.
//!
//! The folder comes from `SALLYPORT_SECLANG_VECTORS`, by default `shared/seclang-vectors` beside the checkout; without it
//! the test says so and passes. Operators that the engine refuses by name are skipped and counted. Where the two families
//! disagree ModSecurity is right: the other family's case is superseded and printed, and those of the shared folder stand in
//! `seclang_vectors_exceptions.json` with their reasons.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use sallyport_engine::operator::{Captures, Operator, OperatorError};
use sallyport_engine::transformation::{Transformation, TransformationContext, UnicodeMap};
use serde_json::Value;

/// Fewer passed cases of the shared folder than this: something is wrong with the run itself.
const FLOOR: usize = 8_000;

/// Families that hold single cases; the others in the folder hold whole transactions.
const FAMILIES: [&str; 2] = ["secrules-language-tests", "coraza"];

/// A case that is allowed to differ.
struct Exception {
    family: String,
    name: String,
    input: String,
    param: Option<String>,
}

fn exceptions() -> Vec<Exception> {
    let text = include_str!("seclang_vectors_exceptions.json");
    let list: Vec<Value> = serde_json::from_str(text).expect("the exceptions are an array");
    let string = |item: &Value, key: &str| item[key].as_str().map(str::to_owned);
    list.iter()
        .map(|item| {
            assert!(string(item, "reason").is_some_and(|reason| reason.len() > 20), "{item}");
            Exception {
                family: string(item, "family").expect("a family"),
                name: string(item, "name").expect("a name"),
                input: string(item, "input").expect("an input"),
                param: string(item, "param"),
            }
        })
        .collect()
}

/// How a case's JSON text becomes bytes. The files were written for several loaders; a case counts by the first reading
/// that it fits, and those that need another than the first are counted apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// UTF-8, then every literal `\xHH` and `\uHHHH` is one byte, the low eight bits.
    Utf8,
    /// The same, and `\x` takes any two letters or digits: as much of them as is hexadecimal. ModSecurity's loader does so.
    LenientEscapes,
    /// Characters up to FF are single bytes.
    SingleBytes,
}

const READINGS: [Reading; 3] = [Reading::Utf8, Reading::LenientEscapes, Reading::SingleBytes];

impl Reading {
    fn bytes(self, text: &Value) -> Vec<u8> {
        let text = text.as_str().unwrap_or_default();
        let raw = match self {
            Reading::SingleBytes if text.chars().all(|character| u32::from(character) <= 0xFF) => {
                text.chars().map(|character| character as u8).collect()
            }
            _ => text.as_bytes().to_vec(),
        };
        self.replace(&self.replace(&raw, b'x', 2), b'u', 4)
    }

    fn replace(self, text: &[u8], letter: u8, width: usize) -> Vec<u8> {
        let taken = |byte: &u8| match self {
            Reading::LenientEscapes => byte.is_ascii_alphanumeric(),
            _ => byte.is_ascii_hexdigit(),
        };
        let mut output = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            if let (b'\\', Some((&mark, digits))) = (byte, after.split_first()) {
                if mark == letter && digits.len() >= width && digits[..width].iter().all(taken) {
                    let number = digits[..width].iter().map_while(|&b| char::from(b).to_digit(16));
                    output.push(number.fold(0, |number, digit| number << 4 | digit) as u8);
                    rest = &digits[width..];
                    continue;
                }
            }
            output.push(byte);
            rest = after;
        }
        output
    }
}

fn json_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            json_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
}

enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// A data file lies beside the case file, in its folder `op`, whatever folder the case writes before its name.
fn load(case_file: &Path, name: &str) -> Result<Vec<u8>, String> {
    let folder = case_file.parent().unwrap_or(Path::new("."));
    let base = Path::new(name).file_name().unwrap_or_default();
    let places = [folder.join(name), folder.join("op").join(base), folder.join(base)];
    let found = places.iter().find_map(|place| fs::read(place).ok());
    found.ok_or_else(|| format!("no file {name}"))
}

fn run_operator(case: &Value, case_file: &Path, reading: Reading) -> Outcome {
    let name = case["name"].as_str().unwrap_or_default();
    let param = reading.bytes(&case["param"]);
    let input = reading.bytes(&case["input"]);
    let operator = match Operator::compile(name, &param, &mut |path| load(case_file, path)) {
        Ok(operator) => operator,
        Err(OperatorError::Unsupported(reason)) if name == "rx" => {
            return Outcome::Skipped(format!("@rx refused at load: {reason}"));
        }
        Err(OperatorError::Unknown | OperatorError::Unsupported(_)) => {
            return Outcome::Skipped(format!("@{name}"));
        }
        // An argument that does not compile can match nothing.
        Err(error) if case["ret"] == 0 => {
            return Outcome::Skipped(format!(
                "@{name} argument refused at load, no match expected: {error}"
            ));
        }
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let mut captures = Captures::default();
    let matched = operator.matches(&input, None, Some(&mut captures));
    if Some(i64::from(matched)) != case["ret"].as_i64() {
        return Outcome::Failed(format!("matched: {matched}"));
    }
    // ModSecurity v3 lists the groups that took part, and only those, so empty ones are left out on both sides.
    if let Some(groups) = case["re_groups"].as_array().filter(|_| name == "rx") {
        let expected: Vec<_> = groups.iter().map(|group| reading.bytes(group)).collect();
        let actual: Vec<_> = captures.groups.into_iter().flatten().collect();
        let filled = |list: Vec<Vec<u8>>| list.into_iter().filter(|group| !group.is_empty());
        if !filled(expected).take(10).eq(filled(actual.clone())) {
            return Outcome::Failed(format!("groups: {actual:?}"));
        }
    }
    Outcome::Passed
}

fn run_transformation(case: &Value, context: &TransformationContext, reading: Reading) -> Outcome {
    // Some case names carry a suffix that numbers them.
    let name = case["name"].as_str().unwrap_or_default();
    let name = name.split('-').next().unwrap_or_default();
    let Some(transformation) = Transformation::from_name(name) else {
        return Outcome::Skipped(format!("t:{name}"));
    };
    let input = reading.bytes(&case["input"]);
    let expected = reading.bytes(&case["output"]);
    let output = transformation.apply(&input, context);
    assert_ne!(output.as_deref(), Some(&input[..]), "Some means changed");
    let output = output.unwrap_or(input);
    if output == expected {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("output: {}", output.escape_ascii()))
    }
}

/// What a case asks, whichever family it is from.
fn question(case: &Value) -> String {
    let parts = ["type", "name", "input", "param"].map(|key| &case[key]);
    format!("{parts:?}")
}

/// What a case expects.
fn answer(case: &Value) -> Value {
    let key = if case["type"] == "op" { "ret" } else { "output" };
    case[key].clone()
}

#[test]
fn seclang_vectors() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/seclang-vectors");
    let (root, floor) = match env::var_os("SALLYPORT_SECLANG_VECTORS") {
        Some(folder) => (PathBuf::from(folder), 1),
        None => (PathBuf::from(beside), FLOOR),
    };
    if !root.is_dir() {
        println!("skipped: no folder {}", root.display());
        return;
    }
    let exceptions = exceptions();
    // ModSecurity's cases assume that no code-page map is loaded, Coraza has one built in.
    let plain = TransformationContext::default();
    let mapped = TransformationContext { unicode_map: Some(UnicodeMap::us_ascii()) };

    let (mut passed, mut failed, mut excused, mut superseded) = (0, 0, 0, 0);
    let mut other_reading = 0;
    // What ModSecurity's family says, for cases that both families hold.
    let mut binding: BTreeMap<String, Value> = BTreeMap::new();
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    for family in FAMILIES {
        let mut files = Vec::new();
        json_files(&root.join(family), &mut files);
        files.sort();
        let context = if family == "coraza" { &mapped } else { &plain };
        for file in files {
            let text = fs::read_to_string(&file).expect("a readable file");
            let cases: Vec<Value> = serde_json::from_str(&text).expect("an array of cases");
            if family == FAMILIES[0] {
                binding.extend(cases.iter().map(|case| (question(case), answer(case))));
            }
            for case in &cases {
                let run = |reading| match case["type"].as_str() {
                    Some("op") => run_operator(case, &file, reading),
                    Some("tfn") => run_transformation(case, context, reading),
                    other => Outcome::Failed(format!("type {other:?}")),
                };
                let mut outcome = run(READINGS[0]);
                for &reading in &READINGS[1..] {
                    if matches!(outcome, Outcome::Failed(_))
                        && matches!(run(reading), Outcome::Passed)
                    {
                        outcome = Outcome::Passed;
                        other_reading += 1;
                    }
                }
                match outcome {
                    Outcome::Passed => passed += 1,
                    Outcome::Skipped(name) => *skipped.entry(name).or_default() += 1,
                    Outcome::Failed(actual) => {
                        let is_excused = exceptions.iter().any(|exception| {
                            exception.family == family
                                && Some(exception.name.as_str()) == case["name"].as_str()
                                && Some(exception.input.as_str()) == case["input"].as_str()
                                && exception.param.as_deref() == case["param"].as_str()
                        });
                        if is_excused {
                            excused += 1;
                        } else if family != FAMILIES[0]
                            && binding
                                .get(&question(case))
                                .is_some_and(|value| *value != answer(case))
                        {
                            superseded += 1;
                            println!("superseded: ModSecurity's family answers {case} otherwise");
                        } else {
                            failed += 1;
                            println!("FAILED {family} {case}\n  {actual}");
                        }
                    }
                }
            }
        }
    }
    for (name, count) in &skipped {
        println!("left out: {name} ({count})");
    }
    let skipped: usize = skipped.values().sum();
    println!(
        "seclang vectors: {passed} passed ({other_reading} by another reading of the file), \
         {failed} failed, {excused} excused, {superseded} superseded, {skipped} skipped"
    );
    assert_eq!(failed, 0);
    assert!(passed >= floor, "{passed} passed, at least {floor} expected");
}
