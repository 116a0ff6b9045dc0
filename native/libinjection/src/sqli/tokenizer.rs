//! The SQL tokenizer: bytes into typed tokens whose values are cut at 31 bytes.
//!
//! Source: `libinjection.md` section 1. A zero byte counts as a member of every set that a run is measured by.

use memchr::{memchr, memmem};

use crate::tables::{self, Reader};

/// Longest value that a token keeps.
const VALUE_BYTES: usize = 31;

/// The quote context in which the input is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quote {
    /// As it stands.
    None,
    /// As if a `'` stood before the input.
    Single,
    /// As if a `"` stood before the input.
    Double,
}

/// The SQL dialect; it decides what `#` and `--` are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `#` is an operator, `--` always begins a comment.
    Ansi,
    /// `#` begins a comment, `--` only before a blank.
    MySql,
}

/// One token.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// The type letter; 0 for no token.
    pub kind: u8,
    /// Opening quote, 0 if absent.
    pub open: u8,
    /// Closing quote, 0 if absent.
    pub close: u8,
    /// Number of `@` of a variable.
    pub count: u8,
    length: u8,
    /// Only the first `length` bytes mean something.
    value: [u8; VALUE_BYTES + 1],
}

impl Token {
    pub(crate) const EMPTY: Token =
        Token { kind: 0, open: 0, close: 0, count: 0, length: 0, value: [0; VALUE_BYTES + 1] };

    /// The value, at most 31 bytes.
    #[inline]
    pub fn value(&self) -> &[u8] {
        &self.value[..usize::from(self.length)]
    }

    /// Sets type and value, cutting the value; quotes and count stay.
    #[inline]
    fn make(&mut self, kind: u8, text: &[u8]) {
        self.kind = kind;
        let length = text.len().min(VALUE_BYTES);
        self.length = length as u8;
        self.value[..length].copy_from_slice(&text[..length]);
    }

    /// Replaces the value by `value blank other`, if it fits; the caller looks it up first.
    #[inline]
    pub(crate) fn join(&mut self, other: &Token, kind: u8) {
        let start = usize::from(self.length);
        let end = start + 1 + usize::from(other.length);
        self.value[start] = b' ';
        self.value[start + 1..end].copy_from_slice(other.value());
        self.length = end as u8;
        self.kind = kind;
    }
}

/// A pass over the input in one quote context and dialect.
pub struct Tokenizer<'a> {
    input: &'a [u8],
    position: usize,
    quote: Quote,
    dialect: Dialect,
    /// Tokens delivered so far, comments and later folded ones included.
    pub tokens: usize,
    /// How often `--` was read as a comment only because the dialect is ANSI.
    pub dashes: usize,
    /// How often `#` was read.
    pub hashes: usize,
}

const fn set(members: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    table[0] = true;
    let mut index = 0;
    while index < members.len() {
        table[members[index] as usize] = true;
        index += 1;
    }
    table
}

static WORD_END: [bool; 256] = set(b" []{}<>:\\?=@!#~+-*/&|^%(),';\"\t\n\x0b\x0c\r\xa0");
static VARIABLE_END: [bool; 256] = set(b" <>:\\?=@!#~+-*/&|^%(),';\"`\t\n\x0b\x0c\r");
static BINARY_DIGITS: [bool; 256] = set(b"01");
static HEX_DIGITS: [bool; 256] = set(b"0123456789abcdefABCDEF");
static MONEY: [bool; 256] = set(b"0123456789.,");
static LETTERS: [bool; 256] = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

/// "Blank" for dashes and numbers (section 1.4).
#[inline]
fn is_blank(byte: u8) -> bool {
    matches!(byte, 0x20 | 0x09..=0x0D | 0xA0 | 0x00)
}

impl<'a> Tokenizer<'a> {
    /// Starts a pass.
    pub fn new(input: &'a [u8], quote: Quote, dialect: Dialect) -> Self {
        Tokenizer { input, position: 0, quote, dialect, tokens: 0, dashes: 0, hashes: 0 }
    }

    /// The next token; false (and an empty token) at the end of input. Section 1.2.
    pub fn next_into(&mut self, token: &mut Token) -> bool {
        token.kind = 0;
        token.open = 0;
        token.close = 0;
        token.count = 0;
        token.length = 0;
        if self.input.is_empty() {
            return false;
        }
        if self.position == 0 && self.quote != Quote::None {
            let quote = if self.quote == Quote::Single { b'\'' } else { b'"' };
            self.read_string(token, quote, 0, 0);
            self.tokens += 1;
            return true;
        }
        while let Some(&byte) = self.input.get(self.position) {
            self.read(token, byte);
            if token.kind != 0 {
                self.tokens += 1;
                return true;
            }
        }
        false
    }

    /// The next token, by value.
    pub fn next_token(&mut self) -> Option<Token> {
        let mut token = Token::EMPTY;
        self.next_into(&mut token).then_some(token)
    }

    #[inline]
    fn at(&self, index: usize) -> Option<u8> {
        self.input.get(index).copied()
    }

    #[inline]
    fn is_at(&self, index: usize, byte: u8) -> bool {
        self.at(index) == Some(byte)
    }

    #[inline]
    fn find(&self, byte: u8, from: usize) -> Option<usize> {
        memchr(byte, self.input.get(from..)?).map(|offset| from + offset)
    }

    fn find_text(&self, text: &[u8], from: usize) -> Option<usize> {
        memmem::find(self.input.get(from..)?, text).map(|offset| from + offset)
    }

    /// How many bytes from `from` on are in the set.
    #[inline]
    fn span(&self, set: &[bool; 256], from: usize) -> usize {
        let rest = self.input.get(from..).unwrap_or_default();
        rest.iter().position(|&byte| !set[usize::from(byte)]).unwrap_or(rest.len())
    }

    /// How many bytes from `from` on are not in the set.
    #[inline]
    fn run(&self, set: &[bool; 256], from: usize) -> usize {
        let rest = self.input.get(from..).unwrap_or_default();
        rest.iter().position(|&byte| set[usize::from(byte)]).unwrap_or(rest.len())
    }

    /// A token of `length` bytes at the position, which it passes.
    #[inline]
    fn take(&mut self, token: &mut Token, kind: u8, length: usize) {
        token.make(kind, &self.input[self.position..self.position + length]);
        self.position += length;
    }

    /// A string token with content `from..to` (`to` = `None`: unterminated), then the position goes to `after`.
    #[inline]
    fn take_string(
        &mut self,
        token: &mut Token,
        from: usize,
        to: Option<usize>,
        quote: u8,
        after: usize,
    ) {
        token.open = quote;
        match to {
            Some(to) => {
                token.make(b's', &self.input[from..to]);
                token.close = quote;
                self.position = to + after;
            }
            None => {
                token.make(b's', &self.input[from..]);
                token.close = 0;
                self.position = self.input.len();
            }
        }
    }

    #[inline]
    fn read(&mut self, token: &mut Token, byte: u8) {
        match tables::DISPATCH[usize::from(byte)] {
            Reader::White => self.position += 1,
            Reader::OperatorOne => self.take(token, b'o', 1),
            Reader::OperatorTwo => self.read_operator(token, byte),
            Reader::Single => self.take(token, byte, 1),
            Reader::Hash => self.read_hash(token),
            Reader::Dash => self.read_dash(token),
            Reader::Slash => self.read_slash(token),
            Reader::Backslash => {
                if self.is_at(self.position + 1, b'N') {
                    self.take(token, b'1', 2);
                } else {
                    self.take(token, b'\\', 1);
                }
            }
            Reader::Text => self.read_string(token, byte, self.position + 1, byte),
            Reader::Tick => self.read_tick(token, self.position),
            Reader::Money => self.read_money(token),
            Reader::Variable => self.read_variable(token),
            Reader::BracketWord => {
                let end = self.find(b']', self.position).map_or(self.input.len(), |end| end + 1);
                self.take(token, b'n', end - self.position);
            }
            Reader::Other => self.take(token, b'?', 1),
            Reader::Number => self.read_number(token, byte),
            Reader::BinaryString => self.read_digit_string(token, &BINARY_DIGITS),
            Reader::HexString => self.read_digit_string(token, &HEX_DIGITS),
            Reader::EscapeString => {
                if !self.read_escape_string(token) {
                    self.read_word(token);
                }
            }
            Reader::NationalString => {
                if !self.read_escape_string(token)
                    && !self.read_quote_string(token, self.position + 1)
                {
                    self.read_word(token);
                }
            }
            Reader::QuoteString => {
                if !self.read_quote_string(token, self.position) {
                    self.read_word(token);
                }
            }
            Reader::UnicodeString => self.read_unicode_string(token),
            Reader::Word => self.read_word(token),
        }
    }

    /// `op2` of section 1.4.
    fn read_operator(&mut self, token: &mut Token, byte: u8) {
        let rest = &self.input[self.position..];
        if rest.len() == 1 {
            return self.take(token, b'o', 1);
        }
        if rest.starts_with(b"<=>") {
            return self.take(token, b'o', 3);
        }
        if let Some(kind) = tables::keyword(&rest[..2]) {
            return self.take(token, kind, 2);
        }
        self.take(token, if byte == b':' { b':' } else { b'o' }, 1);
    }

    /// Section 1.5.
    fn read_hash(&mut self, token: &mut Token) {
        self.hashes += 1;
        if self.dialect == Dialect::MySql {
            self.hashes += 1;
            self.read_line_comment(token);
        } else {
            self.take(token, b'o', 1);
        }
    }

    /// Section 1.6.
    fn read_dash(&mut self, token: &mut Token) {
        let start = self.position;
        if !self.is_at(start + 1, b'-') {
            return self.take(token, b'o', 1);
        }
        match self.at(start + 2) {
            None => self.read_line_comment(token),
            Some(byte) if is_blank(byte) => self.read_line_comment(token),
            Some(_) if self.dialect == Dialect::Ansi => {
                self.dashes += 1;
                self.read_line_comment(token);
            }
            Some(_) => self.take(token, b'o', 1),
        }
    }

    /// From the position to the end of the line, which it passes.
    fn read_line_comment(&mut self, token: &mut Token) {
        match self.find(b'\n', self.position) {
            Some(end) => {
                token.make(b'c', &self.input[self.position..end]);
                self.position = end + 1;
            }
            None => self.take(token, b'c', self.input.len() - self.position),
        }
    }

    /// Section 1.7.
    fn read_slash(&mut self, token: &mut Token) {
        let start = self.position;
        if !self.is_at(start + 1, b'*') {
            return self.take(token, b'o', 1);
        }
        let close = self.find_text(b"*/", start + 2);
        let end = close.map_or(self.input.len(), |close| close + 2);
        let nested = close.is_some_and(|close| {
            // Begins at or before close - 1; its `*` may be the one that closes.
            memmem::find(&self.input[start + 2..close + 1], b"/*").is_some()
        });
        let kind = if nested || self.is_at(start + 2, b'!') { b'X' } else { b'c' };
        self.take(token, kind, end - start);
    }

    /// The common string reader of section 1.8; `open` is 0 for the virtual quote before the input.
    fn read_string(&mut self, token: &mut Token, quote: u8, content: usize, open: u8) {
        let mut from = content;
        let end = loop {
            let Some(found) = self.find(quote, from) else { break None };
            let before = &self.input[content..found];
            let slashes = before.iter().rev().take_while(|&&byte| byte == b'\\').count();
            if slashes % 2 == 1 {
                from = found + 1;
            } else if self.is_at(found + 1, quote) {
                from = found + 2;
            } else {
                break Some(found);
            }
        };
        self.take_string(token, content, end, quote, 1);
        token.open = open;
    }

    /// A `` ` `` quoted name at `start` (section 1.10).
    fn read_tick(&mut self, token: &mut Token, start: usize) {
        self.read_string(token, b'`', start + 1, b'`');
        token.kind = if tables::keyword(token.value()) == Some(b'f') { b'f' } else { b'n' };
    }

    /// `e'…'` and `n'…'`; false when the shape does not match (section 1.9).
    fn read_escape_string(&mut self, token: &mut Token) -> bool {
        let start = self.position;
        let fits = start + 2 < self.input.len() && self.is_at(start + 1, b'\'');
        if fits {
            self.read_string(token, b'\'', start + 2, b'\'');
        }
        fits
    }

    /// `q'(…)'` at `start`; false when the shape does not match.
    fn read_quote_string(&mut self, token: &mut Token, start: usize) -> bool {
        let (Some(letter), Some(quote), Some(delimiter)) =
            (self.at(start), self.at(start + 1), self.at(start + 2))
        else {
            return false;
        };
        if !matches!(letter, b'q' | b'Q') || quote != b'\'' || !(0x21..=0x7F).contains(&delimiter) {
            return false;
        }
        let closing = match delimiter {
            b'(' => b')',
            b'[' => b']',
            b'{' => b'}',
            b'<' => b'>',
            other => other,
        };
        let end = self.find_text(&[closing, b'\''], start + 3);
        self.take_string(token, start + 3, end, b'q', 2);
        true
    }

    /// `u&'…'`.
    fn read_unicode_string(&mut self, token: &mut Token) {
        let start = self.position;
        if !(self.is_at(start + 1, b'&') && self.is_at(start + 2, b'\'')) {
            return self.read_word(token);
        }
        self.read_string(token, b'\'', start + 3, b'\'');
        token.open = b'u';
        if token.close == b'\'' {
            token.close = b'u';
        }
    }

    /// `b'01'` and `x'0F'`: numbers.
    fn read_digit_string(&mut self, token: &mut Token, digits: &[bool; 256]) {
        let start = self.position;
        if !(start + 2 < self.input.len() && self.is_at(start + 1, b'\'')) {
            return self.read_word(token);
        }
        let width = self.span(digits, start + 2);
        if !self.is_at(start + 2 + width, b'\'') {
            return self.read_word(token);
        }
        self.take(token, b'1', width + 3);
    }

    /// Section 1.11.
    fn read_word(&mut self, token: &mut Token) {
        let width = self.run(&WORD_END, self.position);
        token.make(b'n', &self.input[self.position..self.position + width]);
        for (index, &byte) in token.value().iter().enumerate() {
            if byte != b'.' && byte != b'`' {
                continue;
            }
            match tables::keyword(&token.value()[..index]) {
                None | Some(b'n') => {}
                Some(kind) => {
                    token.kind = kind;
                    token.length = index as u8;
                    self.position += index;
                    return;
                }
            }
        }
        if width <= VALUE_BYTES {
            token.kind = tables::keyword(token.value()).unwrap_or(b'n');
        }
        self.position += width;
    }

    /// Section 1.12, `@`.
    fn read_variable(&mut self, token: &mut Token) {
        let mut start = self.position + 1;
        token.count = 1;
        if self.is_at(start, b'@') {
            start += 1;
            token.count = 2;
        }
        match self.at(start) {
            Some(b'`') => {
                self.read_tick(token, start);
                token.kind = b'v';
            }
            Some(quote @ (b'\'' | b'"')) => {
                self.read_string(token, quote, start + 1, quote);
                token.kind = b'v';
            }
            _ => {
                self.position = start;
                let width = self.run(&VARIABLE_END, start);
                self.take(token, b'v', width);
            }
        }
    }

    /// Section 1.12, `$`.
    fn read_money(&mut self, token: &mut Token) {
        let start = self.position;
        if start + 1 == self.input.len() {
            return self.take(token, b'n', 1);
        }
        let width = self.span(&MONEY, start + 1);
        if width == 1 && self.is_at(start + 1, b'.') {
            return self.read_word(token);
        }
        if width > 0 {
            return self.take(token, b'1', 1 + width);
        }
        if self.is_at(start + 1, b'$') {
            let end = self.find_text(b"$$", start + 2);
            return self.take_string(token, start + 2, end, b'$', 2);
        }
        let width = self.span(&LETTERS, start + 1);
        if width == 0 || !self.is_at(start + 1 + width, b'$') {
            return self.take(token, b'n', 1);
        }
        let content = start + width + 2;
        let end = self.find_text(&self.input[start..content], content);
        self.take_string(token, content, end, b'$', width + 2);
    }

    /// Section 1.12, digits and `.`.
    fn read_number(&mut self, token: &mut Token, first: u8) {
        let start = self.position;
        if first == b'0' {
            let digits = match self.at(start + 1) {
                Some(b'x' | b'X') => Some(&HEX_DIGITS),
                Some(b'b' | b'B') => Some(&BINARY_DIGITS),
                _ => None,
            };
            if let Some(digits) = digits {
                let width = self.span(digits, start + 2);
                return self.take(token, if width == 0 { b'n' } else { b'1' }, 2 + width);
            }
        }
        let digits_from = |from: usize| {
            let rest = self.input.get(from..).unwrap_or_default();
            rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len())
        };
        let mut end = start + digits_from(start);
        if self.is_at(end, b'.') {
            end += 1;
            end += digits_from(end);
            if end == start + 1 {
                return self.take(token, b'.', 1);
            }
        }
        let mut dangling = false;
        if matches!(self.at(end), Some(b'e' | b'E')) {
            end += 1;
            if matches!(self.at(end), Some(b'+' | b'-')) {
                end += 1;
            }
            let width = digits_from(end);
            end += width;
            dangling = width == 0;
        }
        if matches!(self.at(end), Some(b'd' | b'D' | b'f' | b'F')) {
            match self.at(end + 1) {
                None | Some(b';' | b'u' | b'U') => end += 1,
                Some(byte) if is_blank(byte) => end += 1,
                Some(_) => {}
            }
        }
        self.take(token, if dangling { b'n' } else { b'1' }, end - start);
    }
}
