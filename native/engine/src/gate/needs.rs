//! What every match of an operator must hold, read off its argument at load.
//!
//! Every match of a pattern holds certain bytes: one of a set of literals (compared without regard to ASCII case), and
//! one byte of each of some classes. For `@rx` both are read off the syntax tree; phrases are their own literals; the
//! validating operators are classes.
//!
//! Source: `native-findings.md` sections 3.2 and 3.3 (measured: literals of two bytes and more, with byte classes).

use regex_syntax::hir::{Class, Hir, HirKind};
use regex_syntax::ParserBuilder;

use crate::bytes::{ByteClasses, ByteSet};
use crate::operator::{Evidence, Operator};

/// How many strings a part of a pattern may stand for, to be spelt out.
const EXACT_LIMIT: usize = 64;
/// How many literals one pattern may contribute.
const LITERALS_LIMIT: usize = 1000;
/// How long a literal needs to be at most: longer ones are cut, which only weakens the gate.
const LITERAL_BYTES: usize = 12;
/// The same for phrases, whose beginnings are often alike.
const PHRASE_BYTES: usize = 12;
/// Shorter literals say too little, but for rare bytes.
const LITERAL_LEAST: usize = 2;
/// How many byte classes are kept per pattern.
pub(super) const CLASSES: usize = 4;
/// A class this wide says nothing.
const WIDE: u32 = 200;

/// What the matches of an operator hold: in any value, and in values of plain bytes alone.
///
/// Most values are plain, and in those a pattern shrinks to little: what stands for quotes, brackets and escapes between
/// the letters of a command's name cannot occur, and what is left are the names. The second set of needs is that of the
/// pattern without all that it cannot match in plain bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidences {
    pub(crate) any: Needs,
    /// `None`: nothing matches in a plain value.
    pub(crate) plain: Option<Needs>,
}

/// What every match of a pattern holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// One of these, in lower case; `None`: nothing is known.
    pub(crate) literals: Option<Vec<Vec<u8>>>,
    /// One byte of each.
    pub(crate) classes: Vec<ByteSet>,
}

/// A part of a pattern: all it can be, if that is little, and what it needs.
struct Part {
    /// The strings it stands for, in lower case.
    exact: Option<Vec<Vec<u8>>>,
    needs: Needs,
}

/// The bytes that ordinary text consists of: no quote, bracket, escape or control character.
pub(crate) fn plain_bytes() -> ByteSet {
    let mut set = ByteSet::default();
    (0..=255_u8)
        .filter(|byte| byte.is_ascii_alphanumeric() || PLAIN_MARKS.contains(byte) || *byte >= 0x80)
        .for_each(|byte| set.add(byte));
    set
}

/// The same as classes.
pub(crate) fn plain_classes() -> ByteClasses {
    let bytes: Vec<u8> = plain_bytes().bytes().collect();
    ByteClasses::of(&bytes)
}

const PLAIN_MARKS: &[u8] = b" _-.,:/@+?=";

impl Evidences {
    /// What a match of an operator needs; `None` when nothing can be said.
    pub(crate) fn of(operator: &Operator) -> Option<Evidences> {
        let plain = plain_bytes();
        match operator.evidence() {
            Evidence::Pattern(pattern) => {
                let hir = parse(pattern)?;
                let any = part_of(&hir, &ByteSet::full()).map(needs_of).unwrap_or_default();
                let plain = part_of(&hir, &plain).map(needs_of);
                Some(Evidences { any, plain })
            }
            Evidence::Phrases(phrases) => {
                let among = |set: &ByteSet| -> Vec<Vec<u8>> {
                    let holds = |phrase: &&Vec<u8>| phrase.iter().all(|byte| set.holds(*byte));
                    phrases.iter().filter(holds).cloned().collect()
                };
                let needs = |phrases: Vec<Vec<u8>>| Needs {
                    literals: usable(phrases, PHRASE_BYTES),
                    classes: Vec::new(),
                };
                let any = needs(phrases.to_vec());
                let plain = Some(among(&plain)).filter(|phrases| !phrases.is_empty()).map(needs);
                Some(Evidences { any, plain })
            }
            Evidence::OneByteOf(table) => {
                let mut class = ByteSet::default();
                (0..=255_u8)
                    .filter(|byte| table[usize::from(*byte)])
                    .for_each(|byte| class.add(byte));
                let needs = |class| Needs { literals: None, classes: vec![class] };
                let both = class.intersection(&plain);
                let plain = (both.size() > 0).then(|| needs(both));
                Some(Evidences { any: needs(class), plain })
            }
            Evidence::None => None,
        }
        .filter(|evidences| evidences.any.says_something() || evidences.plain_says_something())
    }

    fn plain_says_something(&self) -> bool {
        self.plain.as_ref().is_none_or(Needs::says_something)
    }
}

impl Needs {
    fn says_something(&self) -> bool {
        self.literals.is_some() || !self.classes.is_empty()
    }
}

fn parse(pattern: &str) -> Option<Hir> {
    let mut parser = ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .dot_matches_new_line(true)
        .nest_limit(1000)
        .build();
    parser.parse(pattern).ok()
}

fn needs_of(part: Part) -> Needs {
    let mut needs = part.finish();
    if needs.literals.as_ref().is_some_and(|literals| literals.len() > LITERALS_LIMIT) {
        needs.literals = None;
    }
    needs
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
            self.needs.literals = better(self.needs.literals, usable(exact, LITERAL_BYTES));
        }
        self.needs
    }
}

/// Strings as literals: all long enough, cut where they are too long.
fn usable(mut strings: Vec<Vec<u8>>, most_bytes: usize) -> Option<Vec<Vec<u8>>> {
    let says_much = |string: &Vec<u8>| match string.as_slice() {
        [byte] => !byte.is_ascii_alphanumeric() && !b" _-.,".contains(byte),
        string => string.len() >= LITERAL_LEAST,
    };
    if strings.is_empty() || !strings.iter().all(says_much) {
        return None;
    }
    for string in &mut strings {
        string.truncate(most_bytes);
        string.make_ascii_lowercase();
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

/// How often values hold one of the bytes, about: letters are in most, digits in many, marks in few.
fn commonness(class: &ByteSet) -> u32 {
    let common = |byte: u8| match byte {
        b'a'..=b'z' => 16,
        b'A'..=b'Z' | b'0'..=b'9' | b' ' => 8,
        b'-' | b'.' | b'/' | b'_' => 4,
        _ => 1,
    };
    class.bytes().map(common).sum()
}

/// Keeps the classes of which values hold the least.
fn keep_narrow(classes: &mut Vec<ByteSet>) {
    classes.retain(|class| class.size() < WIDE);
    classes.sort_by_key(commonness);
    classes.dedup();
    classes.truncate(CLASSES);
}

/// What a part can be in values of these bytes; `None` when it cannot match in any.
fn part_of(hir: &Hir, bytes: &ByteSet) -> Option<Part> {
    Some(match hir.kind() {
        HirKind::Empty => Part::empty(),
        // Nothing is consumed; what stands around may still be spelt out.
        HirKind::Look(_) => Part::empty(),
        HirKind::Literal(literal) => {
            if !literal.0.iter().all(|byte| bytes.holds(*byte)) {
                return None;
            }
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
        HirKind::Class(class) => return class_part(class, bytes),
        HirKind::Capture(capture) => return part_of(&capture.sub, bytes),
        HirKind::Repetition(repetition) => {
            let Some(sub) = part_of(&repetition.sub, bytes) else {
                return (repetition.min == 0).then(Part::empty);
            };
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
        HirKind::Concat(parts) => {
            let parts: Option<Vec<Part>> = parts.iter().map(|part| part_of(part, bytes)).collect();
            concat(parts?)
        }
        HirKind::Alternation(branches) => {
            let parts: Vec<Part> =
                branches.iter().filter_map(|branch| part_of(branch, bytes)).collect();
            if parts.is_empty() {
                return None;
            }
            alternation(parts)
        }
    })
}

fn class_part(class: &Class, bytes: &ByteSet) -> Option<Part> {
    let mut set = ByteSet::default();
    match class {
        Class::Bytes(class) => {
            for range in class.iter() {
                (range.start()..=range.end()).for_each(|byte| set.add(byte));
            }
        }
        Class::Unicode(class) => {
            if !class.is_ascii() {
                return Some(Part::nothing());
            }
            for range in class.iter() {
                (range.start() as u8..=range.end() as u8).for_each(|byte| set.add(byte));
            }
        }
    }
    let set = set.intersection(bytes);
    if set.size() == 0 {
        return None;
    }
    let mut strings: Vec<Vec<u8>> =
        set.bytes().map(|byte| vec![byte.to_ascii_lowercase()]).collect();
    strings.sort_unstable();
    strings.dedup();
    let mut classes = vec![set];
    keep_narrow(&mut classes);
    Some(Part {
        exact: (!strings.is_empty() && strings.len() <= 8).then_some(strings),
        needs: Needs { literals: None, classes },
    })
}

fn concat(parts: Vec<Part>) -> Part {
    let mut needs = Needs::default();
    // The strings that the parts since the last unknown one spell.
    let mut run: Vec<Vec<u8>> = vec![Vec::new()];
    let mut whole = true;
    for part in parts {
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
                needs.literals = better(
                    needs.literals,
                    usable(std::mem::replace(&mut run, exact), LITERAL_BYTES),
                );
            }
            None => {
                whole = false;
                let ended = std::mem::replace(&mut run, vec![Vec::new()]);
                needs.literals = better(needs.literals, usable(ended, LITERAL_BYTES));
            }
        }
    }
    keep_narrow(&mut needs.classes);
    if whole {
        return Part { exact: Some(run), needs };
    }
    needs.literals = better(needs.literals, usable(run, LITERAL_BYTES));
    Part { exact: None, needs }
}

fn alternation(parts: Vec<Part>) -> Part {
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
