//! Transformation functions (`t:…`): bytes in, bytes out, one file per function or close family.
//!
//! Source: SecLang reference of ModSecurity v2 (`seclang.md` section 6). All functions work on bytes; NUL is an ordinary
//! byte unless a function says otherwise. "White space" (`isspace`) means 09–0D and 20 everywhere.
//!
//! Each function first looks, without allocating, for the first byte it could change, and answers `None` when there is
//! none; the result is a new vector only when its bytes differ from the input. That is the exact reading of "changed"
//! that `multiMatch` needs (`seclang.md` section 6.2).

mod base64;
mod case;
mod cmd_line;
mod comments;
mod css_decode;
mod escape_seq_decode;
mod hex;
mod html_entity_decode;
mod js_decode;
mod length;
mod md5;
mod normalize_path;
mod nulls;
mod parity;
mod scan;
mod sha1;
mod unicode_map;
mod url;
mod utf8_to_unicode;
mod white_space;

#[cfg(test)]
mod tests;

pub use unicode_map::UnicodeMap;
pub(crate) use white_space::WHITE_BYTES;

use std::sync::Arc;

use crate::bytes::ByteSet;

/// What a transformation needs besides its input.
#[derive(Clone, Debug, Default)]
pub struct TransformationContext {
    /// The code-page map of `SecUnicodeMapFile`, for `%uHHHH` in `urlDecodeUni`. Without one the low byte is taken.
    pub unicode_map: Option<Arc<UnicodeMap>>,
}

macro_rules! transformations {
    ($($(#[$doc:meta])* $variant:ident, $name:literal $(| $alias:literal)*;)*) => {
        /// One transformation function. `none` is not among them: it clears a list and is the engine's business.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Transformation {
            $($(#[$doc])* $variant,)*
        }

        impl Transformation {
            /// Every transformation, in alphabetical order.
            pub const ALL: &'static [Transformation] = &[$(Transformation::$variant,)*];

            /// Finds a transformation by its SecLang name, without regard to case (`seclang.md` section 6.1).
            pub fn from_name(name: &str) -> Option<Self> {
                $(
                    if name.eq_ignore_ascii_case($name) $(|| name.eq_ignore_ascii_case($alias))* {
                        return Some(Transformation::$variant);
                    }
                )*
                None
            }

            /// The SecLang name as CRS spells it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Transformation::$variant => $name,)*
                }
            }
        }
    };
}

transformations! {
    /// Decodes the longest prefix of base64 bytes.
    Base64Decode, "base64Decode";
    /// Decodes base64, skipping bytes outside the alphabet.
    Base64DecodeExt, "base64DecodeExt";
    /// Encodes as base64 with padding.
    Base64Encode, "base64Encode";
    /// Removes shell quoting, joins separators, lower-cases.
    CmdLine, "cmdLine";
    /// Each run of white space becomes one blank.
    CompressWhitespace, "compressWhitespace";
    /// Decodes CSS 2 escapes.
    CssDecode, "cssDecode";
    /// Decodes ANSI C escapes.
    EscapeSeqDecode, "escapeSeqDecode";
    /// Decodes pairs of hexadecimal digits.
    HexDecode, "hexDecode";
    /// Encodes each byte as two lower-case hexadecimal digits.
    HexEncode, "hexEncode";
    /// Decodes HTML entities.
    HtmlEntityDecode, "htmlEntityDecode";
    /// Decodes JavaScript escapes.
    JsDecode, "jsDecode";
    /// The number of bytes in decimal.
    Length, "length";
    /// Lower-cases ASCII letters.
    Lowercase, "lowercase";
    /// The 16 raw bytes of the MD5 sum.
    Md5, "md5";
    /// Resolves `.`, `..` and doubled slashes in a path.
    NormalizePath, "normalizePath" | "normalisePath";
    /// The same after turning backslashes into slashes.
    NormalizePathWin, "normalizePathWin" | "normalisePathWin";
    /// Sets bit 7 so that the number of set bits is even.
    ParityEvenSevenBit, "parityEven7bit";
    /// Sets bit 7 so that the number of set bits is odd.
    ParityOddSevenBit, "parityOdd7bit";
    /// Clears bit 7.
    ParityZeroSevenBit, "parityZero7bit";
    /// Cuts comments with their text.
    RemoveComments, "removeComments";
    /// Cuts comment marks, leaving the text between.
    RemoveCommentsChar, "removeCommentsChar";
    /// Drops NUL bytes.
    RemoveNulls, "removeNulls";
    /// Drops white space and byte A0.
    RemoveWhitespace, "removeWhitespace";
    /// Each C comment becomes one blank.
    ReplaceComments, "replaceComments";
    /// NUL becomes a blank.
    ReplaceNulls, "replaceNulls";
    /// The 20 raw bytes of the SHA-1 sum.
    Sha1, "sha1";
    /// Decodes `0x…` hexadecimal strings.
    SqlHexDecode, "sqlHexDecode";
    /// Cuts white space at both ends.
    Trim, "trim";
    /// Cuts white space at the beginning.
    TrimLeft, "trimLeft";
    /// Cuts white space at the end.
    TrimRight, "trimRight";
    /// Upper-cases ASCII letters.
    Uppercase, "uppercase";
    /// Decodes `+` and `%HH`.
    UrlDecode, "urlDecode";
    /// Decodes `+`, `%HH` and `%uHHHH`.
    UrlDecodeUni, "urlDecodeUni";
    /// Encodes as `application/x-www-form-urlencoded`.
    UrlEncode, "urlEncode";
    /// Turns UTF-8 sequences into `%uHHHH`.
    Utf8ToUnicode, "utf8toUnicode";
}

impl Transformation {
    /// Whether the byte is one of those without which the function leaves every value as it is.
    pub fn may_change(self, byte: u8) -> bool {
        use Transformation as T;
        let white = matches!(byte, 0x09..=0x0D | b' ' | 0xA0);
        match self {
            T::CmdLine => {
                byte.is_ascii_uppercase()
                    || matches!(
                        byte,
                        b'"' | b'\'' | b'\\' | b'^' | b',' | b';' | b'\t' | b'\r' | b'\n' | b' '
                    )
            }
            T::CompressWhitespace | T::RemoveWhitespace => white,
            T::Trim | T::TrimLeft | T::TrimRight => white && byte != 0xA0,
            T::CssDecode | T::EscapeSeqDecode | T::JsDecode => byte == b'\\',
            T::HtmlEntityDecode => byte == b'&',
            T::Lowercase => byte.is_ascii_uppercase(),
            T::Uppercase => byte.is_ascii_lowercase(),
            T::NormalizePath => matches!(byte, b'/' | b'.'),
            T::NormalizePathWin => matches!(byte, b'/' | b'.' | b'\\'),
            T::RemoveComments | T::RemoveCommentsChar => matches!(byte, b'*' | b'-' | b'#'),
            T::ReplaceComments => byte == b'*',
            T::RemoveNulls | T::ReplaceNulls => byte == 0,
            T::SqlHexDecode => matches!(byte, b'x' | b'X'),
            T::UrlDecode | T::UrlDecodeUni => matches!(byte, b'%' | b'+'),
            T::Utf8ToUnicode => byte == 0 || byte >= 0x80,
            _ => true,
        }
    }

    /// Whether a blank is no reason for the function to change a value when it stands alone: not first, not last, not
    /// before another blank, `/` or `(`.
    pub(crate) fn keeps_lone_blanks(self) -> bool {
        use Transformation as T;
        matches!(self, T::CmdLine | T::CompressWhitespace | T::Trim | T::TrimLeft | T::TrimRight)
    }

    /// The bytes that the output can hold, of a value that holds none but these and that the function may change;
    /// `None`: any.
    pub(crate) fn output_bytes(self, input: &ByteSet) -> Option<ByteSet> {
        use Transformation as T;
        let with = |more: &[u8]| {
            let mut output = *input;
            more.iter().for_each(|byte| output.add(*byte));
            Some(output)
        };
        match self {
            T::CmdLine => {
                let mut output = input.lower_case();
                output.add(b' ');
                Some(output)
            }
            T::Lowercase => Some(input.lower_case()),
            T::CompressWhitespace | T::RemoveComments | T::ReplaceComments | T::ReplaceNulls => {
                with(b" ")
            }
            T::RemoveCommentsChar
            | T::RemoveNulls
            | T::RemoveWhitespace
            | T::Trim
            | T::TrimLeft
            | T::TrimRight => Some(*input),
            T::HexEncode => Some(ByteSet::of(b"0123456789abcdef")),
            T::Length => Some(ByteSet::of(b"0123456789")),
            T::NormalizePath | T::NormalizePathWin => with(b"/"),
            T::UrlDecode | T::UrlDecodeUni if !input.holds(b'%') => with(b" "),
            T::Utf8ToUnicode => with(b"%u0123456789abcdef"),
            _ => None,
        }
    }

    /// Applies the function. `None`: the output equals the input; `Some`: the new value, whose bytes differ from it.
    pub fn apply(self, input: &[u8], context: &TransformationContext) -> Option<Vec<u8>> {
        let output = match self {
            Transformation::Base64Decode => base64::decode(input),
            Transformation::Base64DecodeExt => base64::decode_ext(input),
            Transformation::Base64Encode => base64::encode(input),
            Transformation::CmdLine => cmd_line::apply(input),
            Transformation::CompressWhitespace => white_space::compress(input),
            Transformation::CssDecode => css_decode::apply(input),
            Transformation::EscapeSeqDecode => escape_seq_decode::apply(input),
            Transformation::HexDecode => hex::decode(input),
            Transformation::HexEncode => hex::encode(input),
            Transformation::HtmlEntityDecode => html_entity_decode::apply(input),
            Transformation::JsDecode => js_decode::apply(input),
            Transformation::Length => length::apply(input),
            Transformation::Lowercase => case::lower(input),
            Transformation::Md5 => md5::apply(input),
            Transformation::NormalizePath => normalize_path::apply(input),
            Transformation::NormalizePathWin => normalize_path::apply_windows(input),
            Transformation::ParityEvenSevenBit => parity::even(input),
            Transformation::ParityOddSevenBit => parity::odd(input),
            Transformation::ParityZeroSevenBit => parity::zero(input),
            Transformation::RemoveComments => comments::remove_comments(input),
            Transformation::RemoveCommentsChar => comments::remove_comments_char(input),
            Transformation::RemoveNulls => nulls::remove(input),
            Transformation::RemoveWhitespace => white_space::remove(input),
            Transformation::ReplaceComments => comments::replace_comments(input),
            Transformation::ReplaceNulls => nulls::replace(input),
            Transformation::Sha1 => sha1::apply(input),
            Transformation::SqlHexDecode => hex::sql_decode(input),
            Transformation::Trim => white_space::trim(input),
            Transformation::TrimLeft => white_space::trim_left(input),
            Transformation::TrimRight => white_space::trim_right(input),
            Transformation::Uppercase => case::upper(input),
            Transformation::UrlDecode => url::decode(input),
            Transformation::UrlDecodeUni => url::decode_uni(input, context.unicode_map.as_deref()),
            Transformation::UrlEncode => url::encode(input),
            Transformation::Utf8ToUnicode => utf8_to_unicode::apply(input),
        };
        output.filter(|output| output != input)
    }
}
