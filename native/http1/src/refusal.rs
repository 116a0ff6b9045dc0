//! Why bytes are not passed on: the list behind the reasons `bad_request:H-…` (O-59).

/// A request that ends here. Its connection is closed after the answer (H-121).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of the answer (H-84).
    pub status: u16,
    /// Rule behind it, as in `bad_request:H-20`.
    pub rule: &'static str,
    /// Text of the answer; never contains request bytes (H-86).
    pub text: &'static str,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({})", self.text, self.rule)
    }
}

impl std::error::Error for Refusal {}

macro_rules! refusals {
    ($($name:ident: $status:literal $rule:literal $text:literal;)*) => {
        $(pub(crate) const $name: Refusal = Refusal { status: $status, rule: $rule, text: $text };)*
    };
}

refusals! {
    BAD_REQUEST_LINE: 400 "H-01" "the request line is not method, target and version";
    MANY_EMPTY_LINES: 400 "H-01" "too many empty lines before the request";
    BARE_LF: 400 "H-02" "a line ends in a bare LF";
    BARE_CR: 400 "H-03" "a CR stands outside a line end";
    BAD_LINE: 400 "H-03" "a header name or value holds a byte that is not allowed there";
    BAD_NAME: 400 "H-04" "a header line does not begin with a name and a colon";
    FOLDED_LINE: 400 "H-05" "a header line is folded";
    BLANK_FIRST: 400 "H-06" "white space stands before the first header line";
    REPEATED: 400 "H-07" "a header that may appear once appears twice";
    BAD_VERSION: 400 "H-08" "the version of the protocol is not one";
    OTHER_VERSION: 505 "H-08" "the version of the protocol is not supported";
    BAD_METHOD: 400 "H-10" "the method is not a token";
    LONG_METHOD: 501 "H-10" "the method is too long";
    CONNECT_REFUSED: 501 "H-10" "CONNECT is not supported";
    TRACE_REFUSED: 405 "H-10" "the method is not allowed";
    BAD_FORM: 400 "H-11" "the request target has a form that is not allowed here";
    BAD_SCHEME: 400 "H-11" "the request target names another scheme than the listener's";
    BAD_AUTHORITY: 400 "H-11" "the authority of the request target is not a valid host";
    BAD_TARGET: 400 "H-12" "the request target holds a byte that is not allowed there";
    LONG_TARGET: 414 "H-13" "the request target is too long";
    LONG_HEAD: 431 "H-14" "the header section is too large";
    NO_HOST: 400 "H-15" "the Host header is missing";
    BAD_HOST: 400 "H-15" "the Host header is not a valid host";
    TWO_LENGTHS: 400 "H-20" "Content-Length and Transfer-Encoding exclude each other";
    BAD_CODING: 400 "H-21" "Transfer-Encoding must be exactly chunked";
    UNKNOWN_CODING: 501 "H-21" "the transfer coding is not supported";
    OLD_CODING: 400 "H-22" "HTTP/1.0 knows no Transfer-Encoding";
    BAD_LENGTH: 400 "H-23" "Content-Length must be one plain decimal number";
    BAD_CHUNK_SIZE: 400 "H-24" "a chunk size is not one";
    BAD_CHUNK_LINE: 400 "H-24" "a chunk size line does not end in CRLF";
    BAD_CHUNK_EXTENSION: 400 "H-24" "a chunk extension is not one";
    LONG_CHUNK_EXTENSION: 400 "H-24" "chunk extensions are too long";
    BAD_CHUNK_END: 400 "H-25" "chunk data does not end in CRLF";
    LONG_TRAILER: 431 "H-26" "the trailer section is too large";
    LONG_BODY: 413 "H-36" "the request body is too large";
    BAD_CONNECTION: 400 "H-50" "the Connection header is not a list of names";
    CONNECTION_ABUSE: 400 "H-52" "Connection names a header that it may not remove";
    UPGRADE_REFUSED: 501 "H-60" "connections are upgraded to WebSockets only";
    BAD_EXPECTATION: 417 "H-61" "the expectation cannot be met";
    WEB_SOCKET_METHOD: 400 "H-90" "a WebSocket is asked for with GET and without a body";
    WEB_SOCKET_VERSION: 426 "H-90" "the version of WebSockets is 13";
    WEB_SOCKET_KEY: 400 "H-90" "Sec-WebSocket-Key must be 16 bytes in base64, once";
    WEB_SOCKET_PROTOCOL: 400 "H-90" "Sec-WebSocket-Protocol must be a list of different names";
}
