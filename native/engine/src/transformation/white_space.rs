//! `removeWhitespace`, `compressWhitespace`, `trim`, `trimLeft`, `trimRight`.
//!
//! Source: `seclang.md` section 6.10; byte A0 counts as white space in the first two, as in ModSecurity v2.

use super::scan;

/// What the first two take for white space.
pub(crate) const WHITE_BYTES: &[u8] = b"\t\n\x0b\x0c\r \xa0";
static WHITE: [bool; 256] = scan::set(WHITE_BYTES);

pub(super) fn remove(input: &[u8]) -> Option<Vec<u8>> {
    let first = scan::first_in(&WHITE, input)?;
    let mut output = Vec::with_capacity(input.len() - 1);
    output.extend_from_slice(&input[..first]);
    output.extend(input[first..].iter().filter(|byte| !WHITE[usize::from(**byte)]));
    Some(output)
}

/// Each run of white space becomes one blank.
pub(super) fn compress(input: &[u8]) -> Option<Vec<u8>> {
    let mut after_white = false;
    let first = input.iter().position(|&byte| {
        let white = WHITE[usize::from(byte)];
        let changes = white && (byte != b' ' || after_white);
        after_white = white;
        changes
    })?;
    let mut output = Vec::with_capacity(input.len());
    output.extend_from_slice(&input[..first]);
    after_white = output.last() == Some(&b' ');
    for &byte in &input[first..] {
        let white = WHITE[usize::from(byte)];
        if !white {
            output.push(byte);
        } else if !after_white {
            output.push(b' ');
        }
        after_white = white;
    }
    Some(output)
}

pub(super) fn trim_left(input: &[u8]) -> Option<Vec<u8>> {
    cut(input, left_edge(input), input.len())
}

pub(super) fn trim_right(input: &[u8]) -> Option<Vec<u8>> {
    cut(input, 0, right_edge(input))
}

pub(super) fn trim(input: &[u8]) -> Option<Vec<u8>> {
    let left = left_edge(input);
    cut(input, left, right_edge(input).max(left))
}

fn left_edge(input: &[u8]) -> usize {
    input.iter().position(|&byte| !scan::is_space(byte)).unwrap_or(input.len())
}

fn right_edge(input: &[u8]) -> usize {
    input.iter().rposition(|&byte| !scan::is_space(byte)).map_or(0, |last| last + 1)
}

fn cut(input: &[u8], from: usize, to: usize) -> Option<Vec<u8>> {
    (to - from < input.len()).then(|| input[from..to].to_vec())
}
