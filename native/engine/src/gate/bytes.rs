//! Sets of bytes as 256 bits.

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByteSet([u64; 4]);

impl ByteSet {
    /// Values up to this length are read bit by bit; longer ones through a table, which costs a fixed amount more.
    const SHORT_BYTES: usize = 96;

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
            for (bit, flag) in flags.iter().enumerate() {
                *word |= u64::from(*flag) << bit;
            }
        }
        set
    }

    #[inline]
    pub(crate) fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    /// Adds a byte; false when it was there.
    #[inline]
    pub(crate) fn insert(&mut self, byte: u8) -> bool {
        let (word, mask) = (usize::from(byte >> 6), 1 << (byte & 63));
        let added = self.0[word] & mask == 0;
        self.0[word] |= mask;
        added
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
        self.0.iter().zip(&other.0).any(|(own, other)| own & other != 0)
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
