//! The actions argument: comma-separated `name`, `name:value` or `name:'value'` (`seclang.md` section 2.3).

use crate::ast::Action;
use crate::diagnostic::Diagnostics;
use crate::line::Argument;

/// Parses an actions argument; errors go to `diagnostics`.
pub fn parse_actions(argument: &Argument, diagnostics: &mut Diagnostics) -> Vec<Action> {
    let text = argument.text.as_str();
    let bytes = text.as_bytes();
    let mut actions = Vec::new();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b',') {
            at += 1;
        }
        if at == bytes.len() {
            return actions;
        }
        let start = at;
        let position = argument.position_at(start);
        while bytes.get(at).is_some_and(|byte| !matches!(byte, b':' | b',')) {
            at += 1;
        }
        let name = text[start..at].trim_end().to_string();
        if name.is_empty() {
            diagnostics.report(position, "action", "an action's name is expected before `:`");
            return actions;
        }
        let mut value = None;
        if bytes.get(at) == Some(&b':') {
            at += 1;
            while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
                at += 1;
            }
            if bytes.get(at) == Some(&b'\'') {
                let opened = at;
                let mut text_value = String::new();
                let mut from = at + 1;
                at = from;
                loop {
                    match bytes.get(at) {
                        None => {
                            diagnostics.report(
                                argument.position_at(opened),
                                "action",
                                format!("the quoted value of `{name}` is not closed"),
                            );
                            return actions;
                        }
                        Some(b'\\') if bytes.get(at + 1) == Some(&b'\'') => {
                            text_value.push_str(&text[from..at]);
                            from = at + 1;
                            at += 2;
                        }
                        Some(b'\'') => break,
                        Some(_) => at += 1,
                    }
                }
                text_value.push_str(&text[from..at]);
                at += 1;
                value = Some(text_value);
                while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
                    at += 1;
                }
                if bytes.get(at).is_some_and(|byte| *byte != b',') {
                    diagnostics.report(
                        argument.position_at(at),
                        "action",
                        format!("a comma is expected after the value of `{name}`"),
                    );
                    return actions;
                }
            } else {
                let from = at;
                while bytes.get(at).is_some_and(|byte| *byte != b',') {
                    at += 1;
                }
                value = Some(text[from..at].trim_end().to_string());
            }
        }
        actions.push(Action { position, name, value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Position;

    fn parse(text: &str) -> Vec<(String, Option<String>)> {
        let mut diagnostics = Diagnostics::default();
        let actions = parse_actions(&Argument::at(text, Position::default()), &mut diagnostics);
        assert!(diagnostics.is_empty(), "{:?}", diagnostics.into_vec());
        actions.into_iter().map(|action| (action.name, action.value)).collect()
    }

    #[test]
    fn reads_names_values_and_quotes() {
        assert_eq!(
            parse(r"id:1,   pass ,msg:'a, b\'s',setvar:'tx.a=+%{tx.b}',t:none , chain"),
            [
                ("id".into(), Some("1".into())),
                ("pass".into(), None),
                ("msg".into(), Some("a, b's".into())),
                ("setvar".into(), Some("tx.a=+%{tx.b}".into())),
                ("t".into(), Some("none".into())),
                ("chain".into(), None),
            ]
        );
    }

    #[test]
    fn a_missing_comma_makes_one_odd_value() {
        // The typo of one plugin (seclang.md section 2.3): the engine refuses the transformation, not the parser.
        assert_eq!(parse("t:length    nolog"), [("t".into(), Some("length    nolog".into()))]);
    }

    #[test]
    fn unclosed_values_are_errors() {
        let mut diagnostics = Diagnostics::default();
        parse_actions(&Argument::at("id:1,msg:'x", Position::default()), &mut diagnostics);
        assert_eq!(diagnostics.len(), 1);
    }
}
