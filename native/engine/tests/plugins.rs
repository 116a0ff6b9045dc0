//! The constructs that the official plugins of CRS use beyond the core, one case each, and what is said of those that this
//! engine does not have.
//!
//! Source: `seclang.md` sections 3, 6.10, 8.2, 10 and 15.

use std::sync::Arc;

use sallyport_engine::{Client, Profile, ProfileOptions, RuleSet, SourceFile, Transaction};

fn profile(rules: &str) -> Arc<Profile> {
    let text = format!("Include @recommended\n{rules}");
    let set = RuleSet::load(&[SourceFile::new("plugin-before.conf", text)], &[], &[])
        .unwrap_or_else(|errors| panic!("{errors}"));
    Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()))
}

/// Runs `GET TARGET`, or `POST TARGET` with a body of a media type, through all phases.
fn run(profile: &Arc<Profile>, target: &str, body: Option<(&str, &str)>) -> Transaction {
    let client = Client::parse(b"192.0.2.7 4000 192.0.2.1 443 request-1");
    let head = match body {
        None => format!("GET {target} HTTP/1.1\r\nhost: h\r\ncookie: s=1; S0DWab=x\r\n"),
        Some((media_type, _)) => {
            format!("POST {target} HTTP/1.1\r\nhost: h\r\ncontent-type: {media_type}\r\n")
        }
    };
    let body = body.map(|(_, text)| text.as_bytes());
    let mut transaction = Transaction::request(profile, &client, head.as_bytes(), body);
    let response = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\n";
    transaction.response(200, response, Some(b"page"));
    transaction.finish();
    transaction
}

fn ids(transaction: &Transaction) -> Vec<u32> {
    transaction.matches().iter().map(|entry| entry.id).collect()
}

fn tx(transaction: &Transaction, name: &str) -> String {
    String::from_utf8(transaction.tx(name).unwrap_or_default()).unwrap()
}

/// Codes and messages of a load that must fail.
fn errors(rules: &str) -> Vec<(&'static str, String)> {
    let errors = RuleSet::load(&[SourceFile::new("plugin.conf", rules)], &[], &[])
        .expect_err("the rules must not load");
    errors.diagnostics.into_iter().map(|error| (error.code, error.message)).collect()
}

/// Detections as the core has them, for exclusions to act on.
const CORE: &str = r#"
SecRule ARGS|ARGS_NAMES|REQUEST_BODY|REQUEST_COOKIES|XML:/*|FILES|REQUEST_HEADERS:Accept|TX:probe "@contains attack" \
  "id:942100,phase:2,pass,log,tag:'attack-sqli',tag:'OWASP_CRS'"
SecRule ARGS "@contains attack" "id:942110,phase:2,pass,log,tag:'attack-sqli',tag:'OWASP_CRS'"
SecRule ARGS "@contains attack" "id:932100,phase:2,pass,log,tag:'attack-rce',chain"
  SecRule ARGS "@contains attack" "t:none"
"#;

#[test]
fn a_switch_of_the_plugin_skips_all_of_it() {
    let rules = r#"
SecRule &TX:shop-plugin_enabled "@eq 0" "id:9500010,phase:1,pass,nolog,setvar:'tx.shop-plugin_enabled=1'"
SecRule TX:shop-plugin_enabled "@eq 0" "id:9500099,phase:1,pass,nolog,skipAfter:END-SHOP"
SecAction "id:9500100,phase:1,pass,log"
SecMarker "END-SHOP"
SecAction "id:9500200,phase:1,pass,log"
"#;
    assert_eq!(ids(&run(&profile(rules), "/", None)), [9_500_100, 9_500_200]);
    let off =
        format!("SecAction \"id:1,phase:1,pass,nolog,setvar:tx.shop-plugin_enabled=0\"{rules}");
    assert_eq!(ids(&run(&profile(&off), "/", None)), [9_500_200]);
}

#[test]
fn exclusions_of_targets_hold_for_a_request() {
    let rules = |control: &str| {
        profile(&format!(
            "SecRule REQUEST_FILENAME \"@endsWith /wp-login.php\" \"id:9507100,phase:1,pass,t:none,nolog,{control}\"{CORE}"
        ))
    };
    let target = "/a/wp-login.php?pwd=attack";
    for (control, left) in [
        ("ver:'plugin/1.0'", &[942_100, 942_110, 932_100][..]),
        ("ctl:ruleRemoveTargetById=942100;ARGS:pwd", &[942_110, 932_100]),
        ("ctl:ruleRemoveTargetById=942100;ARGS:PWD", &[942_110, 932_100]),
        ("ctl:ruleRemoveTargetById=942100;ARGS", &[942_110, 932_100]),
        ("ctl:ruleRemoveTargetById=942100;ARGS_NAMES", &[942_100, 942_110, 932_100]),
        ("ctl:ruleRemoveTargetById=942100-942999;ARGS:pwd", &[932_100]),
        ("ctl:ruleRemoveTargetById=932100;ARGS:pwd", &[942_100, 942_110]),
        ("ctl:ruleRemoveTargetByTag=attack-sqli;ARGS:pwd", &[932_100]),
        ("ctl:ruleRemoveTargetByTag=OWASP_CRS;ARGS", &[932_100]),
        ("ctl:ruleRemoveById=942100", &[942_110, 932_100]),
        ("ctl:ruleRemoveById=942100-942199", &[932_100]),
        ("ctl:ruleRemoveByTag=attack-sqli", &[932_100]),
        ("ctl:ruleEngine=Off", &[]),
        ("ctl:ruleRemoveById=942110,ctl:ruleRemoveTargetById=942100;ARGS:pwd", &[932_100]),
    ] {
        let profile = rules(control);
        assert_eq!(ids(&run(&profile, target, None)), left, "{control}");
        let elsewhere = ids(&run(&profile, "/other?pwd=attack", None));
        assert_eq!(elsewhere, [942_100, 942_110, 932_100], "{control}");
    }
}

#[test]
fn exclusions_name_every_kind_of_target() {
    let part = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"attack\"\r\n\r\nx\r\n--b--\r\n";
    let form = "application/x-www-form-urlencoded";
    for (target, body) in [
        ("ARGS_NAMES:attack", (form, "attack=1")),
        ("REQUEST_BODY", (form, "x=1&attack")),
        ("XML:/*", ("text/xml", "<a>attack</a>")),
        ("XML", ("text/xml", "<a>attack</a>")),
        ("FILES:f", ("multipart/form-data; boundary=b", part)),
        ("FILES", ("multipart/form-data; boundary=b", part)),
        ("TX:probe", ("text/plain", "")),
    ] {
        // In the form the name is an argument's name, too.
        let both = if target == "REQUEST_BODY" {
            ",ctl:ruleRemoveTargetById=942100;ARGS_NAMES"
        } else {
            ""
        };
        let also = if target.starts_with("ARGS_NAMES") {
            ",ctl:ruleRemoveTargetById=942100;REQUEST_BODY"
        } else {
            ""
        };
        let set = if target == "TX:probe" { ",setvar:tx.probe=attack" } else { "" };
        let rules = |control: &str| {
            profile(&format!("SecAction \"id:9,phase:1,pass,nolog{set}{control}\"{CORE}"))
        };
        let found = |control: &str| ids(&run(&rules(control), "/", Some(body))).contains(&942_100);
        assert!(found(""), "{target}");
        assert!(
            !found(&format!(",ctl:ruleRemoveTargetById=942100;{target}{both}{also}")),
            "{target}"
        );
    }
}

#[test]
fn exclusions_at_load_take_ids_and_ranges() {
    let rules = profile(&format!(
        "{CORE}\nSecRuleUpdateTargetById 942100 \"!ARGS:pwd\"\n\
         SecRuleUpdateTargetById 942000-942199 \"!ARGS:note\"\n\
         SecRuleUpdateTargetById 942100 \"!REQUEST_COOKIES:/S?DW[a-f0-9]+/\"\n\
         SecRuleUpdateTargetById 932000-932999 !ARGS:/^no/"
    ));
    assert_eq!(ids(&run(&rules, "/?pwd=attack", None)), [942_110, 932_100]);
    assert_eq!(ids(&run(&rules, "/?note=attack", None)), [0_u32; 0]);
    assert_eq!(ids(&run(&rules, "/?x=attack", None)), [942_100, 942_110, 932_100]);
}

#[test]
fn a_counter_of_an_address_blocks_and_expires() {
    // dos-protection: counters that outlive the request, a flag with an expiry from a variable, and a dropped connection.
    let rules = profile(
        r#"
SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:tx.dos_counter_threshold=2,setvar:tx.dos_block_timeout=600"
SecRule IP:DOS_BLOCK "@eq 1" "id:9514110,phase:1,drop,log,msg:'blocked %{ip.dos_block_counter}',setvar:ip.dos_block_counter=+1"
SecRule IP:DOS_BLOCK "@eq 1" "id:9514120,phase:1,drop,nolog"
SecAction "id:9514140,phase:5,pass,nolog,setvar:ip.dos_counter=+1"
SecRule IP:DOS_COUNTER "@ge %{tx.dos_counter_threshold}" "id:9514150,phase:5,pass,nolog,\
  setvar:ip.dos_burst_counter=+1,expirevar:ip.dos_burst_counter=%{tx.dos_block_timeout},setvar:!ip.dos_counter"
SecRule &IP:DOS_BURST_COUNTER "@ge 1" "id:9514160,phase:5,pass,log,setvar:ip.dos_block=1,expirevar:'ip.dos_block=%{tx.dos_block_timeout}'"
"#,
    );
    assert_eq!(ids(&run(&rules, "/", None)), [0_u32; 0]);
    assert_eq!(ids(&run(&rules, "/", None)), [9_514_160]);
    let third = run(&rules, "/", None);
    assert_eq!(third.interruption().map(|it| it.rule_id), Some(9_514_110));
    assert_eq!(third.matches()[0].message, "blocked 1");
    assert_eq!(run(&rules, "/", None).matches()[0].message, "blocked 2");
}

#[test]
fn decoded_copies_are_kept_by_name_and_compared() {
    // auto-decoding: a copy of every argument under a name made of its own, then only those that differ.
    let rules = profile(
        r#"
SecRule ARGS "@unconditionalMatch" "id:9503100,phase:2,pass,nolog,t:none,t:base64DecodeExt,\
  setvar:'tx.tf_1_base64DecodeExt_%{MATCHED_VAR_NAME}=%{MATCHED_VAR}'"
SecRule TX:/^tf_1_*/ "!@streq %{ARGS}" "id:9503110,phase:2,pass,log,msg:'%{MATCHED_VAR_NAME}',logdata:'%{MATCHED_VAR}',chain"
  SecRule MATCHED_VAR "@contains attack" "t:none"
"#,
    );
    let found = run(&rules, "/?a=YXR0YWNr", None);
    assert_eq!(ids(&found), [9_503_110]);
    assert_eq!(found.matches()[0].data, "attack");
    assert_eq!(ids(&run(&rules, "/?a=attack", None)), [0_u32; 0]);
}

#[test]
fn every_transformation_of_a_plugin() {
    for (name, target, value) in [
        ("base64DecodeExt", "YW Jj", "abc"),
        ("cmdLine", "C^MD /C", "cmd/c"),
        ("compressWhitespace", "a%20%20%09b", "a b"),
        ("cssDecode", "%5c61%20k", "ak"),
        ("escapeSeqDecode", "%5cx41", "A"),
        ("hexDecode", "616263", "abc"),
        ("htmlEntityDecode", "%26lt;", "<"),
        ("jsDecode", "%5cu0041", "A"),
        ("length", "abcd", "4"),
        ("lowercase", "ABC", "abc"),
        ("normalizePath", "a/../b", "b"),
        ("normalizePathWin", "a%5c..%5cb", "b"),
        ("removeComments", "a/*b*/c", "ac"),
        ("removeCommentsChar", "a/*b*/c", "abc"),
        ("removeNulls", "a%00b", "ab"),
        ("removeWhitespace", "a%20b", "ab"),
        ("replaceComments", "a/*b*/c", "a c"),
        ("replaceNulls", "a%00b", "a b"),
        ("sha1,t:hexEncode", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("sqlHexDecode", "0x616263", "abc"),
        ("trim", "%20a%20", "a"),
        ("urlDecode", "%2541", "A"),
        ("urlDecodeUni", "%25u0041", "A"),
        ("utf8toUnicode", "%c3%a9", "%u00e9"),
    ] {
        let rules = profile(&format!(
            "SecRule ARGS:a \"@unconditionalMatch\" \"id:1,phase:1,pass,nolog,t:none,t:{name},setvar:'tx.out=%{{MATCHED_VAR}}'\""
        ));
        assert_eq!(tx(&run(&rules, &format!("/?a={target}"), None), "out"), value, "{name}");
    }
    assert_eq!(
        errors("SecRule ARGS \"@rx a\" \"id:1,pass,t:length\\\n    nolog\""),
        [("unknown-transformation", "unknown transformation `length    nolog`".to_string())],
        "a typo that one plugin has"
    );
}

#[test]
fn settings_of_other_rules_are_extended_and_emptied() {
    let rules = profile(
        r#"
SecAction "id:1,phase:1,pass,nolog,setvar:'tx.allowed_request_content_type=|text/xml|',setvar:'tx.allowed_methods=GET HEAD'"
SecAction "id:2,phase:1,pass,nolog,\
  setvar:'tx.allowed_request_content_type=%{tx.allowed_request_content_type} |application/octet-stream|',\
  setvar:'tx.allowed_methods=%{tx.allowed_methods} PROPFIND',setvar:'tx.database-logging-plugin_db_name=',setvar:!tx.1"
SecRule &TX:database-logging-plugin_db_name "@eq 1" "id:3,phase:1,pass,log"
SecRule TX:database-logging-plugin_db_name "@streq " "id:4,phase:1,pass,log"
SecRule REQUEST_METHOD "!@within %{tx.allowed_methods}" "id:5,phase:1,pass,log"
"#,
    );
    let found = run(&rules, "/", None);
    assert_eq!(tx(&found, "allowed_request_content_type"), "|text/xml| |application/octet-stream|");
    assert_eq!(tx(&found, "allowed_methods"), "GET HEAD PROPFIND");
    assert_eq!(ids(&found), [3, 4]);
}

#[test]
fn captures_name_variables_and_hold_across_a_chain() {
    // google-oauth2, referer-hardening, traffic-observation: captures in names and values, and jumps over counted rules.
    let rules = profile(
        r#"
SecRule ARGS_GET:scope "@rx ^(https?)://([^/:]+):?(\d*)" "id:1,phase:1,pass,nolog,capture,\
  setvar:'tx.google-oauth2-plugin_arg_name_%{tx.0}=/%{tx.0}/',setvar:'tx.host=%{TX.1} %{TX.2} %{TX.3}'"
SecRule TX:/^google-oauth2-plugin_arg_name_/ "@within x /https://accounts.example:8080/" "id:2,phase:1,pass,log,skip:1"
SecAction "id:3,phase:1,pass,log"
SecRule UNIQUE_ID "@rx ^." "id:4,phase:1,pass,nolog,t:sha1,t:hexEncode,capture,setvar:'tx.rnd=%{tx.0}'"
SecRule &REQUEST_HEADERS "@gt 0" "id:5,phase:1,pass,log,logdata:'%{REQUEST_PROTOCOL} %{REQUEST_METHOD} %{REQUEST_HEADERS.Host}'"
SecRule RESPONSE_STATUS "@streq 200" "id:6,phase:5,pass,log,logdata:'%{RESPONSE_STATUS} %{RESPONSE_HEADERS.Content-Length}',noauditlog"
SecRule REQUEST_HEADERS:Content-Length "@le 2" "id:7,phase:1,pass,log"
SecRule &REQUEST_COOKIES:/S?DW[a-f0-9]+/ "@eq 1" "id:8,phase:1,pass,log"
"#,
    );
    let found = run(&rules, "/?scope=https://accounts.example:8080/x", None);
    assert_eq!(ids(&found), [2, 5, 8, 6]);
    assert_eq!(tx(&found, "host"), "https accounts.example 8080");
    assert_eq!(tx(&found, "rnd").len(), 1);
    let matches = found.matches();
    let data: Vec<_> = matches.iter().map(|entry| entry.data.as_str()).collect();
    assert!(data.contains(&"HTTP/1.1 GET h") && data.contains(&"200 4"), "{data:?}");
}

#[test]
fn a_processor_is_chosen_for_a_request() {
    for (processor, body, argument) in
        [("JSON", r#"{"a":"x"}"#, "ARGS:json.a"), ("XML", "<a>x</a>", "XML:/*")]
    {
        let rules = profile(&format!(
            "SecRule REQUEST_FILENAME \"@beginsWith /dav\" \"id:1,phase:1,pass,nolog,ctl:requestBodyProcessor={processor}\"\n\
             SecRule {argument} \"@streq x\" \"id:2,phase:2,pass,log\""
        ));
        let body = Some(("application/octet-stream", body));
        assert_eq!(ids(&run(&rules, "/dav/file", body)), [2], "{processor}");
        assert_eq!(ids(&run(&rules, "/other", body)), [0_u32; 0], "{processor}");
    }
    let rules = profile(
        "SecAction \"id:1,phase:1,pass,nolog,ctl:ruleEngine=DetectionOnly,ctl:auditLogParts=+E\"\nSecAction \"id:2,phase:2,deny,log\"",
    );
    let found = run(&rules, "/", None);
    assert_eq!((ids(&found), found.interruption().is_some()), (vec![2], false));
}

#[test]
fn variables_of_the_engine_and_of_setenv() {
    let rules = profile(
        r#"
SecRule MODSEC_BUILD "@ge 020906000" "id:1,phase:1,pass,log"
SecAction "id:2,phase:1,pass,nolog,setenv:geoip_country_code=DE"
SecAction "id:3,phase:1,pass,nolog,setvar:'tx.country=%{env.geoip_country_code}'"
SecRule ARGS_POST:a "@eq 1" "id:4,phase:2,pass,log"
SecRule REMOTE_ADDR "@ipMatch 192.0.2.0/24,::1" "id:5,phase:1,pass,log"
SecRule REQUEST_BODY_LENGTH "@lt 30000000" "id:6,phase:2,pass,log"
"#,
    );
    let found = run(&rules, "/", Some(("application/x-www-form-urlencoded", "a=1")));
    assert_eq!(ids(&found), [1, 5, 4, 6]);
    assert_eq!(tx(&found, "country"), "DE");
}

#[test]
fn what_needs_another_program_is_an_error_that_names_it() {
    for (rules, named) in [
        ("SecRuleScript decompress.lua \"id:1,phase:3,pass\"", "decompress.lua"),
        (
            "SecRule FILES_TMPNAMES \"@inspectFile antivirus.lua\" \"id:1,phase:2,block\"",
            "FILES_TMPNAMES",
        ),
        (
            "SecRule REQUEST_HEADERS:User-Agent \"@inspectFile fake-bot.lua\" \"id:1,phase:1\"",
            "inspectFile",
        ),
        ("SecRule TX:addr \"@geoLookup\" \"id:1,phase:5,pass\"", "geoLookup"),
        ("SecAction \"id:1,phase:5,pass,setvar:'tx.c=%{geo.country_code}'\"", "geo.country_code"),
        ("SecRule &WEBSERVER_ERROR_LOG \"!@eq 0\" \"id:1,phase:5,pass\"", "WEBSERVER_ERROR_LOG"),
        ("SecAction \"id:1,phase:1,pass,exec:/x.lua\"", "exec"),
    ] {
        let errors = errors(rules);
        assert!(errors.iter().any(|(_, message)| message.contains(named)), "{named}: {errors:?}");
        assert!(errors.iter().all(|(code, _)| *code == "unsupported"), "{errors:?}");
        // Whoever can do without names the rule; what is missing is told.
        let source = SourceFile::new("plugin.conf", rules);
        let set = RuleSet::load(&[source], &[], &[1]).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(set.summary().left_out[0].construct.contains(named), "{named}");
    }
}
