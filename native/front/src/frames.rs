//! Where one frame of a WebSocket ends and the next begins, on the upstream's side of a tunnel: from their heads alone, so that a
//! frame of ours can stand between two of them.
//!
//! Source: RFC 6455 §5.1, §5.2, §5.5; H-91, O-21.

/// A close frame of a server, code 1001: it is going away.
pub(crate) const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

const CLOSE: u8 = 8;
/// Two bytes, and a length of eight.
const MOST_HEAD_BYTES: usize = 10;

#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: [u8; MOST_HEAD_BYTES],
    have: usize,
    /// Of the present frame's payload.
    left: u64,
    /// A frame that closes has begun: it is the last.
    is_closing: bool,
    /// These are no frames: nothing is known any more.
    is_lost: bool,
}

impl Frames {
    /// Nothing of a frame has passed that is not whole, and another one may follow.
    pub(crate) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0 && !self.is_closing && !self.is_lost
    }

    /// Looks at bytes on their way: at all of them, or up to the first end of a frame. Returns how many.
    pub(crate) fn pass(&mut self, bytes: &[u8], stops: bool) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.is_lost {
            if stops && self.is_between() {
                return at;
            }
            if self.left > 0 {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.left -= length as u64;
                at += length;
                continue;
            }
            self.head[self.have] = bytes[at];
            self.have += 1;
            at += 1;
            self.read_head();
        }
        if self.is_lost {
            bytes.len()
        } else {
            at
        }
    }

    fn read_head(&mut self) {
        let [first, second, ..] = self.head;
        if self.have < 2 {
            return;
        }
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.have < 2 + length_bytes {
            return;
        }
        let opcode = first & 0x0f;
        let is_control = opcode >= CLOSE;
        let is_whole = first & 0x80 != 0 && length_bytes == 0;
        let longer = &self.head[2..2 + length_bytes];
        let length = longer.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        self.left = if length_bytes == 0 { u64::from(second & 0x7f) } else { length };
        self.is_lost = second & 0x80 != 0
            || matches!(opcode, 3..=7 | 11..)
            || is_control && !is_whole
            || self.left > i64::MAX as u64;
        self.is_closing |= opcode == CLOSE;
        self.have = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match length {
            0..126 => bytes.push(length as u8),
            126..65_536 => {
                bytes.push(126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + length, b'x');
        bytes
    }

    #[test]
    fn o_21_ends_of_frames_are_found_in_any_cutting() {
        let all = [
            (0x01, 0),
            (0x82, 5),
            (0x89, 125),
            (0x80, 126),
            (0xc1, 300),
            (0x8a, 0),
            (0x82, 70_000),
        ];
        let frames = all.map(|(first, length)| frame(first, length));
        let stream = frames.concat();
        let mut ends = Vec::new();
        let mut end = 0;
        for one in &frames {
            end += one.len();
            ends.push(end);
        }
        for cut in [1, 2, 3, 7, 64, 1000, stream.len()] {
            let mut reader = Frames::default();
            let mut at = 0;
            let mut found = Vec::new();
            for piece in stream.chunks(cut) {
                let mut used = 0;
                while used < piece.len() {
                    // From between two frames the next one is begun first.
                    let begins = usize::from(reader.is_between());
                    let length = reader.pass(&piece[used..used + begins], false);
                    let length = length + reader.pass(&piece[used + begins..], true);
                    used += length;
                    at += length;
                    if reader.is_between() {
                        found.push(at);
                    }
                }
            }
            assert_eq!(found, ends, "{cut}");
        }
    }

    #[test]
    fn nothing_follows_a_close_and_what_are_no_frames_are_none() {
        let mut reader = Frames::default();
        let mut closing = frame(0x88, 2);
        assert_eq!(reader.pass(&closing, false), 4);
        assert!(!reader.is_between());
        closing[0] = 0x82;
        for bad in [
            &b"hello"[..],
            &[0x81, 0x80, 1, 2, 3, 4],
            &[0x83, 0],
            &[0x8b, 0],
            &[0x09, 0],
            &[0x88, 126, 0, 2],
            &[0x82, 127, 255, 0, 0, 0, 0, 0, 0, 0],
        ] {
            let mut reader = Frames::default();
            assert_eq!(reader.pass(bad, true), 0, "it stands between frames");
            assert_eq!(reader.pass(bad, false), bad.len());
            assert!(!reader.is_between(), "{bad:?}");
            assert_eq!(reader.pass(&closing, true), closing.len(), "{bad:?}");
        }
    }
}
