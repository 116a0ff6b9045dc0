//! Sets of bytes: as 256 bits, and as 64 classes that one look-up per byte finds.

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByteSet([u64; 4]);

impl ByteSet {
    /// The bytes that occur in a value.
    pub(crate) fn of(value: &[u8]) -> Self {
        let mut set = ByteSet::default();
        value.iter().for_each(|byte| set.add(*byte));
        set
    }

    /// All bytes.
    pub(crate) fn full() -> Self {
        ByteSet([u64::MAX; 4])
    }

    #[inline]
    pub(crate) fn holds(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0
    }

    pub(crate) fn without(mut self, byte: u8) -> Self {
        self.0[usize::from(byte >> 6)] &= !(1 << (byte & 63));
        self
    }

    /// The bytes after ASCII capitals became small letters.
    pub(crate) fn lower_case(mut self) -> Self {
        const CAPITALS: u64 = 0x03FF_FFFF << (b'A' - 64);
        let capitals = self.0[1] & CAPITALS;
        self.0[1] = (self.0[1] & !CAPITALS) | capitals << (b'a' - b'A');
        self
    }

    pub(crate) fn intersection(&self, other: &ByteSet) -> ByteSet {
        ByteSet(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// Whether all members are among the other's.
    #[inline]
    pub(crate) fn is_within(&self, other: &ByteSet) -> bool {
        self.0.iter().zip(&other.0).all(|(own, other)| own & !other == 0)
    }

    #[inline]
    pub(crate) fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub(crate) fn size(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub(crate) fn union(&self, other: &ByteSet) -> ByteSet {
        ByteSet(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// Whether the sets share a byte.
    #[inline]
    pub(crate) fn meets(&self, other: &ByteSet) -> bool {
        let [a, b, c, d] = self.0;
        let [e, f, g, h] = other.0;
        (a & e) | (b & f) | (c & g) | (d & h) != 0
    }

    /// The members, in order.
    #[inline]
    pub(crate) fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                (bit < 64).then(|| {
                    rest &= rest - 1;
                    index as u8 * 64 + bit as u8
                })
            })
        })
    }
}

/// The classes of bytes that occur in a value, a bit each.
///
/// Printable marks and the blank have a class each, letters one for both cases (and one says whether there is a capital);
/// digits, bytes from 80 on, white space controls and the other controls have one for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByteClasses(pub(crate) u64);

/// Bits of [`ByteClasses`]: 20–2F, 3A–3F, 40, letters, 5B–5F, 60, 7B–7E.
const MARKS_AT: u32 = 0;
const COLONS_AT: u32 = 16;
const AT_SIGN_AT: u32 = 22;
const LETTERS_AT: u32 = 23;
const BRACKETS_AT: u32 = 49;
const BACKTICK_AT: u32 = 54;
const BRACES_AT: u32 = 55;
const CAPITAL: u64 = 1 << 59;
const DIGIT: u64 = 1 << 60;
const HIGH: u64 = 1 << 61;
const WHITE: u64 = 1 << 62;
const CONTROL: u64 = 1 << 63;
const LETTERS: u64 = 0x03FF_FFFF << LETTERS_AT;
const BLANK: u64 = 1 << MARKS_AT;

const fn class_of(byte: u8) -> u64 {
    match byte {
        0x20..=0x2F => 1 << (MARKS_AT + byte as u32 - 0x20),
        b'0'..=b'9' => DIGIT,
        0x3A..=0x3F => 1 << (COLONS_AT + byte as u32 - 0x3A),
        b'@' => 1 << AT_SIGN_AT,
        b'A'..=b'Z' => 1 << (LETTERS_AT + (byte - b'A') as u32) | CAPITAL,
        0x5B..=0x5F => 1 << (BRACKETS_AT + byte as u32 - 0x5B),
        b'`' => 1 << BACKTICK_AT,
        b'a'..=b'z' => 1 << (LETTERS_AT + (byte - b'a') as u32),
        0x7B..=0x7E => 1 << (BRACES_AT + byte as u32 - 0x7B),
        0x80..=0xFF => HIGH,
        0x09..=0x0D => WHITE,
        _ => CONTROL,
    }
}

static CLASSES: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = class_of(byte as u8);
        byte += 1;
    }
    table
};

impl ByteClasses {
    /// The classes that occur in a value.
    #[inline]
    pub(crate) fn of(value: &[u8]) -> Self {
        // Four sums, so that none waits for the one before.
        let mut sums = [0_u64; 4];
        let mut fours = value.chunks_exact(4);
        for four in &mut fours {
            for (sum, byte) in sums.iter_mut().zip(four) {
                *sum |= CLASSES[usize::from(*byte)];
            }
        }
        let rest = fours.remainder().iter().fold(0, |all, byte| all | CLASSES[usize::from(*byte)]);
        ByteClasses(sums.iter().fold(rest, |all, sum| all | sum))
    }

    /// With all letters where there is one.
    #[inline]
    pub(crate) fn rounded(self) -> Self {
        ByteClasses(if self.0 & LETTERS == 0 { self.0 } else { self.0 | LETTERS })
    }

    /// After ASCII capitals became small letters.
    pub(crate) fn lower_case(self) -> Self {
        ByteClasses(self.0 & !CAPITAL)
    }

    /// Without the blank and white space controls.
    pub(crate) fn without_white(self) -> Self {
        ByteClasses(self.0 & !(BLANK | WHITE))
    }

    #[inline]
    pub(crate) fn has_blank(self) -> bool {
        self.0 & BLANK != 0
    }

    /// Whether all of them are among the others.
    #[inline]
    pub(crate) fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// All bytes of the classes.
    #[inline]
    pub(crate) fn bytes(self) -> ByteSet {
        let bits = |at: u32, count: u32| self.0 >> at & ((1 << count) - 1);
        let spread = |class: u64, bytes: u64| if self.0 & class == 0 { 0 } else { bytes };
        const WHITE_BYTES: u64 = 0x1F << 9;
        const CONTROL_BYTES: u64 = 0xFFFF_FFFF & !WHITE_BYTES;
        let letters = bits(LETTERS_AT, 26);
        let low = bits(MARKS_AT, 16) << 0x20
            | bits(COLONS_AT, 6) << 0x3A
            | spread(DIGIT, 0x3FF << 0x30)
            | spread(WHITE, WHITE_BYTES)
            | spread(CONTROL, CONTROL_BYTES);
        let middle = bits(AT_SIGN_AT, 1)
            | spread(CAPITAL, letters << 1)
            | bits(BRACKETS_AT, 5) << 0x1B
            | bits(BACKTICK_AT, 1) << 0x20
            | letters << 0x21
            | bits(BRACES_AT, 4) << 0x3B
            | spread(CONTROL, 1 << 0x3F);
        let high = spread(HIGH, u64::MAX);
        ByteSet([low, middle, high, high])
    }
}

/// What the bytes of a value tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    pub(crate) classes: ByteClasses,
    /// All its blanks stand alone.
    pub(crate) is_calm: bool,
}

impl Traits {
    pub(crate) fn of(value: &[u8]) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_stand_for_the_bytes_and_those_alike() {
        for byte in 0..=255_u8 {
            let set = ByteClasses::of(&[byte]).bytes();
            assert!(set.holds(byte), "{byte}");
            let size = match byte {
                b'0'..=b'9' => 10,
                b'A'..=b'Z' => 2,
                0x20..=0x7E => 1,
                0x80..=0xFF => 128,
                0x09..=0x0D => 5,
                _ => 28,
            };
            assert_eq!(set.size(), size, "{byte}");
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(ByteClasses::of(&all).bytes(), ByteSet::full());
        let some = b"The quick brown fox (it's 3) <jumps> at 10:00; \xe9\n";
        assert!(ByteSet::of(some).is_within(&ByteClasses::of(some).bytes()));
        assert!(ByteClasses::of(b"abc").rounded().bytes().holds(b'z'));
        assert!(!ByteClasses::of(b"123").rounded().bytes().holds(b'z'));
    }
}
