//! Which literals of a large set occur in a value: one table look-up per byte.
//!
//! An Aho-Corasick automaton without failure links at run time, over at most 64 columns: letters of both cases share one,
//! bytes of no literal share one, and where the literals use more than the columns can tell apart, the rarest share one.
//! Sharing can only report a literal that is not there, which a gate may do.

/// Columns of the table.
const COLUMNS: usize = 64;
/// The column of bytes that stand in no literal.
const OTHER: u8 = 0;
/// The last column is shared by the rarest bytes.
const RARE: u8 = COLUMNS as u8 - 1;
const SHIFT: u32 = COLUMNS.trailing_zeros();
/// States are numbered in 16 bits.
const STATES: usize = u16::MAX as usize;
/// Values from this length on are read at several places in turn, so that the processor need not wait for each look-up.
const LONG_BYTES: usize = 1024;
/// At how many places.
const STREAMS: usize = 4;

/// A literal with its rows.
pub(crate) type Literal<'a> = (&'a [u8], [Vec<u64>; 2]);
/// The rows of a state.
type Rows = [Vec<u64>; 2];

/// The automaton of a set of literals; each literal stands for a row of bits.
#[derive(Debug)]
pub(crate) struct LiteralAutomaton {
    columns: [u8; 256],
    table: Vec<u16>,
    /// States from here on end a literal.
    first_match: u16,
    /// Per kind of value, per such state its row of bits.
    masks: [Vec<u64>; 2],
    words: usize,
    /// How many bytes a literal has at most.
    reach: usize,
}

impl LiteralAutomaton {
    /// Builds it from literals in lower case with their rows of `words` words, one for each kind of value. Where they need
    /// too many states, all are cut to fewer bytes.
    pub(crate) fn new(literals: &[Literal<'_>], words: usize) -> Option<Self> {
        let longest = literals.iter().map(|(literal, _)| literal.len()).max()?;
        let mut most_bytes = longest;
        while most_bytes > 0 {
            if let Some(automaton) = Self::build(literals, words, most_bytes) {
                return Some(automaton);
            }
            most_bytes /= 2;
        }
        None
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.table.len() * 2 + self.masks.iter().map(|masks| masks.len() * 8).sum::<usize>()
    }

    fn build(literals: &[Literal<'_>], words: usize, most_bytes: usize) -> Option<Self> {
        let columns = columns(literals);
        const NONE: u16 = u16::MAX;
        let mut table = vec![NONE; COLUMNS];
        let mut masks: Vec<Option<Rows>> = vec![None];
        for (literal, mask) in literals {
            let mut state = 0;
            for byte in literal.iter().take(most_bytes) {
                let cell = (state << SHIFT) | usize::from(columns[usize::from(*byte)]);
                if table[cell] == NONE {
                    if masks.len() >= STATES {
                        return None;
                    }
                    table[cell] = masks.len() as u16;
                    table.resize(table.len() + COLUMNS, NONE);
                    masks.push(None);
                }
                state = usize::from(table[cell]);
            }
            add_mask(&mut masks[state], mask);
        }
        // Breadth first: a state's failure is complete before it is asked for.
        let mut failures = vec![0_u16; masks.len()];
        let mut queue = std::collections::VecDeque::from([0_usize]);
        while let Some(state) = queue.pop_front() {
            let failure = usize::from(failures[state]);
            for column in 0..COLUMNS {
                let cell = (state << SHIFT) | column;
                let beside = if state == 0 { 0 } else { table[(failure << SHIFT) | column] };
                match table[cell] {
                    NONE => table[cell] = beside,
                    child => {
                        failures[usize::from(child)] = beside;
                        if let Some(mask) = masks[usize::from(beside)].clone() {
                            add_mask(&mut masks[usize::from(child)], &mask);
                        }
                        queue.push_back(usize::from(child));
                    }
                }
            }
        }
        Some(renumber(columns, &table, &masks, words, most_bytes))
    }

    /// Adds the rows of the literals that occur in the value, which is of some kind.
    pub(crate) fn search(&self, value: &[u8], kind: usize, found: &mut [u64]) {
        let masks = &self.masks[kind];
        if value.len() < LONG_BYTES {
            let mut state = 0;
            for byte in value {
                state = self.step(state, *byte, masks, found);
            }
            return;
        }
        // Each place reads on into the next one's share as far as a literal can reach.
        let share = value.len() / STREAMS;
        let streams: [&[u8]; STREAMS] = std::array::from_fn(|stream| {
            let end = if stream == STREAMS - 1 {
                value.len()
            } else {
                ((stream + 1) * share + self.reach).min(value.len())
            };
            &value[stream * share..end]
        });
        let together = streams.iter().map(|stream| stream.len()).min().unwrap_or(0);
        let mut states = [0_u16; STREAMS];
        let [a, b, c, d] = streams.map(|stream| &stream[..together]);
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            let next = [
                self.next(states[0], *a),
                self.next(states[1], *b),
                self.next(states[2], *c),
                self.next(states[3], *d),
            ];
            if next.iter().any(|state| *state >= self.first_match) {
                next.iter().for_each(|state| self.note(*state, masks, found));
            }
            states = next;
        }
        for (stream, mut state) in streams.into_iter().zip(states) {
            for byte in &stream[together..] {
                state = self.step(state, *byte, masks, found);
            }
        }
    }

    #[inline]
    fn next(&self, state: u16, byte: u8) -> u16 {
        self.table[(usize::from(state) << SHIFT) | usize::from(self.columns[usize::from(byte)])]
    }

    #[inline]
    fn step(&self, state: u16, byte: u8, masks: &[u64], found: &mut [u64]) -> u16 {
        let next = self.next(state, byte);
        if next >= self.first_match {
            self.note(next, masks, found);
        }
        next
    }

    #[inline]
    fn note(&self, state: u16, masks: &[u64], found: &mut [u64]) {
        let Some(index) = usize::from(state).checked_sub(usize::from(self.first_match)) else {
            return;
        };
        let row = &masks[index * self.words..(index + 1) * self.words];
        for (found, mask) in found.iter_mut().zip(row) {
            *found |= mask;
        }
    }
}

/// The column of each byte.
fn columns(literals: &[Literal<'_>]) -> [u8; 256] {
    let mut uses = [0_u32; 256];
    for byte in literals.iter().flat_map(|(literal, _)| literal.iter()) {
        uses[usize::from(byte.to_ascii_lowercase())] += 1;
    }
    let mut used: Vec<u8> = (0..=255).filter(|byte| uses[usize::from(*byte)] > 0).collect();
    used.sort_by_key(|byte| std::cmp::Reverse(uses[usize::from(*byte)]));
    let mut kept: Vec<u8> = used.iter().copied().take(usize::from(RARE) - 1).collect();
    // Neighbours in the alphabet stay neighbours in memory.
    kept.sort_unstable();
    let mut columns = [OTHER; 256];
    for byte in used {
        columns[usize::from(byte)] = RARE;
    }
    for (index, byte) in kept.into_iter().enumerate() {
        columns[usize::from(byte)] = index as u8 + 1;
    }
    for byte in b'A'..=b'Z' {
        columns[usize::from(byte)] = columns[usize::from(byte.to_ascii_lowercase())];
    }
    columns
}

fn add_mask(mask: &mut Option<Rows>, more: &Rows) {
    match mask {
        None => *mask = Some(more.clone()),
        Some(mask) => {
            for (mask, more) in mask.iter_mut().flatten().zip(more.iter().flatten()) {
                *mask |= more;
            }
        }
    }
}

/// Moves the states that end a literal behind the others.
fn renumber(
    columns: [u8; 256],
    table: &[u16],
    masks: &[Option<Rows>],
    words: usize,
    reach: usize,
) -> LiteralAutomaton {
    let mut order: Vec<usize> = (0..masks.len()).collect();
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
    let masks = [0, 1].map(|kind| {
        let rows = order.iter().filter_map(|old| masks[*old].as_ref());
        rows.flat_map(|rows: &Rows| &rows[kind]).copied().collect()
    });
    LiteralAutomaton { columns, table: moved, first_match, masks, words, reach }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_plain_search_finds() {
        let texts: [&[u8]; 9] =
            [b"he", b"she", b"his", b"hers", b"<!--", b"etc/passwd", b"aaaaab", b"\xff\x00", b"in"];
        let literals: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(bit, text)| (*text, [vec![1 << bit], vec![0]]))
            .collect();
        let automaton = LiteralAutomaton::new(&literals, 1).unwrap();
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
            automaton.search(&value, 0, &mut found);
            let lower = value.to_ascii_lowercase();
            for (bit, text) in texts.iter().enumerate() {
                let expected = memchr::memmem::find(&lower, text).is_some();
                assert_eq!(found[0] >> bit & 1 != 0, expected, "{text:?} in {value:?}");
            }
        }
    }
}
