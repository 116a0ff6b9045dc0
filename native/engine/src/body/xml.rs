//! XML bodies: the text of the root element and the values of all attributes.
//!
//! Source: `seclang.md` section 5.4; XML 1.0 (fifth edition) for well-formedness as far as it concerns what is inspected.
//! Works on bytes, so that a body in any encoding that keeps ASCII is read; UTF-16 is converted first. External entities
//! are never loaded; entities that the body itself declares expand within limits.

use std::borrow::Cow;

use super::xml_dtd::{self, DocumentType, Problem};

/// How many bytes entities may expand to in one body.
const EXPANSION_LIMIT: usize = 65_536;
/// How deep entities may name one another.
const ENTITY_DEPTH: usize = 8;
/// How deep elements may nest.
const ELEMENT_DEPTH: usize = 1024;
/// How many attributes one element may have.
const ATTRIBUTE_LIMIT: usize = 1024;

/// What an XML body says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// The text inside the root element, concatenated; `None` without a root.
    pub(crate) text: Option<Vec<u8>>,
    /// Attribute values in document order; declarations of namespaces are no attributes (XPath 1.0 section 5.3).
    pub(crate) attributes: Vec<Vec<u8>>,
}

/// Reads a body. What was read before an error is in `content`.
///
/// # Errors
/// Why it is not well-formed.
pub(crate) fn parse(body: &[u8], partial: bool, content: &mut Content) -> Result<(), String> {
    let body = to_ascii_compatible(body);
    let mut parser = Parser {
        body: &body,
        at: 0,
        content,
        document_type: DocumentType::default(),
        expanded: 0,
        open: Vec::new(),
        closed: false,
    };
    let complete = match parser.document() {
        Ok(()) => parser.closed,
        Err(Stop::End) => false,
        Err(Stop::Because(reason)) => return Err(format!("XML: {reason}")),
    };
    if !complete && !partial {
        return Err("XML: the text ends before the root element is closed".to_string());
    }
    if complete && names_utf8(&body) && std::str::from_utf8(&body).is_err() {
        return Err("XML: the text is not UTF-8".to_string());
    }
    Ok(())
}

/// Why reading stopped.
enum Stop {
    /// The text is over.
    End,
    /// It is not well-formed.
    Because(String),
}

fn because<T>(reason: &str) -> Result<T, Stop> {
    Err(Stop::Because(reason.to_string()))
}

/// UTF-16, told by its first bytes, as UTF-8; anything else as it is, without a byte order mark.
fn to_ascii_compatible(body: &[u8]) -> Cow<'_, [u8]> {
    let read: fn([u8; 2]) -> u16 = match body {
        [0xff, 0xfe, ..] | [b'<', 0, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] | [0, b'<', ..] => u16::from_be_bytes,
        _ => return Cow::Borrowed(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)),
    };
    let units: Vec<u16> = body.chunks_exact(2).map(|pair| read([pair[0], pair[1]])).collect();
    let text = String::from_utf16_lossy(&units);
    Cow::Owned(text.trim_start_matches('\u{feff}').as_bytes().to_vec())
}

/// Whether the text is meant to be UTF-8: it says so or says nothing.
fn names_utf8(body: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(body, b"?>").filter(|_| body.starts_with(b"<?xml")) else {
        return true;
    };
    let declaration = body[..end].to_ascii_lowercase();
    memchr::memmem::find(&declaration, b"encoding").is_none()
        || memchr::memmem::find(&declaration, b"utf-8").is_some()
        || memchr::memmem::find(&declaration, b"utf-16").is_some()
}

/// Whether the declaration says `standalone="yes"`.
fn stands_alone(body: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(body, b"?>").filter(|_| body.starts_with(b"<?xml")) else {
        return false;
    };
    let declaration = &body[..end];
    memchr::memmem::find(declaration, b"standalone").is_some_and(|at| {
        let value = declaration[at + b"standalone".len()..].trim_ascii_start();
        let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii_start();
        value.starts_with(b"\"yes\"") || value.starts_with(b"'yes'")
    })
}

struct Parser<'a> {
    body: &'a [u8],
    at: usize,
    content: &'a mut Content,
    document_type: DocumentType,
    expanded: usize,
    /// Names of the open elements.
    open: Vec<&'a [u8]>,
    /// The root element is complete.
    closed: bool,
}

impl<'a> Parser<'a> {
    fn document(&mut self) -> Result<(), Stop> {
        let body = self.body;
        while self.at < body.len() {
            let rest = &body[self.at..];
            if rest[0] != b'<' {
                let length = memchr::memchr(b'<', rest).unwrap_or(rest.len());
                self.at += length;
                self.text(&rest[..length])?;
            } else if let Some(comment) = rest.strip_prefix(b"<!--") {
                let end = memchr::memmem::find(comment, b"--").ok_or(Stop::End)?;
                match comment.get(end + 2) {
                    Some(b'>') => self.at += 4 + end + 3,
                    Some(_) => return because("two hyphens inside a comment"),
                    None => return Err(Stop::End),
                }
            } else if let Some(data) = rest.strip_prefix(b"<![CDATA[") {
                if self.open.is_empty() {
                    return because("text outside of the root element");
                }
                let Some(end) = memchr::memmem::find(data, b"]]>") else {
                    self.push(data);
                    return Err(Stop::End);
                };
                self.push(&data[..end]);
                self.at += 9 + end + 3;
            } else if rest.starts_with(b"<?") {
                self.at += memchr::memmem::find(rest, b"?>").ok_or(Stop::End)? + 2;
            } else if rest.starts_with(b"<!DOCTYPE") {
                if self.content.text.is_some() {
                    return because("a document type after the root element");
                }
                self.document_type()?;
            } else if rest.starts_with(b"</") {
                self.end_tag()?;
            } else if b"<!--".starts_with(rest) || b"<![CDATA[".starts_with(rest) {
                return Err(Stop::End);
            } else {
                self.start_tag()?;
            }
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) {
        self.content.text.get_or_insert_default().extend_from_slice(bytes);
    }

    fn text(&mut self, text: &[u8]) -> Result<(), Stop> {
        if self.open.is_empty() {
            if text.iter().all(u8::is_ascii_whitespace) {
                return Ok(());
            }
            return because("text outside of the root element");
        }
        if memchr::memmem::find(text, b"]]>").is_some() {
            return because("]]> in text");
        }
        let result = self.expand(text, ENTITY_DEPTH);
        match result {
            Ok(expanded) => {
                self.push(&expanded);
                Ok(())
            }
            Err(stop) => {
                // What cannot be expanded is looked at as it stands.
                self.push(text);
                Err(stop)
            }
        }
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.body.get(self.at).copied().ok_or(Stop::End)
    }

    fn blanks(&mut self) -> bool {
        let start = self.at;
        while self.body.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.at > start
    }

    fn name(&mut self) -> Result<&'a [u8], Stop> {
        let start = self.at;
        let is_start =
            |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':' | 0x80..);
        if !is_start(self.peek()?) {
            return because("a name is expected");
        }
        let is_part =
            |byte: u8| is_start(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        while self.body.get(self.at).is_some_and(|byte| is_part(*byte)) {
            self.at += 1;
        }
        Ok(&self.body[start..self.at])
    }

    fn start_tag(&mut self) -> Result<(), Stop> {
        if self.closed {
            return because("more than one root element");
        }
        self.at += 1;
        let name = self.name()?;
        self.content.text.get_or_insert_default();
        let mut names: Vec<&[u8]> = Vec::new();
        loop {
            let blanks = self.blanks();
            match self.peek()? {
                b'>' => {
                    self.at += 1;
                    if self.open.len() >= ELEMENT_DEPTH {
                        return because("elements nest deeper than the limit");
                    }
                    self.open.push(name);
                    return Ok(());
                }
                b'/' => {
                    self.at += 1;
                    if self.peek()? != b'>' {
                        return because("> is expected");
                    }
                    self.at += 1;
                    self.closed |= self.open.is_empty();
                    return Ok(());
                }
                _ if !blanks => return because("a blank is expected before an attribute"),
                _ => {}
            }
            let attribute = self.name()?;
            if names.len() >= ATTRIBUTE_LIMIT {
                return because("more attributes than the limit");
            }
            if names.contains(&attribute) {
                return because("an attribute occurs twice");
            }
            names.push(attribute);
            self.blanks();
            if self.peek()? != b'=' {
                return because("= is expected after an attribute's name");
            }
            self.at += 1;
            self.blanks();
            let quote = self.peek()?;
            if !matches!(quote, b'"' | b'\'') {
                return because("an attribute's value is not quoted");
            }
            self.at += 1;
            let rest = &self.body[self.at..];
            let is_attribute = attribute != b"xmlns" && !attribute.starts_with(b"xmlns:");
            let Some(length) = memchr::memchr(quote, rest) else {
                self.content.attributes.push(rest.to_vec());
                return Err(Stop::End);
            };
            self.at += length + 1;
            let value = &rest[..length];
            match self.expand(value, ENTITY_DEPTH) {
                Ok(expanded) if is_attribute => self.content.attributes.push(expanded),
                Ok(_) => {}
                Err(stop) => {
                    self.content.attributes.push(value.to_vec());
                    return Err(stop);
                }
            }
            if value.contains(&b'<') {
                return because("< in an attribute's value");
            }
        }
    }

    fn end_tag(&mut self) -> Result<(), Stop> {
        self.at += 2;
        let name = self.name()?;
        self.blanks();
        if self.peek()? != b'>' {
            return because("> is expected");
        }
        self.at += 1;
        if self.open.pop() != Some(name) {
            return because("an end tag does not fit its start tag");
        }
        self.closed |= self.open.is_empty();
        Ok(())
    }

    fn entity(&mut self, name: &[u8], depth: usize, text: &mut Vec<u8>) -> Result<(), Stop> {
        if let Some(number) = name.strip_prefix(b"#") {
            let number = String::from_utf8_lossy(number);
            let code = match number.strip_prefix('x') {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            let Some(character) = code.ok().filter(|code| *code > 0).and_then(char::from_u32)
            else {
                return because("a character reference names no character");
            };
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
        let predefined: Option<&[u8]> = match name {
            b"lt" => Some(b"<"),
            b"gt" => Some(b">"),
            b"amp" => Some(b"&"),
            b"quot" => Some(b"\""),
            b"apos" => Some(b"'"),
            _ => None,
        };
        if let Some(character) = predefined {
            text.extend_from_slice(character);
            return Ok(());
        }
        let Some(replacement) = self.document_type.entities.get(name).cloned() else {
            // Section 4.1: it may be declared where nobody looks, unless the document stands alone.
            if self.document_type.is_open && !stands_alone(self.body) {
                return Ok(());
            }
            return because(&format!("unknown entity &{};", String::from_utf8_lossy(name)));
        };
        if depth == 0 {
            return because("entities nest deeper than the limit");
        }
        self.expanded += replacement.len();
        if self.expanded > EXPANSION_LIMIT {
            return because("entities expand beyond the limit");
        }
        text.extend(self.expand(&replacement, depth - 1)?);
        Ok(())
    }

    /// Replaces the references in a text.
    fn expand(&mut self, text: &[u8], depth: usize) -> Result<Vec<u8>, Stop> {
        let mut expanded = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = memchr::memchr(b'&', rest) {
            expanded.extend_from_slice(&rest[..at]);
            let Some(length) = memchr::memchr(b';', &rest[at..]) else {
                return because("a reference is not closed");
            };
            self.entity(&rest[at + 1..at + length], depth, &mut expanded)?;
            rest = &rest[at + length + 1..];
        }
        expanded.extend_from_slice(rest);
        Ok(expanded)
    }

    /// Skips a document type, noting what it declares.
    fn document_type(&mut self) -> Result<(), Stop> {
        match xml_dtd::read(&self.body[self.at..], &mut self.document_type) {
            Ok(length) => {
                self.at += length;
                Ok(())
            }
            Err(Problem::End) => Err(Stop::End),
            Err(Problem::Malformed(reason)) => because(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Content, Result<(), String>) {
        let mut content = Content::default();
        let result = parse(text.as_bytes(), false, &mut content);
        (content, result)
    }

    fn valid(text: &str) -> (String, Vec<String>) {
        let (content, result) = read(text);
        assert_eq!(result, Ok(()), "{text}");
        let string = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            string(content.text.unwrap_or_default()),
            content.attributes.into_iter().map(string).collect(),
        )
    }

    #[test]
    fn text_and_attributes_are_collected() {
        let (text, attributes) = valid(
            "<?xml version=\"1.0\"?>\n<a x='1 &lt; 2'><b y=\"&#x41;\">one</b> <![CDATA[<two>]]>&amp;</a>\n",
        );
        assert_eq!(text, "one <two>&");
        assert_eq!(attributes, ["1 < 2", "A"]);
        assert_eq!(valid("<a/>"), (String::new(), vec![]));
    }

    #[test]
    fn own_entities_expand_and_foreign_ones_do_not() {
        let (text, _) = valid(
            "<!DOCTYPE a [<!ENTITY one \"1\"><!ENTITY two \"&one;2\"><!ENTITY f SYSTEM \"file:///etc/passwd\">]><a>&two;&f;</a>",
        );
        assert_eq!(text, "12");
    }

    #[test]
    fn an_entity_may_be_declared_outside_unless_the_document_stands_alone() {
        let (text, _) = valid("<!DOCTYPE a SYSTEM \"http://h/x.dtd\"><a>1&send;2</a>");
        assert_eq!(text, "12");
        for text in [
            "<?xml version='1.0' standalone='yes'?><!DOCTYPE a SYSTEM 'x'><a>&send;</a>",
            "<!DOCTYPE a [<!ENTITY % p SYSTEM 'x'>]><a>&q;</a>",
        ] {
            assert!(read(text).1.is_err(), "{text}");
        }
    }

    #[test]
    fn declarations_of_namespaces_are_no_attributes() {
        let (_, attributes) = valid("<a xmlns='u' xmlns:p=\"v\" p:b='1' xmlnsx='2'/>");
        assert_eq!(attributes, ["1", "2"]);
    }

    #[test]
    fn expansion_is_bounded() {
        let mut text = String::from("<!DOCTYPE a [<!ENTITY e0 \"xxxxxxxxxx\">");
        for level in 1..8 {
            let inner = format!("&e{};", level - 1).repeat(10);
            text.push_str(&format!("<!ENTITY e{level} \"{inner}\">"));
        }
        text.push_str("]><a>&e7;</a>");
        assert!(read(&text).1.unwrap_err().contains("limit"));
    }

    #[test]
    fn malformed_texts_are_errors() {
        for text in
            ["<a>", "<a></b>", "<a/><b/>", "x<a/>", "<a>&nope;</a>", "<a x=1/>", "<a", "text", ""]
        {
            assert!(read(text).1.is_err(), "{text}");
        }
        let (content, result) = read("<a>union select</a><b>");
        assert!(result.is_err());
        assert_eq!(content.text, Some(b"union select".to_vec()));
    }

    #[test]
    fn other_encodings_are_read() {
        let text: Vec<u8> = "\u{feff}<a>é</a>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut content = Content::default();
        assert_eq!(parse(&text, false, &mut content), Ok(()));
        assert_eq!(content.text.as_deref(), Some("é".as_bytes()));
        let latin = b"<?xml version='1.0' encoding='iso-8859-1'?><a>\xe9</a>";
        assert_eq!(parse(latin, false, &mut Content::default()), Ok(()));
        assert!(parse(b"<a>\xe9</a>", false, &mut Content::default()).is_err());
    }

    #[test]
    fn a_cut_body_is_no_error() {
        let mut content = Content::default();
        assert_eq!(parse(b"<a><b>text", true, &mut content), Ok(()));
        assert_eq!(content.text, Some(b"text".to_vec()));
    }
}
