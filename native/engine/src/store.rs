//! All byte strings of one transaction: each distinct string is kept once, and so is each of its transformed forms.
//!
//! Rules name strings by [`ValueId`]; two ids that this table gives out for equal bytes are equal (but for hash
//! collisions, which cost a second entry and nothing else). A transformation that leaves its input as it is yields the
//! same id, so later stages see at once that there is nothing new to look at.

use std::cell::RefCell;

use crate::bytes::Traits;
use crate::gate::{Gate, Knowledge, NodeBits, Place, ProbeId, RowKey};
use crate::hash::hash_bytes;
use crate::number_table::NumberTable;
use crate::spares::Spares;
use crate::transformation::TransformationContext;
use crate::transformation_tree::{NodeId, TransformationTree};

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

/// How much memory one transaction may leave, and how much a thread keeps of several: many are open at a time only while
/// they are small, and what large ones leave was mostly made by another thread.
const SPARE_BYTES: usize = 2 << 20;
const MOST_BYTES: usize = 3 << 19;

thread_local! {
    /// What transactions of this thread left.
    static SPARES: RefCell<Spares<Store>> = const { RefCell::new(Spares::new(MOST_BYTES)) };
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
    /// What the thread knows of values, while a phase runs.
    knowledge: Option<Box<Knowledge>>,
}

/// A byte string and what is known of it.
#[derive(Clone, Copy, Debug)]
struct Value {
    start: u32,
    end: u32,
    hash: u64,
    traits: Option<Traits>,
}

impl Value {
    fn text(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    fn key<'a>(self, bytes: &'a [u8], gate: &Gate) -> RowKey<'a> {
        RowKey { hash: self.hash, gate: gate.stamp(), value: self.text(bytes) }
    }
}

/// What a gate says about the values of a store.
#[derive(Debug, Default)]
struct Looks {
    /// Per value.
    seen: Vec<Seen>,
    /// Per value that was asked about: its row for the lists in [`Seen::nodes`].
    words: Vec<u64>,
}

/// What is known of one value.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The lists that its row takes into account; 0: it has none.
    nodes: NodeBits,
    /// Where its row begins.
    row: u32,
    /// Where the thread's knowledge has it.
    place: Option<Place>,
}

impl Store {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut store = SPARES.with_borrow_mut(Spares::take);
        store.bytes.reserve(bytes);
        for text in [&b""[..], b"0", b"1"] {
            store.intern(text);
        }
        store
    }

    fn capacity_bytes(&self) -> usize {
        let looks = |looks: &Looks| {
            looks.words.capacity() * size_of::<u64>() + looks.seen.capacity() * size_of::<Seen>()
        };
        self.bytes.capacity()
            + self.values.capacity() * size_of::<Value>()
            + self.index.bytes()
            + self.results.bytes()
            + self.looks.iter().map(looks).sum::<usize>()
    }

    /// Gives the memory to the next store of this thread, but for what is much; and what gates decide.
    pub(crate) fn recycle(mut self) {
        const LEAST_PART: usize = SPARE_BYTES / 4;
        if self.bytes.capacity() > LEAST_PART {
            self.bytes = Vec::new();
        }
        if self.values.capacity() * size_of::<Value>() > LEAST_PART {
            self.values = Vec::new();
        }
        for table in [&mut self.index, &mut self.results] {
            if table.bytes() > LEAST_PART {
                *table = NumberTable::default();
            }
        }
        for looks in &mut self.looks {
            if looks.words.capacity() * 8 > LEAST_PART / 2 {
                looks.words = Vec::new();
            }
            if looks.seen.capacity() * size_of::<Seen>() > LEAST_PART / 2 {
                looks.seen = Vec::new();
            }
        }
        self.knowledge = None;
        self.bytes.clear();
        self.values.clear();
        self.index.clear();
        self.results.clear();
        for looks in &mut self.looks {
            looks.seen.clear();
            looks.words.clear();
        }
        let bytes = self.capacity_bytes();
        // A thread that ends keeps nothing.
        let _ = SPARES.try_with(|spares| spares.borrow_mut().keep(self, bytes));
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
        self.values.push(Value { start: start as u32, end, hash, traits: None });
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
        let traits = self.traits(value);
        if !tree.may_change(node, &traits.classes.bytes(), traits.is_calm) {
            return value;
        }
        self.compute(value, node, tree, context)
    }

    /// The row of a value: a bit per probe of the gate that may match it, where the lists in `nodes` are concerned.
    ///
    /// Most transformations leave most values as they are, which the bytes in them tell. So one look at the value answers
    /// for most lists; each other form of it is looked at once, unless its bytes alone rule all probes out.
    pub(crate) fn row(
        &mut self,
        value: ValueId,
        nodes: NodeBits,
        side: Side,
        gate: &Gate,
        tree: &TransformationTree,
        context: &TransformationContext,
    ) -> &[u64] {
        let at = value.0 as usize;
        let words = gate.words();
        let looks = &mut self.looks[side as usize];
        if looks.seen.len() <= at {
            looks.seen.resize(self.values.len(), Seen::default());
        }
        let is_first = looks.seen[at].nodes == 0;
        if is_first {
            looks.seen[at].row = looks.words.len() as u32;
            looks.words.resize(looks.words.len() + words, 0);
        }
        let start = looks.seen[at].row as usize;
        let row = start..start + words;
        if nodes & !looks.seen[at].nodes == 0 {
            return &self.looks[side as usize].words[row];
        }
        let mut knowledge = self.knowledge.take().unwrap_or_default();
        let own = &mut looks.words[row.clone()];
        let seen = &mut looks.seen[at];
        let key = self.values[at].key(&self.bytes, gate);
        if is_first {
            if let Some((place, nodes, known)) = knowledge.rows.find(key) {
                own.copy_from_slice(&known[..words]);
                (seen.nodes, seen.place) = (nodes, Some(place));
            }
        }
        let asked = nodes & !seen.nodes;
        if asked != 0 {
            seen.nodes |= asked;
            self.look(&mut knowledge, value, asked, side, gate, tree, context);
        }
        self.knowledge = Some(knowledge);
        &self.looks[side as usize].words[row]
    }

    /// Adds to the row of a value the probes behind the lists in `asked`.
    #[allow(clippy::too_many_arguments)]
    fn look(
        &mut self,
        knowledge: &mut Knowledge,
        value: ValueId,
        asked: NodeBits,
        side: Side,
        gate: &Gate,
        tree: &TransformationTree,
        context: &TransformationContext,
    ) {
        let at = value.0 as usize;
        let traits = self.traits(value);
        let looks = &mut self.looks[side as usize];
        let seen = looks.seen[at];
        let range = seen.row as usize..seen.row as usize + gate.words();
        let decision = knowledge.decisions.get(gate, traits, asked, tree);
        let walk = &mut knowledge.walk;
        let text = self.values[at].text(&self.bytes);
        walk.remember(&looks.words[range.clone()]);
        let row = &mut looks.words[range.clone()];
        let let_in = walk.row(text, traits.classes, decision, gate, tree, context, row);
        if let_in != 0 {
            self.keep_forms(knowledge, value, let_in, gate);
        }
        let row = &self.looks[side as usize].words[range];
        let key = self.values[at].key(&self.bytes, gate);
        let place = match seen.place {
            Some(place) => {
                knowledge.rows.add(place, key, asked, row, knowledge.walk.remembered());
                Some(place)
            }
            // Once in a transaction.
            None if seen.nodes == asked => knowledge.rows.note(key, asked, row),
            None => None,
        };
        self.looks[side as usize].seen[at].place = place;
    }

    /// Makes values of those forms of a value, by the bits of their places, that operators will look at.
    fn keep_forms(&mut self, knowledge: &Knowledge, value: ValueId, let_in: u64, gate: &Gate) {
        for (node, form) in &knowledge.decisions.latest().rest {
            let place = knowledge.walk.place(*form);
            let (node, _) = gate.node(usize::from(*node));
            let list = result_key(value, node.number());
            if place == 0 || let_in >> place.min(63) & 1 == 0 || self.results.get(list).is_some() {
                continue;
            }
            if let Some(form) = knowledge.walk.form(place) {
                let result = self.intern(form);
                self.results.insert(list, result.0);
            }
        }
    }

    /// Notes that the operator of a probe, which the row of a value lets in, does not match it.
    pub(crate) fn rule_out(&mut self, value: ValueId, side: Side, gate: &Gate, probe: ProbeId) {
        let looks = &mut self.looks[side as usize];
        let (Some((word, mask)), Some(seen)) =
            (gate.bit(probe), looks.seen.get(value.0 as usize).copied())
        else {
            return;
        };
        if seen.nodes == 0 {
            return;
        }
        looks.words[seen.row as usize + word] &= !mask;
        if let (Some(place), Some(knowledge)) = (seen.place, &mut self.knowledge) {
            let key = self.values[value.0 as usize].key(&self.bytes, gate);
            knowledge.rows.rule_out(place, key, (word, mask));
        }
    }

    /// A phase begins: what the thread knows is at hand.
    pub(crate) fn begin_phase(&mut self) {
        self.knowledge = Some(Knowledge::take());
    }

    /// The phase is over.
    pub(crate) fn end_phase(&mut self) {
        if let Some(knowledge) = self.knowledge.take() {
            knowledge.leave();
        }
    }

    /// The row of a value that [`Store::row`] was asked for before; else an empty one.
    #[inline]
    pub(crate) fn known_row(&self, value: ValueId, side: Side, gate: &Gate) -> &[u64] {
        let looks = &self.looks[side as usize];
        match looks.seen.get(value.0 as usize) {
            Some(seen) if seen.nodes != 0 => {
                &looks.words[seen.row as usize..seen.row as usize + gate.words()]
            }
            _ => &[],
        }
    }

    #[inline]
    fn traits(&mut self, value: ValueId) -> Traits {
        if let Some(traits) = self.values[value.0 as usize].traits {
            return traits;
        }
        let traits = Traits::of(self.get(value));
        self.values[value.0 as usize].traits = Some(traits);
        traits
    }

    fn compute(
        &mut self,
        value: ValueId,
        node: NodeId,
        tree: &TransformationTree,
        context: &TransformationContext,
    ) -> ValueId {
        let list = result_key(value, node.number());
        if let Some(known) = self.results.get(list) {
            return ValueId(known);
        }
        let Some((parent, transformation)) = tree.last_step(node) else { return value };
        let input = self.transform(value, parent, tree, context);
        let single = result_key(input, tree.len() + 1 + usize::from(transformation));
        let output = match self.results.get(single) {
            Some(known) => ValueId(known),
            None => {
                let output = match tree.apply(transformation, self.get(input), context) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformation::Transformation;

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
