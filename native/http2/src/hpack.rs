//! Header blocks: taken apart with a dynamic table of the standard size, made without one.
//!
//! The decoder hands out fields one by one and never fails for what a field says: which fields are allowed is for
//! others to judge, one stream at a time, while a fault of the coding ends the connection.
//! Source: RFC 7541; RFC 9113 §4.3.

use std::collections::VecDeque;

use crate::huffman;

/// SETTINGS_HEADER_TABLE_SIZE, which we leave at its default.
const TABLE_BYTES: usize = 4096;
const ENTRY_OVERHEAD: usize = 32;

/// The coding of a block is wrong: nothing behind it on the connection can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadBlock;

static STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// The connection's state of what the peer's blocks refer to.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// Name and value in one allocation each, newest first; bounded by `TABLE_BYTES`.
    entries: VecDeque<(Box<[u8]>, usize)>,
    bytes: usize,
    /// What the peer has set, at most `TABLE_BYTES`.
    most: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Decoder {
            entries: VecDeque::new(),
            bytes: 0,
            most: TABLE_BYTES,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Takes a whole block apart: `take(name, value)` for each field, in order.
    pub(crate) fn decode(
        &mut self,
        block: &[u8],
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), BadBlock> {
        let mut at = 0;
        let mut is_start = true;
        while let Some(first) = block.get(at).copied() {
            if first & 0x80 != 0 {
                let index = read_integer(block, &mut at, 7)?;
                let (name, value) = self.entry(index)?;
                take(name, value);
            } else if first & 0xe0 == 0x20 {
                let most = read_integer(block, &mut at, 5)?;
                if !is_start || most > TABLE_BYTES {
                    return Err(BadBlock);
                }
                self.most = most;
                self.evict(0);
                continue;
            } else {
                let is_indexed = first & 0x40 != 0;
                let index = read_integer(block, &mut at, if is_indexed { 6 } else { 4 })?;
                let mut name = std::mem::take(&mut self.name);
                name.clear();
                if index == 0 {
                    read_string(block, &mut at, &mut name)?;
                } else {
                    name.extend_from_slice(self.entry(index)?.0);
                }
                self.value.clear();
                read_string(block, &mut at, &mut self.value)?;
                take(&name, &self.value);
                self.name = name;
                if is_indexed {
                    self.insert();
                }
            }
            is_start = false;
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), BadBlock> {
        let index = index.checked_sub(1).ok_or(BadBlock)?;
        if let Some(entry) = STATIC.get(index) {
            return Ok(*entry);
        }
        let (text, name) = self.entries.get(index - STATIC.len()).ok_or(BadBlock)?;
        Ok(text.split_at(*name))
    }

    /// Makes an entry of the last literal; one that is larger than the table empties it (RFC 7541 §4.4).
    fn insert(&mut self) {
        let length = self.name.len() + self.value.len();
        self.evict(length + ENTRY_OVERHEAD);
        if length + ENTRY_OVERHEAD > self.most {
            return;
        }
        let mut text = Vec::with_capacity(length);
        text.extend_from_slice(&self.name);
        text.extend_from_slice(&self.value);
        self.bytes += length + ENTRY_OVERHEAD;
        self.entries.push_front((text.into_boxed_slice(), self.name.len()));
    }

    fn evict(&mut self, room: usize) {
        while self.bytes + room > self.most {
            let Some((text, _)) = self.entries.pop_back() else { return };
            self.bytes -= text.len() + ENTRY_OVERHEAD;
        }
    }
}

/// RFC 7541 §5.1, up to 2^28.
fn read_integer(block: &[u8], at: &mut usize, prefix_bits: u32) -> Result<usize, BadBlock> {
    let mask = (1usize << prefix_bits) - 1;
    let mut value = *block.get(*at).ok_or(BadBlock)? as usize & mask;
    *at += 1;
    if value < mask {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = *block.get(*at).ok_or(BadBlock)? as usize;
        *at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(BadBlock)
}

fn read_string(block: &[u8], at: &mut usize, out: &mut Vec<u8>) -> Result<(), BadBlock> {
    let is_coded = block.get(*at).ok_or(BadBlock)? & 0x80 != 0;
    let length = read_integer(block, at, 7)?;
    let end = at.checked_add(length).ok_or(BadBlock)?;
    let text = block.get(*at..end).ok_or(BadBlock)?;
    *at = end;
    if !is_coded {
        out.extend_from_slice(text);
        return Ok(());
    }
    if huffman::decode(text, out) {
        Ok(())
    } else {
        Err(BadBlock)
    }
}

fn write_integer(out: &mut Vec<u8>, first: u8, prefix_bits: u32, value: usize) {
    let mask = (1usize << prefix_bits) - 1;
    if value < mask {
        out.push(first | value as u8);
        return;
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    let coded = huffman::encoded_length(text);
    if coded < text.len() {
        write_integer(out, 0x80, 7, coded);
        huffman::encode(text, out);
    } else {
        write_integer(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}

/// Says that our blocks use no dynamic table, whatever the peer allows (RFC 7541 §4.2); once, before the first field.
pub(crate) fn write_no_table(out: &mut Vec<u8>) {
    out.push(0x20);
}

/// Appends a field. Nothing of it is remembered, by us or by the peer.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let Some(index) = static_index(name) else {
        out.push(0);
        write_string(out, name);
        write_string(out, value);
        return;
    };
    let same = STATIC[index - 1..].iter().take_while(|entry| entry.0 == name);
    if let Some(more) = same.map(|entry| entry.1).position(|one| one == value) {
        if !value.is_empty() {
            write_integer(out, 0x80, 7, index + more);
            return;
        }
    }
    write_integer(out, 0, 4, index);
    write_string(out, value);
}

/// The first entry of the static table with this name.
fn static_index(name: &[u8]) -> Option<usize> {
    let index = match name {
        b":authority" => 1,
        b":method" => 2,
        b":path" => 4,
        b":scheme" => 6,
        b":status" => 8,
        b"accept-charset" => 15,
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"accept-ranges" => 18,
        b"accept" => 19,
        b"access-control-allow-origin" => 20,
        b"age" => 21,
        b"allow" => 22,
        b"authorization" => 23,
        b"cache-control" => 24,
        b"content-disposition" => 25,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-length" => 28,
        b"content-location" => 29,
        b"content-range" => 30,
        b"content-type" => 31,
        b"cookie" => 32,
        b"date" => 33,
        b"etag" => 34,
        b"expect" => 35,
        b"expires" => 36,
        b"from" => 37,
        b"host" => 38,
        b"if-match" => 39,
        b"if-modified-since" => 40,
        b"if-none-match" => 41,
        b"if-range" => 42,
        b"if-unmodified-since" => 43,
        b"last-modified" => 44,
        b"link" => 45,
        b"location" => 46,
        b"max-forwards" => 47,
        b"range" => 50,
        b"referer" => 51,
        b"refresh" => 52,
        b"retry-after" => 53,
        b"server" => 54,
        b"set-cookie" => 55,
        b"strict-transport-security" => 56,
        b"user-agent" => 58,
        b"vary" => 59,
        b"via" => 60,
        b"www-authenticate" => 61,
        _ => return None,
    };
    Some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<String, BadBlock> {
        let mut text = String::new();
        decoder.decode(block, |name, value| {
            text += &String::from_utf8_lossy(name);
            text += "=";
            text += &String::from_utf8_lossy(value);
            text += ";";
        })?;
        Ok(text)
    }

    #[test]
    fn the_requests_of_rfc_7541_c_4() {
        let mut decoder = Decoder::new();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let base = ":method=GET;:scheme=http;:path=/;:authority=www.example.com;";
        assert_eq!(fields(&mut decoder, first).as_deref(), Ok(base));
        let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        assert_eq!(fields(&mut decoder, second), Ok(format!("{base}cache-control=no-cache;")));
        let third = b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
        assert_eq!(
            fields(&mut decoder, third).as_deref(),
            Ok(":method=GET;:scheme=https;:path=/index.html;:authority=www.example.com;custom-key=custom-value;")
        );
        assert_eq!(decoder.bytes, 164);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut block = Vec::new();
        write_no_table(&mut block);
        let long = vec![b'x'; 5000];
        let expected: Vec<(&[u8], &[u8])> = vec![
            (b":status", b"200"),
            (b":status", b"418"),
            (b":method", b"POST"),
            (b"accept-encoding", b"gzip, deflate"),
            (b"accept-encoding", b""),
            (b"x-long", &long),
            (b"x-bytes", b"\xff\xfe\x80"),
        ];
        for (name, value) in &expected {
            write_field(&mut block, name, value);
        }
        let mut seen = Vec::new();
        Decoder::new()
            .decode(&block, |name, value| seen.push((name.to_vec(), value.to_vec())))
            .expect("readable");
        let seen: Vec<(&[u8], &[u8])> =
            seen.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn every_name_of_the_static_table_is_found_at_its_first_place() {
        for (at, (name, _)) in STATIC.iter().enumerate() {
            let first = STATIC.iter().position(|entry| entry.0 == *name).map(|one| one + 1);
            // Fields that never leave us have no place.
            if let Some(index) = static_index(name) {
                assert_eq!(Some(index), first, "{at}");
            }
        }
    }

    #[test]
    fn bad_codings_are_found() {
        let bad: [(&str, &[u8]); 9] = [
            ("index 0", b"\x80"),
            ("index beyond the table", b"\xbe"),
            ("a name beyond the table", b"\x7f\x00\x00"),
            ("a string beyond the block", b"\x00\x05abc"),
            ("an integer without end", b"\xff\xff\xff\xff\xff\xff\xff"),
            ("a table larger than allowed", b"\x3f\xe2\x1f"),
            ("a table size behind a field", b"\x82\x20"),
            ("half a field", b"\x00\x01a"),
            ("a bad string code", b"\x00\x81\x00\x00"),
        ];
        for (what, block) in bad {
            assert_eq!(fields(&mut Decoder::new(), block), Err(BadBlock), "{what}");
        }
    }

    #[test]
    fn the_table_keeps_its_bound() {
        let mut decoder = Decoder::new();
        for round in 0..1000 {
            let mut block = vec![0x40];
            write_string(&mut block, format!("name-{round}").as_bytes());
            write_string(&mut block, &[b'v'; 200]);
            fields(&mut decoder, &block).expect("readable");
            assert!(decoder.bytes <= TABLE_BYTES);
        }
        assert!(decoder.entries.len() < 20);
        let mut huge = vec![0x40];
        write_string(&mut huge, b"name");
        write_string(&mut huge, &vec![b'v'; 5000]);
        fields(&mut decoder, &huge).expect("readable");
        assert_eq!((decoder.bytes, decoder.entries.len()), (0, 0));
        // A smaller table, and back.
        fields(&mut decoder, b"\x20").expect("readable");
        fields(&mut decoder, b"\x40\x01a\x01b").expect("readable");
        assert_eq!(decoder.bytes, 0);
        fields(&mut decoder, b"\x3f\xe1\x1f\x40\x01a\x01b").expect("readable");
        assert_eq!(decoder.bytes, 34);
    }
}
