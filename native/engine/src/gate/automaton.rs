//! Which literals of a large set occur in a value: one table look-up per byte.
//!
//! An Aho-Corasick automaton without failure links at run time, over few columns: letters of both cases share one, bytes of
//! no literal share one, and where the literals use more than the columns can tell apart, the rarest share one. Sharing can
//! only report a literal that is not there, which a gate may do. States near the root, where ordinary values stay, lie side
//! by side in memory.

/// The column of bytes that stand in no literal.
const OTHER: u8 = 0;
/// States are numbered in 16 bits.
const STATES: usize = u16::MAX as usize;
/// Values from this length on are read at several places in turn, so that the processor need not wait for each look-up.
const LONG_BYTES: usize = 96;
/// At how many places.
const STREAMS: usize = 4;
/// A column that no byte has.
const NO_COLUMN: u8 = u8::MAX;

/// A literal with the row of bits it stands for.
pub(crate) type Literal<'a> = (&'a [u8], Vec<u64>);

/// The automaton of a set of literals, over 2 to the power of `SHIFT` columns.
#[derive(Debug)]
pub(crate) struct LiteralAutomaton<const SHIFT: u32> {
    columns: [u8; 256],
    table: Vec<u16>,
    /// States from here on end a literal.
    first_match: u16,
    /// Per such state its row of bits.
    masks: Vec<u64>,
    words: usize,
    /// How many bytes a literal has at most.
    reach: usize,
    /// The column of bytes that are passed over, as if they were not there.
    skipped: u8,
}

impl<const SHIFT: u32> LiteralAutomaton<SHIFT> {
    const COLUMNS: usize = 1 << SHIFT;
    /// The last column is shared by the rarest bytes; where bytes are skipped, it is theirs, and the one before it shared.
    const LAST: u8 = Self::COLUMNS as u8 - 1;

    /// Builds it from literals in lower case with their rows of `words` words. Where they need too many states, all are cut
    /// to fewer bytes. The bytes in `skipped` are passed over in values, so literals must hold none of them. `None`: there
    /// is nothing to look for.
    pub(crate) fn new(literals: &[Literal<'_>], words: usize, skipped: &[u8]) -> Option<Self> {
        let longest = literals.iter().map(|(literal, _)| literal.len()).max()?;
        let mut most_bytes = longest;
        while most_bytes > 0 {
            if let Some(automaton) = Self::build(literals, words, most_bytes, skipped) {
                return Some(automaton);
            }
            most_bytes /= 2;
        }
        None
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.table.len() * 2 + self.masks.len() * 8
    }

    fn build(
        literals: &[Literal<'_>],
        words: usize,
        most_bytes: usize,
        skipped: &[u8],
    ) -> Option<Self> {
        let columns = Self::columns(literals, skipped);
        let skipped = if skipped.is_empty() { NO_COLUMN } else { Self::LAST };
        const NONE: u16 = u16::MAX;
        let mut table = vec![NONE; Self::COLUMNS];
        let mut masks: Vec<Option<Vec<u64>>> = vec![None];
        for (literal, mask) in literals {
            let mut state = 0;
            let covers = |known: &Option<Vec<u64>>| {
                let covers = |known: &Vec<u64>| known.iter().zip(mask).all(|(a, b)| b & !a == 0);
                known.as_ref().is_some_and(covers)
            };
            for byte in literal.iter().take(most_bytes) {
                // A shorter literal of the same probes says it all.
                if covers(&masks[state]) {
                    break;
                }
                let cell = (state << SHIFT) | usize::from(columns[usize::from(*byte)]);
                if table[cell] == NONE {
                    if masks.len() >= STATES {
                        return None;
                    }
                    table[cell] = masks.len() as u16;
                    table.resize(table.len() + Self::COLUMNS, NONE);
                    masks.push(None);
                }
                state = usize::from(table[cell]);
            }
            add_mask(&mut masks[state], mask);
        }
        // Breadth first: a state's failure is complete before it is asked for.
        let mut failures = vec![0_u16; masks.len()];
        let mut order = vec![0_usize];
        let mut at = 0;
        while let Some(&state) = order.get(at) {
            at += 1;
            let failure = usize::from(failures[state]);
            for column in 0..Self::COLUMNS {
                let cell = (state << SHIFT) | column;
                if column == usize::from(skipped) {
                    table[cell] = state as u16;
                    continue;
                }
                let beside = if state == 0 { 0 } else { table[(failure << SHIFT) | column] };
                match table[cell] {
                    NONE => table[cell] = beside,
                    child => {
                        failures[usize::from(child)] = beside;
                        if let Some(mask) = masks[usize::from(beside)].clone() {
                            add_mask(&mut masks[usize::from(child)], &mask);
                        }
                        order.push(usize::from(child));
                    }
                }
            }
        }
        let mut automaton = Self::renumber(columns, &table, &masks, order, words, most_bytes);
        automaton.skipped = skipped;
        Some(automaton)
    }

    /// Adds the rows of the literals that occur in the value.
    pub(crate) fn search(&self, value: &[u8], found: &mut [u64]) {
        if value.len() < LONG_BYTES.max(2 * self.reach) {
            let mut state = 0;
            for byte in value {
                state = self.step(state, *byte, found);
            }
            return;
        }
        // Each place reads on into the next one's share as far as a literal can reach.
        let share = (value.len() - self.reach) / STREAMS;
        let (a, rest) = value.split_at(share);
        let (b, rest) = rest.split_at(share);
        let (c, rest) = rest.split_at(share);
        let d = &rest[..share];
        let mut states = [0_u16; STREAMS];
        for index in 0..share {
            states = [
                self.next(states[0], a[index]),
                self.next(states[1], b[index]),
                self.next(states[2], c[index]),
                self.next(states[3], d[index]),
            ];
            if states.iter().any(|state| *state >= self.first_match) {
                states.iter().for_each(|state| self.note(*state, found));
            }
        }
        for (stream, mut state) in states.into_iter().enumerate() {
            let mut left = if stream == STREAMS - 1 { usize::MAX } else { self.reach };
            for byte in &value[(stream + 1) * share..] {
                if left == 0 {
                    break;
                }
                state = self.step(state, *byte, found);
                left -= usize::from(self.columns[usize::from(*byte)] != self.skipped);
            }
        }
    }

    #[inline]
    fn next(&self, state: u16, byte: u8) -> u16 {
        self.table[(usize::from(state) << SHIFT) | usize::from(self.columns[usize::from(byte)])]
    }

    #[inline]
    fn step(&self, state: u16, byte: u8, found: &mut [u64]) -> u16 {
        let next = self.next(state, byte);
        if next >= self.first_match {
            self.note(next, found);
        }
        next
    }

    #[inline]
    fn note(&self, state: u16, found: &mut [u64]) {
        let Some(index) = usize::from(state).checked_sub(usize::from(self.first_match)) else {
            return;
        };
        let row = &self.masks[index * self.words..(index + 1) * self.words];
        for (found, mask) in found.iter_mut().zip(row) {
            *found |= mask;
        }
    }

    /// The column of each byte.
    fn columns(literals: &[Literal<'_>], skipped: &[u8]) -> [u8; 256] {
        let rare = Self::LAST - u8::from(!skipped.is_empty());
        let mut uses = [0_u32; 256];
        for byte in literals.iter().flat_map(|(literal, _)| literal.iter()) {
            uses[usize::from(byte.to_ascii_lowercase())] += 1;
        }
        let mut used: Vec<u8> = (0..=255).filter(|byte| uses[usize::from(*byte)] > 0).collect();
        used.sort_by_key(|byte| std::cmp::Reverse(uses[usize::from(*byte)]));
        let mut columns = [OTHER; 256];
        for (index, byte) in used.into_iter().enumerate() {
            columns[usize::from(byte)] = (index + 1).min(usize::from(rare)) as u8;
        }
        for byte in b'A'..=b'Z' {
            columns[usize::from(byte)] = columns[usize::from(byte.to_ascii_lowercase())];
        }
        for byte in skipped {
            columns[usize::from(*byte)] = Self::LAST;
        }
        columns
    }

    /// Gives the states the numbers of their places in `order`, but moves those that end a literal behind the others.
    fn renumber(
        columns: [u8; 256],
        table: &[u16],
        masks: &[Option<Vec<u64>>],
        mut order: Vec<usize>,
        words: usize,
        reach: usize,
    ) -> Self {
        order.sort_by_key(|state| masks[*state].is_some());
        let mut place = vec![0_u16; masks.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old] = new as u16;
        }
        let mut moved = Vec::with_capacity(table.len());
        for old in &order {
            let row = &table[old << SHIFT..(old + 1) << SHIFT];
            moved.extend(row.iter().map(|target| place[usize::from(*target)]));
        }
        let first_match = masks.iter().filter(|mask| mask.is_none()).count() as u16;
        let masks =
            order.iter().filter_map(|old| masks[*old].as_ref()).flatten().copied().collect();
        let skipped = NO_COLUMN;
        LiteralAutomaton { columns, table: moved, first_match, masks, words, reach, skipped }
    }
}

fn add_mask(mask: &mut Option<Vec<u64>>, more: &[u64]) {
    match mask {
        None => *mask = Some(more.to_vec()),
        Some(mask) => mask.iter_mut().zip(more).for_each(|(mask, more)| *mask |= more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_plain_search_finds() {
        let texts: [&[u8]; 9] =
            [b"he", b"she", b"his", b"hers", b"<!--", b"etc/passwd", b"aaaaab", b"\xff\x00", b"in"];
        let literals: Vec<_> =
            texts.iter().enumerate().map(|(bit, text)| (*text, vec![1 << bit])).collect();
        let automaton = LiteralAutomaton::<6>::new(&literals, 1, &[]).unwrap();
        // Bytes that share a column may be taken for one another, but nothing is missed.
        let narrow = LiteralAutomaton::<3>::new(&literals, 1, &[]).unwrap();
        let mut seed = 7_u64;
        let mut next = |limit: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % limit
        };
        for round in 0..600 {
            let length = if round % 3 == 0 { LONG_BYTES + next(300) } else { next(60) };
            let mut value: Vec<u8> = (0..length).map(|_| b"aehisr<!-\xff\0dHS"[next(14)]).collect();
            for _ in 0..next(4) {
                let text = texts[next(texts.len())];
                let at = next(value.len() + 1);
                value.splice(at..at, text.iter().copied());
            }
            let mut found = [0];
            automaton.search(&value, &mut found);
            let mut more = [0];
            narrow.search(&value, &mut more);
            assert_eq!(found[0] & !more[0], 0, "{value:?}");
            let lower = value.to_ascii_lowercase();
            for (bit, text) in texts.iter().enumerate() {
                let expected = memchr::memmem::find(&lower, text).is_some();
                assert_eq!(found[0] >> bit & 1 != 0, expected, "{text:?} in {value:?}");
            }
        }
    }
    #[test]
    fn skipped_bytes_are_as_if_they_were_not_there() {
        let texts: [&[u8]; 4] = [b"abc", b"cab", b"bb", b"aaaaab"];
        let literals: Vec<_> =
            texts.iter().enumerate().map(|(bit, text)| (*text, vec![1 << bit])).collect();
        let skipping = LiteralAutomaton::<6>::new(&literals, 1, b" \n").unwrap();
        let plain = LiteralAutomaton::<6>::new(&literals, 1, &[]).unwrap();
        let mut seed = 3_u64;
        let mut next = |limit: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % limit
        };
        let mut matches = 0;
        for round in 0..2000 {
            let length = if round % 2 == 0 { LONG_BYTES + next(300) } else { next(40) };
            let letters: &[u8] = if round % 3 == 0 { b"abc    \n\n      xxx" } else { b"abcx \n" };
            let mut value: Vec<u8> = (0..length).map(|_| letters[next(letters.len())]).collect();
            if round % 5 == 0 {
                value.iter_mut().take(length / 2).for_each(|byte| *byte = b' ');
            }
            let mut found = [0];
            skipping.search(&value, &mut found);
            value.retain(|byte| !b" \n".contains(byte));
            let mut expected = [0];
            plain.search(&value, &mut expected);
            assert_eq!(found, expected, "{}", value.escape_ascii());
            matches += found[0].count_ones();
        }
        assert!(matches > 1000);
    }
}
