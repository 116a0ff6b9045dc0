//! The operator argument: `[!]@name argument`, or a bare pattern for `@rx` (`seclang.md` section 2.2).

use crate::ast::OperatorText;
use crate::line::Argument;

pub(crate) fn parse_operator(argument: &Argument) -> OperatorText {
    let text = argument.text.as_str();
    let position = argument.position();
    let trimmed = text.trim_start();
    let (negated, rest) = match trimmed.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, trimmed),
    };
    match rest.strip_prefix('@') {
        Some(rest) => {
            let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
            OperatorText {
                position,
                negated,
                name: rest[..end].to_string(),
                argument: rest[end..].trim_start().to_string(),
            }
        }
        None => OperatorText {
            position,
            negated,
            name: "rx".to_string(),
            argument: if negated { rest.to_string() } else { text.to_string() },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Position;

    fn parse(text: &str) -> (bool, String, String) {
        let operator = parse_operator(&Argument::at(text, Position::default()));
        (operator.negated, operator.name, operator.argument)
    }

    #[test]
    fn reads_negation_name_and_argument() {
        assert_eq!(parse("@pm a b "), (false, "pm".into(), "a b ".into()));
        assert_eq!(parse("!@rx  ^a"), (true, "rx".into(), "^a".into()));
        assert_eq!(parse("@detectSQLi"), (false, "detectSQLi".into(), "".into()));
        assert_eq!(parse("^(a|b)$"), (false, "rx".into(), "^(a|b)$".into()));
        assert_eq!(parse("!^0$"), (true, "rx".into(), "^0$".into()));
    }
}
