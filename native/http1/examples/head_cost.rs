//! What a request head costs: `cargo run --release -p sallyport-http1 --example head_cost`. Prints nanoseconds per head,
//! the least of many rounds, for heads of a few sizes, whole and in pieces.

use sallyport_http1::{RequestReader, RequestRules};
use std::hint::black_box;
use std::time::Instant;

const SMALL: &str = "GET /users/42?verbose=1 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
                     Accept-Encoding: gzip\r\nX-Request-Id: 01900000-0000-7000-8000-000000000000\r\nCookie: session=abcdef0123456789\r\n\r\n";

const BROWSER: &str = "GET /assets/js/application-7f3a9c.js HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n\
    Referer: https://www.example.com/products/list?page=3&sort=price\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes; cart=9f8e7d6c5b4a\r\n\r\n";

fn main() {
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", "k=v; ".repeat(6000));
    for (name, head) in [("small", SMALL), ("browser", BROWSER), ("cookie of 30 kB", &large)] {
        for pieces in [1, 2, head.len()] {
            println!(
                "{name}, {} bytes, {pieces} pieces: {:.0} ns",
                head.len(),
                cost(head.as_bytes(), pieces)
            );
        }
    }
}

fn cost(head: &[u8], pieces: usize) -> f64 {
    let rules = RequestRules::default();
    let mut reader = RequestReader::new();
    let (mut text, mut lines) = (Vec::with_capacity(64 * 1024), Vec::with_capacity(4096));
    let mut least = f64::MAX;
    let heads = (4_000_000 / head.len() / pieces).clamp(1, 20_000);
    for _ in 0..40 {
        let started = Instant::now();
        for _ in 0..heads {
            text.clear();
            lines.clear();
            for piece in 1..=pieces {
                let bytes = &black_box(head)[..head.len() * piece / pieces];
                black_box(reader.read(bytes, &rules, &mut text, &mut lines)).expect("a good head");
            }
        }
        least = least.min(started.elapsed().as_nanos() as f64 / heads as f64);
    }
    least
}
