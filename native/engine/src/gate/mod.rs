//! Which operators can match a value at all: one look at the value instead of one run per operator.
//!
//! A *probe* is an operator together with the list of transformations before it. A gate knows what the matches of each
//! of its probes must hold ([`needs`]). Each distinct byte string is looked at once: which bytes occur in it and which
//! literals (one automaton over those of all probes) give a bit per probe. A probe whose needs are not met cannot match,
//! so leaving it out changes no verdict.
//!
//! Source: `native-findings.md` sections 3.2, 3.3 and 3.6.

mod automaton;
mod bytes;
mod needs;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use automaton::LiteralAutomaton;
pub(crate) use bytes::ByteSet;
pub(crate) use needs::Needs;

use crate::store::{NodeId, TransformationTree};

/// Number of a probe in its rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeId(pub(crate) u32);

/// An operator whose matches need something, after a list of transformations.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) needs: Arc<Needs>,
    pub(crate) node: NodeId,
}

/// Bits of lists of transformations, numbered by [`Gate::nodes`].
pub(crate) type NodeBits = u128;
const NODES: usize = NodeBits::BITS as usize;

/// A probe without a bit.
const NO_BIT: u32 = u32::MAX;

/// A gate over some of the probes of a rule set.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Words of a row of bits.
    words: usize,
    automaton: Option<LiteralAutomaton>,
    /// The probes that ask for no literal.
    without_literals: Vec<u64>,
    /// Per slot the probes that have no class there.
    free: Vec<u64>,
    /// Per kind of byte, per slot: the probes whose class there holds such bytes.
    holders: Vec<u64>,
    /// Bytes that are in the same classes are of one kind.
    kinds: Vec<u8>,
    /// How many slots are in use.
    slots: usize,
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
        gate.slots = chosen.iter().map(|probe| probe.needs.classes.len()).max().unwrap_or(0);
        gate.without_literals = vec![0; gate.words];
        gate.free = vec![0; gate.slots * gate.words];
        gate.holders = vec![0; 256 * gate.slots * gate.words];
        gate.node_masks = vec![0; gate.nodes.len() * gate.words];
        let mut literals: HashMap<&[u8], Vec<u64>> = HashMap::new();
        for (bit, (probe, node)) in chosen.iter().zip(node_of).enumerate() {
            let (word, mask) = (bit / 64, 1_u64 << (bit % 64));
            gate.node_masks[node * gate.words + word] |= mask;
            match &probe.needs.literals {
                None => gate.without_literals[word] |= mask,
                Some(own) => {
                    for literal in own {
                        let row = literals.entry(literal).or_insert_with(|| vec![0; gate.words]);
                        row[word] |= mask;
                    }
                }
            }
            for slot in 0..gate.slots {
                match probe.needs.classes.get(slot) {
                    None => gate.free[slot * gate.words + word] |= mask,
                    Some(class) => {
                        for byte in class.bytes() {
                            let row = (usize::from(byte) * gate.slots + slot) * gate.words;
                            gate.holders[row + word] |= mask;
                        }
                    }
                }
            }
        }
        gate.merge_kinds();
        gate.fixed.2 = vec![0; gate.words];
        for (at, node) in gate.nodes.iter().enumerate() {
            let Some(bytes) = tree.changes(*node) else { continue };
            gate.fixed.0 |= 1 << at;
            gate.fixed.1 = gate.fixed.1.union(&bytes);
            let row = &gate.node_masks[at * gate.words..(at + 1) * gate.words];
            gate.fixed.2.iter_mut().zip(row).for_each(|(all, row)| *all |= row);
        }
        let mut literals: Vec<(Vec<u8>, Vec<u64>)> =
            literals.into_iter().map(|(literal, row)| (literal.to_vec(), row)).collect();
        literals.sort_unstable();
        gate.automaton = LiteralAutomaton::new(&literals, gate.words);
        if gate.automaton.is_none() {
            // Too large to build, or nothing to look for: no probe is kept out for want of a literal.
            gate.without_literals.fill(u64::MAX);
        }
        gate
    }

    /// Turns the rows per byte into rows per kind of byte.
    fn merge_kinds(&mut self) {
        let width = self.slots * self.words;
        let rows = std::mem::take(&mut self.holders);
        let mut kinds: HashMap<&[u64], u8> = HashMap::new();
        for byte in 0..256 {
            let row = &rows[byte * width..(byte + 1) * width];
            let next = kinds.len() as u8;
            let kind = *kinds.entry(row).or_insert_with(|| {
                self.holders.extend_from_slice(row);
                next
            });
            self.kinds.push(kind);
        }
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

    /// Looks at a byte string, whose bytes are known: the bit of every probe that may match it, whatever transformations
    /// stand before the probe.
    pub(crate) fn look(&self, value: &[u8], bytes: &ByteSet, row: &mut [u64]) {
        row.copy_from_slice(&self.without_literals);
        if let Some(automaton) = &self.automaton {
            automaton.search(value, row);
        }
        let width = self.slots * self.words;
        let mut met = [0_u64; MET_WORDS];
        let Some(met) = met.get_mut(..width) else { return };
        met.copy_from_slice(&self.free);
        let mut seen = ByteSet::default();
        for byte in bytes.bytes() {
            let kind = self.kinds[usize::from(byte)];
            if !seen.insert(kind) {
                continue;
            }
            let holders = &self.holders[usize::from(kind) * width..(usize::from(kind) + 1) * width];
            for (met, holders) in met.iter_mut().zip(holders) {
                *met |= holders;
            }
        }
        for met in met.chunks_exact(self.words.max(1)) {
            for (word, met) in row.iter_mut().zip(met) {
                *word &= met;
            }
        }
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.automaton.as_ref().map_or(0, LiteralAutomaton::bytes)
            + self.holders.len() * 8
            + self.bit_of.len() * 4
    }
}

/// Room for the slots of 1,024 probes; a gate with more goes by literals alone.
const MET_WORDS: usize = needs::CLASSES * 16;
