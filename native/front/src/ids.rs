//! The names under which a request is found again, as src/exchange/request-ids.ts makes them.
//! Source: O-67, O-68; W3C Trace Context §3.2; RFC 9562 §5.7 (UUIDv7), §6.2.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::rand::{getrandom, GetRandomFlags};

/// Random bytes that are fetched at a time.
const POOL_BYTES: usize = 8 * 1024;
/// How many request ids share their random digits: the last byte counts them (RFC 9562 §6.2, method 1).
const BLOCK: u32 = 256;

/// `xxxxxxxx-xxxx-7xxx-yxxx-xxxxxxxxxxxx`.
pub(crate) const REQUEST_ID_BYTES: usize = 36;
/// `00-` trace id `-` span id `-00`.
pub(crate) const TRACEPARENT_BYTES: usize = 55;

/// What one request is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ids {
    request: u128,
    trace: u128,
    span: u64,
}

impl Ids {
    /// X-Request-Id.
    pub(crate) fn request_id(&self) -> [u8; REQUEST_ID_BYTES] {
        let mut digits = [0; 32];
        write_hex(&mut digits, &self.request.to_be_bytes());
        let mut text = [b'-'; REQUEST_ID_BYTES];
        for (place, part) in [(0, 0..8), (9, 8..12), (14, 12..16), (19, 16..20), (24, 20..32)] {
            text[place..place + part.len()].copy_from_slice(&digits[part]);
        }
        text
    }

    /// A trace that begins here, and is not recorded.
    pub(crate) fn traceparent(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.trace.to_be_bytes());
        write_hex(&mut text[36..52], &self.span.to_be_bytes());
        text
    }
}

fn write_hex(place: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in place.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Makes them out of the system's random bytes.
pub(crate) struct IdSource {
    pool: Vec<u8>,
    at: usize,
    /// The random bits of a block of request ids.
    block: u128,
    block_at: u32,
    /// The system's time when `clock` was what it is.
    ms: u128,
    clock: Option<u64>,
}

impl IdSource {
    pub(crate) fn new() -> Self {
        IdSource { pool: Vec::new(), at: 0, block: 0, block_at: BLOCK, ms: 0, clock: None }
    }

    /// New ones. `None` when the system has no random bytes. `clock`: while it stays the same, so does the time in the ids.
    pub(crate) fn next(&mut self, clock: u64) -> Option<Ids> {
        if self.block_at == BLOCK {
            self.block = u128::from_be_bytes(self.take()?) & (u128::MAX >> 48);
            self.block_at = 0;
        }
        if self.clock != Some(clock) {
            self.clock = Some(clock);
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            self.ms = since.unwrap_or_default().as_millis();
        }
        // Version and variant, and the count in place of the last byte.
        let fixed = self.ms << 80 | 7 << 76 | 2 << 62;
        let random = self.block & !(15 << 76 | 3 << 62 | 255);
        let request = fixed | random | u128::from(self.block_at);
        let trace = u128::from_be_bytes(self.take()?);
        let span = u64::from_be_bytes(self.take()?);
        self.block_at += 1;
        Some(Ids { request, trace, span })
    }

    /// Bytes that nobody gets twice.
    fn take<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        if self.at + LENGTH > self.pool.len() {
            self.refill()?;
        }
        let bytes = self.pool.get(self.at..self.at + LENGTH)?.try_into().ok()?;
        self.at += LENGTH;
        Some(bytes)
    }

    fn refill(&mut self) -> Option<()> {
        self.pool.resize(POOL_BYTES, 0);
        self.at = POOL_BYTES;
        let mut filled = 0;
        while filled < POOL_BYTES {
            match getrandom(&mut self.pool[filled..], GetRandomFlags::empty()) {
                Ok(length) => filled += length,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        self.at = 0;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn is_hex(text: &[u8]) -> bool {
        text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    #[test]
    fn o_67_o_68_ids_have_their_form_and_come_once() {
        let mut source = IdSource::new();
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let (mut requests, mut traces) = (HashSet::new(), HashSet::new());
        for count in 0..2_000 {
            let ids = source.next(count / 100).expect("random bytes");
            let (id, parent) = (ids.request_id(), ids.traceparent());
            let parts: Vec<&[u8]> = id.split(|byte| *byte == b'-').collect();
            let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12]);
            assert!(parts.iter().all(|part| is_hex(part)));
            assert_eq!(parts[2][0], b'7');
            assert!(matches!(parts[3][0], b'8' | b'9' | b'a' | b'b'));
            let ms = [parts[0], parts[1]].concat();
            let ms = u128::from_str_radix(&String::from_utf8_lossy(&ms), 16).expect("a time");
            assert!((before..before + 60_000).contains(&ms));
            assert!(parent.starts_with(b"00-") && parent.ends_with(b"-00"));
            assert!(is_hex(&parent[3..35]) && parent[35] == b'-' && is_hex(&parent[36..52]));
            assert!(requests.insert(id) && traces.insert(parent));
        }
    }

    #[test]
    fn numbers_are_written_as_rfc_9562_and_the_w3c_have_them() {
        let ids = Ids { request: 0x0192_3456_789a_7bcd_8ef0_1234_5678_9abc, trace: 1, span: 0xff };
        assert_eq!(&ids.request_id(), b"01923456-789a-7bcd-8ef0-123456789abc");
        assert_eq!(&ids.traceparent(), b"00-00000000000000000000000000000001-00000000000000ff-00");
    }
}
