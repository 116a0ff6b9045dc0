//! Drafts to compiled rules.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sallyport_seclang::{Diagnostics, Document, OperatorText, Target};

use super::actions::{self, RuleActions};
use super::draft::{Draft, DraftLink, Entry};
use super::target::resolve_target;
use super::Data;
use crate::exchange::name_mark;
use crate::gate::{Evidences, Probe, ProbeId};
use crate::number::canonical_number;
use crate::operator::{Operator, OperatorError};
use crate::rule::{
    Comparison, Link, Rule, Selector, SpecId, TargetSet, TargetSetId, TargetSpec, Test, TxOperand,
};
use crate::template::Template;
use crate::transformation_tree::{NodeId, TransformationTree};
use crate::tx::TxNames;
use crate::variable::Variable;

/// How many threads compile operators at most.
const THREADS: usize = 4;

pub(super) struct Compiled {
    pub(super) rules: Vec<Rule>,
    pub(super) phases: [Vec<u32>; 5],
    pub(super) target_sets: Vec<TargetSet>,
    pub(super) specs: Vec<TargetSpec>,
    pub(super) tree: TransformationTree,
    pub(super) tx_names: TxNames,
    pub(super) probes: Vec<Probe>,
    pub(super) left_out: Vec<(u32, String)>,
}

/// Compiles all drafts. Rules whose id is in `allowed` are left out; any other that fails is an error of the load.
pub(super) fn compile(
    document: &Document,
    entries: &[Entry],
    data: &Data<'_>,
    allowed: &[u32],
    problems: &mut Diagnostics,
) -> Compiled {
    let allowed: HashSet<u32> = allowed.iter().copied().collect();
    let operators = compile_operators(document, entries, data);
    let mut compiler = Compiler {
        document,
        operators,
        tree: TransformationTree::default(),
        tx_names: TxNames::default(),
        target_sets: Vec::new(),
        target_set_keys: HashMap::new(),
        specs: Vec::new(),
        spec_keys: HashMap::new(),
        probes: Vec::new(),
        probe_keys: HashMap::new(),
        needs: HashMap::new(),
    };

    let mut left_out = Vec::new();
    let mut pending: Vec<(&Draft, Rule, RuleActions)> = Vec::new();
    // Markers per phase: label and the number of that phase's rules before it.
    let mut markers: Vec<(&str, [u32; 5])> = Vec::new();
    let mut counts = [0_u32; 5];
    for entry in entries {
        let draft = match entry {
            Entry::Marker(label) => {
                markers.push((label, counts));
                continue;
            }
            Entry::Rule(draft) => draft,
        };
        let mut own = Diagnostics::default();
        let compiled = compiler.rule(draft, &mut own);
        if allowed.contains(&draft.id) {
            let reasons = own.into_vec().into_iter().map(|diagnostic| diagnostic.message);
            let reasons = reasons.collect::<Vec<_>>().join("; ");
            let reason = if reasons.is_empty() { "nothing is missing".into() } else { reasons };
            left_out.push((draft.id, reason));
        } else if own.is_empty() {
            counts[usize::from(draft.phase) - 1] += 1;
            pending.push((draft, compiled.0, compiled.1));
        } else {
            for diagnostic in own.into_vec() {
                problems.report(diagnostic.position, diagnostic.code, diagnostic.message);
            }
        }
    }

    // Jumps and ctl name other rules, so they are resolved when all rules are known.
    let selection = actions::Selection::new(pending.iter().map(|(draft, ..)| *draft));
    let mut phases: [Vec<u32>; 5] = Default::default();
    let mut rules = Vec::with_capacity(pending.len());
    for (index, (draft, mut rule, rule_actions)) in pending.into_iter().enumerate() {
        let phase = usize::from(rule.phase) - 1;
        let place = phases[phase].len() as u32;
        rule.jump = match (&rule_actions.skip_after, rule_actions.skip) {
            (Some(label), _) => Some(
                markers
                    .iter()
                    .map(|(known, counts)| (known, counts[phase]))
                    .find(|(known, position)| *known == label && *position > place)
                    .map_or(counts[phase], |(_, position)| position),
            ),
            (None, Some(count)) => Some(place.saturating_add(1).saturating_add(count)),
            (None, None) => None,
        };
        for (link, draft_link) in rule.links.iter_mut().zip(&draft.links) {
            actions::compile_controls(
                draft_link,
                &selection,
                &mut compiler.tx_names,
                &mut link.effects,
                problems,
            );
        }
        phases[phase].push(index as u32);
        rules.push(rule);
    }

    Compiled {
        rules,
        phases,
        target_sets: compiler.target_sets,
        specs: compiler.specs,
        tree: compiler.tree,
        tx_names: compiler.tx_names,
        probes: compiler.probes,
        left_out,
    }
}

/// Name (lower case), argument and file of an operator: what makes two of them equal.
type OperatorKey = (String, String, u32);
type CompiledOperators = HashMap<OperatorKey, Result<Arc<Operator>, OperatorError>>;

fn operator_key(text: &OperatorText) -> OperatorKey {
    (text.name.to_ascii_lowercase(), text.argument.clone(), text.position.file)
}

/// Compiles every distinct operator, on several threads: that is nearly all of a load's time.
fn compile_operators(document: &Document, entries: &[Entry], data: &Data<'_>) -> CompiledOperators {
    let mut seen = HashSet::new();
    let mut wanted: Vec<OperatorKey> = Vec::new();
    for entry in entries {
        let Entry::Rule(draft) = entry else { continue };
        for operator in draft.links.iter().filter_map(|link| link.operator.as_ref()) {
            let key = operator_key(operator);
            if seen.insert(key.clone()) {
                wanted.push(key);
            }
        }
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(HashMap::with_capacity(wanted.len()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| loop {
                let Some(key) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                let (name, argument, file) = key;
                let path = &document.files[*file as usize];
                let mut load = |name: &str| data.load(path, name);
                let result = Operator::compile(name, argument.as_bytes(), &mut load).map(Arc::new);
                match done.lock() {
                    Ok(mut done) => done.insert(key.clone(), result),
                    Err(poisoned) => poisoned.into_inner().insert(key.clone(), result),
                };
            });
        }
    });
    match done.into_inner() {
        Ok(done) => done,
        Err(poisoned) => poisoned.into_inner(),
    }
}

struct Compiler<'a> {
    document: &'a Document,
    operators: CompiledOperators,
    tree: TransformationTree,
    tx_names: TxNames,
    target_sets: Vec<TargetSet>,
    target_set_keys: HashMap<String, TargetSetId>,
    specs: Vec<TargetSpec>,
    spec_keys: HashMap<String, SpecId>,
    probes: Vec<Probe>,
    /// By address of the operator, which this compiler keeps alive, and list of transformations.
    probe_keys: HashMap<(*const Operator, NodeId), ProbeId>,
    needs: HashMap<*const Operator, Option<Arc<Evidences>>>,
}

impl Compiler<'_> {
    fn rule(&mut self, draft: &Draft, problems: &mut Diagnostics) -> (Rule, RuleActions) {
        let rule_actions = actions::rule_actions(draft, &mut self.tx_names, problems);
        let mut links = Vec::with_capacity(draft.links.len());
        for (index, link) in draft.links.iter().enumerate() {
            links.push(self.link(draft, link, index, problems));
        }
        let position = draft.position();
        let rule = Rule {
            id: draft.id,
            phase: draft.phase,
            links,
            message: rule_actions.message.clone(),
            log_data: rule_actions.log_data.clone(),
            tags: rule_actions.tags.clone(),
            severity: rule_actions.severity,
            version: rule_actions.version.as_str().into(),
            log: rule_actions.log,
            disruption: rule_actions.disruption.clone(),
            jump: None,
            file: position.file,
            line: position.line,
            json: Box::default(),
            is_quiet: false,
            idle_links: 1,
            listing: None,
        };
        debug_assert!((position.file as usize) < self.document.files.len());
        (rule, rule_actions)
    }

    fn link(
        &mut self,
        draft: &Draft,
        link: &DraftLink,
        index: usize,
        problems: &mut Diagnostics,
    ) -> Link {
        if let Some(file) = &link.script {
            problems.report(
                link.position,
                "unsupported",
                format!("SecRuleScript is not supported (`{file}`)"),
            );
        }
        let defaults = if index == 0 { draft.defaults.as_slice() } else { &[] };
        let compiled = actions::link_actions(link, defaults, index, &mut self.tx_names, problems);
        let transformations = self.tree.insert(&compiled.transformations);
        let stages: Box<[NodeId]> = if compiled.multi_match {
            let mut stages = vec![NodeId::ROOT];
            stages.extend(self.tree.path(transformations));
            stages.into()
        } else {
            Box::default()
        };
        let targets = self.target_set(&link.targets, problems);
        let (test, negated) = match &link.operator {
            None => (Test::Always, false),
            Some(text) => {
                if link.targets.iter().all(|target| target.exclude) {
                    problems.report(link.position, "target", "the rule looks at nothing");
                }
                let simple = transformations == NodeId::ROOT && !compiled.capture;
                let nodes = if stages.is_empty() { &[transformations][..] } else { &stages[..] };
                (self.test(text, targets, simple, nodes, problems), text.negated)
            }
        };
        Link {
            targets,
            test,
            negated,
            transformations,
            stages,
            capture: compiled.capture,
            effects: compiled.effects,
        }
    }

    fn test(
        &mut self,
        text: &OperatorText,
        targets: TargetSetId,
        simple: bool,
        nodes: &[NodeId],
        problems: &mut Diagnostics,
    ) -> Test {
        if let (true, Some(comparison)) = (simple, Comparison::from_name(&text.name)) {
            let specs = &self.target_sets[targets.0 as usize].specs;
            if let [spec] = specs.as_slice() {
                let spec = &self.specs[spec.0 as usize];
                let operand = match canonical_number(text.argument.trim().as_bytes()) {
                    Some(number) => Some(TxOperand::Number(number)),
                    None => Template::parse(text.argument.as_bytes(), &mut self.tx_names)
                        .ok()
                        .and_then(|template| template.as_tx())
                        .map(TxOperand::Tx),
                };
                let is_whole = spec.exclusions.is_empty();
                if let (Selector::Tx(slot), true, Some(operand)) =
                    (&spec.selector, is_whole, operand)
                {
                    return Test::TxNumber { slot: *slot, count: spec.count, comparison, operand };
                }
            }
        }
        match self.operators.get(&operator_key(text)) {
            Some(Ok(operator)) => {
                let operator = Arc::clone(operator);
                let argument = match operator.argument_template() {
                    None => None,
                    Some(argument) => match Template::parse(argument, &mut self.tx_names) {
                        Ok(template) => Some(template),
                        Err(error) => {
                            problems.report(text.position, error.code(), error.message());
                            None
                        }
                    },
                };
                let probes = nodes.iter().filter_map(|node| self.probe(&operator, *node)).collect();
                return Test::Operator { operator, argument, probes };
            }
            Some(Err(OperatorError::Unknown)) => problems.report(
                text.position,
                "unknown-operator",
                format!("unknown operator `@{}`", text.name),
            ),
            Some(Err(OperatorError::Unsupported(reason))) => {
                problems.report(text.position, "unsupported", format!("`@{}`: {reason}", text.name))
            }
            Some(Err(OperatorError::Argument(reason))) => problems.report(
                text.position,
                "operator-argument",
                format!("`@{}`: {reason}", text.name),
            ),
            None => problems.report(text.position, "operator", "the operator was not compiled"),
        }
        Test::Always
    }

    /// The probe of an operator behind a list of transformations, if its matches need something.
    fn probe(&mut self, operator: &Arc<Operator>, node: NodeId) -> Option<ProbeId> {
        let address = Arc::as_ptr(operator);
        let needs =
            self.needs.entry(address).or_insert_with(|| Evidences::of(operator).map(Arc::new));
        let needs = Arc::clone(needs.as_ref()?);
        Some(*self.probe_keys.entry((address, node)).or_insert_with(|| {
            self.probes.push(Probe { needs, node });
            ProbeId(self.probes.len() as u32 - 1)
        }))
    }

    fn target_set(&mut self, targets: &[Target], problems: &mut Diagnostics) -> TargetSetId {
        let key = target_key(targets);
        if let Some(known) = self.target_set_keys.get(&key) {
            return *known;
        }
        let before = problems.len();
        let mut specs: Vec<(&Target, TargetSpec)> = Vec::new();
        let mut exclusions: Vec<(&Target, Variable, Selector)> = Vec::new();
        for target in targets {
            let Some((variable, selector)) =
                resolve_target(target, target.exclude, &mut self.tx_names, problems)
            else {
                continue;
            };
            if target.exclude {
                exclusions.push((target, variable, selector));
            } else {
                let count = target.count;
                let exclusions = Vec::new();
                let mark = match &selector {
                    Selector::Name { lower, .. } => name_mark(lower),
                    _ => 0,
                };
                let tx_slots = None;
                let spec = TargetSpec { variable, selector, count, exclusions, mark, tx_slots };
                specs.push((target, spec));
            }
        }
        let stable = specs.iter().all(|(_, spec)| !spec.variable.is_volatile());
        let specs = specs
            .into_iter()
            .map(|(target, mut spec)| {
                let mut sources = vec![target.clone()];
                if !spec.count {
                    for (source, variable, selector) in &exclusions {
                        if *variable == spec.variable {
                            sources.push((*source).clone());
                            spec.exclusions.push(selector.clone());
                        }
                    }
                }
                *self.spec_keys.entry(target_key(&sources)).or_insert_with(|| {
                    self.specs.push(spec);
                    SpecId(self.specs.len() as u32 - 1)
                })
            })
            .collect();
        let id = TargetSetId(self.target_sets.len() as u32);
        self.target_sets.push(TargetSet { specs, stable });
        if problems.len() == before {
            self.target_set_keys.insert(key, id);
        }
        id
    }
}

/// A text that is equal for equal target lists.
fn target_key(targets: &[Target]) -> String {
    let mut key = String::new();
    for target in targets {
        let selector = match &target.selector {
            None => String::new(),
            Some(sallyport_seclang::Selector::Name(name)) => format!(":{name}"),
            Some(sallyport_seclang::Selector::Regex(pattern)) => format!(":/{pattern}/"),
        };
        let flags = (u8::from(target.count) << 1) | u8::from(target.exclude);
        key.push_str(&format!("{flags}{}{selector}\0", target.variable.to_ascii_uppercase()));
    }
    key
}
