//! Physical lines to logical lines to arguments, keeping positions.
//!
//! Source: `seclang.md` section 2. A line that ends in a backslash goes on in the next one; a line whose first
//! non-blank byte is `#` is a comment; inside double quotes `\"` is a quote and every other backslash stays.

use crate::source::Position;

/// Text with a map from its bytes back to the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Argument {
    /// The text after unquoting.
    pub text: String,
    /// Ascending offsets in `text`, each with the position of that byte; bytes between follow on the same line.
    anchors: Vec<(usize, Position)>,
}

impl Argument {
    /// Position of the byte at `offset`.
    pub fn position_at(&self, offset: usize) -> Position {
        let index = self.anchors.partition_point(|(start, _)| *start <= offset);
        match index.checked_sub(1).map(|index| self.anchors[index]) {
            Some((start, position)) => {
                Position { column: position.column + (offset - start) as u32, ..position }
            }
            None => Position::default(),
        }
    }

    /// Position of the first byte.
    pub fn position(&self) -> Position {
        self.position_at(0)
    }

    /// A text whose bytes all lie on one line from `position` on.
    pub fn at(text: impl Into<String>, position: Position) -> Self {
        Argument { text: text.into(), anchors: vec![(0, position)] }
    }

    fn push(&mut self, text: &str, position: Position) {
        self.anchors.push((self.text.len(), position));
        self.text.push_str(text);
    }
}

/// A text without its line continuations.
pub(crate) type LogicalLine = Argument;

/// Iterates over the logical lines of a file that are neither blank nor comments.
pub(crate) fn logical_lines(text: &str, file: u32) -> Vec<LogicalLine> {
    let mut lines = Vec::new();
    let mut open: Option<LogicalLine> = None;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, raw) in text.split('\n').enumerate() {
        let physical = raw.strip_suffix('\r').unwrap_or(raw);
        let position = Position { file, line: index as u32 + 1, column: 1 };
        if open.is_none() {
            let trimmed = physical.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
        }
        let line = open.get_or_insert_with(LogicalLine::default);
        match physical.strip_suffix('\\') {
            Some(continued) => line.push(continued, position),
            None => {
                line.push(physical, position);
                lines.extend(open.take());
            }
        }
    }
    lines.extend(open);
    lines
}

/// A quoted argument without its closing quote.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnclosedQuote(pub Position);

/// Splits a logical line into words and quoted arguments.
pub(crate) fn split_arguments(line: &LogicalLine) -> Result<Vec<Argument>, UnclosedQuote> {
    let bytes = line.text.as_bytes();
    let mut arguments = Vec::new();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let Some(first) = bytes.get(at) else { return Ok(arguments) };
        if matches!(first, b'"' | b'\'') {
            let quote = *first;
            let opened = at;
            at += 1;
            let mut argument = Argument::default();
            let mut from = at;
            loop {
                match bytes.get(at) {
                    None => return Err(UnclosedQuote(line.position_at(opened))),
                    Some(b'\\') if bytes.get(at + 1) == Some(&quote) => {
                        push_range(&mut argument, line, from, at);
                        from = at + 1;
                        at += 2;
                    }
                    Some(byte) if *byte == quote => break,
                    Some(_) => at += 1,
                }
            }
            push_range(&mut argument, line, from, at);
            if argument.anchors.is_empty() {
                argument.push("", line.position_at(at));
            }
            at += 1;
            arguments.push(argument);
        } else {
            let from = at;
            while bytes.get(at).is_some_and(|byte| !byte.is_ascii_whitespace()) {
                at += 1;
            }
            let mut argument = Argument::default();
            push_range(&mut argument, line, from, at);
            arguments.push(argument);
        }
    }
}

/// Appends `line[from..to]`, which may lie on several physical lines.
fn push_range(argument: &mut Argument, line: &LogicalLine, from: usize, to: usize) {
    let mut start = from;
    for (anchor, _) in &line.anchors {
        if *anchor > start && *anchor < to {
            argument.push(&line.text[start..*anchor], line.position_at(start));
            start = *anchor;
        }
    }
    if start < to {
        argument.push(&line.text[start..to], line.position_at(start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<String> {
        let lines = logical_lines(text, 0);
        assert_eq!(lines.len(), 1, "{text}");
        split_arguments(&lines[0]).unwrap().into_iter().map(|argument| argument.text).collect()
    }

    #[test]
    fn joins_continued_lines_and_keeps_leading_blanks() {
        assert_eq!(
            arguments("SecAction \\\n    \"id:1,\\\n    nolog\""),
            ["SecAction", "id:1,    nolog"]
        );
        assert_eq!(arguments("SecAction \\\r\n \"id:1\"\r"), ["SecAction", "id:1"]);
    }

    #[test]
    fn comments_do_not_swallow_the_next_line() {
        assert_eq!(arguments("# one \\\nSecMarker A"), ["SecMarker", "A"]);
    }

    #[test]
    fn only_the_escaped_quote_is_unescaped() {
        assert_eq!(arguments(r#"R "a\"b\\s\x5c""#), ["R", r#"a"b\\s\x5c"#]);
    }

    #[test]
    fn unclosed_quotes_are_reported_where_they_open() {
        let lines = logical_lines("\nSecAction \"id:1", 3);
        let error = split_arguments(&lines[0]).unwrap_err();
        assert_eq!(error.0, Position { file: 3, line: 2, column: 11 });
    }

    #[test]
    fn positions_survive_continuations_and_escapes() {
        let lines = logical_lines("SecRule ARGS \"a\\\"b\" \\\n  \"id:1,\\\n   deny\"", 0);
        let arguments = split_arguments(&lines[0]).unwrap();
        assert_eq!(arguments[2].text, "a\"b");
        assert_eq!(arguments[2].position_at(2), Position { file: 0, line: 1, column: 18 });
        let offset = arguments[3].text.find("deny").unwrap();
        assert_eq!(arguments[3].position_at(offset), Position { file: 0, line: 3, column: 4 });
    }
}
