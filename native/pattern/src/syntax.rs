//! Reads a pattern by RE2's rules and writes it in the language of the `regex` crate.
//!
//! Source: Go's regexp/syntax (flags `Perl`), RE2's syntax page. Where both languages agree the text is passed on; where
//! only the `regex` crate accepts something, it is an error here or gets RE2's meaning.

use crate::error::Error;

/// A pattern in the language of the `regex` crate, and what its groups are called.
pub(crate) struct Translated {
    pub(crate) pattern: String,
    pub(crate) names: Vec<Option<String>>,
}

/// Most a repetition may ask for (RE2: 1000).
const MOST_REPETITIONS: u32 = 1000;

const DIGIT: &str = "0-9";
const SPACE: &str = r"\t\n\x0C\r\x20"; // without the vertical tab, as RE2 has it
const WORD: &str = "0-9A-Za-z_";
const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// Rewrites `pattern`.
///
/// # Errors
/// When it is not RE2.
pub(crate) fn translate(pattern: &str) -> Result<Translated, Error> {
    let mut reader = Reader {
        text: pattern.chars().collect(),
        at: 0,
        out: String::with_capacity(pattern.len() + 16),
        names: vec![None],
        open: Vec::new(),
        last: Last::Nothing,
    };
    reader.read()?;
    Ok(Translated { pattern: reader.out, names: reader.names })
}

/// What a repetition operator would apply to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Atom,
    Repetition,
}

struct Reader {
    text: Vec<char>,
    at: usize,
    out: String,
    names: Vec<Option<String>>,
    /// Where the groups that are open began.
    open: Vec<usize>,
    last: Last,
}

impl Reader {
    fn read(&mut self) -> Result<(), Error> {
        while let Some(c) = self.peek(0) {
            match c {
                '(' => self.group()?,
                ')' => {
                    if self.open.pop().is_none() {
                        return Err(self.error("unexpected `)`"));
                    }
                    self.at += 1;
                    self.out.push(')');
                    self.last = Last::Atom;
                }
                '|' => {
                    self.at += 1;
                    self.out.push('|');
                    self.last = Last::Nothing;
                }
                '*' | '+' | '?' => {
                    let start = self.at;
                    self.at += 1;
                    self.repetition(start, c.to_string())?;
                }
                '{' => self.brace()?,
                '[' => self.class()?,
                '\\' => self.escape_outside_class()?,
                '.' | '^' | '$' => {
                    self.at += 1;
                    self.atom(&c.to_string());
                }
                _ => {
                    self.at += 1;
                    self.literal(c);
                }
            }
        }
        match self.open.pop() {
            Some(start) => Err(Error::at(start, "missing `)` for this `(`")),
            None => Ok(()),
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::at(self.at, message)
    }

    fn atom(&mut self, text: &str) {
        self.out.push_str(text);
        self.last = Last::Atom;
    }

    fn literal(&mut self, c: char) {
        push_literal(&mut self.out, c);
        self.last = Last::Atom;
    }

    // ---- groups -----------------------------------------------------------------------------------------------------

    fn group(&mut self) -> Result<(), Error> {
        let start = self.at;
        for (beginning, what) in [
            ("(?=", "look-ahead"),
            ("(?!", "look-ahead"),
            ("(?<=", "look-behind"),
            ("(?<!", "look-behind"),
            ("(?>", "an atomic group"),
            ("(?#", "a comment"),
            ("(?P=", "a back-reference"),
            ("(?P>", "a recursion"),
            ("(?|", "a branch reset"),
        ] {
            if self.starts_with(beginning) {
                return Err(self.error(format!("RE2 has no such group: `{beginning}` ({what})")));
            }
        }
        self.last = Last::Nothing;
        if self.starts_with("(?P<") || self.starts_with("(?<") {
            self.at += if self.starts_with("(?P<") { 4 } else { 3 };
            let name: String = self.text[self.at..].iter().take_while(|&&c| c != '>').collect();
            self.at += name.chars().count();
            let plain = |c: char| c == '_' || c.is_ascii_alphanumeric();
            if self.peek(0) != Some('>') || name.is_empty() || !name.chars().all(plain) {
                return Err(Error::at(
                    start,
                    "a group's name is letters, digits and underscores, ended by `>`",
                ));
            }
            self.at += 1;
            if self.names.iter().any(|known| known.as_deref() == Some(name.as_str())) {
                return Err(Error::at(start, format!("two groups are named `{name}`")));
            }
            self.names.push(Some(name));
            self.open.push(start);
            self.out.push('(');
            return Ok(());
        }
        if !self.starts_with("(?") {
            self.at += 1;
            self.names.push(None);
            self.open.push(start);
            self.out.push('(');
            return Ok(());
        }
        self.at += 2;
        let mut flags = String::new();
        loop {
            match self.peek(0) {
                Some(c @ ('i' | 'm' | 's' | 'U')) => flags.push(c),
                Some('-') if !flags.contains('-') => flags.push('-'),
                Some(end @ (')' | ':')) => {
                    self.at += 1;
                    // A minus sign needs a flag behind it; `(?)` says nothing.
                    if flags.ends_with('-') || (flags.is_empty() && end == ')') {
                        return Err(Error::at(start, "this group names no flag"));
                    }
                    if end == ':' {
                        self.open.push(start);
                    }
                    self.push_flags(&flags, end);
                    return Ok(());
                }
                Some(c) => {
                    return Err(self.error(format!("RE2 has no flag `{c}` (flags are i, m, s, U)")))
                }
                None => return Err(Error::at(start, "missing `)` for this `(`")),
            }
            self.at += 1;
        }
    }

    /// Writes `(?flags:` or `(?flags)`. The crate refuses a flag named twice; RE2 does not, the later one wins.
    fn push_flags(&mut self, flags: &str, end: char) {
        let (on, off) = flags.split_once('-').unwrap_or((flags, ""));
        let (mut keep_on, mut keep_off) = (String::new(), String::new());
        for flag in ['i', 'm', 's', 'U'] {
            if off.contains(flag) {
                keep_off.push(flag);
            } else if on.contains(flag) {
                keep_on.push(flag);
            }
        }
        self.out.push_str("(?");
        self.out.push_str(&keep_on);
        if !keep_off.is_empty() {
            self.out.push('-');
            self.out.push_str(&keep_off);
        }
        self.out.push(end);
    }

    // ---- repetitions ------------------------------------------------------------------------------------------------

    fn repetition(&mut self, start: usize, operator: String) -> Result<(), Error> {
        match self.last {
            Last::Nothing => {
                return Err(Error::at(start, format!("nothing to repeat before `{operator}`")))
            }
            Last::Repetition => {
                return Err(Error::at(start, format!("`{operator}` repeats a repetition")))
            }
            Last::Atom => {}
        }
        self.out.push_str(&operator);
        if self.peek(0) == Some('?') {
            self.at += 1;
            self.out.push('?');
        }
        self.last = Last::Repetition;
        Ok(())
    }

    /// `{n}`, `{n,}`, `{n,m}`; anything else that begins with a brace is literal text.
    fn brace(&mut self) -> Result<(), Error> {
        let start = self.at;
        let Some((least, most, end)) = self.counts() else {
            self.at += 1;
            self.literal('{');
            return Ok(());
        };
        let too_many = |count: Option<u32>| count.is_none_or(|count| count > MOST_REPETITIONS);
        if too_many(least) || most.is_some_and(too_many) {
            return Err(Error::at(
                start,
                format!("a repetition counts to {MOST_REPETITIONS} at most"),
            ));
        }
        if let (Some(least), Some(Some(most))) = (least, most) {
            if least > most {
                return Err(Error::at(start, format!("a repetition from {least} to {most}")));
            }
        }
        let operator: String = self.text[start..end].iter().collect();
        self.at = end;
        self.repetition(start, operator)
    }

    /// Reads the counts of a brace without moving: least, most (`None`: open or as least), the index behind. An inner
    /// `None` is a number too large to hold.
    #[allow(clippy::type_complexity)]
    fn counts(&self) -> Option<(Option<u32>, Option<Option<u32>>, usize)> {
        let mut at = self.at + 1;
        let least = self.number(&mut at)?;
        let mut most = None;
        if self.text.get(at) == Some(&',') {
            at += 1;
            if self.text.get(at) != Some(&'}') {
                most = Some(self.number(&mut at)?);
            }
        }
        (self.text.get(at) == Some(&'}')).then_some((least, most, at + 1))
    }

    fn number(&self, at: &mut usize) -> Option<Option<u32>> {
        let digits: String = self.text[*at..].iter().take_while(|c| c.is_ascii_digit()).collect();
        if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
            return None;
        }
        *at += digits.len();
        Some(digits.parse().ok())
    }

    // ---- escapes ----------------------------------------------------------------------------------------------------

    fn escape_outside_class(&mut self) -> Result<(), Error> {
        match self.peek(1) {
            Some(c @ ('A' | 'z')) => {
                self.at += 2;
                self.atom(&format!(r"\{c}"));
            }
            Some(c @ ('b' | 'B')) => {
                self.at += 2;
                self.atom(&format!(r"(?-u:\{c})"));
            }
            Some('Q') => {
                self.at += 2;
                while let Some(c) = self.peek(0) {
                    if self.starts_with(r"\E") {
                        self.at += 2;
                        break;
                    }
                    self.at += 1;
                    self.literal(c);
                }
            }
            Some('E') => self.at += 2, // the end of a quotation that was not begun, as in RE2
            Some(c @ '1'..='9') if !matches!(self.peek(2), Some('0'..='7')) || c > '7' => {
                return Err(self.error(format!(r"RE2 has no back-references: `\{c}`")));
            }
            _ => {
                if let Some(class) = self.perl_or_unicode_class()? {
                    self.atom(&format!("[{class}]"));
                } else {
                    let c = self.escaped_char()?;
                    self.literal(c);
                }
            }
        }
        Ok(())
    }

    /// `\d`, `\D`, …, `\pL`, `\p{Greek}`: what to write between the brackets of a class.
    fn perl_or_unicode_class(&mut self) -> Result<Option<String>, Error> {
        let class = match self.peek(1) {
            Some('d') => DIGIT.to_owned(),
            Some('D') => format!("[^{DIGIT}]"),
            Some('s') => SPACE.to_owned(),
            Some('S') => format!("[^{SPACE}]"),
            Some('w') => WORD.to_owned(),
            Some('W') => format!("[^{WORD}]"),
            Some(p @ ('p' | 'P')) => return self.unicode_class(p).map(Some),
            _ => return Ok(None),
        };
        self.at += 2;
        Ok(Some(class))
    }

    fn unicode_class(&mut self, p: char) -> Result<String, Error> {
        let start = self.at;
        self.at += 2;
        let mut name: String = match self.peek(0) {
            Some('{') => {
                let name: String =
                    self.text[self.at + 1..].iter().take_while(|&&c| c != '}').collect();
                self.at += name.chars().count() + 2;
                if self.at > self.text.len() {
                    return Err(Error::at(start, format!(r"missing `}}` for this `\{p}{{`")));
                }
                name
            }
            Some(c) => {
                self.at += 1;
                c.to_string()
            }
            None => return Err(Error::at(start, format!(r"`\{p}` names no class"))),
        };
        let mut negated = p == 'P';
        if let Some(rest) = name.strip_prefix('^') {
            negated = !negated;
            name = rest.to_owned();
        }
        if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) {
            return Err(Error::at(start, format!(r"`\{p}` names no class")));
        }
        Ok(format!(r"\{}{{{name}}}", if negated { 'P' } else { 'p' }))
    }

    /// One escaped character: `\n`, `\x41`, `\x{263a}`, `\101`, `\.`.
    fn escaped_char(&mut self) -> Result<char, Error> {
        let start = self.at;
        let Some(c) = self.peek(1) else {
            return Err(self.error("the pattern ends in a backslash"));
        };
        self.at += 2;
        match c {
            '0'..='7' => {
                let mut code = c as u32 - '0' as u32;
                // RE2: up to three octal digits; one alone other than 0 is a back-reference.
                if c != '0' && !matches!(self.peek(0), Some('0'..='7')) {
                    return Err(Error::at(start, format!(r"RE2 has no back-references: `\{c}`")));
                }
                for _ in 0..2 {
                    let Some(digit @ '0'..='7') = self.peek(0) else { break };
                    code = code * 8 + (digit as u32 - '0' as u32);
                    self.at += 1;
                }
                char::from_u32(code).ok_or_else(|| Error::at(start, "no such character"))
            }
            'x' => self.hexadecimal(start),
            'a' => Ok('\x07'),
            'f' => Ok('\x0C'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0B'),
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            _ => Err(Error::at(start, format!(r"RE2 has no escape `\{c}`"))),
        }
    }

    fn hexadecimal(&mut self, start: usize) -> Result<char, Error> {
        let refusal = || Error::at(start, r"`\x` needs two digits, or up to six in braces");
        let digits: String = if self.peek(0) == Some('{') {
            let digits: String =
                self.text[self.at + 1..].iter().take_while(|&&c| c != '}').collect();
            self.at += digits.chars().count() + 2;
            if self.at > self.text.len() {
                return Err(refusal());
            }
            digits
        } else {
            let digits: String = self.text[self.at..].iter().take(2).collect();
            if digits.chars().count() != 2 {
                return Err(refusal());
            }
            self.at += 2;
            digits
        };
        if digits.is_empty() || digits.len() > 8 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(refusal());
        }
        u32::from_str_radix(&digits, 16)
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| Error::at(start, "no such character"))
    }

    // ---- classes ----------------------------------------------------------------------------------------------------

    fn class(&mut self) -> Result<(), Error> {
        let start = self.at;
        self.at += 1;
        let mut class = String::from("[");
        if self.peek(0) == Some('^') {
            self.at += 1;
            class.push('^');
        }
        let mut first = true;
        loop {
            match self.peek(0) {
                None => return Err(Error::at(start, "missing `]` for this `[`")),
                Some(']') if !first => {
                    self.at += 1;
                    break;
                }
                Some('[') if self.peek(1) == Some(':') && self.posix_end().is_some() => {
                    let end = self.posix_end().unwrap_or(self.at); // just seen
                    let name: String = self.text[self.at + 2..end].iter().collect();
                    if !POSIX_CLASSES.contains(&name.strip_prefix('^').unwrap_or(&name)) {
                        return Err(self.error(format!("no class is named `[:{name}:]`")));
                    }
                    class.push_str(&format!("[:{name}:]"));
                    self.at = end + 2;
                }
                Some('\\') => match self.perl_or_unicode_class()? {
                    Some(inner) => class.push_str(&inner),
                    None => self.range(&mut class)?,
                },
                Some(_) => self.range(&mut class)?,
            }
            first = false;
        }
        class.push(']');
        self.atom(&class);
        Ok(())
    }

    /// Index of the `:]` of a POSIX class that may begin here.
    fn posix_end(&self) -> Option<usize> {
        (self.at + 2..self.text.len().saturating_sub(1))
            .find(|&at| self.text[at] == ':' && self.text[at + 1] == ']')
    }

    fn range(&mut self, class: &mut String) -> Result<(), Error> {
        let start = self.at;
        let low = self.class_char()?;
        push_literal(class, low);
        if self.peek(0) == Some('-') && !matches!(self.peek(1), Some(']') | None) {
            self.at += 1;
            let high = self.class_char()?;
            if high < low {
                return Err(Error::at(start, format!("a range from `{low}` to `{high}`")));
            }
            class.push('-');
            push_literal(class, high);
        }
        Ok(())
    }

    fn class_char(&mut self) -> Result<char, Error> {
        match self.peek(0) {
            Some('\\') => self.escaped_char(),
            Some(c) => {
                self.at += 1;
                Ok(c)
            }
            None => Err(self.error("missing `]`")),
        }
    }
}

/// Writes one character so that it means itself, inside and outside a class: all that could be punctuation by its code.
fn push_literal(out: &mut String, c: char) {
    if c.is_ascii() && !c.is_ascii_alphanumeric() {
        out.push_str(&format!(r"\x{:02X}", c as u32));
    } else {
        out.push(c);
    }
}
