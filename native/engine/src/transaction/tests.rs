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
    transaction.write_put_off(profile.rules(), &crate::rule::Selector::All);
    let mut members: Members = transaction
        .tx
        .members(None, |_| true)
        .into_iter()
        .map(|slot| {
            let value = transaction.tx.get(slot).bytes().unwrap_or_default().into_owned();
            (transaction.tx.name(slot).to_vec(), value)
        })
        .collect();
    // What is put off is set later than without the plan.
    members.sort();
    (transaction.matches(), members)
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
            let plain = run(&profile, head, body.as_deref(), false);
            matches += plain.0.len();
            let text = String::from_utf8_lossy(head);
            // What a thread remembers of a value is complete when it comes for the third time.
            for time in 1..=3 {
                let gated = run(&profile, head, body.as_deref(), true);
                assert_eq!(gated.0, plain.0, "level {level}, matches, time {time}: {text}");
                assert_eq!(gated.1, plain.1, "level {level}, TX, time {time}: {text}");
            }
        }
        println!(
            "level {level}: {} requests ({from_tests} of the tests), {matches} matches, no difference",
            requests.len()
        );
        assert!(matches > 3000 || from_tests == 0);
    }
}

#[test]
fn what_is_known_beforehand_changes_no_verdict() {
    // Members of TX that stay what the first rules made them, that others write by name or by a name made at run time,
    // that captures write; jumps over rules that never run, and over some that do; rules that a removal brings back.
    let rules = r#"
        SecRuleEngine On
        SecRule REQUEST_HEADERS:X-Kind "@streq a" "id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"
        SecAction "id:2,phase:1,pass,nolog,setvar:tx.a=1,setvar:tx.b=2,setvar:tx.sum=%{tx.a},setvar:tx.sum=+%{tx.b}"
        SecRule &TX:a "@eq 0" "id:3,phase:1,deny,log,status:500"
        SecRule &TX:c "@eq 0" "id:4,phase:1,pass,nolog,setvar:tx.c=c-%{tx.sum},setvar:tx.count_x=7,setvar:tx.1=9"
        SecRule TX:sum "@eq 3" "id:5,phase:1,pass,nolog,setvar:!tx.b"
        SecRule ARGS:set "@rx (.)(.)" "id:6,phase:1,pass,log,capture,setvar:tx.a=%{tx.1},setvar:tx.count_%{tx.2}=+1"
        SecRule ARGS:off "@eq 10" "id:7,phase:1,pass,nolog,ctl:ruleRemoveById=10"
        SecRule TX:sum "@eq 3" "id:10,phase:1,pass,nolog,skipAfter:END"
        SecRule TX:a "@eq 1" "id:11,phase:1,pass,log,msg:'a is %{tx.a}, c is %{tx.c}'"
        SecMarker "END"
        SecRule TX:sum "@gt %{tx.a}" "id:12,phase:1,pass,log,msg:'more than %{tx.a}',setvar:tx.sum2=+%{tx.sum}"
        SecRule TX:count_x "@ge 8" "id:13,phase:2,pass,log"
        SecRule TX:1 "!@eq 9" "id:14,phase:2,pass,log,skipAfter:INNER"
        SecRule &TX:b "@eq 0" "id:15,phase:2,pass,nolog,skipAfter:OUTER"
        SecMarker "INNER"
        SecRule &TX:b "@eq 1" "id:16,phase:2,pass,log,chain"
            SecRule ARGS "@unconditionalMatch"
        SecAction "id:17,phase:2,pass,log"
        SecMarker "OUTER"
        SecRule TX:sum2 "@lt 3" "id:18,phase:2,pass,log"
        SecRule &REQUEST_HEADERS:Host "!@eq 1" "id:19,phase:2,pass,log"
        SecRule REQUEST_HEADERS:Accept|REQUEST_METHOD "@rx ^$" "id:20,phase:2,pass,log,capture"
        SecRule REQUEST_METHOD "!@rx ^(?:GET|HEAD)$" "id:21,phase:2,pass,log"
        SecRule ARGS_GET:set|ARGS_GET:off "@streq ab" "id:22,phase:2,pass,log"
        SecRule TX:a "@eq 1" "id:23,phase:3,pass,log,msg:'still'"
        SecRule TX:c "@streq c-3" "id:24,phase:5,pass,log"
    "#;
    let loose = format!("{rules}\nSecRule MATCHED_VAR \"@streq 3\" \"id:30,phase:2,pass,log\"");
    let targets = ["/", "/?set=xy", "/?set=ax", "/?set=ab&off=10", "/?off=10", "/?set=1x&off=10"];
    let methods = ["GET", "POST"];
    let fields = ["host: a\r\n", "accept: \r\n", "host: a\r\nhost: b\r\nx-kind: a\r\n"];
    for text in [rules, &loose] {
        let set = RuleSet::load(&[SourceFile::new("a.conf", text)], &[], &[]).unwrap();
        let profile = Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()));
        assert_eq!(profile.prelude.is_some(), text == rules);
        let mut ids = std::collections::BTreeSet::new();
        for target in targets {
            for (method, field) in methods.iter().flat_map(|it| fields.map(|field| (it, field))) {
                let head = format!("{method} {target} HTTP/1.1\r\n{field}");
                let planned = run(&profile, head.as_bytes(), Some(b"{}"), true);
                let plain = run(&profile, head.as_bytes(), Some(b"{}"), false);
                assert_eq!(planned, plain, "{head}");
                ids.extend(plain.0.iter().map(|it| it.id));
            }
        }
        let expected = [6, 11, 12, 13, 14, 17, 19, 20, 21, 22, 23, 24];
        assert!(expected.iter().all(|id| ids.contains(id)), "{ids:?}");
        let client = Client::default();
        let alone = |holds: bool| {
            let mut transaction = Transaction::start(&profile, &client, b"GET / HTTP/1.1\r\n", 0);
            transaction.plan_holds = holds;
            transaction.run_phase(1, super::Extent::Setup);
            (transaction.tx("a"), transaction.tx("b"), transaction.tx("c"), transaction.tx("sum"))
        };
        assert_eq!(alone(true), alone(false));
        assert_eq!(alone(true).3.as_deref(), Some(&b"3"[..]));
    }
}

#[test]
fn white_space_and_capitals_that_a_look_passes_over_are_gone_for_operators() {
    let rules = r#"
        SecRuleEngine On
        SecRule ARGS "@contains abc" "id:1,phase:1,pass,log,t:removeWhitespace"
        SecRule ARGS "@contains abc" "id:2,phase:1,pass,log,t:removeWhitespace,t:lowercase"
        SecRule ARGS "@rx ^x?abcd$" "id:3,phase:1,pass,log,t:urlDecodeUni,t:removeWhitespace,t:lowercase"
        SecRule ARGS "@contains abc" "id:4,phase:1,pass,log,t:removeWhitespace,t:lowercase,t:hexDecode"
        SecRule ARGS "@streq abc" "id:5,phase:1,pass,log,t:lowercase"
        SecRule ARGS "@rx B c" "id:6,phase:1,pass,log,t:none"
    "#;
    let set = RuleSet::load(&[SourceFile::new("a.conf", rules)], &[], &[]).unwrap();
    let profile = Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()));
    let long = format!("{}A+b%09C{}", "x+".repeat(400), "+y".repeat(400));
    let mut found = std::collections::BTreeSet::new();
    for value in ["abc", "a+b%09c", "A+b%09C", "A+B+c+%2564", "6+1+62+63", "aB+c", &long, "%a0abc"]
    {
        let head = format!("GET /?a={value} HTTP/1.1\r\n");
        let plain = run(&profile, head.as_bytes(), None, false);
        for _ in 0..3 {
            assert_eq!(run(&profile, head.as_bytes(), None, true), plain, "{value}");
        }
        found.extend(plain.0.iter().map(|it| it.id));
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn members_that_are_only_held_against_a_list_are_there_for_others() {
    let rules = r#"
        SecRuleEngine On
        SecAction "id:1,phase:1,pass,nolog,setvar:'tx.list=/proxy/ /lock-token/'"
        SecRule REQUEST_HEADERS_NAMES "@rx ^.*$" "id:2,phase:1,deny,log,msg:'%{MATCHED_VAR}',capture,t:none,t:lowercase,\
            setvar:'tx.name_a_%{tx.0}=/%{tx.0}/',chain"
            SecRule TX:/^name_a_/ "@within %{tx.list}" "setvar:tx.found=+1"
        SecRule TX:0 "@streq x-last" "id:3,phase:1,pass,log"
        SecRule TX:/a_host/ "@streq /host/" "id:4,phase:1,pass,log,msg:'%{MATCHED_VAR_NAME}'"
        SecRule REQUEST_HEADERS_NAMES "@rx ^.*$" "id:5,phase:1,pass,log,capture,t:none,\
            setvar:'tx.name_b_%{tx.0}=<%{tx.0}',chain"
            SecRule TX:/^name_b_/ "@within <a <x-first>"
        SecRule &TX:/^name_/ "@eq 4" "id:6,phase:2,pass,log"
        SecRule &TX:/^name_b_x/ "@ge 1" "id:7,phase:2,pass,log"
        SecRule &TX:/^other/ "@ge 1" "id:8,phase:2,pass,log"
    "#;
    let load = |text: &str| {
        let set = RuleSet::load(&[SourceFile::new("a.conf", text)], &[], &[]).unwrap();
        Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()))
    };
    let put_off = |profile: &Profile| {
        let rules = profile.rules().rules.iter();
        rules.filter(|rule| rule.listing.is_some()).map(|rule| rule.id).collect::<Vec<_>>()
    };
    let profile = load(rules);
    assert_eq!(put_off(&profile), [2, 5]);
    let mut found = Vec::new();
    for fields in [
        "host: a\r\nX-Last: b\r\n",
        "host: a\r\nx-first: b\r\nx-last: c\r\n",
        "host: a\r\nProxy: b\r\nx-last: c\r\n",
        "Lock-Token: b\r\n",
        "a: b\r\n",
        "",
    ] {
        let head = format!("GET / HTTP/1.1\r\n{fields}");
        let plain = run(&profile, head.as_bytes(), None, false);
        assert_eq!(run(&profile, head.as_bytes(), None, true), plain, "{fields}");
        found.push(plain.0.iter().map(|it| it.id).collect::<Vec<_>>());
    }
    let expected: [&[u32]; 6] = [&[3, 4, 6, 7], &[3, 4, 5, 7], &[2], &[2], &[5], &[]];
    assert_eq!(found, expected);
    // Somebody else writes such members, or reads what another rule has matched on.
    for more in [
        "SecRule ARGS:x \"@rx ^.*$\" \"id:9,phase:1,pass,capture,setvar:tx.name_%{tx.0}=1\"",
        "SecRule MATCHED_VAR \"@streq 3\" \"id:9,phase:1,pass,log\"",
        "SecAction \"id:9,phase:1,pass,nolog,setvar:tx.name_a_x=1,setvar:tx.name_b_x=1\"",
    ] {
        assert_eq!(put_off(&load(&format!("{rules}\n{more}"))), [0; 0], "{more}");
    }
}

#[test]
fn later_links_of_a_chain_are_looked_at_first_only_where_nothing_is_done_before() {
    let rules = r#"
        SecRuleEngine On
        SecAction "id:1,phase:1,pass,nolog,setvar:tx.off=0,setvar:tx.sum=0"
        SecRule ARGS "@rx a" "id:2,phase:2,pass,log,chain"
            SecRule REQUEST_HEADERS:X-Kind "!@rx ^b$" "setvar:tx.sum=+1"
        SecRule ARGS "@rx a" "id:3,phase:2,pass,log,setvar:tx.sum=+10,chain"
            SecRule REQUEST_HEADERS:X-Kind "@streq c"
        SecRule ARGS "@rx (.)a" "id:4,phase:2,pass,log,capture,chain"
            SecRule TX:off "@eq 1"
        SecRule TX:1 "@rx ." "id:5,phase:2,pass,log,msg:'%{TX.1}'"
        SecRule ARGS "@rx a" "id:6,phase:2,pass,log,chain"
            SecRule MATCHED_VAR "@rx ^xa" "chain"
                SecRule &REQUEST_HEADERS:X-Kind "@eq 0"
        SecRule ARGS "!@rx a" "id:7,phase:2,pass,log,capture,chain"
            SecRule REQUEST_METHOD "@streq POST" "chain"
                SecRule ARGS_NAMES "@contains n" "setvar:tx.sum=+100"
        SecRule TX:sum "@ge 10" "id:8,phase:2,pass,log,msg:'%{TX.sum}'"
    "#;
    let set = RuleSet::load(&[SourceFile::new("a.conf", rules)], &[], &[]).unwrap();
    let profile = Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()));
    let links: Vec<u8> = profile.rules().rules.iter().map(|rule| rule.idle_links).collect();
    assert_eq!(links, [1, 2, 1, 1, 1, 3, 3, 1]);
    let mut found = std::collections::BTreeSet::new();
    for method in ["GET", "POST"] {
        for target in ["/", "/?n=a", "/?n=xa", "/?m=b", "/?n=b&m=xa"] {
            for field in ["", "x-kind: b\r\n", "x-kind: c\r\n"] {
                let head = format!("{method} {target} HTTP/1.1\r\n{field}");
                let plain = run(&profile, head.as_bytes(), None, false);
                for _ in 0..3 {
                    assert_eq!(run(&profile, head.as_bytes(), None, true), plain, "{head}");
                }
                found.extend(plain.0.iter().map(|it| it.id));
            }
        }
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [2, 3, 5, 6, 7, 8]);
}
