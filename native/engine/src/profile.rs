//! What one use of a rule set asks of it: exclusions, body access, limits, level and thresholds.

use std::sync::Arc;

use serde::Deserialize;

use crate::plan::{Decisions, Plan};
use crate::rule_set::RuleSet;
use crate::tx::TxSlot;

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
#[derive(Debug)]
pub struct Profile {
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) options: ProfileOptions,
    /// Bit per rule: excluded by id.
    pub(crate) excluded: Box<[u64]>,
    /// Members of `TX` that keep a number.
    pub(crate) numbers: Vec<(TxSlot, i64)>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) request_body_access: bool,
    pub(crate) response_body_access: bool,
    pub(crate) request_body_limit: usize,
    pub(crate) response_body_limit: usize,
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
        let plan = rules.plans.get(&rules, &Decisions { numbers: &numbers, excluded: &excluded });
        Profile {
            rules,
            options,
            excluded,
            numbers,
            plan,
            request_body_access,
            response_body_access,
            request_body_limit,
            response_body_limit,
        }
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
