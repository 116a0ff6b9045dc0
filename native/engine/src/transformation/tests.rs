//! Cases of our own for every transformation; section numbers are those of `seclang.md`.

use std::sync::Arc;

use super::{Transformation, TransformationContext, UnicodeMap};

/// Applies a function without a code-page map; an unchanged value comes back as it is.
fn apply(name: &str, input: &[u8]) -> Vec<u8> {
    let transformation = Transformation::from_name(name).expect(name);
    let output = transformation.apply(input, &TransformationContext::default());
    assert_ne!(output.as_deref(), Some(input), "{name}: Some means changed");
    output.unwrap_or_else(|| input.to_vec())
}

#[track_caller]
fn check(name: &str, cases: &[(&[u8], &[u8])]) {
    for (input, expected) in cases {
        let output = apply(name, input);
        assert!(
            output == *expected,
            "{name}({}) is {}, expected {}",
            input.escape_ascii(),
            output.escape_ascii(),
            expected.escape_ascii()
        );
    }
}

#[test]
fn section_6_1_names_ignore_case_and_every_name_leads_back() {
    for &transformation in Transformation::ALL {
        let name = transformation.name();
        assert_eq!(Transformation::from_name(name), Some(transformation));
        assert_eq!(Transformation::from_name(&name.to_uppercase()), Some(transformation));
    }
    assert_eq!(Transformation::from_name("cmdline"), Some(Transformation::CmdLine));
    assert_eq!(Transformation::from_name("normalisePath"), Some(Transformation::NormalizePath));
    assert_eq!(Transformation::from_name("none"), None);
    assert_eq!(Transformation::from_name("length    nolog"), None);
}

#[test]
fn section_6_2_unchanged_values_give_none() {
    let context = TransformationContext { unicode_map: Some(UnicodeMap::us_ascii()) };
    let always = ["base64Decode", "base64DecodeExt", "base64Encode", "hexDecode", "hexEncode"];
    let always =
        [&always[..], &["length", "md5", "sha1", "uppercase", "parityEven7bit", "parityOdd7bit"]]
            .concat();
    for &transformation in Transformation::ALL {
        if !always.contains(&transformation.name()) {
            assert_eq!(transformation.apply(b"plain", &context), None, "{transformation:?}");
        }
        let empty = transformation.apply(b"", &context);
        let has_empty_value = !matches!(transformation.name(), "length" | "md5" | "sha1");
        assert_eq!(empty.is_none(), has_empty_value, "{transformation:?}");
    }
}

#[test]
fn section_6_3_url_decode_uni() {
    check(
        "urlDecodeUni",
        &[
            (b"a+b%20c", b"a b c"),
            (b"%41%4", b"A%4"),
            (b"%4g%%41", b"%4g%A"),
            (b"%u0041%U0142", b"AB"),
            (b"%uff21%uFF00%uff5f", b"A\0_"),
            (b"%u12", b"%u12"),
            (b"%u%41", b"%uA"),
            (b"%", b"%"),
            (b"%00", b"\0"),
        ],
    );
    let context = TransformationContext { unicode_map: Some(UnicodeMap::us_ascii()) };
    let output = Transformation::UrlDecodeUni.apply(b"%u201c%u0100%uff1c%u4e00", &context);
    assert_eq!(output.as_deref(), Some(&b"\"A<\0"[..]));
    check("urlDecode", &[(b"a+b%20%u0041", b"a b %u0041"), (b"%zz", b"%zz")]);
    check("urlEncode", &[(b"a b*\xE9/", b"a+b*%e9%2f")]);
}

#[test]
fn section_6_3_code_page_maps() {
    let text = "# comment\n(MAC - Roman)\n\n1250 (ANSI)\n00a1:21 00a2:63\n\n437 (OEM)\n00a1:ad\n(UTF-7)\n00a1:00\n";
    let map = UnicodeMap::parse(text, 1250).unwrap();
    assert_eq!((map.get(0xA1), map.get(0xA2), map.get(0xA3)), (Some(0x21), Some(0x63), None));
    assert_eq!(UnicodeMap::parse(text, 437).unwrap().get(0xA1), Some(0xAD));
    assert!(UnicodeMap::parse(text, 20127).is_err());
    assert!(UnicodeMap::parse("1 (x)\n00zz:11\n", 1).is_err());
    assert!(Arc::ptr_eq(&UnicodeMap::us_ascii(), &UnicodeMap::us_ascii()));
}

#[test]
fn section_6_4_html_entity_decode() {
    check(
        "htmlEntityDecode",
        &[
            (b"&#x3c;&#60&#X3C;;", b"<<<;"),
            (b"&#x0027;&#00000039;", b"''"),
            (b"&#x13c;", b"<"),
            (b"&#99999999999999999999;", b"\xFF"),
            (b"&LT;&amp&nbsp;&quot;", b"<&\xA0\""),
            (b"&ltfoo;&apos;", b"&ltfoo;&apos;"),
            (b"&#x;&#;&#xg&;&", b"&#x;&#;&#xg&;&"),
        ],
    );
}

#[test]
fn section_6_5_js_decode() {
    check(
        "jsDecode",
        &[
            (b"\\u0041\\uff21\\uFF5f\\u12", b"AA_u12"),
            (b"\\x41\\x4\\x", b"Ax4x"),
            (b"\\101\\477\\8\\0", b"A'78\0"),
            (b"\\a\\b\\f\\n\\r\\t\\v\\q\\\\", b"\x07\x08\x0c\n\r\t\x0bq\\"),
            (b"end\\", b"end\\"),
        ],
    );
}

#[test]
fn section_6_6_css_decode() {
    check(
        "cssDecode",
        &[
            (b"\\6a\\76 \\000061  b", b"jva b"),
            (b"\\123", b"\x23"),
            (b"\\ff21\\0ff21\\00ff21\\1ff21\\10ff21", b"AAA\x21\x21"),
            (b"\\5g\\\nx\\yz\\", b"\x05gxyz"),
            (b"\\4\t1", b"\x041"),
        ],
    );
}

#[test]
fn section_6_7_cmd_line() {
    check(
        "cmdLine",
        &[
            (b"C^om'ma\"nd\\", b"command"),
            (b"a ,;\t\r\n b", b"a b"),
            (b"ls  /etc ( x", b"ls/etc( x"),
            (b"a\" \"b", b"a b"),
            (b"a ^/b", b"a/b"),
            (b"ab\0Cd", b"ab\0cd"),
            (b"a b", b"a b"),
        ],
    );
}

#[test]
fn section_6_8_normalize_path() {
    check(
        "normalizePath",
        &[
            (b"/a//b/./c/../d", b"/a/b/d"),
            (b"/../../etc/passwd", b"/etc/passwd"),
            (b"../../a", b"../../a"),
            (b"./a/", b"a/"),
            (b"a/..", b""),
            (b"/..", b""),
            (b"/../", b"/"),
            (b"/a/%2e%2e/b", b"/a/%2e%2e/b"),
            (b"/a.b/c.", b"/a.b/c."),
            (b"..", b".."),
        ],
    );
    check("normalizePathWin", &[(b"\\a\\..\\b", b"/b"), (b"a\\b", b"a/b"), (b"c:\\\\x", b"c:/x")]);
    check("normalizePath", &[(b"\\a\\..\\b", b"\\a\\..\\b")]);
}

#[test]
fn section_6_9_utf8_to_unicode() {
    check(
        "utf8toUnicode",
        &[
            ("é€😀".as_bytes(), b"%u00e9%u20ac%u1f600"),
            (b"a\0b", b"ab"),
            (b"\xC0\xAF", b"%u002f\xC0"),
            (b"\xE0\x80\xAF", b"%u002f\xE0"),
            (b"\xED\xA0\x80", b"%ud800\xED"),
            (b"\xC3x\xE2\x82", b"x\x82"),
            (b"\x80\xBF\xF8\xFF", b"\x80\xBF\xF8\xFF"),
            (b"\xF5x", b"\xF5x"),
            (b"\xF5\x80\x80\x80", b"\xF5%u140000"),
        ],
    );
}

#[test]
fn section_6_10_white_space() {
    check("removeWhitespace", &[(b" a\t\x0bb\xA0\xC2c", b"ab\xC2c")]);
    check("compressWhitespace", &[(b"a \t b\xA0c  ", b"a b c "), (b"a b", b"a b")]);
    check("trim", &[(b" \ta b\n", b"a b"), (b"  ", b"")]);
    check("trimLeft", &[(b" a ", b"a ")]);
    check("trimRight", &[(b" a ", b" a")]);
}

#[test]
fn section_6_10_comments() {
    check(
        "replaceComments",
        &[
            (b"a/* x */b/**/c", b"a b c"),
            (b"a/*b", b"a "),
            (b"a*/b", b"a*/b"),
            (b"/*/*/*/", b" */"),
        ],
    );
    check(
        "removeComments",
        &[
            (b"a/*x*/b", b"ab"),
            (b"a<!--x-->b", b"ab"),
            (b"a--b", b"a"),
            (b"a#b", b"a"),
            (b"a/*b", b"a "),
        ],
    );
    check("removeCommentsChar", &[(b"/*a*/<!--b-->--c#d-", b"abcd-"), (b"a/b", b"a/b")]);
}

#[test]
fn section_6_10_escapes_and_encodings() {
    check(
        "escapeSeqDecode",
        &[
            (b"\\a\\n\\\\\\?\\'\\\"", b"\x07\n\\?'\""),
            (b"\\x41\\X4a\\x4\\xg", b"AJx4xg"),
            (b"\\101\\777\\1z\\8", b"A\xFF\x01z8"),
            (b"x\\", b"x\\"),
        ],
    );
    check(
        "base64Decode",
        &[(b"VGVzdA==", b"Test"), (b"VGV\nzdA", b"Te"), (b"VGVzd", b"Tes"), (b"!", b"")],
    );
    check("base64DecodeExt", &[(b"VG.V\nzdA==", b"Test"), (b"VGVzd=", b"")]);
    check("base64Encode", &[(b"Test", b"VGVzdA=="), (b"abc", b"YWJj"), (b"ab", b"YWI=")]);
    check("hexDecode", &[(b"54657", b"Te"), (b"a", b""), (b"\x00\x00", b"\xD0"), (b"zz", b"\x53")]);
    check("hexEncode", &[(b"\x00\xFFa", b"00ff61")]);
    check(
        "sqlHexDecode",
        &[(b"a0x4142 0X4", b"aAB 0X4"), (b"0x410x42", b"AB"), (b"0x4g", b"0x4g")],
    );
    check("length", &[(b"0123456789", b"10"), (b"", b"0"), (b"1", b"1")]);
    check("lowercase", &[(b"AbC\xC9", b"abc\xC9")]);
    check("uppercase", &[(b"AbC\xE9", b"ABC\xE9")]);
    check("removeNulls", &[(b"a\0b", b"ab")]);
    check("replaceNulls", &[(b"a\0b", b"a b")]);
    check("parityEven7bit", &[(b"ac", b"\xE1c"), (b"\xC0", b"@")]);
    check("parityOdd7bit", &[(b"ac", b"a\xE3")]);
    check("parityZero7bit", &[(b"\xE1b", b"ab")]);
}

#[test]
fn section_6_10_digests_over_block_borders() {
    let hex = |name: &str, input: &[u8]| -> String {
        apply(name, input).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    // FIPS 180-4 examples and RFC 1321 appendix A.5.
    assert_eq!(hex("sha1", b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    assert_eq!(hex("sha1", b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    assert_eq!(hex("sha1", two_blocks), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    assert_eq!(hex("sha1", &[b'a'; 1_000_000]), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    assert_eq!(hex("md5", b""), "d41d8cd98f00b204e9800998ecf8427e");
    assert_eq!(hex("md5", b"message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    let digits = b"1234567890".repeat(8);
    assert_eq!(hex("md5", &digits), "57edf4a22be3c955ac49da2e2107b67a");
}
