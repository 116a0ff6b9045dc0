//! What can run under a profile: rules that no jump always skips, and gates over just their operators.
//!
//! CRS skips the rules of higher paranoia levels by tests of `TX:DETECTION_PARANOIA_LEVEL` that jump. A profile that sets
//! the level for good decides these tests beforehand, so the rules between need not be visited.
//!
//! Source: `seclang.md` section 10.2 (paranoia jumps).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use crate::gate::{Gate, NodeBits, ProbeId};
use crate::operator::Operator;
use crate::rule::{has_bit, set_bit, Disruption, Link, Rule, SpecId, TargetSet, Test, TxOperand};
use crate::rule_set::RuleSet;
use crate::store::Side;
use crate::transformation_tree::NodeId;
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
    /// What the groups look at, with the lists of transformations before their probes.
    pub(crate) specs: Vec<(SpecId, NodeBits)>,
    /// What rules look at first thing; few tables that are read from end to end, for they are seldom in the processor's
    /// memory when a request comes.
    groups: Box<[Group]>,
    /// Per group a bit per entry of `specs` that it looks at, in as many words as they take.
    group_specs: Box<[u64]>,
    group_words: Box<[GroupWord]>,
    /// Per entry of `specs` the bits of a row that its groups ask for.
    asked: Box<[u64]>,
    /// Per bit of the groups' words, and per group, where its places begin, and where the last one's end.
    starts: Box<[u32]>,
    /// Places in the phase's order.
    places: Box<[u32]>,
    /// Rules of which the gate knows nothing, by entry.
    pub(crate) screens: Vec<Screen>,
}

/// A rule whose first link is so cheap that it is asked before the rule is visited.
#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) spec: SpecId,
    /// The rule's place in the phase's order.
    pub(crate) place: u32,
    pub(crate) operator: Arc<Operator>,
    pub(crate) negated: bool,
}

/// Rules whose first links look at the same targets. Each is visited if the gate lets one of the targets in to one of its
/// probes.
#[derive(Clone, Copy, Debug)]
struct Group {
    /// Where its words end, those of the next begin.
    words_end: u32,
    /// The place in `starts` of its rules that are visited if there is a target.
    any: u32,
}

/// Some bits of one word of a row.
#[derive(Clone, Copy, Debug)]
struct GroupWord {
    word: u32,
    /// Where the bits begin in `starts`.
    first: u32,
    mask: u64,
}

impl Visits {
    fn add_groups(&mut self, groups: Vec<(&[SpecId], Entries)>, row_words: usize) {
        let mut asked = vec![0; self.specs.len() * row_words];
        let (mut all, mut words) = (Vec::new(), Vec::<GroupWord>::new());
        let mut specs = vec![0; groups.len() * self.width()];
        let (mut starts, mut places) = (vec![0], Vec::new());
        for (group, (own, entries)) in groups.into_iter().enumerate() {
            let bits = &mut specs[group * self.width()..];
            let is_own = |(spec, _): &(SpecId, NodeBits)| own.contains(spec);
            for (at, _) in self.specs.iter().enumerate().filter(|(_, spec)| is_own(spec)) {
                set_bit(bits, at as u32);
                for (word, bit) in entries.by_bit.keys() {
                    asked[at * row_words + *word as usize] |= 1 << bit;
                }
            }
            let any = starts.len() as u32 - 1;
            places.extend(&entries.any);
            starts.push(places.len() as u32);
            let mut last = None;
            for ((word, bit), own) in &entries.by_bit {
                if last.replace(*word) != Some(*word) {
                    words.push(GroupWord { word: *word, first: starts.len() as u32 - 1, mask: 0 });
                }
                if let Some(last) = words.last_mut() {
                    last.mask |= 1 << bit;
                }
                places.extend(own);
                starts.push(places.len() as u32);
            }
            all.push(Group { words_end: words.len() as u32, any });
        }
        self.groups = all.into();
        self.group_specs = specs.into();
        self.asked = asked.into();
        self.group_words = words.into();
        self.starts = starts.into();
        self.places = places.into();
    }

    fn mark(&self, at: u32, visits: &mut [u64]) {
        let [start, end] = [self.starts[at as usize], self.starts[at as usize + 1]];
        for place in &self.places[start as usize..end as usize] {
            set_bit(visits, *place);
        }
    }

    /// How many words a bit per entry of `specs` takes.
    #[inline]
    pub(crate) fn width(&self) -> usize {
        self.specs.len().div_ceil(64)
    }

    /// Whether the groups of an entry of `specs` ask for one of the bits of a row.
    #[inline]
    pub(crate) fn asks_for(&self, entry: usize, row: &[u64]) -> bool {
        let asked = &self.asked[entry * row.len()..(entry + 1) * row.len()];
        row.iter().zip(asked).fold(0, |all, (row, asked)| all | (row & asked)) != 0
    }

    /// Sets the bits of places whose rules may do something. `there`: a bit per entry of `specs` that has members, then one
    /// per entry whose row has a bit that is asked for. `row`: the row of the probes that are let in to at least one member.
    #[inline]
    pub(crate) fn find<'a>(
        &self,
        there: &[u64],
        row: impl Fn(SpecId) -> &'a [u64],
        visits: &mut [u64],
    ) {
        let width = self.width();
        let mut first_word = 0;
        for (at, group) in self.groups.iter().enumerate() {
            let own = &self.group_specs[at * width..(at + 1) * width];
            let words = first_word..group.words_end as usize;
            first_word = words.end;
            let mut is_any_there = 0;
            for (at, own) in own.iter().enumerate() {
                is_any_there |= own & there[at];
                let mut rest = own & there[width + at];
                while rest != 0 {
                    let spec = at * 64 + rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    let words = &self.group_words[words.clone()];
                    self.mark_words(words, row(self.specs[spec].0), visits);
                }
            }
            if is_any_there != 0 {
                self.mark(group.any, visits);
            }
        }
    }

    fn mark_words(&self, words: &[GroupWord], row: &[u64], visits: &mut [u64]) {
        for word in words {
            let mut rest = row.get(word.word as usize).map_or(0, |row| row & word.mask);
            while rest != 0 {
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                let before = (word.mask & ((1 << bit) - 1)).count_ones();
                self.mark(word.first + before, visits);
            }
        }
    }
}

/// What goes into a group.
#[derive(Debug, Default)]
struct Entries {
    any: Vec<u32>,
    /// By word and bit.
    by_bit: BTreeMap<(u32, u32), Vec<u32>>,
}

impl Plan {
    /// One that nothing is visited under, for rules that are run one by one.
    pub(crate) fn without_gates(rules: &RuleSet) -> Self {
        let nodes = || vec![0; rules.specs.len()];
        Plan {
            next: Default::default(),
            decided: vec![0; rules.rules.len().div_ceil(64)],
            gates: Default::default(),
            visits: Default::default(),
            nodes: [nodes(), nodes()],
        }
    }

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

/// What is decided: members of `TX` that keep what they are, and rules that never run.
#[derive(Debug)]
pub(crate) struct Decisions<'a> {
    /// A member's number, `None` if it does not exist.
    pub(crate) numbers: &'a [(TxSlot, Option<i64>)],
    pub(crate) excluded: &'a [u64],
}

impl Decisions<'_> {
    /// The outcome of a rule, if it is always the same.
    fn outcome(&self, rule: &Rule) -> Option<bool> {
        let (first, chain) = rule.links.split_first()?;
        match self.link_outcome(first) {
            // What the rest of a chain says is not known.
            Some(holds) if !holds || chain.is_empty() => return Some(holds),
            _ => {}
        }
        let fails = |link: &Link| self.link_outcome(link) == Some(false);
        rule.links[..usize::from(rule.idle_links)].iter().any(fails).then_some(false)
    }

    /// The outcome of a link, if it is always the same.
    fn link_outcome(&self, link: &Link) -> Option<bool> {
        let Test::TxNumber { slot, count, comparison, operand } = &link.test else { return None };
        let number = |slot: &TxSlot| {
            self.numbers.iter().find(|(known, _)| known == slot).map(|(_, number)| *number)
        };
        let left = match (count, number(slot)?) {
            (true, number) => i64::from(number.is_some()),
            (false, Some(number)) => number,
            (false, None) => return Some(false),
        };
        let right = match operand {
            TxOperand::Number(number) => *number,
            TxOperand::Tx(slot) => number(slot)?.unwrap_or(0),
        };
        Some(comparison.holds(left, right) != link.negated)
    }
}

/// Whether a match of the rule does nothing but jump.
fn is_inert(rule: &Rule) -> bool {
    let has_effects = rule.links.iter().any(|link| !link.effects.is_empty());
    !has_effects && !rule.log && rule.disruption == Disruption::Pass
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
            runs[place] = outcome != Some(false);
        }
        // What only jumps over rules that never run need not be visited.
        for (place, &index) in order.iter().enumerate().rev().filter(|_| !rules.has_loose_reads) {
            let rule = &rules.rules[index as usize];
            let to = rule.jump.map_or(place + 1, |jump| (jump as usize).min(order.len()));
            let jumps_over = runs.get(place + 1..to).unwrap_or(&[]);
            if has_bit(&decided, index) && is_inert(rule) && !jumps_over.contains(&true) {
                runs[place] = false;
            }
        }
        for (place, _) in runs.iter().enumerate().filter(|(_, runs)| **runs) {
            set_bit(&mut live, order[place]);
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
    let mut visits = Visits { open: vec![0; order.len().div_ceil(64)], ..Visits::default() };
    let mut groups: Vec<(&[SpecId], Entries)> = Vec::new();
    for (place, &index) in order.iter().enumerate().filter(|(_, index)| has_bit(live, **index)) {
        let place = place as u32;
        let Some((set, probes)) = first_test(rules, &rules.rules[index as usize]) else {
            set_bit(&mut visits.open, place);
            continue;
        };
        let is_scalar = |spec: &SpecId| !rules.specs[spec.0 as usize].variable.is_collection();
        let knows_more = probes.is_empty() || set.specs.iter().all(is_scalar);
        let screen = screen(&rules.rules[index as usize]).filter(|_| knows_more);
        if let Some((operator, negated)) = screen {
            let screen = |spec: &SpecId| Screen {
                spec: *spec,
                place,
                operator: Arc::clone(operator),
                negated,
            };
            visits.screens.extend(set.specs.iter().map(screen));
            for spec in &set.specs {
                if !visits.specs.iter().any(|(known, _)| known == spec) {
                    visits.specs.push((*spec, 0));
                }
            }
            continue;
        }
        let known = groups.iter().position(|(specs, _)| *specs == set.specs.as_slice());
        let known = known.unwrap_or_else(|| {
            groups.push((&set.specs, Entries::default()));
            groups.len() - 1
        });
        let entries = &mut groups[known].1;
        let bits: Option<Vec<(usize, u64)>> = probes.iter().map(|probe| gate.bit(*probe)).collect();
        let bits = bits.filter(|bits| !bits.is_empty());
        for (word, mask) in bits.iter().flatten() {
            entries.by_bit.entry((*word as u32, mask.trailing_zeros())).or_default().push(place);
        }
        let mut nodes = 0;
        match bits {
            None => entries.any.push(place),
            Some(_) => nodes = probes.iter().fold(0, |all, probe| all | gate.nodes_of(*probe)),
        }
        for spec in &set.specs {
            match visits.specs.iter_mut().find(|(known, _)| known == spec) {
                Some((_, known)) => *known |= nodes,
                None => visits.specs.push((*spec, nodes)),
            }
        }
    }
    visits.add_groups(groups, gate.words());
    visits
}

/// The operator of a rule's first link, and whether it is negated, if it is asked about targets as they are and costs next
/// to nothing.
fn screen(rule: &Rule) -> Option<(&Arc<Operator>, bool)> {
    let link = rule.links.first()?;
    let Test::Operator { operator, argument: None, .. } = &link.test else { return None };
    let is_plain = link.transformations == NodeId::ROOT && link.stages.is_empty();
    (is_plain && operator.is_cheap()).then_some((operator, link.negated))
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
