//! CRS's own regression tests against the engine, without sockets.
//!
//! Set-up: the suite's own (`DetectionOnly`, paranoia level 4, the limits of its rule 900005). Folders come from
//! `SALLYPORT_CRS_RULES` and `SALLYPORT_CRS_TESTS`, else from `shared/crs` beside the checkout.

#[path = "support/ftw.rs"]
mod ftw;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use sallyport_engine::{Client, Profile, ProfileOptions, RuleSet, SourceFile, Transaction};

/// Least number of tests that must pass when the whole shared folder is run.
const FLOOR: usize = 3_314;
/// Tests in the shared folder.
const WHOLE: usize = 3_315;

/// Engine settings of the suite's compose file, and its rule 900005.
const SETUP: &str = r#"
Include @recommended
SecRuleEngine DetectionOnly
SecRequestBodyLimitAction Reject
SecRequestBodyNoFilesLimit 131072
SecUnicodeMapFile unicode.mapping 20127
SecAction "id:900005,phase:1,nolog,pass,ctl:ruleEngine=DetectionOnly,ctl:ruleRemoveById=910000,\
  setvar:tx.blocking_paranoia_level=4,setvar:tx.crs_validate_utf8_encoding=1,\
  setvar:tx.arg_name_length=100,setvar:tx.arg_length=400,setvar:tx.total_arg_length=6400,\
  setvar:tx.max_num_args=255,setvar:tx.max_file_size=64100,setvar:tx.combined_file_sizes=65535"
"#;

fn folder(variable: &str, beside: &str) -> Option<PathBuf> {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/crs").join(beside),
    };
    path.is_dir().then_some(path)
}

fn read(path: &Path, name: &str) -> SourceFile {
    let bytes = std::fs::read(path).unwrap_or_default();
    SourceFile::new(name, String::from_utf8_lossy(&bytes).into_owned())
}

/// Rules and data files of a CRS folder, in order of evaluation.
fn sources(folder: &Path) -> (Vec<SourceFile>, Vec<SourceFile>) {
    let mut files = vec![SourceFile::new("setup.conf", SETUP)];
    files.push(read(&folder.join("crs-setup.conf.example"), "crs-setup.conf"));
    let mut data = Vec::new();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder.join("rules"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        let name = format!("rules/{}", path.file_name().unwrap_or_default().to_string_lossy());
        if name.ends_with(".conf") {
            files.push(read(&path, &name));
        } else if name.ends_with(".data") {
            data.push(read(&path, &name));
        }
    }
    (files, data)
}

/// What a stage's expectations say about what was logged; `None` when they hold.
fn verdict(output: &ftw::Output, ids: &[u32], lines: &[String]) -> Option<String> {
    for id in &output.log.expect_ids {
        if !ids.contains(id) {
            return Some(format!("{id} is missing"));
        }
    }
    for id in &output.log.no_expect_ids {
        if ids.contains(id) {
            return Some(format!("{id} is there"));
        }
    }
    let found = |pattern: &str| {
        let regex = regex::Regex::new(pattern).expect("a pattern of a test");
        lines.iter().any(|line| regex.is_match(line))
    };
    if let Some(pattern) = &output.log.match_regex {
        if !found(pattern) {
            return Some(format!("no line matches {pattern}"));
        }
    }
    if let Some(pattern) = &output.log.no_match_regex {
        if found(pattern) {
            return Some(format!("a line matches {pattern}"));
        }
    }
    if output.isolated == Some(true) && ids.len() != 1 {
        return Some(format!("{} rules matched instead of one", ids.len()));
    }
    None
}

#[test]
fn crs_regression_suite_passes() {
    let Some(rules) = folder("SALLYPORT_CRS_RULES", "rules-v4.28.0") else {
        println!("skipped: no CRS rules (SALLYPORT_CRS_RULES)");
        return;
    };
    let Some(tests) = folder("SALLYPORT_CRS_TESTS", "regression") else {
        println!("skipped: no CRS regression tests (SALLYPORT_CRS_TESTS)");
        return;
    };
    let (files, data) = sources(&rules);
    let start = Instant::now();
    let set = RuleSet::load(&files, &data, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    println!("{} rules loaded in {} ms", set.summary().rules, start.elapsed().as_millis());
    let profile = Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()));
    let client = Client::parse(b"127.0.0.1 40000 127.0.0.1 80 a-request-id");

    let (mut passed, mut failed, mut inexpressible) = (0, Vec::new(), Vec::new());
    let start = Instant::now();
    for path in ftw::test_files(&tests) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let Ok(file) = serde_yaml_ng::from_str::<ftw::TestFile>(&text) else {
            if !text.trim().is_empty() {
                failed.push(format!("{}: cannot be read", path.display()));
            }
            continue;
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let rule_id = file.rule_id.map_or(stem, |id| id.to_string());
        for test in &file.tests {
            let name = format!("{rule_id}-{}", test.test_id);
            let mut problem = None;
            let mut only_transport = true;
            for stage in &test.stages {
                let log = &stage.output.log;
                only_transport &= stage.output.expect_error == Some(true)
                    || (stage.output.status.is_some_and(|status| status >= 400)
                        && log.expect_ids.is_empty()
                        && log.match_regex.is_none());
                let request = stage.input.request();
                let mut transaction =
                    Transaction::request(&profile, &client, &request.head, request.body.as_deref());
                let response = ftw::reflect(&request);
                transaction.response(response.status, &response.head, Some(&response.body));
                transaction.finish();
                let ids: Vec<u32> = transaction.matches().iter().map(|entry| entry.id).collect();
                let lines: Vec<String> =
                    transaction.matches().iter().map(|entry| entry.log_line()).collect();
                if problem.is_none() {
                    problem = verdict(&stage.output, &ids, &lines)
                        .map(|reason| format!("{name}: {reason}; logged {ids:?}"));
                }
            }
            match problem {
                None => passed += 1,
                Some(_) if only_transport => inexpressible.push(name),
                Some(problem) => failed.push(problem),
            }
        }
    }
    let total = passed + failed.len() + inexpressible.len();
    println!(
        "CRS regression: {passed} of {total} passed, {} failed, {} ask for a refusal by the HTTP \
         server, in {} ms",
        failed.len(),
        inexpressible.len(),
        start.elapsed().as_millis()
    );
    println!("refusals: {inexpressible:?}");
    for problem in &failed {
        println!("failed: {problem}");
    }
    assert!(total > 0, "no test was found");
    if total >= WHOLE {
        assert!(passed >= FLOOR, "{passed} tests passed, at least {FLOOR} are expected");
    }
    assert!(failed.len() * 500 <= total, "{} of {total} tests failed", failed.len());
}
