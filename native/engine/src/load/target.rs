//! What a target of a rule or of an action means.
//!
//! Source: `seclang.md` section 4.

use sallyport_seclang::{Diagnostics, Position, Target};

use super::pattern_selector;
use crate::rule::Selector;
use crate::tx::TxNames;
use crate::variable::{is_unsupported_variable, Variable};

/// The variable and selector that a target means.
pub(super) fn resolve_target(
    target: &Target,
    by_name: bool,
    tx_names: &mut TxNames,
    problems: &mut Diagnostics,
) -> Option<(Variable, Selector)> {
    let position: Position = target.position;
    let name = &target.variable;
    let Some(variable) = Variable::from_name(name) else {
        if is_unsupported_variable(name) {
            problems.report(
                position,
                "unsupported",
                format!("the variable {name} is not supported"),
            );
        } else {
            problems.report(position, "unknown-variable", format!("unknown variable `{name}`"));
        }
        return None;
    };
    if variable == Variable::Rule {
        problems.report(
            position,
            "unsupported",
            "RULE is only supported in macros, not as a target".to_string(),
        );
        return None;
    }
    let selector = match &target.selector {
        None => Selector::All,
        Some(_) if !variable.is_collection() => {
            problems.report(position, "target", format!("{name} has no members"));
            return None;
        }
        Some(sallyport_seclang::Selector::Name(member)) => {
            if variable == Variable::Xml && !matches!(member.as_str(), "/*" | "//@*") {
                problems.report(
                    position,
                    "unsupported",
                    format!("the XPath expression `{member}` is not supported, only /* and //@*"),
                );
                return None;
            }
            if member.contains("%{") {
                problems.report(
                    position,
                    "unsupported",
                    format!("a macro in a selector is not supported (`{member}`)"),
                );
                return None;
            }
            if variable == Variable::Tx && !by_name {
                Selector::Tx(tx_names.slot(member.as_bytes()))
            } else {
                Selector::Name {
                    lower: member.to_ascii_lowercase().into_bytes().into(),
                    spelling: member.as_bytes().into(),
                }
            }
        }
        Some(sallyport_seclang::Selector::Regex(pattern)) => match pattern_selector(pattern) {
            Ok(selector) => selector,
            Err(reason) => {
                problems.report(position, "regex", format!("selector of {name}: {reason}"));
                return None;
            }
        },
    };
    Some((variable, selector))
}
