//! The HTML tokenizer of the XSS check: tags, attributes and comments as slices of the input, nothing decoded.
//!
//! Source: `libinjection.md` section 4.

use memchr::{memchr, memmem};

/// Where in a document the input is taken to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// Between tags.
    Data,
    /// Inside a tag, before an attribute name.
    Unquoted,
    /// Inside an attribute value quoted by `'`.
    SingleQuote,
    /// Inside an attribute value quoted by `"`.
    DoubleQuote,
    /// Inside an attribute value quoted by `` ` ``.
    BackQuote,
}

/// The type of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// Text between tags.
    DataText,
    /// Name of an opening tag.
    TagNameOpen,
    /// The `>` of a tag.
    TagNameClose,
    /// The `/>` of a tag.
    TagNameSelfclose,
    /// Name of a closing tag.
    TagClose,
    /// Name of an attribute.
    AttrName,
    /// Value of an attribute, without quotes.
    AttrValue,
    /// Text of a comment.
    TagComment,
    /// A document type declaration.
    Doctype,
}

/// One token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token<'a> {
    /// Its type.
    pub kind: TokenKind,
    /// Its text, a slice of the input.
    pub text: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    End,
    TagOpen,
    EndTagOpen,
    TagName,
    TagNameClose,
    BeforeAttributeName,
    SelfClosing,
    AttributeName,
    AfterAttributeName,
    BeforeAttributeValue,
    QuotedValue(u8),
    UnquotedValue,
    AfterQuotedValue,
    Markup,
    Doctype,
    BogusComment,
    PercentComment,
    CharacterData,
    Comment,
}

/// The tokenizer; iterates over tokens.
pub struct Tokenizer<'a> {
    input: &'a [u8],
    position: usize,
    closing: bool,
    state: State,
}

#[inline]
fn is_white(byte: u8) -> bool {
    matches!(byte, 0x20 | 0x09..=0x0D | 0x00)
}

impl<'a> Tokenizer<'a> {
    /// Starts in a context.
    pub fn new(input: &'a [u8], context: Context) -> Self {
        let state = match context {
            Context::Data => State::Data,
            Context::Unquoted => State::BeforeAttributeName,
            Context::SingleQuote => State::QuotedValue(b'\''),
            Context::DoubleQuote => State::QuotedValue(b'"'),
            Context::BackQuote => State::QuotedValue(b'`'),
        };
        Tokenizer { input, position: 0, closing: false, state }
    }

    #[inline]
    fn here(&self) -> Option<u8> {
        self.input.get(self.position).copied()
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.input.get(self.position..).unwrap_or_default()
    }

    /// Passes white space; the byte after it, or `None` at the end of input. FF also ends the stream, as it does where
    /// `char` is signed.
    #[inline]
    fn skip_white(&mut self) -> Option<u8> {
        let rest = self.rest();
        let width = rest.iter().position(|&byte| !is_white(byte)).unwrap_or(rest.len());
        self.position += width;
        self.here().filter(|&byte| byte != 0xFF)
    }

    /// Delivers `position..to`; goes on at `next` in `state`.
    #[inline]
    fn deliver(
        &mut self,
        kind: TokenKind,
        to: usize,
        next: usize,
        state: State,
    ) -> Option<Token<'a>> {
        let text = &self.input[self.position..to];
        self.position = next;
        self.state = state;
        Some(Token { kind, text })
    }

    /// Delivers everything that is left and ends the stream.
    #[inline]
    fn deliver_rest(&mut self, kind: TokenKind) -> Option<Token<'a>> {
        let length = self.input.len();
        self.deliver(kind, length, length, State::End)
    }

    /// Delivers up to a closing text of `width` bytes that begins `offset` bytes ahead, or everything that is left.
    #[inline]
    fn deliver_until(
        &mut self,
        kind: TokenKind,
        offset: Option<usize>,
        width: usize,
        state: State,
    ) -> Option<Token<'a>> {
        match offset {
            Some(offset) => {
                let to = self.position + offset;
                self.deliver(kind, to, to + width, state)
            }
            None => self.deliver_rest(kind),
        }
    }

    #[inline]
    fn end(&mut self) -> Option<Token<'a>> {
        self.state = State::End;
        None
    }

    /// The `>` at the position.
    #[inline]
    fn deliver_close(&mut self) -> Option<Token<'a>> {
        let after = self.position + 1;
        self.deliver(TokenKind::TagNameClose, after, after, State::Data)
    }

    /// Where the comment at the position ends: (end of its text, where to go on).
    fn comment_end(&self) -> Option<(usize, usize)> {
        let input = self.input;
        let mut from = self.position;
        loop {
            let dash = from + memchr(b'-', input.get(from..)?)?;
            if dash + 3 > input.len() {
                return None;
            }
            let mut next = dash + 1;
            while *input.get(next)? == 0 {
                next += 1;
            }
            if matches!(input[next], b'-' | b'!') && *input.get(next + 1)? == b'>' {
                return Some((dash, next + 2));
            }
            from = dash + 1;
        }
    }
}

impl<'a> Iterator for Tokenizer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let length = self.input.len();
        loop {
            self.state = match self.state {
                State::End => return None,
                State::Data => {
                    let Some(offset) = memchr(b'<', self.rest()) else {
                        if self.position >= length {
                            return self.end();
                        }
                        return self.deliver_rest(TokenKind::DataText);
                    };
                    if offset > 0 {
                        let to = self.position + offset;
                        return self.deliver(TokenKind::DataText, to, to + 1, State::TagOpen);
                    }
                    self.position += 1;
                    State::TagOpen
                }
                State::TagOpen => match self.here() {
                    None => return self.end(),
                    Some(b'!') => {
                        self.position += 1;
                        State::Markup
                    }
                    Some(b'/') => {
                        self.position += 1;
                        self.closing = true;
                        State::EndTagOpen
                    }
                    Some(b'?') => {
                        self.position += 1;
                        State::BogusComment
                    }
                    Some(b'%') => {
                        self.position += 1;
                        State::PercentComment
                    }
                    Some(byte) if byte.is_ascii_alphabetic() || byte == 0 => State::TagName,
                    Some(_) => {
                        let here = self.position;
                        self.position -= 1;
                        return self.deliver(TokenKind::DataText, here, here, State::Data);
                    }
                },
                State::EndTagOpen => match self.here() {
                    None => return self.end(),
                    Some(b'>') => State::Data,
                    Some(byte) if byte.is_ascii_alphabetic() => State::TagName,
                    Some(_) => {
                        self.closing = false;
                        State::BogusComment
                    }
                },
                State::TagName => {
                    let stop = self.rest().iter().position(|&byte| {
                        byte != 0 && (is_white(byte) || byte == b'/' || byte == b'>')
                    });
                    let Some(offset) = stop else {
                        return self.deliver_rest(TokenKind::TagNameOpen);
                    };
                    let to = self.position + offset;
                    return match self.input[to] {
                        b'/' => {
                            self.deliver(TokenKind::TagNameOpen, to, to + 1, State::SelfClosing)
                        }
                        b'>' if self.closing => {
                            self.closing = false;
                            self.deliver(TokenKind::TagClose, to, to + 1, State::Data)
                        }
                        b'>' => self.deliver(TokenKind::TagNameOpen, to, to, State::TagNameClose),
                        _ => {
                            let state = State::BeforeAttributeName;
                            self.deliver(TokenKind::TagNameOpen, to, to + 1, state)
                        }
                    };
                }
                State::TagNameClose => {
                    self.closing = false;
                    let token = self.deliver_close();
                    if self.position >= length {
                        self.state = State::End;
                    }
                    return token;
                }
                State::BeforeAttributeName => match self.skip_white() {
                    None => return self.end(),
                    Some(b'/') => {
                        self.position += 1;
                        match self.here() {
                            Some(byte) if byte != b'>' => State::BeforeAttributeName,
                            _ => State::SelfClosing,
                        }
                    }
                    Some(b'>') => return self.deliver_close(),
                    Some(_) => State::AttributeName,
                },
                State::SelfClosing => match self.here() {
                    None => return self.end(),
                    Some(b'>') => {
                        let after = self.position + 1;
                        self.position -= 1;
                        return self.deliver(
                            TokenKind::TagNameSelfclose,
                            after,
                            after,
                            State::Data,
                        );
                    }
                    Some(_) => State::BeforeAttributeName,
                },
                State::AttributeName => {
                    let rest = self.rest().get(1..).unwrap_or_default();
                    let stop = rest
                        .iter()
                        .position(|&byte| is_white(byte) || matches!(byte, b'/' | b'=' | b'>'));
                    let Some(offset) = stop else {
                        return self.deliver_rest(TokenKind::AttrName);
                    };
                    let to = self.position + 1 + offset;
                    let (next, state) = match self.input[to] {
                        b'/' => (to + 1, State::SelfClosing),
                        b'=' => (to + 1, State::BeforeAttributeValue),
                        b'>' => (to, State::TagNameClose),
                        _ => (to + 1, State::AfterAttributeName),
                    };
                    return self.deliver(TokenKind::AttrName, to, next, state);
                }
                State::AfterAttributeName => match self.skip_white() {
                    None => return self.end(),
                    Some(b'/') => {
                        self.position += 1;
                        State::SelfClosing
                    }
                    Some(b'=') => {
                        self.position += 1;
                        State::BeforeAttributeValue
                    }
                    Some(b'>') => State::TagNameClose,
                    Some(_) => State::AttributeName,
                },
                State::BeforeAttributeValue => match self.skip_white() {
                    None => return self.end(),
                    Some(quote @ (b'"' | b'\'' | b'`')) => State::QuotedValue(quote),
                    Some(_) => State::UnquotedValue,
                },
                State::QuotedValue(quote) => {
                    if self.position > 0 {
                        self.position += 1;
                    }
                    let offset = memchr(quote, self.rest());
                    return self.deliver_until(
                        TokenKind::AttrValue,
                        offset,
                        1,
                        State::AfterQuotedValue,
                    );
                }
                State::UnquotedValue => {
                    let stop = self.rest().iter().position(|&byte| is_white(byte) || byte == b'>');
                    let Some(offset) = stop else {
                        return self.deliver_rest(TokenKind::AttrValue);
                    };
                    let to = self.position + offset;
                    let (next, state) = match self.input[to] {
                        b'>' => (to, State::TagNameClose),
                        _ => (to + 1, State::BeforeAttributeName),
                    };
                    return self.deliver(TokenKind::AttrValue, to, next, state);
                }
                State::AfterQuotedValue => match self.here() {
                    None => return self.end(),
                    Some(byte) if is_white(byte) => {
                        self.position += 1;
                        State::BeforeAttributeName
                    }
                    Some(b'/') => {
                        self.position += 1;
                        State::SelfClosing
                    }
                    Some(b'>') => return self.deliver_close(),
                    Some(_) => State::BeforeAttributeName,
                },
                State::Markup => {
                    let rest = self.rest();
                    let word = rest.get(..7).unwrap_or_default();
                    if word.eq_ignore_ascii_case(b"doctype") {
                        State::Doctype
                    } else if word == b"[CDATA[" {
                        self.position += 7;
                        State::CharacterData
                    } else if rest.starts_with(b"--") {
                        self.position += 2;
                        State::Comment
                    } else {
                        State::BogusComment
                    }
                }
                State::Doctype => {
                    let offset = memchr(b'>', self.rest());
                    return self.deliver_until(TokenKind::Doctype, offset, 1, State::Data);
                }
                State::BogusComment => {
                    let offset = memchr(b'>', self.rest());
                    return self.deliver_until(TokenKind::TagComment, offset, 1, State::Data);
                }
                State::PercentComment => {
                    let offset = memmem::find(self.rest(), b"%>");
                    return self.deliver_until(TokenKind::TagComment, offset, 2, State::Data);
                }
                State::CharacterData => {
                    let offset = memmem::find(self.rest(), b"]]>");
                    return self.deliver_until(TokenKind::DataText, offset, 3, State::Data);
                }
                State::Comment => {
                    return match self.comment_end() {
                        Some((to, next)) => {
                            self.deliver(TokenKind::TagComment, to, next, State::Data)
                        }
                        None => self.deliver_rest(TokenKind::TagComment),
                    };
                }
            };
        }
    }
}
