//! The `TX` collection: names that the rules spell out have a fixed place, names built at run time are added.
//!
//! Source: `seclang.md` sections 4.3 and 10.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::number::parse_number;
use crate::rule::Selector;
use crate::store::NameHasher;

/// Place of a member of `TX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TxSlot(pub(crate) u32);

type NameTable = HashMap<Box<[u8]>, TxSlot, BuildHasherDefault<NameHasher>>;

/// How many members rules may add at run time; further ones are not stored.
const DYNAMIC_LIMIT: usize = 8192;

/// The names that a rule set spells out.
#[derive(Clone, Debug)]
pub(crate) struct TxNames {
    slots: NameTable,
    /// As first spelt.
    names: Vec<Box<[u8]>>,
}

impl Default for TxNames {
    fn default() -> Self {
        let mut names = TxNames { slots: NameTable::default(), names: Vec::new() };
        // The captures come first: TX:0 is slot 0.
        for group in b'0'..=b'9' {
            names.slot(&[group]);
        }
        names
    }
}

impl TxNames {
    /// The place of a name, ignoring case; new names get one.
    pub(crate) fn slot(&mut self, name: &[u8]) -> TxSlot {
        let key: Box<[u8]> = name.to_ascii_lowercase().into();
        if let Some(slot) = self.slots.get(&key) {
            return *slot;
        }
        let slot = TxSlot(self.names.len() as u32);
        self.slots.insert(key, slot);
        self.names.push(name.into());
        slot
    }

    /// The place of a name, if the rules spell it out.
    pub(crate) fn find(&self, name: &[u8]) -> Option<TxSlot> {
        self.slots.get(name.to_ascii_lowercase().as_slice()).copied()
    }

    /// The places of the names that a selector takes.
    pub(crate) fn taken_by(&self, selector: &Selector) -> Box<[TxSlot]> {
        let takes = |slot: &TxSlot| selector.takes(&self.names[slot.0 as usize]);
        (0..self.names.len() as u32).map(TxSlot).filter(takes).collect()
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

/// The value of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum TxValue {
    /// The member does not exist.
    #[default]
    Unset,
    /// A number in canonical decimal form.
    Number(i64),
    /// A text that a rule holds.
    Shared(Arc<[u8]>),
    /// A text made at run time.
    Owned(Vec<u8>),
}

impl TxValue {
    /// The value as bytes; `None` when unset.
    pub(crate) fn bytes(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            TxValue::Unset => None,
            TxValue::Number(number) => Some(Cow::Owned(number.to_string().into_bytes())),
            TxValue::Shared(bytes) => Some(Cow::Borrowed(bytes)),
            TxValue::Owned(bytes) => Some(Cow::Borrowed(bytes)),
        }
    }

    /// The value as a number; `None` when unset.
    pub(crate) fn number(&self) -> Option<i64> {
        match self {
            TxValue::Unset => None,
            TxValue::Number(number) => Some(*number),
            TxValue::Shared(bytes) => Some(parse_number(bytes)),
            TxValue::Owned(bytes) => Some(parse_number(bytes)),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Member {
    value: TxValue,
    /// When it was set first, for the order of members.
    since: u32,
    /// Writes to it are ignored.
    locked: bool,
}

/// The `TX` collection of one transaction.
#[derive(Debug)]
pub(crate) struct Tx {
    names: Arc<TxNames>,
    members: Vec<Member>,
    /// Names beyond those of the rule set, with their spelling.
    dynamic: NameTable,
    dynamic_names: Vec<Box<[u8]>>,
    clock: u32,
}

impl Tx {
    pub(crate) fn new(names: &Arc<TxNames>) -> Self {
        Tx {
            names: Arc::clone(names),
            members: vec![Member::default(); names.len()],
            dynamic: NameTable::default(),
            dynamic_names: Vec::new(),
            clock: 0,
        }
    }

    /// The value at a place.
    #[inline]
    pub(crate) fn get(&self, slot: TxSlot) -> &TxValue {
        const UNSET: &TxValue = &TxValue::Unset;
        self.members.get(slot.0 as usize).map_or(UNSET, |member| &member.value)
    }

    /// The name at a place, as first spelt.
    pub(crate) fn name(&self, slot: TxSlot) -> &[u8] {
        let index = slot.0 as usize;
        match index.checked_sub(self.names.len()) {
            None => &self.names.names[index],
            Some(index) => self.dynamic_names.get(index).map_or(&[], |name| name),
        }
    }

    /// The place of a name made at run time; `None` when there are too many.
    pub(crate) fn slot(&mut self, name: &[u8]) -> Option<TxSlot> {
        let key: Box<[u8]> = name.to_ascii_lowercase().into();
        if let Some(slot) = self.names.slots.get(&key).or_else(|| self.dynamic.get(&key)) {
            return Some(*slot);
        }
        if self.dynamic_names.len() >= DYNAMIC_LIMIT {
            return None;
        }
        let slot = TxSlot(self.members.len() as u32);
        self.members.push(Member::default());
        self.dynamic.insert(key, slot);
        self.dynamic_names.push(name.into());
        Some(slot)
    }

    /// Sets or, with [`TxValue::Unset`], deletes a member.
    pub(crate) fn set(&mut self, slot: TxSlot, value: TxValue) {
        let Some(member) = self.members.get_mut(slot.0 as usize) else { return };
        if member.locked {
            return;
        }
        if member.value == TxValue::Unset {
            self.clock += 1;
            member.since = self.clock;
        }
        member.value = value;
    }

    /// Sets a member for good: later writes to it are ignored.
    pub(crate) fn lock(&mut self, slot: TxSlot, value: TxValue) {
        self.set(slot, value);
        if let Some(member) = self.members.get_mut(slot.0 as usize) {
            member.locked = true;
        }
    }

    /// The members that exist and are meant, in the order in which they were set first. `known`: those of the names that
    /// rules spell out which the selector takes, if that was found out before.
    pub(crate) fn members(&self, known: Option<&[TxSlot]>, selector: &Selector) -> Vec<TxSlot> {
        let is_set = |slot: &TxSlot| *self.get(*slot) != TxValue::Unset;
        let is_meant = |slot: &TxSlot| selector.takes(self.name(*slot));
        let spelt = self.names.len() as u32;
        let mut slots: Vec<TxSlot> = match known {
            Some(known) => known.iter().copied().filter(is_set).collect(),
            None => (0..spelt).map(TxSlot).filter(|slot| is_set(slot) && is_meant(slot)).collect(),
        };
        let dynamic = (spelt..self.members.len() as u32).map(TxSlot);
        slots.extend(dynamic.filter(|slot| is_set(slot) && is_meant(slot)));
        slots.sort_by_key(|slot| self.members[slot.0 as usize].since);
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ignore_case_and_keep_their_first_spelling() {
        let mut names = TxNames::default();
        let slot = names.slot(b"Critical_Score");
        let mut tx = Tx::new(&Arc::new(names));
        assert_eq!(tx.slot(b"critical_SCORE"), Some(slot));
        assert_eq!(tx.name(slot), b"Critical_Score");
        let dynamic = tx.slot(b"ParamCounter_ARGS_NAMES:a").unwrap();
        assert_eq!(tx.slot(b"paramcounter_args_names:A"), Some(dynamic));
        assert_eq!(tx.name(dynamic), b"ParamCounter_ARGS_NAMES:a");
    }

    #[test]
    fn members_come_in_the_order_they_were_set() {
        let mut tx = Tx::new(&Arc::new(TxNames::default()));
        let b = tx.slot(b"b").unwrap();
        let a = tx.slot(b"a").unwrap();
        tx.set(a, TxValue::Number(1));
        tx.set(b, TxValue::Number(2));
        tx.set(a, TxValue::Number(3));
        assert_eq!(tx.members(None, &Selector::All), [a, b]);
        tx.set(a, TxValue::Unset);
        assert_eq!(tx.members(None, &Selector::All), [b]);
    }

    #[test]
    fn locked_members_keep_their_value() {
        let mut tx = Tx::new(&Arc::new(TxNames::default()));
        tx.lock(TxSlot(3), TxValue::Number(2));
        tx.set(TxSlot(3), TxValue::Number(9));
        assert_eq!(tx.get(TxSlot(3)).number(), Some(2));
    }
}
