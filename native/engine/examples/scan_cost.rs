//! What a scan costs, engine only: microseconds per exchange for typical requests and responses.
//!
//! `cargo run --release --example scan_cost -- PATH_TO_CRS` (a folder with `crs-setup.conf.example` and `rules/`),
//! paranoia level 1, all phases. Values are fresh in every round, so that nothing is remembered between rounds, but for the
//! case that says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use sallyport_engine::{Client, Profile, ProfileOptions, RuleSet, SourceFile, Transaction};

fn read(path: &Path, name: String) -> SourceFile {
    let bytes = std::fs::read(path).unwrap_or_default();
    SourceFile::new(name, String::from_utf8_lossy(&bytes).into_owned())
}

fn load(folder: &Path) -> RuleSet {
    let mut files = vec![SourceFile::new("engine.conf", "Include @recommended")];
    files.push(read(&folder.join("crs-setup.conf.example"), "crs-setup.conf".to_string()));
    let mut data = Vec::new();
    let entries = std::fs::read_dir(folder.join("rules")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = format!("rules/{}", path.file_name().unwrap_or_default().to_string_lossy());
        if name.ends_with(".conf") {
            files.push(read(&path, name));
        } else if name.ends_with(".data") {
            data.push(read(&path, name));
        }
    }
    match RuleSet::load(&files, &data, &[]) {
        Ok(set) => set,
        Err(errors) => {
            eprintln!("{errors}");
            std::process::exit(1);
        }
    }
}

/// A word that differs from round to round.
fn word(seed: &mut u64, length: usize) -> String {
    let mut text = String::new();
    for _ in 0..length {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        text.push(char::from(b'a' + ((*seed >> 33) % 26) as u8));
    }
    text
}

/// A number below a million that differs from round to round.
fn number(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*seed >> 33) % 1_000_000
}

/// One exchange; answers how many matches were logged.
#[inline(never)]
fn scan(
    profile: &Arc<Profile>,
    client: &Client,
    head: &[u8],
    body: Option<&[u8]>,
    page: Option<&str>,
) -> usize {
    let mut transaction = Transaction::request(profile, client, head, body);
    let (response, page) = match page {
        Some(page) => ("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n", page.as_bytes()),
        None => ("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n", &b"{}"[..]),
    };
    transaction.response(200, response.as_bytes(), Some(page));
    transaction.finish();
    transaction.matches().len()
}

/// Time this thread spent on a processor where the system tells it, else time on the clock; seconds.
fn busy_s(start: Instant) -> f64 {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    match schedule.split(' ').next().and_then(|text| text.parse::<f64>().ok()) {
        Some(nanoseconds) => nanoseconds / 1e9,
        None => start.elapsed().as_secs_f64(),
    }
}

/// Request head, request body, response page.
type Input = (String, Option<String>, Option<String>);

struct Case {
    name: &'static str,
    rounds: u32,
    build: fn(&mut u64) -> Input,
}

const HEADERS: &str = "host: shop.example.com\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) \
    Gecko/20100101 Firefox/128.0\r\naccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    accept-language: en-US,en;q=0.5\r\naccept-encoding: gzip, deflate\r\n";

/// The headers of `bench:waf`.
const USUAL: &str = "host: shop.example.com\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 \
    Firefox/128.0\r\naccept: application/json, text/html;q=0.9\r\naccept-language: en-GB,en;q=0.7\r\naccept-encoding: \
    gzip, deflate, br\r\nreferer: https://shop.example.com/users\r\n";

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| {
        eprintln!("usage: scan_cost PATH_TO_CRS");
        std::process::exit(2);
    });
    let start = Instant::now();
    let set = Arc::new(load(Path::new(&folder)));
    println!("loaded in {} ms", start.elapsed().as_millis());
    let options = ProfileOptions { paranoia_level: Some(1), ..ProfileOptions::default() };
    let profile = Arc::new(Profile::new(set, options));
    let client = Client::parse(b"192.0.2.7 40000 192.0.2.1 443 0af7651916cd43dd8448eb211c80319c");
    let cases = [
        Case {
            name: "GET, 8 headers, 3 arguments, the same each time",
            rounds: 2000,
            build: |_| {
                let line = "GET /api/users/123?include=orders&page=2&q=hello+world HTTP/1.1";
                (format!("{line}\r\n{USUAL}cookie: session=8c1f6a2e90d74b35; theme=dark\r\ncache-control: max-age=0\r\n"), None, None)
            },
        },
        Case {
            name: "GET, 8 headers, 3 arguments, words and numbers",
            rounds: 2000,
            build: |seed| {
                let mut value = || format!("{}{}", word(seed, 6), number(seed));
                let (include, first, second) = (value(), value(), value());
                let session = [value(), value(), value()].concat();
                let (path, page) = (number(seed) * 1000, number(seed));
                let line = format!("GET /api/users/{path}?include={include}&page={page}&q={first}+{second} HTTP/1.1");
                (format!("{line}\r\n{USUAL}cookie: session={session}; theme=dark\r\ncache-control: max-age=0\r\n"), None, None)
            },
        },
        Case {
            name: "GET, 7 headers, 3 arguments",
            rounds: 2000,
            build: |seed| {
                let query = format!("id={}&name={}&page=3", word(seed, 8), word(seed, 12));
                let cookie = word(seed, 24);
                (
                    format!(
                        "GET /shop/items?{query} HTTP/1.1\r\n{HEADERS}cookie: session={cookie}\r\n"
                    ),
                    None,
                    None,
                )
            },
        },
        Case {
            name: "POST, JSON of 1 kB",
            rounds: 1000,
            build: |seed| {
                let members: Vec<String> = (0..30)
                    .map(|n| format!("\"{}{n}\":\"{}\"", word(seed, 6), word(seed, 20)))
                    .collect();
                let body = format!("{{{}}}", members.join(","));
                (format!("POST /api HTTP/1.1\r\n{HEADERS}content-type: application/json\r\ncontent-length: {}\r\n", body.len()), Some(body), None)
            },
        },
        Case {
            name: "POST, form of 950 arguments (103 kB)",
            rounds: 10,
            build: |seed| {
                let pairs: Vec<String> =
                    (0..950).map(|n| format!("field{n}={}", word(seed, 98))).collect();
                let body = pairs.join("&");
                (format!("POST /api HTTP/1.1\r\n{HEADERS}content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n", body.len()), Some(body), None)
            },
        },
        Case {
            name: "POST, JSON of 100 kB in one value",
            rounds: 10,
            build: |seed| {
                let words: Vec<String> = (0..14_000).map(|_| word(seed, 6)).collect();
                let body = format!("{{\"text\":\"{}\"}}", words.join(" "));
                (format!("POST /api HTTP/1.1\r\n{HEADERS}content-type: application/json\r\ncontent-length: {}\r\n", body.len()), Some(body), None)
            },
        },
        Case {
            name: "GET, response of 512 kB HTML",
            rounds: 10,
            build: |seed| {
                let mut page = String::from("<!doctype html><html><body>");
                while page.len() < 512 * 1024 {
                    page.push_str(&format!(
                        "<p class=\"{}\">{} {}</p>\n",
                        word(seed, 5),
                        word(seed, 30),
                        word(seed, 40)
                    ));
                }
                (format!("GET / HTTP/1.1\r\n{HEADERS}"), None, Some(page))
            },
        },
        Case {
            name: "GET, attack on which many rules fire",
            rounds: 1000,
            build: |seed| {
                let attack = "1%27%20UNION%20SELECT%20password%20FROM%20users--%20%3Cscript%3Ealert(1)%3C/script%3E;cat%20/etc/passwd";
                (format!("GET /?q={attack}&x={} HTTP/1.1\r\n{HEADERS}", word(seed, 8)), None, None)
            },
        },
    ];
    // A second argument chooses the cases whose names hold it; a third multiplies the rounds.
    let wanted = std::env::args().nth(2).unwrap_or_default();
    let factor = std::env::args().nth(3).and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("gates take {} kB", profile.gate_bytes() / 1024);
    let mut seed = 42;
    for case in cases.iter().filter(|case| case.name.contains(&wanted)) {
        let inputs: Vec<_> = (0..case.rounds * factor).map(|_| (case.build)(&mut seed)).collect();
        let mut matched = 0;
        let before = busy_s(start);
        for (head, body, page) in &inputs {
            let body = body.as_ref().map(String::as_bytes);
            matched = scan(&profile, &client, head.as_bytes(), body, page.as_deref());
        }
        let each = (busy_s(start) - before) * 1e6 / f64::from(case.rounds * factor);
        println!("{:42} {each:10.1} us, {matched} matches", case.name);
    }
}
