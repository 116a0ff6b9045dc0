//! Transformations: `Some` means that something changed, and no output grows beyond its kind's bound.

use sallyport_engine::transformation::{Transformation, TransformationContext, UnicodeMap};

/// By name, as rules spell them.
const NAMES: [&str; 29] = [
    "base64Decode",
    "base64DecodeExt",
    "base64Encode",
    "cmdLine",
    "compressWhitespace",
    "cssDecode",
    "escapeSeqDecode",
    "hexDecode",
    "hexEncode",
    "htmlEntityDecode",
    "jsDecode",
    "length",
    "lowercase",
    "md5",
    "normalizePath",
    "normalizePathWin",
    "removeComments",
    "removeCommentsChar",
    "removeNulls",
    "removeWhitespace",
    "replaceComments",
    "replaceNulls",
    "sha1",
    "sqlHexDecode",
    "trim",
    "urlDecode",
    "urlDecodeUni",
    "urlEncode",
    "utf8toUnicode",
];

/// The first byte says how many of the next ones choose transformations; the rest is the value.
pub fn transformations(data: &[u8]) {
    let Some((count, rest)) = data.split_first() else { return };
    let (chosen, value) = rest.split_at(rest.len().min(usize::from(count % 8)));
    let context = TransformationContext { unicode_map: Some(UnicodeMap::us_ascii()) };
    let mut value = value.to_vec();
    for byte in chosen {
        let name = NAMES[usize::from(*byte) % NAMES.len()];
        let transformation = Transformation::from_name(name).unwrap_or_else(|| panic!("{name}"));
        if let Some(changed) = transformation.apply(&value, &context) {
            assert_ne!(changed, value, "{name} says that it changed {}", value.escape_ascii());
            assert!(changed.len() <= 6 * value.len() + 40, "{name}: {}", value.escape_ascii());
            value = changed;
        }
        value.truncate(1 << 16);
    }
}
