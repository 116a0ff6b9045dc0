//! Files to directives, includes resolved.
//!
//! Source: `seclang.md` sections 2, 3 and 11.

use crate::action::parse_actions;
use crate::ast::{Directive, DirectiveKind, Document, IdRange, Rule, Scope, Setting};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::glob::{glob_matches, is_glob};
use crate::line::{logical_lines, split_arguments, Argument};
use crate::operator::parse_operator;
use crate::path::resolve;
use crate::source::SourceFile;
use crate::target::parse_targets;

/// How deep includes may nest.
const INCLUDE_DEPTH: usize = 16;

/// The engine settings that are read, with the least and greatest number of their arguments.
pub const KNOWN_SETTINGS: &[(&str, usize, usize)] = &[
    ("SecArgumentSeparator", 1, 1),
    ("SecArgumentsLimit", 1, 1),
    ("SecAuditEngine", 1, 1),
    ("SecAuditLog", 1, 1),
    ("SecAuditLog2", 1, 1),
    ("SecAuditLogDirMode", 1, 1),
    ("SecAuditLogFileMode", 1, 1),
    ("SecAuditLogFormat", 1, 1),
    ("SecAuditLogParts", 1, 1),
    ("SecAuditLogPrefix", 1, 1),
    ("SecAuditLogRelevantStatus", 1, 1),
    ("SecAuditLogStorageDir", 1, 1),
    ("SecAuditLogType", 1, 1),
    ("SecCollectionTimeout", 1, 1),
    ("SecConnEngine", 1, 1),
    ("SecContentInjection", 1, 1),
    ("SecCookieFormat", 1, 1),
    ("SecDataDir", 1, 1),
    ("SecDebugLog", 1, 1),
    ("SecDebugLogLevel", 1, 1),
    ("SecDisableBackendCompression", 1, 1),
    ("SecHashEngine", 1, 1),
    ("SecInterceptOnError", 1, 1),
    ("SecPcreMatchLimit", 1, 1),
    ("SecPcreMatchLimitRecursion", 1, 1),
    ("SecRequestBodyAccess", 1, 1),
    ("SecRequestBodyInMemoryLimit", 1, 1),
    ("SecRequestBodyJsonDepthLimit", 1, 1),
    ("SecRequestBodyLimit", 1, 1),
    ("SecRequestBodyLimitAction", 1, 1),
    ("SecRequestBodyNoFilesLimit", 1, 1),
    ("SecResponseBodyAccess", 1, 1),
    ("SecResponseBodyLimit", 1, 1),
    ("SecResponseBodyLimitAction", 1, 1),
    ("SecResponseBodyMimeType", 1, usize::MAX),
    ("SecResponseBodyMimeTypesClear", 0, 0),
    ("SecRuleEngine", 1, 1),
    ("SecRuleInheritance", 1, 1),
    ("SecRulePerfTime", 1, 1),
    ("SecSensorId", 1, 1),
    ("SecServerSignature", 1, 1),
    ("SecStatusEngine", 1, 1),
    ("SecStreamInBodyInspection", 1, 1),
    ("SecStreamOutBodyInspection", 1, 1),
    ("SecTmpDir", 1, 1),
    ("SecUnicodeCodePage", 1, 1),
    ("SecUnicodeMapFile", 1, 2),
    ("SecUploadDir", 1, 1),
    ("SecUploadFileLimit", 1, 1),
    ("SecUploadFileMode", 1, 1),
    ("SecUploadKeepFiles", 1, 1),
    ("SecWebAppId", 1, 1),
    ("SecXmlExternalEntity", 1, 1),
    ("SecParseXmlIntoArgs", 1, 1),
    ("SecTmpSaveUploadedFiles", 1, 1),
];

/// Directives besides the settings; `Include` and its kin are listed for suggestions.
const KNOWN_DIRECTIVES: &[&str] = &[
    "Include",
    "IncludeOptional",
    "SecAction",
    "SecComponentSignature",
    "SecDefaultAction",
    "SecMarker",
    "SecRule",
    "SecRuleRemoveById",
    "SecRuleRemoveByMsg",
    "SecRuleRemoveByTag",
    "SecRuleScript",
    "SecRuleUpdateActionById",
    "SecRuleUpdateTargetById",
    "SecRuleUpdateTargetByMsg",
    "SecRuleUpdateTargetByTag",
];

/// Parses `sources` in order. `library` holds further files that `Include` may name (by path relative to the including
/// file, wildcards sorted by name); the sources themselves can be included too.
///
/// Every error is reported; the document holds what could be read.
pub fn parse(sources: &[SourceFile], library: &[SourceFile]) -> (Document, Vec<Diagnostic>) {
    let mut parser = Parser {
        sources,
        library,
        document: Document::default(),
        diagnostics: Diagnostics::default(),
        open: Vec::new(),
    };
    for source in sources {
        parser.file(source);
    }
    (parser.document, parser.diagnostics.into_vec())
}

struct Parser<'a> {
    sources: &'a [SourceFile],
    library: &'a [SourceFile],
    document: Document,
    diagnostics: Diagnostics,
    /// Paths of the files being read, outermost first.
    open: Vec<String>,
}

impl Parser<'_> {
    fn file(&mut self, source: &SourceFile) {
        let file = match self.document.files.iter().position(|path| *path == source.path) {
            Some(index) => index,
            None => {
                self.document.files.push(source.path.clone());
                self.document.files.len() - 1
            }
        };
        self.open.push(source.path.clone());
        for line in logical_lines(&source.text, file as u32) {
            match split_arguments(&line) {
                Ok(arguments) => self.directive(arguments),
                Err(unclosed) => {
                    self.diagnostics.report(unclosed.0, "quote", "this quote is not closed");
                }
            }
        }
        self.open.pop();
    }

    fn directive(&mut self, arguments: Vec<Argument>) {
        let Some((name, arguments)) = arguments.split_first() else { return };
        let position = name.position();
        let Some(kind) = self.kind(name, arguments) else { return };
        self.document.directives.push(Directive { position, kind });
    }

    /// Reads one directive; `None` when it is an include or an error was reported.
    fn kind(&mut self, name: &Argument, arguments: &[Argument]) -> Option<DirectiveKind> {
        let lower = name.text.to_ascii_lowercase();
        let kind = match lower.as_str() {
            "secrule" => {
                self.expect(name, arguments, 2, 3)?;
                DirectiveKind::Rule(Rule {
                    targets: parse_targets(&arguments[0], false, &mut self.diagnostics),
                    operator: parse_operator(&arguments[1]),
                    actions: match arguments.get(2) {
                        Some(actions) => parse_actions(actions, &mut self.diagnostics),
                        None => Vec::new(),
                    },
                })
            }
            "secaction" => {
                self.expect(name, arguments, 1, 1)?;
                DirectiveKind::Action(parse_actions(&arguments[0], &mut self.diagnostics))
            }
            "secdefaultaction" => {
                self.expect(name, arguments, 1, 1)?;
                DirectiveKind::DefaultAction(parse_actions(&arguments[0], &mut self.diagnostics))
            }
            "secmarker" => {
                self.expect(name, arguments, 1, 1)?;
                DirectiveKind::Marker(arguments[0].text.clone())
            }
            "seccomponentsignature" => {
                self.expect(name, arguments, 1, 1)?;
                DirectiveKind::ComponentSignature(arguments[0].text.clone())
            }
            "secrulescript" => {
                self.expect(name, arguments, 1, 2)?;
                DirectiveKind::Script {
                    file: arguments[0].text.clone(),
                    actions: match arguments.get(1) {
                        Some(actions) => parse_actions(actions, &mut self.diagnostics),
                        None => Vec::new(),
                    },
                }
            }
            "secruleremovebyid" => {
                self.expect(name, arguments, 1, usize::MAX)?;
                DirectiveKind::Remove(Scope::Ids(self.ids(arguments)?))
            }
            "secruleremovebytag" => {
                self.expect(name, arguments, 1, 1)?;
                DirectiveKind::Remove(Scope::Tag(arguments[0].text.clone()))
            }
            "secruleremovebymsg" => {
                self.expect(name, arguments, 1, 1)?;
                DirectiveKind::Remove(Scope::Message(arguments[0].text.clone()))
            }
            "secruleupdatetargetbyid" | "secruleupdatetargetbytag" | "secruleupdatetargetbymsg" => {
                self.expect(name, arguments, 2, 3)?;
                let scope = match lower.as_str() {
                    "secruleupdatetargetbyid" => Scope::Ids(self.ids(&arguments[..1])?),
                    "secruleupdatetargetbytag" => Scope::Tag(arguments[0].text.clone()),
                    _ => Scope::Message(arguments[0].text.clone()),
                };
                DirectiveKind::UpdateTarget {
                    scope,
                    targets: parse_targets(&arguments[1], true, &mut self.diagnostics),
                    replaced: match arguments.get(2) {
                        Some(replaced) => parse_targets(replaced, true, &mut self.diagnostics),
                        None => Vec::new(),
                    },
                }
            }
            "secruleupdateactionbyid" => {
                self.expect(name, arguments, 2, 2)?;
                let (id, link) = match arguments[0].text.split_once(':') {
                    Some((id, link)) => (id.trim().parse().ok(), link.trim().parse().ok()),
                    None => (arguments[0].text.trim().parse().ok(), Some(0)),
                };
                let (Some(id), Some(link)) = (id, link) else {
                    self.diagnostics.report(
                        arguments[0].position(),
                        "id",
                        format!("`{}` is not a rule id", arguments[0].text),
                    );
                    return None;
                };
                DirectiveKind::UpdateAction {
                    id,
                    link,
                    actions: parse_actions(&arguments[1], &mut self.diagnostics),
                }
            }
            "include" | "includeoptional" => {
                self.expect(name, arguments, 1, 1)?;
                self.include(&arguments[0], lower == "includeoptional");
                return None;
            }
            _ => {
                let known =
                    KNOWN_SETTINGS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(&lower));
                let Some((known, least, most)) = known else {
                    self.unknown(name);
                    return None;
                };
                self.expect(name, arguments, *least, *most)?;
                DirectiveKind::Setting(Setting { name: known, arguments: arguments.to_vec() })
            }
        };
        Some(kind)
    }

    fn unknown(&mut self, name: &Argument) {
        let candidates =
            KNOWN_SETTINGS.iter().map(|(name, ..)| *name).chain(KNOWN_DIRECTIVES.iter().copied());
        let nearest = candidates
            .map(|candidate| {
                (
                    distance(&name.text.to_ascii_lowercase(), &candidate.to_ascii_lowercase()),
                    candidate,
                )
            })
            .min();
        let hint = match nearest {
            Some((distance, candidate)) if distance <= 3 => format!("; did you mean {candidate}?"),
            _ => String::new(),
        };
        self.diagnostics.report(
            name.position(),
            "unknown-directive",
            format!("unknown directive `{}`{hint}", name.text),
        );
    }

    fn expect(
        &mut self,
        name: &Argument,
        arguments: &[Argument],
        least: usize,
        most: usize,
    ) -> Option<()> {
        if (least..=most).contains(&arguments.len()) {
            return Some(());
        }
        let wanted = if least == most {
            format!("{least}")
        } else if most == usize::MAX {
            format!("at least {least}")
        } else {
            format!("{least} to {most}")
        };
        self.diagnostics.report(
            name.position(),
            "arguments",
            format!("{} takes {wanted} argument(s), {} given", name.text, arguments.len()),
        );
        None
    }

    /// Ids and ranges, separated by blanks or commas, over one or several arguments.
    fn ids(&mut self, arguments: &[Argument]) -> Option<Vec<IdRange>> {
        let mut ranges = Vec::new();
        for argument in arguments {
            for piece in argument.text.split([',', ' ', '\t']).filter(|piece| !piece.is_empty()) {
                match IdRange::parse(piece) {
                    Some(range) => ranges.push(range),
                    None => {
                        self.diagnostics.report(
                            argument.position(),
                            "id",
                            format!("`{piece}` is not a rule id or a range of ids"),
                        );
                        return None;
                    }
                }
            }
        }
        Some(ranges)
    }

    fn include(&mut self, name: &Argument, optional: bool) {
        let from = self.open.last().cloned().unwrap_or_default();
        let wanted =
            if name.text.starts_with('@') { name.text.clone() } else { resolve(&from, &name.text) };
        if self.open.len() >= INCLUDE_DEPTH {
            self.diagnostics.report(
                name.position(),
                "include",
                format!("includes nest deeper than {INCLUDE_DEPTH}"),
            );
            return;
        }
        let glob = is_glob(&wanted);
        let mut found: Vec<&SourceFile> = self
            .library
            .iter()
            .chain(self.sources)
            .filter(
                |file| {
                    if glob {
                        glob_matches(&wanted, &file.path)
                    } else {
                        file.path == wanted
                    }
                },
            )
            .collect();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found.dedup_by(|a, b| a.path == b.path);
        if found.is_empty() && !glob && !optional {
            self.diagnostics.report(name.position(), "include", format!("no file `{wanted}`"));
        }
        for file in found {
            if self.open.contains(&file.path) {
                self.diagnostics.report(
                    name.position(),
                    "include",
                    format!("`{}` includes itself", file.path),
                );
                continue;
            }
            self.file(file);
        }
    }
}

/// Edit distance, for suggestions.
fn distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(left != *right)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> (Document, Vec<Diagnostic>) {
        parse(&[SourceFile::new("a.conf", text)], &[])
    }

    #[test]
    fn reads_every_directive_kind() {
        let (document, errors) = parse_text(
            r#"
SecRuleEngine DetectionOnly
SecDefaultAction "phase:1,log,pass"
SecComponentSignature "X/1"
SecRule ARGS "@rx a" "id:1,deny"
SecAction "id:2,pass"
SecMarker "END"
secruleupdatetargetbyid 1 "!ARGS:a,!ARGS:b"
SecRuleUpdateTargetById 100-200 !ARGS_NAMES:json.profile
SecRuleUpdateTargetByTag "attack-.*" "!ARGS:x"
SecRuleUpdateActionById 1:2 "pass"
SecRuleRemoveById 5 7-9 "10,11"
SecRuleRemoveByTag x
SecRuleRemoveByMsg "y z"
SecResponseBodyMimeType text/plain text/html
"#,
        );
        assert_eq!(errors, []);
        assert_eq!(document.directives.len(), 14);
        let DirectiveKind::Remove(Scope::Ids(ids)) = &document.directives[10].kind else {
            panic!()
        };
        assert_eq!(ids.len(), 4);
    }

    #[test]
    fn reports_every_error_with_its_place() {
        let (_, errors) =
            parse_text("SecRul ARGS\nSecRule ARGS\n\nSecAction \"id:1\nSecRuleRemoveById x");
        let places: Vec<_> = errors.iter().map(|error| (error.position.line, error.code)).collect();
        assert_eq!(places, [(1, "unknown-directive"), (2, "arguments"), (4, "quote"), (5, "id")]);
        assert!(errors[0].message.contains("did you mean SecRule?"), "{}", errors[0].message);
    }

    #[test]
    fn includes_by_name_and_glob_in_order_of_names() {
        let library = [
            SourceFile::new("conf/rules/b.conf", "SecMarker B"),
            SourceFile::new("conf/rules/a.conf", "SecMarker A"),
            SourceFile::new("conf/rules/a.data", "x"),
            SourceFile::new("conf/one.conf", "SecMarker ONE"),
        ];
        let source = SourceFile::new(
            "conf/main.conf",
            "Include one.conf\nInclude rules/*.conf\nInclude none/*.conf",
        );
        let (document, errors) = parse(&[source], &library);
        assert_eq!(errors, []);
        let labels: Vec<_> = document
            .directives
            .iter()
            .map(|directive| match &directive.kind {
                DirectiveKind::Marker(label) => label.as_str(),
                _ => "",
            })
            .collect();
        assert_eq!(labels, ["ONE", "A", "B"]);
        assert_eq!(
            document.files[document.directives[1].position.file as usize],
            "conf/rules/a.conf"
        );
    }

    #[test]
    fn an_include_cannot_include_itself_and_must_exist() {
        let (_, errors) = parse_text("Include a.conf\nInclude b.conf\nIncludeOptional c.conf");
        let lines: Vec<_> = errors.iter().map(|error| error.position.line).collect();
        assert_eq!(lines, [1, 2]);
    }
}
