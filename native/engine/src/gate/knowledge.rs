//! What a thread has found out about values before its gates, which outlives transactions.

use std::cell::Cell;

use super::row_cache::RowCache;
use super::walk::Walk;
use super::{Decision, Gate, NodeBits};
use crate::bytes::Traits;
use crate::transformation_tree::TransformationTree;

thread_local! {
    /// What no phase that runs has taken.
    static KNOWLEDGE: Cell<Option<Box<Knowledge>>> = const { Cell::new(None) };
}

/// What a phase uses while it runs.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    pub(crate) decisions: Decisions,
    pub(crate) rows: RowCache,
    pub(crate) walk: Walk,
}

impl Knowledge {
    /// What this thread knows, until it is left again.
    pub(crate) fn take() -> Box<Self> {
        KNOWLEDGE.try_with(Cell::take).ok().flatten().unwrap_or_default()
    }

    /// Leaves it to the next phase that runs on this thread. A thread that ends keeps nothing.
    pub(crate) fn leave(self: Box<Self>) {
        let _ = KNOWLEDGE.try_with(|place| place.set(Some(self)));
    }
}

/// Decisions of gates, by classes of bytes.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    /// With the gates' stamps.
    known: Vec<(u64, u64, bool, Decision)>,
    /// The place of the one asked for last.
    latest: usize,
}

impl Decisions {
    /// A power of two. Each key has two places, of which the first holds what was asked last.
    const PLACES: usize = 1024;

    /// What a gate decides about values of these classes, behind the lists in `nodes`.
    pub(crate) fn get(
        &mut self,
        gate: &Gate,
        traits: Traits,
        nodes: NodeBits,
        tree: &TransformationTree,
    ) -> &Decision {
        self.known.resize_with(Self::PLACES, Default::default);
        let classes = traits.classes.rounded();
        let is_calm = traits.is_calm;
        let lists = nodes as u64 ^ (nodes >> 64) as u64 ^ gate.stamp().rotate_left(32);
        let hash = crate::hash::fold(classes.0 ^ lists.rotate_left(17), 0x9E37_79B9_7F4A_7C15);
        let first = 2 * ((hash as usize ^ usize::from(is_calm)) & (Self::PLACES / 2 - 1));
        let is_it = |place: &(u64, u64, bool, Decision)| {
            place.0 == gate.stamp()
                && place.1 == classes.0
                && place.2 == is_calm
                && place.3.nodes == nodes
        };
        if !is_it(&self.known[first]) {
            self.known.swap(first, first + 1);
            if !is_it(&self.known[first]) {
                let decision = gate.decide(classes, is_calm, nodes, tree);
                self.known[first] = (gate.stamp(), classes.0, is_calm, decision);
            }
        }
        self.latest = first;
        &self.known[first].3
    }

    /// What was asked for last.
    pub(crate) fn latest(&self) -> &Decision {
        &self.known[self.latest].3
    }
}
