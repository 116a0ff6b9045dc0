//! The gate and the plan change no verdict: every request of CRS's regression tests and of the corpora, with and without
//! them, at paranoia levels 1 and 4.

#[path = "../../tests/support/ftw.rs"]
#[allow(dead_code)] // the runner of the regression tests uses the rest
mod ftw;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Client, Match, Profile, ProfileOptions, RuleSet, SourceFile, Transaction};

fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared")
}

fn load() -> Option<RuleSet> {
    let folder = shared().join("crs/rules-v4.28.0");
    let read = |path: &Path, name: &str| {
        let bytes = std::fs::read(path).unwrap_or_default();
        SourceFile::new(name, String::from_utf8_lossy(&bytes).into_owned())
    };
    let setup = "Include @recommended\nSecRuleEngine DetectionOnly\n";
    let mut files = vec![SourceFile::new("setup.conf", setup)];
    files.push(read(&folder.join("crs-setup.conf.example"), "crs-setup.conf"));
    let mut data = Vec::new();
    let entries = std::fs::read_dir(folder.join("rules")).ok()?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = format!("rules/{}", path.file_name()?.to_string_lossy());
        if name.ends_with(".conf") {
            files.push(read(&path, &name));
        } else if name.ends_with(".data") {
            data.push(read(&path, &name));
        }
    }
    Some(RuleSet::load(&files, &data, &[]).unwrap_or_else(|errors| panic!("{errors}")))
}

/// Heads and bodies.
type Requests = Vec<(Vec<u8>, Option<Vec<u8>>)>;

fn regression(requests: &mut Requests) {
    for path in ftw::test_files(&shared().join("crs/regression")) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let Ok(file) = serde_yaml_ng::from_str::<ftw::TestFile>(&text) else { continue };
        for stage in file.tests.iter().flat_map(|test| &test.stages) {
            let request = stage.input.request();
            requests.push((request.head, request.body));
        }
    }
}

/// A corpus spells bytes as characters up to U+00FF.
fn corpus(name: &str, requests: &mut Requests) {
    let path = shared().join("corpora").join(name).join("requests.json");
    let text = std::fs::read(path).unwrap_or_default();
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(&text) else { return };
    let bytes = |value: &serde_json::Value| -> Option<Vec<u8>> {
        Some(value.as_str()?.chars().map(|character| character as u32 as u8).collect())
    };
    for case in json["cases"].as_array().into_iter().flatten() {
        let word = |value: &serde_json::Value| bytes(value).unwrap_or_default();
        let mut head =
            [&word(&case["method"])[..], b" ", &word(&case["target"]), b" HTTP/1.1\r\n"].concat();
        for header in case["headers"].as_array().into_iter().flatten() {
            head.extend([&word(&header[0])[..], b": ", &word(&header[1]), b"\r\n"].concat());
        }
        let parts = case["body_parts"].as_array().map(|parts| {
            let pieces = parts.iter().map(|part| match part["times"].as_u64() {
                Some(times) => word(&part["repeat"]).repeat(times as usize),
                None => word(part),
            });
            pieces.collect::<Vec<_>>().concat()
        });
        requests.push((head, bytes(&case["body"]).or(parts)));
    }
}

/// Names and values of `TX`.
type Members = Vec<(Vec<u8>, Vec<u8>)>;

/// What a transaction leaves behind: matches in order with values and scores, and all members of `TX`.
fn run(
    profile: &Arc<Profile>,
    head: &[u8],
    body: Option<&[u8]>,
    gated: bool,
) -> (Vec<Match>, Members) {
    let client = Client::parse(b"192.0.2.7 40000 192.0.2.1 80 an-id");
    let length = body.map_or(0, <[u8]>::len);
    let mut transaction = Transaction::start(profile, &client, head, length);
    transaction.plan_holds = gated;
    transaction.run_request(body);
    let page = [b"<html>", body.unwrap_or(head)].concat();
    let response = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n";
    transaction.response(200, response, Some(&page));
    transaction.finish();
    let members = transaction
        .tx
        .members(None, &crate::rule::Selector::All)
        .into_iter()
        .map(|slot| {
            let value = transaction.tx.get(slot).bytes().unwrap_or_default().into_owned();
            (transaction.tx.name(slot).to_vec(), value)
        })
        .collect();
    (transaction.matches().to_vec(), members)
}

#[test]
fn gate_and_plan_change_no_verdict() {
    let Some(rules) = load() else {
        println!("skipped: no CRS rules beside the checkout");
        return;
    };
    let rules = Arc::new(rules);
    let mut requests = Requests::new();
    regression(&mut requests);
    let from_tests = requests.len();
    for name in ["waf-gotestwaf", "waf-payloads", "waf-benign"] {
        corpus(name, &mut requests);
    }
    for level in [1, 4] {
        let options = ProfileOptions { paranoia_level: Some(level), ..ProfileOptions::default() };
        let profile = Arc::new(Profile::new(Arc::clone(&rules), options));
        let mut matches = 0;
        for (head, body) in &requests {
            let gated = run(&profile, head, body.as_deref(), true);
            let plain = run(&profile, head, body.as_deref(), false);
            matches += plain.0.len();
            let text = String::from_utf8_lossy(head);
            assert_eq!(gated.0, plain.0, "level {level}, matches: {text}");
            assert_eq!(gated.1, plain.1, "level {level}, TX: {text}");
        }
        println!(
            "level {level}: {} requests ({from_tests} of the tests), {matches} matches, no difference",
            requests.len()
        );
        assert!(matches > 3000 || from_tests == 0);
    }
}
