//! All byte strings of one transaction: each distinct string is kept once, and so is each of its transformed forms.
//!
//! Rules name strings by [`ValueId`]; two ids that this table gives out for equal bytes are equal (but for hash
//! collisions, which cost a second entry and nothing else). A transformation that leaves its input as it is yields the
//! same id, so later stages see at once that there is nothing new to look at.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use crate::gate::{ByteSet, Gate, NodeBits};
use crate::transformation::{Transformation, TransformationContext};

/// A byte string of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ValueId(pub(crate) u32);

impl ValueId {
    /// The empty string, present in every store.
    pub(crate) const EMPTY: ValueId = ValueId(0);

    /// `0` or `1`, present in every store.
    pub(crate) fn flag(flag: bool) -> ValueId {
        ValueId(1 + u32::from(flag))
    }
}

/// The steps that transformation lists are made of, numbered densely over a whole rule set.
///
/// A node of the tree is a list of transformations: its parent's list and one more. Node 0 is the empty list.
#[derive(Debug, Default)]
pub(crate) struct TransformationTree {
    nodes: Vec<Node>,
    /// The distinct transformations in use, with the bytes without which they change no value.
    transformations: Vec<(Transformation, Option<ByteSet>)>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    parent: NodeId,
    /// Index into `transformations`.
    transformation: u16,
    /// The list leaves a value as it is that holds none of these; `None`: it may change any.
    changes: Option<ByteSet>,
    /// The same of a value whose blanks all stand alone.
    calm: Option<ByteSet>,
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
            let known = self.transformations.iter().position(|(known, _)| known == transformation);
            let index = known.unwrap_or_else(|| {
                self.transformations.push((*transformation, changes(*transformation)));
                self.transformations.len() - 1
            }) as u16;
            let (before, calm_before) = match at {
                NodeId::ROOT => (Some(ByteSet::default()), Some(ByteSet::default())),
                NodeId(node) => {
                    let node = &self.nodes[usize::from(node) - 1];
                    (node.changes, node.calm)
                }
            };
            let own = changes(*transformation);
            let changes = before.and_then(|before| Some(before.union(&own?)));
            let own_calm = own.map(|own| match transformation.keeps_lone_blanks() {
                true => own.without(b' '),
                false => own,
            });
            let calm = calm_before.and_then(|before| Some(before.union(&own_calm?)));
            let node = Node { parent: at, transformation: index, changes, calm };
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

    /// Whether a list may change a value.
    #[inline]
    fn may_change(&self, node: NodeId, traits: &Traits) -> bool {
        match node {
            NodeId::ROOT => false,
            NodeId(node) => {
                let node = &self.nodes[usize::from(node) - 1];
                let changes = if traits.is_calm { &node.calm } else { &node.changes };
                changes.is_none_or(|set| set.meets(&traits.bytes))
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
/// Room for a row of the probes behind several lists; in wider gates such values are sifted for all probes.
const MASK_WORDS: usize = 16;
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

/// How much memory a thread keeps for its next transaction.
const SPARE_BYTES: usize = 2 << 20;

thread_local! {
    /// What the last transaction of this thread left.
    static SPARE: Cell<Store> = Cell::default();
}

/// The byte strings of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Store {
    bytes: Vec<u8>,
    values: Vec<Value>,
    /// Hash of the bytes to the newest value with that hash.
    index: NumberTable,
    /// Results of transformations, by value and list or by value and single transformation.
    results: NumberTable,
    /// What the gates of requests and of responses say.
    looks: [Looks; 2],
}

/// A byte string and what is known of it.
#[derive(Clone, Copy, Debug)]
struct Value {
    start: u32,
    end: u32,
    traits: Option<Traits>,
}

/// What a look at a value's bytes tells.
#[derive(Clone, Copy, Debug)]
struct Traits {
    bytes: ByteSet,
    /// All its blanks stand alone.
    is_calm: bool,
}

impl Traits {
    fn of(value: &[u8]) -> Self {
        let bytes = ByteSet::of(value);
        let is_calm = !bytes.holds(b' ') || has_lone_blanks(value);
        Traits { bytes, is_calm }
    }
}

/// Whether no blank stands first, last, or before another blank, `/` or `(`.
pub(crate) fn has_lone_blanks(value: &[u8]) -> bool {
    if value.first() == Some(&b' ') || value.last() == Some(&b' ') {
        return false;
    }
    let pair = |(first, second): (&u8, &u8)| {
        (*first == b' ') & ((*second == b' ') | (*second == b'/') | (*second == b'('))
    };
    let after = value.get(1..).unwrap_or(&[]);
    // By blocks, so that the compiler can use wide registers.
    !value
        .chunks(64)
        .zip(after.chunks(64))
        .any(|(first, second)| first.iter().zip(second).map(pair).fold(false, |any, it| any | it))
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

impl Looks {
    /// Adds what is left of the first row at `from` to the second row at `to`.
    fn sift(&mut self, gate: &Gate, from: usize, mask: &[u64], bytes: &ByteSet, to: usize) {
        let count = gate.words();
        let (looked, row) = if from < to {
            let (before, rest) = self.words.split_at_mut(to + count);
            (&before[from..from + count], &mut rest[..count])
        } else if from == to {
            let (before, rest) = self.words.split_at_mut(to + count);
            (&before[from..], &mut rest[..count])
        } else {
            let (before, rest) = self.words.split_at_mut(from);
            (&rest[..count], &mut before[to + count..to + 2 * count])
        };
        gate.sift(looked, mask, bytes, row);
    }
}

impl Store {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut store = SPARE.take();
        store.bytes.reserve(bytes);
        for text in [&b""[..], b"0", b"1"] {
            store.intern(text);
        }
        store
    }

    /// Gives the memory to the next store of this thread, unless it is much.
    pub(crate) fn recycle(mut self) {
        let table_bytes = [&self.index, &self.results].map(|table| table.places.len() * 16);
        let look_bytes = self.looks.each_ref().map(|looks| looks.words.capacity() * 8);
        let bytes: usize = table_bytes.iter().chain(&look_bytes).sum();
        if bytes + self.bytes.capacity() + self.values.capacity() * 64 > SPARE_BYTES {
            return;
        }
        self.bytes.clear();
        self.values.clear();
        self.index.clear();
        self.results.clear();
        for looks in &mut self.looks {
            looks.at.clear();
            looks.words.clear();
            looks.done.clear();
        }
        // A thread that ends keeps nothing.
        let _ = SPARE.try_with(|spare| spare.set(self));
    }

    /// A number as text.
    pub(crate) fn intern_number(&mut self, number: usize) -> ValueId {
        if number <= 1 {
            return ValueId::flag(number == 1);
        }
        let mut digits = [0_u8; 20];
        let mut start = digits.len();
        let mut rest = number;
        while rest > 0 {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.intern(&digits[start..])
    }

    /// The bytes of a value.
    #[inline]
    pub(crate) fn get(&self, value: ValueId) -> &[u8] {
        match self.values.get(value.0 as usize) {
            Some(value) => &self.bytes[value.start as usize..value.end as usize],
            None => &[],
        }
    }

    /// How many distinct values there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// The value with these bytes.
    pub(crate) fn intern(&mut self, bytes: &[u8]) -> ValueId {
        let hash = hash_bytes(bytes);
        if let Some(known) = self.index.get(hash) {
            if self.get(ValueId(known)) == bytes {
                return ValueId(known);
            }
        }
        let start = self.bytes.len();
        if bytes.len() > CAPACITY - start {
            return ValueId::EMPTY;
        }
        self.bytes.extend_from_slice(bytes);
        let id = self.values.len() as u32;
        let end = self.bytes.len() as u32;
        self.values.push(Value { start: start as u32, end, traits: None });
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
        if !tree.may_change(node, &self.traits(value)) {
            return value;
        }
        self.compute(value, node, tree, context)
    }

    /// The row of a value: a bit per probe of the gate that may match it, where the lists in `nodes` are concerned.
    ///
    /// Most transformations leave most values as they are, which the bytes in them tell. So one look at the value answers
    /// for most lists; each other distinct result is looked at once, unless its bytes alone rule all probes out.
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
            let traits = self.traits(value);
            self.looks[side as usize].done[value.0 as usize] = known | nodes;
            // Lists that leave the value as it is need no second look; often that is all but a few.
            let mut same = [0; MASK_WORDS];
            let same = &mut same[..words.min(MASK_WORDS)];
            let (fixed, mask) = gate.fixed(nodes, &traits.bytes);
            if let Some(mask) = mask {
                rest &= !fixed;
                same.copy_from_slice(&mask[..same.len()]);
            }
            while rest != 0 {
                let index = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                let node = gate.nodes()[index];
                if !tree.may_change(node, &traits) {
                    same.iter_mut().zip(gate.node_mask(index)).for_each(|(all, mask)| *all |= mask);
                    continue;
                }
                let bytes = self.output_bytes(value, node, tree, context);
                if !gate.any_behind(index, &bytes) {
                    continue;
                }
                let result = self.compute(value, node, tree, context);
                let from = self.look(result, side, gate);
                let bytes = self.traits(result).bytes;
                self.looks[side as usize].sift(gate, from, gate.node_mask(index), &bytes, start);
            }
            if words > MASK_WORDS {
                let all = vec![u64::MAX; words];
                self.looks[side as usize].sift(gate, start, &all, &traits.bytes, start);
            } else {
                self.looks[side as usize].sift(gate, start, same, &traits.bytes, start);
            }
        }
        &self.looks[side as usize].words[start + words..start + 2 * words]
    }

    /// The bytes that the result of a list can hold. Only steps that may yield any bytes are computed for it.
    fn output_bytes(
        &mut self,
        value: ValueId,
        node: NodeId,
        tree: &TransformationTree,
        context: &TransformationContext,
    ) -> ByteSet {
        let Some(at) = usize::from(node.0).checked_sub(1) else {
            return self.traits(value).bytes;
        };
        if let Some(known) = self.results.get(result_key(value, usize::from(node.0))) {
            return self.traits(ValueId(known)).bytes;
        }
        let step = tree.nodes[at];
        let input = self.output_bytes(value, step.parent, tree, context);
        let output = match &tree.transformations[usize::from(step.transformation)] {
            (_, Some(changes)) if !changes.meets(&input) => Some(input),
            (transformation, _) => transformation.output_bytes(&input),
        };
        output.unwrap_or_else(|| {
            let result = self.compute(value, node, tree, context);
            self.traits(result).bytes
        })
    }

    /// The row of a value that [`Store::row`] was asked for before.
    #[inline]
    pub(crate) fn known_row(&self, value: ValueId, side: Side, gate: &Gate) -> &[u64] {
        let looks = &self.looks[side as usize];
        let start = looks.at[value.0 as usize] as usize + gate.words();
        &looks.words[start..start + gate.words()]
    }

    fn traits(&mut self, value: ValueId) -> Traits {
        if let Some(traits) = self.values[value.0 as usize].traits {
            return traits;
        }
        let traits = Traits::of(self.get(value));
        self.values[value.0 as usize].traits = Some(traits);
        traits
    }

    /// Where the rows of a value begin.
    fn look(&mut self, value: ValueId, side: Side, gate: &Gate) -> usize {
        let looks = &mut self.looks[side as usize];
        if looks.at.len() <= value.0 as usize {
            looks.at.resize(self.values.len(), UNKNOWN);
            looks.done.resize(self.values.len(), 0);
        }
        let known = looks.at[value.0 as usize];
        if known != UNKNOWN {
            return known as usize;
        }
        let bytes = self.traits(value).bytes;
        let looks = &mut self.looks[side as usize];
        let start = looks.words.len();
        looks.at[value.0 as usize] = start as u32;
        looks.words.resize(start + 2 * gate.words(), 0);
        let value = self.values[value.0 as usize];
        let text = &self.bytes[value.start as usize..value.end as usize];
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
        let list = result_key(value, usize::from(node.0));
        if let Some(known) = self.results.get(list) {
            return ValueId(known);
        }
        let step = tree.nodes[usize::from(node.0) - 1];
        let input = self.transform(value, step.parent, tree, context);
        let single = result_key(input, tree.nodes.len() + 1 + usize::from(step.transformation));
        let output = match self.results.get(single) {
            Some(known) => ValueId(known),
            None => {
                let (transformation, _) = tree.transformations[usize::from(step.transformation)];
                let output = match transformation.apply(self.get(input), context) {
                    None => input,
                    Some(bytes) => self.intern(&bytes),
                };
                self.results.insert(single, output.0);
                output
            }
        };
        self.results.insert(list, output.0);
        output
    }
}

/// The place of a result among all: of a list's node, or beyond those of a single transformation.
fn result_key(value: ValueId, cell: usize) -> u64 {
    u64::from(value.0) << 32 | cell as u64
}

/// Numbers by number, in open addressing.
#[derive(Debug, Default)]
struct NumberTable {
    /// A power of two of places, at most half of which are taken; the value [`UNKNOWN`] is a free one.
    places: Vec<(u64, u32)>,
    taken: usize,
}

impl NumberTable {
    const LEAST_PLACES: usize = 256;

    /// The first place to look at; keys need not be mixed.
    #[inline]
    fn home(&self, key: u64) -> usize {
        // The upper half of the product depends on all bits of the key.
        (fold(key, 0x9E37_79B9_7F4A_7C15) as usize) & (self.places.len() - 1)
    }

    #[inline]
    fn get(&self, key: u64) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = self.home(key);
        loop {
            match self.places[at] {
                (_, UNKNOWN) => return None,
                (known, value) if known == key => return Some(value),
                _ => at = (at + 1) & (self.places.len() - 1),
            }
        }
    }

    fn clear(&mut self) {
        if self.taken > 0 {
            self.places.fill((0, UNKNOWN));
            self.taken = 0;
        }
    }

    /// Sets the number of a key, which is never [`UNKNOWN`].
    fn insert(&mut self, key: u64, value: u32) {
        if 2 * (self.taken + 1) > self.places.len() {
            let more = (4 * self.places.len()).max(Self::LEAST_PLACES);
            let old = std::mem::replace(&mut self.places, vec![(0, UNKNOWN); more]);
            self.taken = 0;
            for (key, value) in old.into_iter().filter(|(_, value)| *value != UNKNOWN) {
                self.insert(key, value);
            }
        }
        let mut at = self.home(key);
        while self.places[at].1 != UNKNOWN && self.places[at].0 != key {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.taken += usize::from(self.places[at].1 == UNKNOWN);
        self.places[at] = (key, value);
    }
}

/// Hashes names for the standard tables.
#[derive(Debug, Default)]
pub(crate) struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(5) ^ hash_bytes(bytes);
    }

    fn write_usize(&mut self, number: usize) {
        self.0 ^= number as u64;
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
