//! The compiled rule set: immutable, shared by all threads of a process.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use sallyport_seclang::SourceFile;
use serde::Serialize;

use crate::collections::{CollectionStore, Collections};
use crate::configuration::Configuration;
use crate::error::LoadErrors;
use crate::gate::Probe;
use crate::listing::Listing;
use crate::load;
use crate::plan::Plans;
use crate::rule::{
    set_bit, Control, Disruption, Effect, Rule, Selector, TargetSet, TargetSpec, Test,
};
use crate::transformation::TransformationContext;
use crate::transformation_tree::TransformationTree;
use crate::tx::{TxNames, TxSlot};
use crate::variable::Variable;

/// A rule that was left out because the caller named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The rule's id.
    pub id: u32,
    /// What is not provided of it.
    pub construct: String,
}

/// Facts about a loaded rule set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Rules with an id, left-out ones not counted.
    pub rules: usize,
    /// Files read.
    pub files: usize,
    /// Rules per phase, 1 to 5.
    pub phases: [usize; 5],
    /// Rules that were left out.
    pub left_out: Vec<LeftOut>,
    /// Media types whose response bodies the rules want to see, lower case.
    pub response_body_mime_types: Vec<String>,
    /// Bytes of a request body that are inspected.
    pub request_body_limit: usize,
    /// Bytes of a response body that are inspected.
    pub response_body_limit: usize,
    /// Texts of `SecComponentSignature`.
    pub component_signatures: Vec<String>,
}

impl Summary {
    /// The summary as one JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_string())
    }
}

/// Places in `TX` that the engine itself reads or sets.
#[derive(Debug)]
pub(crate) struct WellKnown {
    pub(crate) blocking_paranoia_level: TxSlot,
    pub(crate) detection_paranoia_level: TxSlot,
    pub(crate) inbound_threshold: TxSlot,
    pub(crate) outbound_threshold: TxSlot,
    /// Score and its name in rule sets before CRS 4.
    pub(crate) inbound_score: [TxSlot; 2],
    pub(crate) outbound_score: [TxSlot; 2],
    /// Places whose additions are a match's score.
    pub(crate) score_parts: Vec<TxSlot>,
}

impl WellKnown {
    fn new(names: &mut TxNames) -> Self {
        let mut score_parts = Vec::new();
        for direction in ["inbound", "outbound"] {
            for level in 1..=4 {
                score_parts
                    .push(names.slot(format!("{direction}_anomaly_score_pl{level}").as_bytes()));
            }
        }
        // The name of CRS 3.
        for level in 1..=4 {
            score_parts.push(names.slot(format!("anomaly_score_pl{level}").as_bytes()));
        }
        score_parts.sort_unstable();
        score_parts.dedup();
        WellKnown {
            blocking_paranoia_level: names.slot(b"blocking_paranoia_level"),
            detection_paranoia_level: names.slot(b"detection_paranoia_level"),
            inbound_threshold: names.slot(b"inbound_anomaly_score_threshold"),
            outbound_threshold: names.slot(b"outbound_anomaly_score_threshold"),
            inbound_score: [
                names.slot(b"blocking_inbound_anomaly_score"),
                names.slot(b"anomaly_score"),
            ],
            outbound_score: [
                names.slot(b"blocking_outbound_anomaly_score"),
                names.slot(b"outbound_anomaly_score"),
            ],
            score_parts,
        }
    }
}

/// A compiled rule set.
#[derive(Debug)]
pub struct RuleSet {
    configuration: Configuration,
    pub(crate) files: Vec<String>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) phases: [Vec<u32>; 5],
    pub(crate) target_sets: Vec<TargetSet>,
    pub(crate) tree: TransformationTree,
    pub(crate) context: TransformationContext,
    pub(crate) tx_names: Arc<TxNames>,
    pub(crate) specs: Vec<TargetSpec>,
    pub(crate) probes: Vec<Probe>,
    pub(crate) plans: Plans,
    pub(crate) well_known: WellKnown,
    /// Whether a rule's first link reads what an earlier rule matched on.
    pub(crate) has_loose_reads: bool,
    pub(crate) collections: Collections,
    by_id: HashMap<u32, u32>,
    left_out: Vec<LeftOut>,
}

impl RuleSet {
    /// Compiles `sources` in the order given. `data` holds what they name by path relative to themselves: phrase lists,
    /// included files, the code-page map. `Include @recommended` reads the engine's own recommended settings and rules.
    ///
    /// A rule whose construct is not provided is an error that names it. Rules whose ids are in `left_out` are left out
    /// with their chains; the summary lists them and says what is not provided of each.
    ///
    /// # Errors
    /// Every error of the sources, with its place.
    pub fn load(
        sources: &[SourceFile],
        data: &[SourceFile],
        left_out: &[u32],
    ) -> Result<RuleSet, LoadErrors> {
        let mut loaded = load::load(sources, data, left_out)?;
        let well_known = WellKnown::new(&mut loaded.tx_names);
        for spec in &mut loaded.specs {
            if spec.variable == Variable::Tx && !matches!(spec.selector, Selector::Tx(_)) {
                spec.tx_slots = Some(loaded.tx_names.taken_by(|name| spec.selector.takes(name)));
            }
        }
        let by_id =
            loaded.rules.iter().enumerate().map(|(index, rule)| (rule.id, index as u32)).collect();
        let context =
            TransformationContext { unicode_map: loaded.configuration.unicode_map.clone() };
        for rule in &mut loaded.rules {
            let file = loaded.files.get(rule.file as usize).map_or("", String::as_str);
            rule.write_json(file);
        }
        let has_loose_reads = loaded.rules.iter().any(|rule| {
            let Some(link) = rule.links.first() else { return false };
            let set = &loaded.target_sets[link.targets.0 as usize];
            let variables = set.specs.iter().map(|spec| loaded.specs[spec.0 as usize].variable);
            let reads = |test: &Test| match test {
                Test::Operator { argument: Some(text), .. } => text.names(Variable::is_of_hits),
                _ => false,
            };
            variables.into_iter().any(Variable::is_of_hits) || reads(&link.test)
        });
        let mut set = RuleSet {
            has_loose_reads,
            collections: Collections::new(loaded.configuration.collection_timeout_s),
            configuration: loaded.configuration,
            files: loaded.files,
            rules: loaded.rules,
            phases: loaded.phases,
            target_sets: loaded.target_sets,
            tree: loaded.tree,
            context,
            tx_names: Arc::new(loaded.tx_names),
            specs: loaded.specs,
            probes: loaded.probes,
            plans: Plans::default(),
            well_known,
            by_id,
            left_out: loaded
                .left_out
                .into_iter()
                .map(|(id, construct)| LeftOut { id, construct })
                .collect(),
        };
        let listings: Vec<_> = (0..set.rules.len()).map(|at| Listing::of(&set, at)).collect();
        for (rule, listing) in set.rules.iter_mut().zip(listings) {
            rule.is_quiet = !has_loose_reads && !rule.log && rule.is_closed();
            rule.listing = listing;
            if !has_loose_reads {
                rule.idle_links = rule.idle_links().min(usize::from(u8::MAX)) as u8;
            }
        }
        Ok(set)
    }

    /// Whether a rule neither reads nor writes `TX`, takes no part in decisions, and leaves the order of rules alone.
    pub(crate) fn is_apart_from_tx(&self, rule: &Rule) -> bool {
        let is_tx = |variable| variable == Variable::Tx;
        let texts = rule.message.iter().chain(&rule.log_data).chain(&rule.tags);
        rule.disruption == Disruption::Pass
            && rule.jump.is_none()
            && texts.into_iter().all(|text| !text.names_tx())
            && rule.links.iter().all(|link| {
                let set = &self.target_sets[link.targets.0 as usize];
                let test = match &link.test {
                    Test::Always => true,
                    Test::TxNumber { .. } => false,
                    Test::Operator { argument, .. } => {
                        argument.as_ref().is_none_or(|text| !text.names_tx())
                    }
                };
                let effect = |effect: &Effect| {
                    matches!(
                        effect,
                        Effect::Control(
                            Control::RequestBodyProcessor(_)
                                | Control::ForceRequestBodyVariable(_)
                                | Control::RequestBodyAccess(_)
                                | Control::ResponseBodyAccess(_)
                                | Control::RequestBodyLimit(_)
                                | Control::ResponseBodyLimit(_)
                                | Control::AuditLog
                        )
                    )
                };
                test && !link.capture
                    && link.effects.iter().all(effect)
                    && !set.specs.iter().any(|spec| is_tx(self.specs[spec.0 as usize].variable))
            })
    }

    /// Keeps the collections that outlive a transaction in `store` instead of in memory of its own.
    pub fn use_collections(&mut self, store: Arc<dyn CollectionStore>) {
        self.collections.use_store(store);
    }

    /// The engine settings.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Facts about the rule set.
    pub fn summary(&self) -> Summary {
        Summary {
            rules: self.rules.len(),
            files: self.files.len(),
            phases: [0, 1, 2, 3, 4].map(|phase| self.phases[phase].len()),
            left_out: self.left_out.clone(),
            response_body_mime_types: self.configuration.response_body_mime_types.clone(),
            request_body_limit: self.configuration.request_body_limit,
            response_body_limit: self.configuration.response_body_limit,
            component_signatures: self.configuration.component_signatures.clone(),
        }
    }

    /// Ids of all rules, in load order.
    pub fn rule_ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.rules.iter().map(|rule| rule.id)
    }

    /// A bit per rule, set for the given ids in the given phases; unknown ids are ignored.
    pub(crate) fn bits_of_ids(&self, ids: &[u32], phases: RangeInclusive<u8>) -> Box<[u64]> {
        let mut bits = vec![0; self.rules.len().div_ceil(64)];
        for index in ids.iter().filter_map(|id| self.by_id.get(id)) {
            if phases.contains(&self.rules[*index as usize].phase) {
                set_bit(&mut bits, *index);
            }
        }
        bits.into()
    }
}
