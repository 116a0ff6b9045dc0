//! Behaviour in which this engine differs from libmodsecurity 3.0.9, one case each: the causes that
//! `waf_differential.rs` accepts name these tests.

use std::sync::Arc;

use sallyport_engine::{Client, Profile, ProfileOptions, RuleSet, SourceFile, Transaction};

fn transaction(rules: &str, data: &[SourceFile], head: &str, body: Option<&str>) -> Transaction {
    let text = format!("Include @recommended\nSecRuleEngine DetectionOnly\n{rules}");
    let set = RuleSet::load(&[SourceFile::new("rules.conf", text)], data, &[])
        .unwrap_or_else(|errors| panic!("{errors}"));
    let profile = Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()));
    let client = Client::parse(b"192.0.2.7 4000 192.0.2.1 443 request-1");
    Transaction::request(&profile, &client, head.as_bytes(), body.map(str::as_bytes))
}

fn ids(transaction: &Transaction) -> Vec<u32> {
    transaction.matches().iter().map(|entry| entry.id).collect()
}

/// Ids that match on a GET request.
fn on_get(rules: &str, target: &str) -> Vec<u32> {
    ids(&transaction(rules, &[], &format!("GET {target} HTTP/1.1\r\nhost: h\r\n"), None))
}

fn on_post(rules: &str, content_type: &str, body: &str) -> Vec<u32> {
    let head = format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-type: {content_type}\r\n");
    ids(&transaction(rules, &[], &head, Some(body)))
}

#[test]
fn events_by_the_list_or_any() {
    let rules = "SecRule ARGS \"@detectXSS\" \"id:1,pass,log\"\nSecRule ARGS \"@detectXSS any\" \"id:2,pass,log\"";
    assert_eq!(on_get(rules, "/?a=<x%20onclick=1>"), [1, 2]);
    assert_eq!(on_get(rules, "/?a=<x%20onbeforedeactivate=1>"), [2]);
}

#[test]
fn the_body_variable_holds_urlencoded_bodies() {
    let rules = "SecRule REQUEST_BODY \"@contains x\" \"id:1,phase:2,pass,log\"";
    assert_eq!(on_post(rules, "application/x-www-form-urlencoded", "a=x"), [1]);
    assert_eq!(on_post(rules, "application/json", "{\"a\":\"x\"}"), [0_u32; 0]);
    assert_eq!(on_post(rules, "text/xml", "<a>x</a>"), [0_u32; 0]);
    let part = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b--\r\n";
    assert_eq!(on_post(rules, "multipart/form-data; boundary=b", part), [0_u32; 0]);
}

#[test]
fn anchors_mean_the_ends_of_the_value() {
    let rules =
        "SecRule ARGS \"@rx ^b\" \"id:1,pass,log\"\nSecRule ARGS \"@rx b$\" \"id:2,pass,log\"";
    assert_eq!(on_get(rules, "/?a=a%0Ab%0Aa"), [0_u32; 0]);
    assert_eq!(on_get(rules, "/?a=b%0A"), [1]);
    assert_eq!(on_get(rules, "/?a=a%0Ab"), [2]);
}

#[test]
fn multipart_values_keep_their_line_feeds() {
    let rules = "SecRule ARGS:a \"@rx ^one\\x0atwo$\" \"id:1,phase:2,pass,log\"";
    let part = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\ntwo\r\n--b--\r\n";
    // the strict check flags the line feed, and the value has it all the same
    let found = on_post(rules, "multipart/form-data; boundary=b", part);
    assert!(found.contains(&1), "{found:?}");
}

#[test]
fn transformations_go_on_after_a_nul() {
    let list =
        "t:utf8toUnicode,t:urlDecodeUni,t:htmlEntityDecode,t:jsDecode,t:cssDecode,t:removeNulls";
    let rules = format!("SecRule ARGS \"@contains <script\" \"id:1,pass,log,{list}\"");
    assert_eq!(on_get(&rules, "/?a=%253Cscr%2500ipt"), [1]);
}

#[test]
fn the_path_ends_at_the_question_mark_that_was_sent() {
    let rules = "SecRule REQUEST_FILENAME \"@streq /a?b\" \"id:1,phase:1,pass,log\"";
    assert_eq!(on_get(rules, "/a%3Fb?c"), [1]);
}

#[test]
fn a_phrase_inside_the_beginning_of_another_is_found() {
    let rules = "SecRule ARGS \"@pmFromFile list.data\" \"id:1,pass,log\"";
    let list = SourceFile::new(
        "list.data",
        "etc/apache/other.conf\nusr/local/etc/apache/x.conf\napache/php.ini\n",
    );
    let head = "GET /?a=usr/local/etc/apache/php.ini HTTP/1.1\r\nhost: h\r\n";
    assert_eq!(ids(&transaction(rules, &[list], head, None)), [1]);
}

#[test]
fn a_chained_rule_over_matched_vars_counts_once() {
    let rules = r#"
SecRule ARGS "@rx x" "id:1,phase:2,pass,log,t:none,t:urlDecodeUni,chain"
  SecRule MATCHED_VARS "!@rx ^y$" "setvar:tx.score=+5"
"#;
    let head = "GET /?a=x1&b=2 HTTP/1.1\r\nhost: h\r\n";
    let transaction = transaction(rules, &[], head, None);
    assert_eq!(ids(&transaction), [1]);
    assert_eq!(transaction.tx("score"), Some(b"5".to_vec()));
}

#[test]
fn the_uri_is_as_sent() {
    let rules = "SecRule REQUEST_URI \"@streq /%28?a=%29\" \"id:1,phase:1,pass,log\"";
    assert_eq!(on_get(rules, "/%28?a=%29"), [1]);
}

#[test]
fn a_chain_logs_when_all_its_links_match() {
    let rules = r#"
SecRule ARGS "@rx (\w+)=(\w+)" "id:1,phase:2,pass,log,capture,multiMatch,t:none,t:urlDecodeUni,t:replaceComments,chain"
  SecRule TX:1 "!@streq %{TX.2}" "t:none"
"#;
    assert_eq!(on_get(rules, "/?a=x=x"), [0_u32; 0]);
    assert_eq!(on_get(rules, "/?a=x=y"), [1]);
}

#[test]
fn what_was_read_of_a_broken_xml_body_is_inspected() {
    let rules = "SecRule XML:/* \"@contains attack\" \"id:1,phase:2,pass,log\"";
    let found = on_post(rules, "text/xml", "<a><b>attack</b><c></a>");
    assert!(found.contains(&1) && found.contains(&200_002), "{found:?}");
}

#[test]
fn a_system_identifier_may_be_any_text() {
    let rules = "SecRule XML:/* \"@contains x\" \"id:1,phase:2,pass,log\"";
    let body = "<!DOCTYPE a [<!ENTITY % p SYSTEM \"file:///C:\\a b\">%p;]><a>x</a>";
    assert_eq!(on_post(rules, "text/xml", body), [1]);
}
