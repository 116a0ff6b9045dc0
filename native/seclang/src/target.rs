//! The variables argument: `VAR`, `VAR:selector`, `&VAR`, `!VAR`, joined by `|` (`seclang.md` section 2.1).

use crate::ast::{Selector, Target};
use crate::diagnostic::Diagnostics;
use crate::line::Argument;

/// Parses a variables argument; errors go to `diagnostics`.
///
/// `comma` also takes a comma between two targets, as update directives are written by users.
pub fn parse_targets(
    argument: &Argument,
    comma: bool,
    diagnostics: &mut Diagnostics,
) -> Vec<Target> {
    let text = argument.text.as_str();
    let bytes = text.as_bytes();
    let mut targets = Vec::new();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let start = at;
        let (mut count, mut exclude) = (false, false);
        while let Some(prefix @ (b'!' | b'&')) = bytes.get(at) {
            count |= *prefix == b'&';
            exclude |= *prefix == b'!';
            at += 1;
        }
        let name_start = at;
        while bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            at += 1;
        }
        let variable = &text[name_start..at];
        let position = argument.position_at(start);
        if variable.is_empty() {
            let found = text[at..].chars().next().map_or("the end".into(), |c| format!("`{c}`"));
            diagnostics.report(position, "target", format!("a variable is expected, not {found}"));
            return targets;
        }
        let mut selector = None;
        // A dot separates as well, as in macros; v2 reads `TX.name` in targets so.
        if matches!(bytes.get(at), Some(b':' | b'.')) {
            at += 1;
            let (found, next) = parse_selector(text, at, variable, comma);
            match found {
                Some(found) => selector = Some(found),
                None => {
                    diagnostics.report(
                        argument.position_at(at),
                        "target",
                        format!("the selector of {variable} is empty or not closed"),
                    );
                    return targets;
                }
            }
            at = next;
        }
        targets.push(Target { position, count, exclude, variable: variable.to_string(), selector });
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        match bytes.get(at) {
            None => return targets,
            Some(b'|') => at += 1,
            Some(b',') if comma => at += 1,
            Some(_) => {
                let found = text[at..].chars().next().unwrap_or(' ');
                diagnostics.report(
                    argument.position_at(at),
                    "target",
                    format!("`|` is expected between targets, not `{found}`"),
                );
                return targets;
            }
        }
    }
}

/// The selector from `at` on and where it ends.
fn parse_selector(text: &str, at: usize, variable: &str, comma: bool) -> (Option<Selector>, usize) {
    let bytes = text.as_bytes();
    let is_end = |index: usize| match bytes.get(index) {
        None | Some(b'|') => true,
        Some(b',') => comma,
        Some(_) => false,
    };
    if bytes.get(at) == Some(&b'\'') {
        // 'quoted', holding a name or a /regular expression/; \' is a quote.
        let mut value = String::new();
        let mut from = at + 1;
        let mut index = from;
        loop {
            match bytes.get(index) {
                None => return (None, index),
                Some(b'\\') if bytes.get(index + 1) == Some(&b'\'') => {
                    value.push_str(&text[from..index]);
                    from = index + 1;
                    index += 2;
                }
                Some(b'\'') => break,
                Some(_) => index += 1,
            }
        }
        value.push_str(&text[from..index]);
        let inner = value
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'))
            .filter(|_| !variable.eq_ignore_ascii_case("XML"));
        let selector = match inner {
            Some(pattern) => Selector::Regex(pattern.to_string()),
            None => Selector::Name(value),
        };
        return (Some(selector), index + 1);
    }
    if bytes.get(at) == Some(&b'/') && !variable.eq_ignore_ascii_case("XML") {
        // /regular expression/: ends at a slash that no backslash precedes and after which a target can end.
        let mut index = at + 1;
        while index < bytes.len() {
            match bytes[index] {
                b'\\' => index += 2,
                b'/' if is_end(index + 1) => {
                    let pattern = text[at + 1..index].replace("\\/", "/");
                    return (Some(Selector::Regex(pattern)), index + 1);
                }
                _ => index += 1,
            }
        }
        return (None, at);
    }
    let mut index = at;
    while !is_end(index) {
        index += 1;
    }
    let name = text[at..index].trim_end();
    ((!name.is_empty()).then(|| Selector::Name(name.to_string())), index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Position;

    fn parse(text: &str) -> Vec<Target> {
        let mut diagnostics = Diagnostics::default();
        let targets =
            parse_targets(&Argument::at(text, Position::default()), true, &mut diagnostics);
        assert!(diagnostics.is_empty(), "{:?}", diagnostics.into_vec());
        targets
    }

    fn selector(text: &str) -> Option<Selector> {
        parse(text).remove(0).selector
    }

    #[test]
    fn reads_every_prefix_and_selector_form() {
        let targets = parse("ARGS|&TX:name|!REQUEST_COOKIES:/__utm|x/|XML:/*|XML://@*");
        assert_eq!(targets.len(), 5);
        assert!(targets[1].count && !targets[1].exclude);
        assert!(targets[2].exclude);
        assert_eq!(targets[2].selector, Some(Selector::Regex("__utm|x".into())));
        assert_eq!(targets[3].selector, Some(Selector::Name("/*".into())));
        assert_eq!(targets[4].selector, Some(Selector::Name("//@*".into())));
    }

    #[test]
    fn reads_quoted_selectors() {
        assert_eq!(selector("ARGS:'/^a/'"), Some(Selector::Regex("^a".into())));
        assert_eq!(selector(r"ARGS:'it\'s'"), Some(Selector::Name("it's".into())));
        assert_eq!(selector("X:X.Filename"), Some(Selector::Name("X.Filename".into())));
    }

    #[test]
    fn slashes_inside_a_regular_expression_may_be_escaped() {
        assert_eq!(selector(r"TX:/a\/b/"), Some(Selector::Regex("a/b".into())));
    }

    #[test]
    fn names_the_place_of_a_bad_target() {
        let mut diagnostics = Diagnostics::default();
        let argument = Argument::at("ARGS||B", Position { file: 0, line: 4, column: 9 });
        parse_targets(&argument, false, &mut diagnostics);
        let errors = diagnostics.into_vec();
        assert_eq!(errors[0].position, Position { file: 0, line: 4, column: 14 });
    }
}
