//! From a rule's variables argument to the values it looks at.
//!
//! Source: `seclang.md` section 4.

use std::sync::Arc;

use super::Transaction;
use crate::gate::NodeBits;
use crate::rule::{Selector, TargetSet, TargetSpec};
use crate::rule_set::RuleSet;
use crate::store::ValueId;
use crate::tx::TxSlot;
use crate::variable::Variable;

/// One value that a rule looks at, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) variable: Variable,
    pub(crate) name: TargetName,
    /// The value is a number of members.
    pub(crate) count: bool,
    pub(crate) value: ValueId,
}

/// The members of one entry of a variables argument, as long as they stay the same.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SpecTargets {
    /// The reading in which they were read; see [`Transaction::forget_targets`].
    pub(super) reading: u32,
    /// Where they stand among all that were read.
    pub(super) start: u32,
    pub(super) end: u32,
    /// Where the row of the probes stands that let in at least one of them.
    pub(super) summary: u32,
    /// The lists of transformations that the summary takes into account.
    pub(super) summarized: NodeBits,
}

impl SpecTargets {
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// How a target is called within its variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetName {
    /// A scalar.
    None,
    /// A member, by its name in the exchange.
    Value(ValueId),
    /// A member of `TX`.
    Tx(TxSlot),
    /// The name as a rule spells it.
    Spelt(Arc<[u8]>),
}

impl Transaction {
    /// Reads the targets of a set anew.
    pub(super) fn read_targets(
        &mut self,
        rules: &RuleSet,
        set: &TargetSet,
        rule: u32,
        targets: &mut Vec<Target>,
    ) {
        targets.clear();
        let removals = !self.target_removals.is_empty() && self.has_target_removals(rule);
        for spec in &set.specs {
            self.read_spec(&rules.specs[spec.0 as usize], rule, removals, targets);
        }
    }

    /// Appends what an entry of a variables argument means.
    pub(super) fn read_spec(
        &mut self,
        spec: &TargetSpec,
        rule: u32,
        removals: bool,
        targets: &mut Vec<Target>,
    ) {
        if spec.count {
            let target = self.count(spec);
            targets.push(target);
            return;
        }
        let variable = spec.variable;
        let first = targets.len();
        match (variable, &spec.selector) {
            (Variable::Tx, Selector::Tx(slot)) => {
                if let Some(value) = self.tx_value(*slot) {
                    let name = TargetName::Tx(*slot);
                    targets.push(Target { variable, name, count: false, value });
                }
            }
            (Variable::Tx, selector) => {
                if !self.put_off.is_empty() {
                    let profile = Arc::clone(&self.profile);
                    self.write_put_off(profile.rules(), selector);
                }
                let takes = |name: &[u8]| selector.takes(name);
                for slot in self.tx.members(spec.tx_slots.as_deref(), takes) {
                    if let Some(value) = self.tx_value(slot) {
                        let name = TargetName::Tx(slot);
                        targets.push(Target { variable, name, count: false, value });
                    }
                }
            }
            (Variable::Xml, selector) => {
                let (expression, spelling): (&[u8], Arc<[u8]>) = match selector {
                    Selector::Name { lower, spelling } => (lower, Arc::clone(spelling)),
                    _ => (b"/*", Arc::from(&b"/*"[..])),
                };
                self.exchange.visit_xml(expression, &mut |value| {
                    let name = TargetName::Spelt(Arc::clone(&spelling));
                    targets.push(Target { variable, name, count: false, value });
                });
            }
            (Variable::MatchedVars | Variable::MatchedVarsNames, selector) => {
                self.read_matched(variable, selector, targets);
            }
            (Variable::MatchedVar, _) => {
                if let Some(value) = self.matched().map(|hit| hit.value.clone()) {
                    let value = value.stored(&mut self.store);
                    targets.push(Target { variable, name: TargetName::None, count: false, value });
                }
            }
            (Variable::MatchedVarName, _) => {
                if let Some(name) = self.matched().map(|hit| self.full_name(&hit.target)) {
                    let value = self.store.intern(&name);
                    targets.push(Target { variable, name: TargetName::None, count: false, value });
                }
            }
            (Variable::Duration | Variable::TimeEpoch, _) => {
                let text = self.clock(variable);
                let value = self.store.intern(text.as_bytes());
                targets.push(Target { variable, name: TargetName::None, count: false, value });
            }
            (Variable::Env, selector) => {
                for index in 0..self.environment.len() {
                    let (name, value) = &self.environment[index];
                    if selector.takes(name) {
                        let name = TargetName::Spelt(name.as_slice().into());
                        let value = self.store.intern(&value.clone());
                        targets.push(Target { variable, name, count: false, value });
                    }
                }
            }
            (collection, selector) if collection.is_persistent() => {
                for (name, value) in self.persistent_members(collection) {
                    if selector.takes(&name) {
                        let name = TargetName::Spelt(name.as_slice().into());
                        let value = self.store.intern(&value);
                        targets.push(Target { variable, name, count: false, value });
                    }
                }
            }
            (variable, selector) => {
                let store = &self.store;
                self.exchange.visit(variable, &mut |name, value| match (name, selector) {
                    (None, _) => targets.push(Target {
                        variable,
                        name: TargetName::None,
                        count: false,
                        value,
                    }),
                    (Some(name), Selector::Name { lower, spelling }) => {
                        let member = store.get(name);
                        if !member.eq_ignore_ascii_case(lower) {
                            return;
                        }
                        // Heads arrive with names in lower case: then the rule's own spelling is the better guess at
                        // the original, and it is what people search logs for.
                        let header = matches!(
                            variable,
                            Variable::RequestHeaders | Variable::ResponseHeaders
                        );
                        let name = if header && !member.iter().any(u8::is_ascii_uppercase) {
                            TargetName::Spelt(Arc::clone(spelling))
                        } else {
                            TargetName::Value(name)
                        };
                        targets.push(Target { variable, name, count: false, value });
                    }
                    (Some(name), selector) => {
                        if selector.takes(store.get(name)) {
                            let name = TargetName::Value(name);
                            targets.push(Target { variable, name, count: false, value });
                        }
                    }
                });
            }
        }
        if spec.exclusions.is_empty() && !removals {
            return;
        }
        let mut at = first;
        while let Some(target) = targets.get(at) {
            let name = self.member_name(&target.name);
            let excluded = spec.exclusions.iter().any(|selector| selector.takes(name))
                || (removals && self.is_target_removed(rule, spec, name));
            if excluded {
                targets.remove(at);
            } else {
                at += 1;
            }
        }
    }

    fn read_matched(&mut self, variable: Variable, selector: &Selector, targets: &mut Vec<Target>) {
        for index in 0..self.matched_vars.len() {
            let hit = self.matched_vars[index].clone();
            let full = self.full_name(&hit.target);
            if !selector.takes(&full) {
                continue;
            }
            let value = match variable {
                Variable::MatchedVars => hit.value.stored(&mut self.store),
                _ => self.store.intern(&full),
            };
            targets.push(Target {
                variable,
                name: TargetName::Spelt(full.into()),
                count: false,
                value,
            });
        }
    }

    /// The number of members that a spec means, as a target.
    fn count(&mut self, spec: &TargetSpec) -> Target {
        let variable = spec.variable;
        let mut members = Vec::new();
        let number = match &spec.selector {
            Selector::Tx(slot) => usize::from(self.tx.get(*slot).number().is_some()),
            _ => {
                let plain = TargetSpec { count: false, ..spec.clone() };
                self.read_spec(&plain, u32::MAX, false, &mut members);
                members.len()
            }
        };
        let value = self.store.intern_number(number);
        let name = match &spec.selector {
            Selector::Tx(slot) => TargetName::Tx(*slot),
            Selector::Name { spelling, .. } => TargetName::Spelt(Arc::clone(spelling)),
            Selector::All | Selector::Beginning(_) | Selector::Regex(_) => TargetName::None,
        };
        Target { variable, name, count: true, value }
    }

    /// A member of `TX` as a value of the store.
    pub(super) fn tx_value(&mut self, slot: TxSlot) -> Option<ValueId> {
        let bytes = self.tx.get(slot).bytes()?;
        Some(self.store.intern(&bytes))
    }

    /// The members of a persistent collection that is bound; none when it is not.
    fn persistent_members(&self, collection: Variable) -> Vec<(Vec<u8>, Vec<u8>)> {
        match self.bound_key(collection) {
            Some(key) => self.profile.rules().collections.members(collection, key),
            None => Vec::new(),
        }
    }

    /// The key that a persistent collection is bound to.
    pub(super) fn bound_key(&self, collection: Variable) -> Option<&[u8]> {
        let bound = self.bound.iter().rev().find(|(bound, _)| *bound == collection)?;
        Some(&bound.1)
    }

    /// The name of a member, without its variable.
    pub(super) fn member_name<'a>(&'a self, name: &'a TargetName) -> &'a [u8] {
        match name {
            TargetName::None => b"",
            TargetName::Value(value) => self.store.get(*value),
            TargetName::Tx(slot) => self.tx.name(*slot),
            TargetName::Spelt(name) => name,
        }
    }

    /// The full name of a target, such as `ARGS:id`; bytes that cannot be printed are written as `\xHH`.
    pub(super) fn full_name(&self, target: &Target) -> Vec<u8> {
        let mut full = Vec::new();
        self.append_name(target, &[], &mut full);
        full
    }

    /// The name as logs have it: quotes and backslashes of the member are escaped as well.
    pub(super) fn logged_name(&self, target: &Target) -> String {
        let mut full = Vec::new();
        self.append_name(target, b"\"\\", &mut full);
        String::from_utf8(full).unwrap_or_default()
    }

    /// Appends the full name, with a backslash before each of the bytes in `escaped`.
    pub(super) fn append_name(&self, target: &Target, escaped: &[u8], full: &mut Vec<u8>) {
        // The members of MATCHED_VARS are called by the names under which they matched.
        if matches!(target.variable, Variable::MatchedVars | Variable::MatchedVarsNames) {
            if let TargetName::Spelt(name) = &target.name {
                // Printable already, but for quotes.
                for byte in name.iter() {
                    if *byte == b'"' && !escaped.is_empty() {
                        full.push(b'\\');
                    }
                    full.push(*byte);
                }
                return;
            }
        }
        if target.count {
            full.push(b'&');
        }
        full.extend_from_slice(target.variable.name().as_bytes());
        if target.name == TargetName::None {
            return;
        }
        full.push(b':');
        for byte in self.member_name(&target.name) {
            match byte {
                _ if escaped.contains(byte) => full.extend_from_slice(&[b'\\', *byte]),
                0x20..=0x7e => full.push(*byte),
                _ => full.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            }
        }
    }
}
