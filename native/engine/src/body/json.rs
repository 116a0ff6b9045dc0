//! JSON bodies: every scalar becomes an argument named by its path.
//!
//! Source: `seclang.md` section 5.2, names in the form of libmodsecurity (`json.a.b`, `json.a.array_0`); grammar of RFC 8259.
//! Duplicate keys are all reported. A member that is an array is an argument of its own as well, with the number of its
//! elements: rules look at how a key ends (`ARGS_NAMES` in 934210), and an element's name ends in `array_0`. What was read before an error is reported, too.

/// Limits of one body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How deep objects and arrays may nest.
    pub(crate) depth: usize,
    /// Whether the body was cut: running into its end is no error then.
    pub(crate) partial: bool,
}

/// Calls `add` with path and value of every scalar; when it returns false there are too many arguments.
///
/// # Errors
/// Why the body is not JSON or exceeds a limit.
pub(crate) fn parse(
    body: &[u8],
    limits: Limits,
    add: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), String> {
    let mut parser = Parser { body, at: 0, path: b"json".to_vec(), limits, add, flaw: None };
    let result = parser.document();
    match result {
        Ok(()) => parser.flaw.map_or(Ok(()), Err),
        Err(Stop::End) if limits.partial => Ok(()),
        Err(Stop::End) => Err("JSON: the text ends too early".to_string()),
        Err(Stop::Because(reason)) => Err(reason),
    }
}

/// Why reading stopped.
enum Stop {
    End,
    Because(String),
}

struct Parser<'a> {
    body: &'a [u8],
    at: usize,
    path: Vec<u8>,
    limits: Limits,
    add: &'a mut dyn FnMut(&[u8], &[u8]) -> bool,
    /// An error after which reading can go on.
    flaw: Option<String>,
}

/// An open object or array.
struct Open {
    /// `None` for an object, the next index for an array.
    index: Option<usize>,
    /// Length of the path without the member.
    path_length: usize,
}

impl Parser<'_> {
    /// Reads one value with all inside it, without recursion.
    fn document(&mut self) -> Result<(), Stop> {
        let mut open: Vec<Open> = Vec::new();
        self.blanks();
        if self.at == self.body.len() {
            return Ok(());
        }
        'value: loop {
            self.blanks();
            match self.peek()? {
                byte @ (b'{' | b'[') => {
                    self.at += 1;
                    if open.len() >= self.limits.depth {
                        return Err(self.because("nesting is deeper than the limit"));
                    }
                    let array = byte == b'[';
                    open.push(Open { index: array.then_some(0), path_length: self.path.len() });
                    self.blanks();
                    let close = if array { b']' } else { b'}' };
                    if self.peek()? == close {
                        self.at += 1;
                        open.pop();
                    } else {
                        self.member(open.last_mut())?;
                        continue 'value;
                    }
                }
                _ => self.scalar()?,
            }
            // A value is complete: go on in what holds it, or close that.
            loop {
                let Some(holder) = open.last_mut() else { break 'value };
                self.path.truncate(holder.path_length);
                self.blanks();
                match (self.peek()?, holder.index.is_some()) {
                    (b',', _) => {
                        self.at += 1;
                        self.member(Some(holder))?;
                        continue 'value;
                    }
                    (b']', true) | (b'}', false) => {
                        self.at += 1;
                        let elements = holder.index;
                        open.pop();
                        let is_member = open.last().is_some_and(|outer| outer.index.is_none());
                        if let (Some(elements), true) = (elements, is_member) {
                            self.report(elements.to_string().as_bytes())?;
                        }
                    }
                    _ => return Err(self.because("a comma or a closing bracket is expected")),
                }
            }
        }
        self.blanks();
        if self.at < self.body.len() {
            return Err(self.because("text after the value"));
        }
        Ok(())
    }

    /// Appends the name of the next member to the path.
    fn member(&mut self, holder: Option<&mut Open>) -> Result<(), Stop> {
        let Some(holder) = holder else { return Ok(()) };
        match &mut holder.index {
            Some(index) => {
                self.path.extend_from_slice(format!(".array_{index}").as_bytes());
                *index += 1;
            }
            None => {
                self.blanks();
                if self.peek()? != b'"' {
                    return Err(self.because("a member's name is expected"));
                }
                let name = self.string()?;
                self.path.push(b'.');
                self.path.extend_from_slice(&name);
                self.blanks();
                if self.peek()? != b':' {
                    return Err(self.because("a colon is expected"));
                }
                self.at += 1;
            }
        }
        Ok(())
    }

    fn scalar(&mut self) -> Result<(), Stop> {
        let value = match self.peek()? {
            b'"' => self.string()?,
            b't' => self.word(b"true")?.to_vec(),
            b'f' => self.word(b"false")?.to_vec(),
            b'n' => {
                self.word(b"null")?;
                Vec::new()
            }
            b'-' | b'0'..=b'9' => self.number()?,
            _ => return Err(self.because("a value is expected")),
        };
        self.report(&value)
    }

    fn report(&mut self, value: &[u8]) -> Result<(), Stop> {
        if (self.add)(&self.path, value) {
            Ok(())
        } else {
            Err(Stop::Because("JSON: more arguments than the limit".to_string()))
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<&'static [u8], Stop> {
        let rest = &self.body[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            Ok(word)
        } else if word.starts_with(rest) {
            Err(Stop::End)
        } else {
            Err(self.because("a value is expected"))
        }
    }

    fn number(&mut self) -> Result<Vec<u8>, Stop> {
        let start = self.at;
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.body.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.body.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(self.body[start..self.at].to_vec())
    }

    fn digits(&mut self) -> Result<(), Stop> {
        let start = self.at;
        while self.body.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at > start {
            Ok(())
        } else {
            self.peek()?;
            Err(self.because("a digit is expected"))
        }
    }

    /// Reads a string, unescaped to UTF-8. Bytes that are not UTF-8 and bare control bytes are kept and flagged.
    fn string(&mut self) -> Result<Vec<u8>, Stop> {
        self.at += 1;
        let start = self.at;
        let mut value = Vec::new();
        loop {
            let rest = &self.body[self.at..];
            let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            let Some(end) = end else {
                value.extend_from_slice(rest);
                self.at = self.body.len();
                if self.limits.partial {
                    // What is there of a cut string is looked at.
                    (self.add)(&self.path, &value);
                }
                return Err(Stop::End);
            };
            value.extend_from_slice(&rest[..end]);
            self.at += end;
            match self.body[self.at] {
                b'"' => {
                    if std::str::from_utf8(&self.body[start..self.at]).is_err() {
                        self.flaw.get_or_insert("JSON: a string is not UTF-8".to_string());
                    }
                    self.at += 1;
                    return Ok(value);
                }
                b'\\' => self.escape(&mut value)?,
                control => {
                    self.flaw.get_or_insert("JSON: a control byte in a string".to_string());
                    value.push(control);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self, value: &mut Vec<u8>) -> Result<(), Stop> {
        self.at += 1;
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' => value.push(byte),
            b'b' => value.push(8),
            b'f' => value.push(12),
            b'n' => value.push(b'\n'),
            b'r' => value.push(b'\r'),
            b't' => value.push(b'\t'),
            b'u' => {
                let mut code = self.hex_code()?;
                if (0xd800..0xdc00).contains(&code) && self.body[self.at..].starts_with(b"\\u") {
                    let before = self.at;
                    self.at += 2;
                    let low = self.hex_code()?;
                    if (0xdc00..0xe000).contains(&low) {
                        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    } else {
                        self.at = before;
                    }
                }
                // Half of a surrogate pair is no character; yajl writes a question mark for it.
                let character = char::from_u32(code).unwrap_or('?');
                value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return Err(self.because("an unknown escape in a string")),
        }
        Ok(())
    }

    fn hex_code(&mut self) -> Result<u32, Stop> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = char::from(self.peek()?).to_digit(16) else {
                return Err(self.because("four hexadecimal digits are expected"));
            };
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn blanks(&mut self) {
        while matches!(self.body.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.body.get(self.at).copied().ok_or(Stop::End)
    }

    fn because(&self, reason: &str) -> Stop {
        Stop::Because(format!("JSON: {reason} (byte {})", self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { depth: 8, partial: false };

    fn read(text: &[u8], limits: Limits) -> (Vec<String>, Result<(), String>) {
        let mut found = Vec::new();
        let result = parse(text, limits, &mut |name, value| {
            let name = String::from_utf8_lossy(name);
            found.push(format!("{name}={}", String::from_utf8_lossy(value)));
            found.len() < 20
        });
        (found, result)
    }

    fn valid(text: &str) -> Vec<String> {
        let (found, result) = read(text.as_bytes(), LIMITS);
        assert_eq!(result, Ok(()), "{text}");
        found
    }

    #[test]
    fn names_follow_the_path() {
        assert_eq!(valid(r#"{"a":{"b":1}}"#), ["json.a.b=1"]);
        assert_eq!(valid(r#"{"a":[1,2]}"#), ["json.a.array_0=1", "json.a.array_1=2", "json.a=2"]);
        assert_eq!(
            valid(r#"{"a":[{"b":1}],"c":"x"}"#),
            ["json.a.array_0.b=1", "json.a=1", "json.c=x"]
        );
        assert_eq!(valid("[1,2]"), ["json.array_0=1", "json.array_1=2"]);
        assert_eq!(valid("[[1],2]"), ["json.array_0.array_0=1", "json.array_1=2"]);
        assert_eq!(valid("5"), ["json=5"]);
        assert_eq!(valid(r#"{"a":{},"b":[]}"#), [""; 0]);
        assert_eq!(valid("  "), [""; 0]);
    }

    #[test]
    fn scalars_are_kept_as_written() {
        assert_eq!(
            valid(r#"[true,false,null,-1.50e+3,"\u0041\n\ud83d\ude00\ud800"]"#),
            [
                "json.array_0=true",
                "json.array_1=false",
                "json.array_2=",
                "json.array_3=-1.50e+3",
                "json.array_4=A\n\u{1f600}?"
            ]
        );
    }

    #[test]
    fn duplicate_keys_are_all_reported() {
        assert_eq!(valid(r#"{"a":1,"a":2}"#), ["json.a=1", "json.a=2"]);
    }

    #[test]
    fn what_came_before_an_error_is_reported() {
        let (found, result) = read(br#"{"a":"x","b":}"#, LIMITS);
        assert_eq!(found, ["json.a=x"]);
        assert!(result.is_err());
        for text in ["{", "[1,]", "{\"a\"}", "01", "tru", "1 2", "\"a", "{\"a\":1,}", "'a'"] {
            assert!(read(text.as_bytes(), LIMITS).1.is_err(), "{text}");
        }
        let (found, result) = read(b"[\"\xff\",1]", LIMITS);
        assert_eq!(found.len(), 2);
        assert!(result.is_err());
    }

    #[test]
    fn a_cut_body_is_no_error() {
        let limits = Limits { partial: true, ..LIMITS };
        let (found, result) = read(br#"{"a":"x","b":"union sel"#, limits);
        assert_eq!(found, ["json.a=x", "json.b=union sel"]);
        assert_eq!(result, Ok(()));
        assert!(read(b"{]", limits).1.is_err());
    }

    #[test]
    fn depth_and_number_of_arguments_are_limited() {
        assert!(read(b"[[[[[[[[1]]]]]]]]", LIMITS).1.is_ok());
        assert!(read(b"[[[[[[[[[1]]]]]]]]]", LIMITS).1.is_err());
        let many = format!("[{}0]", "0,".repeat(30));
        let (found, result) = read(many.as_bytes(), LIMITS);
        assert_eq!(found.len(), 20);
        assert!(result.unwrap_err().contains("limit"));
    }
}
