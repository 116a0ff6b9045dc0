//! Which `@rx` operators can match a value at all: one look at the value instead of one run per operator.
//!
//! Every match of a pattern must hold certain bytes: one of a set of literals (compared without regard to ASCII case), and
//! one byte of each of some classes. Both are read off the pattern's syntax tree at load. A value is looked at once: which
//! bytes occur in it (256 bits), and which literals (one Aho-Corasick automaton over the literals of all patterns). A
//! pattern whose needs are not met cannot match, so leaving it out changes no verdict.
//!
//! Source: `native-findings.md` sections 3.2 and 3.3 (measured: literals of two bytes and more, with byte classes).

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex_syntax::hir::{Class, Hir, HirKind};
use regex_syntax::ParserBuilder;

/// How many strings a part of a pattern may stand for, to be spelt out.
const EXACT_LIMIT: usize = 64;
/// How many literals one pattern may contribute.
const LITERALS_LIMIT: usize = 400;
/// How long a literal needs to be at most: longer ones are cut, which only weakens the gate.
const LITERAL_BYTES: usize = 12;
/// Literals shorter than this say too little.
const LITERAL_LEAST: usize = 2;
/// How many byte classes are kept per pattern.
const CLASSES: usize = 4;
/// A class this wide says nothing.
const WIDE: u32 = 200;

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByteSet([u64; 4]);

impl ByteSet {
    #[inline]
    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn size(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn union(&self, other: &ByteSet) -> ByteSet {
        ByteSet(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    #[inline]
    fn meets(&self, words: &[u64]) -> bool {
        self.0.iter().zip(words).any(|(own, other)| own & other != 0)
    }

    fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=255_u8).filter(|byte| self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0)
    }
}

/// What every match of a pattern holds.
#[derive(Clone, Debug, Default)]
struct Needs {
    /// One of these, in lower case; `None`: nothing is known.
    literals: Option<Vec<Vec<u8>>>,
    /// One byte of each.
    classes: Vec<ByteSet>,
}

/// A part of a pattern: all it can be, if that is little, and what it needs.
struct Part {
    /// The strings it stands for, in lower case.
    exact: Option<Vec<Vec<u8>>>,
    needs: Needs,
}

/// Number of a gated pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GateId(u32);

/// The gate of a rule set.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    automaton: Option<AhoCorasick>,
    /// Per literal the patterns that it lets in.
    patterns_of: Vec<Vec<u32>>,
    /// A bit per pattern: set when no literal is asked for.
    without_literals: Vec<u64>,
    /// Per pattern.
    classes: Vec<Vec<ByteSet>>,
}

/// Collects patterns for a [`Gate`].
#[derive(Debug, Default)]
pub(crate) struct GateBuilder {
    patterns: Vec<Needs>,
}

impl GateBuilder {
    /// Adds a pattern; `None` when nothing can be said about its matches.
    pub(crate) fn add(&mut self, pattern: &str) -> Option<GateId> {
        let needs = needs_of(pattern)?;
        if needs.literals.is_none() && needs.classes.is_empty() {
            return None;
        }
        self.patterns.push(needs);
        Some(GateId(self.patterns.len() as u32 - 1))
    }

    pub(crate) fn build(self) -> Gate {
        let mut literals: Vec<Vec<u8>> = Vec::new();
        let mut patterns_of: Vec<Vec<u32>> = Vec::new();
        let mut places = std::collections::HashMap::new();
        let mut without_literals = vec![0_u64; self.patterns.len().div_ceil(64)];
        let mut classes = Vec::with_capacity(self.patterns.len());
        for (index, needs) in self.patterns.into_iter().enumerate() {
            match needs.literals {
                None => without_literals[index / 64] |= 1 << (index % 64),
                Some(own) => {
                    for literal in own {
                        let place = *places.entry(literal.clone()).or_insert_with(|| {
                            literals.push(literal);
                            patterns_of.push(Vec::new());
                            literals.len() - 1
                        });
                        let patterns: &mut Vec<u32> = &mut patterns_of[place];
                        if patterns.last() != Some(&(index as u32)) {
                            patterns.push(index as u32);
                        }
                    }
                }
            }
            classes.push(needs.classes);
        }
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&literals)
            .ok();
        if automaton.is_none() {
            // Too large to build: every pattern is let in.
            without_literals.fill(u64::MAX);
        }
        Gate { automaton, patterns_of, without_literals, classes }
    }
}

impl Gate {
    /// How many words [`Gate::look`] writes.
    pub(crate) fn words(&self) -> usize {
        4 + self.without_literals.len()
    }

    /// Looks at a value once: the bytes in it, then a bit per pattern whose literals allow a match.
    pub(crate) fn look(&self, value: &[u8], words: &mut [u64]) {
        let mut bytes = ByteSet::default();
        for byte in value {
            bytes.add(*byte);
        }
        words[..4].copy_from_slice(&bytes.0);
        words[4..].copy_from_slice(&self.without_literals);
        let Some(automaton) = &self.automaton else { return };
        if value.len() < LITERAL_LEAST {
            return;
        }
        for found in automaton.find_overlapping_iter(value) {
            for pattern in &self.patterns_of[found.pattern().as_usize()] {
                words[4 + *pattern as usize / 64] |= 1 << (pattern % 64);
            }
        }
    }

    /// Whether a pattern can match a value, by what [`Gate::look`] wrote about it.
    #[inline]
    pub(crate) fn lets_in(&self, words: &[u64], gate: GateId) -> bool {
        words[4 + gate.0 as usize / 64] >> (gate.0 % 64) & 1 != 0
            && self.classes[gate.0 as usize].iter().all(|class| class.meets(&words[..4]))
    }
}

fn needs_of(pattern: &str) -> Option<Needs> {
    let mut parser = ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .dot_matches_new_line(true)
        .nest_limit(1000)
        .build();
    let hir = parser.parse(pattern).ok()?;
    let mut needs = part_of(&hir).finish();
    if needs.literals.as_ref().is_some_and(|literals| literals.len() > LITERALS_LIMIT) {
        needs.literals = None;
    }
    Some(needs)
}

impl Part {
    fn nothing() -> Self {
        Part { exact: None, needs: Needs::default() }
    }

    fn empty() -> Self {
        Part { exact: Some(vec![Vec::new()]), needs: Needs::default() }
    }

    /// The needs, with the exact strings as literals where they are the better ones.
    fn finish(mut self) -> Needs {
        if let Some(exact) = self.exact {
            self.needs.literals = better(self.needs.literals, usable(exact));
        }
        self.needs
    }
}

/// Strings as literals: all long enough, cut where they are too long.
fn usable(mut strings: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    if strings.is_empty() || strings.iter().any(|string| string.len() < LITERAL_LEAST) {
        return None;
    }
    for string in &mut strings {
        string.truncate(LITERAL_BYTES);
    }
    strings.sort_unstable();
    strings.dedup();
    Some(strings)
}

/// Of two sets of which either must be met, the one that lets less in.
fn better(a: Option<Vec<Vec<u8>>>, b: Option<Vec<Vec<u8>>>) -> Option<Vec<Vec<u8>>> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let rank = |set: &[Vec<u8>]| {
                let shortest = set.iter().map(Vec::len).min().unwrap_or(0);
                (shortest.min(5), std::cmp::Reverse(set.len()))
            };
            Some(if rank(&a) >= rank(&b) { a } else { b })
        }
        (a, b) => a.or(b),
    }
}

/// Keeps the narrowest classes.
fn keep_narrow(classes: &mut Vec<ByteSet>) {
    classes.retain(|class| class.size() < WIDE);
    classes.sort_by_key(ByteSet::size);
    classes.dedup();
    classes.truncate(CLASSES);
}

fn part_of(hir: &Hir) -> Part {
    match hir.kind() {
        HirKind::Empty => Part::empty(),
        // Nothing is consumed; what stands around may still be spelt out.
        HirKind::Look(_) => Part::empty(),
        HirKind::Literal(literal) => {
            let mut classes: Vec<ByteSet> = literal
                .0
                .iter()
                .map(|byte| {
                    let mut class = ByteSet::default();
                    class.add(*byte);
                    class
                })
                .collect();
            keep_narrow(&mut classes);
            Part {
                exact: Some(vec![literal.0.to_ascii_lowercase()]),
                needs: Needs { literals: None, classes },
            }
        }
        HirKind::Class(class) => class_part(class),
        HirKind::Capture(capture) => part_of(&capture.sub),
        HirKind::Repetition(repetition) => {
            let sub = part_of(&repetition.sub);
            match (repetition.min, repetition.max) {
                (0, Some(1)) => {
                    let exact = sub.exact.map(|mut exact| {
                        exact.push(Vec::new());
                        exact
                    });
                    Part {
                        exact: exact.filter(|exact| exact.len() <= EXACT_LIMIT),
                        needs: Needs::default(),
                    }
                }
                (0, _) => Part::nothing(),
                (1, Some(1)) => sub,
                _ => Part { exact: None, needs: sub.finish() },
            }
        }
        HirKind::Concat(parts) => concat(parts),
        HirKind::Alternation(branches) => alternation(branches),
    }
}

fn class_part(class: &Class) -> Part {
    let mut set = ByteSet::default();
    match class {
        Class::Bytes(class) => {
            for range in class.iter() {
                (range.start()..=range.end()).for_each(|byte| set.add(byte));
            }
        }
        Class::Unicode(class) => {
            if !class.is_ascii() {
                return Part::nothing();
            }
            for range in class.iter() {
                (range.start() as u8..=range.end() as u8).for_each(|byte| set.add(byte));
            }
        }
    }
    let mut strings: Vec<Vec<u8>> =
        set.bytes().map(|byte| vec![byte.to_ascii_lowercase()]).collect();
    strings.sort_unstable();
    strings.dedup();
    let mut classes = vec![set];
    keep_narrow(&mut classes);
    Part {
        exact: (!strings.is_empty() && strings.len() <= 8).then_some(strings),
        needs: Needs { literals: None, classes },
    }
}

fn concat(parts: &[Hir]) -> Part {
    let mut needs = Needs::default();
    // The strings that the parts since the last unknown one spell.
    let mut run: Vec<Vec<u8>> = vec![Vec::new()];
    let mut whole = true;
    for part in parts {
        let part = part_of(part);
        needs.classes.extend(part.needs.classes);
        needs.literals = better(needs.literals, part.needs.literals);
        match part.exact {
            Some(exact) if exact.len() * run.len() <= EXACT_LIMIT => {
                run = run
                    .iter()
                    .flat_map(|start| exact.iter().map(move |end| [&start[..], end].concat()))
                    .collect();
            }
            Some(exact) => {
                whole = false;
                needs.literals = better(needs.literals, usable(std::mem::replace(&mut run, exact)));
            }
            None => {
                whole = false;
                let ended = std::mem::replace(&mut run, vec![Vec::new()]);
                needs.literals = better(needs.literals, usable(ended));
            }
        }
    }
    keep_narrow(&mut needs.classes);
    if whole {
        return Part { exact: Some(run), needs };
    }
    needs.literals = better(needs.literals, usable(run));
    Part { exact: None, needs }
}

fn alternation(branches: &[Hir]) -> Part {
    let parts: Vec<Part> = branches.iter().map(part_of).collect();
    let count: usize = parts.iter().map(|part| part.exact.as_ref().map_or(0, Vec::len)).sum();
    let class = parts
        .iter()
        .map(|part| part.needs.classes.first().copied())
        .try_fold(ByteSet::default(), |all, class| class.map(|class| all.union(&class)));
    let mut classes: Vec<ByteSet> = class.into_iter().collect();
    keep_narrow(&mut classes);
    if count <= EXACT_LIMIT && parts.iter().all(|part| part.exact.is_some()) {
        let exact = parts.into_iter().filter_map(|part| part.exact).flatten().collect();
        return Part { exact: Some(exact), needs: Needs { literals: None, classes } };
    }
    let mut literals = Some(Vec::new());
    for part in parts {
        match (part.finish().literals, &mut literals) {
            (Some(more), Some(all)) => all.extend(more),
            _ => literals = None,
        }
    }
    if let Some(all) = &mut literals {
        all.sort_unstable();
        all.dedup();
    }
    Part { exact: None, needs: Needs { literals, classes } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lets_in(pattern: &str, value: &[u8]) -> bool {
        let mut builder = GateBuilder::default();
        let Some(gate) = builder.add(pattern) else { return true };
        let built = builder.build();
        let mut words = vec![0; built.words()];
        built.look(value, &mut words);
        built.lets_in(&words, gate)
    }

    #[test]
    fn values_without_what_a_match_needs_are_kept_out() {
        for (pattern, value) in [
            ("(?i)union.{0,9}select", &b"reunite"[..]),
            ("<script", b"a script"),
            ("[\"'][^a]", b"plain text"),
            ("(?:foo|ba[rz])", b"bat"),
            ("a+bc", b"ab c"),
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

    fn lines_under(folder: &std::path::Path, lines: &mut Vec<Vec<u8>>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                lines_under(&path, lines);
                continue;
            }
            let text = std::fs::read(&path).unwrap_or_default();
            lines.extend(text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        }
    }

    /// The gate must let in whatever matches: every gated pattern of CRS over every line of its tests and over mutations
    /// of them (halves joined, cases flipped, bytes replaced).
    #[test]
    fn no_match_of_a_crs_pattern_is_dropped() {
        use crate::rule::Test;
        use crate::{RuleSet, SourceFile};

        let shared = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/crs");
        let folder = shared.join("rules-v4.28.0/rules");
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
        lines_under(&shared.join("regression"), &mut lines);
        lines.sort_unstable();
        lines.dedup();

        let mut seed = 11_u64;
        let mut next = |limit: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % limit.max(1)
        };
        let mut values = lines.clone();
        for _ in 0..lines.len() / 2 {
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

        let mut patterns = Vec::new();
        for rule in &set.rules {
            for link in &rule.links {
                if let Test::Operator { operator, gate: Some(gate), .. } = &link.test {
                    patterns.push((rule.id, operator, *gate));
                }
            }
        }
        assert!(patterns.len() > 150, "{} patterns are gated", patterns.len());
        let mut words = vec![0; set.gate.words()];
        let (mut matches, mut kept_out) = (0_usize, 0_usize);
        for value in &values {
            set.gate.look(value, &mut words);
            for (id, operator, gate) in &patterns {
                let lets_in = set.gate.lets_in(&words, *gate);
                kept_out += usize::from(!lets_in);
                if operator.matches(value, None, None) {
                    matches += 1;
                    let text = String::from_utf8_lossy(value);
                    assert!(lets_in, "rule {id} matches and the gate dropped it: {text}");
                }
            }
        }
        println!(
            "gate: {} patterns, {} values, {matches} matches, {} % of pairs kept out",
            patterns.len(),
            values.len(),
            kept_out * 100 / (values.len() * patterns.len())
        );
        assert!(matches > 10_000);
    }
}
