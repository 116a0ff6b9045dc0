//! PCRE's pattern syntax into the regex crate's, with the same meaning on bytes.
//!
//! Source: PCRE2's pattern syntax (`pcre2pattern`), regex-syntax's documentation, `seclang.md` section 7.2. What an
//! automaton cannot run (look-around but for a simple one at the end, back-references, …) is an error that names the
//! construct; what only the two syntaxes spell differently is rewritten: `\x{HH}`, octal and control escapes, `\h` `\v` `\N`, `\<`, `{` and `[` as
//! plain characters, dashes in classes, bytes from 80 up.

use std::fmt::Write as _;

use super::OperatorError;

/// Bytes of `\h` and `\v` as class members.
const HORIZONTAL: &str = "\\t\\x20\\xA0";
const VERTICAL: &str = "\\n\\x0B\\f\\r\\x85";

/// A pattern for the regex crate.
pub(super) struct Translation {
    pub(super) pattern: String,
    /// The match ends where the last group, which is empty and not PCRE's, stands: what follows is a look-ahead.
    pub(super) ends_at_last_group: bool,
}

/// Rewrites a pattern.
pub(super) fn translate(pattern: &[u8]) -> Result<Translation, OperatorError> {
    let mut translator = Translator {
        pattern,
        position: 0,
        output: String::new(),
        depth: 0,
        has_branches: false,
        ends_at_last_group: false,
    };
    translator.run()?;
    let Translator { output, ends_at_last_group, .. } = translator;
    Ok(Translation { pattern: output, ends_at_last_group })
}

struct Translator<'a> {
    pattern: &'a [u8],
    position: usize,
    output: String,
    /// Groups open.
    depth: usize,
    /// There is a `|` outside of all groups.
    has_branches: bool,
    ends_at_last_group: bool,
}

/// What an escape or a member of a class stands for.
enum Item {
    /// One byte.
    Byte(u8),
    /// Several, as text that may stand inside a class.
    Set(String),
    /// An assertion or other construct, as text that may not.
    Construct(String),
}

fn unsupported<T>(construct: &str) -> Result<T, OperatorError> {
    Err(OperatorError::Unsupported(construct.into()))
}

fn malformed<T>(reason: &str) -> Result<T, OperatorError> {
    Err(OperatorError::Argument(format!("the pattern: {reason}")))
}

impl Translator<'_> {
    fn peek(&self) -> Option<u8> {
        self.pattern.get(self.position).copied()
    }

    fn rest(&self) -> &[u8] {
        &self.pattern[self.position.min(self.pattern.len())..]
    }

    fn bump(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.position += 1;
        Some(byte)
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.position += usize::from(found);
        found
    }

    fn run(&mut self) -> Result<(), OperatorError> {
        while let Some(byte) = self.bump() {
            match byte {
                b'\\' => {
                    if self.rest().starts_with(b"Q") || self.rest().starts_with(b"E") {
                        return unsupported("quoting by \\Q and \\E in a pattern");
                    }
                    match self.escape(false)? {
                        Item::Byte(byte) => self.push_byte(byte),
                        Item::Set(set) => {
                            let _ = write!(self.output, "[{set}]");
                        }
                        Item::Construct(text) => self.output.push_str(&text),
                    }
                }
                b'[' => self.class()?,
                b'(' => self.group()?,
                b'*' | b'+' | b'?' => {
                    self.output.push(char::from(byte));
                    self.quantifier_end()?;
                }
                b'{' => match quantifier(self.rest()) {
                    Some(width) => {
                        self.output.push('{');
                        let text = &self.pattern[self.position..self.position + width];
                        self.output.extend(text.iter().copied().map(char::from));
                        self.position += width;
                        self.quantifier_end()?;
                    }
                    None if is_open_quantifier(self.rest()) => {
                        return unsupported(
                            "{,n} in a pattern, which versions of PCRE read differently",
                        );
                    }
                    None => self.output.push_str("\\{"),
                },
                b')' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.output.push(')');
                }
                b'|' => {
                    self.has_branches |= self.depth == 0;
                    self.output.push('|');
                }
                b'.' | b'^' | b'$' => self.output.push(char::from(byte)),
                _ => self.push_byte(byte),
            }
        }
        Ok(())
    }

    /// After `(?`: a look-ahead at the very end of the pattern for a fixed number of bytes. An automaton can read those
    /// bytes; where the match ends is marked by an empty group. Negated: the text ends or differs at one of them.
    fn final_look_ahead(&mut self) -> Result<(), OperatorError> {
        let refused = || unsupported("look-ahead (?= or (?! in a pattern");
        let negated = self.bump() == Some(b'!');
        if self.depth > 0 || self.has_branches {
            return refused();
        }
        let mut members = Vec::new();
        loop {
            let byte = self.bump();
            let member = match byte {
                None => return malformed("a group is not closed"),
                Some(b')') => break,
                Some(b'\\') => match self.escape(false)? {
                    Item::Byte(byte) => format!("[\\x{byte:02X}]"),
                    Item::Set(set) => format!("[{set}]"),
                    Item::Construct(_) => return refused(),
                },
                Some(b'[') => {
                    let start = self.output.len();
                    self.class()?;
                    self.output.split_off(start)
                }
                Some(b'(' | b'*' | b'+' | b'?' | b'{' | b'|' | b'^' | b'$' | b'.') => {
                    return refused()
                }
                Some(byte) => format!("[\\x{byte:02X}]"),
            };
            members.push(member);
        }
        if self.peek().is_some() || members.is_empty() {
            return refused();
        }
        self.ends_at_last_group = true;
        self.output.push_str("()");
        if negated {
            let differs = members.iter().rev().fold(String::new(), |after, member| {
                let goes_on = if after.is_empty() { after } else { format!("|{member}{after}") };
                format!("(?:\\z|[^{member}]{goes_on})")
            });
            self.output.push_str(&differs);
        } else {
            self.output.extend(members);
        }
        Ok(())
    }

    /// A byte that stands for itself.
    fn push_byte(&mut self, byte: u8) {
        match byte {
            b' '..=b'~' if regex_syntax::is_meta_character(char::from(byte)) => {
                self.output.push('\\');
                self.output.push(char::from(byte));
            }
            b' '..=b'~' => self.output.push(char::from(byte)),
            _ => {
                let _ = write!(self.output, "\\x{byte:02X}");
            }
        }
    }

    /// After a quantifier: `?` makes it lazy, `+` possessive.
    fn quantifier_end(&mut self) -> Result<(), OperatorError> {
        if self.eat(b'?') {
            self.output.push('?');
        }
        match self.peek() {
            Some(b'+') => unsupported("a possessive quantifier in a pattern"),
            Some(b'*' | b'?') => malformed("a quantifier follows a quantifier"),
            _ => Ok(()),
        }
    }

    /// After `(`.
    fn group(&mut self) -> Result<(), OperatorError> {
        if self.peek() == Some(b'*') {
            return unsupported("a verb (*…) in a pattern");
        }
        if !self.eat(b'?') {
            self.depth += 1;
            self.output.push('(');
            return Ok(());
        }
        let rest = self.rest();
        let named = |text: &[u8]| {
            text.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
        };
        match rest {
            [b'=' | b'!', ..] => self.final_look_ahead(),
            [b'<', b'=' | b'!', ..] => unsupported("look-behind (?<= or (?<! in a pattern"),
            [b'>', ..] => unsupported("an atomic group (?> in a pattern"),
            [b'(', ..] => unsupported("a conditional group (?( in a pattern"),
            [b'|', ..] => unsupported("a branch reset group (?| in a pattern"),
            [b'R' | b'&' | b'+' | b'0'..=b'9', ..] | [b'P', b'>', ..] | [b'-', b'0'..=b'9', ..] => {
                unsupported("recursion in a pattern")
            }
            [b'P', b'=', ..] => unsupported("a back-reference in a pattern"),
            [b'C', ..] => unsupported("a callout in a pattern"),
            [b'#', ..] => match rest.iter().position(|&byte| byte == b')') {
                Some(end) => {
                    self.position += end + 1;
                    Ok(())
                }
                None => malformed("a comment is not closed"),
            },
            [b':', ..] => {
                self.position += 1;
                self.depth += 1;
                self.output.push_str("(?:");
                Ok(())
            }
            [b'<', name @ ..] if named(name) => self.group_name(1, b'>'),
            [b'P', b'<', name @ ..] if named(name) => self.group_name(2, b'>'),
            [b'\'', name @ ..] if named(name) => self.group_name(1, b'\''),
            _ => self.flags(),
        }
    }

    /// A named group whose name begins `skip` bytes ahead.
    fn group_name(&mut self, skip: usize, close: u8) -> Result<(), OperatorError> {
        self.position += skip;
        let Some(width) = self.rest().iter().position(|&byte| byte == close) else {
            return malformed("a group's name is not closed");
        };
        let name = &self.pattern[self.position..self.position + width];
        if !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return malformed("a group's name holds more than letters, digits and underscores");
        }
        self.depth += 1;
        self.output.push_str("(?P<");
        self.output.extend(name.iter().copied().map(char::from));
        self.output.push('>');
        self.position += width + 1;
        Ok(())
    }

    /// `(?i)`, `(?i:`, `(?-s)`.
    fn flags(&mut self) -> Result<(), OperatorError> {
        self.output.push_str("(?");
        while let Some(byte) = self.bump() {
            match byte {
                b'i' | b's' | b'm' | b'U' | b'-' => self.output.push(char::from(byte)),
                b':' | b')' => {
                    self.depth += usize::from(byte == b':');
                    self.output.push(char::from(byte));
                    return Ok(());
                }
                b'x' => return unsupported("extended syntax (?x) in a pattern"),
                _ => return unsupported("an unknown kind of group (?… in a pattern"),
            }
        }
        malformed("a group is not closed")
    }

    /// After a backslash.
    fn escape(&mut self, in_class: bool) -> Result<Item, OperatorError> {
        let Some(byte) = self.bump() else { return malformed("it ends in a backslash") };
        let construct = |text: &str| Ok(Item::Construct(text.into()));
        let set = |text: &str| Ok(Item::Set(text.into()));
        match byte {
            b'x' => self.hexadecimal(),
            b'o' if self.peek() == Some(b'{') => self.braced(8),
            b'0' => Ok(Item::Byte(self.octal(0, 2))),
            b'1'..=b'7' if in_class => Ok(Item::Byte(self.octal(byte - b'0', 2))),
            b'1'..=b'9' | b'g' | b'k' if !in_class => unsupported("a back-reference in a pattern"),
            b'c' => match self.bump() {
                Some(letter @ b' '..=b'~') => Ok(Item::Byte(letter.to_ascii_uppercase() ^ 0x40)),
                _ => malformed("\\c is not followed by a printable character"),
            },
            b'a' => Ok(Item::Byte(0x07)),
            b'e' => Ok(Item::Byte(0x1B)),
            b'f' => Ok(Item::Byte(0x0C)),
            b'n' => Ok(Item::Byte(b'\n')),
            b'r' => Ok(Item::Byte(b'\r')),
            b't' => Ok(Item::Byte(b'\t')),
            b'b' if in_class => Ok(Item::Byte(0x08)),
            b'd' => set("\\d"),
            b'D' => set("\\D"),
            b'w' => set("\\w"),
            b'W' => set("\\W"),
            b's' => set("\\s"),
            b'S' => set("\\S"),
            b'h' => set(HORIZONTAL),
            b'v' => set(VERTICAL),
            b'H' => Ok(Item::Set(format!("[^{HORIZONTAL}]"))),
            b'V' => Ok(Item::Set(format!("[^{VERTICAL}]"))),
            // In a group where a `{` would be read as part of the assertion.
            b'b' if self.peek() == Some(b'{') => construct("(?:\\b)"),
            b'b' => construct("\\b"),
            b'B' if !in_class => construct("\\B"),
            b'A' if !in_class => construct("\\A"),
            b'z' if !in_class => construct("\\z"),
            b'N' if !in_class && self.peek() != Some(b'{') => set("^\\n"),
            b'Z' | b'G' | b'K' | b'X' | b'R' | b'C' | b'p' | b'P' | b'N' | b'Q' | b'E' => {
                unsupported(&format!("the escape \\{} in a pattern", char::from(byte)))
            }
            _ if byte.is_ascii_alphanumeric() => {
                malformed(&format!("unknown escape \\{}", char::from(byte)))
            }
            _ => Ok(Item::Byte(byte)),
        }
    }

    /// After `\x`: up to two digits, or any number in braces.
    fn hexadecimal(&mut self) -> Result<Item, OperatorError> {
        if self.peek() == Some(b'{') {
            return self.braced(16);
        }
        let mut value = 0;
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                break;
            };
            value = value << 4 | digit as u8;
            self.position += 1;
        }
        Ok(Item::Byte(value))
    }

    /// A number in braces, at most FF.
    fn braced(&mut self, radix: u32) -> Result<Item, OperatorError> {
        let Some(width) = self.rest().iter().position(|&byte| byte == b'}') else {
            return malformed("a number in braces is not closed");
        };
        let digits = String::from_utf8_lossy(&self.rest()[1..width]).into_owned();
        self.position += width + 1;
        match u32::from_str_radix(&digits, radix).map(u8::try_from) {
            Ok(Ok(byte)) => Ok(Item::Byte(byte)),
            Ok(Err(_)) => malformed(&format!("\\x{{{digits}}} is more than a byte")),
            Err(_) => malformed(&format!("{{{digits}}} is not a number")),
        }
    }

    /// Up to `most` more octal digits.
    fn octal(&mut self, first: u8, most: usize) -> u8 {
        let mut value = first;
        for _ in 0..most {
            match self.peek() {
                Some(digit @ b'0'..=b'7') => {
                    value = value.wrapping_mul(8).wrapping_add(digit - b'0');
                    self.position += 1;
                }
                _ => break,
            }
        }
        value
    }

    /// After `[`. Every member is written so that the regex crate cannot take it for an operator of its own.
    fn class(&mut self) -> Result<(), OperatorError> {
        self.output.push('[');
        if self.eat(b'^') {
            self.output.push('^');
        }
        let mut first = true;
        loop {
            let Some(byte) = self.peek() else { return malformed("a class is not closed") };
            if byte == b']' && !first {
                self.position += 1;
                self.output.push(']');
                return Ok(());
            }
            first = false;
            match self.member()? {
                Item::Byte(from) => {
                    // A dash is a range only between two single characters.
                    if self.peek() == Some(b'-') && !matches!(self.rest().get(1), None | Some(b']'))
                    {
                        self.position += 1;
                        match self.member()? {
                            Item::Byte(to) if from > to => {
                                return malformed("a range in a class ends before it begins");
                            }
                            Item::Byte(to) => {
                                let _ = write!(self.output, "\\x{from:02X}-\\x{to:02X}");
                            }
                            Item::Set(text) | Item::Construct(text) => {
                                let _ = write!(self.output, "\\x{from:02X}\\-{text}");
                            }
                        }
                    } else {
                        self.push_member(from);
                    }
                }
                Item::Set(text) | Item::Construct(text) => {
                    self.output.push_str(&text);
                    // A dash after a set is a dash.
                    if self.eat(b'-') {
                        self.output.push_str("\\-");
                    }
                }
            }
        }
    }

    fn push_member(&mut self, byte: u8) {
        if byte.is_ascii_alphanumeric() {
            self.output.push(char::from(byte));
        } else {
            let _ = write!(self.output, "\\x{byte:02X}");
        }
    }

    /// One member of a class.
    fn member(&mut self) -> Result<Item, OperatorError> {
        match self.bump() {
            Some(b'\\') => self.escape(true),
            Some(b'[') if matches!(self.peek(), Some(b':')) => {
                let rest = self.rest();
                let end = rest.windows(2).skip(1).position(|pair| pair == b":]");
                let name = end.map(|end| &rest[1..=end]).unwrap_or_default();
                let plain = name.strip_prefix(b"^").unwrap_or(name);
                if plain.is_empty() || !plain.iter().all(u8::is_ascii_lowercase) {
                    return Ok(Item::Byte(b'['));
                }
                let text = format!("[:{}:]", String::from_utf8_lossy(name));
                self.position += name.len() + 3;
                Ok(Item::Set(text))
            }
            Some(b'[') if matches!(self.peek(), Some(b'.' | b'=')) => {
                if is_collating(self.rest()) {
                    return unsupported("a collating element in a pattern");
                }
                Ok(Item::Byte(b'['))
            }
            Some(byte) => Ok(Item::Byte(byte)),
            None => malformed("a class is not closed"),
        }
    }
}

/// Whether `.` or `=` after a bracket begins a collating element: PCRE2 looks for the same mark before a `]`, and gives
/// up at another `]` and at a further `[` with the mark.
fn is_collating(rest: &[u8]) -> bool {
    let (mark, mut at) = (rest[0], 1);
    while let Some(pair) = rest.get(at..at + 2) {
        match pair {
            [b'\\', b']' | b'\\'] => at += 1,
            [b']', _] => return false,
            [b'[', next] if *next == mark => return false,
            [byte, b']'] if *byte == mark => return true,
            _ => {}
        }
        at += 1;
    }
    false
}

/// Width of `n}`, `n,}` or `n,m}`.
fn quantifier(rest: &[u8]) -> Option<usize> {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut width = digits(rest);
    if width == 0 {
        return None;
    }
    if rest.get(width) == Some(&b',') {
        width += 1;
        width += digits(&rest[width..]);
    }
    (rest.get(width) == Some(&b'}')).then_some(width + 1)
}

/// `,m}`: a quantifier since PCRE2 10.43, plain text before.
fn is_open_quantifier(rest: &[u8]) -> bool {
    let Some(number) = rest.strip_prefix(b",") else { return false };
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && number.get(digits) == Some(&b'}')
}
