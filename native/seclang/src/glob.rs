//! File-name patterns of `Include`: `*`, `?` and `[…]`, none of which crosses a slash.

/// Whether `path` matches `pattern`.
pub fn glob_matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    pattern.len() == path.len()
        && pattern
            .iter()
            .zip(&path)
            .all(|(pattern, segment)| segment_matches(pattern.as_bytes(), segment.as_bytes()))
}

/// Whether a name holds a wildcard at all.
pub(crate) fn is_glob(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

fn segment_matches(pattern: &[u8], text: &[u8]) -> bool {
    // The classic two-pointer walk: on a mismatch go back to the last star and let it take one byte more.
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        let step = match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, seen));
                at += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => class_matches(&pattern[at..], text[seen]),
            Some(byte) if *byte == text[seen] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                at += length;
                seen += 1;
            }
            (None, Some((after_star, from))) => {
                at = after_star;
                seen = from + 1;
                star = Some((after_star, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Tests one byte against the class at the start of `pattern`; the class's length when it matches.
fn class_matches(pattern: &[u8], byte: u8) -> Option<usize> {
    let close = pattern.iter().skip(2).position(|byte| *byte == b']')? + 2;
    let mut body = &pattern[1..close];
    let negated = matches!(body.first(), Some(b'!' | b'^'));
    if negated {
        body = &body[1..];
    }
    let mut found = false;
    let mut at = 0;
    while at < body.len() {
        if at + 2 < body.len() && body[at + 1] == b'-' {
            found |= (body[at]..=body[at + 2]).contains(&byte);
            at += 3;
        } else {
            found |= body[at] == byte;
            at += 1;
        }
    }
    (found != negated).then_some(close + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_like_a_shell() {
        assert!(glob_matches("rules/*.conf", "rules/REQUEST-901.conf"));
        assert!(!glob_matches("rules/*.conf", "rules/sub/REQUEST-901.conf"));
        assert!(!glob_matches("rules/*.conf", "rules/a.conf.example"));
        assert!(glob_matches("a?c/[x-z]*", "abc/yellow"));
        assert!(!glob_matches("[!a]x", "ax"));
        assert!(glob_matches("*a*b*", "xxaxxbxx"));
        assert!(!glob_matches("[a", "[a"));
    }
}
