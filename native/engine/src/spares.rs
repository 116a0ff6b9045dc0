//! Memory that was used and waits for its next use.
//!
//! A transaction waits for the upstream's answer while others of its thread begin and end: as many are open at a time as
//! requests are under way, and each finds memory that was used before instead of asking the system for some.

/// How many are kept at most.
const MOST: usize = 64;

/// What was left behind, the last one on top: it is the one that the processor's caches know.
#[derive(Debug)]
pub(crate) struct Spares<T> {
    kept: Vec<(T, usize)>,
    bytes: usize,
    most_bytes: usize,
}

impl<T: Default> Spares<T> {
    /// `most_bytes`: how much memory all of them may hold, if there are several.
    pub(crate) const fn new(most_bytes: usize) -> Self {
        Spares { kept: Vec::new(), bytes: 0, most_bytes }
    }

    /// The one that was left last; a new one when there is none.
    pub(crate) fn take(&mut self) -> T {
        let Some((spare, bytes)) = self.kept.pop() else { return T::default() };
        self.bytes -= bytes;
        spare
    }

    /// Keeps one that holds so many bytes, unless there are enough. Where none is kept, it may hold more than all others.
    pub(crate) fn keep(&mut self, spare: T, bytes: usize) {
        let has_room = self.bytes + bytes <= self.most_bytes;
        if self.kept.is_empty() || (has_room && self.kept.len() < MOST) {
            self.bytes += bytes;
            self.kept.push((spare, bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_comes_back_first() {
        let mut spares = Spares::new(100);
        spares.keep("one".to_string(), 40);
        spares.keep("two".to_string(), 60);
        assert_eq!(spares.take(), "two");
        assert_eq!(spares.take(), "one");
        assert_eq!(spares.take(), "");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut spares = Spares::new(100);
        spares.keep("one".to_string(), 60);
        spares.keep("too much".to_string(), 41);
        spares.keep("two".to_string(), 40);
        assert_eq!(spares.take(), "two");
        let mut spares = Spares::new(100);
        spares.keep("large".to_string(), 1000);
        spares.keep("small".to_string(), 1);
        assert_eq!(spares.take(), "large");
        assert_eq!(spares.take(), "");
        let mut spares = Spares::new(1000);
        for _ in 0..=MOST {
            spares.keep("one".to_string(), 0);
        }
        assert_eq!((0..=MOST).filter(|_| !spares.take().is_empty()).count(), MOST);
    }
}
