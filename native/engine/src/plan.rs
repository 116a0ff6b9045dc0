//! What can run under a profile: rules that no jump always skips, and gates over just their operators.
//!
//! CRS skips the rules of higher paranoia levels by tests of `TX:DETECTION_PARANOIA_LEVEL` that jump. A profile that sets
//! the level for good decides these tests beforehand, so the rules between need not be visited.
//!
//! Source: `seclang.md` section 10.2 (paranoia jumps).

use std::sync::{Arc, Mutex, Weak};

use crate::gate::{Gate, NodeBits, ProbeId};
use crate::rule::{has_bit, set_bit, Rule, SpecId, Test};
use crate::rule_set::RuleSet;
use crate::store::Side;
use crate::tx::TxSlot;

/// Rules and gates of a profile.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Per phase and place in its order: the first place from there on whose rule may do something.
    next: [Vec<u32>; 5],
    /// A bit per rule whose outcome was decided beforehand.
    decided: Vec<u64>,
    /// For requests and for responses.
    gates: [Gate; 2],
    /// Per rule what can rule it out without a look at the rule itself.
    first: Vec<FirstTest>,
    /// The entries that first links look at.
    first_specs: Vec<SpecId>,
    /// Per gate and spec of targets: the lists of transformations before rules that look at it first thing, whose results
    /// are looked at together. What only later links of chains ask for waits until it is asked.
    nodes: [Vec<NodeBits>; 2],
}

/// What the gate must say of one of a rule's targets for its first link to match.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FirstTest {
    /// Where the entries stand that the link looks at; none when the gate has no say.
    start: u32,
    end: u32,
    /// Its probe's bit in a row.
    pub(crate) word: u32,
    pub(crate) mask: u64,
    /// The list of transformations before the probe.
    pub(crate) nodes: NodeBits,
}

impl Plan {
    /// The first test of a rule and the entries it looks at; none when the gate cannot rule it out.
    #[inline]
    pub(crate) fn first_test(&self, rule: u32) -> (&FirstTest, &[SpecId]) {
        let first = &self.first[rule as usize];
        (first, &self.first_specs[first.start as usize..first.end as usize])
    }

    /// The place to go on from `place`.
    #[inline]
    pub(crate) fn next(&self, phase: u8, place: usize) -> usize {
        self.next[usize::from(phase) - 1].get(place).map_or(place, |next| *next as usize)
    }

    /// Whether one of these rules was decided beforehand, so that the plan does not hold without it.
    pub(crate) fn decides_any(&self, rules: &[u64]) -> bool {
        self.decided.iter().zip(rules).any(|(decided, rules)| decided & rules != 0)
    }

    pub(crate) fn gate(&self, side: Side) -> &Gate {
        &self.gates[side as usize]
    }

    pub(crate) fn nodes(&self, side: Side, spec: usize) -> NodeBits {
        self.nodes[side as usize][spec]
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.gates.iter().map(Gate::bytes).sum()
    }
}

/// What is decided: members of `TX` that keep a number, and rules that never run.
#[derive(Debug)]
pub(crate) struct Decisions<'a> {
    pub(crate) numbers: &'a [(TxSlot, i64)],
    pub(crate) excluded: &'a [u64],
}

impl Decisions<'_> {
    /// The outcome of a rule, if it is always the same.
    fn outcome(&self, rule: &Rule) -> Option<bool> {
        let [link] = rule.links.as_slice() else { return None };
        let Test::TxNumber { slot, count, comparison, operand } = &link.test else { return None };
        let (_, number) = self.numbers.iter().find(|(known, _)| known == slot)?;
        let left = if *count { 1 } else { *number };
        Some(comparison.holds(left, *operand) != link.negated)
    }
}

/// The plans of a rule set that are in use, so that equal ones are one.
#[derive(Debug, Default)]
pub(crate) struct Plans(Mutex<Vec<(Vec<u64>, Weak<Plan>)>>);

impl Plans {
    /// The plan under some decisions.
    pub(crate) fn get(&self, rules: &RuleSet, decisions: &Decisions<'_>) -> Arc<Plan> {
        let (next, live, decided) = live_rules(rules, decisions);
        let mut key = live.clone();
        key.extend(&decided);
        let mut known = match self.0.lock() {
            Ok(known) => known,
            Err(poisoned) => poisoned.into_inner(),
        };
        known.retain(|(_, plan)| plan.strong_count() > 0);
        let same = known.iter().find(|(known, _)| *known == key);
        if let Some(plan) = same.and_then(|(_, plan)| plan.upgrade()) {
            return plan;
        }
        let plan = Arc::new(build(rules, next, &live, decided));
        known.push((key, Arc::downgrade(&plan)));
        plan
    }
}

/// Per phase where to go on, a bit per rule that can run, and a bit per rule that was decided.
fn live_rules(rules: &RuleSet, decisions: &Decisions<'_>) -> ([Vec<u32>; 5], Vec<u64>, Vec<u64>) {
    let mut live = vec![0; rules.rules.len().div_ceil(64)];
    let mut decided = live.clone();
    let next = [0, 1, 2, 3, 4].map(|phase: usize| {
        let order = &rules.phases[phase];
        // Jumps only lead forward, so one pass finds every place that can be reached.
        let mut reached = vec![false; order.len() + 1];
        reached[0] = true;
        let mut runs = vec![false; order.len()];
        for (place, &index) in order.iter().enumerate() {
            if !reached[place] {
                continue;
            }
            let rule = &rules.rules[index as usize];
            if has_bit(decisions.excluded, index) {
                reached[place + 1] = true;
                continue;
            }
            let outcome = decisions.outcome(rule);
            if outcome.is_some() {
                set_bit(&mut decided, index);
            }
            if outcome != Some(true) || rule.jump.is_none() {
                reached[place + 1] = true;
            }
            if let (Some(true) | None, Some(jump)) = (outcome, rule.jump) {
                reached[(jump as usize).min(order.len())] = true;
            }
            if outcome != Some(false) {
                runs[place] = true;
                set_bit(&mut live, index);
            }
        }
        let mut after = order.len() as u32;
        let mut next = vec![after; order.len()];
        for place in (0..order.len()).rev() {
            if runs[place] {
                after = place as u32;
            }
            next[place] = after;
        }
        next
    });
    (next, live, decided)
}

fn build(rules: &RuleSet, next: [Vec<u32>; 5], live: &[u64], decided: Vec<u64>) -> Plan {
    let mut probes: [Vec<ProbeId>; 2] = Default::default();
    let links = || {
        let running =
            rules.rules.iter().enumerate().filter(|(index, _)| has_bit(live, *index as u32));
        running.flat_map(|(_, rule)| {
            let side = Side::of_phase(rule.phase);
            rule.links.iter().enumerate().filter_map(move |(at, link)| match &link.test {
                Test::Operator { probes, .. } => {
                    let set = &rules.target_sets[link.targets.0 as usize];
                    set.stable.then_some((side, set, probes, at == 0))
                }
                _ => None,
            })
        })
    };
    for (side, _, own, _) in links() {
        probes[side as usize].extend(own.iter());
    }
    let gates = probes.map(|probes| Gate::new(&rules.probes, &probes, &rules.tree));
    let mut nodes = [vec![0; rules.specs.len()], vec![0; rules.specs.len()]];
    for (side, set, own, _) in links().filter(|(.., first)| *first) {
        for spec in &set.specs {
            for probe in own.iter() {
                nodes[side as usize][spec.0 as usize] |= gates[side as usize].nodes_of(*probe);
            }
        }
    }
    let (mut first, mut first_specs) = (Vec::with_capacity(rules.rules.len()), Vec::new());
    for (index, rule) in rules.rules.iter().enumerate() {
        let test = first_test(rules, rule, &gates[Side::of_phase(rule.phase) as usize]);
        let start = first_specs.len() as u32;
        first.push(match test.filter(|_| has_bit(live, index as u32)) {
            Some((test, specs)) => {
                first_specs.extend_from_slice(specs);
                FirstTest { start, end: first_specs.len() as u32, ..test }
            }
            None => FirstTest::default(),
        });
    }
    Plan { next, decided, gates, first, first_specs, nodes }
}

/// The first test of a rule whose first link is one operator that the gate knows.
fn first_test<'a>(
    rules: &'a RuleSet,
    rule: &Rule,
    gate: &Gate,
) -> Option<(FirstTest, &'a [SpecId])> {
    let link = rule.links.first().filter(|link| !link.negated)?;
    let set = &rules.target_sets[link.targets.0 as usize];
    let Test::Operator { probes, .. } = &link.test else { return None };
    let [probe] = **probes else { return None };
    let (word, mask) = gate.bit(probe).filter(|_| set.stable)?;
    let nodes = gate.nodes_of(probe);
    Some((FirstTest { start: 0, end: 0, word: word as u32, mask, nodes }, &set.specs))
}
