//! Rules as the directives leave them, before compilation.

use sallyport_seclang::{
    Action, Diagnostics, DirectiveKind, Document, IdRange, OperatorText, Position, Scope, Target,
};

use super::label_regex;

/// A rule and its chain, actions not yet interpreted.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) id: u32,
    pub(super) phase: u8,
    pub(super) links: Vec<DraftLink>,
    /// The actions of `SecDefaultAction` that held for its phase when it was defined.
    pub(super) defaults: Vec<Action>,
}

#[derive(Clone, Debug)]
pub(super) struct DraftLink {
    pub(super) position: Position,
    pub(super) targets: Vec<Target>,
    /// `None` for `SecAction` and scripts.
    pub(super) operator: Option<OperatorText>,
    /// Set for `SecRuleScript`.
    pub(super) script: Option<String>,
    pub(super) actions: Vec<Action>,
}

impl DraftLink {
    pub(super) fn has(&self, name: &str) -> bool {
        self.actions.iter().any(|action| action.is(name))
    }
}

impl Draft {
    pub(super) fn starter(&self) -> &DraftLink {
        &self.links[0]
    }

    pub(super) fn position(&self) -> Position {
        self.starter().position
    }

    /// Whether a tag or the message, as written, matches.
    pub(super) fn has_label(&self, action_name: &str, regex: &regex::bytes::Regex) -> bool {
        let actions = self.starter().actions.iter().chain(&self.defaults);
        actions
            .filter(|action| action.is(action_name))
            .any(|action| regex.is_match(action.text().as_bytes()))
    }
}

/// An entry of the load order.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Rule(Box<Draft>),
    Marker(String),
}

/// Applies all directives in order.
pub(super) fn collect(document: &Document, problems: &mut Diagnostics) -> Vec<Entry> {
    let mut collector = Collector {
        entries: Vec::new(),
        defaults: Default::default(),
        open: None,
        pending: Vec::new(),
        problems,
    };
    for directive in &document.directives {
        collector.directive(directive.position, &directive.kind);
    }
    collector.close_chain(None);
    collector.entries
}

/// Tells which rules a scope means.
type Predicate = Box<dyn Fn(&Draft) -> bool>;

struct Collector<'a> {
    entries: Vec<Entry>,
    /// Per phase.
    defaults: [Vec<Action>; 5],
    /// The rule whose chain goes on, and whether it is usable: one without an id keeps its chain together, too.
    open: Option<(Draft, bool)>,
    /// Updates that met no rule so far; they hold for rules defined later.
    pending: Vec<Pending>,
    problems: &'a mut Diagnostics,
}

/// A change that waits for the rules it means.
struct Pending {
    meant: Predicate,
    change: Box<dyn Fn(&mut Draft)>,
}

impl Collector<'_> {
    fn directive(&mut self, position: Position, kind: &DirectiveKind) {
        let link = match kind {
            DirectiveKind::Rule(rule) => DraftLink {
                position,
                targets: rule.targets.clone(),
                operator: Some(rule.operator.clone()),
                script: None,
                actions: rule.actions.clone(),
            },
            DirectiveKind::Action(actions) => DraftLink {
                position,
                targets: Vec::new(),
                operator: None,
                script: None,
                actions: actions.clone(),
            },
            DirectiveKind::Script { file, actions } => DraftLink {
                position,
                targets: Vec::new(),
                operator: None,
                script: Some(file.clone()),
                actions: actions.clone(),
            },
            other => return self.other(position, other),
        };
        self.link(link);
    }

    fn link(&mut self, link: DraftLink) {
        let goes_on = link.has("chain");
        match self.open.take() {
            Some((mut draft, valid)) => {
                draft.links.push(link);
                self.open = Some((draft, valid));
            }
            None => {
                let (draft, valid) = self.start(link);
                self.open = Some((draft, valid));
            }
        }
        if !goes_on {
            if let Some((mut draft, true)) = self.open.take() {
                for pending in &self.pending {
                    if (pending.meant)(&draft) {
                        (pending.change)(&mut draft);
                    }
                }
                self.entries.push(Entry::Rule(Box::new(draft)));
            }
        }
    }

    fn start(&mut self, link: DraftLink) -> (Draft, bool) {
        let mut valid = true;
        let mut id = 0;
        match link.actions.iter().rev().find(|action| action.is("id")) {
            None => {
                valid = false;
                self.problems.report(link.position, "id", "the rule has no id");
            }
            Some(action) => match action.text().parse::<u32>() {
                Ok(number) if number > 0 => id = number,
                _ => {
                    valid = false;
                    self.problems.report(
                        action.position,
                        "id",
                        format!("`{}` is not a rule id", action.text()),
                    );
                }
            },
        }
        let duplicate = self.entries.iter().find_map(|entry| match entry {
            Entry::Rule(draft) if draft.id == id => Some(draft.position()),
            _ => None,
        });
        if let (true, Some(first)) = (valid, duplicate) {
            valid = false;
            self.problems.report(
                link.position,
                "duplicate-id",
                format!("rule id {id} is taken (line {} of the rule loaded before)", first.line),
            );
        }
        let mut phase = 2;
        if let Some(action) = link.actions.iter().rev().find(|action| action.is("phase")) {
            match parse_phase(action.text()) {
                Some(number) => phase = number,
                None => {
                    valid = false;
                    self.problems.report(
                        action.position,
                        "phase",
                        format!("`{}` is not a phase (1 to 5)", action.text()),
                    );
                }
            }
        }
        let defaults = self.defaults[usize::from(phase) - 1].clone();
        (Draft { id, phase, links: vec![link], defaults }, valid)
    }

    fn close_chain(&mut self, at: Option<Position>) {
        if let Some((draft, _)) = self.open.take() {
            let position = at.unwrap_or_else(|| draft.position());
            self.problems.report(
                position,
                "chain",
                format!("the chain of rule {} is not finished here", draft.id),
            );
        }
    }

    fn other(&mut self, position: Position, kind: &DirectiveKind) {
        match kind {
            DirectiveKind::Marker(label) => {
                self.close_chain(Some(position));
                self.entries.push(Entry::Marker(label.clone()));
            }
            DirectiveKind::DefaultAction(actions) => self.default_action(position, actions),
            DirectiveKind::UpdateTarget { scope, targets, replaced } => {
                let (targets, replaced) = (targets.clone(), replaced.clone());
                self.update(
                    position,
                    scope,
                    Box::new(move |draft| {
                        merge_targets(&mut draft.links[0].targets, &targets, &replaced);
                    }),
                );
            }
            DirectiveKind::UpdateAction { id, link, actions } => {
                for action in actions {
                    if action.is("id") || action.is("phase") || action.is("chain") {
                        self.problems.report(
                            action.position,
                            "action",
                            format!("`{}` cannot be changed by an update", action.name),
                        );
                    }
                }
                let (link, actions) = (*link, actions.clone());
                let scope = Scope::Ids(vec![IdRange { first: *id, last: *id }]);
                self.update(
                    position,
                    &scope,
                    Box::new(move |draft| {
                        if let Some(link) = draft.links.get_mut(link) {
                            merge_actions(&mut link.actions, &actions);
                        }
                    }),
                );
            }
            DirectiveKind::Remove(scope) => {
                let Some(meant) = self.matcher(position, scope) else { return };
                self.entries.retain(|entry| match entry {
                    Entry::Rule(draft) => !meant(draft),
                    Entry::Marker(_) => true,
                });
            }
            _ => {}
        }
    }

    fn default_action(&mut self, position: Position, actions: &[Action]) {
        for action in actions {
            let forbidden =
                ["id", "msg", "severity", "chain", "skip", "skipAfter", "logdata", "ver"];
            if forbidden.iter().any(|name| action.is(name)) {
                self.problems.report(
                    action.position,
                    "action",
                    format!("SecDefaultAction must not hold `{}`", action.name),
                );
            }
        }
        let phase = match actions.iter().rev().find(|action| action.is("phase")) {
            Some(action) => parse_phase(action.text()),
            None => Some(2),
        };
        match phase {
            Some(phase) => {
                self.defaults[usize::from(phase) - 1] =
                    actions.iter().filter(|action| !action.is("phase")).cloned().collect();
            }
            None => self.problems.report(position, "phase", "the phase is not 1 to 5"),
        }
    }

    /// Runs `change` on every rule that the scope means. When none is defined yet, it waits for later ones, as v3 has it;
    /// meaning no rule at all is no error, because rule sets of different versions share such lines.
    fn update(&mut self, position: Position, scope: &Scope, change: Box<dyn Fn(&mut Draft)>) {
        let Some(meant) = self.matcher(position, scope) else { return };
        let mut found = false;
        for entry in &mut self.entries {
            if let Entry::Rule(draft) = entry {
                if meant(draft) {
                    found = true;
                    change(draft);
                }
            }
        }
        if !found {
            self.pending.push(Pending { meant, change });
        }
    }

    fn matcher(&mut self, position: Position, scope: &Scope) -> Option<Predicate> {
        let (name, pattern) = match scope {
            Scope::Ids(ranges) => {
                let ranges = ranges.clone();
                return Some(Box::new(move |draft| {
                    ranges.iter().any(|range| range.contains(draft.id))
                }));
            }
            Scope::Tag(pattern) => ("tag", pattern),
            Scope::Message(pattern) => ("msg", pattern),
        };
        match label_regex(pattern) {
            Ok(regex) => Some(Box::new(move |draft| draft.has_label(name, &regex))),
            Err(reason) => {
                self.problems.report(position, "regex", reason);
                None
            }
        }
    }
}

/// A phase by number or name.
fn parse_phase(text: &str) -> Option<u8> {
    match text.to_ascii_lowercase().as_str() {
        "1" => Some(1),
        "2" | "request" => Some(2),
        "3" => Some(3),
        "4" | "response" => Some(4),
        "5" | "logging" => Some(5),
        _ => None,
    }
}

/// Actions of which a rule has one; several names that exclude each other form a group.
const EXCLUSIVE: &[&[&str]] = &[
    &["pass", "deny", "drop", "block", "allow", "redirect", "proxy", "pause"],
    &["log", "nolog"],
    &["auditlog", "noauditlog"],
    &["msg"],
    &["logdata"],
    &["severity"],
    &["ver"],
    &["rev"],
    &["status"],
    &["skip", "skipAfter"],
    &["maturity"],
    &["accuracy"],
];

fn merge_targets(list: &mut Vec<Target>, targets: &[Target], replaced: &[Target]) {
    if replaced.is_empty() {
        list.extend(targets.iter().cloned());
        return;
    }
    let same = |a: &Target, b: &Target| {
        a.variable.eq_ignore_ascii_case(&b.variable)
            && a.selector == b.selector
            && a.count == b.count
            && a.exclude == b.exclude
    };
    let before = list.len();
    list.retain(|target| !replaced.iter().any(|old| same(old, target)));
    if list.len() < before {
        list.extend(targets.iter().cloned());
    }
}

fn merge_actions(actions: &mut Vec<Action>, new: &[Action]) {
    for action in new {
        let group = EXCLUSIVE.iter().find(|group| group.iter().any(|name| action.is(name)));
        if let Some(group) = group {
            actions.retain(|old| !group.iter().any(|name| old.is(name)));
        }
        actions.push(action.clone());
    }
}
