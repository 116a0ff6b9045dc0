//! Process-wide tables of what JavaScript holds by number.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use napi::{Error, Result};

/// Things of one kind by handle. Handles count up and are not used again before all of 2³²−1 were, so a stale one is
/// recognised.
pub(crate) struct Registry<T> {
    /// What its things are called in errors.
    name: &'static str,
    /// Most that may be held at a time: whoever forgets to let go is told so before memory is.
    most: usize,
    table: OnceLock<RwLock<Table<T>>>,
}

struct Table<T> {
    things: HashMap<u32, Arc<T>>,
    last: u32,
}

impl<T> Registry<T> {
    pub(crate) const fn new(name: &'static str) -> Self {
        Registry::bounded(name, 1 << 20)
    }

    pub(crate) const fn bounded(name: &'static str, most: usize) -> Self {
        Registry { name, most, table: OnceLock::new() }
    }

    fn table(&self) -> &RwLock<Table<T>> {
        self.table.get_or_init(|| RwLock::new(Table { things: HashMap::new(), last: 0 }))
    }

    pub(crate) fn insert(&self, thing: T) -> Result<u32> {
        // A panic under the lock cannot leave the map half changed: poisoning carries no news here.
        let mut table = self.table().write().unwrap_or_else(PoisonError::into_inner);
        if table.things.len() >= self.most {
            return Err(Error::from_reason(format!(
                "{} {}s are open: somebody does not release them",
                self.most, self.name
            )));
        }
        let thing = Arc::new(thing);
        loop {
            table.last = table.last.checked_add(1).unwrap_or(1);
            let handle = table.last;
            if let std::collections::hash_map::Entry::Vacant(place) = table.things.entry(handle) {
                place.insert(thing);
                return Ok(handle);
            }
        }
    }

    pub(crate) fn get(&self, handle: u32) -> Result<Arc<T>> {
        let table = self.table().read().unwrap_or_else(PoisonError::into_inner);
        table
            .things
            .get(&handle)
            .cloned()
            .ok_or_else(|| Error::from_reason(format!("no {} has the handle {handle}", self.name)))
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.table().read().unwrap_or_else(PoisonError::into_inner).things.len()
    }

    /// Takes the thing out; `None` when it is gone already.
    pub(crate) fn remove(&self, handle: u32) -> Option<Arc<T>> {
        self.table().write().unwrap_or_else(PoisonError::into_inner).things.remove(&handle)
    }
}
