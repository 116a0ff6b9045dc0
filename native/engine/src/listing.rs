//! Rules that write a member of `TX` for each of their targets, only to hold these members against a list.
//!
//! CRS looks for restricted headers so: a first link takes any name and writes `/name/` under a name made of it, a second
//! link asks whether one of these is part of a list. Where none is, which the names tell, the members are written when
//! somebody wants to read them, which is seldom.

use crate::rule::{Change, Effect, Operand, Rule, Selector, SetTarget, Test};
use crate::rule_set::RuleSet;
use crate::template::{Part, Template};
use crate::transformation_tree::NodeId;
use crate::tx::TxSlot;
use crate::variable::Variable;

/// What the first link of such a rule writes for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// A member is called this and the target's value.
    pub(crate) prefix: Box<[u8]>,
    /// Its text is the target's value between these.
    pub(crate) before: Box<[u8]>,
    pub(crate) after: Box<[u8]>,
}

impl Listing {
    /// The text of the member for a value.
    pub(crate) fn text(&self, value: &[u8], text: &mut Vec<u8>) {
        text.clear();
        text.extend_from_slice(&self.before);
        text.extend_from_slice(value);
        text.extend_from_slice(&self.after);
    }

    /// The name of the member for a value.
    pub(crate) fn name(&self, value: &[u8], name: &mut Vec<u8>) {
        name.clear();
        name.extend_from_slice(&self.prefix);
        name.extend_from_slice(value);
    }

    /// What a rule writes, if it is of this kind and no other rule writes such members. Whoever reads several members of
    /// `TX` has them written first.
    pub(crate) fn of(rules: &RuleSet, index: usize) -> Option<Listing> {
        let rule = rules.rules.get(index)?;
        let listing = written(rules, rule)?;
        is_list_asked(rules, rule, &listing).then_some(())?;
        let is_alone = rules.rules.iter().enumerate().all(|(other, rule)| {
            let effects = rule.links.iter().flat_map(|link| &link.effects);
            other == index || effects.into_iter().all(|effect| !may_write(effect, &listing.prefix))
        });
        (is_alone && !rules.has_loose_reads).then_some(listing)
    }
}

/// What the first link writes: `tx.PREFIX%{tx.0}=BEFORE%{tx.0}AFTER` for any value, which is then `TX:0`.
fn written(rules: &RuleSet, rule: &Rule) -> Option<Listing> {
    let [first, _] = rule.links.as_slice() else { return None };
    let Test::Operator { operator, .. } = &first.test else { return None };
    let set = &rules.target_sets[first.targets.0 as usize];
    let is_counted = set.specs.iter().any(|spec| rules.specs[spec.0 as usize].count);
    let takes_all = operator.takes_all() && !first.negated && first.stages.is_empty();
    if !(takes_all && first.capture && set.stable && !is_counted) {
        return None;
    }
    let [Effect::SetVariable {
        target: SetTarget::TxNamed(name),
        change: Change::Set(Operand::Template(value)),
    }] = first.effects.as_slice()
    else {
        return None;
    };
    let [Part::Text(prefix), Part::Tx(TxSlot(0))] = name.parts.as_slice() else { return None };
    let (before, after) = match value.parts.as_slice() {
        [Part::Text(before), Part::Tx(TxSlot(0)), Part::Text(after)] => (&before[..], &after[..]),
        [Part::Text(before), Part::Tx(TxSlot(0))] => (&before[..], &b""[..]),
        [Part::Tx(TxSlot(0)), Part::Text(after)] => (&b""[..], &after[..]),
        _ => return None,
    };
    let prefix = prefix.clone();
    Some(Listing { prefix, before: before.into(), after: after.into() })
}

/// Whether the second link asks of just these members if one is part of a text.
fn is_list_asked(rules: &RuleSet, rule: &Rule, listing: &Listing) -> bool {
    let [_, second] = rule.links.as_slice() else { return false };
    let Test::Operator { operator, argument, .. } = &second.test else { return false };
    let [spec] = rules.target_sets[second.targets.0 as usize].specs.as_slice() else {
        return false;
    };
    let spec = &rules.specs[spec.0 as usize];
    let Selector::Beginning(lower) = &spec.selector else { return false };
    let is_of_captures = |text: &Template| {
        text.parts.iter().any(|part| matches!(part, Part::Tx(slot) if slot.0 < 10))
    };
    operator.is_within()
        && argument.as_ref().is_none_or(|text| text.is_of_tx() && !is_of_captures(text))
        && !second.negated
        && second.stages.is_empty()
        && second.transformations == NodeId::ROOT
        && spec.variable == Variable::Tx
        && !spec.count
        && spec.exclusions.is_empty()
        && spec.tx_slots.as_ref().is_some_and(|slots| slots.is_empty())
        && lower.eq_ignore_ascii_case(&listing.prefix)
}

/// Whether an action may write a member whose name begins like this.
fn may_write(effect: &Effect, prefix: &[u8]) -> bool {
    let Effect::SetVariable { target: SetTarget::TxNamed(name), .. } = effect else { return false };
    do_beginnings_meet(name.beginning(), prefix)
}

/// Whether there are names that begin with both.
pub(crate) fn do_beginnings_meet(one: &[u8], other: &[u8]) -> bool {
    let shared = one.len().min(other.len());
    one[..shared].eq_ignore_ascii_case(&other[..shared])
}
