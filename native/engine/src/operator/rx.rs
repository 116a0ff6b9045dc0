//! `@rx`: regular expressions over bytes, in linear time.
//!
//! Source: `seclang.md` section 7.2: dot matches newline, `^` and `$` see only the ends, no Unicode, leftmost-first.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures as Spans;
use regex_automata::util::syntax;
use regex_automata::Input;

use super::{equivalents, pcre, Captures, OperatorError};

/// Upper bound for one compiled pattern, in bytes.
const SIZE_LIMIT_BYTES: usize = 64 * 1024 * 1024;

pub(super) struct Rx {
    pattern: String,
    /// The texts that it matches as a whole, where the pattern only lists them.
    texts: Option<Box<[Box<[u8]>]>>,
    /// It matches any value, as a whole.
    takes_all: bool,
    regex: Regex,
    /// See [`pcre::Translation`].
    ends_at_last_group: bool,
}

impl fmt::Debug for Rx {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Rx({:?})", self.pattern)
    }
}

/// The texts of a pattern such as `^(?:GET|HEAD)$`, whose bytes all stand for themselves.
fn whole_texts(pattern: &str) -> Option<Box<[Box<[u8]>]>> {
    let inner = pattern.strip_prefix('^')?.strip_suffix('$')?;
    let group = inner.strip_prefix("(?:").and_then(|inner| inner.strip_suffix(')'));
    let stands_for_itself = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/ ".contains(&byte);
    let texts: Vec<&str> = match group {
        Some(group) => group.split('|').collect(),
        None => vec![inner],
    };
    let is_list = texts.iter().all(|text| text.bytes().all(stands_for_itself));
    is_list.then(|| texts.into_iter().map(|text| text.as_bytes().into()).collect())
}

impl Rx {
    pub(super) fn compile(argument: &[u8]) -> Result<Self, OperatorError> {
        let argument = equivalents::spell_out(argument);
        let pcre::Translation { pattern, ends_at_last_group } = pcre::translate(&argument)?;
        let regex = choose(&pattern)?;
        let takes_all = pattern == "^.*$";
        Ok(Rx { texts: whole_texts(&pattern), takes_all, pattern, regex, ends_at_last_group })
    }

    /// A pattern that a request's macros made, without the trials that a load takes the time for.
    fn compile_at_once(argument: &[u8]) -> Result<Self, OperatorError> {
        let pcre::Translation { pattern, ends_at_last_group } = pcre::translate(argument)?;
        let regex = build(&pattern, true)?;
        Ok(Rx { texts: None, takes_all: false, pattern, regex, ends_at_last_group })
    }

    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether it matches any value, as a whole.
    pub(super) fn takes_all(&self) -> bool {
        self.takes_all
    }

    /// Whether it only lists texts.
    pub(super) fn is_list(&self) -> bool {
        self.texts.is_some()
    }

    pub(super) fn matches(&self, value: &[u8], captures: Option<&mut Captures>) -> bool {
        if let (Some(texts), None) = (&self.texts, &captures) {
            return texts.iter().any(|text| **text == *value);
        }
        if self.takes_all {
            if let Some(captures) = captures {
                captures.set_whole(value);
            }
            return true;
        }
        if !self.regex.is_match(value) {
            return false;
        }
        if let Some(captures) = captures {
            let mut spans = self.regex.create_captures();
            self.regex.search_captures(&Input::new(value), &mut spans);
            keep(value, &spans, self.ends_at_last_group, captures);
        }
        true
    }
}

/// A pattern with macros: compiled when they are expanded, and kept as long as few other texts come.
///
/// An expanded text that is longer than [`RxTemplate::LONGEST`] bytes or no pattern matches nothing.
pub(super) struct RxTemplate {
    template: Vec<u8>,
    compiled: Mutex<Vec<Compiled>>,
}

/// An expanded text, and its pattern if it is one.
type Compiled = (Vec<u8>, Option<Arc<Rx>>);

impl fmt::Debug for RxTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RxTemplate({:?})", String::from_utf8_lossy(&self.template))
    }
}

impl RxTemplate {
    const LONGEST: usize = 4096;
    /// How many expanded texts are kept.
    const KEPT: usize = 8;

    pub(super) fn new(template: &[u8]) -> Self {
        RxTemplate { template: template.to_vec(), compiled: Mutex::default() }
    }

    pub(super) fn template(&self) -> &[u8] {
        &self.template
    }

    pub(super) fn matches(
        &self,
        value: &[u8],
        expanded: Option<&[u8]>,
        captures: Option<&mut Captures>,
    ) -> bool {
        let regex = expanded.and_then(|text| self.compiled(text));
        regex.is_some_and(|regex| regex.matches(value, captures))
    }

    fn compiled(&self, text: &[u8]) -> Option<Arc<Rx>> {
        if text.len() > Self::LONGEST {
            return None;
        }
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = compiled.iter().find(|(known, _)| known == text) {
            return known.clone();
        }
        let regex = Rx::compile_at_once(text).ok().map(Arc::new);
        if compiled.len() >= Self::KEPT {
            compiled.remove(0);
        }
        compiled.push((text.to_vec(), regex.clone()));
        regex
    }
}

/// A pattern's own literal prefilter makes most searches faster, but one whose literals stand everywhere in ordinary text
/// costs thirty times a plain search. Which it is shows on samples of such text; verdicts are the same either way.
fn choose(pattern: &str) -> Result<Regex, OperatorError> {
    /// A plain search takes about 1.7 ns per byte.
    const SUSPICIOUS_NS_PER_BYTE: f64 = 4.0;
    let filtered = build(pattern, true)?;
    let worst = worst_ns_per_byte(&filtered);
    if worst < SUSPICIOUS_NS_PER_BYTE {
        return Ok(filtered);
    }
    let plain = build(pattern, false)?;
    Ok(if worst_ns_per_byte(&plain) * 1.5 < worst { plain } else { filtered })
}

/// The slowest sample's time, the better of two searches each.
fn worst_ns_per_byte(regex: &Regex) -> f64 {
    // What a search remembers stays with the pattern that searched: a clone takes it away.
    let regex = regex.clone();
    let time = |sample: &[u8]| {
        let start = Instant::now();
        std::hint::black_box(regex.is_match(sample));
        start.elapsed().as_nanos() as f64 / sample.len() as f64
    };
    samples().iter().fold(0.0, |worst: f64, sample| {
        regex.is_match(sample);
        worst.max(time(sample).min(time(sample)))
    })
}

/// Ordinary text of six kinds, about 2 kB each.
fn samples() -> &'static [Vec<u8>; 6] {
    static SAMPLES: OnceLock<[Vec<u8>; 6]> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let units: [&str; 6] = [
            "{\"id\":17,\"name\":\"Ann Example\",\"tags\":[\"a\",\"b\"],\"url\":\"https://example.org/a?b=c\",\"ok\":true},\n",
            "name=Ann+Example&items[0]=first&items[1]=second value&date=2024-01-31T10:00:00Z&ref=a.b@example.org&",
            "<div class=\"row\" style=\"width:10px\"><a href='/x?id=1&y=2'>It's a link</a><!-- note --></div>\n",
            ".menu{color:#fff;margin:0 auto;background:url(a.png)}var f=function(a,b){return a[b]||(a=1)};\n",
            "The quick brown fox (it's 3 years old) jumps over the lazy dog; then it sleeps, or reads: \"News\". ",
            "2024-01-31 10:00:00 host app[123]: GET /index.php?page=2 HTTP/1.1 200 `ls` $HOME C:\\temp\\x.log |\r\n",
        ];
        units.map(|unit| unit.bytes().cycle().take(2048).collect())
    })
}

fn build(pattern: &str, prefilter: bool) -> Result<Regex, OperatorError> {
    let syntax = syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true);
    let config = Regex::config()
        .utf8_empty(false)
        .auto_prefilter(prefilter)
        .nfa_size_limit(Some(SIZE_LIMIT_BYTES))
        .onepass_size_limit(Some(1024 * 1024))
        .hybrid_cache_capacity(2 * 1024 * 1024);
    Regex::builder().syntax(syntax).configure(config).build(pattern).map_err(|error| {
        let reason = match error.syntax_error() {
            Some(syntax) => format!("the pattern: {syntax}"),
            None => format!("the pattern: {error}"),
        };
        OperatorError::Argument(reason)
    })
}

/// Groups 0–9; those before the last one that took part are at least empty.
fn keep(value: &[u8], spans: &Spans, ends_at_last_group: bool, captures: &mut Captures) {
    captures.clear();
    let mut count = spans.group_len();
    let mut end = None;
    if ends_at_last_group {
        count -= 1;
        end = spans.get_group(count).map(|marker| marker.start);
    }
    let count = count.min(captures.groups.len());
    let Some(last) = (0..count).rev().find(|&group| spans.get_group(group).is_some()) else {
        return;
    };
    for (group, slot) in captures.groups[..=last].iter_mut().enumerate() {
        let mut span = spans.get_group(group);
        if let (0, Some(span), Some(end)) = (group, &mut span, end) {
            span.end = end;
        }
        *slot = Some(span.map_or_else(Vec::new, |span| value[span.range()].to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_all_captures_the_whole() {
        let rx = Rx::compile(b"^.*$").unwrap();
        assert!(rx.takes_all && !Rx::compile(b"^.+$").unwrap().takes_all);
        for value in [&b""[..], b"a", b"a\nb\n", b"\xff\x00"] {
            let mut found = Captures::default();
            assert!(rx.matches(value, Some(&mut found)) && rx.regex.is_match(value));
            let mut spans = rx.regex.create_captures();
            rx.regex.search_captures(&Input::new(value), &mut spans);
            let mut expected = Captures::default();
            keep(value, &spans, rx.ends_at_last_group, &mut expected);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn lists_of_texts_are_matched_as_their_patterns_are() {
        let values: [&[u8]; 7] = [b"", b"GET", b"GETS", b"get", b"HEAD", b"404", b"GET\n"];
        for pattern in ["^$", "^(?:GET|HEAD)$", "^404$", "^GET$", "^(?:|HEAD)$"] {
            let rx = Rx::compile(pattern.as_bytes()).unwrap();
            assert!(rx.is_list(), "{pattern}");
            for value in values {
                assert_eq!(
                    rx.matches(value, None),
                    rx.regex.is_match(value),
                    "{pattern} {value:?}"
                );
            }
        }
        for pattern in ["^GET|HEAD$", "^.*$", "^(?:a)b(?:c)$", "^(?i)GET$", "GET$", "^\\d$"] {
            assert!(!Rx::compile(pattern.as_bytes()).unwrap().is_list(), "{pattern}");
        }
    }
}
