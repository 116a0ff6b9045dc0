//! Folding: the first tokens reduced to at most five that carry the meaning.
//!
//! Source: `libinjection.md` section 2. "Drop k" forgets the last k tokens held, whichever the rule looked at.

use super::tokenizer::{Token, Tokenizer};
use crate::tables;

/// Longest fingerprint.
pub(crate) const MOST_TOKENS: usize = 5;

/// Functions that may be written without an argument list (rule D7).
const NAMES_OF_FUNCTIONS: [&[u8]; 11] = [
    b"USER_ID",
    b"USER_NAME",
    b"DATABASE",
    b"PASSWORD",
    b"USER",
    b"CURRENT_USER",
    b"CURRENT_DATE",
    b"CURRENT_TIME",
    b"CURRENT_TIMESTAMP",
    b"LOCALTIME",
    b"LOCALTIMESTAMP",
];

/// The folded tokens of one pass.
pub struct Folded {
    slots: [Token; 8],
    length: usize,
}

impl Folded {
    /// The tokens: at most five, or six if the last is an `X`.
    pub fn tokens(&self) -> &[Token] {
        &self.slots[..self.length]
    }

    pub(crate) fn tokens_mut(&mut self) -> &mut [Token] {
        &mut self.slots[..self.length]
    }
}

fn is_unary(token: &Token) -> bool {
    let value = token.value();
    token.kind == b'o'
        && (matches!(value, [b'+' | b'-' | b'!' | b'~'] | b"!!")
            || value.eq_ignore_ascii_case(b"NOT"))
}

fn is_arithmetic(token: &Token) -> bool {
    token.kind == b'o' && matches!(token.value(), [b'*' | b'/' | b'-' | b'+' | b'%'])
}

fn is(token: &Token, word: &[u8]) -> bool {
    token.value().eq_ignore_ascii_case(word)
}

/// Section 2.3: two tokens that the keyword table knows as one phrase.
fn merge(first: &mut Token, second: &Token) -> bool {
    if !matches!(first.kind, b'k' | b'n' | b'o' | b'U' | b'f' | b'E' | b'T' | b't')
        || !matches!(second.kind, b'k' | b'n' | b'o' | b'U' | b'f' | b'E' | b'T' | b't' | b'&')
    {
        return false;
    }
    let (left, right) = (first.value(), second.value());
    let length = left.len() + 1 + right.len();
    if length >= 32 {
        return false;
    }
    let mut phrase = [0u8; 32];
    phrase[..left.len()].copy_from_slice(left);
    phrase[left.len()] = b' ';
    phrase[left.len() + 1..length].copy_from_slice(right);
    match tables::keyword(&phrase[..length]) {
        Some(kind) => {
            first.join(second, kind);
            true
        }
        None => false,
    }
}

/// What a rule asks for next.
enum Step {
    /// A rule changed something: begin again.
    Again,
    /// Nothing to do here: go on with the next stage.
    GoOn,
    /// Folding ends with this many tokens.
    End(usize),
}

struct Folder<'t, 'a> {
    tokenizer: &'t mut Tokenizer<'a>,
    slots: [Token; 8],
    /// Number of tokens held.
    held: usize,
    /// Number of tokens settled.
    left: usize,
    more: bool,
    last_comment: Option<Token>,
}

/// Reads and folds. Section 2.
pub fn fold(tokenizer: &mut Tokenizer<'_>) -> Folded {
    let mut folder = Folder {
        tokenizer,
        slots: [Token::EMPTY; 8],
        held: 0,
        left: 0,
        more: true,
        last_comment: None,
    };
    let length = folder.run();
    Folded { slots: folder.slots, length }
}

impl Folder<'_, '_> {
    fn run(&mut self) -> usize {
        // 2.1: comments, parentheses, types and unary operators at the start say nothing.
        loop {
            let token = &mut self.slots[0];
            if !self.tokenizer.next_into(token) {
                return 0;
            }
            if !matches!(token.kind, b'c' | b'(' | b't') && !is_unary(token) {
                break;
            }
        }
        self.held = 1;

        loop {
            self.shorten_five();
            if !self.more || self.left >= MOST_TOKENS {
                self.left = self.held;
                break;
            }
            self.fetch(2);
            if self.held - self.left < 2 {
                self.left = self.held;
                continue;
            }
            match self.fold_two() {
                Step::Again => continue,
                Step::GoOn => {}
                Step::End(length) => return length,
            }
            self.fetch(3);
            if self.held - self.left < 3 {
                self.left = self.held;
                continue;
            }
            if self.fold_three() {
                continue;
            }
            self.left += 1;
        }

        // 2.4: a comment at the end counts if there is room.
        if let (true, Some(comment)) = (self.left < MOST_TOKENS, self.last_comment) {
            self.slots[self.left] = comment;
            self.left += 1;
        }
        self.left.min(MOST_TOKENS)
    }

    fn fetch(&mut self, wanted: usize) {
        while self.more && self.held <= MOST_TOKENS && self.held - self.left < wanted {
            let token = &mut self.slots[self.held];
            if !self.tokenizer.next_into(token) {
                self.more = false;
            } else if token.kind == b'c' {
                self.last_comment = Some(*token);
            } else {
                self.last_comment = None;
                self.held += 1;
            }
        }
    }

    fn kind(&self, index: usize) -> u8 {
        self.slots[index].kind
    }

    /// Step A.
    fn shorten_five(&mut self) {
        if self.held < MOST_TOKENS {
            return;
        }
        let kinds = [self.kind(0), self.kind(1), self.kind(2), self.kind(3), self.kind(4)];
        let matched = matches!(
            &kinds,
            [b'1', b'o' | b',', b'(', b'1', b')']
                | [b'n', b'o', b'(', b'n' | b'1', b')']
                | [b'1', b')', b',', b'(', b'1']
                | [b'n', b')', b'o', b'(', b'n']
        );
        if !matched {
            return;
        }
        if self.held > MOST_TOKENS {
            self.slots[1] = self.slots[5];
            self.held = 2;
        } else {
            self.held = 1;
        }
        self.left = 0;
    }

    fn drop_and_restart(&mut self, count: usize) -> Step {
        self.held -= count;
        self.left = 0;
        Step::Again
    }

    fn drop_and_step_back(&mut self) -> Step {
        self.held -= 1;
        self.left = self.left.saturating_sub(1);
        Step::Again
    }

    /// Step D: the first rule that holds decides.
    fn fold_two(&mut self) -> Step {
        let left = self.left;
        let [first, second] = &mut self.slots[left..left + 2] else { unreachable!("two slots") };
        let kinds = (first.kind, second.kind);

        if matches!(kinds, (b's', b's') | (b';', b';')) {
            self.held -= 1;
            return Step::Again;
        }
        if matches!(kinds.0, b'o' | b'&') && (kinds.1 == b't' || is_unary(second)) {
            return self.drop_and_restart(1);
        }
        if kinds.0 == b'(' && is_unary(second) {
            return self.drop_and_step_back();
        }
        if merge(first, second) {
            return self.drop_and_step_back();
        }
        match kinds {
            (b';', b'f') if second.value().len() >= 2 && is_if(second.value()) => {
                second.kind = b'T';
                Step::Again
            }
            (b'n' | b'v', b'(') if NAMES_OF_FUNCTIONS.iter().any(|name| is(first, name)) => {
                first.kind = b'f';
                Step::Again
            }
            (b'k', _) if is(first, b"IN") || is(first, b"NOT IN") => {
                first.kind = if kinds.1 == b'(' { b'o' } else { b'n' };
                Step::Again
            }
            (b'o', _) if is(first, b"LIKE") || is(first, b"NOT LIKE") => {
                if kinds.1 == b'(' {
                    first.kind = b'f';
                }
                Step::GoOn
            }
            (b't', b'n' | b'1' | b't' | b'(' | b'f' | b'v' | b's') => {
                *first = *second;
                self.drop_and_restart(1)
            }
            (b'A', b'n') => {
                let text = second.value().split(|&byte| byte == 0).next().unwrap_or_default();
                if text.contains(&b'_') {
                    second.kind = b't';
                    self.left = 0;
                }
                Step::GoOn
            }
            (b'\\', _) => {
                if is_arithmetic(second) {
                    first.kind = b'1';
                } else {
                    *first = *second;
                    self.held -= 1;
                }
                self.left = 0;
                Step::Again
            }
            (b'(', b'(') | (b')', b')') => self.drop_and_restart(1),
            (b'{', b'n') => {
                if second.value().is_empty() {
                    second.kind = b'X';
                    return Step::End(left + 2);
                }
                self.drop_and_restart(2)
            }
            (_, b'}') => self.drop_and_restart(1),
            _ => Step::GoOn,
        }
    }

    /// Step F: the first rule that holds decides; true = begin again.
    fn fold_three(&mut self) -> bool {
        let left = self.left;
        let [first, second, third] = &mut self.slots[left..left + 3] else {
            unreachable!("three slots")
        };
        let kinds = (first.kind, second.kind, third.kind);
        // (drop, whether the third token takes the second one's place)
        let effect = match kinds {
            (b'1', b'o', b'1') => (2, false),
            (b'o', middle, b'o') if middle != b'(' => (2, false),
            (b'&', _, b'&') => (2, false),
            (b'v', b'o', b'v' | b'1' | b'n') => (2, false),
            (b'n' | b'1', b'o', b'1' | b'n') => (2, false),
            (b'n' | b'1' | b'v' | b's', b'o', b't') if second.value() == b"::" => (2, false),
            (b'n' | b'1' | b's' | b'v', b',', b'1' | b'n' | b's' | b'v') => (2, false),
            (b'E' | b'B' | b',', _, b'(') if is_unary(second) => (1, true),
            (b'k' | b'E' | b'B', _, b'1' | b'n' | b'v' | b's' | b'f') if is_unary(second) => {
                (1, true)
            }
            (b',', _, b'1' | b'n' | b'v' | b's') if is_unary(second) => (3, true),
            (b',', _, b'f') if is_unary(second) => (1, true),
            (b'n', b'.', b'n') => (2, false),
            (b'E', b'.', b'n') => (1, true),
            (b'f', b'(', last) if last != b')' => {
                if is(first, b"USER") {
                    first.kind = b'n';
                }
                return false;
            }
            _ => return false,
        };
        if effect.1 {
            *second = *third;
        }
        self.held -= effect.0;
        self.left = 0;
        true
    }
}

fn is_if(value: &[u8]) -> bool {
    value[..2].eq_ignore_ascii_case(b"IF")
}
