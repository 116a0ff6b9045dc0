//! `@validateByteRange`, `@validateUrlEncoding`, `@validateUtf8Encoding`: they match what is *not* valid.
//!
//! Source: `seclang.md` section 7.3.

use memchr::memchr;

use super::OperatorError;

/// The bytes that a value must not hold.
#[derive(Debug)]
pub(super) struct ByteRange {
    outside: [bool; 256],
}

impl ByteRange {
    /// Comma-separated numbers and ranges of numbers, each read as C's `atoi` does.
    pub(super) fn parse(argument: &[u8]) -> Result<Self, OperatorError> {
        let mut outside = [true; 256];
        for item in argument.split(|&byte| byte == b',').filter(|item| !item.is_empty()) {
            let (first, last) = match memchr(b'-', item) {
                Some(dash) => (&item[..dash], &item[dash + 1..]),
                None => (item, item),
            };
            let (Some(first), Some(last)) = (byte_number(first), byte_number(last)) else {
                let text = String::from_utf8_lossy(item);
                return Err(OperatorError::Argument(format!("{text:?} is not within 0-255")));
            };
            if first > last {
                let text = String::from_utf8_lossy(item);
                return Err(OperatorError::Argument(format!("{text:?} ends before it begins")));
            }
            outside[usize::from(first)..=usize::from(last)].fill(false);
        }
        Ok(ByteRange { outside })
    }

    /// Marks the bytes outside.
    pub(super) fn outside(&self) -> &[bool; 256] {
        &self.outside
    }

    /// Some byte lies outside.
    pub(super) fn is_violated_by(&self, value: &[u8]) -> bool {
        value.iter().any(|&byte| self.outside[usize::from(byte)])
    }
}

/// `None`: above 255. No digit at all is 0.
fn byte_number(text: &[u8]) -> Option<u8> {
    let digits = text.trim_ascii_start().iter().take_while(|byte| byte.is_ascii_digit());
    digits.map(|digit| digit - b'0').try_fold(0u8, |number, digit| {
        number.checked_mul(10).and_then(|number| number.checked_add(digit))
    })
}

/// Some `%` lacks two hexadecimal digits after it.
pub(super) fn has_bad_url_escape(value: &[u8]) -> bool {
    let mut rest = value;
    while let Some(percent) = memchr(b'%', rest) {
        match &rest[percent + 1..] {
            [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after;
            }
            _ => return true,
        }
    }
    false
}

/// Not UTF-8 by RFC 3629, which is what the standard library checks.
pub(super) fn is_not_utf8(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_err()
}
