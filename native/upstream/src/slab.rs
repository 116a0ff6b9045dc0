//! Things by number; a number is not valid for what takes the place later.

/// Places below 2^20, generations of 28 bits: a key fits the 53 bits of a JavaScript number with room for flags.
const SLOT_BITS: u32 = 20;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
const GENERATION_MASK: u32 = (1 << 28) - 1;

/// The most that one slab holds.
const MOST: usize = 1 << SLOT_BITS;

struct Place<T> {
    generation: u32,
    thing: Option<T>,
}

/// Things, each in a place of its own.
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    count: usize,
}

/// The place of a key, which no other living key has.
pub fn slot_of(key: u64) -> u32 {
    (key & SLOT_MASK) as u32
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab::new()
    }
}

impl<T> Slab<T> {
    /// An empty one.
    pub fn new() -> Self {
        Slab { places: Vec::new(), free: Vec::new(), count: 0 }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many things there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// `None` when the slab is full.
    pub fn insert(&mut self, thing: T) -> Option<u64> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.places.len() < MOST => {
                self.places.push(Place { generation: 1, thing: None });
                (self.places.len() - 1) as u32
            }
            None => return None,
        };
        let place = &mut self.places[slot as usize];
        place.thing = Some(thing);
        self.count += 1;
        Some(u64::from(place.generation) << SLOT_BITS | u64::from(slot))
    }

    fn place(&mut self, key: u64) -> Option<&mut Place<T>> {
        let place = self.places.get_mut(slot_of(key) as usize)?;
        (u64::from(place.generation) == key >> SLOT_BITS).then_some(place)
    }

    /// The thing, unless it is gone.
    pub fn get(&self, key: u64) -> Option<&T> {
        let place = self.places.get(slot_of(key) as usize)?;
        if u64::from(place.generation) != key >> SLOT_BITS {
            return None;
        }
        place.thing.as_ref()
    }

    /// The thing, unless it is gone.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        self.place(key)?.thing.as_mut()
    }

    /// Whether there is no place left.
    pub fn is_full(&self) -> bool {
        self.free.is_empty() && self.places.len() >= MOST
    }

    /// Takes a thing out.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        let thing = self.take(key)?;
        self.vacate(key);
        Some(thing)
    }

    /// Like `remove`, but nobody else gets the place before `vacate`.
    pub fn take(&mut self, key: u64) -> Option<T> {
        let place = self.place(key)?;
        let thing = place.thing.take()?;
        // Never 0, so that no key is 0.
        place.generation = place.generation % GENERATION_MASK + 1;
        self.count -= 1;
        Some(thing)
    }

    /// Frees the place of a key that was taken; once.
    pub fn vacate(&mut self, key: u64) {
        self.free.push(slot_of(key));
    }

    /// The keys of all things.
    pub fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.thing.is_some())
            .map(|(slot, place)| u64::from(place.generation) << SLOT_BITS | slot as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab = Slab::new();
        let first = slab.insert('a').expect("room");
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b').expect("room");
        assert_eq!(slot_of(first), slot_of(second));
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
        assert_eq!((slab.keys().collect::<Vec<_>>(), slab.len()), (vec![second], 1));
    }
}
