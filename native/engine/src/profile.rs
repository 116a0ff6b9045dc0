//! What one use of a rule set asks of it: exclusions, body access, limits, level and thresholds.

use std::sync::Arc;

use serde::Deserialize;

use crate::plan::{Decisions, Plan};
use crate::rule::{has_bit, Effect, SetTarget};
use crate::rule_set::RuleSet;
use crate::transaction::{Client, Transaction};
use crate::tx::{Tx, TxSlot, TxStart};

/// Options of a profile. What is `None` stays as the rule set says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProfileOptions {
    /// Rules that are never evaluated.
    pub exclude_rule_ids: Vec<u32>,
    /// Rules of phases 1, 2 and 5 that are never evaluated; ids of other phases are ignored.
    pub exclude_request_rule_ids: Vec<u32>,
    /// Rules of phases 3, 4 and 5 that are never evaluated; ids of other phases are ignored.
    pub exclude_response_rule_ids: Vec<u32>,
    /// Whether request bodies are looked at.
    pub request_body_access: Option<bool>,
    /// Whether response bodies are looked at.
    pub response_body_access: Option<bool>,
    /// Bytes of a request body that are inspected; the rest is ignored.
    pub request_body_limit: Option<usize>,
    /// Bytes of a response body that are inspected; the rest is ignored.
    pub response_body_limit: Option<usize>,
    /// Paranoia level whose scores count, 1–4. Wins over what the rules set.
    pub paranoia_level: Option<u8>,
    /// Paranoia level up to which rules run without their scores counting; without it that of blocking.
    pub detection_paranoia_level: Option<u8>,
    /// Inbound anomaly threshold. Wins over what the rules set.
    pub inbound_threshold: Option<u32>,
    /// Outbound anomaly threshold. Wins over what the rules set.
    pub outbound_threshold: Option<u32>,
    /// `true`: rules run and are reported, nothing interrupts. `false`: they interrupt whatever `SecRuleEngine` says.
    pub detection_only: Option<bool>,
}

impl ProfileOptions {
    /// Reads the options from a JSON object with camel-case keys.
    ///
    /// # Errors
    /// A sentence that names the key or the type that is wrong.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

/// A rule set together with the options of one use. Immutable; shared by threads.
#[derive(Clone, Debug)]
pub struct Profile {
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) options: ProfileOptions,
    /// Bit per rule: excluded by id.
    pub(crate) excluded: Box<[u64]>,
    /// `TX` before the first rule: members that keep a number.
    pub(crate) tx_start: Arc<TxStart>,
    /// What the first rules come to, if they do the same for every exchange.
    pub(crate) prelude: Option<Prelude>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) request_body_access: bool,
    pub(crate) response_body_access: bool,
    pub(crate) request_body_limit: usize,
    pub(crate) response_body_limit: usize,
}

/// The rules at the beginning of phase 1 that only ask for members of `TX` and only write such: their outcome. Transactions
/// begin with it, and their plan leaves these rules out.
#[derive(Clone, Debug)]
pub(crate) struct Prelude {
    /// `TX` behind them.
    pub(crate) tx: Arc<TxStart>,
    /// A bit per rule that is one of them.
    pub(crate) done: Box<[u64]>,
}

impl Profile {
    /// Binds options to a rule set.
    pub fn new(rules: Arc<RuleSet>, options: ProfileOptions) -> Self {
        let configuration = rules.configuration();
        let request_body_access =
            options.request_body_access.unwrap_or(configuration.request_body_access);
        let response_body_access =
            options.response_body_access.unwrap_or(configuration.response_body_access);
        let request_body_limit =
            options.request_body_limit.unwrap_or(usize::MAX).min(configuration.request_body_limit);
        let response_body_limit = options
            .response_body_limit
            .unwrap_or(usize::MAX)
            .min(configuration.response_body_limit);
        let excluded = [
            rules.bits_of_ids(&options.exclude_rule_ids, 1..=5),
            rules.bits_of_ids(&options.exclude_request_rule_ids, 1..=2),
            rules.bits_of_ids(&options.exclude_request_rule_ids, 5..=5),
            rules.bits_of_ids(&options.exclude_response_rule_ids, 3..=5),
        ]
        .into_iter()
        .reduce(|mut all, more| {
            all.iter_mut().zip(&more).for_each(|(all, more)| *all |= more);
            all
        })
        .unwrap_or_default();
        let known = &rules.well_known;
        let detection_level = options.detection_paranoia_level.or(options.paranoia_level);
        let numbers: Vec<(TxSlot, i64)> = [
            (known.blocking_paranoia_level, options.paranoia_level.map(i64::from)),
            (known.detection_paranoia_level, detection_level.map(i64::from)),
            (known.inbound_threshold, options.inbound_threshold.map(i64::from)),
            (known.outbound_threshold, options.outbound_threshold.map(i64::from)),
        ]
        .into_iter()
        .filter_map(|(slot, number)| Some((slot, number?)))
        .collect();
        let decided: Vec<(TxSlot, Option<i64>)> =
            numbers.iter().map(|(slot, number)| (*slot, Some(*number))).collect();
        let draft = Arc::new(Profile {
            // Rules that only ask for members of `TX` pass no gate.
            plan: Arc::new(Plan::without_gates(&rules)),
            tx_start: TxStart::new(&rules.tx_names, &numbers),
            prelude: None,
            rules,
            options,
            excluded,
            request_body_access,
            response_body_access,
            request_body_limit,
            response_body_limit,
        });
        let prelude = Transaction::start(&draft, &Client::default(), b"", 0).prelude();
        let mut profile = Profile::clone(&draft);
        let (numbers, over) = match &prelude {
            Some(prelude) => {
                let done = profile.excluded.iter().zip(&prelude.done);
                let over: Vec<u64> = done.map(|(one, other)| one | other).collect();
                (constants(&profile.rules, &over, prelude), over)
            }
            None => (decided, profile.excluded.to_vec()),
        };
        let decisions = Decisions { numbers: &numbers, excluded: &over };
        profile.plan = profile.rules.plans.get(&profile.rules, &decisions);
        profile.prelude = prelude;
        profile
    }

    /// The rule set.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// Bytes of memory that its gates take, about; profiles that let the same rules run share them.
    pub fn gate_bytes(&self) -> usize {
        self.plan.bytes()
    }

    /// The options as given.
    pub fn options(&self) -> &ProfileOptions {
        &self.options
    }
}

/// The members of `TX` that no rule writes to but those in `over`, with their numbers.
fn constants(rules: &RuleSet, over: &[u64], prelude: &Prelude) -> Vec<(TxSlot, Option<i64>)> {
    let mut written: Vec<TxSlot> = Vec::new();
    // Beginnings of names that are put together at run time.
    let mut beginnings: Vec<&[u8]> = Vec::new();
    for (index, rule) in rules.rules.iter().enumerate() {
        if has_bit(over, index as u32) {
            continue;
        }
        for link in &rule.links {
            if link.capture {
                written.extend((0..10).map(TxSlot));
            }
            for effect in &link.effects {
                match effect {
                    Effect::SetVariable { target: SetTarget::Tx(slot), .. } => written.push(*slot),
                    Effect::SetVariable { target: SetTarget::TxNamed(name), .. } => {
                        beginnings.push(name.beginning());
                    }
                    _ => {}
                }
            }
        }
    }
    let tx = Tx::new(&prelude.tx);
    let may_be_written = |slot: &TxSlot| {
        let begins_name = |beginning: &&[u8]| {
            tx.name(*slot)
                .get(..beginning.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(beginning))
        };
        !tx.is_locked(*slot) && (written.contains(slot) || beginnings.iter().any(begins_name))
    };
    (0..rules.tx_names.len() as u32)
        .map(TxSlot)
        .filter(|slot| !may_be_written(slot))
        .map(|slot| (slot, tx.get(slot).number()))
        .collect()
}
