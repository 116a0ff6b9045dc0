//! Bytes of a body that wait in memory: they may be lent to another thread that reads them where they lie.

use std::sync::Arc;

/// Room that is made at once for a body whose length is announced; more comes as it comes.
const ROOM_BYTES: usize = 1024 * 1024;

/// A body, or a part of one, that somebody reads where it lies. It stays as it is when its exchange is over.
#[derive(Clone, Debug)]
pub struct LentBody {
    bytes: Arc<Vec<u8>>,
    length: usize,
}

impl LentBody {
    /// What was asked for of the body.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What waits. Lent bytes are the first ones; what comes while they are lent is kept behind them.
#[derive(Debug, Default)]
pub(crate) struct Held {
    lent: Option<Arc<Vec<u8>>>,
    rest: Vec<u8>,
}

impl Held {
    pub(crate) const fn new() -> Self {
        Held { lent: None, rest: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.lent.as_ref().map_or(0, |lent| lent.len()) + self.rest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn extend_from_slice(&mut self, data: &[u8]) {
        self.rest.extend_from_slice(data);
    }

    /// Makes room for a body that will be so long, as far as that is no promise of a stranger's.
    pub(crate) fn expect(&mut self, bytes: usize) {
        let more = bytes.min(ROOM_BYTES).saturating_sub(self.rest.len());
        if self.lent.is_none() {
            self.rest.reserve_exact(more);
        }
    }

    /// The bytes in one piece. While somebody reads what is lent, they are copied for that when more has come since.
    pub(crate) fn bytes(&mut self) -> &[u8] {
        self.settle();
        match &self.lent {
            Some(lent) => lent,
            None => &self.rest,
        }
    }

    /// What may be used again of its memory.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.rest
    }

    /// Takes the bytes out.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.rest);
        match self.lent.take() {
            None => rest,
            Some(lent) => join(lent, &rest),
        }
    }

    /// The first bytes, to be read elsewhere.
    pub(crate) fn lend(&mut self, most: usize) -> LentBody {
        let bytes = match &self.lent {
            Some(lent) if self.rest.is_empty() => Arc::clone(lent),
            _ => Arc::new(self.take()),
        };
        let length = bytes.len().min(most);
        self.lent = Some(Arc::clone(&bytes));
        LentBody { bytes, length }
    }

    /// Takes back what is lent when that costs something only once.
    fn settle(&mut self) {
        let is_back = self.lent.as_ref().is_some_and(|lent| Arc::strong_count(lent) == 1);
        if is_back || !self.rest.is_empty() {
            self.rest = self.take();
        }
    }
}

impl From<Vec<u8>> for Held {
    fn from(rest: Vec<u8>) -> Self {
        Held { lent: None, rest }
    }
}

/// Nobody but us has `lent`, as a rule: then nothing is copied.
fn join(lent: Arc<Vec<u8>>, rest: &[u8]) -> Vec<u8> {
    let mut whole = Arc::try_unwrap(lent).unwrap_or_else(|lent| lent.to_vec());
    whole.extend_from_slice(rest);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(text: &str) -> Held {
        Held::from(text.as_bytes().to_vec())
    }

    #[test]
    fn what_came_back_is_not_copied() {
        let mut held = held("a body");
        let at = held.bytes().as_ptr();
        let lent = held.lend(100);
        assert_eq!(lent.bytes().as_ptr(), at);
        drop(lent);
        assert_eq!(held.bytes(), b"a body");
        let taken = held.take();
        assert_eq!(taken.as_ptr(), at);
    }

    #[test]
    fn what_comes_meanwhile_stands_behind_what_is_lent() {
        let mut held = held("first");
        let lent = held.lend(3);
        held.extend_from_slice(b" second");
        assert_eq!((lent.bytes(), held.len()), (&b"fir"[..], 12));
        assert_eq!(held.bytes(), b"first second");
        assert_eq!(lent.bytes(), b"fir");
    }

    #[test]
    fn lending_twice_copies_nothing() {
        let mut held = held("for two");
        let (first, second) = (held.lend(100), held.lend(100));
        assert_eq!(first.bytes().as_ptr(), second.bytes().as_ptr());
    }

    #[test]
    fn who_reads_it_keeps_it_when_its_owner_is_gone() {
        let mut owner = held("still here");
        let lent = owner.lend(10);
        drop(owner);
        assert_eq!(lent.bytes(), b"still here");
    }

    #[test]
    fn room_is_made_for_no_more_than_is_sensible() {
        let mut held = Held::new();
        held.expect(usize::MAX);
        assert!(held.rest.capacity() <= ROOM_BYTES);
    }
}
