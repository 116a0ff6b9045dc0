//! One rule against the exchange.
//!
//! Source: `seclang.md` sections 6.2, 8.1 and 9.

use super::targets::{SpecTargets, Target, TargetName};
use super::{Hit, HitValue, TargetRemoval, Transaction};
use crate::gate::{NodeBits, ProbeId};
use crate::operator::Operator;
use crate::profile::Profile;
use crate::rule::{has_bit, set_bit, Link, Rule, SpecId, TargetSpec, Test, TxOperand};
use crate::rule_set::RuleSet;
use crate::store::{Side, ValueId};
use crate::tx::{TxSlot, TxValue};
use crate::variable::Variable;

/// What stays the same while a link's operator is held against its targets.
struct OperatorTest<'a> {
    rules: &'a RuleSet,
    index: u32,
    rule: &'a Rule,
    link: &'a Link,
    last: bool,
    operator: &'a Operator,
}

impl Transaction {
    /// Evaluates a rule with its chain. True when all of it matched.
    pub(super) fn evaluate(&mut self, rules: &RuleSet, index: u32, rule: &Rule) -> bool {
        self.forget_hits();
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
                let value = HitValue::Stored(target.value);
                self.hit((index, rule), link, last, target, value);
                true
            }
            Test::TxNumber { slot, count, comparison, operand } => {
                let number = self.tx.get(*slot).number();
                let left = match (count, number) {
                    (true, number) => i64::from(number.is_some()),
                    (false, Some(number)) => number,
                    (false, None) => return false,
                };
                let right = match operand {
                    TxOperand::Number(number) => *number,
                    TxOperand::Tx(slot) => self.tx.get(*slot).number().unwrap_or(0),
                };
                if comparison.holds(left, right) == link.negated
                    || (!self.target_removals.is_empty() && self.is_tx_removed(rules, index, link))
                {
                    return false;
                }
                let value = HitValue::Made(match count {
                    true => TxValue::Number(left),
                    false => self.tx.get(*slot).clone(),
                });
                let name = TargetName::Tx(*slot);
                let variable = Variable::Tx;
                let target = Target { variable, name, count: *count, value: ValueId::EMPTY };
                self.hit((index, rule), link, last, target, value);
                true
            }
            Test::Operator { operator, argument, probes } => {
                let test = OperatorTest { rules, index, rule, link, last, operator };
                let set = &rules.target_sets[link.targets.0 as usize];
                if !set.stable {
                    let expanded = argument.as_ref().map(|text| self.expand(text, Some(rule)));
                    let mut targets = std::mem::take(&mut self.target_room);
                    self.read_targets(rules, set, index, &mut targets);
                    let mut matched = false;
                    for target in &targets {
                        matched |= self.test_target(&test, expanded.as_deref(), target, None);
                    }
                    self.target_room = targets;
                    return matched;
                }
                let gated = (self.plan_holds && !probes.is_empty()).then_some(&probes[..]);
                let mut expanded = None;
                let mut matched = false;
                for spec in &set.specs {
                    if !self.may_match(rules, *spec, gated, link.negated) {
                        continue;
                    }
                    // Before the first test, so that no action of a match can change it.
                    if let (Some(text), None) = (argument, &expanded) {
                        expanded = Some(self.expand(text, Some(rule)));
                    }
                    let removed_from = self.removed_from(rules, *spec, index);
                    let range = self.spec_cache[spec.0 as usize].range();
                    let members = std::mem::take(&mut self.spec_members);
                    for target in &members[range] {
                        if removed_from.is_some_and(|spec| {
                            self.is_target_removed(index, spec, self.member_name(&target.name))
                        }) {
                            continue;
                        }
                        matched |= self.test_target(&test, expanded.as_deref(), target, gated);
                    }
                    self.spec_members = members;
                }
                matched
            }
        }
    }

    /// The entry, if `ctl` took members of its variable away from the rule.
    fn removed_from<'a>(
        &self,
        rules: &'a RuleSet,
        spec: SpecId,
        index: u32,
    ) -> Option<&'a TargetSpec> {
        let spec = &rules.specs[spec.0 as usize];
        let concerned = |removal: &TargetRemoval| {
            removal.variable == spec.variable && has_bit(&removal.rules, index)
        };
        (!spec.count && self.target_removals.iter().any(concerned)).then_some(spec)
    }

    fn is_tx_removed(&self, rules: &RuleSet, index: u32, link: &Link) -> bool {
        let spec = rules.target_sets[link.targets.0 as usize].specs[0];
        let spec = &rules.specs[spec.0 as usize];
        match &spec.selector {
            crate::rule::Selector::Tx(slot) if !spec.count => {
                self.is_target_removed(index, spec, self.tx.name(*slot))
            }
            _ => false,
        }
    }

    /// Says whether a test of an entry's members can come out as the link wants it.
    fn may_match(
        &mut self,
        rules: &RuleSet,
        spec: SpecId,
        gated: Option<&[ProbeId]>,
        negated: bool,
    ) -> bool {
        let side = Side::of_phase(self.phase);
        let gate = self.profile.plan.gate(side);
        let wanted = gated.unwrap_or(&[]).iter().fold(0, |all, probe| all | gate.nodes_of(*probe));
        if !self.summarize(rules, spec, wanted) {
            return false;
        }
        let Some(probes) = gated else { return true };
        // What cannot match fulfils a negated link.
        let summary = &self.spec_summaries[self.spec_cache[spec.0 as usize].summary as usize..];
        let gate = self.profile.plan.gate(side);
        negated || probes.iter().any(|probe| gate.lets_in(summary, *probe))
    }

    /// Reads the members of an entry, and what the gate says of them behind the lists `wanted`, as far as that is not
    /// known. False when there are none.
    fn summarize(&mut self, rules: &RuleSet, spec: SpecId, wanted: NodeBits) -> bool {
        let at = spec.0 as usize;
        let side = Side::of_phase(self.phase);
        if self.spec_cache[at].reading != self.reading {
            let mut members = std::mem::take(&mut self.spec_members);
            let start = members.len() as u32;
            self.read_spec(&rules.specs[at], u32::MAX, false, &mut members);
            let end = members.len() as u32;
            self.spec_members = members;
            let reading = self.reading;
            self.spec_cache[at] = SpecTargets { reading, start, end, ..SpecTargets::default() };
        }
        let cached = &mut self.spec_cache[at];
        if cached.start == cached.end {
            return false;
        }
        if wanted & !cached.summarized != 0 {
            let gate = self.profile.plan.gate(side);
            let mut nodes = wanted;
            if cached.summarized == 0 {
                nodes |= self.profile.plan.nodes(side, at);
                cached.summary = self.spec_summaries.len() as u32;
                self.spec_summaries.resize(self.spec_summaries.len() + gate.words(), 0);
            }
            cached.summarized |= nodes;
            let start = cached.summary as usize;
            let summary = &mut self.spec_summaries[start..start + gate.words()];
            for target in &self.spec_members[cached.range()] {
                let (tree, context) = (&rules.tree, &rules.context);
                let row = self.store.row(target.value, nodes, side, gate, tree, context);
                summary.iter_mut().zip(row).for_each(|(all, row)| *all |= row);
            }
        }
        true
    }

    /// Finds the rules of a phase that may do something. What their first links look at stays the same while it runs.
    pub(super) fn find_visits(&mut self, profile: &Profile, phase: u8) {
        let visits = profile.plan.visits(phase);
        self.visits.clear();
        self.visits.extend_from_slice(&visits.open);
        for (spec, nodes) in &visits.specs {
            self.summarize(profile.rules(), *spec, *nodes);
        }
        let words = profile.plan.gate(Side::of_phase(phase)).words();
        let summary = |spec: SpecId| {
            let known = &self.spec_cache[spec.0 as usize];
            let start = known.summary as usize;
            // Where no probe was asked about there is no row.
            let end = if known.summarized == 0 { start } else { start + words };
            (known.start != known.end).then(|| &self.spec_summaries[start..end])
        };
        visits.find(summary, &mut self.visits);
        for screen in &visits.screens {
            let targets = &self.spec_members[self.spec_cache[screen.spec.0 as usize].range()];
            let fulfils = |target: &Target| {
                screen.operator.matches(self.store.get(target.value), None, None) != screen.negated
            };
            if targets.iter().any(fulfils) {
                set_bit(&mut self.visits, screen.place);
            }
        }
    }

    /// Tests one target; `gated` are the link's probes if they can be held against the gate.
    fn test_target(
        &mut self,
        test: &OperatorTest<'_>,
        expanded: Option<&[u8]>,
        target: &Target,
        gated: Option<&[ProbeId]>,
    ) -> bool {
        let (link, rules) = (test.link, test.rules);
        let is_let_in = |transaction: &Self, stage: usize| {
            let Some(probes) = gated else { return true };
            let side = Side::of_phase(transaction.phase);
            let gate = transaction.profile.plan.gate(side);
            gate.lets_in(transaction.store.known_row(target.value, side, gate), probes[stage])
        };
        if link.stages.is_empty() {
            let let_in = is_let_in(self, 0);
            if !let_in && !link.negated {
                return false;
            }
            let node = link.transformations;
            let value = self.store.transform(target.value, node, &rules.tree, &rules.context);
            let probe = gated.map(|probes| probes[0]);
            return self.test_value(test, expanded, target, value, let_in, probe);
        }
        if !link.negated && !(0..link.stages.len()).any(|stage| is_let_in(self, stage)) {
            return false;
        }
        // multiMatch: the value as it is, and again after each transformation that changed it.
        let mut matched = false;
        let mut before = None;
        for (stage, node) in link.stages.iter().enumerate() {
            let value = self.store.transform(target.value, *node, &rules.tree, &rules.context);
            if before.replace(value) == Some(value) {
                continue;
            }
            let let_in = is_let_in(self, stage);
            let probe = gated.map(|probes| probes[stage]);
            matched |= self.test_value(test, expanded, target, value, let_in, probe);
        }
        matched
    }

    /// Tests a transformed value. Where the gate keeps it out, the operator is known not to match.
    fn test_value(
        &mut self,
        test: &OperatorTest<'_>,
        expanded: Option<&[u8]>,
        target: &Target,
        value: ValueId,
        let_in: bool,
        probe: Option<ProbeId>,
    ) -> bool {
        let link = test.link;
        if link.capture {
            self.captures.clear();
        }
        let captures = link.capture.then_some(&mut self.captures);
        let found = let_in && test.operator.matches(self.store.get(value), expanded, captures);
        if let (true, false, Some(probe)) = (let_in, found, probe) {
            let side = Side::of_phase(self.phase);
            self.store.rule_out(target.value, side, self.profile.plan.gate(side), probe);
        }
        if found == link.negated {
            return false;
        }
        let rule = (test.index, test.rule);
        self.hit(rule, link, test.last, target.clone(), HitValue::Stored(value));
        true
    }

    /// A rule begins: only the last hit before it stays readable.
    pub(super) fn forget_hits(&mut self) {
        if let Some(last) = self.matched_vars.pop() {
            self.matched_before = Some(last);
            self.matched_vars.clear();
        }
    }

    /// The last hit.
    pub(super) fn matched(&self) -> Option<&Hit> {
        self.matched_vars.last().or(self.matched_before.as_ref())
    }

    /// A link has matched on a target.
    fn hit(
        &mut self,
        (index, rule): (u32, &Rule),
        link: &Link,
        last: bool,
        target: Target,
        value: HitValue,
    ) {
        self.matched_vars.push(Hit { target, value });
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
            self.log(index, rule);
        }
    }
}
