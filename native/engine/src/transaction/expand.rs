//! Macros to text.
//!
//! Source: `seclang.md` section 10.3: what is not defined leaves nothing behind.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Transaction;
use crate::rule::Rule;
use crate::template::{Part, Template};
use crate::variable::Variable;

impl Transaction {
    /// Expands a template. `rule` is the rule that runs, for `%{RULE.…}`.
    pub(super) fn expand(&self, template: &Template, rule: Option<&Rule>) -> Vec<u8> {
        let mut text = Vec::new();
        self.expand_into(template, rule, &mut text);
        text
    }

    /// The same, appended to a text.
    pub(super) fn expand_into(&self, template: &Template, rule: Option<&Rule>, text: &mut Vec<u8>) {
        for part in &template.parts {
            match part {
                Part::Text(bytes) => text.extend_from_slice(bytes),
                Part::Tx(slot) => {
                    if let Some(bytes) = self.tx.get(*slot).bytes() {
                        text.extend_from_slice(&bytes);
                    }
                }
                Part::Variable { variable, member } => {
                    self.expand_variable(*variable, member.as_deref(), rule, text);
                }
            }
        }
    }

    /// Appends the first value of a variable, or of the member of that name.
    fn expand_variable(
        &self,
        variable: Variable,
        member: Option<&[u8]>,
        rule: Option<&Rule>,
        text: &mut Vec<u8>,
    ) {
        let wanted = |name: &[u8]| member.is_none_or(|member| name.eq_ignore_ascii_case(member));
        match variable {
            Variable::MatchedVar => {
                if let Some(hit) = self.matched() {
                    text.extend_from_slice(&hit.value.bytes(&self.store));
                }
            }
            Variable::MatchedVarName => {
                if let Some(hit) = self.matched() {
                    self.append_name(&hit.target, &[], text);
                }
            }
            Variable::MatchedVars => {
                if let Some(hit) = self.matched_vars.first() {
                    text.extend_from_slice(&hit.value.bytes(&self.store));
                }
            }
            Variable::MatchedVarsNames => {
                if let Some(hit) = self.matched_vars.first() {
                    self.append_name(&hit.target, &[], text);
                }
            }
            Variable::Duration | Variable::TimeEpoch => {
                text.extend_from_slice(self.clock(variable).as_bytes());
            }
            Variable::Env => {
                if let Some((_, value)) = self.environment.iter().find(|(name, _)| wanted(name)) {
                    text.extend_from_slice(value);
                }
            }
            Variable::Rule => {
                let (Some(rule), Some(member)) = (rule, member) else { return };
                match member {
                    b"id" => text.extend_from_slice(rule.id.to_string().as_bytes()),
                    b"phase" => text.extend_from_slice(rule.phase.to_string().as_bytes()),
                    b"ver" => text.extend_from_slice(rule.version.as_bytes()),
                    b"severity" => {
                        let severity = rule.severity.map(|severity| severity.to_string());
                        text.extend(severity.unwrap_or_default().into_bytes());
                    }
                    b"msg" => {
                        if let Some(message) = &rule.message {
                            // A message that names itself stays empty there.
                            text.extend(self.expand(message, None));
                        }
                    }
                    _ => {}
                }
            }
            Variable::Xml => {
                let mut first = true;
                self.exchange.visit_xml(member.unwrap_or(b"/*"), &mut |value| {
                    if std::mem::take(&mut first) {
                        text.extend_from_slice(self.store.get(value));
                    }
                });
            }
            collection if collection.is_persistent() => {
                if let (Some(key), Some(member)) = (self.bound_key(collection), member) {
                    let stored = self.profile.rules().collections.get(collection, key, member);
                    text.extend(stored.unwrap_or_default());
                }
            }
            variable => {
                let mut found = false;
                self.exchange.visit(variable, &mut |name, value| {
                    if found || !name.is_none_or(|name| wanted(self.store.get(name))) {
                        return;
                    }
                    found = true;
                    text.extend_from_slice(self.store.get(value));
                });
            }
        }
    }

    /// The variables that a clock answers.
    pub(super) fn clock(&self, variable: Variable) -> String {
        match variable {
            Variable::TimeEpoch => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                now.map_or(0, |elapsed| elapsed.as_secs()).to_string()
            }
            _ => self.started.elapsed().as_micros().to_string(),
        }
    }
}
