//! Actions, interpreted.
//!
//! Source: `seclang.md` sections 6.2, 8 and 10.1.

use std::sync::Arc;

use sallyport_seclang::{parse_targets, Action, Argument, Diagnostics, IdRange};

use super::draft::{Draft, DraftLink};
use super::label_regex;
use super::target::resolve_target;
use crate::configuration::EngineMode;
use crate::number::canonical_number;
use crate::rule::{
    set_bit, AllowScope, BodyProcessor, Change, Control, Disruption, Effect, Operand, SetTarget,
    SEVERITIES,
};
use crate::template::Template;
use crate::transformation::Transformation;
use crate::tx::TxNames;
use crate::variable::Variable;

/// Status of `deny` when none is given.
const DENY_STATUS: u16 = 403;
/// Status of `redirect` when none that redirects is given.
const REDIRECT_STATUS: u16 = 302;

/// What the actions say about the rule as a whole.
#[derive(Debug)]
pub(super) struct RuleActions {
    pub(super) message: Option<Template>,
    pub(super) log_data: Option<Template>,
    pub(super) tags: Vec<Template>,
    pub(super) severity: Option<u8>,
    pub(super) version: String,
    pub(super) log: bool,
    pub(super) disruption: Disruption,
    pub(super) skip_after: Option<String>,
    pub(super) skip: Option<u32>,
}

/// What the actions say about one link.
#[derive(Debug)]
pub(super) struct LinkActions {
    pub(super) transformations: Vec<Transformation>,
    pub(super) multi_match: bool,
    pub(super) capture: bool,
    pub(super) effects: Vec<Effect>,
}

/// Actions that decide about the exchange.
const DISRUPTIVE: &[&str] =
    &["pass", "deny", "drop", "block", "allow", "redirect", "proxy", "pause"];
/// Actions that only a chain's starter may hold.
const STARTER_ONLY: &[&str] = &[
    "id",
    "phase",
    "msg",
    "severity",
    "ver",
    "rev",
    "status",
    "skip",
    "skipAfter",
    "maturity",
    "accuracy",
];
/// Actions of SecLang that are not provided here.
const UNSUPPORTED: &[&str] = &[
    "append",
    "deprecatevar",
    "exec",
    "pause",
    "prepend",
    "proxy",
    "sanitiseArg",
    "sanitiseMatched",
    "sanitiseMatchedBytes",
    "sanitiseRequestHeader",
    "sanitiseResponseHeader",
    "xmlns",
];

fn template(
    action: &Action,
    text: &str,
    names: &mut TxNames,
    problems: &mut Diagnostics,
) -> Option<Template> {
    match Template::parse(text.as_bytes(), names) {
        Ok(template) => Some(template),
        Err(error) => {
            problems.report(action.position, error.code(), error.message());
            None
        }
    }
}

/// Reads what holds for the whole rule, from the starter and the defaults of its phase.
pub(super) fn rule_actions(
    draft: &Draft,
    names: &mut TxNames,
    problems: &mut Diagnostics,
) -> RuleActions {
    let own = &draft.starter().actions;
    let last = |name: &str| own.iter().rev().find(|action| action.is(name));
    let one_of = |actions: &[Action], group: &[&str]| -> Option<Action> {
        let found = actions.iter().rev().find(|a| group.iter().any(|name| a.is(name)));
        found.cloned()
    };

    let log_names = ["log", "nolog"];
    let log = one_of(own, &log_names)
        .or_else(|| one_of(&draft.defaults, &log_names))
        .is_none_or(|action| action.is("log"));

    let status = |actions: &[Action], problems: &mut Diagnostics| -> Option<u16> {
        let action = actions.iter().rev().find(|action| action.is("status"))?;
        match action.text().parse::<u16>() {
            Ok(status @ 100..=599) => Some(status),
            _ => {
                problems.report(
                    action.position,
                    "status",
                    format!("`{}` is not an HTTP status", action.text()),
                );
                None
            }
        }
    };
    let own_status = status(own, problems);
    let default_status = status(&draft.defaults, problems);
    let decisive: Vec<&str> = DISRUPTIVE.iter().copied().filter(|name| *name != "block").collect();
    let mut chosen = one_of(own, DISRUPTIVE);
    if chosen.as_ref().is_none_or(|action| action.is("block")) {
        chosen = one_of(&draft.defaults, &decisive);
    }
    let disruption = match chosen {
        None => Disruption::Pass,
        Some(action) => disruption(&action, own_status.or(default_status), names, problems),
    };

    let mut tags = Vec::new();
    for action in draft.defaults.iter().chain(own).filter(|action| action.is("tag")) {
        tags.extend(template(action, action.text(), names, problems));
    }
    let severity = last("severity").and_then(|action| severity(action, problems));
    let skip = last("skip").and_then(|action| match action.text().parse::<u32>() {
        Ok(count) => Some(count),
        Err(_) => {
            problems.report(
                action.position,
                "skip",
                format!("`{}` is not a number of rules", action.text()),
            );
            None
        }
    });
    let skip_after = last("skipAfter").map(|action| action.text().to_string());
    RuleActions {
        message: last("msg").and_then(|a| template(a, a.text(), names, problems)),
        log_data: last("logdata").and_then(|a| template(a, a.text(), names, problems)),
        tags,
        severity,
        version: last("ver").map(|action| action.text().to_string()).unwrap_or_default(),
        log,
        disruption,
        skip_after,
        skip,
    }
}

fn disruption(
    action: &Action,
    status: Option<u16>,
    names: &mut TxNames,
    problems: &mut Diagnostics,
) -> Disruption {
    match action.name.to_ascii_lowercase().as_str() {
        "deny" | "drop" => Disruption::Deny(status.unwrap_or(DENY_STATUS)),
        "redirect" => match template(action, action.text(), names, problems) {
            Some(location) => {
                let status = status.filter(|status| (300..400).contains(status));
                Disruption::Redirect(status.unwrap_or(REDIRECT_STATUS), location)
            }
            None => Disruption::Pass,
        },
        "allow" => match action.text().to_ascii_lowercase().as_str() {
            "" => Disruption::Allow(AllowScope::All),
            "phase" => Disruption::Allow(AllowScope::Phase),
            "request" => Disruption::Allow(AllowScope::Request),
            other => {
                problems.report(
                    action.position,
                    "action",
                    format!("`allow:{other}`: phase or request is expected"),
                );
                Disruption::Pass
            }
        },
        _ => Disruption::Pass,
    }
}

fn severity(action: &Action, problems: &mut Diagnostics) -> Option<u8> {
    let text = action.text();
    let number = text.parse::<u8>().ok().filter(|number| *number <= 7);
    let named = || SEVERITIES.iter().position(|name| name.eq_ignore_ascii_case(text));
    let found = number.or_else(|| named().map(|index| index as u8));
    if found.is_none() {
        problems.report(action.position, "severity", format!("`{text}` is not a severity"));
    }
    found
}

/// Reads what holds for one link: `index` 0 is the starter.
pub(super) fn link_actions(
    link: &DraftLink,
    defaults: &[Action],
    index: usize,
    names: &mut TxNames,
    problems: &mut Diagnostics,
) -> LinkActions {
    let mut compiled = LinkActions {
        transformations: Vec::new(),
        multi_match: false,
        capture: false,
        effects: Vec::new(),
    };
    let inherited = defaults.iter().filter(|action| action.is("t"));
    for action in inherited.chain(&link.actions) {
        if index > 0 {
            let misplaced = STARTER_ONLY.iter().chain(DISRUPTIVE).any(|name| action.is(name));
            if misplaced {
                problems.report(
                    action.position,
                    "chain-action",
                    format!("`{}` belongs to the first rule of a chain", action.name),
                );
                continue;
            }
        }
        if UNSUPPORTED.iter().any(|name| action.is(name)) {
            problems.report(
                action.position,
                "unsupported",
                format!("the action `{}` is not supported", action.name),
            );
            continue;
        }
        match action.name.to_ascii_lowercase().as_str() {
            "t" if action.text().eq_ignore_ascii_case("none") => compiled.transformations.clear(),
            "t" => match Transformation::from_name(action.text()) {
                Some(transformation) => compiled.transformations.push(transformation),
                None => problems.report(
                    action.position,
                    "unknown-transformation",
                    format!("unknown transformation `{}`", action.text()),
                ),
            },
            "multimatch" => compiled.multi_match = true,
            "capture" => compiled.capture = true,
            "setvar" => {
                compiled.effects.extend(set_variable(action, names, problems));
            }
            "setenv" => {
                let (name, value) = action.text().split_once('=').unwrap_or((action.text(), "1"));
                let name = template(action, name.trim(), names, problems);
                let value = template(action, value, names, problems);
                if let (Some(name), Some(value)) = (name, value) {
                    compiled.effects.push(Effect::SetEnvironment { name, value });
                }
            }
            "initcol" => match action.text().split_once('=') {
                Some((collection, key)) => {
                    let collection = persistent(action, collection, problems);
                    let key = template(action, key, names, problems);
                    if let (Some(collection), Some(key)) = (collection, key) {
                        compiled.effects.push(Effect::BindCollection { collection, key });
                    }
                }
                None => problems.report(action.position, "action", "initcol takes collection=key"),
            },
            "setsid" | "setuid" | "setrsc" => {
                let collection = match action.name.to_ascii_lowercase().as_str() {
                    "setsid" => Variable::Session,
                    "setuid" => Variable::User,
                    _ => Variable::Resource,
                };
                if let Some(key) = template(action, action.text(), names, problems) {
                    compiled.effects.push(Effect::BindCollection { collection, key });
                }
            }
            "expirevar" => compiled.effects.extend(expire(action, names, problems)),
            // Compiled when all rules are known.
            "ctl" => {}
            "id" | "phase" | "msg" | "logdata" | "tag" | "ver" | "rev" | "severity"
            | "maturity" | "accuracy" | "log" | "nolog" | "auditlog" | "noauditlog" | "pass"
            | "deny" | "drop" | "block" | "allow" | "redirect" | "status" | "chain" | "skip"
            | "skipafter" => {}
            _ => problems.report(
                action.position,
                "unknown-action",
                format!("unknown action `{}`", action.name),
            ),
        }
    }
    compiled
}

fn persistent(action: &Action, name: &str, problems: &mut Diagnostics) -> Option<Variable> {
    let found = Variable::from_name(name.trim()).filter(|variable| variable.is_persistent());
    if found.is_none() {
        problems.report(
            action.position,
            "unknown-collection",
            format!("`{name}` is not a persistent collection"),
        );
    }
    found
}

fn expire(action: &Action, names: &mut TxNames, problems: &mut Diagnostics) -> Option<Effect> {
    let parts = action.text().split_once('=').and_then(|(target, seconds)| {
        target.split_once('.').map(|(collection, name)| (collection, name, seconds))
    });
    let Some((collection, name, seconds)) = parts else {
        problems.report(action.position, "action", "expirevar takes collection.name=seconds");
        return None;
    };
    let collection = persistent(action, collection, problems)?;
    let name = template(action, name, names, problems)?;
    let seconds = template(action, seconds, names, problems)?;
    Some(Effect::Expire { collection, name, seconds })
}

/// `tx.name=value`, `=+n`, `=-n`, `tx.name`, `!tx.name`.
fn set_variable(
    action: &Action,
    names: &mut TxNames,
    problems: &mut Diagnostics,
) -> Option<Effect> {
    let text = action.text().trim();
    let (deleted, text) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (target, value) = match text.split_once('=') {
        Some((target, value)) => (target.trim(), Some(value)),
        None => (text, None),
    };
    let Some((collection, name)) = target.split_once(['.', ':']) else {
        problems.report(
            action.position,
            "setvar",
            format!("`{target}`: a collection and a name are expected, as in tx.name"),
        );
        return None;
    };
    let name = template(action, name, names, problems)?;
    let target = match Variable::from_name(collection) {
        Some(Variable::Tx) => match name.literal() {
            Some(name) => SetTarget::Tx(names.slot(name)),
            None => SetTarget::TxNamed(name),
        },
        Some(variable) if variable.is_persistent() => {
            SetTarget::Persistent { collection: variable, name }
        }
        _ => {
            problems.report(
                action.position,
                "setvar",
                format!("`{collection}` is not a collection that rules can write to"),
            );
            return None;
        }
    };
    let change = match value {
        _ if deleted => Change::Delete,
        None => Change::Set(Operand::Number(1)),
        Some(value) => {
            if let Some(amount) = value.strip_prefix('+') {
                Change::Add(operand(action, amount, names, problems)?)
            } else if let Some(amount) = value.strip_prefix('-') {
                Change::Subtract(operand(action, amount, names, problems)?)
            } else {
                Change::Set(operand(action, value, names, problems)?)
            }
        }
    };
    Some(Effect::SetVariable { target, change })
}

fn operand(
    action: &Action,
    text: &str,
    names: &mut TxNames,
    problems: &mut Diagnostics,
) -> Option<Operand> {
    if let Some(number) = canonical_number(text.as_bytes()) {
        return Some(Operand::Number(number));
    }
    let template = template(action, text, names, problems)?;
    if let Some(slot) = template.single_tx() {
        return Some(Operand::Tx(slot));
    }
    if let Some(text) = template.literal() {
        return Some(Operand::Text(Arc::from(text)));
    }
    Some(Operand::Template(template))
}

/// The rules of a set, to be selected by id, tag or message.
pub(super) struct Selection<'a> {
    drafts: Vec<&'a Draft>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(drafts: impl Iterator<Item = &'a Draft>) -> Self {
        Selection { drafts: drafts.collect() }
    }

    fn bits(&self, meant: impl Fn(&Draft) -> bool) -> Arc<[u64]> {
        let mut bits = vec![0; self.drafts.len().div_ceil(64)];
        for (index, draft) in self.drafts.iter().enumerate() {
            if meant(draft) {
                set_bit(&mut bits, index as u32);
            }
        }
        bits.into()
    }

    fn select(&self, by: &str, what: &str) -> Result<Arc<[u64]>, String> {
        match by {
            "id" => {
                let ranges: Option<Vec<IdRange>> =
                    what.split([',', ' ']).filter(|p| !p.is_empty()).map(IdRange::parse).collect();
                let ranges = ranges
                    .filter(|ranges| !ranges.is_empty())
                    .ok_or_else(|| format!("`{what}` is not a rule id or a range of ids"))?;
                Ok(self.bits(|draft| ranges.iter().any(|range| range.contains(draft.id))))
            }
            label => {
                let regex = label_regex(what)?;
                Ok(self.bits(|draft| draft.has_label(label, &regex)))
            }
        }
    }
}

/// Compiles the `ctl` actions of a link. They come after its other effects, which do not depend on them.
pub(super) fn compile_controls(
    link: &DraftLink,
    selection: &Selection<'_>,
    names: &mut TxNames,
    effects: &mut Vec<Effect>,
    problems: &mut Diagnostics,
) {
    for action in link.actions.iter().filter(|action| action.is("ctl")) {
        match control(action, selection, names, problems) {
            Ok(control) => effects.push(Effect::Control(control)),
            Err((code, message)) => problems.report(action.position, code, message),
        }
    }
}

fn control(
    action: &Action,
    selection: &Selection<'_>,
    names: &mut TxNames,
    problems: &mut Diagnostics,
) -> Result<Control, (&'static str, String)> {
    let wrong = |message: String| ("ctl", message);
    let (name, value) = action
        .text()
        .split_once('=')
        .map(|(name, value)| (name.trim(), value.trim()))
        .ok_or_else(|| wrong(format!("`ctl:{}`: name=value is expected", action.text())))?;
    if value.contains("%{") {
        return Err((
            "unsupported",
            format!("macros in ctl are not supported (`{}`)", action.text()),
        ));
    }
    let switch = || match value.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(wrong(format!("`{name}` takes On or Off, not `{value}`"))),
    };
    let bytes =
        || value.parse::<usize>().map_err(|_| wrong(format!("`{value}` is not a number of bytes")));
    let lower = name.to_ascii_lowercase();
    Ok(match lower.as_str() {
        "ruleremovebyid" | "ruleremovebytag" | "ruleremovebymsg" => {
            let by = &lower["ruleremoveby".len()..];
            Control::RemoveRules(selection.select(by, value).map_err(wrong)?)
        }
        "ruleremovetargetbyid" | "ruleremovetargetbytag" | "ruleremovetargetbymsg" => {
            let by = &lower["ruleremovetargetby".len()..];
            let (what, target) = value
                .split_once(';')
                .ok_or_else(|| wrong(format!("`{value}`: what;TARGET is expected")))?;
            let rules = selection.select(by, what.trim()).map_err(wrong)?;
            let argument = Argument::at(target.trim(), action.position);
            let before = problems.len();
            let targets = parse_targets(&argument, false, problems);
            let resolved = targets
                .first()
                .filter(|_| targets.len() == 1)
                .and_then(|target| resolve_target(target, true, names, problems));
            match resolved {
                Some((variable, selector)) => Control::RemoveTarget { rules, variable, selector },
                None if problems.len() > before => Control::AuditLog,
                None => return Err(wrong(format!("`{target}`: one target is expected"))),
            }
        }
        "ruleengine" => Control::Engine(EngineMode::parse(value).ok_or_else(|| {
            wrong(format!("ruleEngine takes On, Off or DetectionOnly, not `{value}`"))
        })?),
        "requestbodyprocessor" => Control::RequestBodyProcessor(
            BodyProcessor::parse(value)
                .ok_or_else(|| ("unsupported", format!("no body processor `{value}`")))?,
        ),
        "forcerequestbodyvariable" => Control::ForceRequestBodyVariable(switch()?),
        "requestbodyaccess" => Control::RequestBodyAccess(switch()?),
        "responsebodyaccess" => Control::ResponseBodyAccess(switch()?),
        "requestbodylimit" => Control::RequestBodyLimit(bytes()?),
        "responsebodylimit" => Control::ResponseBodyLimit(bytes()?),
        "auditengine" | "auditlogparts" | "debugloglevel" => Control::AuditLog,
        _ => return Err(("unsupported", format!("`ctl:{name}` is not supported"))),
    })
}
