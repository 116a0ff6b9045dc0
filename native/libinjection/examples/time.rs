//! Prints what a call of each check costs, by input: `cargo run --release --example time -p sallyport-libinjection`.

use std::hint::black_box;
use std::time::Instant;

use sallyport_libinjection::{sqli, xss};

fn nanoseconds_per_call(call: impl Fn() -> bool, bytes: usize) -> f64 {
    let calls = (20_000_000 / (bytes + 20)).max(10);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        best = best.min(start.elapsed().as_nanos() as f64 / calls as f64);
    }
    best
}

fn main() {
    let long =
        "The quick brown fox, it's said, jumps over <b>the</b> lazy dog; a=1 & b=2. ".repeat(1000);
    let inputs = [
        "abc",
        "1.5",
        "a b c",
        "hello world!",
        "Mozilla/5.0 (X11; Linux)",
        "1' OR '1'='1' -- ",
        "text/html,application/xhtml+xml,application/xml;q=0.9",
        "<a href=\"https://example.org/x?y=1\">link</a>",
        "-1 union select 1,2,3 from users where id = 1",
        long.as_str(),
    ];
    println!("{:>6} {:>10} {:>10}  input", "bytes", "sqli ns", "xss ns");
    for input in inputs {
        let bytes = black_box(input.as_bytes());
        let sqli_time = nanoseconds_per_call(|| sqli(black_box(bytes)).is_some(), bytes.len());
        let xss_time = nanoseconds_per_call(|| xss(black_box(bytes)), bytes.len());
        let shown: String = input.chars().take(50).collect();
        println!("{:>6} {sqli_time:>10.0} {xss_time:>10.0}  {shown}", bytes.len());
    }
}
