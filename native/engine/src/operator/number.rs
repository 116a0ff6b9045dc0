//! `@eq`, `@ge`, `@gt`, `@le`, `@lt`: comparison of whole numbers.
//!
//! Source: `seclang.md` section 7.3: both sides as C's `atoi` reads them, here with 64 bits and without overflow.

use super::text::Argument;

/// Which relation holds between the value (left) and the argument (right).
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    Equal,
    GreaterOrEqual,
    Greater,
    LessOrEqual,
    Less,
}

#[derive(Debug)]
pub(super) struct Comparison {
    test: Test,
    argument: Argument,
    /// The argument's number, if it holds no macros.
    number: i64,
}

impl Comparison {
    pub(super) fn new(test: Test, argument: &[u8]) -> Self {
        let number = whole_number(argument);
        Comparison { test, argument: Argument::new(argument), number }
    }

    pub(super) fn template(&self) -> Option<&[u8]> {
        self.argument.template()
    }

    pub(super) fn matches(&self, value: &[u8], expanded: Option<&[u8]>) -> bool {
        let left = whole_number(value);
        let right = expanded.map_or(self.number, whole_number);
        match self.test {
            Test::Equal => left == right,
            Test::GreaterOrEqual => left >= right,
            Test::Greater => left > right,
            Test::LessOrEqual => left <= right,
            Test::Less => left < right,
        }
    }
}

/// Leading white space, a sign, digits; the rest is ignored, and no number is 0.
fn whole_number(text: &[u8]) -> i64 {
    let start = text.iter().position(|byte| !matches!(byte, 0x09..=0x0D | b' '));
    let text = &text[start.unwrap_or(text.len())..];
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0i64, |number, digit| {
        number.saturating_mul(10).saturating_add(sign * i64::from(digit - b'0'))
    })
}
