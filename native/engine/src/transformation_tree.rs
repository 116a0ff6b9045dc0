//! Lists of transformations as a tree: lists that begin alike share their first steps.

use crate::bytes::ByteSet;
use crate::transformation::{Transformation, TransformationContext};

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

    /// Its number among all lists of a rule set, 0 for the empty one.
    pub(crate) fn number(self) -> usize {
        usize::from(self.0)
    }
}

impl TransformationTree {
    /// How many lists there are, the empty one not counted.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A list without its last transformation, and the number of that; `None` for the empty list.
    pub(crate) fn last_step(&self, node: NodeId) -> Option<(NodeId, u16)> {
        let node = &self.nodes[usize::from(node.0).checked_sub(1)?];
        Some((node.parent, node.transformation))
    }

    /// What a transformation makes of a value; `None`: it leaves it as it is.
    pub(crate) fn apply(
        &self,
        transformation: u16,
        value: &[u8],
        context: &TransformationContext,
    ) -> Option<Vec<u8>> {
        self.transformations[usize::from(transformation)].0.apply(value, context)
    }

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
    pub(crate) fn can_change(&self, number: u16, bytes: &ByteSet, is_calm: bool) -> bool {
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
    pub(crate) input: u16,
    pub(crate) transformation: u16,
    /// It takes white space away, and nothing goes on from what it makes but steps to lower case, which are the last.
    pub(crate) is_last_squeeze: bool,
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
                self.steps.push(Step { input: form, transformation, is_last_squeeze: false });
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
        let mut steps = self.steps;
        let function = |step: &Step| self.tree.transformations[usize::from(step.transformation)].0;
        for at in 0..steps.len() {
            let after = |place: usize| {
                steps
                    .iter()
                    .enumerate()
                    .filter(move |(_, step)| usize::from(step.input) == place + 1)
            };
            let is_last = |place: usize| after(place).next().is_none();
            let ends = |(place, step): (usize, &Step)| {
                function(step) == Transformation::Lowercase && is_last(place)
            };
            steps[at].is_last_squeeze =
                function(&steps[at]) == Transformation::RemoveWhitespace && after(at).all(ends);
        }
        steps
    }
}

/// The bytes of which a value must hold one for a transformation to change it.
fn changes(transformation: Transformation) -> Option<ByteSet> {
    let mut set = ByteSet::default();
    (0..=255).filter(|byte| transformation.may_change(*byte)).for_each(|byte| set.add(byte));
    (set.size() < 256).then_some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_share_their_beginnings() {
        let mut tree = TransformationTree::default();
        let short = tree.insert(&[Transformation::Lowercase]);
        let long = tree.insert(&[Transformation::Lowercase, Transformation::RemoveNulls]);
        assert_eq!(tree.insert(&[Transformation::Lowercase]), short);
        assert_eq!(tree.path(long), [short, long]);
        assert_eq!(tree.insert(&[]), NodeId::ROOT);
    }
}
