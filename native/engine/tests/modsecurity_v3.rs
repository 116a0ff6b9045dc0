//! libmodsecurity's regression cases, as far as they state a status, that rules must not load, or what a target's name and
//! value are.
//!
//! Folder: `SALLYPORT_MODSECURITY_TESTS`, else `modsecurity-v3-regression` in the folder `SALLYPORT_SECLANG_VECTORS`, else
//! `shared/seclang-vectors/modsecurity-v3-regression` beside the checkout.
//! Cases where this engine differs on purpose stand with their reason in `modsecurity_v3_exceptions.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sallyport_engine::{
    Client, LoadErrors, Profile, ProfileOptions, RuleSet, SourceFile, Transaction,
};
use serde_json::Value;

/// Cases in the shared folder.
const SHARED: usize = 418;
/// How many of them must pass by their status, and by their targets.
const FLOOR: usize = 145;
const TARGETS_FLOOR: usize = 80;

fn folder() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from);
    let path = named("SALLYPORT_MODSECURITY_TESTS").unwrap_or_else(|| {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/seclang-vectors");
        let vectors = named("SALLYPORT_SECLANG_VECTORS").unwrap_or(beside);
        vectors.join("modsecurity-v3-regression")
    });
    path.is_dir().then_some(path)
}

/// Every case, named by file and place in it.
fn cases(folder: &Path, failed: &mut Vec<String>) -> Vec<(String, Value)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        match serde_json::from_str::<Value>(&text) {
            Ok(Value::Array(cases)) => {
                let named = cases.into_iter().enumerate();
                found.extend(named.map(|(place, case)| (format!("{name}#{}", place + 1), case)));
            }
            _ => failed.push(format!("{name}: cannot be read")),
        }
    }
    found
}

/// The files that rules of the cases name.
fn data_files(folder: &Path) -> Vec<SourceFile> {
    let entries = std::fs::read_dir(folder.with_file_name("modsecurity-v3-data"));
    let read = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path()).ok()?;
        let name = format!("test-cases/data/{}", entry.file_name().to_string_lossy());
        Some(SourceFile::new(name, text))
    };
    entries.into_iter().flatten().flatten().filter_map(read).collect()
}

/// What the rules name and this engine does not provide, when that is all that keeps them from loading: such cases are
/// skipped by that name.
fn not_provided(errors: &LoadErrors) -> Option<String> {
    let all = errors.diagnostics.iter().all(|error| error.code == "unsupported");
    all.then(|| errors.diagnostics[0].message.clone())
}

fn exceptions() -> BTreeMap<String, String> {
    serde_json::from_str(include_str!("modsecurity_v3_exceptions.json")).expect("a map")
}

/// The rules of a case. libmodsecurity lets a chain go unfinished at the end; such a rule never matches there.
fn rules_of(case: &Value) -> String {
    let mut text = text_of(&case["rules"]);
    if text.lines().last().is_some_and(|line| line.contains("\"chain,")) {
        text.push_str("\nSecRule REMOTE_ADDR \"!@unconditionalMatch\"");
    }
    text
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().map(text_of).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn header_lines(headers: &Value) -> String {
    let mut lines = String::new();
    for (name, value) in headers.as_object().into_iter().flatten() {
        match value {
            Value::Array(values) => {
                for value in values {
                    lines.push_str(&format!("{name}: {}\r\n", text_of(value)));
                }
            }
            value => lines.push_str(&format!("{name}: {}\r\n", text_of(value))),
        }
    }
    lines
}

/// Runs one transaction.
fn run(set: RuleSet, case: &Value) -> Transaction {
    let profile = Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()));
    let client = &case["client"];
    let server = &case["server"];
    let client = format!(
        "{} {} {} {} 1700000000.1",
        client["ip"].as_str().unwrap_or("127.0.0.1"),
        client["port"],
        server["ip"].as_str().unwrap_or("127.0.0.1"),
        server["port"]
    );
    let request = &case["request"];
    let version = request["http_version"].as_f64().unwrap_or(1.1);
    let head = format!(
        "{} {} HTTP/{version:.1}\r\n{}",
        request["method"].as_str().unwrap_or("GET"),
        request["uri"].as_str().unwrap_or("/"),
        header_lines(&request["headers"])
    );
    let body = text_of(&request["body"]);
    let body = (!body.is_empty()).then_some(body.as_bytes());
    let client = Client::parse(client.as_bytes());
    let mut transaction = Transaction::request(&profile, &client, head.as_bytes(), body);
    let response = &case["response"];
    let status = response["status"].as_u64().unwrap_or(200) as u16;
    let head = format!("HTTP/1.1 {status} \r\n{}", header_lines(&response["headers"]));
    let body = text_of(&response["body"]);
    transaction.response(status, head.as_bytes(), Some(body.as_bytes()));
    transaction.finish();
    transaction
}

#[test]
fn statuses_and_load_errors_agree() {
    let Some(folder) = folder() else {
        println!("skipped: no libmodsecurity regression cases (SALLYPORT_MODSECURITY_TESTS)");
        return;
    };
    let exceptions = exceptions();
    let data = data_files(&folder);
    let (mut passed, mut skipped) = (0, 0);
    let mut failed = Vec::new();
    for (key, case) in cases(&folder, &mut failed) {
        let expected = &case["expected"];
        let wanted = expected["http_code"].as_u64();
        let refused = expected["parser_error"].is_string();
        if case["enabled"] == 0 || !case["resource"].is_null() || (wanted.is_none() && !refused) {
            skipped += 1;
            continue;
        }
        let rules = SourceFile::new("rules.conf", rules_of(&case));
        let result = match (RuleSet::load(&[rules], &data, &[]), refused) {
            (Err(_), true) => Ok(()),
            (Err(errors), false) => match not_provided(&errors) {
                Some(construct) => {
                    println!("not provided: {key}: {construct}");
                    skipped += 1;
                    continue;
                }
                None => Err(format!("does not load: {errors}")),
            },
            (Ok(_), true) => Err("loads".to_string()),
            (Ok(set), false) => {
                let stopped = run(set, &case).interruption().map(|it| it.status);
                let status = stopped.unwrap_or(200);
                let wanted = wanted.unwrap_or(200);
                if u64::from(status) == wanted {
                    Ok(())
                } else {
                    Err(format!("{status} instead of {wanted}"))
                }
            }
        };
        match result {
            Ok(()) => passed += 1,
            Err(_) if exceptions.contains_key(&key) => skipped += 1,
            Err(reason) => failed.push(format!("{key} ({}): {reason}", case["title"])),
        }
    }
    report("statuses of libmodsecurity's cases", passed, &failed, skipped, FLOOR);
}

fn report(what: &str, passed: usize, failed: &[String], skipped: usize, floor: usize) {
    println!("{what}: {passed} passed, {} failed, {skipped} skipped", failed.len());
    for problem in failed {
        println!("failed: {problem}");
    }
    assert!(failed.is_empty(), "{} cases failed", failed.len());
    if passed + skipped >= SHARED {
        assert!(passed >= floor, "{passed} cases passed, at least {floor} are expected");
    }
}

/// `SecRule TARGETS "OPERATOR" ["ACTIONS"]` on one line.
const RULE: &str =
    r#"(?i)^\s*SecRule\s+("[^"]*"|\S+)\s+"((?:\\.|[^"\\])*)"(?:\s+"((?:\\.|[^"\\])*)")?"#;

/// Before each rule a copy that logs every target it looks at, of each link of its chain: what libmodsecurity's debug log
/// tells of them. Copies do nothing else.
fn with_probes(text: &str) -> String {
    let rule = regex::Regex::new(RULE).expect("a pattern of ours");
    let text = text.replace("\\\n", " ");
    let lines: Vec<&str> = text.lines().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let mut chain = Vec::new();
        while let Some(found) = lines.get(at + chain.len()).and_then(|line| rule.captures(line)) {
            let part = |group| found.get(group).map_or("", |it| it.as_str()).to_string();
            let goes_on = actions(&part(3)).any(|action| action.eq_ignore_ascii_case("chain"));
            chain.push((part(1), part(2), part(3)));
            if !goes_on {
                break;
            }
        }
        for depth in 0..chain.len() {
            let id = 1_000_000 + out.len();
            for (link, (targets, operator, text)) in chain[..=depth].iter().enumerate() {
                let kept = |action: &&str| {
                    let name = action.split(':').next().unwrap_or_default().to_ascii_lowercase();
                    matches!(name.as_str(), "t" | "capture" | "multimatch")
                        || (link == 0 && name == "phase")
                };
                let mut list: Vec<String> =
                    actions(text).filter(kept).map(str::to_string).collect();
                if link == 0 {
                    list.push(format!("id:{id},pass,log"));
                }
                let operator = if link == depth {
                    "@unconditionalMatch"
                } else {
                    list.push("chain".to_string());
                    operator
                };
                out.push(format!("SecRule {targets} \"{operator}\" \"{}\"", list.join(",")));
            }
        }
        let taken = chain.len().max(1);
        out.extend(lines[at..(at + taken).min(lines.len())].iter().map(ToString::to_string));
        at += taken;
    }
    out.join("\n")
}

/// The pieces of an actions argument, as the cases write them.
fn actions(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|action| !action.is_empty())
}

#[test]
fn targets_are_named_and_valued_alike() {
    let Some(folder) = folder() else {
        println!("skipped: no libmodsecurity regression cases (SALLYPORT_MODSECURITY_TESTS)");
        return;
    };
    let exceptions = exceptions();
    let data = data_files(&folder);
    let (mut passed, mut skipped) = (0, 0);
    let mut failed = Vec::new();
    for (key, case) in cases(&folder, &mut failed) {
        let wanted = case["expected"]["debug_log"].as_str().unwrap_or_default().trim();
        // What rules returned stands on another line of that log.
        let told = (wanted.starts_with("Target value: ") || wanted.starts_with("Variable: "))
            && !wanted.contains("Rule returned");
        if case["enabled"] == 0 || !case["resource"].is_null() || !told {
            skipped += 1;
            continue;
        }
        let pattern = regex::Regex::new(wanted).unwrap_or_else(|error| panic!("{key}: {error}"));
        let rules = SourceFile::new("rules.conf", with_probes(&rules_of(&case)));
        let result = match RuleSet::load(&[rules], &data, &[]) {
            Err(errors) => match not_provided(&errors) {
                Some(construct) => {
                    println!("not provided: {key}: {construct}");
                    skipped += 1;
                    continue;
                }
                None => Err(format!("does not load: {errors}")),
            },
            Ok(set) => {
                let transaction = run(set, &case);
                let lines: Vec<String> = transaction
                    .matches()
                    .iter()
                    .filter(|entry| entry.id >= 1_000_000)
                    .map(|entry| {
                        // A count is called as what it counts.
                        let name = entry.variable.trim_start_matches('&');
                        format!("Target value: \"{}\" (Variable: {name})", entry.value)
                    })
                    .collect();
                if lines.iter().any(|line| pattern.is_match(line)) {
                    Ok(())
                } else {
                    Err(format!("no target matches {wanted}: {lines:?}"))
                }
            }
        };
        match result {
            Ok(()) => passed += 1,
            Err(_) if exceptions.contains_key(&key) => skipped += 1,
            Err(reason) => failed.push(format!("{key} ({}): {reason}", case["title"])),
        }
    }
    report("targets of libmodsecurity's cases", passed, &failed, skipped, TARGETS_FLOOR);
}
