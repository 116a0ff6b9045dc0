//! Both detectors: bounded streams of tokens, fingerprints of their form, and shortcuts that change nothing.

use sallyport_libinjection::html::{Context, Tokenizer as HtmlTokenizer};
use sallyport_libinjection::sqli::{fold, Dialect, Quote, Tokenizer};
use sallyport_libinjection::{sqli, xss_in, xss_with, Events};

const CONTEXTS: [Context; 5] = [
    Context::Data,
    Context::Unquoted,
    Context::SingleQuote,
    Context::DoubleQuote,
    Context::BackQuote,
];

/// Takes the bytes as a value.
pub fn injections(data: &[u8]) {
    if let Some(print) = sqli(data) {
        assert!((1..=5).contains(&print.len()), "{}", data.escape_ascii());
    }
    for quote in [Quote::None, Quote::Single, Quote::Double] {
        for dialect in [Dialect::Ansi, Dialect::MySql] {
            let mut tokenizer = Tokenizer::new(data, quote, dialect);
            let mut count = 0;
            while let Some(token) = tokenizer.next_token() {
                assert!(token.kind != 0 && token.value().len() <= 31);
                count += 1;
                assert!(count <= data.len(), "{}", data.escape_ascii());
            }
            let folded = fold(&mut Tokenizer::new(data, quote, dialect));
            assert!(folded.tokens().len() <= 6, "{}", data.escape_ascii());
        }
    }
    for context in CONTEXTS {
        let tokens = HtmlTokenizer::new(data, context).count();
        assert!(tokens <= 2 * data.len() + 1, "{}", data.escape_ascii());
    }
    for events in [Events::Listed, Events::Any] {
        let each = CONTEXTS.iter().any(|context| xss_in(data, *context, events));
        assert_eq!(xss_with(data, events), each, "{}", data.escape_ascii());
    }
}
