//! Rule sets, profiles and transactions of the rule matcher; what is scanned is in `scan`.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard, PoisonError};

use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Error, Result, Task};
use napi_derive::napi;
use sallyport_engine::{references, Profile, ProfileOptions, RuleSet, SourceFile, Transaction};
use serde::{Deserialize, Serialize};

use crate::collections::COLLECTIONS;
use crate::registry::Registry;
use crate::shared_memory::give_back_freed;

static RULE_SETS: Registry<RuleSet> = Registry::new("rule set");
pub(crate) static PROFILES: Registry<Profile> = Registry::new("profile");
pub(crate) static TRANSACTIONS: Registry<Mutex<Transaction>> =
    Registry::bounded("transaction", 1 << 16);

/// What `load_rule_set` is given.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sources {
    files: Vec<Source>,
    data: Vec<Source>,
    left_out: Vec<u32>,
    /// A handle of `open_collections`; without it the rule set has collections of its own.
    #[serde(default)]
    collections: u32,
}

#[derive(Deserialize)]
struct Source {
    path: String,
    text: String,
}

/// What `rule_file_references` answers, one each.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FoundReference {
    path: String,
    line: u32,
    column: u32,
    is_pattern: bool,
    holds_rules: bool,
}

fn source_files(sources: Vec<Source>) -> Vec<SourceFile> {
    sources.into_iter().map(|source| SourceFile { path: source.path, text: source.text }).collect()
}

/// Compiles sources on a thread of libuv's pool.
pub struct LoadRules {
    sources_json: String,
}

impl Task for LoadRules {
    type Output = u32;
    type JsValue = u32;

    fn compute(&mut self) -> Result<u32> {
        // The pool's threads are not JavaScript's: a panic here would end the process.
        catch_unwind(AssertUnwindSafe(|| load(&self.sources_json)))
            .unwrap_or_else(|_| Err(Error::from_reason("the rule set made the loader panic")))
    }

    fn resolve(&mut self, _env: Env, rule_set: u32) -> Result<u32> {
        Ok(rule_set)
    }
}

fn load(sources_json: &str) -> Result<u32> {
    let sources: Sources = serde_json::from_str(sources_json).map_err(|error| {
        Error::from_reason(format!("the sources are not of their form: {error}"))
    })?;
    let mut rule_set =
        RuleSet::load(&source_files(sources.files), &source_files(sources.data), &sources.left_out)
            .map_err(|errors| Error::from_reason(errors.to_json()))?;
    if sources.collections != 0 {
        rule_set.use_collections(COLLECTIONS.get(sources.collections)?);
    }
    give_back_freed();
    RULE_SETS.insert(rule_set)
}

/// Compiles `{"files","data","leftOut","collections"}` off the event loop. Rejects with `{"diagnostics":[…]}` that holds every error.
#[napi(catch_unwind)]
pub fn load_rule_set(sources_json: String) -> AsyncTask<LoadRules> {
    AsyncTask::new(LoadRules { sources_json })
}

/// The files that a file of rules names, as JSON: `[{"path","line","column","isPattern","holdsRules"}…]`.
#[napi(catch_unwind)]
pub fn rule_file_references(path: String, text: String) -> Result<String> {
    let found: Vec<_> = references(&SourceFile { path, text })
        .into_iter()
        .map(|reference| FoundReference {
            path: reference.path,
            line: reference.position.line,
            column: reference.position.column,
            is_pattern: reference.is_pattern,
            holds_rules: reference.holds_rules,
        })
        .collect();
    serde_json::to_string(&found).map_err(|error| Error::from_reason(error.to_string()))
}

/// Facts about a rule set as JSON.
#[napi(catch_unwind)]
pub fn rule_set_summary(rule_set: u32) -> Result<String> {
    Ok(RULE_SETS.get(rule_set)?.summary().to_json())
}

/// Lets go; profiles and transactions keep what they use.
#[napi(catch_unwind)]
pub fn release_rule_set(rule_set: u32) {
    RULE_SETS.remove(rule_set);
}

/// Binds what one action asks to a rule set.
#[napi(catch_unwind)]
pub fn create_profile(rule_set: u32, options_json: String) -> Result<u32> {
    let options = ProfileOptions::from_json(&options_json).map_err(Error::from_reason)?;
    PROFILES.insert(Profile::new(RULE_SETS.get(rule_set)?, options))
}

/// Binds on a thread of libuv's pool: gates are built for the rules that are left.
pub struct BindProfile {
    rule_set: u32,
    options_json: String,
}

impl Task for BindProfile {
    type Output = u32;
    type JsValue = u32;

    fn compute(&mut self) -> Result<u32> {
        let options = std::mem::take(&mut self.options_json);
        // The pool's threads are not JavaScript's: a panic here would end the process.
        let bound = catch_unwind(AssertUnwindSafe(|| create_profile(self.rule_set, options)))
            .unwrap_or_else(|_| Err(Error::from_reason("the rule set made the binding panic")));
        give_back_freed();
        bound
    }

    fn resolve(&mut self, _env: Env, profile: u32) -> Result<u32> {
        Ok(profile)
    }
}

/// As [`create_profile`], off the event loop.
#[napi(catch_unwind)]
pub fn prepare_profile(rule_set: u32, options_json: String) -> AsyncTask<BindProfile> {
    AsyncTask::new(BindProfile { rule_set, options_json })
}

/// Lets go; transactions keep what they use.
#[napi(catch_unwind)]
pub fn release_profile(profile: u32) {
    PROFILES.remove(profile);
}

/// What a transaction found, as two lines of JSON (the second has the matches, and is there only `with_texts`); of its
/// matches those of `from_phase` and later ones.
#[napi(catch_unwind)]
pub fn transaction_details(transaction: u32, from_phase: u32, with_texts: bool) -> Result<String> {
    let held = TRANSACTIONS.get(transaction)?;
    let details = told(&lock(&held), u8::try_from(from_phase).unwrap_or(5), with_texts);
    Ok(details)
}

/// Phase 5, then frees. When a rule of phase 5 logged: the details with its matches, as [`transaction_details`]. A stale handle does no harm.
#[napi(catch_unwind)]
pub fn end_transaction(transaction: u32, with_texts: bool) -> Option<String> {
    let held = TRANSACTIONS.remove(transaction)?;
    let mut held = lock(&held);
    held.finish().matched.then(|| told(&held, 5, with_texts))
}

fn told(transaction: &Transaction, phase: u8, with_texts: bool) -> String {
    if with_texts {
        transaction.details_in_two_lines(phase)
    } else {
        transaction.details_line(phase)
    }
}

/// Transactions that nobody has ended yet.
#[napi(catch_unwind)]
pub fn open_transactions() -> u32 {
    TRANSACTIONS.len() as u32
}

/// A transaction that panicked is still readable: its owner ends it.
pub(crate) fn lock(transaction: &Mutex<Transaction>) -> MutexGuard<'_, Transaction> {
    transaction.lock().unwrap_or_else(PoisonError::into_inner)
}
