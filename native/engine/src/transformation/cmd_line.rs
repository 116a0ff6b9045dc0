//! `cmdLine`: what a shell's quoting and separators hide.
//!
//! Source: `seclang.md` section 6.7. As ModSecurity v3, NUL is a byte like others: v2 loses everything after the first one,
//! which hides it from the rules.

use super::scan;

/// Bytes that are dropped, replaced, lower-cased, or looked at together with a neighbour. A single blank is none of
/// these: it is tested with the byte before and after it.
static CHANGED: [bool; 256] = scan::set(b"\"'\\^,;\t\r\nABCDEFGHIJKLMNOPQRSTUVWXYZ");

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let blank_matters = |pair: &[u8]| pair[0] == b' ' && matches!(pair[1], b' ' | b'/' | b'(');
    if scan::first_in(&CHANGED, input).is_none() && !input.windows(2).any(blank_matters) {
        return None;
    }
    let mut output = Vec::with_capacity(input.len());
    let mut after_blank = false;
    for &byte in input {
        match byte {
            b'"' | b'\'' | b'\\' | b'^' => {}
            b' ' | b',' | b';' | b'\t' | b'\r' | b'\n' => {
                if !after_blank {
                    output.push(b' ');
                }
                after_blank = true;
            }
            _ => {
                if after_blank && matches!(byte, b'/' | b'(') {
                    output.pop();
                }
                after_blank = false;
                output.push(byte.to_ascii_lowercase());
            }
        }
    }
    Some(output)
}
