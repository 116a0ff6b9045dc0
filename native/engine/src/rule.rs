//! Compiled rules.

use std::sync::Arc;

use regex::bytes::Regex;

use crate::configuration::EngineMode;
use crate::gate::ProbeId;
use crate::listing::Listing;
use crate::operator::Operator;
use crate::template::Template;
use crate::transaction::{push_member, push_tags};
use crate::transformation_tree::NodeId;
use crate::tx::TxSlot;
use crate::variable::Variable;

/// A rule with its chain.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: u32,
    /// 1–5
    pub(crate) phase: u8,
    /// The starter and the links of its chain.
    pub(crate) links: Vec<Link>,
    pub(crate) message: Option<Template>,
    pub(crate) log_data: Option<Template>,
    pub(crate) tags: Vec<Template>,
    pub(crate) severity: Option<u8>,
    pub(crate) version: Box<str>,
    /// Whether a match is logged.
    pub(crate) log: bool,
    pub(crate) disruption: Disruption,
    /// Where to go on in the phase's order after a match.
    pub(crate) jump: Option<u32>,
    /// Index into the rule set's files.
    pub(crate) file: u32,
    pub(crate) line: u32,
    /// The beginning of its matches as JSON: an object, not yet closed, with all that is the same for each.
    pub(crate) json: Box<str>,
    /// A match is seen by nobody but through what the rule writes to `TX`.
    pub(crate) is_quiet: bool,
    /// How many links there are up to the first that does something of its own, that one included; 1 where others see what
    /// it matched on.
    pub(crate) idle_links: u8,
    /// What its first link writes, if that can wait until it is read.
    pub(crate) listing: Option<Listing>,
}

/// How many bytes of a match's texts are kept.
pub(crate) const LOG_DATA_BYTES: usize = 512;

/// Severity names, index = number.
pub(crate) const SEVERITIES: [&str; 8] =
    ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];

impl Rule {
    /// Its tags, where none holds a macro.
    pub(crate) fn plain_tags(&self) -> impl Iterator<Item = &[u8]> {
        self.tags.iter().filter_map(Template::as_plain)
    }

    /// Writes what is the same for all of its matches.
    pub(crate) fn write_json(&mut self, file: &str) {
        let severity = self.severity.map_or("", |severity| SEVERITIES[usize::from(severity & 7)]);
        let mut out = format!(
            "{{\"id\":{},\"phase\":{},\"severity\":\"{severity}\",\"file\":{},\"line\":{}",
            self.id,
            self.phase,
            serde_json::Value::from(file),
            self.line,
        )
        .into_bytes();
        if !self.version.is_empty() {
            let version = serde_json::Value::from(&*self.version);
            out.extend_from_slice(format!(",\"version\":{version}").as_bytes());
        }
        let bounded = |text: &'_ [u8]| text[..text.len().min(LOG_DATA_BYTES)].to_vec();
        if let Some(message) = self.message.as_ref().map_or(Some(&b""[..]), Template::as_plain) {
            push_member(&mut out, "message", &bounded(message));
        }
        if self.tags.iter().all(|tag| tag.as_plain().is_some()) {
            let tags: Vec<Vec<u8>> = self.plain_tags().map(bounded).collect();
            push_tags(&mut out, tags.iter().map(Vec::as_slice));
        }
        self.json = String::from_utf8(out).unwrap_or_default().into();
    }

    /// The number of links up to the first whose match does something, even where the rest of the chain fails.
    pub(crate) fn idle_links(&self) -> usize {
        // What does not match captures nothing.
        let acts = |link: &Link| (link.capture && !link.negated) || !link.effects.is_empty();
        self.links.iter().position(acts).map_or(self.links.len(), |at| at + 1)
    }

    /// Whether all that it asks and does is about `TX`, so that what it does depends on nothing else.
    pub(crate) fn is_closed(&self) -> bool {
        let [link] = self.links.as_slice() else { return false };
        let is_closed = |effect: &Effect| match effect {
            Effect::SetVariable { target: SetTarget::Tx(_), change } => match change {
                Change::Set(operand) | Change::Add(operand) | Change::Subtract(operand) => {
                    match operand {
                        Operand::Number(_) | Operand::Text(_) | Operand::Tx(_) => true,
                        Operand::Template(template) => template.is_of_tx(),
                    }
                }
                Change::Delete => true,
            },
            _ => false,
        };
        !matches!(link.test, Test::Operator { .. })
            && !link.capture
            && link.effects.iter().all(is_closed)
    }

    /// Whether the rule only prepares things: it detects nothing and decides nothing.
    pub(crate) fn is_setup(&self) -> bool {
        self.severity.is_none() && self.disruption == Disruption::Pass
    }
}

/// What a matched rule does to the exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disruption {
    /// Nothing.
    Pass,
    /// Stops it with a status.
    Deny(u16),
    /// Stops it and sends the client elsewhere.
    Redirect(u16, Template),
    /// Lets it through: the rest of this phase (`phase`), of the request's phases (`request`), or all.
    Allow(AllowScope),
}

/// How far `allow` reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllowScope {
    Phase,
    Request,
    All,
}

/// One link of a chain.
#[derive(Debug)]
pub(crate) struct Link {
    /// What it looks at.
    pub(crate) targets: TargetSetId,
    pub(crate) test: Test,
    pub(crate) negated: bool,
    pub(crate) transformations: NodeId,
    /// `multiMatch`: the lists to test one after the other, beginning with the empty one; empty without it.
    pub(crate) stages: Box<[NodeId]>,
    pub(crate) capture: bool,
    pub(crate) effects: Vec<Effect>,
}

/// What a link asks.
#[derive(Debug)]
pub(crate) enum Test {
    /// `SecAction`: true once, without a target.
    Always,
    /// A number in one member of `TX`, or whether the member exists, against another number: no bytes involved.
    TxNumber { slot: TxSlot, count: bool, comparison: Comparison, operand: TxOperand },
    /// An operator.
    Operator {
        /// The operator.
        operator: Arc<Operator>,
        /// Its argument when that holds macros.
        argument: Option<Template>,
        /// Its probes in the gates, one per stage; empty when it is always run.
        probes: Box<[ProbeId]>,
    },
}

/// What a number of `TX` is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TxOperand {
    /// A constant.
    Number(i64),
    /// A member of `TX`; 0 if it does not exist.
    Tx(TxSlot),
}

/// The numeric operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Comparison {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "eq" => Comparison::Equal,
            "gt" => Comparison::Greater,
            "ge" => Comparison::GreaterOrEqual,
            "lt" => Comparison::Less,
            "le" => Comparison::LessOrEqual,
            _ => return None,
        })
    }

    pub(crate) fn holds(self, left: i64, right: i64) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::Greater => left > right,
            Comparison::GreaterOrEqual => left >= right,
            Comparison::Less => left < right,
            Comparison::LessOrEqual => left <= right,
        }
    }
}

/// Index of a list of targets in the rule set; equal lists are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TargetSetId(pub(crate) u32);

/// A list of targets.
#[derive(Debug)]
pub(crate) struct TargetSet {
    pub(crate) specs: Vec<SpecId>,
    /// Whether its members stay the same while a phase runs.
    pub(crate) stable: bool,
}

/// Index of an entry of a variables argument in the rule set; equal entries are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpecId(pub(crate) u32);

/// One entry of a variables argument, with the exclusions that cut into it.
#[derive(Clone, Debug)]
pub(crate) struct TargetSpec {
    pub(crate) variable: Variable,
    pub(crate) selector: Selector,
    pub(crate) count: bool,
    pub(crate) exclusions: Vec<Selector>,
    /// The [`crate::exchange::name_mark`] of the one member it names; 0: it names none.
    pub(crate) mark: u64,
    /// Of several members of `TX`: those that the rules' own names can be; none before all names are known.
    pub(crate) tx_slots: Option<Box<[TxSlot]>>,
}

/// Which members of a collection.
#[derive(Clone, Debug)]
pub(crate) enum Selector {
    /// All of them.
    All,
    /// The one with this name (lower case), with the rule's spelling.
    Name { lower: Box<[u8]>, spelling: Arc<[u8]> },
    /// The member of `TX` at this place.
    Tx(TxSlot),
    /// Those whose names begin so, without regard to case (lower case).
    Beginning(Box<[u8]>),
    /// Those in whose name the expression is found.
    Regex(Arc<Regex>),
}

impl Selector {
    /// Whether a member name is meant.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        match self {
            Selector::All => true,
            Selector::Name { lower, .. } => name.eq_ignore_ascii_case(lower),
            Selector::Beginning(lower) => name
                .get(..lower.len())
                .is_some_and(|beginning| beginning.eq_ignore_ascii_case(lower)),
            Selector::Regex(regex) => regex.is_match(name),
            Selector::Tx(_) => false,
        }
    }
}

/// A non-disruptive action.
#[derive(Debug)]
pub(crate) enum Effect {
    SetVariable {
        target: SetTarget,
        change: Change,
    },
    /// `setenv:name=value`
    SetEnvironment {
        name: Template,
        value: Template,
    },
    /// `initcol:collection=key`
    BindCollection {
        collection: Variable,
        key: Template,
    },
    /// `expirevar:collection.name=seconds`
    Expire {
        collection: Variable,
        name: Template,
        seconds: Template,
    },
    /// `ctl:…`
    Control(Control),
}

/// What `setvar` writes to.
#[derive(Debug)]
pub(crate) enum SetTarget {
    Tx(TxSlot),
    TxNamed(Template),
    Persistent { collection: Variable, name: Template },
}

/// What `setvar` writes.
#[derive(Debug)]
pub(crate) enum Change {
    Set(Operand),
    Add(Operand),
    Subtract(Operand),
    Delete,
}

/// A value that `setvar` takes.
#[derive(Debug)]
pub(crate) enum Operand {
    Number(i64),
    Text(Arc<[u8]>),
    Tx(TxSlot),
    Template(Template),
}

/// What `ctl` changes for the rest of a transaction.
#[derive(Debug)]
pub(crate) enum Control {
    /// These rules (a bit per rule) are skipped.
    RemoveRules(Arc<[u64]>),
    /// These rules do not see a target.
    RemoveTarget {
        rules: Arc<[u64]>,
        variable: Variable,
        selector: Selector,
    },
    Engine(EngineMode),
    RequestBodyProcessor(BodyProcessor),
    ForceRequestBodyVariable(bool),
    RequestBodyAccess(bool),
    ResponseBodyAccess(bool),
    RequestBodyLimit(usize),
    ResponseBodyLimit(usize),
    /// Audit and debug logs are the caller's business; read, checked, without effect here.
    AuditLog,
}

/// Who reads a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyProcessor {
    UrlEncoded,
    Multipart,
    Json,
    Xml,
}

impl BodyProcessor {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "URLENCODED" => BodyProcessor::UrlEncoded,
            "MULTIPART" => BodyProcessor::Multipart,
            "JSON" => BodyProcessor::Json,
            "XML" => BodyProcessor::Xml,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            BodyProcessor::UrlEncoded => "URLENCODED",
            BodyProcessor::Multipart => "MULTIPART",
            BodyProcessor::Json => "JSON",
            BodyProcessor::Xml => "XML",
        }
    }
}

/// Whether bit `index` is set.
#[inline]
pub(crate) fn has_bit(bits: &[u64], index: u32) -> bool {
    bits.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 != 0)
}

/// The first bit that is set from `index` on.
#[inline]
pub(crate) fn next_bit(bits: &[u64], index: usize) -> Option<usize> {
    let mut word = index / 64;
    let mut rest = bits.get(word)? >> (index % 64) << (index % 64);
    while rest == 0 {
        word += 1;
        rest = *bits.get(word)?;
    }
    Some(word * 64 + rest.trailing_zeros() as usize)
}

/// Sets bit `index`.
pub(crate) fn set_bit(bits: &mut [u64], index: u32) {
    if let Some(word) = bits.get_mut(index as usize / 64) {
        *word |= 1 << (index % 64);
    }
}
