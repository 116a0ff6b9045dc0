//! Numbers as C's `atoi` reads them: leading white space, a sign, digits, the rest ignored; nothing there is 0.
//!
//! Source: `seclang.md` sections 7.3 and 10.1.

/// The number at the start of a text; saturates instead of overflowing.
pub(crate) fn parse_number(text: &[u8]) -> i64 {
    let mut at = 0;
    while text.get(at).is_some_and(|byte| matches!(byte, 0x09..=0x0d | 0x20)) {
        at += 1;
    }
    let negative = text.get(at) == Some(&b'-');
    if matches!(text.get(at), Some(b'-' | b'+')) {
        at += 1;
    }
    let mut value: i64 = 0;
    while let Some(digit) = text.get(at).filter(|byte| byte.is_ascii_digit()) {
        value = value.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
        at += 1;
    }
    if negative {
        -value
    } else {
        value
    }
}

/// Whether a text is exactly the decimal form of a number, so that it can be kept as one.
pub(crate) fn canonical_number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = !digits.is_empty()
        && digits.len() <= 15
        && digits.iter().all(u8::is_ascii_digit)
        && (digits.len() == 1 || digits[0] != b'0')
        && text != b"-0";
    canonical.then(|| parse_number(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_atoi() {
        assert_eq!(parse_number(b" \t-12abc"), -12);
        assert_eq!(parse_number(b"+7"), 7);
        assert_eq!(parse_number(b"07"), 7);
        assert_eq!(parse_number(b"abc"), 0);
        assert_eq!(parse_number(b""), 0);
        assert_eq!(parse_number(b"99999999999999999999"), i64::MAX);
    }

    #[test]
    fn knows_canonical_numbers() {
        assert_eq!(canonical_number(b"0"), Some(0));
        assert_eq!(canonical_number(b"-5"), Some(-5));
        assert_eq!(canonical_number(b"05"), None);
        assert_eq!(canonical_number(b"+5"), None);
        assert_eq!(canonical_number(b"-0"), None);
        assert_eq!(canonical_number(b""), None);
    }
}
