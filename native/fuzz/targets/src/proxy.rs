//! PROXY protocol headers.

use sallyport_http1::proxy::read_proxy_header;

pub(crate) const SEEDS: &[&[u8]] = &[
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET",
    b"PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 1 65535\r\n",
    b"PROXY UNKNOWN x y\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x1f\x90\0\x50GET",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\x01\x02\x03\x04\x05\x06\x07\x08\x1f\x90\0\x50\x01\0\x02h2",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
];

/// The first decision that bytes allow stays, whatever comes behind them.
pub fn proxy_header(input: &[u8]) {
    let whole = read_proxy_header(input);
    let first = (0..=input.len())
        .map(|end| read_proxy_header(&input[..end]))
        .find(|read| !matches!(read, Ok(None)))
        .unwrap_or(Ok(None));
    assert_eq!(first, whole, "pieces make a difference");
    if let Ok(Some(header)) = whole {
        assert!(header.consumed <= input.len().min(16 + 4096));
    } else if whole == Ok(None) {
        assert!(input.len() < 16 + 4096, "what waits is bounded");
    }
}
