//! All byte strings of one transaction: each distinct string is kept once, and so is each of its transformed forms.
//!
//! Rules name strings by [`ValueId`]; two ids that this table gives out for equal bytes are equal (but for hash
//! collisions, which cost a second entry and nothing else). A transformation that leaves its input as it is yields the
//! same id, so later stages see at once that there is nothing new to look at.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::OnceLock;

use crate::gate::{ByteSet, Gate, NodeBits};
use crate::transformation::{Transformation, TransformationContext};

/// A byte string of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ValueId(pub(crate) u32);

impl ValueId {
    /// The empty string, present in every store.
    pub(crate) const EMPTY: ValueId = ValueId(0);
}

/// A piece of the store's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

/// The steps that transformation lists are made of, numbered densely over a whole rule set.
///
/// A node of the tree is a list of transformations: its parent's list and one more. Node 0 is the empty list.
#[derive(Debug, Default)]
pub(crate) struct TransformationTree {
    nodes: Vec<Node>,
    /// The distinct transformations in use.
    transformations: Vec<Transformation>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    parent: NodeId,
    /// Index into `transformations`.
    transformation: u16,
    /// The list leaves a value as it is that holds none of these; `None`: it may change any.
    changes: Option<ByteSet>,
}

/// A list of transformations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(u16);

impl NodeId {
    /// The empty list.
    pub(crate) const ROOT: NodeId = NodeId(0);
}

impl TransformationTree {
    /// The node of a list; new lists are added.
    pub(crate) fn insert(&mut self, list: &[Transformation]) -> NodeId {
        let mut at = NodeId::ROOT;
        for transformation in list {
            let known = self.transformations.iter().position(|known| known == transformation);
            let index = known.unwrap_or_else(|| {
                self.transformations.push(*transformation);
                self.transformations.len() - 1
            }) as u16;
            let before = match at {
                NodeId::ROOT => Some(ByteSet::default()),
                NodeId(node) => self.nodes[usize::from(node) - 1].changes,
            };
            let changes = before.and_then(|before| Some(before.union(&changes(*transformation)?)));
            let node = Node { parent: at, transformation: index, changes };
            let existing = self
                .nodes
                .iter()
                .position(|known| known.parent == at && known.transformation == index);
            let position = existing.unwrap_or_else(|| {
                self.nodes.push(node);
                self.nodes.len() - 1
            });
            at = NodeId(position as u16 + 1);
        }
        at
    }

    /// The nodes from the first step to `node`.
    pub(crate) fn path(&self, node: NodeId) -> Vec<NodeId> {
        let mut path = Vec::new();
        let mut at = node;
        while at != NodeId::ROOT {
            path.push(at);
            at = self.nodes[usize::from(at.0) - 1].parent;
        }
        path.reverse();
        path
    }

    /// The bytes without which a list leaves a value as it is; `None`: it may change any.
    pub(crate) fn changes(&self, node: NodeId) -> Option<ByteSet> {
        match node {
            NodeId::ROOT => Some(ByteSet::default()),
            NodeId(node) => self.nodes[usize::from(node) - 1].changes,
        }
    }

    /// Whether a list may change a value that consists of these bytes.
    #[inline]
    fn may_change(&self, node: NodeId, bytes: &ByteSet) -> bool {
        match node {
            NodeId::ROOT => false,
            NodeId(node) => {
                self.nodes[usize::from(node) - 1].changes.is_none_or(|set| set.meets(bytes))
            }
        }
    }
}

/// The bytes of which a value must hold one for a transformation to change it.
fn changes(transformation: Transformation) -> Option<ByteSet> {
    let mut set = ByteSet::default();
    (0..=255).filter(|byte| transformation.may_change(*byte)).for_each(|byte| set.add(byte));
    (set.size() < 256).then_some(set)
}

const UNKNOWN: u32 = u32::MAX;
/// How many bytes a store holds at most; strings beyond that are empty. Spans are 32 bits wide.
const CAPACITY: usize = u32::MAX as usize - 1;

/// Which gate a value is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// That of phases 1 and 2.
    Request,
    /// That of phases 3 to 5.
    Response,
}

impl Side {
    pub(crate) fn of_phase(phase: u8) -> Self {
        if phase <= 2 {
            Side::Request
        } else {
            Side::Response
        }
    }
}

/// The byte strings of one transaction.
#[derive(Debug)]
pub(crate) struct Store {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// Hash of the bytes to the newest value with that hash.
    index: HashMap<u64, u32, BuildHasherDefault<Identity>>,
    /// Results of transformations, by value and list or by value and single transformation.
    results: HashMap<u64, ValueId, BuildHasherDefault<Mixed>>,
    /// Per value the bytes in it, once they were asked for.
    bytes_in: Vec<Option<ByteSet>>,
    /// What the gates of requests and of responses say.
    looks: [Looks; 2],
}

/// What a gate says about the values of a store.
#[derive(Debug, Default)]
struct Looks {
    /// Per value the start of its rows in `words`, [`UNKNOWN`] while it has none.
    at: Vec<u32>,
    /// Per value that was looked at: the row of the byte string itself, whatever transformations stand before a probe; then
    /// the row of the value with the transformations in `done`.
    words: Vec<u64>,
    /// Per value: the lists that the second row takes into account.
    done: Vec<NodeBits>,
}

impl Store {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut store = Store {
            bytes: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(128),
            index: HashMap::with_capacity_and_hasher(128, BuildHasherDefault::default()),
            results: HashMap::with_capacity_and_hasher(64, BuildHasherDefault::default()),
            bytes_in: Vec::with_capacity(128),
            looks: Default::default(),
        };
        store.intern(b"");
        store
    }

    /// The bytes of a value.
    #[inline]
    pub(crate) fn get(&self, value: ValueId) -> &[u8] {
        match self.spans.get(value.0 as usize) {
            Some(span) => &self.bytes[span.start as usize..span.end as usize],
            None => &[],
        }
    }

    /// How many distinct values there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The value with these bytes.
    pub(crate) fn intern(&mut self, bytes: &[u8]) -> ValueId {
        let hash = hash_bytes(bytes);
        if let Some(&known) = self.index.get(&hash) {
            if self.get(ValueId(known)) == bytes {
                return ValueId(known);
            }
        }
        let start = self.bytes.len();
        if bytes.len() > CAPACITY - start {
            return ValueId::EMPTY;
        }
        self.bytes.extend_from_slice(bytes);
        self.add(start, hash)
    }

    fn add(&mut self, start: usize, hash: u64) -> ValueId {
        let id = self.spans.len() as u32;
        self.spans.push(Span { start: start as u32, end: self.bytes.len() as u32 });
        self.bytes_in.push(None);
        self.index.insert(hash, id);
        ValueId(id)
    }

    /// The value after a list of transformations.
    #[inline]
    pub(crate) fn transform(
        &mut self,
        value: ValueId,
        node: NodeId,
        tree: &TransformationTree,
        context: &TransformationContext,
    ) -> ValueId {
        if node == NodeId::ROOT {
            return value;
        }
        let bytes = self.bytes_in(value);
        if !tree.may_change(node, &bytes) {
            return value;
        }
        self.compute(value, node, tree, context)
    }

    /// The row of a value: a bit per probe of the gate that may match it, where the lists in `nodes` are concerned.
    ///
    /// Most transformations leave most values as they are, which the bytes in them tell. So one look at the value answers
    /// for most lists; each other distinct result is looked at once.
    pub(crate) fn row(
        &mut self,
        value: ValueId,
        nodes: NodeBits,
        side: Side,
        gate: &Gate,
        tree: &TransformationTree,
        context: &TransformationContext,
    ) -> &[u64] {
        let start = self.look(value, side, gate);
        let words = gate.words();
        let known = self.looks[side as usize].done[value.0 as usize];
        let mut rest = nodes & !known;
        if rest != 0 {
            let bytes = self.bytes_in(value);
            self.looks[side as usize].done[value.0 as usize] = known | nodes;
            // Lists that leave the value as it is need no second look; often that is all but a few.
            let (fixed, mask) = gate.fixed(nodes, &bytes);
            if let Some(mask) = mask {
                rest &= !fixed;
                let looks = &mut self.looks[side as usize].words[start..start + 2 * words];
                let (own, row) = looks.split_at_mut(words);
                for ((row, own), mask) in row.iter_mut().zip(own).zip(mask) {
                    *row |= *own & mask;
                }
            }
            while rest != 0 {
                let index = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                let node = gate.nodes()[index];
                let result = if tree.may_change(node, &bytes) {
                    self.compute(value, node, tree, context)
                } else {
                    value
                };
                let from = if result == value { start } else { self.look(result, side, gate) };
                let looks = &mut self.looks[side as usize].words;
                for (word, mask) in gate.node_mask(index).iter().enumerate() {
                    looks[start + words + word] |= looks[from + word] & mask;
                }
            }
        }
        &self.looks[side as usize].words[start + words..start + 2 * words]
    }

    /// The row of a value that [`Store::row`] was asked for before.
    #[inline]
    pub(crate) fn known_row(&self, value: ValueId, side: Side, gate: &Gate) -> &[u64] {
        let looks = &self.looks[side as usize];
        let start = looks.at[value.0 as usize] as usize + gate.words();
        &looks.words[start..start + gate.words()]
    }

    fn bytes_in(&mut self, value: ValueId) -> ByteSet {
        if let Some(bytes) = self.bytes_in[value.0 as usize] {
            return bytes;
        }
        let bytes = ByteSet::of(self.get(value));
        self.bytes_in[value.0 as usize] = Some(bytes);
        bytes
    }

    /// Where the rows of a value begin.
    fn look(&mut self, value: ValueId, side: Side, gate: &Gate) -> usize {
        let looks = &mut self.looks[side as usize];
        if looks.at.len() <= value.0 as usize {
            looks.at.resize(self.spans.len(), UNKNOWN);
            looks.done.resize(self.spans.len(), 0);
        }
        let known = looks.at[value.0 as usize];
        if known != UNKNOWN {
            return known as usize;
        }
        let bytes = self.bytes_in(value);
        let looks = &mut self.looks[side as usize];
        let start = looks.words.len();
        looks.at[value.0 as usize] = start as u32;
        looks.words.resize(start + 2 * gate.words(), 0);
        let span = self.spans[value.0 as usize];
        let text = &self.bytes[span.start as usize..span.end as usize];
        gate.look(text, &bytes, &mut looks.words[start..start + gate.words()]);
        start
    }

    fn compute(
        &mut self,
        value: ValueId,
        node: NodeId,
        tree: &TransformationTree,
        context: &TransformationContext,
    ) -> ValueId {
        let key = |value: ValueId, cell: usize| u64::from(value.0) << 32 | cell as u64;
        let list = key(value, usize::from(node.0));
        if let Some(known) = self.results.get(&list) {
            return *known;
        }
        let step = tree.nodes[usize::from(node.0) - 1];
        let input = self.transform(value, step.parent, tree, context);
        let single = key(input, tree.nodes.len() + 1 + usize::from(step.transformation));
        let output = match self.results.get(&single) {
            Some(known) => *known,
            None => {
                let transformation = tree.transformations[usize::from(step.transformation)];
                let output = match transformation.apply(self.get(input), context) {
                    None => input,
                    Some(bytes) => self.intern(&bytes),
                };
                self.results.insert(single, output);
                output
            }
        };
        self.results.insert(list, output);
        output
    }
}

/// Mixes a number well enough for a table; the numbers are ours.
#[derive(Debug, Default)]
pub(crate) struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = fold(self.0 ^ value, 0x9E37_79B9_7F4A_7C15);
    }
}

/// The keys are hashes already.
#[derive(Debug, Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// A 64-bit hash with a seed of this process, so that nobody outside can aim at collisions.
fn hash_bytes(bytes: &[u8]) -> u64 {
    static SEEDS: OnceLock<[u64; 2]> = OnceLock::new();
    let [first, second] = *SEEDS.get_or_init(|| {
        [RandomState::new().hash_one(1_u8) | 1, RandomState::new().hash_one(2_u8) | 1]
    });
    let mut state = first ^ (bytes.len() as u64);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        state = fold(state ^ u64::from_le_bytes(word), second);
    }
    let mut word = [0; 8];
    let rest = chunks.remainder();
    word[..rest.len()].copy_from_slice(rest);
    state = fold(state ^ u64::from_le_bytes(word), second);
    fold(state, first)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_are_one_value() {
        let mut store = Store::with_capacity(64);
        let first = store.intern(b"abc");
        assert_eq!(store.intern(b"abc"), first);
        assert_ne!(store.intern(b"abd"), first);
        assert_eq!(store.intern(b""), ValueId::EMPTY);
        assert_eq!(store.get(first), b"abc");
    }

    #[test]
    fn lists_share_their_beginnings() {
        let mut tree = TransformationTree::default();
        let short = tree.insert(&[Transformation::Lowercase]);
        let long = tree.insert(&[Transformation::Lowercase, Transformation::RemoveNulls]);
        assert_eq!(tree.insert(&[Transformation::Lowercase]), short);
        assert_eq!(tree.path(long), [short, long]);
        assert_eq!(tree.insert(&[]), NodeId::ROOT);
    }

    #[test]
    fn transformed_values_are_computed_once_and_shared() {
        let mut tree = TransformationTree::default();
        let lowercase = tree.insert(&[Transformation::Lowercase]);
        let both = tree.insert(&[Transformation::Lowercase, Transformation::RemoveNulls]);
        let context = TransformationContext::default();
        let mut store = Store::with_capacity(64);
        let upper = store.intern(b"ABC");
        let lower = store.transform(upper, lowercase, &tree, &context);
        assert_eq!(store.get(lower), b"abc");
        assert_eq!(store.transform(upper, both, &tree, &context), lower);
        assert_eq!(store.transform(lower, both, &tree, &context), lower);
        let count = store.len();
        store.transform(upper, both, &tree, &context);
        assert_eq!(store.len(), count);
    }
}
