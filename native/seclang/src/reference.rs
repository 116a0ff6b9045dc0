//! Which other files a file of rules names, so that whoever reads files can read them before the rules are compiled.
//!
//! Source: `seclang.md` sections 2 and 3: `Include`, phrase and address lists, code-page maps.

use crate::glob::is_glob;
use crate::line::{logical_lines, split_arguments, Argument};
use crate::operator::parse_operator;
use crate::path::resolve;
use crate::source::{Position, SourceFile};

/// A file, or a pattern of files, that a file of rules names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where it is named.
    pub position: Position,
    /// The path, seen from where the naming file's path is seen from.
    pub path: String,
    /// The path holds wildcards.
    pub is_pattern: bool,
    /// What is named holds rules itself.
    pub holds_rules: bool,
}

/// Operators whose argument is a list of files.
const OPERATORS: [&str; 4] = ["pmfromfile", "pmf", "ipmatchfromfile", "ipmatchf"];

/// What `source` names, in order; nothing is said about whether it is there. Lines that cannot be read name nothing:
/// [`parse`](crate::parse) reports them.
pub fn references(source: &SourceFile) -> Vec<Reference> {
    let mut found = Vec::new();
    for line in logical_lines(&source.text, 0) {
        let Ok(arguments) = split_arguments(&line) else { continue };
        let Some((name, arguments)) = arguments.split_first() else { continue };
        match name.text.to_ascii_lowercase().as_str() {
            "include" | "includeoptional" => {
                if let Some(argument) = arguments.first() {
                    add(&mut found, source, argument.position(), &argument.text, true);
                }
            }
            "secunicodemapfile" => {
                if let Some(argument) = arguments.first() {
                    add(&mut found, source, argument.position(), &argument.text, false);
                }
            }
            "secrule" => operator_files(&mut found, source, arguments),
            _ => {}
        }
    }
    found
}

fn operator_files(found: &mut Vec<Reference>, source: &SourceFile, arguments: &[Argument]) {
    let Some(argument) = arguments.get(1) else { return };
    let operator = parse_operator(argument);
    if !OPERATORS.iter().any(|name| operator.name.eq_ignore_ascii_case(name)) {
        return;
    }
    for name in operator.argument.split_ascii_whitespace() {
        add(found, source, operator.position, name, false);
    }
}

fn add(
    found: &mut Vec<Reference>,
    source: &SourceFile,
    position: Position,
    name: &str,
    holds_rules: bool,
) {
    let is_url = name.starts_with("https://") || name.starts_with("http://");
    // What begins with `@` is built in.
    if name.is_empty() || name.starts_with('@') || is_url {
        return;
    }
    let path = resolve(&source.path, name);
    let is_pattern = holds_rules && is_glob(&path);
    found.push(Reference { position, path, is_pattern, holds_rules });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_includes_lists_and_maps_with_their_places() {
        let text = "# Include not.conf\nInclude sub/*.conf\nInclude @recommended\n\
                    SecRule ARGS \"!@pmFromFile a.data ../b.data\" \"id:1\"\n\
                    SecRule REMOTE_ADDR \\\n  \"@ipMatchFromFile /etc/nets\" \"id:2\"\n\
                    SecRule ARGS \"@pm a.data\" \"id:3\"\nSecUnicodeMapFile unicode.mapping 20127\n\
                    SecRule ARGS \"@ipMatchF https://example.com/x\" \"id:4\"\nSecRule ARGS \"open";
        let found = references(&SourceFile::new("conf/x.conf", text));
        let list: Vec<_> = found
            .iter()
            .map(|it| (it.path.as_str(), it.position.line, it.is_pattern, it.holds_rules))
            .collect();
        assert_eq!(
            list,
            [
                ("conf/sub/*.conf", 2, true, true),
                ("conf/a.data", 4, false, false),
                ("b.data", 4, false, false),
                ("/etc/nets", 6, false, false),
                ("conf/unicode.mapping", 8, false, false),
            ]
        );
    }
}
