//! The XSS check: the HTML tokens of five contexts against lists of tags, attributes, events and URL schemes.
//!
//! Source: `libinjection.md` sections 5 and 6.

use memchr::{memchr, memchr2};

use crate::html::{Context, TokenKind, Tokenizer};
use crate::tables::{self, AttributeKind};

/// Longest name that can equal an entry of a table, with room to spare; longer ones equal none.
const NAME_BYTES: usize = 48;

/// Which attribute names that begin with `on` count as event handlers (`libinjection.md` section 6.2 step 2, section 8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Events {
    /// Those that begin with a name of the event list, as libinjection since April 2023.
    #[default]
    Listed,
    /// Any of five bytes or more, as libinjection 3.10.0 and the builds of its time (libmodsecurity 3.0.9).
    Any,
}

/// Checks a value for cross-site scripting, events by the list.
///
/// Never allocates. Time is linear in the input's length.
pub fn xss(input: &[u8]) -> bool {
    xss_with(input, Events::Listed)
}

/// Checks a value for cross-site scripting.
pub fn xss_with(input: &[u8], events: Events) -> bool {
    // Without `<` there is no tag and no comment; without `=` no attribute has a value.
    if memchr2(b'<', b'=', input).is_none() {
        return false;
    }
    xss_in(input, Context::Data, events)
        || xss_in(input, Context::Unquoted, events)
        || [(Context::SingleQuote, b'\''), (Context::DoubleQuote, b'"'), (Context::BackQuote, b'`')]
            .into_iter()
            // Without the quote, all input is the value of an attribute without a name.
            .any(|(context, quote)| {
                memchr(quote, input).is_some() && xss_in(input, context, events)
            })
}

/// Checks in one context. Section 5.
pub fn xss_in(input: &[u8], context: Context, events: Events) -> bool {
    let mut attribute = AttributeKind::None;
    for token in Tokenizer::new(input, context) {
        if token.kind == TokenKind::AttrValue {
            let found = match attribute {
                AttributeKind::None => false,
                AttributeKind::Black | AttributeKind::Style => true,
                AttributeKind::Url => is_black_url(token.text),
                AttributeKind::Indirect => {
                    attribute_kind(token.text, events) != AttributeKind::None
                }
            };
            if found {
                return true;
            }
            attribute = AttributeKind::None;
            continue;
        }
        attribute = AttributeKind::None;
        let found = match token.kind {
            TokenKind::Doctype => true,
            TokenKind::TagNameOpen => is_black_tag(token.text),
            TokenKind::TagComment => is_black_comment(token.text),
            TokenKind::AttrName => {
                attribute = attribute_kind(token.text, events);
                false
            }
            _ => false,
        };
        if found {
            return true;
        }
    }
    false
}

fn starts_with_ignoring_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// The name without zero bytes in upper case, unless it is longer than any entry.
fn plain_name<'b>(name: &[u8], buffer: &'b mut [u8; NAME_BYTES]) -> Option<&'b [u8]> {
    let mut length = 0;
    for &byte in name.iter().filter(|&&byte| byte != 0) {
        *buffer.get_mut(length)? = byte.to_ascii_uppercase();
        length += 1;
    }
    Some(&buffer[..length])
}

/// Section 6.1.
fn is_black_tag(name: &[u8]) -> bool {
    if name.len() < 3 {
        return false;
    }
    let mut buffer = [0; NAME_BYTES];
    plain_name(name, &mut buffer).is_some_and(|plain| tables::TAGS.binary_search(&plain).is_ok())
        || tables::TAG_PREFIXES.iter().any(|prefix| starts_with_ignoring_case(name, prefix))
}

/// Section 6.2.
fn attribute_kind(name: &[u8], events: Events) -> AttributeKind {
    if name.len() < 2 {
        return AttributeKind::None;
    }
    if name.len() >= 5 {
        if starts_with_ignoring_case(name, b"on") && is_event(&name[2..], events) {
            return AttributeKind::Black;
        }
        for &(prefix, kind) in tables::ATTRIBUTE_PREFIXES {
            if starts_with_ignoring_case(name, prefix) {
                return kind;
            }
        }
    }
    let mut buffer = [0; NAME_BYTES];
    plain_name(name, &mut buffer)
        .and_then(|plain| {
            let found = tables::ATTRIBUTES.binary_search_by_key(&plain, |&(name, _)| name);
            found.ok().map(|index| tables::ATTRIBUTES[index].1)
        })
        .unwrap_or(AttributeKind::None)
}

/// Whether what follows `on` begins with an event's name.
fn is_event(rest: &[u8], events: Events) -> bool {
    if events == Events::Any {
        return true;
    }
    let mut buffer = [0; NAME_BYTES];
    let head = &rest[..rest.len().min(NAME_BYTES)];
    let upper = &mut buffer[..head.len()];
    upper.copy_from_slice(head);
    upper.make_ascii_uppercase();
    let upper = &*upper;
    // No entry begins another, so only the last one not after the name can begin it.
    let after = tables::EVENTS.partition_point(|event| *event <= upper);
    after > 0 && upper.starts_with(tables::EVENTS[after - 1])
}

/// Section 5, comments.
fn is_black_comment(text: &[u8]) -> bool {
    memchr(b'`', text).is_some()
        || (text.len() > 3
            && (starts_with_ignoring_case(text, b"[if") || starts_with_ignoring_case(text, b"xml")))
        || (text.len() > 5
            && (starts_with_ignoring_case(text, b"IMPORT")
                || starts_with_ignoring_case(text, b"ENTITY")))
}

/// Section 6.3.
fn is_black_url(value: &[u8]) -> bool {
    let skipped = value.iter().position(|&byte| byte > 0x20 && byte < 0x7F);
    let Some(skipped) = skipped else { return false };
    let rest = &value[skipped..];
    tables::URL_SCHEMES.iter().any(|scheme| decoded_starts_with(rest, scheme))
}

/// Whether the value, decoded, begins with an upper-case word.
fn decoded_starts_with(mut value: &[u8], word: &[u8]) -> bool {
    let mut first = true;
    let mut matched = 0;
    while !value.is_empty() {
        if matched == word.len() {
            return true;
        }
        let (mut code, consumed) = decode(value);
        value = &value[consumed..];
        if first && code <= 32 {
            continue;
        }
        first = false;
        if code == 0 || code == 10 {
            continue;
        }
        if (u32::from(b'a')..=u32::from(b'z')).contains(&code) {
            code -= 32;
        }
        if word[matched] != (code % 256) as u8 {
            return false;
        }
        matched += 1;
    }
    matched == word.len()
}

/// Section 6.4: one character, maybe a numeric reference; (its number, bytes consumed).
fn decode(value: &[u8]) -> (u32, usize) {
    const AMPERSAND: (u32, usize) = (b'&' as u32, 1);
    /// Above this a reference is taken for text.
    const LARGEST: u32 = 0x1000FF;
    let [b'&', b'#', rest @ ..] = value else { return (u32::from(value[0]), 1) };
    let (radix, digits, start) = match rest {
        [b'x' | b'X', digits @ ..] => (16, digits, 3),
        digits => (10, digits, 2),
    };
    let digit = |byte: u8| char::from(byte).to_digit(radix);
    let Some(mut number) = digits.first().and_then(|&byte| digit(byte)) else { return AMPERSAND };
    for (index, &byte) in digits.iter().enumerate().skip(1) {
        if byte == b';' {
            return (number, start + index + 1);
        }
        let Some(next) = digit(byte) else { return (number, start + index) };
        number = number * radix + next;
        if number > LARGEST {
            return AMPERSAND;
        }
    }
    (number, value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_8_the_event_list_can_be_switched() {
        for (input, any, listed) in [
            (&b"onfoo=a"[..], true, false),
            (b"on=x", false, false),
            (b"onloadx=1", true, true),
            (b"<a onclick=1>", true, true),
        ] {
            assert_eq!(xss_with(input, Events::Any), any, "{input:?}");
            assert_eq!(xss_with(input, Events::Listed), listed, "{input:?}");
        }
    }

    #[test]
    fn section_6_3_urls_are_decoded() {
        assert!(xss(b"<a href=javascript:1>"));
        assert!(xss(b"<a href='&#x6a;a&#118;a'>"));
        assert!(xss(b"<a href=\"\x01 &#1;jav&#10;a\">"));
        assert!(xss(b"<a href=&#x144;ATA>"));
        assert!(!xss(b"<a href=&#x164;ATA>"));
        assert!(!xss(b"<a href=jav>"));
        assert!(!xss(b"<a href=&#x;javascript>"));
        assert!(!xss(b"<a href=&#>"));
    }

    #[test]
    fn section_6_1_tags() {
        assert!(xss(b"<script>"));
        assert!(xss(b"<s\0cript>"));
        assert!(xss(b"<svgx>"));
        assert!(!xss(b"<s\0vg>"));
        assert!(!xss(b"<p>"));
        // The flag of `</…` leaks into the next tag (section 4, tag name).
        assert!(!xss_in(b"</><script>", Context::Data, Events::Listed));
    }

    #[test]
    fn contexts_and_attributes_without_a_value() {
        assert!(xss(b"' onload=x"));
        assert!(xss(b"\" onload=x"));
        assert!(xss(b"` onload=x"));
        assert!(!xss(b"onload"));
        assert!(!xss(b"<a onload>"));
        assert!(xss(b"<a onload=>"));
        assert!(xss(b"<a attributename=href>"));
        assert!(!xss(b"<a attributename=title>"));
        assert!(xss(b"<!doctype"));
        assert!(xss(b"<!-- ` -->"));
        assert!(!xss(b""));
    }
}
