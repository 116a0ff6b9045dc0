//! What can run under a profile: rules that no jump always skips, and gates over just their operators.
//!
//! CRS skips the rules of higher paranoia levels by tests of `TX:DETECTION_PARANOIA_LEVEL` that jump. A profile that sets
//! the level for good decides these tests beforehand, so the rules between need not be visited.
//!
//! Source: `seclang.md` section 10.2 (paranoia jumps).

use std::sync::{Arc, Mutex, Weak};

use crate::gate::{Gate, NodeBits, ProbeId};
use crate::rule::{has_bit, set_bit, Rule, SpecId, TargetSet, Test};
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
    /// What there is to visit in each phase.
    visits: [Visits; 5],
    /// Per gate and spec of targets: the lists of transformations before rules that look at it first thing, whose results
    /// are looked at together. What only later links of chains ask for waits until it is asked.
    nodes: [Vec<NodeBits>; 2],
}

/// Which rules of a phase may do something, as far as one look at the targets tells.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    /// A bit per place in the phase's order whose rule is visited whatever the targets are.
    pub(crate) open: Vec<u64>,
    pub(crate) groups: Vec<Group>,
}

/// Rules whose first links look at the same targets.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) specs: Box<[SpecId]>,
    /// The lists of transformations before the probes.
    pub(crate) nodes: NodeBits,
    pub(crate) entries: Vec<Entry>,
}

/// One rule: visited if the gate lets one of the targets in to one of its probes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The rule's place in the phase's order.
    pub(crate) place: u32,
    /// The probe's bit in a row.
    pub(crate) word: u32,
    /// 0: the rule is visited if there is a target.
    pub(crate) mask: u64,
}

impl Plan {
    /// What there is to visit in a phase.
    #[inline]
    pub(crate) fn visits(&self, phase: u8) -> &Visits {
        &self.visits[usize::from(phase) - 1]
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
    let visits = [1, 2, 3, 4, 5].map(|phase: u8| {
        let gate = &gates[Side::of_phase(phase) as usize];
        visits(rules, &rules.phases[usize::from(phase) - 1], live, gate)
    });
    Plan { next, decided, gates, visits, nodes }
}

fn visits(rules: &RuleSet, order: &[u32], live: &[u64], gate: &Gate) -> Visits {
    let mut visits = Visits { open: vec![0; order.len().div_ceil(64)], groups: Vec::new() };
    for (place, &index) in order.iter().enumerate().filter(|(_, index)| has_bit(live, **index)) {
        let place = place as u32;
        let Some((set, probes)) = first_test(rules, &rules.rules[index as usize]) else {
            set_bit(&mut visits.open, place);
            continue;
        };
        let known = visits.groups.iter().position(|group| *group.specs == *set.specs);
        let known = known.unwrap_or_else(|| {
            let specs = set.specs.clone().into();
            visits.groups.push(Group { specs, nodes: 0, entries: Vec::new() });
            visits.groups.len() - 1
        });
        let group = &mut visits.groups[known];
        let bits: Option<Vec<(usize, u64)>> = probes.iter().map(|probe| gate.bit(*probe)).collect();
        match bits.filter(|bits| !bits.is_empty()) {
            None => group.entries.push(Entry { place, word: 0, mask: 0 }),
            Some(bits) => {
                let entry = |(word, mask)| Entry { place, word: word as u32, mask };
                group.entries.extend(bits.into_iter().map(entry));
                let nodes = probes.iter().fold(0, |all, probe| all | gate.nodes_of(*probe));
                group.nodes |= nodes;
            }
        }
    }
    visits
}

/// The targets of a rule whose first link needs one to match, and the probes of which one must let it in; no probes when
/// the gate has no say.
fn first_test<'a>(rules: &'a RuleSet, rule: &'a Rule) -> Option<(&'a TargetSet, &'a [ProbeId])> {
    let link = rule.links.first()?;
    let set = &rules.target_sets[link.targets.0 as usize];
    let Test::Operator { probes, .. } = &link.test else { return None };
    // A count is always there, and what does not match fulfils a negated link.
    let probes = if link.negated { &[] } else { &**probes };
    set.stable.then_some((set, probes))
}
