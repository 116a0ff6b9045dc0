//! Properties over generated inputs: no panic, sane results, and no input that takes more than linear time.
//!
//! Inputs come from a fixed pseudo-random sequence, so a failure repeats.

use fastrand::Rng;
use std::time::Duration;

use rustix::time::{clock_gettime, ClockId};
use sallyport_libinjection::html::{Context, Tokenizer as HtmlTokenizer};
use sallyport_libinjection::sqli::{fold, Dialect, Quote, Tokenizer};
use sallyport_libinjection::{sqli, xss_in, xss_with, Events};

const FRAGMENTS: [&[u8]; 62] = [
    b"'",
    b"\"",
    b"`",
    b"--",
    b"-- ",
    b"#",
    b"/*",
    b"*/",
    b"/*!",
    b"\\",
    b"\\'",
    b"''",
    b"(",
    b")",
    b",",
    b";",
    b"{",
    b"}",
    b".",
    b"..",
    b"0x",
    b"1",
    b"1e",
    b"1.5e+3d",
    b"0b01",
    b"@",
    b"@@",
    b"@`",
    b"$",
    b"$$",
    b"$a$",
    b"[",
    b"]",
    b"q'(",
    b")'",
    b"n'",
    b"u&'",
    b"x'0F'",
    b"b'01'",
    b"select ",
    b"union all ",
    b"in boolean mode",
    b"like ",
    b"or ",
    b"user(",
    b"<",
    b"</",
    b">",
    b"<!--",
    b"-->",
    b"-!>",
    b"<%",
    b"%>",
    b"<![CDATA[",
    b"]]>",
    b"=",
    b"/",
    b" on",
    b"href=java",
    b"&#x6a;",
    b"\0",
    b"\xFF",
];

/// Fragments and bytes, at random.
fn input(random: &mut Rng) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..random.usize(..12) {
        if random.usize(..4) == 0 {
            let width = random.usize(..4);
            input.extend((0..width).map(|_| random.u8(..)).collect::<Vec<u8>>());
        } else {
            input.extend(FRAGMENTS[random.usize(..FRAGMENTS.len())]);
        }
    }
    input
}

const PASSES: [(Quote, Dialect); 6] = [
    (Quote::None, Dialect::Ansi),
    (Quote::None, Dialect::MySql),
    (Quote::Single, Dialect::Ansi),
    (Quote::Single, Dialect::MySql),
    (Quote::Double, Dialect::Ansi),
    (Quote::Double, Dialect::MySql),
];

const CONTEXTS: [Context; 5] = [
    Context::Data,
    Context::Unquoted,
    Context::SingleQuote,
    Context::DoubleQuote,
    Context::BackQuote,
];

#[test]
fn any_bytes_are_taken_without_panic() {
    let mut random = Rng::with_seed(1);
    let (mut injections, mut scripts) = (0, 0);
    for _ in 0..300_000 {
        let input = input(&mut random);
        if let Some(print) = sqli(&input) {
            injections += 1;
            assert!((1..=5).contains(&print.len()), "{}", input.escape_ascii());
        }
        let listed = xss_with(&input, Events::Listed);
        let any = xss_with(&input, Events::Any);
        assert!(any || !listed, "the list is the narrower choice: {}", input.escape_ascii());
        // The shortcuts of the whole check change nothing.
        let slow = CONTEXTS.iter().any(|context| xss_in(&input, *context, Events::Listed));
        assert_eq!(listed, slow, "{}", input.escape_ascii());
        scripts += usize::from(listed);
    }
    println!("300000 inputs: {injections} SQLi, {scripts} XSS");
    assert!(injections > 1_000 && scripts > 1_000);
}

#[test]
fn tokens_are_bounded_and_the_streams_end() {
    let mut random = Rng::with_seed(2);
    for _ in 0..50_000 {
        let input = input(&mut random);
        for (quote, dialect) in PASSES {
            let mut tokenizer = Tokenizer::new(&input, quote, dialect);
            let mut count = 0;
            while let Some(token) = tokenizer.next_token() {
                assert!(token.kind != 0 && token.value().len() <= 31);
                count += 1;
                assert!(count <= input.len(), "{}", input.escape_ascii());
            }
            let folded = fold(&mut Tokenizer::new(&input, quote, dialect));
            let tokens = folded.tokens();
            assert!(tokens.len() <= 5 || (tokens.len() == 6 && tokens[5].kind == b'X'));
        }
        for context in CONTEXTS {
            let tokens = HtmlTokenizer::new(&input, context).count();
            assert!(tokens <= 2 * input.len() + 1, "{}", input.escape_ascii());
        }
    }
}

/// Every fragment, and pairs of them, repeated to 256 kB: linear work takes a few milliseconds, quadratic work minutes.
#[test]
fn no_repetition_is_superlinear() {
    const BYTES: usize = 256 * 1024;
    const MOST: Duration = Duration::from_millis(1_000);
    let mut random = Rng::with_seed(3);
    let mut slowest = Duration::ZERO;
    for round in 0..250 {
        let mut unit = FRAGMENTS[round % FRAGMENTS.len()].to_vec();
        if round >= FRAGMENTS.len() {
            unit.extend(FRAGMENTS[random.usize(..FRAGMENTS.len())]);
            if random.usize(..2) == 0 {
                unit.extend(FRAGMENTS[random.usize(..FRAGMENTS.len())]);
            }
        }
        let input: Vec<u8> = unit.iter().copied().cycle().take(BYTES).collect();
        let start = cpu_time();
        sqli(&input);
        xss_with(&input, Events::Any);
        for (quote, dialect) in PASSES {
            let mut tokenizer = Tokenizer::new(&input, quote, dialect);
            while tokenizer.next_token().is_some() {}
        }
        let took = cpu_time().saturating_sub(start);
        slowest = slowest.max(took);
        assert!(took < MOST, "{took:?} for repetitions of {}", unit.escape_ascii());
    }
    println!("slowest of 250 repetitions of 256 kB: {slowest:?}");
}

/// What this thread has run so far: others run on this machine as well.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
