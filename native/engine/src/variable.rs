//! The variables that rules can name.
//!
//! Source: `seclang.md` section 4.

macro_rules! variables {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $shape:ident;)*) => {
        /// A variable.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        pub(crate) enum Variable {
            $($(#[$doc])* $variant,)*
        }

        impl Variable {
            /// Finds a variable by name, ignoring case.
            pub(crate) fn from_name(name: &str) -> Option<Self> {
                $(if name.eq_ignore_ascii_case($name) { return Some(Variable::$variant); })*
                None
            }

            /// The name in its usual spelling.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Variable::$variant => $name,)*
                }
            }

            /// Whether it holds named members.
            pub(crate) fn is_collection(self) -> bool {
                match self {
                    $(Variable::$variant => variables!(@$shape),)*
                }
            }
        }
    };
    (@collection) => { true };
    (@scalar) => { false };
}

variables! {
    Args = "ARGS", collection;
    ArgsGet = "ARGS_GET", collection;
    ArgsPost = "ARGS_POST", collection;
    ArgsNames = "ARGS_NAMES", collection;
    ArgsGetNames = "ARGS_GET_NAMES", collection;
    ArgsPostNames = "ARGS_POST_NAMES", collection;
    ArgsCombinedSize = "ARGS_COMBINED_SIZE", scalar;
    AuthType = "AUTH_TYPE", scalar;
    Duration = "DURATION", scalar;
    Env = "ENV", collection;
    Files = "FILES", collection;
    FilesCombinedSize = "FILES_COMBINED_SIZE", scalar;
    FilesNames = "FILES_NAMES", collection;
    FilesSizes = "FILES_SIZES", collection;
    FullRequestLength = "FULL_REQUEST_LENGTH", scalar;
    Global = "GLOBAL", collection;
    InboundDataError = "INBOUND_DATA_ERROR", scalar;
    Ip = "IP", collection;
    MatchedVar = "MATCHED_VAR", scalar;
    MatchedVarName = "MATCHED_VAR_NAME", scalar;
    MatchedVars = "MATCHED_VARS", collection;
    MatchedVarsNames = "MATCHED_VARS_NAMES", collection;
    ModsecBuild = "MODSEC_BUILD", scalar;
    MultipartBoundaryQuoted = "MULTIPART_BOUNDARY_QUOTED", scalar;
    MultipartBoundaryWhitespace = "MULTIPART_BOUNDARY_WHITESPACE", scalar;
    MultipartCrlfLfLines = "MULTIPART_CRLF_LF_LINES", scalar;
    MultipartDataAfter = "MULTIPART_DATA_AFTER", scalar;
    MultipartDataBefore = "MULTIPART_DATA_BEFORE", scalar;
    MultipartFileLimitExceeded = "MULTIPART_FILE_LIMIT_EXCEEDED", scalar;
    MultipartFilename = "MULTIPART_FILENAME", collection;
    MultipartHeaderFolding = "MULTIPART_HEADER_FOLDING", scalar;
    MultipartInvalidHeaderFolding = "MULTIPART_INVALID_HEADER_FOLDING", scalar;
    MultipartInvalidPart = "MULTIPART_INVALID_PART", scalar;
    MultipartInvalidQuoting = "MULTIPART_INVALID_QUOTING", scalar;
    MultipartLfLine = "MULTIPART_LF_LINE", scalar;
    MultipartMissingSemicolon = "MULTIPART_MISSING_SEMICOLON", scalar;
    MultipartName = "MULTIPART_NAME", collection;
    MultipartPartHeaders = "MULTIPART_PART_HEADERS", collection;
    MultipartStrictError = "MULTIPART_STRICT_ERROR", scalar;
    MultipartUnmatchedBoundary = "MULTIPART_UNMATCHED_BOUNDARY", scalar;
    OutboundDataError = "OUTBOUND_DATA_ERROR", scalar;
    QueryString = "QUERY_STRING", scalar;
    RemoteAddr = "REMOTE_ADDR", scalar;
    RemoteHost = "REMOTE_HOST", scalar;
    RemotePort = "REMOTE_PORT", scalar;
    ReqbodyError = "REQBODY_ERROR", scalar;
    ReqbodyErrorMsg = "REQBODY_ERROR_MSG", scalar;
    ReqbodyProcessor = "REQBODY_PROCESSOR", scalar;
    ReqbodyProcessorError = "REQBODY_PROCESSOR_ERROR", scalar;
    ReqbodyProcessorErrorMsg = "REQBODY_PROCESSOR_ERROR_MSG", scalar;
    RequestBasename = "REQUEST_BASENAME", scalar;
    RequestBody = "REQUEST_BODY", scalar;
    RequestBodyLength = "REQUEST_BODY_LENGTH", scalar;
    RequestCookies = "REQUEST_COOKIES", collection;
    RequestCookiesNames = "REQUEST_COOKIES_NAMES", collection;
    RequestFilename = "REQUEST_FILENAME", scalar;
    RequestHeaders = "REQUEST_HEADERS", collection;
    RequestHeadersNames = "REQUEST_HEADERS_NAMES", collection;
    RequestLine = "REQUEST_LINE", scalar;
    RequestMethod = "REQUEST_METHOD", scalar;
    RequestProtocol = "REQUEST_PROTOCOL", scalar;
    RequestUri = "REQUEST_URI", scalar;
    RequestUriRaw = "REQUEST_URI_RAW", scalar;
    Resource = "RESOURCE", collection;
    ResponseBody = "RESPONSE_BODY", scalar;
    ResponseContentLength = "RESPONSE_CONTENT_LENGTH", scalar;
    ResponseContentType = "RESPONSE_CONTENT_TYPE", scalar;
    ResponseHeaders = "RESPONSE_HEADERS", collection;
    ResponseHeadersNames = "RESPONSE_HEADERS_NAMES", collection;
    ResponseProtocol = "RESPONSE_PROTOCOL", scalar;
    ResponseStatus = "RESPONSE_STATUS", scalar;
    Rule = "RULE", collection;
    ServerAddr = "SERVER_ADDR", scalar;
    ServerName = "SERVER_NAME", scalar;
    ServerPort = "SERVER_PORT", scalar;
    Session = "SESSION", collection;
    TimeEpoch = "TIME_EPOCH", scalar;
    Tx = "TX", collection;
    UniqueId = "UNIQUE_ID", scalar;
    UrlencodedError = "URLENCODED_ERROR", scalar;
    User = "USER", collection;
    Xml = "XML", collection;
}

/// Variables of SecLang that this engine knows of and does not provide.
const UNSUPPORTED: &[&str] = &[
    "FILES_TMPNAMES",
    "FILES_TMP_CONTENT",
    "FULL_REQUEST",
    "GEO",
    "HIGHEST_SEVERITY",
    "PATH_INFO",
    "PERF_ALL",
    "REMOTE_USER",
    "REQUEST_USER",
    "SCRIPT_BASENAME",
    "SCRIPT_FILENAME",
    "SDBM_DELETE_ERROR",
    "SESSIONID",
    "STATUS_LINE",
    "STREAM_INPUT_BODY",
    "STREAM_OUTPUT_BODY",
    "TIME",
    "TIME_DAY",
    "TIME_HOUR",
    "TIME_MIN",
    "TIME_MON",
    "TIME_SEC",
    "TIME_WDAY",
    "TIME_YEAR",
    "USERAGENT_IP",
    "USERID",
    "WEBAPPID",
    "WEBSERVER_ERROR_LOG",
];

/// Whether SecLang has a variable of this name that is not provided here.
pub(crate) fn is_unsupported_variable(name: &str) -> bool {
    UNSUPPORTED.iter().any(|known| known.eq_ignore_ascii_case(name))
}

impl Variable {
    /// Whether it is a collection that outlives the transaction.
    pub(crate) fn is_persistent(self) -> bool {
        use Variable::{Global, Ip, Resource, Session, User};
        matches!(self, Global | Ip | Resource | Session | User)
    }

    /// Whether it tells what rules have matched on.
    pub(crate) fn is_of_hits(self) -> bool {
        use Variable::{MatchedVar, MatchedVarName, MatchedVars, MatchedVarsNames};
        matches!(self, MatchedVar | MatchedVarName | MatchedVars | MatchedVarsNames)
    }

    /// Whether its members can change while a phase runs, so that they must be read anew for every link.
    pub(crate) fn is_volatile(self) -> bool {
        use Variable::{
            Duration, Env, MatchedVar, MatchedVarName, MatchedVars, MatchedVarsNames, Rule, Tx,
        };
        self.is_persistent()
            || matches!(
                self,
                Duration
                    | Env
                    | MatchedVar
                    | MatchedVarName
                    | MatchedVars
                    | MatchedVarsNames
                    | Rule
                    | Tx
                    | Variable::ReqbodyProcessor
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_regard_to_case() {
        assert_eq!(Variable::from_name("args_names"), Some(Variable::ArgsNames));
        assert_eq!(Variable::from_name("ARGZ"), None);
        assert!(is_unsupported_variable("geo"));
        assert!(Variable::Tx.is_collection());
        assert!(!Variable::RequestLine.is_collection());
        assert_eq!(Variable::Xml.name(), "XML");
    }
}
