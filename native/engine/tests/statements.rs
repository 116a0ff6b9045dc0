//! Statements of `seclang.md` that no vector and no other test states, section by section.

use std::sync::Arc;

use sallyport_engine::{Client, Profile, ProfileOptions, RuleSet, SourceFile, Transaction};

const FORM: &str = "application/x-www-form-urlencoded";

fn profile(rules: &str) -> Arc<Profile> {
    let set = RuleSet::load(&[SourceFile::new("rules.conf", rules)], &[], &[])
        .unwrap_or_else(|errors| panic!("{errors}"));
    Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()))
}

fn exchange(rules: &str, head: &str, body: Option<&[u8]>) -> Transaction {
    let client = Client::parse(b"192.0.2.7 4000 192.0.2.1 443 request-1");
    let mut transaction = Transaction::request(&profile(rules), &client, head.as_bytes(), body);
    let response =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nset-cookie: a\r\nset-cookie: b\r\n";
    transaction.response(200, response, Some(b"a page"));
    transaction.finish();
    transaction
}

fn get(rules: &str, target: &str) -> Transaction {
    exchange(rules, &format!("GET {target} HTTP/1.1\r\nhost: h\r\n"), None)
}

fn post(rules: &str, media_type: &str, body: &str) -> Transaction {
    let head = format!("POST /p HTTP/1.1\r\nhost: h\r\ncontent-type: {media_type}\r\n");
    exchange(
        &format!("Include @recommended\nSecRuleEngine DetectionOnly\n{rules}"),
        &head,
        Some(body.as_bytes()),
    )
}

fn ids(transaction: &Transaction) -> Vec<u32> {
    transaction.matches().iter().map(|entry| entry.id).filter(|id| *id < 200_000).collect()
}

/// `name=value` of every target of a list of variables, in phase 2.
fn targets(of: impl Fn(&str) -> Transaction, variables: &str) -> Vec<String> {
    let rule =
        format!("SecRule {variables} \"@unconditionalMatch\" \"id:1,phase:2,pass,log,t:none\"");
    let transaction = of(&rule);
    let matches = transaction.matches();
    let own = matches.iter().filter(|entry| entry.id == 1);
    own.map(|entry| format!("{}={}", entry.variable, entry.value)).collect()
}

// ── 4: variables ──

#[test]
fn s4_2_paths() {
    let of =
        |target: &'static str| move |variables: &str| targets(|rule| get(rule, target), variables);
    assert_eq!(of("/a/b.php?c#d")("REQUEST_BASENAME"), ["REQUEST_BASENAME=b.php"]);
    assert_eq!(of("/a/")("REQUEST_BASENAME"), ["REQUEST_BASENAME="]);
    assert_eq!(of("/a%5cb%2fc")("REQUEST_BASENAME"), ["REQUEST_BASENAME=c"]);
    assert_eq!(of("/%61?b=%62")("REQUEST_FILENAME"), ["REQUEST_FILENAME=/a"]);
    assert_eq!(of("/a?b=c?d#e")("QUERY_STRING"), ["QUERY_STRING=b=c?d"]);
    assert_eq!(of("/a?b#c")("REQUEST_URI"), ["REQUEST_URI=/a?b"]);
    assert_eq!(of("/a?b#c")("REQUEST_URI_RAW"), ["REQUEST_URI_RAW=/a?b#c"]);
    assert_eq!(of("http://x.y/a?b#c")("REQUEST_URI"), ["REQUEST_URI=/a?b"]);
    assert_eq!(of("http://x.y/a")("REQUEST_URI_RAW"), ["REQUEST_URI_RAW=http://x.y/a"]);
    assert_eq!(of("/a b")("REQUEST_METHOD|REQUEST_PROTOCOL").len(), 2);
    assert_eq!(of("/a?b")("REQUEST_LINE"), ["REQUEST_LINE=GET /a?b HTTP/1.1"]);
    assert_eq!(of("/?a=bc&d=%65")("ARGS_COMBINED_SIZE"), ["ARGS_COMBINED_SIZE=5"]);
    assert_eq!(of("/")("FILES_COMBINED_SIZE"), ["FILES_COMBINED_SIZE=0"]);
    assert_eq!(of("/")("REQBODY_PROCESSOR"), ["REQBODY_PROCESSOR="]);
}

#[test]
fn s4_2_headers_and_cookies() {
    let head = "GET / HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nX-A: 2\r\ncookie: a=b=c;  d ; =e; f=\"g\"; a=%41\r\n";
    let of = |variables| targets(|rule| exchange(rule, head, None), variables);
    assert_eq!(of("REQUEST_HEADERS:x-A"), ["REQUEST_HEADERS:x-A=1, 2"]);
    assert_eq!(of("&REQUEST_HEADERS:x-a"), ["&REQUEST_HEADERS:x-a=1"]);
    assert_eq!(
        of("REQUEST_COOKIES"),
        [
            "REQUEST_COOKIES:a=b=c",
            "REQUEST_COOKIES:d =",
            "REQUEST_COOKIES:f=\\\"g\\\"",
            "REQUEST_COOKIES:a=%41"
        ]
    );
    assert_eq!(of("REQUEST_COOKIES_NAMES").len(), 4);
    assert_eq!(of("&REQUEST_COOKIES:A"), ["&REQUEST_COOKIES:A=2"]);
}

#[test]
fn s4_3_names_are_escaped_and_keep_their_case() {
    let of = |variables| targets(|rule| get(rule, "/?Na%0Ame=1&na%0ame=2"), variables);
    assert_eq!(of("ARGS"), ["ARGS:Na\\x0ame=1", "ARGS:na\\x0ame=2"]);
    assert_eq!(of("ARGS:/^NA/").len(), 2);
    let marks = targets(|rule| get(rule, "/?%22%5c=1"), "ARGS");
    assert_eq!(marks, ["ARGS:\\\"\\\\=1"]);
    assert_eq!(of("ARGS|!ARGS:/na/"), [""; 0]);
    assert_eq!(of("ARGS|!ARGS"), [""; 0]);
    assert_eq!(of("&ARGS"), ["&ARGS=2"]);
}

// ── 5: from bytes to variables ──

#[test]
fn s5_1_pieces_of_a_query() {
    let of = |target: &'static str| targets(move |rule| get(rule, target), "ARGS_GET");
    assert_eq!(of("/?a&=b&&c=d&"), ["ARGS_GET:a=", "ARGS_GET:=b", "ARGS_GET:=", "ARGS_GET:c=d"]);
    assert_eq!(of("/?a=b+c%2b%zz%4"), ["ARGS_GET:a=b c+%zz%4"]);
    assert_eq!(of("/?a=%2541%u0041"), ["ARGS_GET:a=%41%u0041"]);
    assert_eq!(of("/?"), [""; 0]);
    let error =
        |target: &str| get("SecRule URLENCODED_ERROR \"@eq 1\" \"id:1,phase:2,pass,log\"", target);
    assert_eq!(ids(&error("/?a=%zz")), [1]);
    assert_eq!(ids(&error("/?a=%41")), [0_u32; 0]);
    let other = "SecArgumentSeparator ;\n";
    assert_eq!(
        targets(|rule| get(&format!("{other}{rule}"), "/?a=1;b=2&c"), "ARGS"),
        ["ARGS:a=1", "ARGS:b=2&c"]
    );
}

#[test]
fn s5_1_phase_1_has_the_query_only() {
    let rules = "SecRule &ARGS \"@eq 1\" \"id:1,phase:1,pass,log\"\nSecRule &ARGS \"@eq 2\" \"id:2,phase:2,pass,log\"\n\
                 SecRule &ARGS_POST \"@eq 1\" \"id:3,phase:2,pass,log\"";
    let head = format!("POST /?a=1 HTTP/1.1\r\nhost: h\r\ncontent-type: {FORM}\r\n");
    assert_eq!(ids(&exchange(rules, &head, Some(b"b=2"))), [1, 2, 3]);
}

#[test]
fn s5_2_json_names_values_and_limits() {
    let of =
        |body: &'static str| targets(move |rule| post(rule, "application/json", body), "ARGS_POST");
    assert_eq!(
        of(r#"{"a":{"b":1},"c":[true,null,{"d":"\u00e9\n"}],"a":"2"}"#),
        [
            "ARGS_POST:json.a.b=1",
            "ARGS_POST:json.c.array_0=true",
            "ARGS_POST:json.c.array_1=",
            "ARGS_POST:json.c.array_2.d=\\xc3\\xa9\\n",
            "ARGS_POST:json.c=3",
            "ARGS_POST:json.a=2"
        ]
    );
    assert_eq!(of("5"), ["ARGS_POST:json=5"]);
    assert_eq!(of("[1.50e3]")[0], "ARGS_POST:json.array_0=1.50e3");
    assert_eq!(of(r#"{"a":1,"b":"#), ["ARGS_POST:json.a=1"], "what was parsed is inspected");
    let error = |limits: &str, body: &str| {
        let rule = format!("{limits}\nSecRule REQBODY_ERROR \"@eq 1\" \"id:1,phase:2,pass,log\"");
        ids(&post(&rule, "application/json", body)) == [1]
    };
    assert!(!error("", ""), "an empty body is not an error");
    assert!(error("", "{\"a\""));
    assert!(error("SecRequestBodyJsonDepthLimit 3", "[[[[1]]]]"));
    assert!(!error("SecRequestBodyJsonDepthLimit 4", "[[[[1]]]]"));
    assert!(error("SecArgumentsLimit 2", "[1,2,3]"));
}

#[test]
fn s5_3_files_are_no_arguments() {
    let body = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\nX-Y: z\r\n\r\n%41\r\n--b\r\n\
                Content-Disposition: form-data; name=\"f\"; filename=\"g.php\"\r\n\r\nabc\r\n--b--\r\n";
    let of =
        |variables| targets(|rule| post(rule, "multipart/form-data; boundary=b", body), variables);
    assert_eq!(of("ARGS"), ["ARGS:a=%41"]);
    assert_eq!(of("FILES"), ["FILES:f=g.php"]);
    assert_eq!(of("FILES_NAMES"), ["FILES_NAMES:f=f"]);
    assert_eq!(of("FILES_COMBINED_SIZE"), ["FILES_COMBINED_SIZE=3"]);
    assert_eq!(
        of("MULTIPART_PART_HEADERS:a"),
        [
            "MULTIPART_PART_HEADERS:a=Content-Disposition: form-data; name=\\\"a\\\"",
            "MULTIPART_PART_HEADERS:a=X-Y: z"
        ]
    );
    assert_eq!(of("MULTIPART_STRICT_ERROR|MULTIPART_UNMATCHED_BOUNDARY").len(), 2);
}

#[test]
fn s5_4_xml_is_one_text_and_its_attributes() {
    let body = "<a b=\"1\"><c d=\"&lt;2\">x&amp;</c> y<!-- no --><![CDATA[<z>]]></a>";
    let of = |variables| targets(|rule| post(rule, "text/xml", body), variables);
    assert_eq!(of("XML:/*"), ["XML:/*=x& y<z>"]);
    assert_eq!(of("XML://@*"), ["XML://@*=1", "XML://@*=<2"]);
    assert_eq!(of("ARGS"), [""; 0], "no arguments arise");
    let of = |variables| targets(|rule| post(rule, "application/soap+xml", "<a"), variables);
    assert_eq!(of("REQBODY_ERROR"), ["REQBODY_ERROR=1"]);
    let foreign = "<!DOCTYPE a [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><a>&e;</a>";
    let of = |variables| targets(|rule| post(rule, "text/xml", foreign), variables);
    assert_eq!(of("XML:/*"), ["XML:/*="], "no external entities");
}

#[test]
fn s5_5_when_the_body_variable_is_set() {
    let set = |force: &str, media_type: &str, body: &str| {
        let rules = format!("{force}\nSecRule REQUEST_BODY \"@contains x\" \"id:1,phase:2,pass,log\"\nSecRule &ARGS \"@gt 0\" \"id:2,phase:2,pass,log\"");
        ids(&post(&rules, media_type, body))
    };
    let force = "SecRule REQBODY_PROCESSOR \"!@rx (?:URLENCODED|MULTIPART|XML|JSON)\" \"id:9,phase:1,pass,nolog,ctl:forceRequestBodyVariable=On\"";
    assert_eq!(set("", FORM, "x=1"), [1, 2]);
    assert_eq!(set("", "text/plain", "x=1"), [0_u32; 0]);
    assert_eq!(set(force, "text/plain", "x=1"), [1], "set, and no argument arises");
    assert_eq!(set(force, "application/json", "{\"a\":\"x\"}"), [2]);
    assert_eq!(set(force, "text/xml", "<a>x</a>"), [0_u32; 0]);
}

#[test]
fn s5_6_a_processor_is_chosen_in_phase_1_only() {
    let rules = |phase: u8| {
        format!("SecAction \"id:9,phase:{phase},pass,nolog,ctl:requestBodyProcessor=JSON\"\nSecRule ARGS:json.a \"@eq 1\" \"id:1,phase:2,pass,log\"")
    };
    assert_eq!(ids(&post(&rules(1), "text/plain", "{\"a\":1}")), [1]);
    assert_eq!(ids(&post(&rules(2), "text/plain", "{\"a\":1}")), [0_u32; 0]);
    let closed = "SecRequestBodyAccess Off\nSecRule REQUEST_METHOD \"@streq POST\" \"id:1,phase:2,pass,log\"\nSecRule &ARGS \"@eq 0\" \"id:2,phase:2,pass,log\"";
    assert_eq!(ids(&post(closed, FORM, "a=1")), [1, 2], "the phase runs without the body");
}

// ── 6 and 7: lists of transformations, operators ──

#[test]
fn s6_2_none_empties_the_list_and_links_have_their_own() {
    let rules = "SecDefaultAction \"phase:2,log,pass,t:lowercase\"\n\
                 SecRule ARGS:a \"@streq abc\" \"id:1,phase:2\"\n\
                 SecRule ARGS:a \"@streq ABC\" \"id:2,phase:2,t:none\"\n\
                 SecRule ARGS:a \"@streq abc\" \"id:3,phase:2,chain\"\n  SecRule ARGS:a \"@streq ABC\"\n\
                 SecRule ARGS:a \"@streq 6162\" \"id:4,phase:2,t:length,t:none,t:trimRight,t:lowercase,t:removeNulls,chain\"\n  SecRule ARGS:a \"@streq ABC\"";
    assert_eq!(ids(&get(rules, "/?a=ABC")), [1, 2, 3]);
}

#[test]
fn s7_2_captures_are_ten_and_cleared() {
    let rules = "SecRule ARGS:a \"@rx (a)(b)?(c)(d)(e)(f)(g)(h)(i)(j)(k)\" \"id:1,phase:2,pass,log,capture,msg:'%{TX.0}|%{TX.2}|%{TX.9}|%{TX.10}'\"\n\
                 SecRule ARGS:b \"@rx (x)\" \"id:2,phase:2,pass,log,capture,msg:'%{TX.1}|%{TX.3}'\"";
    let found = get(rules, "/?a=acdefghijk&b=x");
    let messages: Vec<_> = found.matches().into_iter().map(|it| it.message).collect();
    assert_eq!(messages, ["acdefghijk||i|", "x|"]);
}

#[test]
fn s7_3_operators_on_empty_values_and_odd_arguments() {
    let matches = |operator: &str, value: &str| {
        let rule = format!("SecRule ARGS:a \"{operator}\" \"id:1,phase:2,pass,log\"");
        ids(&get(&rule, &format!("/?a={value}"))) == [1]
    };
    for (operator, value, expected) in [
        ("@within GET HEAD", "", true),
        ("@within GET HEAD", "ET%20HE", true),
        ("@contains ", "", true),
        ("@pm a b", "", false),
        ("@pm '|41 42|c x'", "zABc", false),
        ("@pm |41 42|c", "zABc", true),
        ("@validateByteRange 1-255", "", false),
        ("@validateUrlEncoding", "", false),
        ("@validateUrlEncoding", "%2541", false),
        ("@validateUrlEncoding", "%254", true),
        ("@validateUtf8Encoding", "%ed%a0%80", true),
        ("@validateUtf8Encoding", "%c3%a9", false),
        ("@eq 0", "abc", true),
        ("@eq 12", "%2012x", true),
        ("@ge -1", "-1", true),
        ("@lt 5", "4.9", true),
        ("!@eq 1", "1", false),
        ("@ipMatch 10.0.0.0/8,2001:db8::/32", "2001:db8::5", true),
        ("@ipMatch 10.0.0.0/8", "11.0.0.1", false),
        ("@unconditionalMatch", "", true),
        ("!@unconditionalMatch", "", false),
        ("@noMatch", "", false),
        ("^abc$", "abc", true),
        ("!^abc$", "abc", false),
    ] {
        assert_eq!(matches(operator, value), expected, "{operator} on {value}");
    }
    let rules =
        "SecRule ARGS:a \"@pm select union\" \"id:1,phase:2,pass,log,capture,msg:'%{TX.0}'\"\n\
                 SecRule ARGS:x \"@detectXSS\" \"id:2,phase:2,pass,log,capture,msg:'%{TX.0}'\"\n\
                 SecRule ARGS:s \"@detectSQLi\" \"id:3,phase:2,pass,log,capture,msg:'%{TX.0}'\"";
    let found = get(rules, "/?a=a+UNION+select&x=<script>1&s=1%27%20or%20%271%27=%271");
    let messages: Vec<_> = found.matches().into_iter().map(|it| it.message).collect();
    assert_eq!(messages, ["union", "<script>1", "s&sos"]);
}

#[test]
fn s7_3_a_negated_operator_matches_each_target_that_fails() {
    let rules = "SecRule ARGS \"!@streq x\" \"id:1,phase:2,pass,log,msg:'%{MATCHED_VAR_NAME}'\"";
    let found = get(rules, "/?a=x&b=y&c=z");
    let messages: Vec<_> = found.matches().into_iter().map(|it| it.message).collect();
    assert_eq!(messages, ["ARGS:b", "ARGS:c"]);
}

// ── 8, 9, 10: actions, order, variables that rules write ──

#[test]
fn s8_1_the_last_disruptive_action_wins_and_severities_have_names() {
    let rules = "SecAction \"id:1,phase:1,deny,pass,log,severity:2\"\nSecAction \"id:2,phase:1,pass,log,severity:'ERROR'\"\n\
                 SecAction \"id:3,phase:request,pass,log,severity:7\"\nSecAction \"id:4,phase:logging,pass,log\"";
    let found = get(rules, "/");
    assert!(found.interruption().is_none());
    let severities: Vec<_> = found.matches().into_iter().map(|it| it.severity).collect();
    assert_eq!(severities, ["critical", "error", "debug", ""]);
}

#[test]
fn s8_1_redirects_and_statuses() {
    let found = get(
        "SecRule ARGS:a \"@rx (.+)\" \"id:1,phase:2,redirect:'https://x.example/%{ARGS.a}',log,capture\"",
        "/?a=b",
    );
    let stop = found.interruption().expect("a redirect");
    assert_eq!((stop.status, stop.location.as_deref()), (302, Some("https://x.example/b")));
    let status = |action: &str| {
        get(&format!("SecAction \"id:1,phase:1,log,{action}\""), "/")
            .interruption()
            .map(|it| it.status)
    };
    assert_eq!(status("deny"), Some(403));
    assert_eq!(status("deny,status:429"), Some(429));
    assert!(status("drop").is_some());
}

#[test]
fn s8_2_a_removed_starter_removes_its_chain_and_nothing_is_removed_backwards() {
    let rules = "SecAction \"id:1,phase:2,pass,log\"\n\
                 SecAction \"id:2,phase:2,pass,nolog,ctl:ruleRemoveById=1,ctl:ruleRemoveById=3\"\n\
                 SecRule ARGS:a \"@eq 1\" \"id:3,phase:2,pass,log,chain,setvar:tx.start=1\"\n  SecRule ARGS:a \"@eq 1\"\n\
                 SecAction \"id:4,phase:2,pass,log\"";
    let found = get(rules, "/?a=1");
    assert_eq!(ids(&found), [1, 4]);
    assert_eq!(found.tx("start"), None);
}

#[test]
fn s9_a_jump_without_its_marker_ends_the_phase_only() {
    let rules = "SecAction \"id:1,phase:1,pass,log,skipAfter:NOWHERE\"\nSecAction \"id:2,phase:1,pass,log\"\nSecAction \"id:3,phase:2,pass,log\"";
    assert_eq!(ids(&get(rules, "/")), [1, 3]);
}

#[test]
fn s10_1_dots_signs_and_missing_variables() {
    let rules = "SecAction \"id:1,phase:1,pass,nolog,setvar:tx.a.b.c=1,setvar:TX.Missing=+5,setvar:tx.neg=-5,setvar:tx.text=abc,setvar:tx.text=+2,\
                 setvar:'tx.sum=+%{tx.missing}',setvar:tx.quoted='x y'\"";
    let found = get(rules, "/");
    let tx = |name: &str| String::from_utf8(found.tx(name).unwrap_or_default()).unwrap();
    assert_eq!(tx("A.B.C"), "1");
    assert_eq!(tx("missing"), "5");
    assert_eq!(tx("neg"), "0");
    assert_eq!(tx("text"), "2");
    assert_eq!(tx("sum"), "5");
}

#[test]
fn s10_1_a_sign_in_an_expanded_value_is_text() {
    let rules = "SecRule ARGS:a \"@rx .\" \"id:1,phase:2,pass,nolog,setvar:tx.n=1,setvar:'tx.n=%{ARGS.a}'\"";
    let found = get(rules, "/?a=%2b5");
    assert_eq!(found.tx("n"), Some(b"+5".to_vec()));
}

#[test]
fn s10_3_macros_take_the_first_value_and_nothing_for_what_is_not_there() {
    let rules = "SecRule ARGS \"@rx x\" \"id:1,phase:2,pass,log,msg:'%{ARGS} %{args.b} %{REQUEST_HEADERS.HOST} [%{tx.none}] %{REMOTE_ADDR} %{RULE.id}',tag:'t-%{ARGS.b}'\"";
    let found = get(rules, "/?a=x&b=2");
    assert_eq!(found.matches()[0].message, "x 2 h [] 192.0.2.7 1");
    assert_eq!(found.matches()[0].tags, ["t-2"]);
}

// ── 11 and 13: limits, logging ──

#[test]
fn s11_limits_of_a_request_body() {
    let head = format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-type: {FORM}\r\n");
    let run = |settings: &str| {
        let rules = format!("{settings}\nSecRequestBodyLimit 8\nSecRule INBOUND_DATA_ERROR \"@eq 1\" \"id:1,phase:2,pass,log\"\nSecRule ARGS:a \"@rx .\" \"id:2,phase:2,pass,log,logdata:'%{{MATCHED_VAR}}'\"");
        exchange(&rules, &head, Some(b"a=1234567890"))
    };
    let found = run("SecRuleEngine On\nSecRequestBodyLimitAction Reject");
    assert_eq!(found.interruption().map(|it| it.status), Some(413));
    let found = run("SecRuleEngine DetectionOnly\nSecRequestBodyLimitAction Reject");
    assert!(found.interruption().is_none());
    assert!(ids(&found).contains(&1), "in DetectionOnly nothing is rejected");
    let found = run("SecRuleEngine On\nSecRequestBodyLimitAction ProcessPartial");
    assert_eq!(ids(&found), [1, 2]);
    assert_eq!(found.matches()[1].data, "123456");
}

#[test]
fn s11_limits_of_a_response_body() {
    let rules = |settings: &str| {
        format!("{settings}\nSecResponseBodyLimit 3\nSecRule OUTBOUND_DATA_ERROR \"@eq 1\" \"id:1,phase:4,pass,log\"\nSecRule RESPONSE_BODY \"@rx .\" \"id:2,phase:4,pass,log,logdata:'%{{MATCHED_VAR}}'\"")
    };
    let found = get(&rules("SecResponseBodyLimitAction ProcessPartial"), "/");
    assert_eq!((ids(&found), found.matches()[1].data.as_str()), (vec![1, 2], "a p"));
    let found = get(&rules("SecResponseBodyLimitAction Reject"), "/");
    assert_eq!(found.interruption().map(|it| it.status), Some(500));
    let unlisted = "SecResponseBodyMimeType application/json\nSecAction \"id:1,phase:4,pass,log\"\nSecRule RESPONSE_BODY \"@rx .\" \"id:2,phase:4,pass,log\"";
    assert_eq!(ids(&get(unlisted, "/")), [1], "the phase runs without the body");
}

#[test]
fn s13_3_fields_of_a_line_have_modsecuritys_order() {
    let rules = "SecRule ARGS:a \"@rx x\" \"id:1,phase:2,pass,log,msg:'a message',logdata:'Matched Data: %{MATCHED_VAR} found within %{MATCHED_VAR_NAME}',severity:CRITICAL,ver:'v/1',tag:'one',tag:'two'\"";
    let line = get(rules, "/?a=x").matches()[0].log_line();
    let fields = [
        "[file ",
        "[line ",
        "[id \"1\"]",
        "[msg \"a message\"]",
        "[data \"Matched Data: x found within ARGS:a\"]",
        "[severity ",
        "[ver \"v/1\"]",
        "[tag \"one\"]",
        "[tag \"two\"]",
    ];
    let places: Vec<_> = fields
        .iter()
        .map(|field| line.find(field).unwrap_or_else(|| panic!("{field} in {line}")))
        .collect();
    assert!(places.is_sorted(), "{line}");
}
