//! The `TX` collection: names that the rules spell out have a fixed place, names built at run time are added.
//!
//! Source: `seclang.md` sections 4.3 and 10.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::hash::NameHasher;
use crate::number::parse_number;

/// Place of a member of `TX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TxSlot(pub(crate) u32);

type NameTable = HashMap<Box<[u8]>, TxSlot, BuildHasherDefault<NameHasher>>;

/// Names of so many bytes are looked for without memory of their own.
const SHORT_NAME_BYTES: usize = 96;

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

    /// The places of the names that are meant.
    pub(crate) fn taken_by(&self, is_meant: impl Fn(&[u8]) -> bool) -> Box<[TxSlot]> {
        let takes = |slot: &TxSlot| is_meant(&self.names[slot.0 as usize]);
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

/// Members that transactions begin with. They are shared: a transaction copies those that it changes.
#[derive(Debug)]
pub(crate) struct TxStart {
    names: Arc<TxNames>,
    members: Box<[Member]>,
    clock: u32,
}

impl TxStart {
    /// No member but those in `locked`, for good: writes to them are ignored.
    pub(crate) fn new(names: &Arc<TxNames>, locked: &[(TxSlot, i64)]) -> Arc<Self> {
        let members = vec![Member::default(); names.len()].into();
        let mut tx = Tx::new(&Arc::new(TxStart { names: Arc::clone(names), members, clock: 0 }));
        for (slot, number) in locked {
            tx.lock(*slot, TxValue::Number(*number));
        }
        tx.as_start()
    }
}

/// Memory of a `TX` collection that is over.
#[derive(Debug, Default)]
pub(crate) struct TxRoom {
    own_at: Vec<u32>,
    own: Vec<Member>,
    dynamic: NameTable,
    dynamic_names: Vec<Box<[u8]>>,
}

impl TxRoom {
    /// About how much memory it is.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.own_at.capacity() * size_of::<u32>() + self.own.capacity() * size_of::<Member>()
    }
}

/// The `TX` collection of one transaction.
#[derive(Debug)]
pub(crate) struct Tx {
    start: Arc<TxStart>,
    /// Per place one more than the index in `own`; 0: the member is still that of the start.
    own_at: Vec<u32>,
    own: Vec<Member>,
    /// Names beyond those of the rule set, with their spelling.
    dynamic: NameTable,
    dynamic_names: Vec<Box<[u8]>>,
    clock: u32,
}

impl Tx {
    pub(crate) fn new(start: &Arc<TxStart>) -> Self {
        Tx::with_room(start, TxRoom::default())
    }

    /// One in the memory of another.
    pub(crate) fn with_room(start: &Arc<TxStart>, room: TxRoom) -> Self {
        let TxRoom { mut own_at, own, dynamic, dynamic_names } = room;
        own_at.resize(start.names.len(), 0);
        Tx { start: Arc::clone(start), own_at, own, dynamic, dynamic_names, clock: start.clock }
    }

    /// Its memory, empty, unless that is much.
    pub(crate) fn take_room(&mut self) -> TxRoom {
        const MOST_MEMBERS: usize = 1024;
        if self.own_at.len() > self.start.names.len() + MOST_MEMBERS {
            return TxRoom::default();
        }
        let mut room = TxRoom {
            own_at: std::mem::take(&mut self.own_at),
            own: std::mem::take(&mut self.own),
            dynamic: std::mem::take(&mut self.dynamic),
            dynamic_names: std::mem::take(&mut self.dynamic_names),
        };
        room.own_at.clear();
        room.own.clear();
        room.dynamic.clear();
        room.dynamic_names.clear();
        room
    }

    /// Takes members of the same names to begin with, before any is changed.
    pub(crate) fn begin_with(&mut self, start: &Arc<TxStart>) {
        self.clock = start.clock;
        self.start = Arc::clone(start);
    }

    /// What the members are now, to begin with; names made at run time are left out.
    pub(crate) fn as_start(&self) -> Arc<TxStart> {
        let spelt = 0..self.start.names.len() as u32;
        let members = spelt.map(|slot| self.member(TxSlot(slot)).cloned().unwrap_or_default());
        let names = Arc::clone(&self.start.names);
        Arc::new(TxStart { names, members: members.collect(), clock: self.clock })
    }

    #[inline]
    fn member(&self, slot: TxSlot) -> Option<&Member> {
        let at = slot.0 as usize;
        match self.own_at.get(at)? {
            0 => self.start.members.get(at),
            own => self.own.get(*own as usize - 1),
        }
    }

    /// A member, to be changed.
    fn member_mut(&mut self, slot: TxSlot) -> Option<&mut Member> {
        let at = slot.0 as usize;
        if *self.own_at.get(at)? == 0 {
            let member = self.start.members.get(at).cloned().unwrap_or_default();
            self.own.push(member);
            self.own_at[at] = self.own.len() as u32;
        }
        self.own.get_mut(self.own_at[at] as usize - 1)
    }

    /// The value at a place.
    #[inline]
    pub(crate) fn get(&self, slot: TxSlot) -> &TxValue {
        const UNSET: &TxValue = &TxValue::Unset;
        self.member(slot).map_or(UNSET, |member| &member.value)
    }

    /// The name at a place, as first spelt.
    pub(crate) fn name(&self, slot: TxSlot) -> &[u8] {
        let index = slot.0 as usize;
        match index.checked_sub(self.start.names.len()) {
            None => &self.start.names.names[index],
            Some(index) => self.dynamic_names.get(index).map_or(&[], |name| name),
        }
    }

    /// The place of a name made at run time; `None` when there are too many.
    pub(crate) fn slot(&mut self, name: &[u8]) -> Option<TxSlot> {
        let mut short = [0; SHORT_NAME_BYTES];
        let long;
        let key = match short.get_mut(..name.len()) {
            Some(short) => {
                short.copy_from_slice(name);
                short.make_ascii_lowercase();
                &*short
            }
            None => {
                long = name.to_ascii_lowercase();
                &long
            }
        };
        if let Some(slot) = self.start.names.slots.get(key).or_else(|| self.dynamic.get(key)) {
            return Some(*slot);
        }
        if self.dynamic_names.len() >= DYNAMIC_LIMIT {
            return None;
        }
        let slot = TxSlot(self.own_at.len() as u32);
        self.own_at.push(0);
        self.dynamic.insert(key.into(), slot);
        self.dynamic_names.push(name.into());
        Some(slot)
    }

    /// Sets or, with [`TxValue::Unset`], deletes a member.
    pub(crate) fn set(&mut self, slot: TxSlot, value: TxValue) {
        match self.member(slot) {
            // Nothing changes: captures are mostly taken away where there are none.
            Some(member) if member.locked || member.value == value => return,
            Some(_) => {}
            None if (slot.0 as usize) < self.own_at.len() => {}
            None => return,
        }
        let clock = self.clock + 1;
        let Some(member) = self.member_mut(slot) else { return };
        let was_unset = member.value == TxValue::Unset;
        if was_unset {
            member.since = clock;
        }
        member.value = value;
        if was_unset {
            self.clock = clock;
        }
    }

    /// Whether writes to a member are ignored.
    pub(crate) fn is_locked(&self, slot: TxSlot) -> bool {
        self.member(slot).is_some_and(|member| member.locked)
    }

    /// Sets a member for good: later writes to it are ignored.
    fn lock(&mut self, slot: TxSlot, value: TxValue) {
        self.set(slot, value);
        if let Some(member) = self.member_mut(slot) {
            member.locked = true;
        }
    }

    /// The members that exist and whose names are meant, in the order in which they were set first. `known`: those of the
    /// names that rules spell out which are meant, if that was found out before.
    pub(crate) fn members(
        &self,
        known: Option<&[TxSlot]>,
        takes: impl Fn(&[u8]) -> bool,
    ) -> Vec<TxSlot> {
        let is_set = |slot: &TxSlot| *self.get(*slot) != TxValue::Unset;
        let is_meant = |slot: &TxSlot| takes(self.name(*slot));
        let spelt = self.start.names.len() as u32;
        let mut slots: Vec<TxSlot> = match known {
            Some(known) => known.iter().copied().filter(is_set).collect(),
            None => (0..spelt).map(TxSlot).filter(|slot| is_set(slot) && is_meant(slot)).collect(),
        };
        let dynamic = (spelt..self.own_at.len() as u32).map(TxSlot);
        slots.extend(dynamic.filter(|slot| is_set(slot) && is_meant(slot)));
        slots.sort_by_key(|slot| self.member(*slot).map_or(0, |member| member.since));
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
        let mut tx = Tx::new(&TxStart::new(&Arc::new(names), &[]));
        assert_eq!(tx.slot(b"critical_SCORE"), Some(slot));
        assert_eq!(tx.name(slot), b"Critical_Score");
        let dynamic = tx.slot(b"ParamCounter_ARGS_NAMES:a").unwrap();
        assert_eq!(tx.slot(b"paramcounter_args_names:A"), Some(dynamic));
        assert_eq!(tx.name(dynamic), b"ParamCounter_ARGS_NAMES:a");
    }

    #[test]
    fn members_come_in_the_order_they_were_set() {
        let mut tx = Tx::new(&TxStart::new(&Arc::new(TxNames::default()), &[]));
        let b = tx.slot(b"b").unwrap();
        let a = tx.slot(b"a").unwrap();
        tx.set(a, TxValue::Number(1));
        tx.set(b, TxValue::Number(2));
        tx.set(a, TxValue::Number(3));
        assert_eq!(tx.members(None, |_| true), [a, b]);
        tx.set(a, TxValue::Unset);
        assert_eq!(tx.members(None, |_| true), [b]);
    }

    #[test]
    fn locked_members_keep_their_value() {
        let mut tx = Tx::new(&TxStart::new(&Arc::new(TxNames::default()), &[]));
        tx.lock(TxSlot(3), TxValue::Number(2));
        tx.set(TxSlot(3), TxValue::Number(9));
        assert_eq!(tx.get(TxSlot(3)).number(), Some(2));
    }
}
