//! `normalizePath`, `normalizePathWin`: doubled slashes, self references and back references out of a path.
//!
//! Source: `seclang.md` section 6.8, as ModSecurity v2. It looks at a segment only when its last byte is a dot: one dot
//! after a slash is a self reference, and two dots in a row are a back reference, whatever the segment begins with.

use memchr::memchr;

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    if !may_change(input) {
        return None;
    }
    normalize(input, |byte| byte)
}

pub(super) fn apply_windows(input: &[u8]) -> Option<Vec<u8>> {
    if memchr(b'\\', input).is_none() && !may_change(input) {
        return None;
    }
    normalize(input, |byte| if byte == b'\\' { b'/' } else { byte })
}

/// Something changes only where a segment ends in a dot or is empty.
fn may_change(input: &[u8]) -> bool {
    input.last() == Some(&b'.')
        || input.windows(2).any(|pair| pair[1] == b'/' && matches!(pair[0], b'.' | b'/'))
}

fn normalize(input: &[u8], slash: impl Fn(u8) -> u8) -> Option<Vec<u8>> {
    let at = |index: usize| slash(input[index]);
    let end = input.len().checked_sub(1)?;
    let relative = at(0) != b'/';
    let trailing = at(end) == b'/';
    let mut output = Vec::with_capacity(input.len());
    // A relative path has reached its beginning: further back references stay.
    let mut at_root = false;
    let mut source = 0;
    while source <= end {
        let first = source;
        let last = source == end;
        if last || at(source + 1) == b'/' {
            match at(source) {
                b'/' if !last => {}
                b'.' if output.last() == Some(&b'.') => {
                    if relative && (at_root || output.len() <= 2) {
                        at_root = true;
                    } else {
                        at_root |= drop_segment(&mut output, !relative && last);
                        if last {
                            break;
                        }
                        source += 1;
                    }
                }
                b'.' if matches!(output.last(), None | Some(b'/')) => {
                    if last {
                        break;
                    }
                    output.pop();
                    source += 1;
                }
                b'.' => {}
                _ if !output.is_empty() => at_root = false,
                _ => {}
            }
        }
        let mut byte = at(source);
        if byte == b'/' {
            while source < end && at(source + 1) == b'/' {
                source += 1;
            }
            if relative && output.is_empty() {
                source += 1;
                continue;
            }
            if source > first + 1 {
                // The last one of a long run is taken as written: the reference has not come to turn it.
                byte = input[source];
            }
        }
        output.push(byte);
        source += 1;
    }
    if !trailing && output.last() == Some(&b'/') {
        output.pop();
    }
    Some(output)
}

/// The output ends in `/segment/.`: drops all of that, up to the slash before the segment. True when that was the
/// beginning of the path, whose slash can be kept.
fn drop_segment(output: &mut Vec<u8>, keep_root: bool) -> bool {
    let mut length = output.len().saturating_sub(3);
    while length > 0 && output[length] != b'/' {
        length -= 1;
    }
    let at_root = length == 0;
    output.truncate(if at_root && keep_root { 1 } else { length });
    at_root
}
