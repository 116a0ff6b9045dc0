//! Which operators can match a value at all: one look at the value instead of one run per operator.
//!
//! A *probe* is an operator together with the list of transformations before it. A gate knows what the matches of each
//! of its probes must hold ([`needs`]), in any value and in values of plain bytes. Each distinct byte string is looked at
//! once: which literals (one automaton over those of all probes) occur in it gives a bit per probe, and the bytes that
//! occur in it sift those. A probe whose needs are not met cannot match, so leaving it out changes no verdict.
//!
//! Source: `native-findings.md` sections 3.2, 3.3 and 3.6.

mod automaton;
mod bytes;
mod needs;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use automaton::LiteralAutomaton;
pub(crate) use bytes::ByteSet;
pub(crate) use needs::{Evidences, Needs};

use crate::store::{NodeId, TransformationTree};

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

/// A gate over some of the probes of a rule set.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Words of a row of bits.
    words: usize,
    automaton: Option<LiteralAutomaton>,
    sieves: [Sieve; 2],
    plain: ByteSet,
    /// Per probe of the rule set its bit.
    bit_of: Vec<u32>,
    /// Per probe of the rule set the bit of its list of transformations.
    node_of: Vec<NodeBits>,
    /// The lists of transformations before its probes.
    nodes: Vec<NodeId>,
    /// Per such list its probes.
    node_masks: Vec<u64>,
    /// The lists that leave values as they are which hold none of these bytes; the probes behind them.
    fixed: (NodeBits, ByteSet, Vec<u64>),
}

impl Gate {
    /// A gate for the probes in `live`, numbers into `probes`.
    pub(crate) fn new(probes: &[Probe], live: &[ProbeId], tree: &TransformationTree) -> Self {
        let mut gate = Gate {
            plain: needs::plain_bytes(),
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
            let node = match gate.nodes.iter().position(|known| *known == probe.node) {
                Some(node) => node,
                None if gate.nodes.len() < NODES => {
                    gate.nodes.push(probe.node);
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
        gate.fixed.2 = vec![0; gate.words];
        for (at, node) in gate.nodes.iter().enumerate() {
            let Some(bytes) = tree.changes(*node) else { continue };
            gate.fixed.0 |= 1 << at;
            gate.fixed.1 = gate.fixed.1.union(&bytes);
            let row = &gate.node_masks[at * gate.words..(at + 1) * gate.words];
            gate.fixed.2.iter_mut().zip(row).for_each(|(all, row)| *all |= row);
        }
        let literals: Vec<(&[u8], [Vec<u64>; 2])> = literals.into_iter().collect();
        gate.automaton = LiteralAutomaton::new(&literals, gate.words);
        if gate.automaton.is_none() {
            // Too large to build, or nothing to look for: no probe is kept out for want of a literal.
            for bit in 0..chosen.len() {
                for sieve in &mut gate.sieves {
                    sieve.without_literals[bit / 64] |= 1 << (bit % 64);
                }
            }
        }
        gate
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

    /// The lists of transformations before its probes.
    pub(crate) fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The probes behind a list, by its place in [`Gate::nodes`].
    pub(crate) fn node_mask(&self, node: usize) -> &[u64] {
        &self.node_masks[node * self.words..(node + 1) * self.words]
    }

    /// The lists that leave a value of these bytes as it is, if `nodes` holds them all and one look tells; and the probes
    /// behind them.
    #[inline]
    pub(crate) fn fixed(&self, nodes: NodeBits, bytes: &ByteSet) -> (NodeBits, Option<&[u64]>) {
        let (lists, changes, probes) = &self.fixed;
        let holds = !changes.meets(bytes) && nodes.count_ones() > 1;
        (*lists, holds.then_some(probes))
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
        if bytes.is_within(&self.plain) {
            Kind::Plain
        } else {
            Kind::Any
        }
    }

    /// Looks for literals in a value, whose bytes are known: the bit of every probe that lacks none, whatever
    /// transformations stand before the probe.
    pub(crate) fn look(&self, value: &[u8], bytes: &ByteSet, row: &mut [u64]) {
        let kind = self.kind(bytes);
        row.copy_from_slice(&self.sieves[kind as usize].without_literals);
        if let Some(automaton) = &self.automaton {
            automaton.search(value, kind as usize, row);
        }
    }

    /// Adds to `row` those of `looked`, which [`Gate::look`] gave for a value of these bytes, that are in `mask` and lack
    /// no byte.
    #[inline]
    pub(crate) fn sift(&self, looked: &[u64], mask: &[u64], bytes: &ByteSet, row: &mut [u64]) {
        let sieve = &self.sieves[self.kind(bytes) as usize];
        for (word, ((looked, mask), row)) in looked.iter().zip(mask).zip(row).enumerate() {
            let mut rest = looked & mask & !*row;
            while rest != 0 {
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                *row |= u64::from(sieve.may_match(word * 64 + bit as usize, bytes)) << bit;
            }
        }
    }

    /// Whether a probe behind a list, by the list's place in [`Gate::nodes`], may match a value that holds none but these
    /// bytes.
    pub(crate) fn any_behind(&self, node: usize, bytes: &ByteSet) -> bool {
        let sieve = &self.sieves[self.kind(bytes) as usize];
        let lower_case = bytes.lower_case();
        self.node_mask(node).iter().enumerate().any(|(word, mask)| {
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
        self.automaton.as_ref().map_or(0, LiteralAutomaton::bytes)
            + classes.sum::<usize>()
            + self.bit_of.len() * 4
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
