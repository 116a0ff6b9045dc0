//! What a transaction found, in the form that log, policy and `explain` read.

use serde::Serialize;

use crate::escape::escape_bytes;

/// How many bytes of a matched value a [`Match`] shows.
pub const MATCH_VALUE_BYTES: usize = 200;

/// Everything a transaction found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Details {
    /// The rule that stopped the exchange, if one did.
    pub interruption: Option<Interruption>,
    /// Logged matches in order, at most [`crate::MATCH_LIMIT`] in a transaction.
    pub matches: Vec<Match>,
    /// How many more there were, in all phases.
    #[serde(rename = "matchesLeftOut")]
    pub matches_left_out: u32,
    /// Anomaly score of the request.
    pub inbound: Score,
    /// Anomaly score of the response.
    pub outbound: Score,
    /// Why the request body could not be parsed.
    #[serde(rename = "bodyError")]
    pub body_error: Option<String>,
}

impl Details {
    /// The details as one JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_string())
    }
}

/// Appends [`Details`] as JSON without the matches' texts, which is all that most readers need: of the matches their
/// rules' ids and phases.
pub(crate) fn summary_line(
    details: &Details,
    matched: impl Iterator<Item = (u32, u8)>,
    out: &mut Vec<u8>,
) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Summary<'a> {
        interruption: &'a Option<Interruption>,
        matched: Vec<Matched>,
        matches_left_out: u32,
        inbound: Score,
        outbound: Score,
        body_error: &'a Option<String>,
    }
    #[derive(Serialize)]
    struct Matched {
        id: u32,
        phase: u8,
    }
    let summary = Summary {
        interruption: &details.interruption,
        matched: matched.map(|(id, phase)| Matched { id, phase }).collect(),
        matches_left_out: details.matches_left_out,
        inbound: details.inbound,
        outbound: details.outbound,
        body_error: &details.body_error,
    };
    // Writing to memory cannot fail, nor can these types.
    let _ = serde_json::to_writer(out, &summary);
}

/// The decision to stop an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interruption {
    /// Phase of the deciding rule, 1–5.
    pub phase: u8,
    /// HTTP status to answer with.
    pub status: u16,
    /// The deciding rule; 0 when a limit decided.
    #[serde(rename = "ruleId")]
    pub rule_id: u32,
    /// Where a `redirect` sends the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// An anomaly score and the threshold it is held against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Score {
    /// The score of the levels that block.
    pub score: i64,
    /// The score at which the exchange is stopped; 0 when the rule set names none.
    pub threshold: i64,
}

/// One logged match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Match {
    /// The rule's id.
    pub id: u32,
    /// Its phase.
    pub phase: u8,
    /// Its message, macros expanded.
    pub message: String,
    /// Its `logdata`, macros expanded, bounded and escaped.
    pub data: String,
    /// Name of its severity (`critical`, `error`, …), empty when it has none.
    pub severity: &'static str,
    /// Name of the matched variable, such as `ARGS:id`.
    pub variable: String,
    /// The matched value after transformations: at most [`MATCH_VALUE_BYTES`] bytes, escaped.
    pub value: String,
    /// Its tags, macros expanded.
    pub tags: Vec<String>,
    /// What the match added to the anomaly score, when it added anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<i64>,
    /// The file that holds the rule.
    pub file: String,
    /// The rule's line in it.
    pub line: u32,
    /// Its `ver`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
}

impl Match {
    /// One line in the form of ModSecurity's error log, for tools that read that form.
    ///
    /// Source: order of fields in `seclang.md` section 13.3.
    pub fn log_line(&self) -> String {
        let mut line = format!(
            "ModSecurity: Warning. [file \"{}\"] [line \"{}\"] [id \"{}\"]",
            escape_bytes(self.file.as_bytes()),
            self.line,
            self.id
        );
        let mut field = |name: &str, value: &str| {
            line.push_str(" [");
            line.push_str(name);
            line.push_str(" \"");
            line.push_str(value);
            line.push_str("\"]");
        };
        if !self.message.is_empty() {
            field("msg", &self.message);
        }
        if !self.data.is_empty() {
            field("data", &self.data);
        }
        if !self.severity.is_empty() {
            field("severity", &self.severity.to_ascii_uppercase());
        }
        if !self.version.is_empty() {
            field("ver", &self.version);
        }
        for tag in &self.tags {
            field("tag", tag);
        }
        line
    }
}
