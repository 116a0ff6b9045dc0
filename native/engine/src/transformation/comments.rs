//! `replaceComments`, `removeComments`, `removeCommentsChar`.
//!
//! Source: `seclang.md` section 6.10.

use memchr::memmem;

use super::scan;

static MARKS: [bool; 256] = scan::set(b"/*<-#");

/// Each `/*…*/` becomes one blank; an unclosed one takes all the rest with it.
pub(super) fn replace_comments(input: &[u8]) -> Option<Vec<u8>> {
    let mut start = memmem::find(input, b"/*")?;
    let mut output = Vec::with_capacity(input.len());
    let mut position = 0;
    loop {
        output.extend_from_slice(&input[position..start]);
        output.push(b' ');
        let Some(length) = memmem::find(&input[start + 2..], b"*/") else { break };
        position = start + 2 + length + 2;
        match memmem::find(&input[position..], b"/*") {
            Some(next) => start = position + next,
            None => {
                output.extend_from_slice(&input[position..]);
                break;
            }
        }
    }
    Some(output)
}

/// Cuts `/*…*/` and `<!--…-->` (either end closes either), and everything from `--` or `#` on. The byte after a comment
/// is taken as it is, even if it would begin another. An unclosed comment leaves one blank.
pub(super) fn remove_comments(input: &[u8]) -> Option<Vec<u8>> {
    let first = scan::first_in(&MARKS, input)?;
    let mut output = Vec::with_capacity(input.len());
    output.extend_from_slice(&input[..first]);
    let mut position = first;
    while position < input.len() {
        let rest = &input[position..];
        if rest.starts_with(b"/*") || rest.starts_with(b"<!--") {
            position += if rest[0] == b'/' { 2 } else { 4 };
            match comment_end(&input[position..]) {
                Some(end) => {
                    position += end;
                    // At the very end of the value the reference copies the terminating NUL.
                    output.push(input.get(position).copied().unwrap_or(0));
                    position += 1;
                }
                None => {
                    output.push(b' ');
                    break;
                }
            }
        } else if rest.starts_with(b"--") || rest[0] == b'#' {
            break;
        } else {
            output.push(rest[0]);
            position += 1;
        }
    }
    Some(output)
}

/// Offset just after the first `*/` or `-->`.
fn comment_end(rest: &[u8]) -> Option<usize> {
    let c_end = memmem::find(rest, b"*/").map(|offset| offset + 2);
    let reach = &rest[..c_end.unwrap_or(rest.len())];
    memmem::find(reach, b"-->").map(|offset| offset + 3).or(c_end)
}

/// Removes the marks `/*` `*/` `<!--` `-->` `--` `#` and leaves the text between them.
pub(super) fn remove_comments_char(input: &[u8]) -> Option<Vec<u8>> {
    let first = scan::first_in(&MARKS, input)?;
    let mut output = Vec::with_capacity(input.len());
    output.extend_from_slice(&input[..first]);
    let mut position = first;
    while position < input.len() {
        let rest = &input[position..];
        let mark = [&b"/*"[..], b"*/", b"<!--", b"-->", b"--", b"#"]
            .into_iter()
            .find(|mark| rest.starts_with(mark));
        match mark {
            Some(mark) => position += mark.len(),
            None => {
                output.push(rest[0]);
                position += 1;
            }
        }
    }
    Some(output)
}
