//! Heads and bodies against Node's own parser, which is llhttp with every lenient flag off (T-81): generated and changed
//! requests, the same ones every time. Each difference must have its reason in `differential/reasons.rs`. Skipped where
//! there is no node.

#[path = "differential/reasons.rs"]
mod reasons;

use fastrand::Rng;
use reasons::{LOOSER, OTHERWISE, STRICTER};
use sallyport_http1::{
    BodyReader, Framing, Refusal, RequestReader, RequestRules, Upgrade, Version,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Requests that are compared.
const ROUNDS: usize = 30_000;

/// The first request of a connection, as we see it.
struct Ours {
    start_line: String,
    version: Version,
    /// Names in lower case, values; those that stop here too.
    fields: Vec<(String, String)>,
    has_upgrade: bool,
    body: String,
    is_complete: bool,
    /// Of the body.
    refusal: Option<Refusal>,
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn read(bytes: &[u8]) -> Result<Option<Ours>, Refusal> {
    let (mut text, mut lines) = (Vec::new(), Vec::new());
    let rules = RequestRules { other_upgrades: true, ..RequestRules::default() };
    let Some(head) = RequestReader::new().read(bytes, &rules, &mut text, &mut lines)? else {
        return Ok(None);
    };
    let text = latin1(&text);
    let (start_line, section) = text.split_once("\r\n").expect("a line");
    let mut fields: Vec<(String, String)> = (section.to_owned() + &latin1(&lines))
        .split_terminator("\r\n")
        .filter_map(|line| line.split_once(": "))
        // The line that was sent is no field.
        .filter(|(name, _)| *name != "(request-line)")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    fields.sort();
    let mut rest = bytes[head.consumed..].to_vec();
    let has_upgrade = head.upgrade != Upgrade::None;
    let framing = if has_upgrade { Framing::None } else { head.framing };
    let mut ours = Ours {
        start_line: start_line.to_owned(),
        version: head.version,
        fields,
        has_upgrade,
        body: String::new(),
        is_complete: false,
        refusal: None,
    };
    let mut body = BodyReader::new(framing, 0, false);
    match body.read(&mut rest) {
        Ok(piece) => {
            ours.body = latin1(&rest[..piece.data]);
            ours.is_complete = piece.is_last;
        }
        Err(refusal) => ours.refusal = Some(refusal),
    }
    Ok(Some(ours))
}

/// What to call a difference; None = there is none.
fn compare(bytes: &[u8], theirs: &Value) -> Option<(&'static str, String)> {
    let error = theirs["error"].as_str();
    let first = &theirs["requests"][0];
    match read(bytes) {
        Err(refusal) if first.is_null() => {
            // Both refuse, or Node waits for what cannot make it good any more.
            let _ = refusal;
            None
        }
        Err(refusal) => Some(("stricter", refusal.rule.to_owned())),
        // Bytes that are no complete request.
        Ok(None) if first.is_null() => error.map(|code| ("looser", code.to_owned())),
        Ok(None) => Some(("otherwise", "complete for Node only".to_owned())),
        Ok(Some(_)) if first.is_null() => {
            let waits = if bytes.starts_with(b"PRI ") { "waits for HTTP/2" } else { "incomplete" };
            Some(("looser", error.unwrap_or(waits).to_owned()))
        }
        Ok(Some(ours)) => compare_requests(&ours, first, error),
    }
}

fn compare_requests(
    ours: &Ours,
    first: &Value,
    error: Option<&str>,
) -> Option<(&'static str, String)> {
    let text = |key: &str| first[key].as_str().unwrap_or("").to_owned();
    let otherwise = |what: &str| Some(("otherwise", what.to_owned()));
    let (method, target, version) = (text("method"), text("url"), text("version"));
    let is_absolute = !target.starts_with('/') && target != "*";
    let expected = format!("{method} {target} HTTP/1.1");
    if ours.start_line != expected && !is_absolute {
        return otherwise("request line");
    }
    if (version == "1.0") != (ours.version == Version::Http10) {
        return otherwise("version");
    }
    let mut fields: Vec<(String, String)> = first["fields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .chunks_exact(2)
        .map(|pair| (pair[0].to_ascii_lowercase(), pair[1].to_owned()))
        .filter(|(name, _)| !name.contains('_'))
        .collect();
    fields.sort();
    let same_names = |fields: &[(String, String)]| -> Vec<(String, String)> {
        fields
            .iter()
            .filter(|(name, _)| !(name.contains('_') || is_absolute && name == "host"))
            .filter(|(name, _)| !(ours.has_upgrade && (name == "connection" || name == "upgrade")))
            .cloned()
            .collect()
    };
    if same_names(&fields) != same_names(&ours.fields) {
        return otherwise("fields");
    }
    if first["upgrade"] == true || ours.has_upgrade {
        return None;
    }
    match (ours.refusal, error) {
        (Some(_), Some(_)) => None,
        (Some(refusal), None) if first["complete"] == true => {
            Some(("stricter", refusal.rule.to_owned()))
        }
        (Some(_), None) => None,
        (None, _) if ours.is_complete && first["complete"] == true => {
            if text("body") == ours.body {
                None
            } else {
                otherwise("body")
            }
        }
        (None, _) if ours.is_complete => Some(("looser", error.unwrap_or("body").to_owned())),
        (None, None) if first["complete"] == true => otherwise("complete for Node only"),
        (None, None) => None,
        (None, Some(code)) => Some(("looser", code.to_owned())),
    }
}

#[test]
fn t_81_node_decides_alike_or_there_is_a_reason() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/node-parser.mjs");
    let child =
        Command::new("node").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        println!("skipped: no node in PATH for the comparison with its parser");
        return;
    };
    let mut random = Rng::with_seed(0x51_7cc1_b727_220a);
    let inputs: Vec<Vec<u8>> = (0..ROUNDS).map(|_| generate(&mut random)).collect();
    let mut stdin = child.stdin.take().expect("piped");
    let lines: Vec<String> = inputs.iter().map(|input| base64(input) + "\n").collect();
    let writer = std::thread::spawn(move || {
        for line in lines {
            stdin.write_all(line.as_bytes()).expect("written");
        }
    });
    let mut counts: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let mut unexplained = Vec::new();
    let (mut compared, mut taken) = (0, 0);
    for (line, input) in BufReader::new(child.stdout.take().expect("piped")).lines().zip(&inputs) {
        let theirs: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        compared += 1;
        taken += usize::from(!theirs["requests"][0].is_null());
        let Some((kind, key)) = compare(input, &theirs) else { continue };
        let list = match kind {
            "stricter" => STRICTER,
            "looser" => LOOSER,
            _ => OTHERWISE,
        };
        if !list.iter().any(|(known, _)| *known == key) {
            unexplained.push(format!("{kind} {key}: {:?} Node: {theirs}", latin1(input)));
        }
        *counts.entry((kind, key)).or_default() += 1;
    }
    writer.join().expect("written");
    child.wait().expect("ended");
    println!("{compared} requests, {taken} of them taken by Node; differences: {counts:?}");
    assert_eq!(compared, ROUNDS);
    assert!(taken > ROUNDS / 10, "the generator makes too few good requests");
    unexplained.sort_by_key(String::len);
    assert!(
        unexplained.is_empty(),
        "{} differences without a reason, the shortest:\n{}",
        unexplained.len(),
        unexplained[..unexplained.len().min(12)].join("\n")
    );
}

/// A request of usual and unusual parts, then sometimes changed byte by byte.
fn generate(random: &mut Rng) -> Vec<u8> {
    const METHODS: &[&str] = &[
        "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "get", "FOO", "PRI",
        "M-SEARCH", "TRACE", "CONNECT", "",
    ];
    const TARGETS: &[&str] = &[
        "/",
        "/a/b?c=d",
        "/%zz",
        "/?\u{e9}",
        "*",
        "http://a/b?c",
        "http://a:80",
        "https://a/",
        "a:80",
        "/a\\b",
        "/a#b",
        "//",
        "/?",
        "http://u@a/",
        "/\u{e9}",
        "",
    ];
    const VERSIONS: &[&str] = &[
        "HTTP/1.1",
        "HTTP/1.1",
        "HTTP/1.1",
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/0.9",
        "http/1.1",
        "HTTP/1.10",
        "HTTP/1.1 ",
        "",
    ];
    const FIELDS: &[&str] = &[
        "Host: b",
        "A: b",
        "A:b",
        "A:  b \t",
        "A: ",
        "A:",
        "A : b",
        " A: b",
        ": b",
        "A",
        "A: b\u{0}c",
        "A: b\u{e9}",
        "A_B: c",
        "X_Forwarded_For: 1",
        "Content-Length: 5",
        "Content-Length: 05",
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length: ",
        "Content-Length: 0",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: Chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Connection: close",
        "Connection: keep-alive",
        "Connection: A, close",
        "Connection: Host",
        "Connection: a b",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Upgrade: h2c",
        "Expect: 100-continue",
        "Expect: x",
        "TE: trailers",
        "Keep-Alive: 1",
        "Content-Type: a",
        "Authorization: a",
        "Cookie: a=b",
        "Proxy-Connection: close",
    ];
    const BODIES: &[&str] = &[
        "",
        "",
        "hello",
        "hell",
        "5\r\nhello\r\n0\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5;a=\"b\\\"\"\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nbad\r\n\r\n",
        "5; a = b\r\nhello\r\n0\r\n\r\n",
        "g\r\n",
        "5\r\nhel",
        "00000000000000000005\r\nhello\r\n0\r\n\r\n",
    ];
    let mut pick = |list: &[&'static str], usual: usize| -> &'static str {
        // Mostly one of the usual ones, which stand first.
        if random.usize(..3) > 0 {
            list[random.usize(..usual)]
        } else {
            list[random.usize(..list.len())]
        }
    };
    let mut text = format!("{} {} {}\r\n", pick(METHODS, 7), pick(TARGETS, 2), pick(VERSIONS, 5));
    let mut fields = vec!["Host: a"];
    for _ in 0..4 {
        fields.push(pick(FIELDS, FIELDS.len()));
    }
    let body = pick(BODIES, 3);
    let count = random.usize(..fields.len()) + usize::from(random.usize(..10) > 0);
    fields.truncate(count);
    if random.usize(..20) == 0 {
        text.insert_str(0, "\r\n");
    }
    for field in fields {
        text += field;
        text += if random.usize(..60) == 0 {
            ["\n", "\r", "\r\r\n", "\n\r\n", "\r\n "][random.usize(..5)]
        } else {
            "\r\n"
        };
    }
    text += "\r\n";
    text += body;
    let mut bytes: Vec<u8> = text.chars().map(|one| one as u32 as u8).collect();
    if random.usize(..3) == 0 {
        const BYTES: &[u8] = b"\r\n \t:;,/?\0\x7f\x80\xff\x0b0aZ(\"";
        for _ in 0..=random.usize(..2) {
            let at = random.usize(..bytes.len());
            match random.usize(..3) {
                0 => bytes[at] = BYTES[random.usize(..BYTES.len())],
                1 => bytes.insert(at, BYTES[random.usize(..BYTES.len())]),
                _ => drop(bytes.remove(at)),
            }
        }
    }
    bytes
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for digit in 0..4 {
            let value = (number >> (18 - 6 * digit)) & 63;
            text.push(if digit <= group.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}
