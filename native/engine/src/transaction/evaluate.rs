//! One rule against the exchange.
//!
//! Source: `seclang.md` sections 6.2, 8.1 and 9.

use super::targets::{SpecTargets, Target, TargetName};
use super::{Hit, HitValue, TargetRemoval, Transaction};
use crate::gate::{NodeBits, ProbeId};
use crate::listing::{do_beginnings_meet, Listing};
use crate::operator::Operator;
use crate::profile::Profile;
use crate::rule::{has_bit, set_bit, Link, Rule, Selector, SpecId, TargetSpec, Test, TxOperand};
use crate::rule_set::RuleSet;
use crate::store::{Side, ValueId};
use crate::tx::{TxSlot, TxValue};
use crate::variable::Variable;

/// How many members of `TX` wait to be written at most.
const PUT_OFF_LIMIT: usize = 256;

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
        if self.plan_holds {
            if rule.is_quiet {
                return self.evaluate_quietly(rules, index, rule);
            }
            let listing = rule.listing.as_ref();
            if listing.is_some_and(|listing| self.put_off(rules, index, rule, listing))
                || !self.may_hold(rules, rule)
            {
                return false;
            }
        }
        let last = rule.links.len() - 1;
        self.forget_hits();
        self.rule_score = 0;
        rule.links
            .iter()
            .enumerate()
            .all(|(position, link)| self.evaluate_link(rules, index, rule, link, position == last))
    }

    /// Says whether all links of a chain may hold, as far as a look at the targets tells of those before which nothing was
    /// done.
    fn may_hold(&mut self, rules: &RuleSet, rule: &Rule) -> bool {
        rule.links[1..usize::from(rule.idle_links)].iter().all(|link| match &link.test {
            Test::Always => true,
            Test::TxNumber { .. } => self.number_that_holds(rules, u32::MAX, link).is_some(),
            Test::Operator { probes, .. } => {
                let set = &rules.target_sets[link.targets.0 as usize];
                let gated = (!probes.is_empty()).then_some(&probes[..]);
                !set.stable
                    || set
                        .specs
                        .iter()
                        .any(|spec| self.may_match(rules, *spec, gated, link.negated))
            }
        })
    }

    /// The same for a rule of one link that is about `TX` alone and whose match nobody asks for.
    fn evaluate_quietly(&mut self, rules: &RuleSet, index: u32, rule: &Rule) -> bool {
        let link = &rule.links[0];
        let holds = match &link.test {
            Test::Always => true,
            _ => self.number_that_holds(rules, index, link).is_some(),
        };
        if holds {
            for effect in &link.effects {
                self.apply(effect, rule);
            }
        }
        holds
    }

    /// Puts off what a rule's first link writes, if its second link cannot match then: that is all the rule does.
    fn put_off(&mut self, rules: &RuleSet, index: u32, rule: &Rule, listing: &Listing) -> bool {
        let [first, second] = rule.links.as_slice() else { return false };
        let Test::Operator { operator, argument, .. } = &second.test else { return false };
        if !self.target_removals.is_empty() {
            return false;
        }
        let expanded = argument.as_ref().map(|text| self.expand(text, Some(rule)));
        let start = self.put_off.len();
        let mut text = std::mem::take(&mut self.text_room);
        let mut is_part = false;
        for spec in &rules.target_sets[first.targets.0 as usize].specs {
            if !self.summarize(rules, *spec, 0) {
                continue;
            }
            for at in self.spec_cache[spec.0 as usize].range() {
                let value = self.spec_members[at].value;
                let (tree, context) = (&rules.tree, &rules.context);
                let value = self.store.transform(value, first.transformations, tree, context);
                listing.text(self.store.get(value), &mut text);
                is_part |= operator.matches(&text, expanded.as_deref(), None);
                self.put_off.push((index, value));
            }
        }
        self.text_room = text;
        if is_part || self.put_off.len() > PUT_OFF_LIMIT {
            self.put_off.truncate(start);
            return false;
        }
        if let Some((_, last)) = self.put_off[start..].last() {
            let last = TxValue::Owned(self.store.get(*last).to_vec());
            self.tx.set(TxSlot(0), last);
            (1..10).for_each(|group| self.tx.set(TxSlot(group), TxValue::Unset));
        }
        true
    }

    /// Writes the members that were put off and that a selector may take.
    pub(super) fn write_put_off(&mut self, rules: &RuleSet, selector: &Selector) {
        let mut name = std::mem::take(&mut self.text_room);
        let is_wanted = |listing: &Listing, value: &[u8], name: &mut Vec<u8>| match selector {
            Selector::Beginning(lower) => do_beginnings_meet(lower, &listing.prefix),
            selector => {
                listing.name(value, name);
                selector.takes(name)
            }
        };
        let any = self.put_off.iter().any(|(index, value)| {
            let listing = rules.rules[*index as usize].listing.as_ref();
            let value = self.store.get(*value);
            listing.is_some_and(|listing| is_wanted(listing, value, &mut name))
        });
        if any {
            for (index, value) in std::mem::take(&mut self.put_off) {
                let Some(listing) = &rules.rules[index as usize].listing else { continue };
                let value = self.store.get(value);
                listing.name(value, &mut name);
                if let Some(slot) = self.tx.slot(&name) {
                    let mut text = Vec::new();
                    listing.text(value, &mut text);
                    self.tx.set(slot, TxValue::Owned(text));
                }
            }
        }
        self.text_room = name;
    }

    /// The number of a link's member of `TX`, or of such members, if the link holds.
    fn number_that_holds(&self, rules: &RuleSet, index: u32, link: &Link) -> Option<i64> {
        let Test::TxNumber { slot, count, comparison, operand } = &link.test else { return None };
        let left = match (count, self.tx.get(*slot).number()) {
            (true, number) => i64::from(number.is_some()),
            (false, number) => number?,
        };
        let right = match operand {
            TxOperand::Number(number) => *number,
            TxOperand::Tx(slot) => self.tx.get(*slot).number().unwrap_or(0),
        };
        let is_removed =
            || !self.target_removals.is_empty() && self.is_tx_removed(rules, index, link);
        (comparison.holds(left, right) != link.negated && !is_removed()).then_some(left)
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
            Test::TxNumber { slot, count, .. } => {
                let Some(left) = self.number_that_holds(rules, index, link) else { return false };
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
            Selector::Tx(slot) if !spec.count => {
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
            let TargetSpec { variable, count, mark, .. } = rules.specs[at];
            if !count && !self.exchange.may_have(variable, mark) {
                let reading = self.reading;
                self.spec_cache[at] = SpecTargets { reading, ..SpecTargets::default() };
                return false;
            }
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
        let (words, width) = (profile.plan.gate(Side::of_phase(phase)).words(), visits.width());
        let mut there = std::mem::take(&mut self.there);
        there.clear();
        there.resize(2 * width, 0);
        for (at, (spec, nodes)) in visits.specs.iter().enumerate() {
            if !self.summarize(profile.rules(), *spec, *nodes) {
                continue;
            }
            there[at / 64] |= 1 << (at % 64);
            let known = &self.spec_cache[spec.0 as usize];
            // Where no probe was asked about there is no row.
            let row = &self.spec_summaries[known.summary as usize..];
            if known.summarized != 0 && visits.asks_for(at, &row[..words]) {
                there[width + at / 64] |= 1 << (at % 64);
            }
        }
        let row = |spec: SpecId| {
            let start = self.spec_cache[spec.0 as usize].summary as usize;
            &self.spec_summaries[start..start + words]
        };
        visits.find(&there, row, &mut self.visits);
        self.there = there;
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
        let mut found = false;
        let mut before = None;
        for (stage, node) in link.stages.iter().enumerate() {
            let value = self.store.transform(target.value, *node, &rules.tree, &rules.context);
            let let_in = is_let_in(self, stage);
            let probe = gated.map(|probes| probes[stage]);
            if before.replace(value) == Some(value) {
                if let (true, false, Some(probe)) = (let_in, found, probe) {
                    self.rule_out(target, probe);
                }
                continue;
            }
            let holds = self.test_value(test, expanded, target, value, let_in, probe);
            found = holds != link.negated;
            matched |= holds;
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
            self.rule_out(target, probe);
        }
        if found == link.negated {
            return false;
        }
        let rule = (test.index, test.rule);
        self.hit(rule, link, test.last, target.clone(), HitValue::Stored(value));
        true
    }

    /// The operator of a probe that lets a target in does not match it.
    fn rule_out(&mut self, target: &Target, probe: ProbeId) {
        let side = Side::of_phase(self.phase);
        self.store.rule_out(target.value, side, self.profile.plan.gate(side), probe);
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
