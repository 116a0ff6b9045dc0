//! What is done to the head of an answer that leaves without a question.

use sallyport_upstream::LookedAt;

use crate::date::{IsoTime, ISO_PLACE};

/// Places for the time, in the lines of one answer.
pub const MOST_CLOCKS: usize = 4;

/// Edits of an answer's head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edits<'a> {
    /// Lines that are put behind its own.
    pub lines: &'a [u8],
    /// Names of fields that are left out, in lower case, each with a line feed.
    pub removed: &'a [u8],
    /// Where in `lines` the time at which the head came is to stand; as many as `MOST_CLOCKS`. What stands there has its form.
    pub clocks: &'a [u32],
}

impl Edits<'_> {
    /// The lines are fields (H-123), and the clocks are in them.
    pub(crate) fn are_valid(&self, looked_at: &mut LookedAt) -> bool {
        let is_place = |place: &u32| {
            let place = *place as usize;
            self.lines.get(place..place + ISO_PLACE.len()) == Some(ISO_PLACE)
        };
        looked_at.are_fields(self.lines)
            && self.clocks.len() <= MOST_CLOCKS
            && self.clocks.iter().all(is_place)
    }
}

/// The same until the answer is there.
pub(crate) struct KeptEdits {
    bytes: Vec<u8>,
    removed_at: usize,
    clocks: [u32; MOST_CLOCKS],
    clock_count: usize,
}

impl KeptEdits {
    /// Keeps them in `space`, which is empty.
    pub(crate) fn new(edits: Edits<'_>, space: Vec<u8>) -> Self {
        let mut bytes = space;
        bytes.extend_from_slice(edits.lines);
        bytes.extend_from_slice(edits.removed);
        let mut clocks = [0; MOST_CLOCKS];
        let clock_count = edits.clocks.len().min(MOST_CLOCKS);
        clocks[..clock_count].copy_from_slice(&edits.clocks[..clock_count]);
        KeptEdits { bytes, removed_at: edits.lines.len(), clocks, clock_count }
    }

    pub(crate) fn lines(&self) -> &[u8] {
        &self.bytes[..self.removed_at]
    }

    pub(crate) fn removed(&self) -> &[u8] {
        &self.bytes[self.removed_at..]
    }

    pub(crate) fn removes(&self, name: &[u8]) -> bool {
        self.removed().split(|byte| *byte == b'\n').any(|one| !one.is_empty() && one == name)
    }

    /// It is now.
    pub(crate) fn fill_clocks(&mut self, time: &mut IsoTime) {
        for place in &self.clocks[..self.clock_count] {
            let place = *place as usize;
            self.bytes[place..place + ISO_PLACE.len()].copy_from_slice(time.now());
        }
    }

    pub(crate) fn into_space(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_123_edits_are_fields_with_clocks_where_they_say() {
        let lines = b"x-at: 0000-00-00T00:00:00.000Z\r\nx-a: b\r\n";
        let valid = |clocks: &[u32]| {
            Edits { lines, removed: b"", clocks }.are_valid(&mut LookedAt::default())
        };
        assert!(valid(&[]));
        assert!(valid(&[6]));
        for bad in [&[5][..], &[20], &[4_000_000_000], &[6, 6, 6, 6, 6]] {
            assert!(!valid(bad), "{bad:?}");
        }
        let broken = Edits { lines: b"x-a: b\n", ..Edits::default() };
        assert!(!broken.are_valid(&mut LookedAt::default()));
    }

    #[test]
    fn a_clock_is_filled_in_when_the_answer_is_there() {
        let lines = b"x-at: 0000-00-00T00:00:00.000Z!\r\n";
        let mut kept =
            KeptEdits::new(Edits { lines, removed: b"a\nb-c\n", clocks: &[6] }, Vec::new());
        let mut time = IsoTime::new();
        kept.fill_clocks(&mut time);
        let text = String::from_utf8_lossy(kept.lines()).into_owned();
        assert!(text.starts_with("x-at: 2"), "{text}");
        assert!(text.ends_with("Z!\r\n"), "{text}");
        assert_eq!(text.len(), lines.len());
        assert!(kept.removes(b"a") && kept.removes(b"b-c"));
        assert!(!kept.removes(b"b") && !kept.removes(b"") && !kept.removes(b"a\nb-c"));
    }
}
