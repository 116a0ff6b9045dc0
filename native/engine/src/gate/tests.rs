//! The gate must let in whatever matches.

use super::*;
use crate::operator::Operator;
use crate::rule::Test;
use crate::{RuleSet, SourceFile};

fn probe(pattern: &str) -> Option<Probe> {
    let operator = Operator::compile("rx", pattern.as_bytes(), &mut |_| Err(String::new()));
    let needs = Evidences::of(&operator.unwrap())?;
    Some(Probe { needs: Arc::new(needs), node: NodeId::ROOT })
}

fn lets_in(pattern: &str, value: &[u8]) -> bool {
    let Some(probe) = probe(pattern) else { return true };
    let gate = Gate::new(&[probe], &[ProbeId(0)], &TransformationTree::default());
    let row = row_of(&gate, value);
    gate.lets_in(&row, ProbeId(0))
}

/// The bits of all probes that may match a value as it is.
fn row_of(gate: &Gate, value: &[u8]) -> Vec<u64> {
    let classes = ByteClasses::of(value);
    let (mut looked, mut row) = (vec![0; gate.words()], vec![0; gate.words()]);
    gate.look(value, classes, Scope::All, &mut looked);
    gate.sift(&looked, &classes.bytes(), &mut row);
    row
}

#[test]
fn values_without_what_a_match_needs_are_kept_out() {
    for (pattern, value) in [
        ("(?i)union.{0,9}select", &b"reunite"[..]),
        ("<script", b"a script"),
        ("[\"'][^a]", b"plain text"),
        ("(?:foo|ba[rz])", b"bat"),
        ("a+bc", b"ab c"),
        ("(?i)u['\"]*n['\"]*a['\"]*m['\"]*e", b"a menu of names"),
        ("['(].*x", b"box"),
    ] {
        assert!(!lets_in(pattern, value), "{pattern}");
    }
}

#[test]
fn values_that_match_are_let_in() {
    for (pattern, value) in [
        ("(?i)union.{0,9}select", &b"UNION all SeLeCt"[..]),
        ("(?i:a)B", b"aB"),
        ("x?y?", b""),
        ("(?:foo|)bar", b"bar"),
        ("\\bon\\w+=", b"onload="),
        ("[\\xe9]t\\xe9", b"\xe9t\xe9"),
        ("(?:ab){2}", b"abab"),
        ("^$", b""),
        ("(?:a|b|c)(?:d|e)*f", b"cf"),
        ("(?i)u['\"]*n['\"]*a['\"]*m['\"]*e", b"the uname command"),
        ("(?i)u['\"]*n['\"]*a['\"]*m['\"]*e", b"u'name"),
        ("(?:'x|[a'])(?:\"|b)", b"ab"),
    ] {
        let regex = regex::bytes::RegexBuilder::new(pattern)
            .unicode(false)
            .dot_matches_new_line(true)
            .build()
            .unwrap();
        assert!(regex.is_match(value), "{pattern}");
        assert!(lets_in(pattern, value), "{pattern}");
    }
}

fn shared() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared")
}

/// Lines of all files under a folder, and of the texts that are spelt in JSON files there.
fn lines_under(folder: &std::path::Path, lines: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            lines_under(&path, lines);
            continue;
        }
        let text = std::fs::read(&path).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "json") {
            if let Ok(json) = serde_json::from_slice(&text) {
                texts_in(&json, lines);
                continue;
            }
        }
        lines.extend(text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
    }
}

fn texts_in(json: &serde_json::Value, lines: &mut Vec<Vec<u8>>) {
    match json {
        serde_json::Value::String(text) => lines.push(text.clone().into_bytes()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| texts_in(item, lines)),
        serde_json::Value::Object(members) => {
            members.values().for_each(|item| texts_in(item, lines));
        }
        _ => {}
    }
}

/// Every gated operator of CRS (`@rx`, `@pm`, `@detectSQLi`, `@validateByteRange`, …) over every line of its tests, over the
/// payloads of the corpora, and over mutations of them (halves joined, cases flipped, bytes replaced).
#[test]
fn no_match_of_a_crs_operator_is_dropped() {
    let folder = shared().join("crs/rules-v4.28.0/rules");
    let mut files = Vec::new();
    let mut data = Vec::new();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = std::fs::read(entry.path()).unwrap_or_default();
        let file = SourceFile::new(name.clone(), String::from_utf8_lossy(&text).into_owned());
        if name.ends_with(".conf") {
            files.push(file);
        } else {
            data.push(file);
        }
    }
    if files.is_empty() {
        println!("skipped: no CRS rules beside the checkout");
        return;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let set = RuleSet::load(&files, &data, &[]).unwrap();
    let mut lines = Vec::new();
    lines_under(&shared().join("crs/regression"), &mut lines);
    for corpus in ["waf-gotestwaf", "waf-payloads", "waf-benign"] {
        lines_under(&shared().join("corpora").join(corpus), &mut lines);
    }
    for line in &mut lines {
        line.truncate(4096);
    }
    lines.sort_unstable();
    lines.dedup();

    let mut seed = 11_u64;
    let mut next = |limit: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % limit.max(1)
    };
    // A share of the lines, another one of mutations; all operators see each.
    let mut values = Vec::new();
    for index in 0..lines.len() {
        if next(3) == 0 {
            values.push(lines[index].clone());
        }
        if next(3) != 0 {
            continue;
        }
        let (a, b) = (&lines[next(lines.len())], &lines[next(lines.len())]);
        let mut value = [&a[..next(a.len() + 1)], &b[next(b.len() + 1)..]].concat();
        for _ in 0..next(4) {
            let at = next(value.len());
            if let Some(byte) = value.get_mut(at) {
                *byte = if next(2) == 0 { *byte ^ 0x20 } else { next(256) as u8 };
            }
        }
        values.push(value);
    }

    let mut operators: Vec<(u32, &Operator, ProbeId)> = Vec::new();
    for rule in &set.rules {
        for link in &rule.links {
            if let Test::Operator { operator, probes, .. } = &link.test {
                if let Some(probe) = probes.first() {
                    if operators.iter().all(|(_, known, _)| !std::ptr::eq(*known, &**operator)) {
                        operators.push((rule.id, operator, *probe));
                    }
                }
            }
        }
    }
    assert!(operators.len() > 250, "{} operators are gated", operators.len());
    let live: Vec<ProbeId> = (0..set.probes.len() as u32).map(ProbeId).collect();
    let gate = Gate::new(&set.probes, &live, &set.tree);
    let (mut matches, mut kept_out) = (0_usize, 0_usize);
    for value in &values {
        let row = row_of(&gate, value);
        for (id, operator, probe) in &operators {
            let lets_in = gate.lets_in(&row, *probe);
            kept_out += usize::from(!lets_in);
            if operator.matches(value, operator.argument_template(), None) {
                matches += 1;
                let text = String::from_utf8_lossy(value);
                assert!(lets_in, "rule {id} matches and the gate dropped it: {text}");
            }
        }
    }
    println!(
        "gate: {} operators, {} values, {matches} matches, {} % of pairs kept out",
        operators.len(),
        values.len(),
        kept_out * 100 / (values.len() * operators.len())
    );
    assert!(matches > 10_000);
}

/// What [`crate::transformation::Transformation::may_change`] says holds for every function.
#[test]
fn transformations_change_no_value_without_their_bytes() {
    use crate::transformation::{Transformation, TransformationContext};

    let mut seed = 5_u64;
    let mut next = |limit: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % limit
    };
    let context = TransformationContext::default();
    for transformation in Transformation::ALL {
        let kept: Vec<u8> = (0..=255).filter(|byte| !transformation.may_change(*byte)).collect();
        if kept.is_empty() {
            continue;
        }
        let marks: Vec<u8> = kept.iter().copied().filter(u8::is_ascii_punctuation).collect();
        for _ in 0..20_000 {
            let value: Vec<u8> = (0..next(24))
                .map(|_| match next(3) {
                    0 if !marks.is_empty() => marks[next(marks.len())],
                    _ => kept[next(kept.len())],
                })
                .collect();
            let output = transformation.apply(&value, &context);
            assert_eq!(output, None, "{} on {}", transformation.name(), value.escape_ascii());
        }
    }
}

/// What [`crate::transformation::Transformation::output_bytes`] says holds for every function, and so does what is said of
/// blanks that stand alone.
#[test]
fn transformations_make_no_other_bytes_than_they_say() {
    use crate::transformation::{Transformation, TransformationContext};

    let mut seed = 9_u64;
    let mut next = |limit: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % limit
    };
    let context = TransformationContext::default();
    for transformation in Transformation::ALL {
        for _ in 0..20_000 {
            let value: Vec<u8> = (0..next(24))
                .map(|_| match next(3) {
                    0 => b" /*-#%+\\.;&(x0\t\xa0\"\x00"[next(18)],
                    1 => next(256) as u8,
                    _ => b'A' + next(58) as u8,
                })
                .collect();
            let input = ByteSet::of(&value);
            let output = transformation.apply(&value, &context);
            let text = value.escape_ascii();
            if let (Some(bytes), Some(output)) = (transformation.output_bytes(&input), &output) {
                assert!(
                    ByteSet::of(output).is_within(&bytes),
                    "{} on {text}",
                    transformation.name()
                );
            }
            let reason = value.iter().any(|byte| *byte != b' ' && transformation.may_change(*byte));
            if transformation.keeps_lone_blanks()
                && !reason
                && crate::bytes::has_lone_blanks(&value)
            {
                assert_eq!(output, None, "{} on {text}", transformation.name());
            }
        }
    }
}
