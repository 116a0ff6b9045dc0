//! One exchange as variables: heads and bodies read into named members.
//!
//! Source: `seclang.md` sections 4.2 and 5; RFC 9112 for the form of heads.

use std::borrow::Cow;

use crate::body::{json, multipart, urlencoded, xml};
use crate::configuration::Configuration;
use crate::rule::BodyProcessor;
use crate::store::{Store, ValueId};
use crate::variable::Variable;

/// A named value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: ValueId,
    pub(crate) value: ValueId,
}

/// How many bytes the names and values of a JSON body's arguments may take, in whatever body.
const JSON_NAME_BYTES: usize = 1 << 20;
/// How many times the body's own length they may take beyond that.
const JSON_NAME_FACTOR: usize = 8;

const VARIABLES: usize = Variable::Xml as usize + 1;

/// The variables of an exchange that no rule writes to.
#[derive(Debug)]
pub(crate) struct Exchange {
    scalars: [Option<ValueId>; VARIABLES],
    headers: Vec<Member>,
    cookies: Vec<Member>,
    args_get: Vec<Member>,
    args_post: Vec<Member>,
    files: Vec<Member>,
    files_sizes: Vec<Member>,
    part_headers: Vec<Member>,
    multipart_names: Vec<Member>,
    xml_text: Option<ValueId>,
    xml_attributes: Vec<ValueId>,
    response_headers: Vec<Member>,
    /// The [`name_mark`]s of all request headers, and of all response headers.
    header_marks: u64,
    response_header_marks: u64,
    /// Bytes of argument names and values.
    args_combined: usize,
    urlencoded_error: bool,
    /// Bytes of a multipart body's headers and fields, without its files; of other bodies all.
    field_bytes: usize,
    pub(crate) processor: Option<BodyProcessor>,
    /// Why the request body could not be read.
    pub(crate) body_error: Option<String>,
}

impl Default for Exchange {
    fn default() -> Self {
        Exchange {
            scalars: [None; VARIABLES],
            headers: Vec::new(),
            cookies: Vec::new(),
            args_get: Vec::new(),
            args_post: Vec::new(),
            files: Vec::new(),
            files_sizes: Vec::new(),
            part_headers: Vec::new(),
            multipart_names: Vec::new(),
            xml_text: None,
            xml_attributes: Vec::new(),
            response_headers: Vec::new(),
            header_marks: 0,
            response_header_marks: 0,
            args_combined: 0,
            urlencoded_error: false,
            field_bytes: 0,
            processor: None,
            body_error: None,
        }
    }
}

impl Exchange {
    /// Forgets all variables; the memory of their lists stays.
    pub(crate) fn clear(&mut self) {
        for members in self.lists() {
            members.clear();
        }
        let mut old = std::mem::take(self);
        for (list, old) in self.lists().into_iter().zip(old.lists()) {
            *list = std::mem::take(old);
        }
    }

    fn lists(&mut self) -> [&mut Vec<Member>; 9] {
        [
            &mut self.headers,
            &mut self.cookies,
            &mut self.args_get,
            &mut self.args_post,
            &mut self.files,
            &mut self.files_sizes,
            &mut self.part_headers,
            &mut self.multipart_names,
            &mut self.response_headers,
        ]
    }

    /// Bytes of memory that [`Exchange::clear`] keeps.
    pub(crate) fn capacity_bytes(&mut self) -> usize {
        self.lists().iter().map(|list| list.capacity() * size_of::<Member>()).sum()
    }

    pub(crate) fn set(&mut self, variable: Variable, value: ValueId) {
        self.scalars[variable as usize] = Some(value);
    }

    fn set_number(&mut self, store: &mut Store, variable: Variable, number: usize) {
        let value = store.intern_number(number);
        self.set(variable, value);
    }

    pub(crate) fn set_flag(&mut self, variable: Variable, flag: bool) {
        self.set(variable, ValueId::flag(flag));
    }

    /// Reads a request head: request line and header lines.
    pub(crate) fn read_request_head(
        &mut self,
        store: &mut Store,
        head: &[u8],
        configuration: &Configuration,
    ) {
        let (line, lines) = split_line(head);
        let (method, rest) = split_at_byte(line, b' ');
        let (target, protocol) = match memchr::memrchr(b' ', rest) {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &b""[..]),
        };
        let (uri, path, query) = split_target(target);
        // Decoded once, as v3 does: the suite's tests of 933160 and others (`/get/eval%28…`) ask for it.
        let path = urlencoded::decode_path(path);
        let path = path.as_ref();
        let basename = match path.iter().rposition(|byte| matches!(byte, b'/' | b'\\')) {
            Some(at) => &path[at + 1..],
            None => path,
        };
        let mut set = |variable, bytes: &[u8]| {
            let value = store.intern(bytes);
            self.set(variable, value);
        };
        set(Variable::RequestLine, line);
        set(Variable::RequestMethod, method);
        set(Variable::RequestProtocol, protocol);
        set(Variable::RequestUriRaw, target);
        set(Variable::RequestUri, uri);
        set(Variable::RequestFilename, path);
        set(Variable::RequestBasename, basename);
        set(Variable::QueryString, query);
        set(Variable::ReqbodyProcessor, b"");
        set(Variable::ModsecBuild, b"020909000");

        self.urlencoded_error |=
            urlencoded::parse(query, configuration.argument_separator, |name, value| {
                if self.args_get.len() >= configuration.arguments_limit {
                    return false;
                }
                let member = Member { name: store.intern(name), value: store.intern(value) };
                self.args_combined += name.len() + value.len();
                self.args_get.push(member);
                true
            });

        for (name, value) in header_lines(lines) {
            if name.eq_ignore_ascii_case(b"cookie") {
                self.read_cookies(store, &value);
            }
            add_header(&mut self.headers, &mut self.header_marks, store, name, &value);
        }
        // Transfer-Encoding overrides Content-Length (RFC 9112 section 6.3); httpd takes the latter away before any rule
        // runs, and test 920181-1 asks for that. Refusing such a request is the business of the HTTP front end.
        if self.header(store, b"transfer-encoding").is_some() {
            self.headers
                .retain(|member| !store.get(member.name).eq_ignore_ascii_case(b"content-length"));
        }
        let host = self.header(store, b"host").map(|value| {
            let host = store.get(value);
            // A bracketed address keeps its colons; anything else ends at the port.
            let end = match host.first() {
                Some(b'[') => memchr::memchr(b']', host).map_or(host.len(), |at| at + 1),
                _ => memchr::memchr(b':', host).unwrap_or(host.len()),
            };
            host[..end].to_vec()
        });
        if let Some(host) = host {
            let value = store.intern(&host);
            self.set(Variable::ServerName, value);
        }
        if let Some(value) = self.header(store, b"authorization") {
            let scheme = split_at_byte(store.get(value), b' ').0.to_vec();
            let value = store.intern(&scheme);
            self.set(Variable::AuthType, value);
        }
        let content_type = self.header(store, b"content-type").map(|value| store.get(value));
        self.processor = content_type.and_then(|value| {
            let begins = |prefix: &[u8]| {
                value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            };
            if begins(b"application/x-www-form-urlencoded") {
                Some(BodyProcessor::UrlEncoded)
            } else if begins(b"multipart/form-data") {
                Some(BodyProcessor::Multipart)
            } else {
                None
            }
        });
        self.set_processor(store, self.processor);

        self.set_number(store, Variable::FullRequestLength, head.len());
        for variable in FLAGS {
            self.set_flag(*variable, false);
        }
        self.set_flag(Variable::UrlencodedError, self.urlencoded_error);
        self.set_number(store, Variable::ArgsCombinedSize, self.args_combined);
        self.set_number(store, Variable::FilesCombinedSize, 0);
        self.set_number(store, Variable::RequestBodyLength, 0);
        self.set(Variable::ReqbodyErrorMsg, ValueId::EMPTY);
        self.set(Variable::ReqbodyProcessorErrorMsg, ValueId::EMPTY);
    }

    pub(crate) fn set_processor(&mut self, store: &mut Store, processor: Option<BodyProcessor>) {
        self.processor = processor;
        let name = processor.map_or("", BodyProcessor::name);
        let value = store.intern(name.as_bytes());
        self.set(Variable::ReqbodyProcessor, value);
    }

    fn read_cookies(&mut self, store: &mut Store, line: &[u8]) {
        for piece in line.split(|byte| *byte == b';') {
            let piece = piece.trim_ascii_start();
            let (name, value) = split_at_byte(piece, b'=');
            if !name.is_empty() {
                let member = Member { name: store.intern(name), value: store.intern(value) };
                self.cookies.push(member);
            }
        }
    }

    /// The first request header of a name.
    pub(crate) fn header(&self, store: &Store, name: &[u8]) -> Option<ValueId> {
        if self.header_marks & name_mark(name) == 0 {
            return None;
        }
        let named = |member: &&Member| store.get(member.name).eq_ignore_ascii_case(name);
        self.headers.iter().find(named).map(|member| member.value)
    }

    /// Reads a request body. `length` is what was sent, `body` the inspected part of it.
    pub(crate) fn read_request_body(
        &mut self,
        store: &mut Store,
        body: &[u8],
        length: usize,
        force_variable: bool,
        configuration: &Configuration,
    ) {
        let partial = body.len() < length;
        self.set_number(store, Variable::RequestBodyLength, length);
        if partial {
            self.set_flag(Variable::InboundDataError, true);
        }
        let keep_body = match self.processor {
            Some(processor) => processor == BodyProcessor::UrlEncoded,
            None => force_variable,
        };
        if keep_body {
            let value = store.intern(body);
            self.set(Variable::RequestBody, value);
        }
        if body.is_empty() {
            return;
        }
        if self.processor != Some(BodyProcessor::Multipart) {
            self.field_bytes = length;
        }
        let result = match self.processor {
            None => Ok(()),
            Some(BodyProcessor::UrlEncoded) => {
                self.read_urlencoded(store, body, configuration);
                Ok(())
            }
            Some(BodyProcessor::Json) => self.read_json(store, body, partial, configuration),
            Some(BodyProcessor::Xml) => self.read_xml(store, body, partial),
            Some(BodyProcessor::Multipart) => {
                self.read_multipart(store, body, partial, configuration)
            }
        };
        if let Err(reason) = result {
            self.fail_body(store, reason);
        } else if self.field_bytes > configuration.request_body_no_files_limit {
            self.fail_body(
                store,
                "The body without its files is larger than the limit.".to_string(),
            );
        }
        self.set_flag(Variable::UrlencodedError, self.urlencoded_error);
        self.set_number(store, Variable::ArgsCombinedSize, self.args_combined);
    }

    /// Notes that the body could not be read.
    fn fail_body(&mut self, store: &mut Store, reason: String) {
        let message = store.intern(reason.as_bytes());
        for variable in [Variable::ReqbodyError, Variable::ReqbodyProcessorError] {
            self.set_flag(variable, true);
        }
        self.set(Variable::ReqbodyErrorMsg, message);
        self.set(Variable::ReqbodyProcessorErrorMsg, message);
        self.body_error = Some(reason);
    }

    /// Adds a body argument; false when there are too many.
    fn add_argument(&mut self, store: &mut Store, name: &[u8], value: &[u8], limit: usize) -> bool {
        if self.args_get.len() + self.args_post.len() >= limit {
            return false;
        }
        let member = Member { name: store.intern(name), value: store.intern(value) };
        self.args_combined += name.len() + value.len();
        self.args_post.push(member);
        true
    }

    fn read_urlencoded(&mut self, store: &mut Store, body: &[u8], configuration: &Configuration) {
        let limit = configuration.arguments_limit;
        let invalid = urlencoded::parse(body, configuration.argument_separator, |name, value| {
            self.add_argument(store, name, value, limit)
        });
        self.urlencoded_error |= invalid;
    }

    fn read_json(
        &mut self,
        store: &mut Store,
        body: &[u8],
        partial: bool,
        configuration: &Configuration,
    ) -> Result<(), String> {
        let limits = json::Limits { depth: configuration.json_depth_limit, partial };
        let limit = configuration.arguments_limit;
        // Every scalar's name repeats the names of all that holds it: a long name above many scalars must not multiply.
        let most_bytes = self.args_combined + JSON_NAME_BYTES + JSON_NAME_FACTOR * body.len();
        json::parse(body, limits, &mut |name, value| {
            self.args_combined + name.len() + value.len() <= most_bytes
                && self.add_argument(store, name, value, limit)
        })
    }

    fn read_xml(&mut self, store: &mut Store, body: &[u8], partial: bool) -> Result<(), String> {
        let mut content = xml::Content::default();
        let result = xml::parse(body, partial, &mut content);
        self.xml_text = content.text.map(|text| store.intern(&text));
        self.xml_attributes =
            content.attributes.iter().map(|attribute| store.intern(attribute)).collect();
        result
    }

    fn read_multipart(
        &mut self,
        store: &mut Store,
        body: &[u8],
        partial: bool,
        configuration: &Configuration,
    ) -> Result<(), String> {
        let content_type = match self.header(store, b"content-type") {
            Some(value) => store.get(value).to_vec(),
            None => Vec::new(),
        };
        let mut content = multipart::Content::default();
        let result = multipart::parse(
            &content_type,
            body,
            partial,
            configuration.upload_file_limit,
            &mut content,
        );
        let mut file_bytes = 0;
        for part in &content.parts {
            let name = store.intern(&part.name);
            for line in &part.headers {
                self.field_bytes += line.len();
                let value = store.intern(line);
                self.part_headers.push(Member { name, value });
            }
            self.multipart_names.push(Member { name, value: name });
            let data = &body[part.data.clone()];
            match &part.filename {
                Some(filename) => {
                    file_bytes += data.len();
                    let value = store.intern(filename);
                    self.files.push(Member { name, value });
                    let value = store.intern(data.len().to_string().as_bytes());
                    self.files_sizes.push(Member { name, value });
                }
                None => {
                    self.field_bytes += data.len();
                    self.add_argument(store, &part.name, data, configuration.arguments_limit);
                }
            }
        }
        self.set_number(store, Variable::FilesCombinedSize, file_bytes);
        let flags = content.flags;
        for (variable, flag) in [
            (Variable::MultipartBoundaryQuoted, flags.boundary_quoted),
            (Variable::MultipartBoundaryWhitespace, flags.boundary_whitespace),
            (Variable::MultipartCrlfLfLines, flags.crlf_line && flags.lf_line),
            (Variable::MultipartDataAfter, flags.data_after),
            (Variable::MultipartDataBefore, flags.data_before),
            (Variable::MultipartFileLimitExceeded, flags.file_limit_exceeded),
            (Variable::MultipartHeaderFolding, flags.header_folding),
            (Variable::MultipartInvalidHeaderFolding, flags.invalid_header_folding),
            (Variable::MultipartInvalidPart, flags.invalid_part),
            (Variable::MultipartInvalidQuoting, flags.invalid_quoting),
            (Variable::MultipartLfLine, flags.lf_line),
            (Variable::MultipartMissingSemicolon, flags.missing_semicolon),
            (Variable::MultipartStrictError, flags.strict_error()),
        ] {
            self.set_flag(variable, flag);
        }
        self.set_number(store, Variable::MultipartUnmatchedBoundary, flags.unmatched());
        result
    }

    /// Reads a response head: status line and header lines.
    pub(crate) fn read_response_head(&mut self, store: &mut Store, status: u16, head: &[u8]) {
        let (line, lines) = split_line(head);
        let protocol = store.intern(split_at_byte(line, b' ').0);
        self.set(Variable::ResponseProtocol, protocol);
        self.set_number(store, Variable::ResponseStatus, usize::from(status));
        for (name, value) in header_lines(lines) {
            let marks = &mut self.response_header_marks;
            add_header(&mut self.response_headers, marks, store, name, &value);
        }
        for (variable, name) in [
            (Variable::ResponseContentType, &b"content-type"[..]),
            (Variable::ResponseContentLength, b"content-length"),
        ] {
            if let Some(value) = self.response_header(store, name) {
                self.set(variable, value);
            }
        }
    }

    /// The response's body has come; without an announced length this is its length.
    pub(crate) fn response_body_is(&mut self, store: &mut Store, bytes: usize) {
        if self.scalars[Variable::ResponseContentLength as usize].is_none() {
            self.set_number(store, Variable::ResponseContentLength, bytes);
        }
    }

    /// The first response header of a name.
    pub(crate) fn response_header(&self, store: &Store, name: &[u8]) -> Option<ValueId> {
        if self.response_header_marks & name_mark(name) == 0 {
            return None;
        }
        let named = |member: &&Member| store.get(member.name).eq_ignore_ascii_case(name);
        self.response_headers.iter().find(named).map(|member| member.value)
    }

    /// Whether a variable may have members, or one of a name with this mark; 0: of any name.
    #[inline]
    pub(crate) fn may_have(&self, variable: Variable, mark: u64) -> bool {
        match variable {
            Variable::RequestHeaders => mark == 0 || self.header_marks & mark != 0,
            Variable::ResponseHeaders => mark == 0 || self.response_header_marks & mark != 0,
            Variable::Args | Variable::ArgsNames => {
                !self.args_get.is_empty() || !self.args_post.is_empty()
            }
            Variable::ArgsGet | Variable::ArgsGetNames => !self.args_get.is_empty(),
            Variable::ArgsPost | Variable::ArgsPostNames => !self.args_post.is_empty(),
            Variable::RequestCookies | Variable::RequestCookiesNames => !self.cookies.is_empty(),
            Variable::Files | Variable::MultipartFilename | Variable::FilesNames => {
                !self.files.is_empty()
            }
            Variable::FilesSizes => !self.files_sizes.is_empty(),
            Variable::MultipartPartHeaders => !self.part_headers.is_empty(),
            Variable::MultipartName => !self.multipart_names.is_empty(),
            Variable::Xml => self.xml_text.is_some() || !self.xml_attributes.is_empty(),
            _ => true,
        }
    }

    /// Calls `visit` with name and value of every member of a variable; scalars have no name.
    #[inline]
    pub(crate) fn visit(
        &self,
        variable: Variable,
        visit: &mut dyn FnMut(Option<ValueId>, ValueId),
    ) {
        let mut values = |members: &[Member]| {
            for member in members {
                visit(Some(member.name), member.value);
            }
        };
        match variable {
            Variable::Args => {
                values(&self.args_get);
                values(&self.args_post);
            }
            Variable::ArgsGet => values(&self.args_get),
            Variable::ArgsPost => values(&self.args_post),
            Variable::RequestHeaders => values(&self.headers),
            Variable::RequestCookies => values(&self.cookies),
            Variable::ResponseHeaders => values(&self.response_headers),
            Variable::Files | Variable::MultipartFilename => values(&self.files),
            Variable::FilesSizes => values(&self.files_sizes),
            Variable::MultipartPartHeaders => values(&self.part_headers),
            Variable::MultipartName => values(&self.multipart_names),
            Variable::ArgsNames => self.visit_names(&[&self.args_get, &self.args_post], visit),
            Variable::ArgsGetNames => self.visit_names(&[&self.args_get], visit),
            Variable::ArgsPostNames => self.visit_names(&[&self.args_post], visit),
            Variable::RequestHeadersNames => self.visit_names(&[&self.headers], visit),
            Variable::RequestCookiesNames => self.visit_names(&[&self.cookies], visit),
            Variable::ResponseHeadersNames => self.visit_names(&[&self.response_headers], visit),
            Variable::FilesNames => self.visit_names(&[&self.files], visit),
            scalar => {
                if let Some(value) = self.scalars[scalar as usize] {
                    visit(None, value);
                }
            }
        }
    }

    fn visit_names(&self, lists: &[&[Member]], visit: &mut dyn FnMut(Option<ValueId>, ValueId)) {
        for member in lists.iter().copied().flatten() {
            visit(Some(member.name), member.name);
        }
    }

    /// The values that an expression on the XML body selects.
    pub(crate) fn visit_xml(&self, expression: &[u8], visit: &mut dyn FnMut(ValueId)) {
        if expression == b"//@*" {
            self.xml_attributes.iter().copied().for_each(visit);
        } else if let Some(text) = self.xml_text {
            visit(text);
        }
    }
}

/// One bit of 64, the same for names that differ in nothing but case: most names that are not there are known by it.
pub(crate) fn name_mark(name: &[u8]) -> u64 {
    let lower = |byte: Option<&u8>| byte.map_or(0, |byte| usize::from(byte | 0x20));
    1 << ((name.len() * 7 + lower(name.first()) * 3 + lower(name.last())) & 63)
}

/// Flags that exist from the start with the value 0.
const FLAGS: &[Variable] = &[
    Variable::InboundDataError,
    Variable::MultipartBoundaryQuoted,
    Variable::MultipartBoundaryWhitespace,
    Variable::MultipartCrlfLfLines,
    Variable::MultipartDataAfter,
    Variable::MultipartDataBefore,
    Variable::MultipartFileLimitExceeded,
    Variable::MultipartHeaderFolding,
    Variable::MultipartInvalidHeaderFolding,
    Variable::MultipartInvalidPart,
    Variable::MultipartInvalidQuoting,
    Variable::MultipartLfLine,
    Variable::MultipartMissingSemicolon,
    Variable::MultipartStrictError,
    Variable::MultipartUnmatchedBoundary,
    Variable::OutboundDataError,
    Variable::ReqbodyError,
    Variable::ReqbodyProcessorError,
];

/// The first line of a head and the rest after it.
fn split_line(head: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\n', head) {
        Some(at) => (head[..at].strip_suffix(b"\r").unwrap_or(&head[..at]), &head[at + 1..]),
        None => (head.strip_suffix(b"\r").unwrap_or(head), &[]),
    }
}

fn split_at_byte(text: &[u8], byte: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(byte, text) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[]),
    }
}

/// A request target as URI (path and query), path, and query; without scheme, authority and fragment.
fn split_target(target: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let mut uri = target;
    if !target.starts_with(b"/") {
        let scheme = memchr::memmem::find(target, b"://")
            .filter(|at| *at > 0 && target[..*at].iter().all(u8::is_ascii_alphanumeric));
        if let Some(at) = scheme {
            let rest = &target[at + 3..];
            let path = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
            uri = path.map_or(&b"/"[..], |path| &rest[path..]);
        }
    }
    let uri = split_at_byte(uri, b'#').0;
    let (path, query) = split_at_byte(uri, b'?');
    (uri, path, query)
}

/// Name and value of each header line; folded lines are joined by a blank.
fn header_lines(lines: &[u8]) -> Vec<(&[u8], Cow<'_, [u8]>)> {
    let mut headers: Vec<(&[u8], Cow<'_, [u8]>)> = Vec::with_capacity(16);
    let mut rest = lines;
    while !rest.is_empty() {
        let (line, after) = split_line(rest);
        rest = after;
        if line.is_empty() {
            break;
        }
        if matches!(line[0], b' ' | b'\t') {
            if let Some((_, value)) = headers.last_mut() {
                let value = value.to_mut();
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            continue;
        }
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        headers.push((line[..colon].trim_ascii(), Cow::Borrowed(trim_blanks(&line[colon + 1..]))));
    }
    headers
}

/// Cuts the blanks and tabs that may surround a header's value.
fn trim_blanks(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().take_while(|byte| is_blank(byte)).count();
    let end = text.iter().rev().take_while(|byte| is_blank(byte)).count();
    text.get(start..text.len() - end).unwrap_or(&[])
}

/// Adds a header; one of the same name is joined with `, ` as httpd does (test 920620-1 depends on it).
fn add_header(
    headers: &mut Vec<Member>,
    marks: &mut u64,
    store: &mut Store,
    name: &[u8],
    value: &[u8],
) {
    let mark = name_mark(name);
    let is_same = |known: &&mut Member| store.get(known.name).eq_ignore_ascii_case(name);
    let same = if *marks & mark == 0 { None } else { headers.iter_mut().find(is_same) };
    *marks |= mark;
    match same {
        Some(known) => {
            let joined = [store.get(known.value), b", ", value].concat();
            known.value = store.intern(&joined);
        }
        None => {
            let member = Member { name: store.intern(name), value: store.intern(value) };
            headers.push(member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> (Exchange, Store) {
        let mut exchange = Exchange::default();
        let mut store = Store::with_capacity(64);
        exchange.read_request_head(&mut store, head.as_bytes(), &Configuration::default());
        (exchange, store)
    }

    fn values(exchange: &Exchange, store: &Store, variable: Variable) -> Vec<String> {
        let mut found = Vec::new();
        exchange.visit(variable, &mut |name, value| {
            let text = |value| String::from_utf8_lossy(store.get(value)).into_owned();
            found.push(match name {
                Some(name) => format!("{}={}", text(name), text(value)),
                None => text(value),
            });
        });
        found
    }

    fn scalar(head: &str, variable: Variable) -> String {
        let (exchange, store) = read(head);
        values(&exchange, &store, variable).concat()
    }

    #[test]
    fn the_request_line_is_taken_apart() {
        let head = "GET /a/b.php?x=1&y=2#f HTTP/1.1\r\nhost: h:80\r\n";
        for (variable, expected) in [
            (Variable::RequestLine, "GET /a/b.php?x=1&y=2#f HTTP/1.1"),
            (Variable::RequestMethod, "GET"),
            (Variable::RequestProtocol, "HTTP/1.1"),
            (Variable::RequestUriRaw, "/a/b.php?x=1&y=2#f"),
            (Variable::RequestUri, "/a/b.php?x=1&y=2"),
            (Variable::RequestFilename, "/a/b.php"),
            (Variable::RequestBasename, "b.php"),
            (Variable::QueryString, "x=1&y=2"),
            (Variable::ServerName, "h"),
            (Variable::ArgsCombinedSize, "4"),
            (Variable::ReqbodyError, "0"),
        ] {
            assert_eq!(scalar(head, variable), expected, "{variable:?}");
        }
        assert_eq!(scalar("GET http://h/x?y HTTP/1.1\r\n", Variable::RequestFilename), "/x");
        assert_eq!(scalar("GET http://h HTTP/1.1\r\n", Variable::RequestUri), "/");
        assert_eq!(scalar("GET /?u=http://x/ HTTP/1.1\r\n", Variable::RequestFilename), "/");
        assert_eq!(scalar("GET /a b HTTP/1.1\r\n", Variable::RequestFilename), "/a b");
        assert_eq!(scalar("GET /a/ HTTP/1.1\r\n", Variable::RequestBasename), "");
        assert_eq!(
            scalar("GET /%28a%2Fb+%zz HTTP/1.1\r\n", Variable::RequestFilename),
            "/(a/b+%zz"
        );
        assert_eq!(scalar("GET /%28 HTTP/1.1\r\n", Variable::RequestUri), "/%28");
    }

    #[test]
    fn headers_of_one_name_are_joined_and_cookies_are_not() {
        let (exchange, store) =
            read("GET / HTTP/1.1\r\nX-A: 1\r\nCookie: a=1; b=\"2\";c;=d\r\nx-a: 2 \r\ncookie: a=3\r\nf: 1\r\n\t2\r\n");
        assert_eq!(
            values(&exchange, &store, Variable::RequestHeaders),
            ["X-A=1, 2", "Cookie=a=1; b=\"2\";c;=d, a=3", "f=1 2"]
        );
        assert_eq!(
            values(&exchange, &store, Variable::RequestCookies),
            ["a=1", "b=\"2\"", "c=", "a=3"]
        );
        assert_eq!(
            values(&exchange, &store, Variable::RequestCookiesNames),
            ["a=a", "b=b", "c=c", "a=a"]
        );
    }

    #[test]
    fn long_names_above_many_values_do_not_multiply() {
        let (mut exchange, mut store) = read("POST / HTTP/1.1\r\n");
        exchange.set_processor(&mut store, Some(BodyProcessor::Json));
        let body = format!("{{\"{}\":[{}0]}}", "k".repeat(100_000), "0,".repeat(900));
        exchange.read_request_body(
            &mut store,
            body.as_bytes(),
            body.len(),
            false,
            &Configuration::default(),
        );
        assert_eq!(values(&exchange, &store, Variable::ReqbodyError), ["1"]);
        assert!(values(&exchange, &store, Variable::ArgsNames).len() < 30);
    }

    #[test]
    fn transfer_encoding_takes_the_content_length_away() {
        let head = "POST / HTTP/1.1\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n";
        let (exchange, store) = read(head);
        assert_eq!(
            values(&exchange, &store, Variable::RequestHeaders),
            ["transfer-encoding=chunked"]
        );
    }

    #[test]
    fn the_media_type_chooses_the_processor() {
        let processor = |value: &str| {
            read(&format!("POST / HTTP/1.1\r\ncontent-type: {value}\r\n")).0.processor
        };
        assert_eq!(
            processor("Application/x-www-form-urlencoded; x"),
            Some(BodyProcessor::UrlEncoded)
        );
        assert_eq!(processor("multipart/form-data"), Some(BodyProcessor::Multipart));
        assert_eq!(processor("application/json"), None);
    }

    #[test]
    fn bodies_become_arguments() {
        let (mut exchange, mut store) =
            read("POST /?a=1 HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded\r\n");
        let configuration = Configuration::default();
        exchange.read_request_body(&mut store, b"b=2&a=%33", 9, false, &configuration);
        assert_eq!(values(&exchange, &store, Variable::Args), ["a=1", "b=2", "a=3"]);
        assert_eq!(values(&exchange, &store, Variable::ArgsPostNames), ["b=b", "a=a"]);
        assert_eq!(values(&exchange, &store, Variable::RequestBody), ["b=2&a=%33"]);
        assert_eq!(values(&exchange, &store, Variable::ArgsCombinedSize), ["6"]);
    }

    #[test]
    fn a_body_that_cannot_be_read_is_flagged() {
        let (mut exchange, mut store) = read("POST / HTTP/1.1\r\n");
        exchange.set_processor(&mut store, Some(BodyProcessor::Json));
        exchange.read_request_body(&mut store, b"{\"a\":1,", 7, false, &Configuration::default());
        assert_eq!(values(&exchange, &store, Variable::Args), ["json.a=1"]);
        assert_eq!(values(&exchange, &store, Variable::ReqbodyError), ["1"]);
        assert!(exchange.body_error.is_some());
        assert!(values(&exchange, &store, Variable::RequestBody).is_empty());
    }
}
