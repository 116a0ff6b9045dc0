//! Non-disruptive actions at work.
//!
//! Source: `seclang.md` sections 8.2 and 10.1.

use super::{TargetRemoval, Transaction};
use crate::number::parse_number;
use crate::rule::{Change, Control, Effect, Operand, Rule, SetTarget};
use crate::tx::{TxSlot, TxValue};
use crate::variable::Variable;

/// How many members `setenv` may write.
const ENVIRONMENT_LIMIT: usize = 256;
/// How many targets `ctl` may remove in one transaction.
const TARGET_REMOVAL_LIMIT: usize = 4096;

impl Transaction {
    /// Does what an action says, for one match.
    pub(super) fn apply(&mut self, effect: &Effect, rule: &Rule) {
        match effect {
            Effect::SetVariable { target, change } => self.set_variable(target, change, rule),
            Effect::SetEnvironment { name, value } => {
                let name = self.expand(name, Some(rule));
                let value = self.expand(value, Some(rule));
                self.environment.retain(|(known, _)| *known != name);
                if self.environment.len() < ENVIRONMENT_LIMIT {
                    self.environment.push((name, value));
                }
            }
            Effect::BindCollection { collection, key } => {
                let key = self.expand(key, Some(rule));
                self.bound.retain(|(bound, _)| bound != collection);
                self.bound.push((*collection, key));
            }
            Effect::Expire { collection, name, seconds } => {
                let name = self.expand(name, Some(rule));
                let seconds = parse_number(&self.expand(seconds, Some(rule))).max(0) as u64;
                if let Some(key) = self.bound_key(*collection) {
                    self.profile.rules().collections.expire(*collection, key, &name, seconds);
                }
            }
            Effect::Control(control) => self.control(control),
        }
    }

    fn set_variable(&mut self, target: &SetTarget, change: &Change, rule: &Rule) {
        match target {
            SetTarget::Tx(slot) => self.set_tx(*slot, change, rule),
            SetTarget::TxNamed(name) => {
                let name = self.expand(name, Some(rule));
                if let Some(slot) = self.tx.slot(&name) {
                    self.set_tx(slot, change, rule);
                }
            }
            SetTarget::Persistent { collection, name } => {
                let name = self.expand(name, Some(rule));
                self.set_persistent(*collection, &name, change, rule);
            }
        }
    }

    fn set_tx(&mut self, slot: TxSlot, change: &Change, rule: &Rule) {
        let value = match change {
            Change::Delete => TxValue::Unset,
            Change::Set(Operand::Number(number)) => TxValue::Number(*number),
            Change::Set(Operand::Text(text)) => TxValue::Shared(text.clone()),
            // A member that does not exist leaves an empty text.
            Change::Set(Operand::Tx(source)) => match self.tx.get(*source) {
                TxValue::Unset => TxValue::Owned(Vec::new()),
                value => value.clone(),
            },
            Change::Set(Operand::Template(template)) => {
                TxValue::Owned(self.expand(template, Some(rule)))
            }
            Change::Add(operand) => {
                let amount = self.number(operand, rule);
                self.note_score(slot, amount);
                let old = self.tx.get(slot).number().unwrap_or(0);
                TxValue::Number(old.saturating_add(amount))
            }
            Change::Subtract(operand) => {
                let amount = self.number(operand, rule);
                let old = self.tx.get(slot).number().unwrap_or(0);
                // v2 never goes below zero.
                TxValue::Number(old.saturating_sub(amount).max(0))
            }
        };
        self.tx.set(slot, value);
    }

    /// Remembers what a rule adds to the anomaly score, for its log entry.
    fn note_score(&mut self, slot: TxSlot, amount: i64) {
        if self.profile.rules().well_known.score_parts.binary_search(&slot).is_ok() {
            self.rule_score = self.rule_score.saturating_add(amount);
        }
    }

    fn number(&self, operand: &Operand, rule: &Rule) -> i64 {
        match operand {
            Operand::Number(number) => *number,
            Operand::Text(text) => parse_number(text),
            Operand::Tx(slot) => self.tx.get(*slot).number().unwrap_or(0),
            Operand::Template(template) => parse_number(&self.expand(template, Some(rule))),
        }
    }

    fn text(&self, operand: &Operand, rule: &Rule) -> Vec<u8> {
        match operand {
            Operand::Number(number) => number.to_string().into_bytes(),
            Operand::Text(text) => text.to_vec(),
            Operand::Tx(slot) => self.tx.get(*slot).bytes().unwrap_or_default().into_owned(),
            Operand::Template(template) => self.expand(template, Some(rule)),
        }
    }

    fn set_persistent(&mut self, collection: Variable, name: &[u8], change: &Change, rule: &Rule) {
        // Without initcol there is nothing to write to.
        let Some(key) = self.bound_key(collection) else { return };
        let collections = &self.profile.rules().collections;
        let decimal = |number: i64| Some(number.to_string().into_bytes());
        let old_number = |old: Option<&[u8]>| old.map_or(0, parse_number);
        match change {
            Change::Delete => collections.update(collection, key, name, |_| None),
            Change::Set(operand) => {
                let text = self.text(operand, rule);
                collections.update(collection, key, name, |_| Some(text.clone()));
            }
            Change::Add(operand) => {
                let amount = self.number(operand, rule);
                collections.update(collection, key, name, |old| {
                    decimal(old_number(old).saturating_add(amount))
                });
            }
            Change::Subtract(operand) => {
                let amount = self.number(operand, rule);
                collections.update(collection, key, name, |old| {
                    decimal(old_number(old).saturating_sub(amount).max(0))
                });
            }
        }
    }

    fn control(&mut self, control: &Control) {
        match control {
            Control::RemoveRules(rules) => {
                self.plan_holds &= !self.profile.plan.decides_any(rules);
                for (removed, more) in self.removed.iter_mut().zip(rules.iter()) {
                    *removed |= more;
                }
            }
            Control::RemoveTarget { rules, variable, selector } => {
                if *variable == Variable::Tx {
                    self.plan_holds &= !self.profile.plan.decides_any(rules);
                }
                if self.target_removals.len() < TARGET_REMOVAL_LIMIT {
                    self.target_removals.push(TargetRemoval {
                        rules: rules.clone(),
                        variable: *variable,
                        selector: selector.clone(),
                    });
                }
            }
            Control::Engine(mode) => self.engine = *mode,
            // Body settings only work before the body is read.
            Control::RequestBodyProcessor(processor) if self.phase == 1 => {
                self.exchange.set_processor(&mut self.store, Some(*processor));
            }
            Control::ForceRequestBodyVariable(on) => self.force_request_body = *on,
            Control::RequestBodyAccess(on) => self.request_body_access = *on,
            Control::ResponseBodyAccess(on) => self.response_body_access = *on,
            Control::RequestBodyLimit(bytes) => self.request_body_limit = *bytes,
            Control::ResponseBodyLimit(bytes) => self.response_body_limit = *bytes,
            Control::RequestBodyProcessor(_) | Control::AuditLog => {}
        }
    }
}
