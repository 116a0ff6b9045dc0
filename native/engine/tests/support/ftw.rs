//! go-ftw test files: reading them and building the requests they describe.
//!
//! Source: coreruleset/ftw-tests-schema v2 and go-ftw v2, as described beside the CRS test data.

use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub struct TestFile {
    pub rule_id: Option<u32>,
    #[serde(default)]
    pub tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
pub struct Test {
    pub test_id: u32,
    #[serde(default)]
    pub stages: Vec<Stage>,
}

#[derive(Debug, Deserialize)]
pub struct Stage {
    #[serde(default)]
    pub input: Input,
    #[serde(default)]
    pub output: Output,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Input {
    pub method: Option<String>,
    pub uri: Option<String>,
    pub version: Option<String>,
    pub headers: Option<serde_yaml_ng::Mapping>,
    pub ordered_headers: Vec<Header>,
    pub data: Option<String>,
    pub encoded_data: Option<String>,
    pub encoded_request: Option<String>,
    pub autocomplete_headers: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub struct Header {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Output {
    pub status: Option<u16>,
    pub log: Log,
    pub expect_error: Option<bool>,
    pub isolated: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Log {
    pub expect_ids: Vec<u32>,
    pub no_expect_ids: Vec<u32>,
    pub match_regex: Option<String>,
    pub no_match_regex: Option<String>,
}

/// All test files under a folder, sorted by name.
pub fn test_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") {
                found.push(path);
            }
        }
    }
    found.sort_by_key(|path| path.file_name().map(|name| name.to_os_string()));
    found
}

/// Head and body as they would arrive.
#[derive(Debug)]
pub struct Request {
    pub head: Vec<u8>,
    pub body: Option<Vec<u8>>,
}

impl Input {
    /// Builds the request as go-ftw does and takes it apart as an HTTP server does.
    pub fn request(&self) -> Request {
        let raw = match &self.encoded_request {
            Some(encoded) => base64_decode(encoded),
            None => self.raw(),
        };
        split(&raw)
    }

    fn raw(&self) -> Vec<u8> {
        let autocomplete = self.autocomplete_headers.unwrap_or(true);
        let method = self.method.as_deref().unwrap_or("GET");
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in self.headers.iter().flatten() {
            headers.push((scalar(name), scalar(value)));
        }
        for header in &self.ordered_headers {
            headers.push((header.name.clone(), header.value.clone()));
        }
        let find = |headers: &[(String, String)], name: &str| {
            headers
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.clone())
        };
        let mut body: Option<Vec<u8>> = match (&self.data, &self.encoded_data) {
            (Some(data), _) => Some(expand_template(data).into_bytes()),
            (None, Some(encoded)) => Some(base64_decode(encoded)),
            (None, None) => None,
        };
        let form = "application/x-www-form-urlencoded";
        if let (Some(text), true) = (&mut body, autocomplete) {
            if find(&headers, "content-type").is_none() {
                headers.push(("Content-Type".into(), form.into()));
            }
            if find(&headers, "content-type").as_deref() == Some(form)
                && !text.iter().any(|byte| matches!(byte, b'%' | b'+'))
            {
                *text = encode_form(text);
            }
        }
        if let (Some(text), Some(content_type)) = (&mut body, find(&headers, "content-type")) {
            if content_type.contains("multipart/form-data;") {
                let unix: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'\r').collect();
                text.clear();
                for byte in unix {
                    if byte == b'\n' {
                        text.push(b'\r');
                    }
                    text.push(byte);
                }
            }
        }
        if autocomplete {
            if find(&headers, "connection").is_none() {
                headers.push(("Connection".into(), "close".into()));
            }
            let with_length = body.is_some()
                || method.starts_with("POST")
                || method.contains("PUT")
                || method.contains("PATCH")
                || method.ends_with("DELETE");
            if find(&headers, "content-length").is_none() && with_length {
                let length = body.as_ref().map_or(0, Vec::len);
                headers.push(("Content-Length".into(), length.to_string()));
            }
        }
        let mut raw = Vec::new();
        let uri = self.uri.as_deref().unwrap_or("/");
        let version = self.version.as_deref().unwrap_or("HTTP/1.1");
        raw.extend_from_slice(format!("{method} {uri} {version}\r\n").as_bytes());
        for (name, value) in headers {
            raw.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        raw.extend_from_slice(b"\r\n");
        raw.extend(body.unwrap_or_default());
        raw
    }
}

/// Splits raw bytes at the end of the head; the body is as long as its framing says.
fn split(raw: &[u8]) -> Request {
    let find = |needle: &[u8]| raw.windows(needle.len()).position(|window| window == needle);
    let (head, rest) = match find(b"\r\n\r\n") {
        Some(at) => (&raw[..at + 2], &raw[at + 4..]),
        None => (raw, &b""[..]),
    };
    let mut length = None;
    let mut chunked = false;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse::<usize>().ok();
        }
        chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
    }
    let body = if chunked {
        Some(unchunk(rest))
    } else {
        length.filter(|length| *length > 0).map(|length| rest[..rest.len().min(length)].to_vec())
    };
    Request { head: head.to_vec(), body }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..end]);
        let Ok(size) = usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16)
        else {
            break;
        };
        rest = &rest[end + 2..];
        if size == 0 || rest.len() < size {
            break;
        }
        body.extend_from_slice(&rest[..size]);
        rest = rest.get(size + 2..).unwrap_or(&[]);
    }
    body
}

fn scalar(value: &serde_yaml_ng::Value) -> String {
    match value {
        serde_yaml_ng::Value::String(text) => text.clone(),
        serde_yaml_ng::Value::Number(number) => number.to_string(),
        serde_yaml_ng::Value::Bool(flag) => flag.to_string(),
        _ => String::new(),
    }
}

/// The one template form in use: `{{ "x" | repeat N }}`.
fn expand_template(data: &str) -> String {
    let mut text = String::new();
    let mut rest = data;
    while let Some(open) = rest.find("{{") {
        let Some(length) = rest[open..].find("}}") else { break };
        let inner = rest[open + 2..open + length].trim();
        let expanded = inner.split_once('|').and_then(|(literal, call)| {
            let literal = literal.trim().strip_prefix('"')?.strip_suffix('"')?;
            let count: usize = call.trim().strip_prefix("repeat")?.trim().parse().ok()?;
            Some(literal.repeat(count))
        });
        text.push_str(&rest[..open]);
        match expanded {
            Some(expanded) => text.push_str(&expanded),
            None => text.push_str(&rest[open..open + length + 2]),
        }
        rest = &rest[open + length + 2..];
    }
    text + rest
}

fn encode_form(text: &[u8]) -> Vec<u8> {
    let escape = |piece: &[u8]| {
        let mut escaped = Vec::new();
        for byte in piece {
            match byte {
                b' ' => escaped.push(b'+'),
                byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) => {
                    escaped.push(*byte)
                }
                byte => escaped.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            }
        }
        escaped
    };
    let pieces: Vec<Vec<u8>> = text
        .split(|byte| *byte == b'&')
        .map(|piece| match piece.iter().position(|byte| *byte == b'=') {
            Some(at) => [escape(&piece[..at]), escape(&piece[at + 1..])].join(&b'='),
            None => escape(piece),
        })
        .collect();
    pieces.join(&b'&')
}

pub fn base64_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// A response as the test suite's reflector gives it.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reflection {
    status: Option<u16>,
    headers: std::collections::BTreeMap<String, String>,
    body: Option<String>,
    #[serde(rename = "encodedBody")]
    encoded_body: Option<String>,
}

/// Answers a request as albedo does.
pub fn reflect(request: &Request) -> Response {
    let line = request.head.split(|byte| *byte == b'\r').next().unwrap_or(&[]);
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let reflects = words.next() == Some("POST")
        && words.next().is_some_and(|target| {
            matches!(target.split('?').next(), Some("/reflect" | "/reflect/"))
        });
    let mut reflection = Reflection::default();
    if reflects {
        let body = request.body.as_deref().unwrap_or(&[]);
        match serde_json::from_slice::<Reflection>(body) {
            Ok(wanted) => reflection = wanted,
            Err(_) => {
                reflection.status = Some(400);
                reflection.body = Some("Invalid JSON in request body".to_string());
            }
        }
    }
    let body = match (reflection.body, reflection.encoded_body) {
        (Some(body), _) => body.into_bytes(),
        (None, Some(encoded)) => base64_decode(&encoded),
        (None, None) => Vec::new(),
    };
    let status = reflection.status.unwrap_or(200);
    let mut head = format!("HTTP/1.1 {status} \r\n");
    let mut typed = false;
    for (name, value) in &reflection.headers {
        typed |= name.eq_ignore_ascii_case("content-type");
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !typed && !body.is_empty() {
        let start = String::from_utf8_lossy(&body[..body.len().min(64)]).to_ascii_lowercase();
        let html = ["<!doctype html", "<html", "<head", "<script", "<body", "<div", "<p", "<h1"];
        let is_html = html.iter().any(|tag| start.trim_start().starts_with(tag));
        let media_type = if is_html { "text/html" } else { "text/plain" };
        head.push_str(&format!("content-type: {media_type}; charset=utf-8\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n", body.len()));
    Response { status, head: head.into_bytes(), body }
}
