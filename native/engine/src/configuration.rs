//! Engine settings around the rules.
//!
//! Source: `seclang.md` section 11; defaults are those of ModSecurity's recommended configuration, except that the engine
//! is on when nothing says otherwise and a body over the limit is inspected in part.

use std::sync::Arc;

use sallyport_seclang::{Diagnostics, Setting};

use crate::transformation::UnicodeMap;

/// What `SecRuleEngine` or `ctl:ruleEngine` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineMode {
    /// Rules run and interrupt.
    On,
    /// Rules run and are logged; nothing interrupts.
    DetectionOnly,
    /// Rules do not run.
    Off,
}

impl EngineMode {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "on" => EngineMode::On,
            "off" => EngineMode::Off,
            "detectiononly" => EngineMode::DetectionOnly,
            _ => return None,
        })
    }
}

/// What happens to a body over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitAction {
    /// The exchange is stopped (413 for requests, 500 for responses).
    Reject,
    /// The first part is inspected.
    ProcessPartial,
}

/// Engine settings of a rule set.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// `SecRuleEngine`
    pub engine: EngineMode,
    /// `SecRequestBodyAccess`
    pub request_body_access: bool,
    /// `SecRequestBodyLimit`, bytes
    pub request_body_limit: usize,
    /// `SecRequestBodyLimitAction`
    pub request_body_limit_action: LimitAction,
    /// `SecRequestBodyNoFilesLimit`, bytes outside of file parts
    pub request_body_no_files_limit: usize,
    /// `SecRequestBodyJsonDepthLimit`
    pub json_depth_limit: usize,
    /// `SecArgumentsLimit`
    pub arguments_limit: usize,
    /// `SecUploadFileLimit`
    pub upload_file_limit: usize,
    /// `SecResponseBodyAccess`
    pub response_body_access: bool,
    /// `SecResponseBodyLimit`, bytes
    pub response_body_limit: usize,
    /// `SecResponseBodyLimitAction`
    pub response_body_limit_action: LimitAction,
    /// `SecResponseBodyMimeType`, lower case
    pub response_body_mime_types: Vec<String>,
    /// `SecArgumentSeparator`
    pub argument_separator: u8,
    /// `SecCollectionTimeout`, seconds
    pub collection_timeout_s: u64,
    /// `SecComponentSignature`
    pub component_signatures: Vec<String>,
    /// The code-page map of `SecUnicodeMapFile`
    pub unicode_map: Option<Arc<UnicodeMap>>,
}

impl Default for Configuration {
    fn default() -> Self {
        Configuration {
            engine: EngineMode::On,
            request_body_access: true,
            request_body_limit: 13_107_200,
            request_body_limit_action: LimitAction::ProcessPartial,
            request_body_no_files_limit: 13_107_200,
            json_depth_limit: 512,
            arguments_limit: 1000,
            upload_file_limit: 100,
            response_body_access: true,
            response_body_limit: 1_048_576,
            response_body_limit_action: LimitAction::ProcessPartial,
            response_body_mime_types: default_mime_types(),
            argument_separator: b'&',
            collection_timeout_s: 3600,
            component_signatures: Vec::new(),
            unicode_map: None,
        }
    }
}

fn default_mime_types() -> Vec<String> {
    ["text/plain", "text/html", "text/xml", "application/json"].map(String::from).to_vec()
}

/// Loads a data file by the name that a directive in the given file uses.
pub(crate) type DataLoader<'a> = dyn Fn(&str) -> Result<Vec<u8>, String> + 'a;

impl Configuration {
    /// Takes one setting over.
    pub(crate) fn apply(
        &mut self,
        setting: &Setting,
        load: &DataLoader<'_>,
        diagnostics: &mut Diagnostics,
    ) {
        let first = setting.arguments.first();
        let value = first.map_or("", |argument| argument.text.as_str());
        let position = first.map(sallyport_seclang::Argument::position).unwrap_or_default();
        let mut wrong = |wanted: &str| {
            diagnostics.report(
                position,
                "setting",
                format!("{} takes {wanted}, not `{value}`", setting.name),
            );
        };
        let switch = || match value.to_ascii_lowercase().as_str() {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        };
        let number = || value.parse::<usize>().ok();
        let limit_action = || match value.to_ascii_lowercase().as_str() {
            "reject" => Some(LimitAction::Reject),
            "processpartial" => Some(LimitAction::ProcessPartial),
            _ => None,
        };
        macro_rules! set {
            ($field:ident, $value:expr, $wanted:expr) => {
                match $value {
                    Some(value) => self.$field = value,
                    None => wrong($wanted),
                }
            };
        }
        match setting.name {
            "SecRuleEngine" => set!(engine, EngineMode::parse(value), "On, Off or DetectionOnly"),
            "SecRequestBodyAccess" => set!(request_body_access, switch(), "On or Off"),
            "SecResponseBodyAccess" => set!(response_body_access, switch(), "On or Off"),
            "SecRequestBodyLimit" => set!(request_body_limit, number(), "a number of bytes"),
            "SecResponseBodyLimit" => set!(response_body_limit, number(), "a number of bytes"),
            "SecRequestBodyNoFilesLimit" => {
                set!(request_body_no_files_limit, number(), "a number of bytes")
            }
            "SecRequestBodyLimitAction" => {
                set!(request_body_limit_action, limit_action(), "Reject or ProcessPartial")
            }
            "SecResponseBodyLimitAction" => {
                set!(response_body_limit_action, limit_action(), "Reject or ProcessPartial")
            }
            "SecRequestBodyJsonDepthLimit" => set!(json_depth_limit, number(), "a number"),
            "SecArgumentsLimit" => set!(arguments_limit, number(), "a number"),
            "SecUploadFileLimit" => set!(upload_file_limit, number(), "a number"),
            "SecCollectionTimeout" => {
                set!(collection_timeout_s, value.parse().ok(), "a number of seconds")
            }
            "SecArgumentSeparator" => match value.as_bytes() {
                [separator] => self.argument_separator = *separator,
                _ => wrong("one character"),
            },
            "SecCookieFormat" if value != "0" => {
                wrong("0 (version 1 cookies are not supported)");
            }
            "SecResponseBodyMimeType" => {
                self.response_body_mime_types =
                    setting.arguments.iter().map(|argument| argument.text.to_lowercase()).collect();
            }
            "SecResponseBodyMimeTypesClear" => self.response_body_mime_types.clear(),
            "SecUnicodeMapFile" => self.unicode_map_file(setting, load, diagnostics),
            // Logging, storage and matching limits of other engines: read and of no effect here. What is logged is the
            // caller's business, nothing is stored on disk, and the regular expressions run in linear time.
            _ => {}
        }
    }

    fn unicode_map_file(
        &mut self,
        setting: &Setting,
        load: &DataLoader<'_>,
        diagnostics: &mut Diagnostics,
    ) {
        let Some(name) = setting.arguments.first() else { return };
        let page = match setting.arguments.get(1).map(|page| (page, page.text.parse::<u32>())) {
            None => 20127,
            Some((_, Ok(page))) => page,
            Some((page, Err(_))) => {
                diagnostics.report(page.position(), "setting", "a code page number is expected");
                return;
            }
        };
        let file_name = name.text.rsplit('/').next().unwrap_or("");
        let map = match load(&name.text) {
            Ok(bytes) => String::from_utf8(bytes)
                .map_err(|error| error.to_string())
                .and_then(|text| UnicodeMap::parse(&text, page)),
            // The page that every configuration names is built in.
            Err(_) if page == 20127 && file_name == "unicode.mapping" => {
                self.unicode_map = Some(UnicodeMap::us_ascii());
                return;
            }
            Err(reason) => Err(reason),
        };
        match map {
            Ok(map) => self.unicode_map = Some(Arc::new(map)),
            Err(reason) => {
                diagnostics.report(
                    name.position(),
                    "unicode-map",
                    format!("{}: {reason}", name.text),
                );
            }
        }
    }
}
