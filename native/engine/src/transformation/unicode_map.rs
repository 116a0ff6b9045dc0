//! Code-page maps for `%uHHHH` in `urlDecodeUni`: Unicode code point → one byte.
//!
//! Source: ModSecurity's `SecUnicodeMapFile` format (`seclang.md` section 6.3).

use std::sync::{Arc, OnceLock};

/// The map of code page 20127 (US-ASCII) in the file format of `SecUnicodeMapFile`; see the repository's `NOTICE`.
const US_ASCII_TEXT: &str = include_str!("../../data/unicode-20127.mapping");
/// The code page that every recommended ModSecurity configuration loads.
const US_ASCII_CODE_PAGE: u32 = 20127;

/// One code-page map: code points 0000–FFFF to bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnicodeMap {
    /// Sorted by code point.
    entries: Vec<(u16, u8)>,
}

impl UnicodeMap {
    /// Reads one code page out of a `SecUnicodeMapFile` text: a line that begins with the code page's number, then,
    /// up to the next line without a colon, entries `code:byte` in hexadecimal, separated by blanks.
    ///
    /// # Errors
    /// The page is not in the text, or has no entry.
    pub fn parse(text: &str, code_page: u32) -> Result<Self, String> {
        let mut inside = false;
        let mut entries = Vec::new();
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !line.contains(':') {
                inside = page_number(line) == Some(code_page);
                continue;
            }
            if !inside {
                continue;
            }
            for entry in line.split_ascii_whitespace() {
                let Some((code, byte)) = entry.split_once(':') else { continue };
                match (u16::from_str_radix(code, 16), u8::from_str_radix(byte, 16)) {
                    (Ok(code), Ok(byte)) => entries.push((code, byte)),
                    _ => {
                        return Err(format!(
                            "entry {entry:?} of code page {code_page} is not code:byte"
                        ))
                    }
                }
            }
        }
        if entries.is_empty() {
            return Err(format!("code page {code_page} is not in the map file"));
        }
        entries.sort_by_key(|&(code, _)| code);
        entries.dedup_by_key(|&mut (code, _)| code);
        Ok(UnicodeMap { entries })
    }

    /// The built-in map 20127 (US-ASCII).
    pub fn us_ascii() -> Arc<Self> {
        static MAP: OnceLock<Arc<UnicodeMap>> = OnceLock::new();
        Arc::clone(MAP.get_or_init(|| {
            let map = UnicodeMap::parse(US_ASCII_TEXT, US_ASCII_CODE_PAGE);
            Arc::new(map.expect("the built-in map is well-formed"))
        }))
    }

    /// The byte for a code point, if the map has one.
    pub fn get(&self, code: u16) -> Option<u8> {
        let found = self.entries.binary_search_by_key(&code, |&(code, _)| code);
        found.ok().map(|index| self.entries[index].1)
    }
}

/// `20127 (US-ASCII)` or `20127` → 20127; some pages have a name only.
fn page_number(line: &str) -> Option<u32> {
    let digits = line.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
