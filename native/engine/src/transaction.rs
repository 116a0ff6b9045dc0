//! One exchange on its way through a rule set.
//!
//! Source: order of evaluation in `seclang.md` section 9; limits in section 11.

mod effects;
mod evaluate;
mod expand;
mod record;
mod room;
mod targets;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use crate::configuration::{EngineMode, LimitAction};
use crate::details::{summary_line, Details, Interruption, Match, Score};
use crate::exchange::Exchange;
use crate::operator::Captures;
use crate::profile::{Prelude, Profile};
use crate::rule::{next_bit, AllowScope, Selector, TargetSpec};
use crate::rule_set::RuleSet;
use crate::store::{Side, Store, ValueId};
use crate::tx::{Tx, TxSlot, TxValue};
use crate::variable::Variable;

use record::Record;
pub(crate) use record::{push_member, push_tags};
use room::{next_reading, Room};
use targets::{SpecTargets, Target};

/// How many matches of one transaction are kept; further ones count for the score all the same.
pub const MATCH_LIMIT: usize = 512;

/// Who the exchange is with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Address of the client.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Address that the client connected to.
    pub server_address: String,
    /// Port that the client connected to.
    pub server_port: u16,
    /// Unique text of the exchange.
    pub request_id: String,
}

impl Client {
    /// Reads `ip port serverIp serverPort requestId`, separated by blanks; missing pieces are empty.
    pub fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut pieces = text.split(' ');
        let mut next = || pieces.next().unwrap_or("").to_string();
        let (address, port) = (next(), next());
        let (server_address, server_port, request_id) = (next(), next(), next());
        Client {
            address,
            port: port.parse().unwrap_or(0),
            server_address,
            server_port: server_port.parse().unwrap_or(0),
            request_id,
        }
    }
}

/// What a scan says at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// A rule that logs has matched in this scan.
    pub matched: bool,
    /// The exchange is to be stopped.
    pub interrupted: bool,
    /// The request body could not be parsed.
    pub body_error: bool,
}

impl Flags {
    /// The flags as bits: 1 matched, 2 interrupted, 4 body error.
    pub fn bits(self) -> u8 {
        u8::from(self.matched) | u8::from(self.interrupted) << 1 | u8::from(self.body_error) << 2
    }
}

/// A match of an operator, for `MATCHED_VAR` and its kin.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(crate) target: Target,
    /// The value after transformations.
    pub(crate) value: HitValue,
}

/// The value that a link matched on. Few are ever asked for, so those that no rule reads are not put into the store.
#[derive(Clone, Debug)]
pub(crate) enum HitValue {
    Stored(ValueId),
    /// What a member of `TX` was then, or a number of members.
    Made(TxValue),
}

impl HitValue {
    pub(crate) fn bytes<'a>(&'a self, store: &'a Store) -> Cow<'a, [u8]> {
        match self {
            HitValue::Stored(value) => Cow::Borrowed(store.get(*value)),
            HitValue::Made(value) => value.bytes().unwrap_or_default(),
        }
    }

    fn stored(&self, store: &mut Store) -> ValueId {
        match self {
            HitValue::Stored(value) => *value,
            HitValue::Made(value) => store.intern(&value.bytes().unwrap_or_default()),
        }
    }
}

/// A target that `ctl:ruleRemoveTarget…` took away from some rules.
#[derive(Clone, Debug)]
struct TargetRemoval {
    rules: Arc<[u64]>,
    variable: Variable,
    selector: Selector,
}

/// One exchange on its way through a rule set. Not shared between threads while it is used, but free to move.
#[derive(Debug)]
pub struct Transaction {
    profile: Arc<Profile>,
    store: Store,
    exchange: Exchange,
    tx: Tx,
    environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// Persistent collections in use, with their keys.
    bound: Vec<(Variable, Vec<u8>)>,
    engine: EngineMode,
    request_body_access: bool,
    response_body_access: bool,
    request_body_limit: usize,
    response_body_limit: usize,
    force_request_body: bool,
    /// A bit per rule that is not evaluated.
    removed: Vec<u64>,
    target_removals: Vec<TargetRemoval>,
    /// Members of each entry of stable target sets, once read.
    spec_cache: Vec<SpecTargets>,
    /// The members behind `spec_cache`, and its summaries.
    spec_members: Vec<Target>,
    spec_summaries: Vec<u64>,
    /// Number of the reading that `spec_cache` must be of.
    reading: u32,
    /// The gate that the summaries are of.
    side: Side,
    /// Whether what the profile's plan decided beforehand still stands.
    plan_holds: bool,
    /// A bit per place in the order of the phase that runs whose rule may do something.
    visits: Vec<u64>,
    /// Room for bits of what a phase looks at.
    there: Vec<u64>,
    /// Room for the targets of a set that is not stable.
    target_room: Vec<Target>,
    captures: Captures,
    /// Members of `TX` that are written when somebody reads them: the rule that writes them and what they are named after.
    put_off: Vec<(u32, ValueId)>,
    /// Room for a text.
    text_room: Vec<u8>,
    /// What the running rule has matched on.
    matched_vars: Vec<Hit>,
    /// The last hit before the running rule.
    matched_before: Option<Hit>,
    records: Vec<Record>,
    /// Texts of the records that hold macros.
    record_texts: Vec<u8>,
    matches_left_out: u32,
    /// Whether a rule that logs has matched since the last scan began.
    logged: bool,
    /// What the running rule has added to the anomaly score since its last logged match.
    rule_score: i64,
    interruption: Option<Interruption>,
    allowed: Option<AllowScope>,
    /// The phase that runs or ran last, 0 before all.
    phase: u8,
    finished: bool,
    started: Instant,
}

impl Drop for Transaction {
    fn drop(&mut self) {
        std::mem::take(&mut self.store).recycle();
        let room = Room {
            spec_cache: std::mem::take(&mut self.spec_cache),
            spec_members: std::mem::take(&mut self.spec_members),
            spec_summaries: std::mem::take(&mut self.spec_summaries),
            visits: std::mem::take(&mut self.visits),
            there: std::mem::take(&mut self.there),
            target_room: std::mem::take(&mut self.target_room),
            put_off: std::mem::take(&mut self.put_off),
            text_room: std::mem::take(&mut self.text_room),
            matched_vars: std::mem::take(&mut self.matched_vars),
            exchange: std::mem::take(&mut self.exchange),
            tx: self.tx.take_room(),
            reading: self.reading,
        };
        room.recycle();
    }
}

/// Which rules of a phase run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    All,
    /// Only rules that set things up: no detection, no decision.
    Setup,
}

impl Transaction {
    /// Runs phases 1 and 2. `head` is the request head as bytes: `METHOD SP target SP HTTP/1.1`, then header lines.
    /// `body` is what there is of the body; what lies beyond the limit is not looked at.
    pub fn request(
        profile: &Arc<Profile>,
        client: &Client,
        head: &[u8],
        body: Option<&[u8]>,
    ) -> Self {
        let mut transaction =
            Transaction::start(profile, client, head, body.map_or(0, <[u8]>::len));
        transaction.run_request(body);
        transaction
    }

    fn run_request(&mut self, body: Option<&[u8]>) {
        self.run_phase(1, Extent::All);
        if self.stopped() {
            return;
        }
        if let (Some(body), true) = (body, self.request_body_access) {
            self.read_request_body(body);
        }
        if !self.stopped() {
            self.run_phase(2, Extent::All);
        }
    }

    /// A transaction for a response whose request was not scanned: the request's variables are there and the rule set's
    /// own set-up of phase 1 has run, without any detection.
    pub fn for_response_only(profile: &Arc<Profile>, client: &Client, head: &[u8]) -> Self {
        let mut transaction = Transaction::start(profile, client, head, 0);
        transaction.run_phase(1, Extent::Setup);
        transaction
    }

    pub(crate) fn start(
        profile: &Arc<Profile>,
        client: &Client,
        head: &[u8],
        body_bytes: usize,
    ) -> Self {
        let rules = profile.rules();
        let configuration = rules.configuration();
        let body_bytes = body_bytes.min(profile.request_body_limit);
        let mut store = Store::with_capacity(4096 + 3 * head.len() + 2 * body_bytes);
        let Room {
            mut spec_cache,
            spec_members,
            spec_summaries,
            visits,
            there,
            target_room,
            put_off,
            text_room,
            matched_vars,
            mut exchange,
            tx,
            reading,
        } = Room::take();
        spec_cache.resize(rules.specs.len(), SpecTargets::default());
        exchange.read_request_head(&mut store, head, configuration);
        let mut set = |variable, text: &str| {
            let value = store.intern(text.as_bytes());
            exchange.set(variable, value);
        };
        set(Variable::RemoteAddr, &client.address);
        set(Variable::RemoteHost, &client.address);
        set(Variable::RemotePort, &client.port.to_string());
        set(Variable::ServerAddr, &client.server_address);
        set(Variable::ServerPort, &client.server_port.to_string());
        set(Variable::UniqueId, &client.request_id);

        let options = profile.options();
        let tx = Tx::with_room(&profile.tx_start, tx);
        let engine = match options.detection_only {
            None => configuration.engine,
            Some(true) => EngineMode::DetectionOnly,
            Some(false) => EngineMode::On,
        };
        Transaction {
            store,
            exchange,
            tx,
            environment: Vec::new(),
            bound: Vec::new(),
            engine,
            request_body_access: profile.request_body_access,
            response_body_access: profile.response_body_access,
            request_body_limit: profile.request_body_limit,
            response_body_limit: profile.response_body_limit,
            force_request_body: false,
            removed: profile.excluded.to_vec(),
            target_removals: Vec::new(),
            spec_cache,
            spec_members,
            spec_summaries,
            reading,
            side: Side::Request,
            plan_holds: true,
            visits,
            there,
            target_room,
            captures: Captures::default(),
            put_off,
            text_room,
            matched_vars,
            matched_before: None,
            records: Vec::new(),
            record_texts: Vec::new(),
            matches_left_out: 0,
            logged: false,
            rule_score: 0,
            interruption: None,
            allowed: None,
            phase: 0,
            finished: false,
            started: Instant::now(),
            profile: Arc::clone(profile),
        }
    }

    fn read_request_body(&mut self, body: &[u8]) {
        let profile = Arc::clone(&self.profile);
        let configuration = profile.rules().configuration();
        let rejects = configuration.request_body_limit_action == LimitAction::Reject;
        if body.len() > configuration.request_body_limit && rejects && self.engine == EngineMode::On
        {
            self.exchange.set_flag(Variable::InboundDataError, true);
            self.interruption =
                Some(Interruption { phase: 2, status: 413, rule_id: 0, location: None });
            return;
        }
        let inspected = &body[..body.len().min(self.request_body_limit)];
        self.exchange.read_request_body(
            &mut self.store,
            inspected,
            body.len(),
            self.force_request_body,
            configuration,
        );
        self.forget_targets();
    }

    /// Runs phases 3 and 4, unless the exchange was stopped before.
    ///
    /// `head` is `HTTP/1.1 200 OK` and header lines. `body`, when given, is inspected if its media type is among the rule
    /// set's and body access is on.
    pub fn response(&mut self, status: u16, head: &[u8], body: Option<&[u8]>) -> Flags {
        if self.finished || self.phase > 2 || self.stopped() {
            return self.flags();
        }
        self.logged = false;
        self.exchange.read_response_head(&mut self.store, status, head);
        self.run_phase(3, Extent::All);
        if self.stopped() {
            return self.flags();
        }
        if let Some(body) = body.filter(|_| self.inspects_response_body()) {
            let configuration = self.profile.rules().configuration();
            let rejects = configuration.response_body_limit_action == LimitAction::Reject;
            if body.len() > configuration.response_body_limit
                && rejects
                && self.engine == EngineMode::On
            {
                self.exchange.set_flag(Variable::OutboundDataError, true);
                self.interruption =
                    Some(Interruption { phase: 4, status: 500, rule_id: 0, location: None });
                return self.flags();
            }
            if body.len() > self.response_body_limit {
                self.exchange.set_flag(Variable::OutboundDataError, true);
            }
            let value = self.store.intern(&body[..body.len().min(self.response_body_limit)]);
            self.exchange.set(Variable::ResponseBody, value);
            self.exchange.response_body_is(&mut self.store, body.len());
            self.forget_targets();
        }
        self.run_phase(4, Extent::All);
        self.flags()
    }

    /// Whether the response's media type is one that the rule set wants to see.
    fn inspects_response_body(&self) -> bool {
        if !self.response_body_access {
            return false;
        }
        let value = match self.exchange.response_header(&self.store, b"content-type") {
            Some(value) => self.store.get(value),
            None => return false,
        };
        let media_type = value.split(|byte| *byte == b';').next().unwrap_or(&[]).trim_ascii();
        let wanted = &self.profile.rules().configuration().response_body_mime_types;
        wanted.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(media_type))
    }

    /// What there is to say so far.
    pub fn flags(&self) -> Flags {
        Flags {
            matched: self.logged,
            interrupted: self.interruption.is_some(),
            body_error: self.exchange.body_error.is_some(),
        }
    }

    /// The decision to stop the exchange, if one was made.
    pub fn interruption(&self) -> Option<&Interruption> {
        self.interruption.as_ref()
    }

    /// Logged matches so far, in order. Their texts are made when they are asked for.
    pub fn matches(&self) -> Vec<Match> {
        self.matches_from(1)
    }

    /// Everything found so far.
    pub fn details(&self) -> Details {
        self.details_from(1)
    }

    /// Everything found so far, with the matches of `phase` and later ones only.
    pub fn details_from(&self, phase: u8) -> Details {
        Details { matches: self.matches_from(phase), ..self.summary() }
    }

    /// What [`Transaction::details_from`] tells, in two lines of JSON: everything without the matches but with a list
    /// `matched` of their ids and phases, then the list of matches.
    pub fn details_in_two_lines(&self, phase: u8) -> String {
        let records = self.records_from(phase);
        // About what a match of the Core Rule Set takes.
        let mut out = Vec::with_capacity(256 + records.len() * 1024);
        self.push_summary(records, &mut out);
        out.extend_from_slice(b"\n[");
        for (at, record) in records.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            self.push_record(record, &mut out);
        }
        out.push(b']');
        String::from_utf8(out).unwrap_or_default()
    }

    /// The first line of [`Transaction::details_in_two_lines`]: the texts of matches are most of its price.
    pub fn details_line(&self, phase: u8) -> String {
        let mut out = Vec::with_capacity(1024);
        self.push_summary(self.records_from(phase), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    fn push_summary(&self, records: &[Record], out: &mut Vec<u8>) {
        let matched = records.iter().map(|record| (self.record_id(record), record.phase));
        summary_line(&self.summary(), matched, out);
    }

    fn matches_from(&self, phase: u8) -> Vec<Match> {
        self.records_from(phase).iter().map(|record| self.read_record(record)).collect()
    }

    /// The details without the matches.
    fn summary(&self) -> Details {
        let known = &self.profile.rules().well_known;
        let score = |slots: [TxSlot; 2], threshold: TxSlot| Score {
            score: slots.iter().find_map(|slot| self.tx.get(*slot).number()).unwrap_or(0),
            threshold: self.tx.get(threshold).number().unwrap_or(0),
        };
        Details {
            interruption: self.interruption.clone(),
            matches: Vec::new(),
            matches_left_out: self.matches_left_out,
            inbound: score(known.inbound_score, known.inbound_threshold),
            outbound: score(known.outbound_score, known.outbound_threshold),
            body_error: self.exchange.body_error.clone(),
        }
    }

    /// The value of a member of `TX`, for tests and explanations.
    pub fn tx(&self, name: &str) -> Option<Vec<u8>> {
        let slot = self.profile.rules().tx_names.find(name.as_bytes())?;
        self.tx.get(slot).bytes().map(std::borrow::Cow::into_owned)
    }

    /// Runs phase 5, once. The transaction is not used for anything else after this.
    pub fn finish(&mut self) -> Flags {
        if !self.finished {
            self.finished = true;
            self.logged = false;
            self.run_phase(5, Extent::All);
        }
        self.flags()
    }

    fn stopped(&self) -> bool {
        self.interruption.is_some()
    }

    /// Forgets what was read of the stable target sets, because members were added or the other gate takes over.
    fn forget_targets(&mut self) {
        self.reading = next_reading(self.reading, &mut self.spec_cache);
        self.spec_members.clear();
        self.spec_summaries.clear();
    }

    fn run_phase(&mut self, phase: u8, extent: Extent) {
        self.phase = phase;
        if self.side != Side::of_phase(phase) {
            self.side = Side::of_phase(phase);
            self.forget_targets();
        }
        self.forget_hits();
        let skipped = match self.allowed {
            Some(AllowScope::All) => phase < 5,
            Some(AllowScope::Request) => phase <= 2,
            Some(AllowScope::Phase) | None => false,
        };
        if self.allowed == Some(AllowScope::Phase) {
            self.allowed = None;
        }
        if skipped || self.engine == EngineMode::Off {
            return;
        }
        self.store.begin_phase();
        self.run_rules(phase, extent);
        self.store.end_phase();
    }

    fn run_rules(&mut self, phase: u8, extent: Extent) {
        let profile = Arc::clone(&self.profile);
        let rules: &RuleSet = profile.rules();
        let order = &rules.phases[usize::from(phase) - 1];
        let visits_few = self.plan_holds && extent == Extent::All;
        if let (true, 1, Some(prelude)) = (self.plan_holds, phase, &profile.prelude) {
            self.tx.begin_with(&prelude.tx);
        }
        if visits_few {
            self.find_visits(&profile, phase);
        }
        let mut at = 0;
        loop {
            if self.plan_holds {
                at = match visits_few {
                    true => next_bit(&self.visits, at).unwrap_or(order.len()),
                    false => profile.plan.next(phase, at),
                };
            }
            let Some(&index) = order.get(at) else { return };
            at += 1;
            if crate::rule::has_bit(&self.removed, index) {
                continue;
            }
            let rule = &rules.rules[index as usize];
            if extent == Extent::Setup && !rule.is_setup() {
                continue;
            }
            if !self.evaluate(rules, index, rule) {
                continue;
            }
            if let Some(jump) = rule.jump {
                at = jump as usize;
            }
            self.disrupt(rule);
            if self.engine == EngineMode::Off
                || (phase < 5 && (self.stopped() || self.allowed.is_some()))
            {
                return;
            }
        }
    }

    /// Runs the rules at the beginning of phase 1 that do the same for every exchange, if there are any.
    pub(crate) fn prelude(mut self) -> Option<Prelude> {
        let profile = Arc::clone(&self.profile);
        let rules = profile.rules();
        if rules.has_loose_reads || self.engine == EngineMode::Off {
            return None;
        }
        self.phase = 1;
        let mut done = vec![0; self.removed.len()];
        for &index in &rules.phases[0] {
            let rule = &rules.rules[index as usize];
            if crate::rule::has_bit(&self.removed, index) || rules.is_apart_from_tx(rule) {
                continue;
            }
            if !rule.is_closed() {
                break;
            }
            if self.evaluate(rules, index, rule) {
                if rule.log || !rule.is_setup() {
                    return None;
                }
                if rule.jump.is_some() {
                    break;
                }
            }
            crate::rule::set_bit(&mut done, index);
        }
        Some(Prelude { tx: self.tx.as_start(), done: done.into() })
    }

    /// Does what a rule that matched decides.
    fn disrupt(&mut self, rule: &crate::rule::Rule) {
        use crate::rule::Disruption;

        if self.engine != EngineMode::On || self.phase == 5 || self.interruption.is_some() {
            return;
        }
        let (status, location) = match &rule.disruption {
            Disruption::Pass => return,
            Disruption::Allow(scope) => {
                self.allowed = Some(*scope);
                return;
            }
            Disruption::Deny(status) => (*status, None),
            Disruption::Redirect(status, location) => {
                let location = self.expand(location, Some(rule));
                (*status, Some(String::from_utf8_lossy(&location).into_owned()))
            }
        };
        self.interruption =
            Some(Interruption { phase: self.phase, status, rule_id: rule.id, location });
    }

    /// Whether a rule's targets must be held against what `ctl` removed.
    fn has_target_removals(&self, rule: u32) -> bool {
        self.target_removals.iter().any(|removal| crate::rule::has_bit(&removal.rules, rule))
    }

    /// Whether `ctl` took a member away from a rule.
    fn is_target_removed(&self, rule: u32, spec: &TargetSpec, name: &[u8]) -> bool {
        self.target_removals.iter().any(|removal| {
            removal.variable == spec.variable
                && crate::rule::has_bit(&removal.rules, rule)
                && removal.selector.takes(name)
        })
    }
}
