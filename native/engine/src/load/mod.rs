//! From sources to a rule set: directives are applied in order to drafts of rules, then every draft is compiled.
//!
//! Source: `seclang.md` sections 2, 3, 8 and 10. `SecRuleUpdate…` and `SecRuleRemove…` act on rules already defined.

mod actions;
mod compile;
mod draft;
mod target;

use std::collections::HashMap;
use std::sync::Arc;

use sallyport_seclang::{parse, resolve, Diagnostics, Document, SourceFile};

use crate::configuration::Configuration;
use crate::error::LoadErrors;
use crate::gate::Probe;
use crate::rule::{Rule, Selector, TargetSet, TargetSpec};
use crate::transformation::UnicodeMap;
use crate::transformation_tree::TransformationTree;
use crate::tx::TxNames;

/// What [`load`] makes, to be wrapped as a rule set.
pub(crate) struct Loaded {
    pub(crate) configuration: Configuration,
    pub(crate) files: Vec<String>,
    pub(crate) rules: Vec<Rule>,
    /// Per phase, indexes of its rules in load order.
    pub(crate) phases: [Vec<u32>; 5],
    pub(crate) target_sets: Vec<TargetSet>,
    pub(crate) tree: TransformationTree,
    pub(crate) tx_names: TxNames,
    pub(crate) specs: Vec<TargetSpec>,
    pub(crate) probes: Vec<Probe>,
    pub(crate) left_out: Vec<(u32, String)>,
}

/// Engine rules and settings that CRS assumes around itself; `Include @recommended` reads them.
pub(crate) const RECOMMENDED_PATH: &str = "@recommended";
const RECOMMENDED: &str = include_str!("recommended.conf");

/// Looks up data files by path.
struct Data<'a> {
    files: HashMap<String, &'a str>,
}

impl Data<'_> {
    fn load(&self, from: &str, name: &str) -> Result<Vec<u8>, String> {
        let path = resolve(from, name);
        match self.files.get(&path) {
            Some(text) => Ok(text.as_bytes().to_vec()),
            None => Err(format!("no file `{path}`")),
        }
    }
}

/// Parses and compiles.
pub(crate) fn load(
    sources: &[SourceFile],
    data: &[SourceFile],
    left_out: &[u32],
) -> Result<Loaded, LoadErrors> {
    let mut library = data.to_vec();
    library.push(SourceFile::new(RECOMMENDED_PATH, RECOMMENDED));
    let (document, diagnostics) = parse(sources, &library);
    let mut problems = Diagnostics::default();
    for diagnostic in diagnostics {
        problems.report(diagnostic.position, diagnostic.code, diagnostic.message);
    }
    let data = Data {
        files: data.iter().map(|file| (resolve("", &file.path), file.text.as_str())).collect(),
    };
    let drafts = draft::collect(&document, &mut problems);
    let configuration = configuration(&document, &data, &mut problems);
    let compiled = compile::compile(&document, &drafts, &data, left_out, &mut problems);
    if !problems.is_empty() {
        return Err(LoadErrors::new(&document, problems.into_vec()));
    }
    Ok(Loaded {
        configuration,
        files: document.files,
        rules: compiled.rules,
        phases: compiled.phases,
        target_sets: compiled.target_sets,
        tree: compiled.tree,
        tx_names: compiled.tx_names,
        specs: compiled.specs,
        probes: compiled.probes,
        left_out: compiled.left_out,
    })
}

fn configuration(
    document: &Document,
    data: &Data<'_>,
    problems: &mut Diagnostics,
) -> Configuration {
    use sallyport_seclang::DirectiveKind;

    let mut configuration =
        Configuration { unicode_map: Some(UnicodeMap::us_ascii()), ..Configuration::default() };
    for directive in &document.directives {
        match &directive.kind {
            DirectiveKind::Setting(setting) => {
                let from = &document.files[directive.position.file as usize];
                let load = |name: &str| data.load(from, name);
                configuration.apply(setting, &load, problems);
            }
            DirectiveKind::ComponentSignature(text) => {
                configuration.component_signatures.push(text.clone());
            }
            _ => {}
        }
    }
    configuration
}

/// Compiles a regular expression of a selector: searched anywhere, ignoring case (`seclang.md` section 4.3).
fn pattern_selector(pattern: &str) -> Result<Selector, String> {
    let stands_for_itself = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match pattern.strip_prefix('^') {
        Some(text) if text.bytes().all(stands_for_itself) => {
            return Ok(Selector::Beginning(text.to_ascii_lowercase().into_bytes().into()));
        }
        _ => {}
    }
    regex::bytes::RegexBuilder::new(pattern)
        .unicode(false)
        .case_insensitive(true)
        .dot_matches_new_line(true)
        .build()
        .map(|regex| Selector::Regex(Arc::new(regex)))
        .map_err(|error| error.to_string())
}

/// Compiles a regular expression that selects rules by tag or message.
fn label_regex(pattern: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::RegexBuilder::new(pattern)
        .unicode(false)
        .dot_matches_new_line(true)
        .build()
        .map_err(|error| error.to_string())
}
