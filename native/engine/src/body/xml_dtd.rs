//! The document type declaration of an XML body: whether it is well-formed, and which general entities it declares.
//!
//! Source: XML 1.0 (fifth edition), productions 28 to 29, 45 to 60, 66 to 76 and 82 to 83; section 4.1 for entities that
//! need no declaration. Nothing outside of the body is ever read.

use std::collections::HashMap;

/// How deep content models may nest.
const MODEL_DEPTH: usize = 64;

/// How deep parameter entities may name one another.
const PARAMETER_DEPTH: u8 = 8;
/// How many bytes parameter entities may expand to in one body.
const PARAMETER_BYTES: usize = 65_536;

/// What a document type declaration says.
#[derive(Debug, Default)]
pub(super) struct DocumentType {
    /// Declared general entities with their replacement; external ones are empty.
    pub(super) entities: HashMap<Vec<u8>, Vec<u8>>,
    /// Declarations may stand outside of the body: in an external subset or behind a parameter entity.
    pub(super) is_open: bool,
    /// Declared parameter entities; `None` for those outside of the body.
    parameters: HashMap<Vec<u8>, Option<Vec<u8>>>,
    parameter_bytes: usize,
    /// There is an external subset.
    has_subset: bool,
}

/// Why reading stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The text is over.
    End,
    /// It is not well-formed.
    Malformed(&'static str),
}

type Read<T> = Result<T, Problem>;

/// Reads a declaration at the start of `text`, which begins with `<!DOCTYPE`; also its length in bytes. Entities that
/// were declared before an error are in `found`.
pub(super) fn read(text: &[u8], found: &mut DocumentType) -> Read<usize> {
    let mut reader = Reader { text, at: b"<!DOCTYPE".len(), found, depth: 0 };
    reader.document_type()?;
    Ok(reader.at)
}

struct Reader<'a, 'f> {
    text: &'a [u8],
    at: usize,
    found: &'f mut DocumentType,
    /// How many parameter entities this text is inside of.
    depth: u8,
}

impl<'a> Reader<'a, '_> {
    fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    fn peek(&self) -> Read<u8> {
        self.text.get(self.at).copied().ok_or(Problem::End)
    }

    /// Passes a piece of text if it comes next.
    fn pass(&mut self, piece: &[u8]) -> bool {
        let is_there = self.rest().starts_with(piece);
        if is_there {
            self.at += piece.len();
        }
        is_there
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Read<()> {
        if self.peek()? != byte {
            return Err(Problem::Malformed(otherwise));
        }
        self.at += 1;
        Ok(())
    }

    fn blanks(&mut self) -> bool {
        let start = self.at;
        while self.text.get(self.at).is_some_and(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.at > start
    }

    fn some_blanks(&mut self) -> Read<()> {
        if self.blanks() {
            return Ok(());
        }
        self.peek()?;
        Err(Problem::Malformed("a blank is expected in a declaration"))
    }

    fn name_token(&mut self) -> Read<&'a [u8]> {
        let start = self.at;
        let is_part = |byte: &u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-' | b'.' | 0x80..)
        };
        while self.text.get(self.at).is_some_and(is_part) {
            self.at += 1;
        }
        if self.at == start {
            self.peek()?;
            return Err(Problem::Malformed("a name is expected in a declaration"));
        }
        Ok(&self.text[start..self.at])
    }

    fn name(&mut self) -> Read<&'a [u8]> {
        let name = self.name_token()?;
        if matches!(name[0], b'-' | b'.' | b'0'..=b'9') {
            return Err(Problem::Malformed("a name is expected in a declaration"));
        }
        Ok(name)
    }

    /// A text in quotes.
    fn literal(&mut self) -> Read<&'a [u8]> {
        let quote = self.peek()?;
        if !matches!(quote, b'"' | b'\'') {
            return Err(Problem::Malformed("a quoted text is expected in a declaration"));
        }
        let rest = &self.text[self.at + 1..];
        let length = memchr::memchr(quote, rest).ok_or(Problem::End)?;
        self.at += length + 2;
        Ok(&rest[..length])
    }

    /// `SYSTEM "…"` or `PUBLIC "…" "…"`; false when neither comes.
    fn external_id(&mut self, public_alone: bool) -> Read<bool> {
        if self.pass(b"SYSTEM") {
            self.some_blanks()?;
            self.literal()?;
            return Ok(true);
        }
        if !self.pass(b"PUBLIC") {
            return Ok(false);
        }
        self.some_blanks()?;
        self.literal()?;
        let blanks = self.blanks();
        if matches!(self.peek()?, b'"' | b'\'') {
            if !blanks {
                return Err(Problem::Malformed("a blank is expected in a declaration"));
            }
            self.literal()?;
        } else if !public_alone {
            return Err(Problem::Malformed("a public identifier comes with a system identifier"));
        }
        Ok(true)
    }

    fn document_type(&mut self) -> Read<()> {
        self.some_blanks()?;
        self.name()?;
        self.blanks();
        if self.external_id(false)? {
            self.found.is_open = true;
            self.found.has_subset = true;
        }
        self.blanks();
        if self.pass(b"[") {
            self.internal_subset()?;
            self.blanks();
        }
        self.expect(b'>', "the document type is not closed")
    }

    fn internal_subset(&mut self) -> Read<()> {
        loop {
            self.blanks();
            if self.depth > 0 && self.rest().is_empty() {
                return Ok(());
            }
            if self.depth == 0 && self.pass(b"]") {
                return Ok(());
            }
            if self.pass(b"%") {
                let name = self.name()?;
                self.expect(b';', "a reference is not closed")?;
                self.parameter(name)?;
            } else if self.pass(b"<!--") {
                let end = memchr::memmem::find(self.rest(), b"--").ok_or(Problem::End)?;
                self.at += end + 2;
                self.expect(b'>', "two hyphens inside a comment")?;
            } else if self.pass(b"<?") {
                self.at += memchr::memmem::find(self.rest(), b"?>").ok_or(Problem::End)? + 2;
            } else {
                self.declaration()?;
                self.blanks();
                self.expect(b'>', "a declaration is not closed")?;
            }
        }
    }

    /// Reads the declarations that a parameter entity holds.
    fn parameter(&mut self, name: &[u8]) -> Read<()> {
        let text = match self.found.parameters.get(name) {
            Some(Some(text)) => text.clone(),
            Some(None) => {
                self.found.is_open = true;
                return Ok(());
            }
            None if self.found.has_subset => return Ok(()),
            None => return Err(Problem::Malformed("a parameter entity is not declared")),
        };
        self.found.parameter_bytes += text.len();
        if self.depth >= PARAMETER_DEPTH || self.found.parameter_bytes > PARAMETER_BYTES {
            return Err(Problem::Malformed("parameter entities expand beyond the limit"));
        }
        let mut inner =
            Reader { text: &text, at: 0, found: &mut *self.found, depth: self.depth + 1 };
        match inner.internal_subset() {
            Err(Problem::End) => {
                Err(Problem::Malformed("a parameter entity ends in a declaration"))
            }
            result => result,
        }
    }

    fn declaration(&mut self) -> Read<()> {
        if self.pass(b"<!ELEMENT") {
            self.some_blanks()?;
            self.name()?;
            self.some_blanks()?;
            self.content_model()
        } else if self.pass(b"<!ATTLIST") {
            self.some_blanks()?;
            self.name()?;
            self.attributes()
        } else if self.pass(b"<!ENTITY") {
            self.some_blanks()?;
            self.entity()
        } else if self.pass(b"<!NOTATION") {
            self.some_blanks()?;
            self.name()?;
            self.some_blanks()?;
            match self.external_id(true)? {
                true => Ok(()),
                false => Err(Problem::Malformed("a notation needs an identifier")),
            }
        } else if memchr::memchr(b'>', self.rest()).is_none() {
            Err(Problem::End)
        } else {
            Err(Problem::Malformed("a declaration is expected in the document type"))
        }
    }

    fn content_model(&mut self) -> Read<()> {
        if self.pass(b"EMPTY") || self.pass(b"ANY") {
            return Ok(());
        }
        self.expect(b'(', "a content model is expected")?;
        self.blanks();
        if !self.pass(b"#PCDATA") {
            return self.group(MODEL_DEPTH);
        }
        let mut names = false;
        loop {
            self.blanks();
            if self.pass(b")") {
                break;
            }
            self.expect(b'|', "mixed content is a list of names")?;
            self.blanks();
            self.name()?;
            names = true;
        }
        if !self.pass(b"*") && names {
            return Err(Problem::Malformed("mixed content with names ends in *"));
        }
        Ok(())
    }

    /// A choice or sequence, its parenthesis passed.
    fn group(&mut self, depth: usize) -> Read<()> {
        if depth == 0 {
            return Err(Problem::Malformed("a content model nests deeper than the limit"));
        }
        let mut separator = None;
        loop {
            self.blanks();
            if self.pass(b"(") {
                self.group(depth - 1)?;
            } else {
                self.name()?;
                self.occurrence();
            }
            self.blanks();
            let next = self.peek()?;
            self.at += 1;
            match next {
                b')' => break,
                b',' | b'|' if separator.is_none_or(|known| known == next) => {
                    separator = Some(next);
                }
                _ => return Err(Problem::Malformed("a content model is malformed")),
            }
        }
        self.occurrence();
        Ok(())
    }

    fn occurrence(&mut self) {
        if self.text.get(self.at).is_some_and(|byte| matches!(byte, b'?' | b'*' | b'+')) {
            self.at += 1;
        }
    }

    fn attributes(&mut self) -> Read<()> {
        const TYPES: [&[u8]; 8] =
            [b"CDATA", b"IDREFS", b"IDREF", b"ID", b"ENTITIES", b"ENTITY", b"NMTOKENS", b"NMTOKEN"];
        loop {
            let blanks = self.blanks();
            if self.peek()? == b'>' {
                return Ok(());
            }
            if !blanks {
                return Err(Problem::Malformed("a blank is expected in a declaration"));
            }
            self.name()?;
            self.some_blanks()?;
            if !TYPES.iter().any(|name| self.pass(name)) {
                if self.pass(b"NOTATION") {
                    self.some_blanks()?;
                }
                self.expect(b'(', "an attribute's type is expected")?;
                loop {
                    self.blanks();
                    self.name_token()?;
                    self.blanks();
                    if self.pass(b")") {
                        break;
                    }
                    self.expect(b'|', "an attribute's values are a list")?;
                }
            }
            self.some_blanks()?;
            if self.pass(b"#REQUIRED") || self.pass(b"#IMPLIED") {
                continue;
            }
            if self.pass(b"#FIXED") {
                self.some_blanks()?;
            }
            if self.literal()?.contains(&b'<') {
                return Err(Problem::Malformed("< in an attribute's value"));
            }
        }
    }

    fn entity(&mut self) -> Read<()> {
        let is_parameter = self.pass(b"%");
        if is_parameter {
            self.some_blanks()?;
        }
        let name = self.name()?.to_vec();
        self.some_blanks()?;
        let value = if matches!(self.peek()?, b'"' | b'\'') {
            let value = self.literal()?;
            references_are_whole(value, self.depth > 0)?;
            Some(value)
        } else {
            if !self.external_id(false)? {
                return Err(Problem::Malformed("an entity needs a value or an identifier"));
            }
            let blanks = self.blanks();
            if blanks && !is_parameter && self.pass(b"NDATA") {
                self.some_blanks()?;
                self.name()?;
            }
            None
        };
        // The first declaration holds.
        if is_parameter {
            self.found.parameters.entry(name).or_insert_with(|| value.map(with_characters));
        } else {
            let value = value.unwrap_or(&[]).to_vec();
            self.found.entities.entry(name).or_insert(value);
        }
        Ok(())
    }
}

/// A value with its character references replaced, others left alone (section 4.5).
fn with_characters(value: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr::memmem::find(rest, b"&#") {
        text.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let length = memchr::memchr(b';', rest).unwrap_or(rest.len());
        let digits = String::from_utf8_lossy(rest.get(2..length).unwrap_or(&[])).into_owned();
        let code = match digits.strip_prefix('x') {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => digits.parse(),
        };
        match code.ok().and_then(char::from_u32) {
            Some(character) if length < rest.len() => {
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[length + 1..];
            }
            _ => {
                text.extend_from_slice(b"&#");
                rest = &rest[2..];
            }
        }
    }
    text.extend_from_slice(rest);
    text
}

/// An entity's value may hold `&` only as the start of a reference, and `%` not at all inside the document itself.
fn references_are_whole(value: &[u8], in_parameter: bool) -> Read<()> {
    if value.contains(&b'%') && !in_parameter {
        return Err(Problem::Malformed("% in an entity's value"));
    }
    for at in memchr::memchr_iter(b'&', value) {
        let rest = &value[at + 1..];
        let length = memchr::memchr(b';', rest).unwrap_or(0);
        let is_name = |byte: &u8| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'_' | b':' | b'-' | b'.' | b'#' | 0x80..)
        };
        if length == 0 || !rest[..length].iter().all(is_name) {
            return Err(Problem::Malformed("& in an entity's value that begins no reference"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<DocumentType, Problem> {
        let mut found = DocumentType::default();
        let length = read(text.as_bytes(), &mut found)?;
        assert_eq!(length, text.len(), "{text}");
        Ok(found)
    }

    #[test]
    fn declarations_of_every_kind_are_read() {
        for text in [
            "<!DOCTYPE a>",
            "<!DOCTYPE a SYSTEM 'x'>",
            "<!DOCTYPE a PUBLIC \"p\" 'x' [ ] >",
            "<!DOCTYPE a [<!ELEMENT a EMPTY><!ELEMENT b ANY><!-- c --><?p i?>]>",
            "<!DOCTYPE a [<!ELEMENT a (#PCDATA)><!ELEMENT b (#PCDATA | c | d)* >]>",
            "<!DOCTYPE a [<!ELEMENT a (b, (c | d+)?, e*)>]>",
            "<!DOCTYPE a [<!ATTLIST a b CDATA #IMPLIED c (x|y) 'x' d NOTATION (n) #REQUIRED e ID #FIXED \"1\">]>",
            "<!DOCTYPE a [<!NOTATION n PUBLIC 'p'><!ENTITY u SYSTEM 'f' NDATA n><!ENTITY % p ''>%p;]>",
            "<!DOCTYPE a SYSTEM 'x' [%p;]>",
        ] {
            assert!(check(text).is_ok(), "{text}");
        }
        let found =
            check("<!DOCTYPE a [<!ENTITY x '1&lt;'><!ENTITY x '2'><!ENTITY y SYSTEM 'f'>]>");
        let found = found.unwrap();
        assert_eq!(found.entities[&b"x"[..]], b"1&lt;");
        assert_eq!(found.entities[&b"y"[..]], b"");
        assert!(!found.is_open);
        assert!(check("<!DOCTYPE a SYSTEM 'x'>").unwrap().is_open);
        let found = check(
            "<!DOCTYPE a [<!ENTITY % q '<!ENTITY &#x25; p \"<!ENTITY x &#34;1&#34;>\">'>%q;]>",
        );
        assert!(found.is_err(), "a quote inside its own quotes");
        let found = check("<!DOCTYPE a [<!ENTITY % p '<!ENTITY x \"1\">'>%p;]>").unwrap();
        assert_eq!(found.entities[&b"x"[..]], b"1");
    }

    #[test]
    fn malformed_declarations_are_errors() {
        for text in [
            "<!DOCTYPEa>",
            "<!DOCTYPE a [<!ELEMENT a (#ANY)>]>",
            "<!DOCTYPE a [<!ELEMENT a (#PCDATA|b)>]>",
            "<!DOCTYPE a [<!ELEMENT a (b,c|d)>]>",
            "<!DOCTYPE a [<!ELEMENT a ()>]>",
            "<!DOCTYPE a [<!ATTLIST a b NOPE #IMPLIED>]>",
            "<!DOCTYPE a [<!ENTITY x '%p;'>]>",
            "<!DOCTYPE a [<!ENTITY x 'a & b'>]>",
            "<!DOCTYPE a [<!ENTITY x>]>",
            "<!DOCTYPE a [<!ENTITY % p 'v' NDATA n>]>",
            "<!DOCTYPE a [<!NOPE x>]>",
            "<!DOCTYPE a [<!ENTITY % p SYSTEM 'x'>%p;%q;]>",
            "<!DOCTYPE a [%p;]>",
            "<!DOCTYPE a [<!ENTITY % p 'text'>%p;]>",
            "<!DOCTYPE a [<!ENTITY % p '<!ELEMENT a'>%p;]>",
            "<!DOCTYPE a [<!ENTITY % p '&#37;p;'>%p;]>",
            "<!DOCTYPE a [ text ]>",
            "<!DOCTYPE a [] b>",
        ] {
            assert!(matches!(check(text), Err(Problem::Malformed(_))), "{text}");
        }
        assert_eq!(check("<!DOCTYPE a [<!ELEM").unwrap_err(), Problem::End);
        assert_eq!(check("<!DOCTYPE a [").unwrap_err(), Problem::End);
        let deep = format!("<!DOCTYPE a [<!ELEMENT a {}b", "(".repeat(10_000));
        assert!(matches!(check(&deep), Err(Problem::Malformed(_))));
    }
}
