//! All byte strings of one transaction: each distinct string is kept once, and so is each of its transformed forms.
//!
//! Rules name strings by [`ValueId`]; two ids that this table gives out for equal bytes are equal (but for hash
//! collisions, which cost a second entry and nothing else). A transformation that leaves its input as it is yields the
//! same id, so later stages see at once that there is nothing new to look at.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use crate::gate::{ByteClasses, ByteSet, Decision, Gate, NodeBits, Scope};
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

    /// The transformations of a list.
    pub(crate) fn list(&self, node: NodeId) -> Vec<Transformation> {
        let step = |node: &NodeId| {
            let step = self.nodes[usize::from(node.0) - 1].transformation;
            self.transformations[usize::from(step)].0
        };
        self.path(node).iter().map(step).collect()
    }

    /// Whether a list may change a value that holds none but these bytes; `is_calm`: its blanks stand alone.
    #[inline]
    pub(crate) fn may_change(&self, node: NodeId, bytes: &ByteSet, is_calm: bool) -> bool {
        match node {
            NodeId::ROOT => false,
            NodeId(node) => {
                let node = &self.nodes[usize::from(node) - 1];
                let changes = if is_calm { &node.calm } else { &node.changes };
                changes.is_none_or(|set| set.meets(bytes))
            }
        }
    }

    /// The bytes that the result of a list can hold, of a value that holds none but these; `None`: any.
    pub(crate) fn output_bytes(&self, node: NodeId, bytes: &ByteSet) -> Option<ByteSet> {
        let Some(at) = usize::from(node.0).checked_sub(1) else { return Some(*bytes) };
        let input = self.output_bytes(self.nodes[at].parent, bytes)?;
        self.step_bytes(at, &input)
    }

    /// The same of the last transformation of a list alone.
    fn step_bytes(&self, at: usize, input: &ByteSet) -> Option<ByteSet> {
        let number = self.nodes[at].transformation;
        match self.can_change(number, input, false) {
            true => self.transformations[usize::from(number)].0.output_bytes(input),
            false => Some(*input),
        }
    }

    /// Whether one transformation may change a value that holds none but these bytes.
    #[inline]
    fn can_change(&self, number: u16, bytes: &ByteSet, is_calm: bool) -> bool {
        match &self.transformations[usize::from(number)] {
            (transformation, Some(changes)) if is_calm && transformation.keeps_lone_blanks() => {
                changes.without(b' ').meets(bytes)
            }
            (_, Some(changes)) => changes.meets(bytes),
            (_, None) => true,
        }
    }

    /// The steps that lists of transformations take with values of these bytes; lists that begin alike share them, and
    /// those that change nothing are left out.
    pub(crate) fn steps(&self, bytes: &ByteSet, is_calm: bool) -> StepsBuilder<'_> {
        StepsBuilder { tree: self, is_calm, steps: Vec::new(), sets: vec![*bytes] }
    }
}

/// One transformation on the way from a value to the results of lists: it makes one form of another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// The form it is applied to: 0 is the value, `n` what the `n`th step makes.
    input: u16,
    transformation: u16,
}

/// Finds the [`Step`]s of several lists.
pub(crate) struct StepsBuilder<'a> {
    tree: &'a TransformationTree,
    is_calm: bool,
    steps: Vec<Step>,
    /// What the value and the forms can hold.
    sets: Vec<ByteSet>,
}

impl StepsBuilder<'_> {
    /// Adds a list; answers the form that is its result.
    pub(crate) fn add(&mut self, node: NodeId) -> u16 {
        let mut form = 0_u16;
        for node in self.tree.path(node) {
            let transformation = self.tree.nodes[usize::from(node.0) - 1].transformation;
            let set = self.sets[usize::from(form)];
            if !self.tree.can_change(transformation, &set, self.is_calm && form == 0) {
                continue;
            }
            let same = |step: &Step| step.input == form && step.transformation == transformation;
            let known = self.steps.iter().position(same).unwrap_or_else(|| {
                self.steps.push(Step { input: form, transformation });
                let (function, _) = self.tree.transformations[usize::from(transformation)];
                self.sets.push(function.output_bytes(&set).unwrap_or_else(ByteSet::full));
                self.steps.len() - 1
            });
            form = known as u16 + 1;
        }
        form
    }

    /// The steps of all lists added.
    pub(crate) fn finish(self) -> Vec<Step> {
        self.steps
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
    walk: Walk,
}

/// A byte string and what is known of it.
#[derive(Clone, Copy, Debug)]
struct Value {
    start: u32,
    end: u32,
    traits: Option<Traits>,
}

/// What the bytes of a value tell.
#[derive(Clone, Copy, Debug)]
struct Traits {
    classes: ByteClasses,
    /// All its blanks stand alone.
    is_calm: bool,
}

impl Traits {
    fn of(value: &[u8]) -> Self {
        let classes = ByteClasses::of(value);
        let is_calm = !classes.has_blank() || has_lone_blanks(value);
        Traits { classes, is_calm }
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
    /// Per value.
    seen: Vec<Seen>,
    /// Per value that was asked about: its row for the lists in [`Seen::nodes`].
    words: Vec<u64>,
    decisions: Decisions,
}

/// What is known of one value.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The lists that its row takes into account; 0: it has none.
    nodes: NodeBits,
    /// Where its row begins.
    row: u32,
}

/// Decisions of a gate, by classes of bytes. They outlive a transaction.
#[derive(Debug, Default)]
struct Decisions {
    /// The gate's stamp.
    gate: u64,
    known: Vec<(u64, bool, Decision)>,
    /// The place of the one asked for last.
    latest: usize,
}

impl Decisions {
    /// A power of two. Each key has two places, of which the first holds what was asked last.
    const PLACES: usize = 512;

    /// What the gate decides about values of these classes, behind the lists in `nodes`.
    fn get(
        &mut self,
        gate: &Gate,
        traits: Traits,
        nodes: NodeBits,
        tree: &TransformationTree,
    ) -> &Decision {
        if self.gate != gate.stamp() {
            self.gate = gate.stamp();
            self.known.clear();
            self.known.resize_with(Self::PLACES, Default::default);
        }
        let classes = traits.classes.rounded();
        let is_calm = traits.is_calm;
        let lists = nodes as u64 ^ (nodes >> 64) as u64;
        let hash = fold(classes.0 ^ lists.rotate_left(17), 0x9E37_79B9_7F4A_7C15) as usize;
        let first = 2 * ((hash ^ usize::from(is_calm)) & (Self::PLACES / 2 - 1));
        let is_it = |place: &(u64, bool, Decision)| {
            place.0 == classes.0 && place.1 == is_calm && place.2.nodes == nodes
        };
        if !is_it(&self.known[first]) {
            self.known.swap(first, first + 1);
            if !is_it(&self.known[first]) {
                self.known[first] =
                    (classes.0, is_calm, gate.decide(classes, is_calm, nodes, tree));
            }
        }
        self.latest = first;
        &self.known[first].2
    }

    /// What was asked for last.
    fn latest(&mut self) -> &mut Decision {
        &mut self.known[self.latest].2
    }
}

/// The forms of one value on the way through lists of transformations. They become values of the store only if an operator
/// is to look at them.
#[derive(Debug, Default)]
struct Walk {
    /// The first is the value itself, whose bytes are in the store.
    forms: Vec<(Vec<u8>, ByteClasses)>,
    /// Per form of the plan its place in `forms`: what a step leaves as it is has the same.
    places: Vec<usize>,
    /// Per place the probes to look for, behind recoding lists, behind squeezing ones and behind others.
    masks: Vec<u64>,
    looked: Vec<u64>,
    possible: Vec<u64>,
}

impl Walk {
    /// Forms of at least so many bytes are held against the letters of literals first.
    const LONG_BYTES: usize = 512;

    fn begin(&mut self, classes: ByteClasses, gate: &Gate) {
        self.forms.clear();
        self.forms.push((Vec::new(), classes));
        self.places.clear();
        self.places.push(0);
        self.masks.clear();
        self.masks.resize(gate.words() * Scope::COUNT, 0);
        self.looked.resize(gate.words(), 0);
        self.possible.resize(gate.words(), 0);
    }

    /// Takes the steps.
    fn run(
        &mut self,
        value: &[u8],
        steps: &[Step],
        tree: &TransformationTree,
        context: &TransformationContext,
    ) {
        let width = self.masks.len();
        for step in steps {
            let input = self.places[usize::from(step.input)];
            let (own, classes) = &self.forms[input];
            let mut output = input;
            if tree.can_change(step.transformation, &classes.bytes(), false) {
                let (transformation, _) = tree.transformations[usize::from(step.transformation)];
                let bytes = if input == 0 { value } else { own };
                if let Some(bytes) = transformation.apply(bytes, context) {
                    let classes = ByteClasses::of(&bytes);
                    output = self.forms.len();
                    self.forms.push((bytes, classes));
                    self.masks.resize(self.masks.len() + width, 0);
                }
            }
            self.places.push(output);
        }
    }

    /// Has a form looked at for probes.
    #[inline]
    fn ask(&mut self, form: u16, scope: Scope, mask: &[u64]) {
        let place = self.places[usize::from(form)];
        let scope = if place == 0 { Scope::All } else { scope };
        let row = &mut self.masks[(place * Scope::COUNT + scope as usize) * mask.len()..];
        row.iter_mut().zip(mask).for_each(|(all, mask)| *all |= mask);
    }

    /// Adds the probes of `mask` that may match the value itself to a row.
    fn look_at_value(
        &mut self,
        value: &[u8],
        classes: ByteClasses,
        mask: &[u64],
        gate: &Gate,
        row: &mut [u64],
    ) {
        if mask.iter().all(|word| *word == 0) {
            return;
        }
        self.looked.resize(mask.len(), 0);
        gate.look(value, classes, Scope::All, &mut self.looked);
        self.looked.iter_mut().zip(mask).for_each(|(looked, mask)| *looked &= mask);
        gate.sift(&self.looked, &classes.bytes(), row);
    }

    /// Adds the probes that were asked for and may match to a row. True when there are some.
    fn look(
        &mut self,
        value: &[u8],
        place: usize,
        scope: Scope,
        gate: &Gate,
        row: &mut [u64],
    ) -> bool {
        let words = gate.words();
        let mask = &self.masks[(place * Scope::COUNT + scope as usize) * words..][..words];
        if mask.iter().all(|word| *word == 0) {
            return false;
        }
        let (own, classes) = &self.forms[place];
        let text = if place == 0 { value } else { own };
        let bytes = classes.bytes();
        self.possible.fill(0);
        gate.sift(mask, &bytes, &mut self.possible);
        if self.possible.iter().all(|word| *word == 0)
            || (text.len() >= Self::LONG_BYTES && !gate.may_match_any(&self.possible, &bytes))
        {
            return false;
        }
        gate.look(text, *classes, scope, &mut self.looked);
        let mut any = 0;
        for (row, (looked, possible)) in row.iter_mut().zip(self.looked.iter().zip(&self.possible))
        {
            *row |= looked & possible;
            any |= looked & possible;
        }
        any != 0
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
            if table.places.len() * 16 > LEAST_PART {
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
        self.walk.forms.clear();
        self.bytes.clear();
        self.values.clear();
        self.index.clear();
        self.results.clear();
        for looks in &mut self.looks {
            looks.seen.clear();
            looks.words.clear();
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
        let traits = self.traits(value);
        let looks = &mut self.looks[side as usize];
        if looks.seen.len() <= at {
            looks.seen.resize(self.values.len(), Seen::default());
        }
        if looks.seen[at].nodes == 0 {
            looks.seen[at].row = looks.words.len() as u32;
            looks.words.resize(looks.words.len() + words, 0);
        }
        let start = looks.seen[at].row as usize;
        let asked = nodes & !looks.seen[at].nodes;
        if asked != 0 {
            looks.seen[at].nodes |= asked;
            let decision = looks.decisions.get(gate, traits, asked, tree);
            let row = &mut looks.words[start..start + words];
            let place = self.values[at];
            let text = &self.bytes[place.start as usize..place.end as usize];
            let walk = &mut self.walk;
            if decision.rest.is_empty() {
                walk.look_at_value(text, traits.classes, &decision.possible, gate, row);
                return &self.looks[side as usize].words[start..start + words];
            }
            walk.begin(traits.classes, gate);
            walk.ask(0, Scope::All, &decision.possible);
            walk.run(text, &decision.steps, tree, context);
            for (node, form) in &decision.rest {
                walk.ask(
                    *form,
                    gate.node(usize::from(*node)).1,
                    gate.node_mask(usize::from(*node)),
                );
            }
            walk.look(text, 0, Scope::All, gate, row);
            let mut let_in = 0_u64;
            for place in 1..walk.forms.len() {
                for scope in [Scope::All, Scope::Recoded, Scope::Squeezed] {
                    if walk.look(text, place, scope, gate, row) {
                        let_in |= 1 << place.min(63);
                    }
                }
            }
            if let_in != 0 {
                self.keep_forms(value, let_in, side, gate);
            }
        }
        &self.looks[side as usize].words[start..start + words]
    }

    /// Makes values of those forms of a value, by the bits of their places, that operators will look at.
    fn keep_forms(&mut self, value: ValueId, let_in: u64, side: Side, gate: &Gate) {
        let walk = std::mem::take(&mut self.walk);
        let rest = std::mem::take(&mut self.looks[side as usize].decisions.latest().rest);
        for (node, form) in &rest {
            let place = walk.places[usize::from(*form)];
            let (node, _) = gate.node(usize::from(*node));
            let list = result_key(value, usize::from(node.0));
            if place != 0 && let_in >> place.min(63) & 1 != 0 && self.results.get(list).is_none() {
                let result = self.intern(&walk.forms[place].0);
                self.results.insert(list, result.0);
            }
        }
        self.looks[side as usize].decisions.latest().rest = rest;
        self.walk = walk;
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
