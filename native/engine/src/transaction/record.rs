//! Logged matches: little is kept while rules run, texts are made when somebody asks for them.
//!
//! Source: what a log entry holds in `seclang.md` section 13.

use super::targets::Target;
use super::{HitValue, Transaction, MATCH_LIMIT};
use crate::details::{Match, MATCH_VALUE_BYTES};
use crate::escape::{escape_bounded, escape_bytes, push_json, push_json_text};
use crate::rule::{Rule, LOG_DATA_BYTES, SEVERITIES};
use crate::template::Template;

/// One logged match. Texts with macros were expanded when it was made, for what they name changes.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Index of the rule.
    rule: u32,
    pub(super) phase: u8,
    hit: Option<(Target, HitValue)>,
    /// Where its expanded message begins in the transaction's texts and its `logdata` behind it, and where that ends.
    texts: [u32; 3],
    /// Its tags, if some hold macros.
    tags: Option<Box<[Vec<u8>]>>,
    score: i64,
}

impl Transaction {
    /// Keeps a log entry for a rule that matched as a whole.
    pub(super) fn log(&mut self, index: u32, rule: &Rule) {
        self.logged = true;
        let score = std::mem::take(&mut self.rule_score);
        if self.records.len() >= MATCH_LIMIT {
            self.matches_left_out = self.matches_left_out.saturating_add(1);
            return;
        }
        let mut texts = std::mem::take(&mut self.record_texts);
        let mut places = [texts.len() as u32; 3];
        for (at, template) in [&rule.message, &rule.log_data].into_iter().enumerate() {
            if let Some(template) = template {
                let start = texts.len();
                match template.as_plain() {
                    // The rule has it.
                    Some(_) if at == 0 => {}
                    Some(plain) => texts.extend_from_slice(plain),
                    None => self.expand_into(template, Some(rule), &mut texts),
                }
                texts.truncate(start + LOG_DATA_BYTES);
            }
            places[at + 1] = texts.len() as u32;
        }
        self.record_texts = texts;
        let has_macros = |tag: &Template| tag.as_plain().is_none();
        let tags = rule.tags.iter().any(has_macros).then(|| {
            let expand = |tag| {
                let mut text = self.expand(tag, Some(rule));
                text.truncate(LOG_DATA_BYTES);
                text
            };
            rule.tags.iter().map(expand).collect()
        });
        let hit = self.matched().map(|hit| (hit.target.clone(), hit.value.clone()));
        let phase = rule.phase;
        self.records.push(Record { rule: index, phase, hit, texts: places, tags, score });
    }

    /// The records of `phase` and later ones.
    pub(super) fn records_from(&self, phase: u8) -> &[Record] {
        &self.records[self.records.partition_point(|known| known.phase < phase)..]
    }

    fn record_text(&self, record: &Record, at: usize) -> &[u8] {
        &self.record_texts[record.texts[at] as usize..record.texts[at + 1] as usize]
    }

    /// The id of a record's rule.
    pub(super) fn record_id(&self, record: &Record) -> u32 {
        self.profile.rules().rules[record.rule as usize].id
    }

    /// A record with all its texts.
    pub(super) fn read_record(&self, record: &Record) -> Match {
        let rules = self.profile.rules();
        let rule = &rules.rules[record.rule as usize];
        let message = match rule.message.as_ref().and_then(Template::as_plain) {
            Some(plain) => plain,
            None => self.record_text(record, 0),
        };
        let tags = match &record.tags {
            Some(tags) => tags.iter().map(|tag| escape_bytes(tag)).collect(),
            None => rule.plain_tags().map(|tag| escape_bounded(tag, LOG_DATA_BYTES)).collect(),
        };
        let (variable, value) = match &record.hit {
            Some((target, value)) => (
                self.logged_name(target),
                escape_bounded(&value.bytes(&self.store), MATCH_VALUE_BYTES),
            ),
            None => Default::default(),
        };
        Match {
            id: rule.id,
            phase: rule.phase,
            message: escape_bounded(message, LOG_DATA_BYTES),
            data: escape_bytes(self.record_text(record, 1)),
            severity: rule.severity.map_or("", |severity| SEVERITIES[usize::from(severity & 7)]),
            variable,
            value,
            tags,
            score: (record.score != 0).then_some(record.score),
            file: rules.files.get(rule.file as usize).cloned().unwrap_or_default(),
            line: rule.line,
            version: rule.version.to_string(),
        }
    }

    /// Appends a record as JSON, with the members of a [`Match`]. What is the same for all matches of its rule was written
    /// when the rules were loaded.
    pub(super) fn push_record(&self, record: &Record, out: &mut Vec<u8>) {
        let rule = &self.profile.rules().rules[record.rule as usize];
        out.extend_from_slice(rule.json.as_bytes());
        if rule.message.as_ref().is_some_and(|message| message.as_plain().is_none()) {
            push_member(out, "message", self.record_text(record, 0));
        }
        if let Some(tags) = &record.tags {
            push_tags(out, tags.iter().map(Vec::as_slice));
        }
        push_member(out, "data", self.record_text(record, 1));
        let (variable, value) = match &record.hit {
            Some((target, value)) => (self.logged_name(target), value.bytes(&self.store)),
            None => Default::default(),
        };
        out.extend_from_slice(b",\"variable\":\"");
        push_json_text(out, &variable);
        out.push(b'"');
        push_member(out, "value", &value[..value.len().min(MATCH_VALUE_BYTES)]);
        if record.score != 0 {
            out.extend_from_slice(format!(",\"score\":{}", record.score).as_bytes());
        }
        out.push(b'}');
    }
}

/// Appends a member whose value is a text to an object that has members.
pub(crate) fn push_member(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    push_json(out, value);
    out.push(b'"');
}

/// Appends the member `tags`.
pub(crate) fn push_tags<'a>(out: &mut Vec<u8>, tags: impl Iterator<Item = &'a [u8]>) {
    out.extend_from_slice(b",\"tags\":[");
    for (at, tag) in tags.enumerate() {
        out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
        push_json(out, tag);
        out.push(b'"');
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{Client, Match, Profile, ProfileOptions, RuleSet, SourceFile, Transaction};

    #[test]
    fn the_json_of_records_holds_what_matches_hold() {
        let rules = r#"
            SecRuleEngine On
            SecRule ARGS "@rx (.*)" "id:1,phase:1,pass,log,capture,msg:'a \"quoted\" text',\
                logdata:'%{TX.0} in %{MATCHED_VAR_NAME}',tag:'one',tag:'two',ver:'v/1',severity:CRITICAL,\
                setvar:tx.inbound_anomaly_score_pl1=+5"
            SecRule &ARGS "@gt 0" "id:2,phase:1,pass,log,msg:'%{MATCHED_VAR}',tag:'n/%{MATCHED_VAR}'"
            SecAction "id:3,phase:2,pass,log,logdata:'plain'"
        "#;
        let set = RuleSet::load(&[SourceFile::new("a \"b\".conf", rules)], &[], &[]).unwrap();
        let profile = Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()));
        let head = b"GET /?a%22%00=%5C%0A%ff%22x HTTP/1.1\r\nhost: a\r\n";
        let transaction = Transaction::request(&profile, &Client::default(), head, None);
        let matches: Vec<Match> = transaction.matches();
        assert_eq!(matches.len(), 3);
        assert_eq!(matches[0].data, r#"\\\n\xff\"x in ARGS:a\"\\x00"#);
        assert_eq!(matches[0].variable, r#"ARGS:a\"\x00"#);
        assert_eq!(matches[1].message, "1");
        let text = transaction.details_in_two_lines(1);
        let (_, second) = text.split_once('\n').unwrap();
        let found: serde_json::Value = serde_json::from_str(second).unwrap();
        assert_eq!(found, serde_json::to_value(&matches).unwrap());
    }
}
