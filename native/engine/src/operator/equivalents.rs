//! Pieces of CRS 3.3's patterns that use what no automaton has, each with an exact equivalent.
//!
//! A look-behind at the beginning of a branch is what may stand before it, spelt out letter by letter; possessive
//! quantifiers go where what follows cannot begin with what they hold, and otherwise what follows begins with something
//! else. Only these pieces are known: any other such construct is a load error that names it. `tests/equivalents.rs`
//! compares both sides with PCRE2.

use std::borrow::Cow;

/// What stands in a pattern, and what means the same.
const EQUIVALENTS: [(&str, &str); 7] = [
    // 920120: a semicolon that does not end a named character reference; the text found begins up to seven bytes earlier.
    (
        r##"(?<!&(?:[aAoOuUyY]uml)|&(?:[aAeEiIoOuU]circ)|&(?:[eEiIoOuUyY]acute)|&(?:[aAeEiIoOuU]grave)|&(?:[cC]cedil)|&(?:[aAnNoO]tilde)|&(?:amp)|&(?:apos))"##,
        r##"(?:\A|[^celps]|(?:\A|[^im]|(?:\A|[^u]|(?:\A|[^AOUYaouy]|(?:\A|[^\&])[AOUYaouy])u)m|(?:\A|[^d]|(?:\A|[^e]|(?:\A|[^c]|(?:\A|[^Cc]|(?:\A|[^\&])[Cc])c)e)d)i)l|(?:\A|[^r]|(?:\A|[^i]|(?:\A|[^c]|(?:\A|[^AEIOUaeiou]|(?:\A|[^\&])[AEIOUaeiou])c)i)r)c|(?:\A|[^dtv]|(?:\A|[^u]|(?:\A|[^c]|(?:\A|[^a]|(?:\A|[^EIOUYeiouy]|(?:\A|[^\&])[EIOUYeiouy])a)c)u)t|(?:\A|[^a]|(?:\A|[^r]|(?:\A|[^g]|(?:\A|[^AEIOUaeiou]|(?:\A|[^\&])[AEIOUaeiou])g)r)a)v|(?:\A|[^l]|(?:\A|[^i]|(?:\A|[^t]|(?:\A|[^ANOano]|(?:\A|[^\&])[ANOano])t)i)l)d)e|(?:\A|[^m]|(?:\A|[^a]|(?:\A|[^\&])a)m)p|(?:\A|[^o]|(?:\A|[^p]|(?:\A|[^a]|(?:\A|[^\&])a)p)o)s)"##,
    ),
    // 920600: media ranges, their parameters and the blanks between them.
    (r##"\s*+=\s*+(?:"?(?:iso"##, r##"\s*=\s*(?:"?(?:iso"##),
    (
        r##"\s*+=\s*+[^(),/:;<=>?![\x5c\]{}]+"##,
        r##"\s*=\s*[^(),/:;<=>?![\x5c\]{}\s][^(),/:;<=>?![\x5c\]{}]*"##,
    ),
    (
        r##"\s*+,\s*+(?:(?:\*|[^"(),\/:;<=>?![\x5c\]{}]+)\/"##,
        r##"\s*,\s*(?:(?:\*|[^"(),\/:;<=>?![\x5c\]{}\s][^"(),\/:;<=>?![\x5c\]{}]*)\/"##,
    ),
    (r##"\s*+;\s*+(?:(?:charset"##, r##"\s*;\s*(?:(?:charset"##),
    (r##"[^c"(),/:;<=>?![\x5c\]{}])[^"(),"##, r##"[^c"(),/:;<=>?![\x5c\]{}\s])[^"(),"##),
    // 942260: what follows may begin with the same marks, which changes nothing for where a match ends.
    (r##"[^?\w\s=.,;)(]++"##, r##"[^?\w\s=.,;)(]+"##),
];

/// The pattern with every known piece replaced. Without one of them it is the pattern itself.
pub(super) fn spell_out(pattern: &[u8]) -> Cow<'_, [u8]> {
    let mut text = Cow::Borrowed(pattern);
    if memchr::memmem::find(pattern, b"(?<!").is_none()
        && !pattern.windows(2).any(|pair| pair == b"*+" || pair == b"++")
    {
        return text;
    }
    for (piece, equivalent) in EQUIVALENTS {
        let mut rest: &[u8] = &text;
        let mut replaced = Vec::new();
        while let Some(at) = memchr::memmem::find(rest, piece.as_bytes()) {
            replaced.extend_from_slice(&rest[..at]);
            replaced.extend_from_slice(equivalent.as_bytes());
            rest = &rest[at + piece.len()..];
        }
        if !replaced.is_empty() {
            replaced.extend_from_slice(rest);
            text = Cow::Owned(replaced);
        }
    }
    text
}
