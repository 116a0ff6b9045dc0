//! Where our reader and Node's decide differently, and why: every difference that is found must be one of these.

/// We refuse by this rule what Node takes.
pub const STRICTER: &[(&str, &str)] = &[
    ("H-01", "a leading blank or tab in lines that Node skips over; more than eight empty lines"),
    ("H-02", "Node takes a bare LF before the request line for an empty line"),
    ("H-03", "Node takes a bare CR before the request line for a part of an empty line"),
    ("H-07", "Node keeps the first Content-Type, Authorization or Expect of several, we take none of them"),
    ("H-08", "Node takes HTTP/0.9 and HTTP/2.0 in a request line"),
    ("H-10", "TRACE and CONNECT are methods that we do not serve"),
    ("H-11", "Node hands forms of targets on to its user: an authority, a star, another scheme, user information"),
    ("H-12", "Node hands backslash, `#` and bytes from 0x80 in targets on to its user"),
    ("H-14", "Node counts all header bytes together and has no limit for one line; ours is 32 KiB, and 200 fields"),
    ("H-15", "Node does not look at what Host says"),
    ("H-21", "Node takes other codings before chunked, and leaves them to its user"),
    ("H-22", "Node takes chunks in HTTP/1.0"),
    ("H-23", "Node takes lengths of more than 16 digits"),
    ("H-24", "Node takes sizes of more than 16 digits with leading zeros; our extensions are bounded more closely"),
    ("H-26", "Node has other limits for trailers"),
    ("H-50", "Node does not look at Connection as a list of names"),
    ("H-52", "Node knows no fields that Connection may not name"),
    ("H-60", "Node leaves upgrades to its user"),
    ("H-61", "Node leaves unknown expectations to its user"),
    ("H-90", "Node leaves the handshake of WebSockets to its user"),
];

/// Node refuses with this code what we take.
pub const LOOSER: &[(&str, &str)] = &[
    ("HPE_INVALID_METHOD", "Node has a closed list of methods; ours are any token of 32 bytes (H-10)"),
    ("HPE_INVALID_CONSTANT", "Node's list of methods again: the beginning of a known one"),
    ("HPE_INVALID_VERSION", "HTTP/1.2 and above are 1.1 for us (H-08)"),
    ("HPE_INVALID_URL", "Node's own check of targets: no bytes from 0x80 in queries, stricter absolute forms (H-12)"),
    (
        "HPE_INVALID_CONTENT_LENGTH",
        "Node looks at a length when its line ends, we at the end of the head, which had not come (T-28)",
    ),
    ("HPE_INVALID_TRANSFER_ENCODING", "the same of codings"),
    ("waits for HTTP/2", "PRI may be the beginning of HTTP/2's preface for Node; here it is a token as any other (H-10)"),
    ("HPE_STRICT", "blanks around the `=` of a chunk extension, which the grammar has (RFC 9112 §7.1.1)"),
    ("HPE_INVALID_CHUNK_SIZE", "the same, as later versions of Node call it"),
    ("HPE_INVALID_EOF_STATE", "the end of the bytes, inside a message: ours waits"),
];

/// Both take it, and read something else: method, target, fields or body.
pub const OTHERWISE: &[(&str, &str)] = &[];
