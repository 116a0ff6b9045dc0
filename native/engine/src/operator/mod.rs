//! Operators (`@rx`, `@pm`, …): compiled once at load, then asked whether they match a value; one file per operator or
//! close family.
//!
//! Source: SecLang reference of ModSecurity v2 (`seclang.md` section 7). All operators work on bytes.

mod detect;
mod equivalents;
mod ip_match;
mod number;
mod pcre;
mod phrases;
mod rx;
mod text;
mod validate;

#[cfg(test)]
mod tests;

use std::fmt;

use ip_match::IpMatch;
use number::Comparison;
use phrases::Phrases;
use rx::{Rx, RxTemplate};
use sallyport_libinjection::Events;
use text::{Text, TextTest};
use validate::ByteRange;

/// What an operator leaves in `TX:0` … `TX:9` when its rule has `capture`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    /// Group 0 is the whole match (or what the operator defines as its find), 1–9 the pattern's groups. A group that
    /// took no part in the match is empty if a later one did, and `None` otherwise.
    pub groups: [Option<Vec<u8>>; 10],
}

impl Captures {
    /// Forgets all groups.
    pub fn clear(&mut self) {
        self.groups = Default::default();
    }

    /// Forgets all groups but 0, which gets a value.
    fn set_whole(&mut self, value: &[u8]) {
        self.clear();
        self.groups[0] = Some(value.to_vec());
    }
}

/// Why an operator could not be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorError {
    /// No operator has this name.
    Unknown,
    /// The operator, or a construct in its argument, exists in SecLang but is not run by this engine; names it.
    Unsupported(String),
    /// The argument is malformed; says how.
    Argument(String),
}

impl fmt::Display for OperatorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OperatorError::Unknown => formatter.write_str("unknown operator"),
            OperatorError::Unsupported(reason) => write!(formatter, "unsupported: {reason}"),
            OperatorError::Argument(reason) => formatter.write_str(reason),
        }
    }
}

impl std::error::Error for OperatorError {}

/// A compiled operator. Immutable; shared by all threads.
#[derive(Debug)]
pub struct Operator {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Always,
    Never,
    Rx(Rx),
    RxTemplate(RxTemplate),
    Phrases(Phrases),
    Text(Text),
    Comparison(Comparison),
    IpMatch(IpMatch),
    ByteRange(ByteRange),
    UrlEncoding,
    UnicodeEncoding,
    SqlInjection,
    Scripting(Events),
}

/// Operators of ModSecurity that this engine knows but does not run, and why.
const UNSUPPORTED: [(&str, &str); 17] = [
    ("inspectFile", "runs a script or a scanner on a file"),
    ("geoLookup", "needs a GeoIP database"),
    ("rbl", "asks a DNS block list while the request waits"),
    ("gsbLookup", "needs the Google Safe Browsing database"),
    ("fuzzyHash", "needs the ssdeep library"),
    ("rsub", "changes the stream that it inspects"),
    ("rxGlobal", "captures every match of a pattern"),
    ("validateDTD", "needs an XML validator"),
    ("validateSchema", "needs an XML validator"),
    ("validateHash", "needs request hashes of ModSecurity's own"),
    ("verifyCC", "checks card numbers"),
    ("verifyCPF", "checks Brazilian tax numbers"),
    ("verifySSN", "checks US social security numbers"),
    ("verifySVNR", "checks Austrian social insurance numbers"),
    ("validateNid", "checks national identity numbers"),
    ("ipMatchFromUrl", "loads a list over the network"),
    ("restPath", "is Coraza's own"),
];

impl Operator {
    /// Compiles an operator.
    ///
    /// `name` comes without `@` and `!` (without regard to case), `argument` as written, macros not expanded.
    /// `phrase_file` loads a data file named in the argument, relative to the rule's file.
    ///
    /// # Errors
    /// See [`OperatorError`].
    pub fn compile(
        name: &str,
        argument: &[u8],
        phrase_file: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Operator, OperatorError> {
        let text = |test| Ok(Kind::Text(Text::new(test, argument)));
        let comparison = |test| Ok(Kind::Comparison(Comparison::new(test, argument)));
        let kind = match name.to_ascii_lowercase().as_str() {
            "unconditionalmatch" => Ok(Kind::Always),
            "nomatch" => Ok(Kind::Never),
            "rx" if memchr::memmem::find(argument, b"%{").is_some() => {
                Ok(Kind::RxTemplate(RxTemplate::new(argument)))
            }
            "rx" => Rx::compile(argument).map(Kind::Rx),
            "pm" => Phrases::from_argument(argument).map(Kind::Phrases),
            "pmf" | "pmfromfile" => Phrases::from_files(argument, phrase_file).map(Kind::Phrases),
            "contains" => text(TextTest::Contains),
            "containsword" => text(TextTest::ContainsWord),
            "beginswith" => text(TextTest::BeginsWith),
            "endswith" => text(TextTest::EndsWith),
            "streq" => text(TextTest::Equals),
            "strmatch" => Ok(Kind::Text(Text::fixed(TextTest::Contains, argument))),
            "within" => text(TextTest::Within),
            "eq" => comparison(number::Test::Equal),
            "ge" => comparison(number::Test::GreaterOrEqual),
            "gt" => comparison(number::Test::Greater),
            "le" => comparison(number::Test::LessOrEqual),
            "lt" => comparison(number::Test::Less),
            "ipmatch" => IpMatch::from_argument(argument).map(Kind::IpMatch),
            "ipmatchf" | "ipmatchfromfile" => {
                IpMatch::from_files(argument, phrase_file).map(Kind::IpMatch)
            }
            "validatebyterange" => ByteRange::parse(argument).map(Kind::ByteRange),
            "validateurlencoding" => Ok(Kind::UrlEncoding),
            "validateutf8encoding" => Ok(Kind::UnicodeEncoding),
            "detectsqli" => Ok(Kind::SqlInjection),
            "detectxss" => detect::events(argument).map(Kind::Scripting),
            _ => {
                let known = UNSUPPORTED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                Err(known.map_or(OperatorError::Unknown, |(known, reason)| {
                    OperatorError::Unsupported(format!("@{known}, which {reason}"))
                }))
            }
        };
        Ok(Operator { kind: kind? })
    }

    /// The argument text when it holds macros (`%{…}`) and has to be expanded for every evaluation.
    pub fn argument_template(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Text(text) => text.template(),
            Kind::Comparison(comparison) => comparison.template(),
            Kind::RxTemplate(rx) => Some(rx.template()),
            _ => None,
        }
    }

    /// Whether asking it costs no more than reading the rule that asks.
    pub(crate) fn is_cheap(&self) -> bool {
        match &self.kind {
            Kind::Comparison(_) | Kind::Text(_) => self.argument_template().is_none(),
            Kind::Rx(rx) => rx.is_list(),
            _ => false,
        }
    }

    /// Whether it matches any value, and captures it as a whole.
    pub(crate) fn takes_all(&self) -> bool {
        matches!(&self.kind, Kind::Rx(rx) if rx.takes_all())
    }

    /// Whether it asks if a value is part of a text.
    pub(crate) fn is_within(&self) -> bool {
        matches!(&self.kind, Kind::Text(text) if text.is_within())
    }

    /// Whether the value matches; negation (`!`) is the caller's business.
    ///
    /// `expanded` is the expanded argument and is needed exactly when [`Operator::argument_template`] is `Some`.
    /// `captures`, when given and the operator matches and captures at all, is filled anew; otherwise it stays as it is.
    pub fn matches(
        &self,
        value: &[u8],
        expanded: Option<&[u8]>,
        captures: Option<&mut Captures>,
    ) -> bool {
        match &self.kind {
            Kind::Always => true,
            Kind::Never => false,
            Kind::Rx(rx) => rx.matches(value, captures),
            Kind::RxTemplate(rx) => rx.matches(value, expanded, captures),
            Kind::Phrases(phrases) => phrases.matches(value, captures),
            Kind::Text(text) => text.matches(value, expanded),
            Kind::Comparison(comparison) => comparison.matches(value, expanded),
            Kind::IpMatch(nets) => nets.matches(value),
            Kind::ByteRange(range) => range.is_violated_by(value),
            Kind::UrlEncoding => validate::has_bad_url_escape(value),
            Kind::UnicodeEncoding => validate::is_not_utf8(value),
            Kind::SqlInjection => detect::sql_injection(value, captures),
            Kind::Scripting(events) => detect::scripting(value, *events, captures),
        }
    }

    /// What must be in a value for the operator to match, for a gate that leaves it out of most evaluations.
    pub(crate) fn evidence(&self) -> Evidence<'_> {
        /// Without one of these a value is a single word, which is no injection.
        static NOT_WORD: [bool; 256] = {
            let mut table = [true; 256];
            let mut byte = 0;
            while byte < 128 {
                table[byte] = !(byte as u8).is_ascii_alphabetic() && byte as u8 != b'_';
                byte += 1;
            }
            table
        };
        /// Without a tag and without an attribute's value there is no script.
        static MARKUP: [bool; 256] = bytes(b"<=");
        static PERCENT: [bool; 256] = bytes(b"%");
        static NOT_ASCII: [bool; 256] = {
            let mut table = [false; 256];
            let mut byte = 128;
            while byte < 256 {
                table[byte] = true;
                byte += 1;
            }
            table
        };
        match &self.kind {
            Kind::Rx(rx) => Evidence::Pattern(rx.pattern()),
            Kind::Phrases(phrases) => Evidence::Phrases(phrases.list()),
            Kind::Text(text) => text.evidence(),
            Kind::ByteRange(range) => Evidence::OneByteOf(range.outside()),
            Kind::UrlEncoding => Evidence::OneByteOf(&PERCENT),
            Kind::UnicodeEncoding => Evidence::OneByteOf(&NOT_ASCII),
            Kind::SqlInjection => Evidence::OneByteOf(&NOT_WORD),
            Kind::Scripting(_) => Evidence::OneByteOf(&MARKUP),
            Kind::Always
            | Kind::Never
            | Kind::Comparison(_)
            | Kind::IpMatch(_)
            | Kind::RxTemplate(_) => Evidence::None,
        }
    }
}

const fn bytes(members: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut index = 0;
    while index < members.len() {
        table[members[index] as usize] = true;
        index += 1;
    }
    table
}

/// What every value that an operator matches holds.
pub(crate) enum Evidence<'a> {
    /// Nothing that is known.
    None,
    /// A match of this pattern, in the syntax of the regex crate, Unicode off, dot matching newline, multi-line off.
    Pattern(&'a str),
    /// One of these, without regard to ASCII case.
    Phrases(&'a [Vec<u8>]),
    /// A byte that the table marks.
    OneByteOf(&'a [bool; 256]),
}

/// A file that a data operator names; several are separated by blanks.
fn load_files(
    argument: &[u8],
    load: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
    mut line: impl FnMut(&[u8]) -> Result<(), OperatorError>,
) -> Result<(), OperatorError> {
    let argument = std::str::from_utf8(argument)
        .map_err(|_| OperatorError::Argument("a file name is not UTF-8".into()))?;
    if argument.trim().is_empty() {
        return Err(OperatorError::Argument("a file name is missing".into()));
    }
    for name in argument.split_ascii_whitespace() {
        if name.starts_with("https://") || name.starts_with("http://") {
            return Err(OperatorError::Unsupported(format!("a list over the network: {name}")));
        }
        let bytes = load(name).map_err(OperatorError::Argument)?;
        for text in bytes.split(|&byte| byte == b'\n') {
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if !text.trim_ascii().is_empty() && text[0] != b'#' {
                line(text)?;
            }
        }
    }
    Ok(())
}
