//! Request bodies of every kind, heads, and responses: no input panics, and a body that is inspected is inspected alike
//! whichever rules look at it.

use std::sync::{Arc, OnceLock};

use sallyport_engine::{Client, Profile, ProfileOptions, RuleSet, SourceFile, Transaction};

const MEDIA_TYPES: [&str; 5] = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "application/json",
    "text/xml",
    "text/plain",
];

/// Rules that look at everything a body can fill, and count it.
const RULES: &str = r#"
Include @recommended
SecRuleEngine DetectionOnly
SecArgumentsLimit 64
SecRequestBodyJsonDepthLimit 16
SecRule ARGS|ARGS_NAMES|ARGS_POST|FILES|FILES_NAMES|MULTIPART_PART_HEADERS|XML:/*|XML://@*|REQUEST_BODY "@rx ." "id:1,phase:2,pass,nolog,setvar:tx.seen=+1"
SecRule &ARGS|&FILES|FILES_COMBINED_SIZE|ARGS_COMBINED_SIZE|REQUEST_BODY_LENGTH|MULTIPART_STRICT_ERROR|REQBODY_ERROR "@ge 0" "id:2,phase:2,pass,nolog"
SecRule ARGS "@rx ^(.)(.*)$" "id:3,phase:2,pass,log,capture,t:urlDecodeUni,t:lowercase,msg:'%{TX.1} %{MATCHED_VAR_NAME}',logdata:'%{TX.2}'"
SecRule RESPONSE_BODY|RESPONSE_HEADERS "@rx ." "id:4,phase:4,pass,log"
"#;

fn profile() -> &'static Arc<Profile> {
    static PROFILE: OnceLock<Arc<Profile>> = OnceLock::new();
    PROFILE.get_or_init(|| {
        let set = RuleSet::load(&[SourceFile::new("rules.conf", RULES)], &[], &[])
            .unwrap_or_else(|errors| panic!("{errors}"));
        Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()))
    })
}

/// The first byte chooses the media type; up to the first NUL there may be header lines of the input's own.
pub fn bodies(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (lines, body) = (&rest[..end], &rest[(end + usize::from(end > 0)).min(rest.len())..]);
    let media_type = MEDIA_TYPES[usize::from(*first) % MEDIA_TYPES.len()];
    let mut head =
        format!("POST /a?b=c HTTP/1.1\r\nhost: h\r\ncontent-type: {media_type}\r\n").into_bytes();
    head.extend_from_slice(lines);
    let client = Client::parse(b"192.0.2.7 4000 192.0.2.1 443 id");
    let mut transaction = Transaction::request(profile(), &client, &head, Some(body));
    let fields = transaction.matches().iter().filter(|entry| entry.id == 3).count();
    assert!(fields <= 66, "{fields} arguments in spite of the limit");
    transaction.response(200, b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n", Some(body));
    transaction.finish();
    for entry in transaction.matches() {
        assert!(entry.value.len() <= 4 * 200 + 16 && entry.value.is_ascii(), "{:?}", entry.value);
        assert!(!entry.log_line().contains('\n'));
    }
}
