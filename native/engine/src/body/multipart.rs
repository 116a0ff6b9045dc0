//! `multipart/form-data` bodies, read as strictly as ModSecurity v2 does, with its flags for everything unusual.
//!
//! Source: `seclang.md` section 5.3; RFC 7578 and RFC 2046 section 5.1 for the format.

use std::ops::Range;

/// How long the `Content-Type` value may be, bytes.
const CONTENT_TYPE_LIMIT: usize = 1024;
/// How long one line of a part's header may be, bytes.
const HEADER_LINE_LIMIT: usize = 4096;
/// How many parts are read.
const PART_LIMIT: usize = 4096;

/// What was unusual about a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) error: bool,
    pub(crate) boundary_quoted: bool,
    pub(crate) boundary_whitespace: bool,
    pub(crate) data_before: bool,
    pub(crate) data_after: bool,
    pub(crate) header_folding: bool,
    pub(crate) invalid_header_folding: bool,
    pub(crate) lf_line: bool,
    pub(crate) crlf_line: bool,
    pub(crate) missing_semicolon: bool,
    pub(crate) invalid_quoting: bool,
    pub(crate) invalid_part: bool,
    pub(crate) file_limit_exceeded: bool,
    /// Lines that look like a boundary and are none.
    pub(crate) unmatched_boundary: bool,
    /// The body has its boundaries, the last one included.
    pub(crate) complete: bool,
}

impl Flags {
    /// `MULTIPART_UNMATCHED_BOUNDARY`: 1 when a line looks like a boundary of another kind and the body's own are not all
    /// there, 2 when they are (a file that holds such lines, most likely).
    pub(crate) fn unmatched(&self) -> usize {
        match (self.unmatched_boundary, self.complete) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        }
    }

    /// `MULTIPART_STRICT_ERROR`
    pub(crate) fn strict_error(&self) -> bool {
        self.error
            || self.boundary_quoted
            || self.boundary_whitespace
            || self.data_before
            || self.data_after
            || self.header_folding
            || self.invalid_header_folding
            || self.lf_line
            || self.missing_semicolon
            || self.invalid_quoting
            || self.invalid_part
            || self.file_limit_exceeded
    }
}

/// One part of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// The form field.
    pub(crate) name: Vec<u8>,
    /// Present for files.
    pub(crate) filename: Option<Vec<u8>>,
    /// Header lines as `Name: value`, folded ones joined.
    pub(crate) headers: Vec<Vec<u8>>,
    /// Where the content lies in the body.
    pub(crate) data: Range<usize>,
}

/// What a body says.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) parts: Vec<Part>,
    pub(crate) flags: Flags,
}

/// Reads a body. What was read before an error is in `content`; flags are set in any case.
///
/// # Errors
/// What is wrong with the body, in the words that tools look for.
pub(crate) fn parse(
    content_type: &[u8],
    body: &[u8],
    partial: bool,
    file_limit: usize,
    content: &mut Content,
) -> Result<(), String> {
    let result = boundary(content_type, &mut content.flags).and_then(|boundary| {
        let mut parser = Parser {
            body,
            boundary: &boundary,
            content: &mut *content,
            part: None,
            files: 0,
            file_limit,
        };
        parser.run(partial)
    });
    result.map_err(|reason| {
        content.flags.error = true;
        format!("Multipart parsing error: Multipart: {reason}")
    })
}

/// The boundary that a `Content-Type` value names.
fn boundary(content_type: &[u8], flags: &mut Flags) -> Result<Vec<u8>, String> {
    let fail = |what: &str| Err(format!("Invalid boundary in C-T ({what})."));
    if content_type.len() > CONTENT_TYPE_LIMIT {
        return fail("length");
    }
    let lower = content_type.to_ascii_lowercase();
    if count_boundary_parameters(&lower) > 1 {
        return Err("Multiple boundary parameters in C-T.".to_string());
    }
    let Some(start) = memchr::memmem::find(&lower, b"boundary") else {
        return Err("Boundary not found in C-T.".to_string());
    };
    let media_type = b"multipart/form-data".len();
    let mut semicolon = false;
    for byte in lower.get(media_type..start).unwrap_or(&[]) {
        match byte {
            b';' if !semicolon => semicolon = true,
            byte if is_space(*byte) => {}
            _ => return fail("malformed"),
        }
    }
    flags.missing_semicolon |= !semicolon;
    let after = start + b"boundary".len();
    let Some(equals) = memchr::memchr(b'=', &lower[after..]) else { return fail("malformed") };
    for byte in &lower[after..after + equals] {
        if !is_space(*byte) {
            return fail("parameter name");
        }
        flags.boundary_whitespace = true;
    }
    let value = &content_type[after + equals + 1..];
    let boundary = match value {
        [b'"', inner @ .., b'"'] => {
            flags.boundary_quoted = true;
            inner
        }
        [b'"', ..] | [_, .., b'"'] => return fail("quote"),
        other => other,
    };
    if count_boundary_parameters(&boundary.to_ascii_lowercase()) > 0 {
        return fail("content");
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    if !boundary.iter().all(allowed) || boundary.last() == Some(&b' ') {
        return fail("characters");
    }
    if boundary.is_empty() {
        return fail("empty");
    }
    Ok(boundary.to_vec())
}

/// How often `boundary`, blanks and `=` follow one another.
fn count_boundary_parameters(lower: &[u8]) -> usize {
    memchr::memmem::find_iter(lower, b"boundary")
        .filter(|at| {
            let rest = &lower[at + b"boundary".len()..];
            rest.iter().find(|byte| !is_space(**byte)) == Some(&b'=')
        })
        .count()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, 0x09..=0x0d | 0x20)
}

/// What a line is to the multipart format.
enum Line {
    Boundary { last: bool },
    Other,
}

struct Parser<'a> {
    body: &'a [u8],
    boundary: &'a [u8],
    content: &'a mut Content,
    part: Option<OpenPart>,
    files: usize,
    file_limit: usize,
}

/// The part being read.
#[derive(Default)]
struct OpenPart {
    name: Option<Vec<u8>>,
    filename: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where its content begins, once its header has ended.
    data: Option<usize>,
}

impl Parser<'_> {
    fn run(&mut self, partial: bool) -> Result<(), String> {
        let body = self.body;
        let mut at = 0;
        let mut boundaries = 0;
        while at < body.len() {
            let end = memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |found| at + found + 1);
            let line = &body[at..end];
            match self.classify(line, end == body.len())? {
                Line::Boundary { last } => {
                    boundaries += 1;
                    self.finish_part(at);
                    if last {
                        self.content.flags.complete = boundaries > 1;
                        self.content.flags.data_after |= end < body.len();
                        return Ok(());
                    }
                    if self.content.parts.len() >= PART_LIMIT {
                        return Err("Too many parts.".to_string());
                    }
                    self.part = Some(OpenPart::default());
                }
                Line::Other => match &mut self.part {
                    None => self.content.flags.data_before = true,
                    Some(part) if part.data.is_some() => {}
                    // A header line that the end of a cut body cut as well.
                    Some(_) if partial && !line.ends_with(b"\n") => {}
                    Some(_) => self.header_line(line, end)?,
                },
            }
            at = end;
        }
        if partial {
            self.finish_part(body.len());
            return Ok(());
        }
        self.finish_part(body.len());
        Err(if boundaries == 0 {
            "No boundaries found in payload.".to_string()
        } else {
            "Final boundary missing.".to_string()
        })
    }

    fn classify(&mut self, line: &[u8], at_end: bool) -> Result<Line, String> {
        let flags = &mut self.content.flags;
        let Some(rest) = line.strip_prefix(b"--") else {
            if line.len() > self.boundary.len() + 2
                && memchr::memmem::find(line, self.boundary)
                    .is_some_and(|at| line[..at].ends_with(b"--"))
            {
                flags.unmatched_boundary = true;
            }
            return Ok(Line::Other);
        };
        if let Some(after) = rest.strip_prefix(self.boundary) {
            let (last, after) = match after.strip_prefix(b"--") {
                Some(after) => (true, after),
                None => (false, after),
            };
            return match after {
                b"\r\n" => {
                    flags.crlf_line = true;
                    Ok(Line::Boundary { last })
                }
                b"\n" => {
                    flags.lf_line = true;
                    Ok(Line::Boundary { last })
                }
                b"" | b"\r" if last && at_end => Ok(Line::Boundary { last }),
                _ => Err("Invalid boundary.".to_string()),
            };
        }
        if flags.boundary_quoted
            && rest.strip_prefix(b"\"").is_some_and(|r| r.starts_with(self.boundary))
        {
            return Err("Invalid boundary (quotes).".to_string());
        }
        let blanks = rest.iter().take_while(|byte| is_space(**byte)).count();
        if blanks > 0 && rest[blanks..].starts_with(self.boundary) {
            return Err("Invalid boundary (whitespace).".to_string());
        }
        flags.unmatched_boundary = true;
        Ok(Line::Other)
    }

    fn header_line(&mut self, line: &[u8], next: usize) -> Result<(), String> {
        let flags = &mut self.content.flags;
        let text = match line {
            [text @ .., b'\r', b'\n'] => {
                flags.crlf_line = true;
                text
            }
            [text @ .., b'\n'] => {
                flags.lf_line = true;
                text
            }
            text => text,
        };
        let Some(part) = &mut self.part else { return Ok(()) };
        if text.is_empty() {
            return self.finish_header(next);
        }
        if text.len() > HEADER_LINE_LIMIT {
            return Err("Part header line too long.".to_string());
        }
        if text.contains(&0) {
            return Err("Nul byte in part headers.".to_string());
        }
        if is_space(text[0]) {
            let Some((_, value)) = part.headers.last_mut() else {
                return Err("Invalid part header (folding error).".to_string());
            };
            flags.header_folding = true;
            flags.invalid_header_folding |= !matches!(text[0], b' ' | b'\t');
            value.push(b' ');
            value.extend_from_slice(text.trim_ascii_start());
            return Ok(());
        }
        let Some(colon) = memchr::memchr(b':', text) else {
            let flawed = text.iter().any(|byte| !(33..=126).contains(byte) && !is_space(*byte));
            return Err(if flawed {
                "Invalid part header (contains invalid character).".to_string()
            } else {
                "Invalid part header (colon missing).".to_string()
            });
        };
        let name = &text[..colon];
        if name.iter().any(|byte| !(33..=126).contains(byte)) {
            return Err("Invalid part header (contains invalid character).".to_string());
        }
        if name.is_empty() {
            return Err("Invalid part header (header name missing).".to_string());
        }
        if part.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Err("Duplicate part header.".to_string());
        }
        part.headers.push((name.to_vec(), text[colon + 1..].trim_ascii_start().to_vec()));
        Ok(())
    }

    /// The blank line after a part's header.
    fn finish_header(&mut self, next: usize) -> Result<(), String> {
        let Some(part) = &mut self.part else { return Ok(()) };
        let disposition =
            part.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"content-disposition"));
        let Some((_, value)) = disposition else {
            return Err("Part missing Content-Disposition header.".to_string());
        };
        let value = value.clone();
        content_disposition(&value, part, &mut self.content.flags)
            .ok_or_else(|| "Invalid Content-Disposition header.".to_string())?;
        if part.name.is_none() {
            return Err("Content-Disposition header missing name field.".to_string());
        }
        if part.filename.is_some() {
            self.files += 1;
            self.content.flags.file_limit_exceeded |= self.files > self.file_limit;
        }
        part.data = Some(next);
        Ok(())
    }

    /// Ends the open part; its content reaches up to the line break before `end`.
    fn finish_part(&mut self, end: usize) {
        let Some(part) = self.part.take() else { return };
        let (Some(name), Some(start)) = (part.name, part.data) else {
            self.content.flags.invalid_part = true;
            return;
        };
        let data = &self.body[start..end];
        let length = match data {
            [data @ .., b'\r', b'\n'] | [data @ .., b'\n'] => data.len(),
            data => data.len(),
        };
        let headers = part
            .headers
            .into_iter()
            .map(|(name, value)| [name.as_slice(), b": ", value.as_slice()].concat())
            .collect();
        self.content.parts.push(Part {
            name,
            filename: part.filename,
            headers,
            data: start..start + length,
        });
    }
}

/// Reads `form-data; name="…"; filename="…"`; nothing else is accepted.
fn content_disposition(value: &[u8], part: &mut OpenPart, flags: &mut Flags) -> Option<()> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let skip = |text: &mut &[u8]| *text = &text[text.iter().take_while(|b| is_blank(b)).count()..];
    if !value.get(..9)?.eq_ignore_ascii_case(b"form-data") {
        return None;
    }
    let mut rest = &value[9..];
    loop {
        skip(&mut rest);
        match rest.first() {
            None => return Some(()),
            Some(b';') => rest = &rest[1..],
            Some(_) => return None,
        }
        skip(&mut rest);
        let end = rest.iter().position(|byte| *byte == b'=' || is_blank(byte))?;
        let name = &rest[..end];
        rest = &rest[end..];
        skip(&mut rest);
        rest = rest.strip_prefix(b"=")?;
        skip(&mut rest);
        let mut parameter = Vec::new();
        match rest.first()? {
            quote @ (b'"' | b'\'') => {
                flags.invalid_quoting |= *quote == b'\'';
                let mut at = 1;
                loop {
                    match rest.get(at)? {
                        b'\\' => {
                            let next = rest.get(at + 1)?;
                            if next == quote || *next == b'\\' {
                                parameter.push(*next);
                                at += 2;
                            } else {
                                parameter.push(b'\\');
                                at += 1;
                            }
                        }
                        byte if byte == quote => break,
                        byte => {
                            parameter.push(*byte);
                            at += 1;
                        }
                    }
                }
                rest = &rest[at + 1..];
            }
            _ => {
                let length = rest.iter().take_while(|byte| is_token(**byte)).count();
                parameter.extend_from_slice(&rest[..length]);
                flags.invalid_quoting |= parameter.contains(&b'\'');
                rest = &rest[length..];
            }
        }
        let field = match name {
            b"name" => &mut part.name,
            b"filename" => &mut part.filename,
            _ => return None,
        };
        if field.replace(parameter).is_some() {
            return None;
        }
    }
}

/// RFC 2616 token bytes.
fn is_token(byte: u8) -> bool {
    (33..=126).contains(&byte) && !b"()<>@,;:\\\"/[]?={}".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &[u8] = b"multipart/form-data; boundary=b";

    fn read(content_type: &[u8], body: &str) -> (Content, Result<(), String>) {
        let mut content = Content::default();
        let result = parse(content_type, body.as_bytes(), false, 10, &mut content);
        (content, result)
    }

    fn field(name: &str, value: &str) -> String {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }

    fn data<'a>(content: &Content, index: usize, body: &'a str) -> &'a str {
        &body[content.parts[index].data.clone()]
    }

    #[test]
    fn fields_and_files_are_told_apart() {
        let body = format!(
            "{}--b\r\nContent-Disposition: form-data; name=f; filename=\"a\\\"b.php\"\r\nContent-Type: text/plain\r\n\r\nx\ny\r\n--b--\r\n",
            field("a", "1\r\n2")
        );
        let (content, result) = read(TYPE, &body);
        assert_eq!(result, Ok(()));
        assert!(!content.flags.strict_error(), "{:?}", content.flags);
        assert_eq!(content.parts[0].name, b"a");
        assert_eq!(data(&content, 0, &body), "1\r\n2");
        assert_eq!(content.parts[1].filename.as_deref(), Some(&b"a\"b.php"[..]));
        assert_eq!(data(&content, 1, &body), "x\ny");
        assert_eq!(content.parts[1].headers[1], b"Content-Type: text/plain");
    }

    #[test]
    fn the_last_line_may_lack_its_line_break() {
        let (content, result) = read(TYPE, &(field("a", "1") + "--b--"));
        assert_eq!(result, Ok(()));
        assert!(!content.flags.strict_error());
        let (_, result) = read(TYPE, &field("a", "1"));
        assert!(result.unwrap_err().contains("Final boundary missing"));
        assert!(read(TYPE, "x").1.unwrap_err().contains("No boundaries"));
    }

    #[test]
    fn unusual_bodies_set_their_flags() {
        let check = |content_type: &[u8], body: String, flag: fn(&Flags) -> bool| {
            let (content, result) = read(content_type, &body);
            assert_eq!(result, Ok(()), "{body}");
            assert!(flag(&content.flags), "{body}: {:?}", content.flags);
        };
        let body = || field("a", "1") + "--b--\r\n";
        check(b"multipart/form-data; boundary=\"b\"", body(), |flags| flags.boundary_quoted);
        check(b"multipart/form-data boundary=b", body(), |flags| flags.missing_semicolon);
        check(b"multipart/form-data; boundary =b", body(), |flags| flags.boundary_whitespace);
        check(TYPE, "x\r\n".to_string() + &body(), |flags| flags.data_before);
        check(TYPE, body() + "\r\n", |flags| flags.data_after);
        check(TYPE, body().replace("\r\n", "\n"), |flags| flags.lf_line);
        check(TYPE, body().replace("; name", ";\r\n name"), |flags| flags.header_folding);
        check(TYPE, body().replace("\"a\"", "'a'"), |flags| flags.invalid_quoting);
        check(TYPE, "--b\r\n".to_string() + &body(), |flags| flags.invalid_part);
        check(TYPE, field("a", "--x") + "--b--\r\n", |flags| flags.unmatched() == 2);
        assert_eq!(read(TYPE, &field("a", "--x")).0.flags.unmatched(), 1);
    }

    #[test]
    fn bad_boundaries_are_errors() {
        for parameter in [
            "",
            "; boundary=",
            "; boundary=a;b",
            "; boundary=\"a",
            "; boundary=a; boundary=b",
            "; x; boundary=a",
        ] {
            let content_type = format!("multipart/form-data{parameter}");
            let (content, result) = read(content_type.as_bytes(), "--a--");
            assert!(result.is_err(), "{content_type}");
            assert!(content.flags.strict_error());
        }
    }

    #[test]
    fn bad_part_headers_are_errors() {
        let error = |header: &str| {
            read(TYPE, &format!("--b\r\n{header}\r\n\r\n1\r\n--b--\r\n")).1.unwrap_err()
        };
        assert!(error("\x0eContent-Disposition: form-data; name=a").contains(
            "Multipart parsing error: Multipart: Invalid part header (contains invalid character)"
        ));
        assert!(error("Content-Disposition").contains("colon missing"));
        assert!(error("X: 1\r\nx: 2").contains("Duplicate"));
        assert!(error("X: 1").contains("missing Content-Disposition"));
        for disposition in [
            "attachment; name=a",
            "form-data",
            "form-data; name=a; name=b",
            "form-data; name=a; filename*=b",
            "form-data; name=\"a",
        ] {
            assert!(error(&format!("Content-Disposition: {disposition}"))
                .contains("Content-Disposition"));
        }
    }

    #[test]
    fn a_cut_body_keeps_its_parts() {
        let mut content = Content::default();
        let body = field("a", "1") + "--b\r\nContent-Disposition: form-data; name=c\r\n\r\nunion";
        assert_eq!(parse(TYPE, body.as_bytes(), true, 10, &mut content), Ok(()));
        assert_eq!(&body[content.parts[1].data.clone()], "union");
        let body = field("a", "1") + "--b\r\nContent-Dispo";
        let mut content = Content::default();
        assert_eq!(parse(TYPE, body.as_bytes(), true, 10, &mut content), Ok(()));
    }
}
