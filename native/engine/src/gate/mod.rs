//! Which operators can match a value at all: one look at the value instead of one run per operator.
//!
//! A *probe* is an operator together with the list of transformations before it. A gate knows what the matches of each
//! of its probes must hold ([`needs`]), in any value and in values of plain bytes. The classes of bytes that occur in a
//! value decide which probes have a chance in it and which lists of transformations may yield more ([`Decision`]); most
//! values share their classes with others, so this is decided once for many. Then one look at the value tells which
//! literals occur in it (one automaton over those of all probes). A probe whose needs are not met cannot match, so leaving
//! it out changes no verdict.
//!
//! Source: `native-findings.md` sections 3.2, 3.3 and 3.6.

mod automaton;
mod knowledge;
mod needs;
mod row_cache;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use automaton::{Literal, LiteralAutomaton};
pub(crate) use knowledge::Knowledge;
pub(crate) use needs::{Evidences, Needs};
pub(crate) use row_cache::{Place, RowKey};

use crate::bytes::{ByteClasses, ByteSet};
use crate::transformation::{Transformation, WHITE_BYTES};
use crate::transformation_tree::{NodeId, Step, TransformationTree};

/// Number of a probe in its rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeId(pub(crate) u32);

/// An operator whose matches need something, after a list of transformations.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) needs: Arc<Evidences>,
    pub(crate) node: NodeId,
}

/// Bits of lists of transformations, numbered by [`Gate::nodes`].
pub(crate) type NodeBits = u128;
const NODES: usize = NodeBits::BITS as usize;

/// A probe without a bit.
const NO_BIT: u32 = u32::MAX;

/// What kind of value is looked at: needs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    /// Of plain bytes alone.
    Plain,
}

/// What the probes of a gate need of one kind of value.
#[derive(Debug, Default)]
struct Sieve {
    /// The probes that ask for no literal.
    without_literals: Vec<u64>,
    /// Per probe where its classes begin in `classes`, and where the last one's end.
    starts: Vec<u32>,
    /// A byte of each must occur; the narrowest comes first.
    classes: Vec<ByteSet>,
    /// Per probe the letters of its literals' beginnings, of which all of one must occur; none when they are too many.
    spellings: Vec<Vec<ByteSet>>,
}

/// How many different sets of letters are tried in place of a search for literals.
const SPELLINGS: usize = 64;
/// How many bytes of a literal are its beginning.
const SPELLING_BYTES: usize = 6;

/// The letters of literals' beginnings, without those that hold others.
fn spellings(literals: &[Vec<u8>]) -> Vec<ByteSet> {
    let beginning = |literal: &Vec<u8>| ByteSet::of(&literal[..literal.len().min(SPELLING_BYTES)]);
    let mut all: Vec<ByteSet> = literals.iter().map(beginning).collect();
    all.sort_by_key(ByteSet::size);
    let mut least: Vec<ByteSet> = Vec::new();
    for set in all {
        if !least.iter().any(|known| known.is_within(&set)) {
            least.push(set);
        }
    }
    if least.len() > SPELLINGS {
        least.clear();
    }
    least
}

impl Sieve {
    #[inline]
    fn may_match(&self, bit: usize, bytes: &ByteSet) -> bool {
        let classes = &self.classes[self.starts[bit] as usize..self.starts[bit + 1] as usize];
        classes.iter().all(|class| class.meets(bytes))
    }

    /// Whether values of no other bytes may have all that the probe needs.
    fn may_match_any(&self, bit: usize, bytes: &ByteSet, lower_case: &ByteSet) -> bool {
        let spellings = &self.spellings[bit];
        self.may_match(bit, bytes)
            && (spellings.is_empty() || spellings.iter().any(|set| set.is_within(lower_case)))
    }
}

/// Which probes a look is for. The fewer, the fewer literals there are to find, and the more of the automaton fits in the
/// processor's nearest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All.
    All,
    /// Those behind lists that decode or encode the value as a whole, as base64.
    Recoded,
    /// Those behind lists that take white space away.
    Squeezed,
}

impl Scope {
    pub(crate) const COUNT: usize = 3;

    fn of(list: &[Transformation]) -> Self {
        use Transformation as T;
        let recodes = |step: &Transformation| {
            matches!(
                step,
                T::Base64Decode
                    | T::Base64DecodeExt
                    | T::Base64Encode
                    | T::HexDecode
                    | T::HexEncode
                    | T::Length
                    | T::Md5
                    | T::Sha1
            )
        };
        match list {
            list if list.iter().any(recodes) => Scope::Recoded,
            list if list.contains(&T::RemoveWhitespace) => Scope::Squeezed,
            _ => Scope::All,
        }
    }
}

/// Finds the literals of a scope, in any value and in plain ones. Plain values hold few different bytes, so that the table
/// has half the columns.
#[derive(Debug, Default)]
struct Finder {
    any: Option<LiteralAutomaton<6>>,
    plain: Option<LiteralAutomaton<5>>,
}

/// What the classes of bytes in a value decide about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decision {
    /// The lists that were asked about.
    pub(crate) nodes: NodeBits,
    /// Those whose results must be looked at, by their places, with the forms they yield: they may change the value, and
    /// something may match what they make of it.
    pub(crate) rest: Vec<(u8, u16)>,
    /// The steps towards these forms.
    pub(crate) steps: Vec<Step>,
    /// The probes behind lists that leave the value as it is, which the bytes do not rule out.
    pub(crate) possible: Vec<u64>,
}

/// A gate over some of the probes of a rule set.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Different for each gate of this process.
    stamp: u64,
    /// Words of a row of bits.
    words: usize,
    finders: [Finder; Scope::COUNT],
    /// That of squeezed values for values whose white space still stands in them.
    squeezing: Finder,
    sieves: [Sieve; 2],
    plain: ByteClasses,
    /// Per probe of the rule set its bit.
    bit_of: Vec<u32>,
    /// Per probe of the rule set the bit of its list of transformations.
    node_of: Vec<NodeBits>,
    /// The lists of transformations before its probes, and the scopes of their results.
    nodes: Vec<(NodeId, Scope)>,
    /// Per such list its probes.
    node_masks: Vec<u64>,
}

impl Gate {
    /// A gate for the probes in `live`, numbers into `probes`.
    pub(crate) fn new(probes: &[Probe], live: &[ProbeId], tree: &TransformationTree) -> Self {
        static GATES: AtomicU64 = AtomicU64::new(1);
        let mut gate = Gate {
            stamp: GATES.fetch_add(1, Ordering::Relaxed),
            plain: needs::plain_classes(),
            bit_of: vec![NO_BIT; probes.len()],
            node_of: vec![0; probes.len()],
            ..Gate::default()
        };
        let mut chosen: Vec<&Probe> = Vec::new();
        let mut node_of: Vec<usize> = Vec::new();
        for id in live {
            let probe = &probes[id.0 as usize];
            if gate.bit_of[id.0 as usize] != NO_BIT {
                continue;
            }
            let node = match gate.nodes.iter().position(|(known, _)| *known == probe.node) {
                Some(node) => node,
                None if gate.nodes.len() < NODES => {
                    gate.nodes.push((probe.node, Scope::of(&tree.list(probe.node))));
                    gate.nodes.len() - 1
                }
                // More lists than bits: such a probe is always let in.
                None => continue,
            };
            gate.bit_of[id.0 as usize] = chosen.len() as u32;
            gate.node_of[id.0 as usize] = 1 << node;
            chosen.push(probe);
            node_of.push(node);
        }
        gate.words = chosen.len().div_ceil(64);
        gate.node_masks = vec![0; gate.nodes.len() * gate.words];
        for (bit, node) in node_of.into_iter().enumerate() {
            gate.node_masks[node * gate.words + bit / 64] |= 1 << (bit % 64);
        }
        let mut literals: BTreeMap<&[u8], [Vec<u64>; 2]> = BTreeMap::new();
        for kind in [Kind::Any, Kind::Plain] {
            let needs = chosen.iter().map(|probe| match kind {
                Kind::Any => Some(&probe.needs.any),
                Kind::Plain => probe.needs.plain.as_ref(),
            });
            gate.sieves[kind as usize] = sieve(needs, kind, gate.words, &mut literals);
        }
        for scope in [Scope::All, Scope::Recoded, Scope::Squeezed] {
            let mut mask = vec![0; gate.words];
            for (node, (_, own)) in gate.nodes.iter().enumerate() {
                if scope == Scope::All || *own == scope {
                    mask.iter_mut().zip(gate.node_mask(node)).for_each(|(all, row)| *all |= row);
                }
            }
            let of_kind = |kind: Kind| -> Vec<Literal<'_>> {
                let row = |rows: &[Vec<u64>; 2]| -> Vec<u64> {
                    rows[kind as usize].iter().zip(&mask).map(|(row, mask)| row & mask).collect()
                };
                let all = literals.iter().map(|(literal, rows)| (*literal, row(rows)));
                all.filter(|(_, row)| row.iter().any(|word| *word != 0)).collect()
            };
            gate.finders[scope as usize] = Finder {
                any: LiteralAutomaton::new(&of_kind(Kind::Any), gate.words, &[]),
                plain: LiteralAutomaton::new(&of_kind(Kind::Plain), gate.words, &[]),
            };
            if scope == Scope::Squeezed {
                let without_white = |kind: Kind| {
                    let mut literals = of_kind(kind);
                    literals
                        .retain(|(text, _)| !text.iter().any(|byte| WHITE_BYTES.contains(byte)));
                    literals
                };
                gate.squeezing = Finder {
                    any: LiteralAutomaton::new(&without_white(Kind::Any), gate.words, WHITE_BYTES),
                    plain: LiteralAutomaton::new(
                        &without_white(Kind::Plain),
                        gate.words,
                        WHITE_BYTES,
                    ),
                };
            }
        }
        gate
    }

    /// A number that no other gate of this process has.
    #[inline]
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }

    /// The bit of the list of transformations before a probe; 0 when the probe has no bit.
    #[inline]
    pub(crate) fn nodes_of(&self, probe: ProbeId) -> NodeBits {
        self.node_of[probe.0 as usize]
    }

    /// How many words a row has.
    #[inline]
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// A list of transformations before its probes, by its place, and the scope of its results.
    pub(crate) fn node(&self, node: usize) -> (NodeId, Scope) {
        self.nodes[node]
    }

    /// The probes behind a list, by its place in [`Gate::nodes`].
    pub(crate) fn node_mask(&self, node: usize) -> &[u64] {
        &self.node_masks[node * self.words..(node + 1) * self.words]
    }

    /// What is to be done about values of these classes of bytes behind the lists in `nodes`. `is_calm`: their blanks
    /// stand alone.
    pub(crate) fn decide(
        &self,
        classes: ByteClasses,
        is_calm: bool,
        nodes: NodeBits,
        tree: &TransformationTree,
    ) -> Decision {
        let bytes = classes.bytes();
        let mut decision = Decision { nodes, possible: vec![0; self.words], ..Decision::default() };
        let mut same = vec![0; self.words];
        let mut steps = tree.steps(&bytes, is_calm);
        let mut left = nodes;
        while left != 0 {
            let index = left.trailing_zeros() as usize;
            left &= left - 1;
            let node = self.nodes[index].0;
            let mask = self.node_mask(index);
            let is_changed = tree.may_change(node, &bytes, is_calm);
            let output = if is_changed { tree.output_bytes(node, &bytes) } else { None };
            if !is_changed {
                same.iter_mut().zip(mask).for_each(|(all, mask)| *all |= mask);
            } else if output.is_none_or(|set| self.may_match_any(mask, &set)) {
                decision.rest.push((index as u8, steps.add(node)));
            }
        }
        decision.steps = steps.finish();
        self.sift(&same, &bytes, &mut decision.possible);
        decision
    }

    /// Word and mask of a probe's bit; `None` when it is always let in.
    #[inline]
    pub(crate) fn bit(&self, probe: ProbeId) -> Option<(usize, u64)> {
        match self.bit_of.get(probe.0 as usize) {
            Some(&bit) if bit != NO_BIT => Some((bit as usize / 64, 1 << (bit % 64))),
            _ => None,
        }
    }

    /// Whether a row has a probe's bit.
    #[inline]
    pub(crate) fn lets_in(&self, row: &[u64], probe: ProbeId) -> bool {
        self.bit(probe).is_none_or(|(word, mask)| row[word] & mask != 0)
    }

    #[inline]
    fn kind(&self, bytes: &ByteSet) -> Kind {
        if bytes.is_within(&self.plain.bytes()) {
            Kind::Plain
        } else {
            Kind::Any
        }
    }

    /// Looks for literals in a value, whose classes of bytes are known: the bit of every probe of the scope that lacks
    /// none, whatever transformations stand before the probe.
    pub(crate) fn look(&self, value: &[u8], classes: ByteClasses, scope: Scope, row: &mut [u64]) {
        self.look_with(&self.finders[scope as usize], value, classes, row);
    }

    /// The same for the probes behind lists that take white space away, of a value from which it is still to be taken.
    /// `classes` are those of what remains.
    pub(crate) fn look_squeezing(&self, value: &[u8], classes: ByteClasses, row: &mut [u64]) {
        self.look_with(&self.squeezing, value, classes, row);
    }

    fn look_with(&self, finder: &Finder, value: &[u8], classes: ByteClasses, row: &mut [u64]) {
        let is_plain = classes.is_within(self.plain);
        let kind = if is_plain { Kind::Plain } else { Kind::Any };
        row.copy_from_slice(&self.sieves[kind as usize].without_literals);
        if let (true, Some(automaton)) = (is_plain, &finder.plain) {
            automaton.search(value, row);
        } else if let (false, Some(automaton)) = (is_plain, &finder.any) {
            automaton.search(value, row);
        }
    }

    /// Adds to `row` the probes of `mask` that lack no byte in a value of these bytes.
    #[inline]
    pub(crate) fn sift(&self, mask: &[u64], bytes: &ByteSet, row: &mut [u64]) {
        let sieve = &self.sieves[self.kind(bytes) as usize];
        for (word, (mask, row)) in mask.iter().zip(row).enumerate() {
            let mut rest = mask & !*row;
            while rest != 0 {
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                *row |= u64::from(sieve.may_match(word * 64 + bit as usize, bytes)) << bit;
            }
        }
    }

    /// Whether one of the probes in `mask` may match a value that holds none but these bytes, as far as the letters of
    /// its literals tell.
    pub(crate) fn may_match_any(&self, mask: &[u64], bytes: &ByteSet) -> bool {
        let sieve = &self.sieves[self.kind(bytes) as usize];
        let lower_case = bytes.lower_case();
        mask.iter().enumerate().any(|(word, mask)| {
            let mut rest = *mask;
            while rest != 0 {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                if sieve.may_match_any(word * 64 + bit, bytes, &lower_case) {
                    return true;
                }
            }
            false
        })
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let classes = self.sieves.iter().map(|sieve| sieve.classes.len() * size_of::<ByteSet>());
        let finders = self.finders.iter().chain([&self.squeezing]).map(|finder| {
            finder.any.as_ref().map_or(0, LiteralAutomaton::bytes)
                + finder.plain.as_ref().map_or(0, LiteralAutomaton::bytes)
        });
        finders.sum::<usize>() + classes.sum::<usize>() + self.bit_of.len() * 4
    }
}

/// What probes need of one kind of value; their literals are added to those of all.
fn sieve<'a>(
    needs: impl Iterator<Item = Option<&'a Needs>>,
    kind: Kind,
    words: usize,
    literals: &mut BTreeMap<&'a [u8], [Vec<u64>; 2]>,
) -> Sieve {
    let mut sieve = Sieve { without_literals: vec![0; words], starts: vec![0], ..Sieve::default() };
    for (bit, needs) in needs.enumerate() {
        let (word, mask) = (bit / 64, 1_u64 << (bit % 64));
        match needs {
            // Nothing matches: a byte of the empty class is in no value.
            None => {
                sieve.classes.push(ByteSet::default());
                sieve.spellings.push(Vec::new());
            }
            Some(needs) => {
                sieve.classes.extend(&needs.classes);
                sieve.spellings.push(needs.literals.as_deref().map_or_else(Vec::new, spellings));
                match &needs.literals {
                    None => sieve.without_literals[word] |= mask,
                    Some(own) => {
                        for literal in own {
                            let rows = literals
                                .entry(literal)
                                .or_insert_with(|| [vec![0; words], vec![0; words]]);
                            rows[kind as usize][word] |= mask;
                        }
                    }
                }
            }
        }
        sieve.starts.push(sieve.classes.len() as u32);
    }
    sieve
}
