//! Sets of bytes as 256 bits.

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByteSet([u64; 4]);

impl ByteSet {
    /// Values up to this length are read bit by bit; longer ones through a table, which costs a fixed amount more.
    const SHORT_BYTES: usize = 16;

    /// The bytes that occur in a value.
    pub(crate) fn of(value: &[u8]) -> Self {
        let mut set = ByteSet::default();
        if value.len() <= Self::SHORT_BYTES {
            for byte in value {
                set.add(*byte);
            }
            return set;
        }
        // Writes to a table do not wait for each other, as changes of one word do.
        let mut seen = [0_u8; 256];
        for byte in value {
            seen[usize::from(*byte)] = 1;
        }
        for (word, flags) in set.0.iter_mut().zip(seen.chunks_exact(64)) {
            for (index, flags) in flags.chunks_exact(8).enumerate() {
                let mut eight = [0; 8];
                eight.copy_from_slice(flags);
                // Eight bytes of 0 or 1 become eight bits: each product puts one flag's bit into the top byte.
                let bits = u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
                *word |= bits << (8 * index);
            }
        }
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
