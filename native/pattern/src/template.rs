//! Replacement texts in Go's syntax.
//!
//! Source: Go's `Regexp.Expand`: `$name` takes the longest run of letters, digits and underscores, so `$1x` is the group
//! named `1x`; `${name}` bounds it; `$$` is a dollar sign; a `$` that begins none of these stands for itself; a group
//! that does not exist or did not take part is empty.

/// A piece of a replacement text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    Text(&'t str),
    Number(usize),
    Name(&'t str),
}

pub(crate) fn parse(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(dollar) = rest.find('$') {
        if dollar > 0 {
            pieces.push(Piece::Text(&rest[..dollar]));
        }
        let after = &rest[dollar + 1..];
        if let Some(after) = after.strip_prefix('$') {
            pieces.push(Piece::Text("$"));
            rest = after;
        } else if let Some((name, after)) = name(after) {
            pieces.push(match number(name) {
                Some(number) => Piece::Number(number),
                None => Piece::Name(name),
            });
            rest = after;
        } else {
            pieces.push(Piece::Text("$"));
            rest = after;
        }
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// The name behind a dollar sign and what follows it.
fn name(text: &str) -> Option<(&str, &str)> {
    let (brace, inner) = match text.strip_prefix('{') {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let end = inner
        .find(|c: char| !(c == '_' || c.is_alphabetic() || c.is_numeric()))
        .unwrap_or(inner.len());
    let (name, after) = inner.split_at(end);
    if name.is_empty() {
        return None;
    }
    if brace {
        return after.strip_prefix('}').map(|after| (name, after));
    }
    Some((name, after))
}

/// A group's number: decimal digits without a leading zero.
fn number(name: &str) -> Option<usize> {
    let plain = name.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || name.len() > 8 || (name.len() > 1 && name.starts_with('0')) {
        return None;
    }
    name.parse().ok()
}

pub(crate) fn expand(
    pieces: &[Piece<'_>],
    groups: &regex::Captures<'_>,
    names: &[Option<String>],
    result: &mut String,
) {
    for piece in pieces {
        let group = match piece {
            Piece::Text(text) => {
                result.push_str(text);
                continue;
            }
            Piece::Number(number) => groups.get(*number),
            Piece::Name(name) => names
                .iter()
                .position(|known| known.as_deref() == Some(name))
                .and_then(|number| groups.get(number)),
        };
        if let Some(group) = group {
            result.push_str(group.as_str());
        }
    }
}
