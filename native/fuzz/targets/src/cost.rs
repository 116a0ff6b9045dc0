//! No input makes a scan superlinear: CPU time grows in step with the bytes.
//!
//! The rules are behind the most expensive lists of transformations and have patterns of the shapes that are slow elsewhere.

use std::sync::{Arc, OnceLock};

use rustix::time::{clock_gettime, ClockId};
use sallyport_engine::{Client, Profile, ProfileOptions, RuleSet, SourceFile, Transaction};

const RULES: &str = r#"
Include @recommended
SecRuleEngine DetectionOnly
SecRule ARGS|ARGS_NAMES|REQUEST_BODY|XML:/*|FILES "@rx (?i)(?:a+)+b|(?:x.*){6}y|\b(?:union|select)\b.{0,60}from" "id:1,phase:2,pass,log,multiMatch,t:none,t:utf8toUnicode,t:urlDecodeUni,t:htmlEntityDecode,t:jsDecode,t:cssDecode,t:removeNulls"
SecRule ARGS|ARGS_NAMES|REQUEST_BODY|XML:/* "@detectSQLi" "id:2,phase:2,pass,nolog,t:none,t:urlDecodeUni,t:replaceComments"
SecRule ARGS|ARGS_NAMES|REQUEST_BODY|XML:/* "@detectXSS" "id:3,phase:2,pass,nolog,t:none,t:removeComments,t:normalizePathWin,t:cmdLine"
SecRule ARGS_NAMES "@rx ." "id:4,phase:2,pass,nolog,setvar:'tx.n_%{MATCHED_VAR_NAME}=+1'"
SecRule TX:/^n_/ "@gt 1" "id:5,phase:2,pass,nolog,setvar:tx.score=+1"
SecRule ARGS "@pm a aa aaa aaaa b ab ba" "id:6,phase:2,pass,nolog,t:none,t:escapeSeqDecode,t:base64DecodeExt"
"#;

const MEDIA_TYPES: [&str; 4] = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "application/json",
    "text/xml",
];

/// Inputs are repeated to this length, and to eight times as much: linear work grows eightfold, quadratic work sixty-fourfold.
const BYTES: usize = 12 * 1024;
const TIMES: usize = 8;
const MOST: u64 = 24;
/// Work below this says nothing.
const LEAST_NS: u64 = 5_000_000;
const ROUNDS: usize = 3;

fn profile() -> &'static Arc<Profile> {
    static PROFILE: OnceLock<Arc<Profile>> = OnceLock::new();
    PROFILE.get_or_init(|| {
        let set = RuleSet::load(&[SourceFile::new("rules.conf", RULES)], &[], &[])
            .unwrap_or_else(|errors| panic!("{errors}"));
        Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()))
    })
}

/// The first byte chooses the media type, the second how the rest is repeated: whole, or its end alone.
pub fn cost(data: &[u8]) {
    let [first, second, unit @ ..] = data else { return };
    if unit.is_empty() {
        return;
    }
    let media_type = MEDIA_TYPES[usize::from(*first) % MEDIA_TYPES.len()];
    let kept = if second % 2 == 0 { 0 } else { unit.len() / 2 };
    let body = |bytes: usize| {
        let mut body = unit[..kept].to_vec();
        body.extend(unit[kept..].iter().cycle().take(bytes));
        body
    };
    let (small, large) = (body(BYTES), body(TIMES * BYTES));
    let large_ns = spent_ns(media_type, &large);
    if large_ns < LEAST_NS {
        return;
    }
    // The least of several rounds: others run on this machine as well.
    let least = |body: &[u8]| (0..ROUNDS).map(|_| spent_ns(media_type, body)).min().unwrap_or(0);
    let (small_ns, large_ns) = (least(&small), least(&large).min(large_ns));
    assert!(
        large_ns <= MOST * small_ns.max(1),
        "{TIMES} times the bytes take {} times the CPU time for {media_type} made of {}",
        large_ns / small_ns.max(1),
        unit.escape_ascii()
    );
}

/// CPU time of a scan.
fn spent_ns(media_type: &str, body: &[u8]) -> u64 {
    let head = format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-type: {media_type}\r\n");
    let client = Client::parse(b"192.0.2.7 4000 192.0.2.1 443 id");
    let before = thread_cpu_ns();
    let mut transaction = Transaction::request(profile(), &client, head.as_bytes(), Some(body));
    transaction.finish();
    thread_cpu_ns().saturating_sub(before)
}

/// What this thread has run so far.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
