//! Order of evaluation, actions, collections and load errors, one behaviour per test (`seclang.md` sections 3, 4, 8–11).

use std::sync::Arc;

use sallyport_engine::{
    Client, LoadErrors, Profile, ProfileOptions, RuleSet, SourceFile, Transaction,
};

fn load(rules: &str) -> Result<RuleSet, LoadErrors> {
    RuleSet::load(&[SourceFile::new("rules.conf", rules)], &[], &[])
}

fn profile(rules: &str, options: ProfileOptions) -> Arc<Profile> {
    let set = load(rules).unwrap_or_else(|errors| panic!("{errors}"));
    Arc::new(Profile::new(Arc::new(set), options))
}

fn client() -> Client {
    Client::parse(b"192.0.2.7 4000 192.0.2.1 443 request-1")
}

/// Runs a request without a body through all phases.
fn run(rules: &str, target: &str) -> Transaction {
    run_with(&profile(rules, ProfileOptions::default()), target)
}

fn run_with(profile: &Arc<Profile>, target: &str) -> Transaction {
    let head = format!("GET {target} HTTP/1.1\r\nhost: h\r\nuser-agent: Test\r\ncookie: c=1\r\n");
    let mut transaction = Transaction::request(profile, &client(), head.as_bytes(), None);
    transaction.response(200, b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n", Some(b"page"));
    transaction.finish();
    transaction
}

fn ids(transaction: &Transaction) -> Vec<u32> {
    transaction.matches().iter().map(|entry| entry.id).collect()
}

fn tx(transaction: &Transaction, name: &str) -> String {
    String::from_utf8(transaction.tx(name).unwrap_or_default()).unwrap()
}

fn codes(rules: &str) -> Vec<(&'static str, u32, u32)> {
    let errors = load(rules).expect_err("the rules must not load");
    errors.diagnostics.iter().map(|error| (error.code, error.line, error.column)).collect()
}

#[test]
fn setvar_runs_once_per_matching_target() {
    let rules = "SecRule ARGS \"@contains x\" \"id:1,pass,nolog,setvar:tx.score=+5\"";
    assert_eq!(tx(&run(rules, "/?a=x&b=ax&c=y"), "score"), "10");
}

#[test]
fn a_chain_needs_all_its_links_but_its_starter_acts_at_once() {
    let rules = r#"
SecRule ARGS:a "@streq 1" "id:1,deny,status:418,setvar:tx.starter=1,chain"
  SecRule ARGS:b "@streq 2" "setvar:tx.link=1"
"#;
    let transaction = run(rules, "/?a=1&b=3");
    assert_eq!(tx(&transaction, "starter"), "1");
    assert_eq!(tx(&transaction, "link"), "");
    assert!(transaction.interruption().is_none());
    assert!(ids(&transaction).is_empty());
    let transaction = run(rules, "/?a=1&b=2");
    assert_eq!(
        transaction.interruption().map(|i| (i.status, i.phase, i.rule_id)),
        Some((418, 2, 1))
    );
    assert_eq!(ids(&transaction), [1]);
}

#[test]
fn captures_are_overwritten_while_a_chain_runs() {
    let rules = r#"
SecRule ARGS:a "@rx (\w+)-(\w+)" "id:1,pass,log,capture,msg:'%{TX.0}',chain"
  SecRule TX:1 "@rx ^(.)" "capture,setvar:tx.first=%{tx.1},chain"
    SecRule TX:1 "@streq %{tx.first}"
"#;
    let transaction = run(rules, "/?a=foo-bar");
    assert_eq!(ids(&transaction), [1]);
    assert_eq!(tx(&transaction, "first"), "f");
    assert_eq!(transaction.tx("2"), None);
}

#[test]
fn skip_after_stays_in_its_phase_and_skip_counts_chains_as_one() {
    let rules = r#"
SecRule ARGS:a "@streq 1" "id:1,phase:1,pass,nolog,skipAfter:END"
SecAction "id:2,phase:1,pass,log"
SecAction "id:3,phase:2,pass,log"
SecMarker "END"
SecAction "id:4,phase:1,pass,log,skip:1"
SecRule ARGS:a "@streq 1" "id:5,phase:1,pass,log,chain"
  SecRule ARGS:a "@streq 1"
SecAction "id:6,phase:1,pass,log"
SecAction "id:7,phase:5,pass,log,skipAfter:NOWHERE"
SecAction "id:8,phase:5,pass,log"
"#;
    assert_eq!(ids(&run(rules, "/?a=1")), [4, 6, 3, 7]);
}

#[test]
fn block_does_what_the_default_action_of_the_phase_says() {
    let rules =
        |default: &str| format!("{default}\nSecRule ARGS \"@streq 1\" \"id:1,phase:2,block\"");
    assert!(run(&rules(""), "/?a=1").interruption().is_none());
    let transaction = run(&rules("SecDefaultAction \"phase:2,log,deny,status:406\""), "/?a=1");
    assert_eq!(transaction.interruption().map(|i| i.status), Some(406));
    let transaction = run(&rules("SecDefaultAction \"phase:1,log,deny,status:406\""), "/?a=1");
    assert!(transaction.interruption().is_none());
    let transaction = run(&rules("SecDefaultAction \"phase:2,nolog,pass\""), "/?a=1");
    assert!(ids(&transaction).is_empty());
}

#[test]
fn detection_only_logs_and_does_not_interrupt() {
    let rules = "SecRuleEngine DetectionOnly\nSecAction \"id:1,phase:1,deny\"\nSecAction \"id:2,phase:2,deny\"";
    let transaction = run(rules, "/");
    assert_eq!(ids(&transaction), [1, 2]);
    assert!(transaction.interruption().is_none());
    let options = ProfileOptions { detection_only: Some(false), ..ProfileOptions::default() };
    let transaction = run_with(&profile(rules, options), "/");
    assert_eq!(transaction.interruption().map(|i| i.rule_id), Some(1));
}

#[test]
fn an_interruption_skips_to_phase_five() {
    let rules = r#"
SecAction "id:1,phase:1,deny"
SecAction "id:2,phase:2,pass,log"
SecAction "id:3,phase:4,pass,log"
SecAction "id:4,phase:5,deny,log"
"#;
    let transaction = run(rules, "/");
    assert_eq!(ids(&transaction), [1, 4]);
    assert_eq!(transaction.interruption().map(|i| i.rule_id), Some(1));
}

#[test]
fn allow_reaches_as_far_as_it_says() {
    let rules = |allow: &str| {
        format!(
            "SecAction \"id:1,phase:1,{allow},nolog\"\nSecAction \"id:2,phase:1,pass,log\"\n\
             SecAction \"id:3,phase:2,pass,log\"\nSecAction \"id:4,phase:3,pass,log\"\n\
             SecAction \"id:5,phase:5,pass,log\""
        )
    };
    assert_eq!(ids(&run(&rules("allow:phase"), "/")), [3, 4, 5]);
    assert_eq!(ids(&run(&rules("allow:request"), "/")), [4, 5]);
    assert_eq!(ids(&run(&rules("allow"), "/")), [5]);
}

#[test]
fn absent_members_match_neither_way_and_counts_always_exist() {
    let rules = r#"
SecRule REQUEST_HEADERS:Content-Length "!@rx ^0?$" "id:1,phase:1,pass,log"
SecRule &REQUEST_HEADERS:Content-Length "@eq 0" "id:2,phase:1,pass,log"
SecRule &ARGS "@eq 2" "id:3,phase:1,pass,log"
SecRule REQBODY_PROCESSOR "!@rx (?:URLENCODED|JSON)" "id:4,phase:1,pass,log"
SecRule TX:absent "!@streq x" "id:5,phase:1,pass,log"
SecRule &TX:absent "!@eq 0" "id:6,phase:1,pass,log"
"#;
    assert_eq!(ids(&run(rules, "/?a=1&a=2")), [2, 3, 4]);
}

#[test]
fn exclusions_and_regex_selectors_ignore_case() {
    let rules = r#"
SecRule ARGS|!ARGS:Token|!ARGS:/^skip_/ "@rx ." "id:1,phase:1,pass,log,msg:'%{MATCHED_VAR_NAME}'"
SecRule ARGS:/^SKIP/ "@rx ." "id:2,phase:1,pass,log,msg:'%{MATCHED_VAR_NAME}'"
"#;
    let transaction = run(rules, "/?tOKEN=1&Skip_me=2&other=3");
    let messages: Vec<_> = transaction.matches().into_iter().map(|it| it.message).collect();
    assert_eq!(messages, ["ARGS:other", "ARGS:Skip_me"]);
}

#[test]
fn updates_and_removals_change_rules_defined_before() {
    let rules = r#"
SecRule ARGS "@streq x" "id:1,phase:1,deny,log,tag:'attack-sqli'"
SecRule ARGS "@streq x" "id:2,phase:1,pass,log,msg:'some message'"
SecRule ARGS "@streq x" "id:3,phase:1,pass,log"
SecRule ARGS "@streq x" "id:4,phase:1,pass,log,tag:'other'"
SecRuleUpdateTargetByTag "attack-.*" "!ARGS:a"
SecRuleUpdateActionById 1 "pass"
SecRuleRemoveByMsg "some mess"
SecRuleRemoveById 3-3
SecRuleUpdateTargetById 4 "REQUEST_METHOD" "ARGS"
"#;
    assert!(ids(&run(rules, "/?a=x")).is_empty());
    let transaction = run(rules, "/?b=x");
    assert_eq!(ids(&transaction), [1]);
    assert!(transaction.interruption().is_none());
    // An update that stands before its rule waits for it.
    let early =
        "SecRuleUpdateTargetById 9 !ARGS:a\nSecRule ARGS \"@streq x\" \"id:9,phase:1,pass,log\"";
    assert!(ids(&run(early, "/?a=x&b=y")).is_empty());
}

#[test]
fn ctl_changes_the_rest_of_the_transaction_only() {
    let rules = r#"
SecAction "id:1,phase:1,pass,log"
SecRule ARGS:mode "@streq off" "id:2,phase:1,pass,nolog,ctl:ruleRemoveById=1-1,ctl:ruleRemoveByTag=t-.,ctl:ruleRemoveTargetById=5;ARGS:A"
SecAction "id:3,phase:2,pass,log,tag:'t-1'"
SecAction "id:4,phase:2,pass,log,tag:'T'"
SecRule ARGS|REQUEST_METHOD "@rx ^x" "id:5,phase:2,pass,log"
SecRule ARGS:mode "@streq none" "id:6,phase:1,pass,nolog,ctl:ruleEngine=Off"
"#;
    let profile = profile(rules, ProfileOptions::default());
    assert_eq!(ids(&run_with(&profile, "/?mode=off&a=x&b=x")), [1, 4, 5]);
    assert_eq!(ids(&run_with(&profile, "/?mode=on&a=x&b=x")), [1, 3, 4, 5, 5]);
    assert_eq!(ids(&run_with(&profile, "/?mode=none")), [1]);
}

#[test]
fn setvar_knows_all_its_forms() {
    let rules = r#"
SecAction "id:1,phase:1,pass,nolog,setvar:tx.n=5,setvar:tx.n=+3,setvar:tx.n=-10,setvar:tx.flag,\
  setvar:'tx.text=a %{request_method} %{tx.undefined}b',setvar:tx.gone=1,setvar:!tx.gone,\
  setvar:'tx.named_%{request_method}=%{tx.flag}',setvar:tx.copy=%{tx.text},setvar:tx.dotted.name=1"
SecAction "id:2,phase:1,pass,nolog,setvar:'tx.plus=+%{tx.copy}',setvar:'tx.macro=%{tx.signed}'"
SecRule TX:/^named_/ "@eq 1" "id:3,phase:1,pass,log,msg:'%{matched_var_name}'"
"#;
    let transaction = run(rules, "/");
    assert_eq!(tx(&transaction, "n"), "0", "v2 does not go below zero");
    assert_eq!(tx(&transaction, "flag"), "1");
    assert_eq!(tx(&transaction, "TEXT"), "a GET b");
    assert_eq!(transaction.tx("gone"), None);
    assert_eq!(tx(&transaction, "copy"), "a GET b");
    assert_eq!(tx(&transaction, "dotted.name"), "1");
    assert_eq!(tx(&transaction, "plus"), "0");
    assert_eq!(transaction.matches()[0].message, "TX:named_GET");
}

#[test]
fn matched_vars_hold_the_chain_so_far() {
    let rules = r#"
SecRule ARGS "@rx ^x" "id:1,phase:1,pass,log,chain"
  SecRule MATCHED_VARS "@rx y$" "setvar:tx.hits=+1,chain"
    SecRule MATCHED_VARS_NAMES "@rx ARGS:b" "t:none"
SecRule MATCHED_VARS "@rx ." "id:2,phase:1,pass,log"
"#;
    let transaction = run(rules, "/?a=x1&b=xy");
    assert_eq!(tx(&transaction, "hits"), "1");
    assert!(ids(&transaction).contains(&1));
    assert!(!ids(&transaction).contains(&2), "emptied before each rule");
}

#[test]
fn multi_match_tests_every_changed_stage() {
    let rules = r#"
SecRule ARGS:a "@rx (?i)a" "id:1,phase:1,pass,nolog,multiMatch,t:none,t:lowercase,t:removeNulls,t:hexEncode,setvar:tx.multi=+1"
SecRule ARGS:a "@rx (?i)a" "id:2,phase:1,pass,nolog,t:lowercase,t:removeNulls,setvar:tx.single=+1"
"#;
    let transaction = run(rules, "/?a=ABA");
    assert_eq!(tx(&transaction, "multi"), "2", "as it is and in lower case; hex 616261 holds no a");
    assert_eq!(tx(&transaction, "single"), "1");
}

#[test]
fn persistent_collections_need_initcol_and_outlive_the_transaction() {
    let rules = r#"
SecAction "id:1,phase:1,pass,nolog,setvar:ip.early=1,initcol:ip=%{remote_addr}"
SecAction "id:2,phase:1,pass,nolog,setvar:ip.count=+1,setvar:ip.short=1,expirevar:ip.short=0"
SecRule IP:count "@gt 1" "id:3,phase:1,pass,log,msg:'%{ip.count}%{ip.early}'"
SecRule &IP:short "@eq 1" "id:4,phase:1,pass,log"
"#;
    let profile = profile(rules, ProfileOptions::default());
    assert!(ids(&run_with(&profile, "/")).is_empty());
    let second = run_with(&profile, "/");
    assert_eq!(ids(&second), [3]);
    assert_eq!(second.matches()[0].message, "2");
}

#[test]
fn the_profile_wins_over_the_rules() {
    let rules = r#"
SecAction "id:1,phase:1,pass,nolog,setvar:tx.blocking_paranoia_level=3,setvar:tx.inbound_anomaly_score_threshold=5"
SecAction "id:2,phase:1,pass,log"
SecRule TX:blocking_paranoia_level "@eq 1" "id:3,phase:1,pass,log"
"#;
    let options = ProfileOptions {
        exclude_rule_ids: vec![2, 777],
        paranoia_level: Some(1),
        inbound_threshold: Some(9),
        ..ProfileOptions::default()
    };
    let transaction = run_with(&profile(rules, options), "/");
    assert_eq!(ids(&transaction), [3]);
    assert_eq!(transaction.details().inbound.threshold, 9);
}

#[test]
fn exclusions_of_a_direction_leave_the_other_alone() {
    let rules: String = (1..=5)
        .map(|phase| format!("SecAction \"id:10{phase},phase:{phase},pass,log\"\n"))
        .collect();
    let all = vec![101, 102, 103, 104, 105];
    let of_request =
        ProfileOptions { exclude_request_rule_ids: all.clone(), ..ProfileOptions::default() };
    assert_eq!(ids(&run_with(&profile(&rules, of_request), "/")), [103, 104]);
    let of_response =
        ProfileOptions { exclude_response_rule_ids: all, ..ProfileOptions::default() };
    assert_eq!(ids(&run_with(&profile(&rules, of_response), "/")), [101, 102]);
}

#[test]
fn levels_of_blocking_and_detection_can_differ() {
    let rules = r#"
SecRule TX:detection_paranoia_level "@lt 2" "id:1,phase:2,pass,nolog,skipAfter:END"
SecAction "id:2,phase:2,pass,log,msg:'%{tx.blocking_paranoia_level} %{tx.detection_paranoia_level}'"
SecMarker "END"
"#;
    let at = |blocking: u8, detection: Option<u8>| {
        let options = ProfileOptions {
            paranoia_level: Some(blocking),
            detection_paranoia_level: detection,
            ..ProfileOptions::default()
        };
        let transaction = run_with(&profile(rules, options), "/");
        transaction.matches().first().map(|entry| entry.message.clone())
    };
    assert_eq!(at(1, None), None);
    assert_eq!(at(1, Some(3)).as_deref(), Some("1 3"));
    assert_eq!(at(2, None).as_deref(), Some("2 2"));
}

#[test]
fn a_body_over_the_limit_is_cut_or_refused() {
    let head = b"POST / HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded\r\n";
    let rules = |action: &str| {
        format!(
            "SecRequestBodyLimit 8\nSecRequestBodyLimitAction {action}\n\
             SecRule ARGS:b \"@rx .\" \"id:1,pass,log\"\nSecRule INBOUND_DATA_ERROR \"@eq 1\" \"id:2,pass,log\""
        )
    };
    let scan = |rules: &str| {
        let profile = profile(rules, ProfileOptions::default());
        Transaction::request(&profile, &client(), head, Some(b"a=1234&b=5"))
    };
    let cut = scan(&rules("ProcessPartial"));
    assert_eq!(ids(&cut), [2]);
    let refused = scan(&rules("Reject"));
    assert_eq!(refused.interruption().map(|i| (i.status, i.rule_id)), Some((413, 0)));
}

#[test]
fn response_bodies_are_inspected_by_media_type() {
    let rules = "SecRule RESPONSE_BODY \"@contains secret\" \"id:1,phase:4,deny\"";
    let profile = profile(rules, ProfileOptions::default());
    let scan = |media_type: &str| {
        let mut transaction =
            Transaction::request(&profile, &client(), b"GET / HTTP/1.1\r\n", None);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\n");
        transaction.response(200, head.as_bytes(), Some(b"a secret")).interrupted
    };
    assert!(scan("Text/HTML; charset=utf-8"));
    assert!(!scan("image/png"));
}

#[test]
fn a_response_alone_runs_the_set_up_and_no_detection() {
    let rules = r#"
SecAction "id:1,phase:1,pass,nolog,setvar:tx.ready=1"
SecRule REQUEST_METHOD "@streq GET" "id:2,phase:1,pass,log,severity:CRITICAL"
SecRule REQUEST_METHOD "@streq GET" "id:3,phase:1,deny"
SecRule TX:ready "@eq 1" "id:4,phase:3,pass,log,msg:'%{request_uri}'"
"#;
    let profile = profile(rules, ProfileOptions::default());
    let mut transaction =
        Transaction::for_response_only(&profile, &client(), b"GET /x HTTP/1.1\r\n");
    let flags = transaction.response(200, b"HTTP/1.1 200 OK\r\n", None);
    assert!(flags.matched && !flags.interrupted);
    assert_eq!(ids(&transaction), [4]);
    assert_eq!(transaction.matches()[0].message, "/x");
}

#[test]
fn bodies_that_cannot_be_read_are_refused_by_the_recommended_rules() {
    let profile = profile("Include @recommended", ProfileOptions::default());
    let scan = |content_type: &str, body: &[u8]| {
        let head = format!("POST / HTTP/1.1\r\ncontent-type: {content_type}\r\n");
        let transaction = Transaction::request(&profile, &client(), head.as_bytes(), Some(body));
        (transaction.flags().body_error, transaction.interruption().map(|i| i.rule_id))
    };
    assert_eq!(scan("application/json", b"{\"a\":1}"), (false, None));
    assert_eq!(scan("application/json", b"{\"a\":"), (true, Some(200_002)));
    assert_eq!(scan("application/problem+json", b"["), (true, Some(200_002)));
    assert_eq!(scan("text/xml", b"<a>"), (true, Some(200_002)));
    assert_eq!(scan("multipart/form-data; boundary=b", b"x"), (true, Some(200_002)));
    assert_eq!(scan("text/plain", b"{"), (false, None));
}

#[test]
fn matches_carry_what_a_log_needs() {
    let rules = r#"
SecAction "id:1,phase:1,pass,nolog,setvar:tx.critical_anomaly_score=5"
SecRule ARGS "@rx (?:sel)ect" "id:942100,phase:1,pass,log,capture,severity:'CRITICAL',ver:'OWASP_CRS/4.28.0',\
  msg:'SQL',logdata:'Matched Data: %{TX.0} found within %{MATCHED_VAR_NAME}: %{MATCHED_VAR}',tag:'attack-%{request_method}',\
  setvar:'tx.inbound_anomaly_score_pl1=+%{tx.critical_anomaly_score}'"
SecAction "id:2,phase:1,pass,nolog,setvar:tx.blocking_inbound_anomaly_score=%{tx.inbound_anomaly_score_pl1}"
"#;
    let transaction = run(rules, "/?q=select%22%0a");
    let details = transaction.details();
    let entry = &details.matches[0];
    assert_eq!((entry.id, entry.phase, entry.severity), (942_100, 1, "critical"));
    assert_eq!(entry.data, "Matched Data: select found within ARGS:q: select\\\"\\n");
    assert_eq!((entry.variable.as_str(), entry.value.as_str()), ("ARGS:q", "select\\\"\\n"));
    assert_eq!(entry.tags, ["attack-GET"]);
    assert_eq!(entry.score, Some(5));
    assert_eq!((entry.file.as_str(), entry.line), ("rules.conf", 3));
    assert_eq!(details.inbound.score, 5);
    let line = entry.log_line();
    assert!(
        line.contains("[file \"rules.conf\"] [line \"3\"] [id \"942100\"] [msg \"SQL\"] [data \"")
    );
    assert!(details.to_json().contains("\"ruleId\"") || details.interruption.is_none());
}

#[test]
fn header_names_in_lower_case_are_called_as_the_rule_spells_them() {
    let rules = "SecRule REQUEST_HEADERS:User-Agent \"@rx .\" \"id:1,phase:1,pass,log\"";
    assert_eq!(run(rules, "/").matches()[0].variable, "REQUEST_HEADERS:User-Agent");
}

#[test]
fn every_error_of_a_load_is_reported_with_its_place() {
    assert_eq!(
        codes(
            "SecRule ARGZ \"@rx a\" \"id:1\"\n\
             SecRule ARGS \"@nope a\" \"id:2\"\n\
             SecRule ARGS \"@rx (\" \"id:3\"\n\
             SecRule ARGS \"@rx a\" \"id:4,t:nope,frobnicate\"\n\
             SecRule ARGS \"@rx a\" \"pass\"\n\
             SecRule ARGS \"@rx a\" \"id:4\"\n\
             SecRuleScript x.lua \"id:7\"\n\
             SecRule GEO:x \"@rx a\" \"id:8\"\n\
             SecRule ARGS \"@rx a\" \"id:9,msg:'%{nonsense}'\"\n\
             SecRule ARGS \"@rx a\" \"id:10,chain\"\n\
             SecMarker X\n\
             SecRuleEngine Sometimes"
        ),
        [
            ("unknown-variable", 1, 9),
            ("unknown-operator", 2, 15),
            ("operator-argument", 3, 15),
            ("unknown-transformation", 4, 28),
            ("unknown-action", 4, 35),
            ("id", 5, 1),
            ("duplicate-id", 6, 1),
            ("unsupported", 7, 1),
            ("unsupported", 8, 9),
            ("unknown-variable", 9, 28),
            ("chain", 11, 1),
            ("setting", 12, 15),
        ]
    );
}

#[test]
fn rules_can_be_left_out_by_id_with_their_chain() {
    let rules = SourceFile::new(
        "rules.conf",
        "SecRule ARGS \"@rx (?<!a)b\" \"id:1,chain\"\n  SecRule ARGS \"@rx c\"\nSecAction \"id:2,pass\"",
    );
    assert!(RuleSet::load(std::slice::from_ref(&rules), &[], &[]).is_err());
    let set = RuleSet::load(&[rules], &[], &[1]).unwrap();
    let summary = set.summary();
    assert_eq!(summary.rules, 1);
    assert_eq!(summary.left_out.len(), 1);
    assert!(summary.left_out[0].construct.contains("look-behind"), "{summary:?}");
}

#[test]
fn data_files_are_found_relative_to_the_rule() {
    let rules = SourceFile::new(
        "crs/rules/a.conf",
        "SecRule ARGS \"@pmFromFile w.data\" \"id:1,phase:1,log\"",
    );
    let data = SourceFile::new("crs/rules/w.data", "evil\n");
    let set = RuleSet::load(std::slice::from_ref(&rules), &[data], &[]).unwrap();
    let profile = Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()));
    assert_eq!(ids(&run_with(&profile, "/?a=EVIL")), [1]);
    assert!(RuleSet::load(&[rules], &[], &[]).is_err());
}

#[test]
fn rule_sets_and_profiles_are_shared_by_threads_and_transactions_move() {
    fn shared<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    shared::<RuleSet>();
    shared::<Profile>();
    moves::<Transaction>();
}

#[test]
fn no_input_panics() {
    let profile = profile(
        "Include @recommended\nSecRule ARGS|REQUEST_COOKIES|XML:/*|FILES \"@rx .\" \"id:1,pass\"",
        ProfileOptions::default(),
    );
    let mut seed = 7_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as u8
    };
    let types = [
        "application/json",
        "text/xml",
        "multipart/form-data; boundary=b",
        "application/x-www-form-urlencoded",
    ];
    let alphabet = b"{}[]\",:<>/=&%;-b\r\n!?'\\u0 ";
    for round in 0..4000_usize {
        let body: Vec<u8> = (0..next() % 60)
            .map(|_| {
                if next() % 9 == 0 {
                    next()
                } else {
                    alphabet[usize::from(next()) % alphabet.len()]
                }
            })
            .collect();
        let mut head: Vec<u8> = (0..next() % 20).map(|_| next()).collect();
        head.extend_from_slice(format!("\r\ncontent-type: {}\r\n", types[round % 4]).as_bytes());
        let body = if round % 4 == 2 { [b"--b\r\n", body.as_slice()].concat() } else { body };
        let mut transaction = Transaction::request(&profile, &client(), &head, Some(&body));
        transaction.response(200, &body, Some(&body));
        transaction.finish();
    }
}
