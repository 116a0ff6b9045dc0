//! The gate's proof: an operator that the gate keeps away from a value does not match it.
//!
//! Every rule of a set is asked about a value twice: through a transaction, whose gate leaves most of them out, and by
//! calling each operator itself. Both must name the same rules. The operators are of every shape that the gate knows;
//! with `SALLYPORT_CRS_RULES` those of a rule set are asked as well.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use sallyport_engine::operator::Operator;
use sallyport_engine::transformation::{Transformation, TransformationContext, UnicodeMap};
use sallyport_engine::{Client, Profile, ProfileOptions, RuleSet, SourceFile, Transaction};

/// Name and argument.
const OPERATORS: &[(&str, &str)] = &[
    ("rx", "(?i)union.{0,9}select"),
    ("rx", "<script[^>]*>"),
    ("rx", "[\\\"'][^a]b?"),
    ("rx", "(?:foo|ba[rz])x"),
    ("rx", "x?y?"),
    ("rx", "(?:foo|)bar"),
    ("rx", "\\bon\\w+="),
    ("rx", "[\\xe9]t\\xe9"),
    ("rx", "(?:ab){2}|cd+e"),
    ("rx", "^$"),
    ("rx", "^(?:a|b|c)(?:d|e)*f$"),
    ("rx", "(?i)u['\\\"]*n['\\\"]*a['\\\"]*m['\\\"]*e"),
    ("rx", "(?:'x|[a'])(?:\\\"|b)"),
    ("rx", "(?i:s)elect\\s+(?-i:X)"),
    ("rx", "[^\\x00-\\x7f]{2}"),
    ("rx", "\\d{3,}(?:\\.\\d+)?"),
    ("rx", "(?:[a-z]{2}){2}\\W"),
    ("rx", "\\A[\\s\\x0b]*\\z"),
    ("rx", ".*-{2}.*#"),
    ("rx", "(?:a(?:b(?:c|d)|e)|f)g"),
    ("pm", "select union insert"),
    ("pm", "ab a b"),
    ("pm", "UPPER lower"),
    ("contains", "attack"),
    ("contains", "x"),
    ("containsWord", "word"),
    ("strmatch", "needle"),
    ("beginsWith", "GET "),
    ("endsWith", ".php"),
    ("streq", "exactly"),
    ("within", "GET HEAD POST"),
    ("validateByteRange", "32-126"),
    ("validateByteRange", "0-255"),
    ("validateUrlEncoding", ""),
    ("validateUtf8Encoding", ""),
    ("detectSQLi", ""),
    ("detectXSS", ""),
    ("eq", "5"),
    ("ge", "10"),
    ("ipMatch", "192.0.2.0/24"),
];

/// Lists of transformations that the rules are behind, in turn.
const LISTS: [&[&str]; 4] =
    [&[], &["lowercase"], &["urlDecodeUni", "htmlEntityDecode"], &["removeNulls", "cmdLine"]];

struct Asked {
    profile: Arc<Profile>,
    /// By id from 1: the operator, its negation and its list.
    operators: Vec<(Operator, bool, &'static [&'static str])>,
}

fn asked() -> &'static Asked {
    static ASKED: OnceLock<Asked> = OnceLock::new();
    ASKED.get_or_init(|| {
        let mut own: Vec<(String, String)> =
            OPERATORS.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        own.extend(crs_patterns());
        let mut text = String::from("SecRuleEngine DetectionOnly\n");
        let mut operators = Vec::new();
        for (place, (name, argument)) in own.iter().enumerate() {
            let list = LISTS[place % LISTS.len()];
            let negated = place % 7 == 6;
            // In a quoted argument a quote is escaped, and nothing else.
            let unquoted = argument.replace("\\\"", "\"");
            let operator = Operator::compile(name, unquoted.as_bytes(), &mut |_| Err(String::new()))
                .unwrap_or_else(|error| panic!("@{name} {argument}: {error}"));
            let id = operators.len() + 1;
            let not = if negated { "!" } else { "" };
            let list_text: String = list.iter().map(|name| format!(",t:{name}")).collect();
            text.push_str(&format!(
                "SecRule ARGS:v \"{not}@{name} {argument}\" \"id:{id},phase:2,pass,log,t:none{list_text}\"\n"
            ));
            operators.push((operator, negated, list));
        }
        let set = RuleSet::load(&[SourceFile::new("rules.conf", text)], &[], &[])
            .unwrap_or_else(|errors| panic!("{errors}"));
        let profile = Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()));
        Asked { profile, operators }
    })
}

/// `@rx` and `@pm` of the rule files that the environment names, as they stand between the quotes.
fn crs_patterns() -> Vec<(String, String)> {
    let Some(folder) = std::env::var_os("SALLYPORT_CRS_RULES").map(PathBuf::from) else {
        return Vec::new();
    };
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder.join("rules")).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        for line in text.lines() {
            for name in ["rx", "pm"] {
                let mark = format!("\"@{name} ");
                let Some((_, rest)) = line.split_once(&mark) else { continue };
                let argument = rest.trim_end().strip_suffix('\\').unwrap_or(rest).trim_end();
                if let Some(argument) = argument.strip_suffix('"') {
                    found.insert((name.to_string(), argument.to_string()));
                }
            }
        }
    }
    found.into_iter().collect()
}

/// Takes the bytes as a value.
pub fn gate(data: &[u8]) {
    let asked = asked();
    // Every byte is escaped, so that the argument is the input and nothing else.
    let escaped: String = data.iter().map(|byte| format!("%{byte:02x}")).collect();
    let head = format!("GET /?v={escaped} HTTP/1.1\r\nhost: h\r\n");
    let client = Client::parse(b"192.0.2.7 4000 192.0.2.1 443 id");
    let transaction = Transaction::request(&asked.profile, &client, head.as_bytes(), None);
    let gated: BTreeSet<usize> =
        transaction.matches().iter().map(|entry| entry.id as usize).collect();

    let context = TransformationContext { unicode_map: Some(UnicodeMap::us_ascii()) };
    for (place, (operator, negated, list)) in asked.operators.iter().enumerate() {
        let mut value = data.to_vec();
        for name in *list {
            let transformation = Transformation::from_name(name).expect("a name of ours");
            if let Some(changed) = transformation.apply(&value, &context) {
                value = changed;
            }
        }
        let plain = operator.matches(&value, None, None) != *negated;
        let id = place + 1;
        assert_eq!(gated.contains(&id), plain, "rule {id} on {}", data.escape_ascii());
    }
}
