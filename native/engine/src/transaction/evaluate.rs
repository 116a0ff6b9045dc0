//! One rule against the exchange.
//!
//! Source: `seclang.md` sections 6.2, 8.1 and 9.

use super::targets::{Target, TargetName};
use super::{Hit, Transaction, MATCH_LIMIT};
use crate::details::{Match, MATCH_VALUE_BYTES};
use crate::escape::{escape_bounded, escape_bytes};
use crate::operator::Operator;
use crate::rule::{Link, Rule, Test, SEVERITIES};
use crate::rule_set::RuleSet;
use crate::store::{NodeId, ValueId};
use crate::tx::{TxSlot, TxValue};
use crate::variable::Variable;

/// How many bytes of `logdata` are kept.
const LOG_DATA_BYTES: usize = 512;

impl Transaction {
    /// Evaluates a rule with its chain. True when all of it matched.
    pub(super) fn evaluate(&mut self, rules: &RuleSet, index: u32, rule: &Rule) -> bool {
        if !self.matched_vars.is_empty() {
            self.matched_vars.clear();
        }
        self.rule_score = 0;
        let last = rule.links.len() - 1;
        rule.links
            .iter()
            .enumerate()
            .all(|(position, link)| self.evaluate_link(rules, index, rule, link, position == last))
    }

    fn evaluate_link(
        &mut self,
        rules: &RuleSet,
        index: u32,
        rule: &Rule,
        link: &Link,
        last: bool,
    ) -> bool {
        match &link.test {
            Test::Always => {
                // As v2 has it: a test of REMOTE_ADDR that always holds.
                let mut target = Target {
                    variable: Variable::RemoteAddr,
                    name: TargetName::None,
                    count: false,
                    value: ValueId::EMPTY,
                };
                self.exchange.visit(Variable::RemoteAddr, &mut |_, value| target.value = value);
                let value = target.value;
                self.hit(rule, link, last, target, value);
                true
            }
            Test::TxNumber { slot, count, comparison, operand } => {
                let number = self.tx.get(*slot).number();
                let left = match (count, number) {
                    (true, number) => i64::from(number.is_some()),
                    (false, Some(number)) => number,
                    (false, None) => return false,
                };
                if comparison.holds(left, *operand) == link.negated
                    || (!self.target_removals.is_empty() && self.is_tx_removed(rules, index, link))
                {
                    return false;
                }
                let value = if *count {
                    self.store.intern(left.to_string().as_bytes())
                } else {
                    self.tx_value(*slot).unwrap_or(ValueId::EMPTY)
                };
                let name = TargetName::Tx(*slot);
                let target = Target { variable: Variable::Tx, name, count: *count, value };
                self.hit(rule, link, last, target, value);
                true
            }
            Test::Operator { operator, argument, .. } => {
                let expanded = argument.as_ref().map(|argument| self.expand(argument, Some(rule)));
                self.with_targets(rules, index, link, |transaction, targets| {
                    let mut matched = false;
                    for target in targets {
                        matched |= transaction.test_target(
                            rules,
                            rule,
                            link,
                            last,
                            operator,
                            expanded.as_deref(),
                            target,
                        );
                    }
                    matched
                })
            }
        }
    }

    fn is_tx_removed(&self, rules: &RuleSet, index: u32, link: &Link) -> bool {
        let spec = &rules.target_sets[link.targets.0 as usize].specs[0];
        match &spec.selector {
            crate::rule::Selector::Tx(slot) if !spec.count => {
                self.is_target_removed(index, spec, self.tx.name(*slot))
            }
            _ => false,
        }
    }

    /// Reads the targets of a link, from the cache where they cannot have changed, and hands them out.
    fn with_targets<R>(
        &mut self,
        rules: &RuleSet,
        index: u32,
        link: &Link,
        run: impl FnOnce(&mut Self, &[Target]) -> R,
    ) -> R {
        let id = link.targets.0 as usize;
        let set = &rules.target_sets[id];
        if set.stable && (self.target_removals.is_empty() || !self.has_target_removals(index)) {
            let targets = match self.target_cache[id].take() {
                Some(targets) => targets,
                None => {
                    let mut targets = Vec::new();
                    self.read_targets(set, index, &mut targets);
                    targets
                }
            };
            let result = run(self, &targets);
            self.target_cache[id] = Some(targets);
            result
        } else {
            let mut targets = std::mem::take(&mut self.target_room);
            self.read_targets(set, index, &mut targets);
            let result = run(self, &targets);
            self.target_room = targets;
            result
        }
    }

    #[allow(clippy::too_many_arguments)] // what one test needs; a struct would be made for every target
    fn test_target(
        &mut self,
        rules: &RuleSet,
        rule: &Rule,
        link: &Link,
        last: bool,
        operator: &Operator,
        expanded: Option<&[u8]>,
        target: &Target,
    ) -> bool {
        if link.stages.is_empty() {
            return self.test_stage(
                rules,
                rule,
                link,
                last,
                operator,
                expanded,
                target,
                link.transformations,
                None,
            );
        }
        // multiMatch: the value as it is, and again after each transformation that changed it.
        let mut matched = false;
        let mut before = None;
        for stage in &link.stages {
            let value = self.store.transform(target.value, *stage, &rules.tree, &rules.context);
            if before.replace(value) == Some(value) {
                continue;
            }
            matched |= self.test_stage(
                rules,
                rule,
                link,
                last,
                operator,
                expanded,
                target,
                *stage,
                Some(value),
            );
        }
        matched
    }

    #[allow(clippy::too_many_arguments)] // as above
    #[inline]
    fn test_stage(
        &mut self,
        rules: &RuleSet,
        rule: &Rule,
        link: &Link,
        last: bool,
        operator: &Operator,
        expanded: Option<&[u8]>,
        target: &Target,
        node: NodeId,
        known: Option<ValueId>,
    ) -> bool {
        let value = match known {
            Some(value) => value,
            None => self.store.transform(target.value, node, &rules.tree, &rules.context),
        };
        if let Test::Operator { gate: Some(gate), .. } = &link.test {
            if !self.store.lets_in(value, *gate, &rules.gate) {
                return false;
            }
        }
        if link.capture {
            self.captures.clear();
        }
        let captures = link.capture.then_some(&mut self.captures);
        if operator.matches(self.store.get(value), expanded, captures) == link.negated {
            return false;
        }
        self.hit(rule, link, last, target.clone(), value);
        true
    }

    /// A link has matched on a target.
    fn hit(&mut self, rule: &Rule, link: &Link, last: bool, target: Target, value: ValueId) {
        let hit = Hit { target, value };
        self.matched_vars.push(hit.clone());
        self.matched = Some(hit);
        if link.capture && self.captures.groups.iter().any(Option::is_some) {
            for (group, captured) in self.captures.groups.iter_mut().enumerate() {
                let captured = captured.take().map_or(TxValue::Unset, TxValue::Owned);
                self.tx.set(TxSlot(group as u32), captured);
            }
        }
        for effect in &link.effects {
            self.apply(effect, rule);
        }
        if last && rule.log {
            self.log(rule);
        }
    }

    /// Writes a log entry for a rule that matched as a whole.
    fn log(&mut self, rule: &Rule) {
        self.logged = true;
        let score = std::mem::take(&mut self.rule_score);
        if self.matches.len() >= MATCH_LIMIT {
            return;
        }
        let text = |template: &Option<crate::template::Template>, limit: usize| match template {
            Some(template) => escape_bounded(&self.expand(template, Some(rule)), limit),
            None => String::new(),
        };
        let (variable, value) = match &self.matched {
            Some(hit) => (
                escape_bytes(&self.full_name(&hit.target)),
                escape_bounded(self.store.get(hit.value), MATCH_VALUE_BYTES),
            ),
            None => Default::default(),
        };
        let rules = self.profile.rules();
        let entry = Match {
            id: rule.id,
            phase: rule.phase,
            message: text(&rule.message, LOG_DATA_BYTES),
            data: text(&rule.log_data, LOG_DATA_BYTES),
            severity: rule.severity.map_or("", |severity| SEVERITIES[usize::from(severity & 7)]),
            variable,
            value,
            tags: rule
                .tags
                .iter()
                .map(|tag| escape_bounded(&self.expand(tag, Some(rule)), LOG_DATA_BYTES))
                .collect(),
            score: (score != 0).then_some(score),
            file: rules.files.get(rule.file as usize).cloned().unwrap_or_default(),
            line: rule.line,
            version: rule.version.to_string(),
        };
        self.matches.push(entry);
    }
}
