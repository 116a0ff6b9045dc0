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
    most: usize,
    /// Of places that nobody has had.
    generation: u32,
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
        Slab::with_room(MOST)
    }

    /// One with so many places, 2^20 at most: what is taken and not vacated counts.
    pub fn with_room(most: usize) -> Self {
        Slab { places: Vec::new(), free: Vec::new(), count: 0, most: most.min(MOST), generation: 1 }
    }

    /// As if every place had been used so often that few generations are left before they begin anew: for tests.
    pub fn worn(self) -> Self {
        Slab { generation: GENERATION_MASK - 1, ..self }
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
            None if self.places.len() < self.most => {
                self.places.push(Place { generation: self.generation, thing: None });
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
        self.free.is_empty() && self.places.len() >= self.most
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

    #[test]
    fn generations_begin_anew_and_keys_stay_below_2_to_the_48() {
        let mut slab = Slab::new().worn();
        let mut keys = Vec::new();
        for round in 0..4 {
            let key = slab.insert(round).expect("room");
            assert!(key != 0 && key < 1 << 48, "{key:x}");
            for old in &keys {
                assert_eq!(slab.get(*old), None);
                assert_eq!(slab.take(*old), None);
            }
            assert_eq!(slab.remove(key), Some(round));
            keys.push(key);
        }
        let generations: Vec<u64> = keys.iter().map(|key| key >> SLOT_BITS).collect();
        assert_eq!(generations, [(1 << 28) - 2, (1 << 28) - 1, 1, 2]);
    }

    #[test]
    fn what_is_taken_and_not_vacated_has_its_place() {
        let mut slab = Slab::with_room(2);
        let (first, second) = (slab.insert(1).expect("room"), slab.insert(2).expect("room"));
        assert_eq!(slab.take(first), Some(1));
        assert!(slab.is_full() && slab.insert(3).is_none());
        assert_eq!(slab.len(), 1);
        slab.vacate(first);
        let third = slab.insert(3).expect("room");
        assert_eq!(slot_of(third), slot_of(first));
        assert_eq!(
            (slab.get(first), slab.get(second), slab.get(third)),
            (None, Some(&2), Some(&3))
        );
    }
}
