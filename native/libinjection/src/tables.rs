//! Lookups in the tables that `build.rs` made of `data/*.json`.
//!
//! Source: the keyword, fingerprint and XSS tables of libinjection (BSD-3-Clause, `data/COPYING`).

include!("hash.rs");
include!(concat!(env!("OUT_DIR"), "/tables.rs"));

struct Keyword {
    /// Upper-case, zero-padded.
    text: [u8; KEYWORD_WIDTH],
    /// Type letter.
    kind: u8,
}

/// What an attribute's name says about its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AttributeKind {
    /// Not in any list.
    None,
    /// Dangerous with any value.
    Black,
    /// Its value is a URL.
    Url,
    /// Its value is CSS; counts as dangerous with any value.
    Style,
    /// Its value names an attribute.
    Indirect,
}

/// Which reader takes a token that begins with a byte (`libinjection.md` section 1.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    White,
    OperatorOne,
    OperatorTwo,
    Single,
    Hash,
    Dash,
    Slash,
    Backslash,
    Text,
    Tick,
    Money,
    Variable,
    BracketWord,
    Other,
    Number,
    BinaryString,
    EscapeString,
    NationalString,
    QuoteString,
    UnicodeString,
    HexString,
    Word,
}

/// Looks a key up without regard to ASCII case; gives its type letter (section 1.13).
#[inline]
pub(crate) fn keyword(key: &[u8]) -> Option<u8> {
    let first = key.first()?.to_ascii_uppercase();
    if key.len() >= KEYWORD_WIDTH
        || first >= 128
        || KEYWORD_LENGTHS[usize::from(first)] & (1 << key.len()) == 0
    {
        return None;
    }
    let mut padded = [0u8; KEYWORD_WIDTH];
    for (to, from) in padded.iter_mut().zip(key) {
        *to = from.to_ascii_uppercase();
    }
    let mut slot = keyword_slot(&padded);
    loop {
        let index = KEYWORD_INDEX[slot];
        if index == 0 {
            return None;
        }
        let keyword = &KEYWORDS[usize::from(index) - 1];
        // A key with a NUL cannot equal a longer entry's padding: lengths were checked against this first letter only,
        // so compare whether the entry really ends where the key does.
        if keyword.text == padded && keyword.text[key.len() - 1] != 0 {
            return Some(keyword.kind);
        }
        slot = (slot + 1) % KEYWORD_SLOTS;
    }
}

/// Whether type letters, upper-cased, are in the fingerprint table (section 3.2). At most five.
#[inline]
pub(crate) fn is_fingerprint(letters: &[u8]) -> bool {
    let mut packed = 0u32;
    for &letter in letters {
        let code = FINGERPRINT_CODES[usize::from(letter)];
        if code == 0 {
            return false;
        }
        packed = packed << 5 | u32::from(code);
    }
    let mut slot = fingerprint_slot(packed);
    loop {
        match FINGERPRINTS[slot] {
            0 => return false,
            found if found == packed => return true,
            _ => slot = (slot + 1) % FINGERPRINT_SLOTS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_found_in_any_case_and_only_whole() {
        assert_eq!(keyword(b"select"), Some(b'E'));
        assert_eq!(keyword(b"UNION ALL"), Some(b'U'));
        assert_eq!(keyword(b"&&"), Some(b'&'));
        assert_eq!(keyword(b"selec"), None);
        assert_eq!(keyword(b"select\0"), None);
        assert_eq!(keyword(b"\0"), None);
        assert_eq!(keyword(b""), None);
        assert_eq!(keyword(&[b'A'; 31]), None);
        assert_eq!(keyword(&[b'A'; 40]), None);
        assert_eq!(keyword(b"\xE9"), None);
    }

    #[test]
    fn every_table_entry_is_found() {
        for entry in &KEYWORDS {
            let length = entry.text.iter().position(|&byte| byte == 0).unwrap();
            assert_eq!(keyword(&entry.text[..length].to_ascii_lowercase()), Some(entry.kind));
        }
        assert_eq!(FINGERPRINTS.iter().filter(|&&slot| slot != 0).count(), 8367);
    }

    #[test]
    fn fingerprints_ignore_case_and_strangers() {
        assert!(is_fingerprint(b"X"));
        assert!(is_fingerprint(b"s&sos"));
        assert!(is_fingerprint(b"1;t(1"));
        assert!(is_fingerprint(b"1;T(1"));
        assert!(!is_fingerprint(b"n"));
        assert!(!is_fingerprint(b"1s1s1"));
        assert!(!is_fingerprint(b"{n}"));
        assert!(!is_fingerprint(b""));
    }
}
