//! PROXY protocol headers: both versions, any pieces, everything that is none.

use sallyport_http1::proxy::{read_proxy_header, ProxyFault, ProxyHeader};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the first decision is when bytes come one by one; it must be that of all of them.
fn read(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyFault> {
    let whole = read_proxy_header(bytes);
    let single = (0..=bytes.len())
        .map(|end| read_proxy_header(&bytes[..end]))
        .find(|read| !matches!(read, Ok(None)))
        .unwrap_or(Ok(None));
    assert_eq!(single, whole, "{bytes:?}");
    whole
}

/// Source and destination, bytes that were read.
fn good(bytes: &[u8]) -> (Option<(String, String)>, usize) {
    let mut with_more = bytes.to_vec();
    with_more.extend_from_slice(b"GET / HTTP/1.1\r\n");
    let header =
        read(&with_more).unwrap_or_else(|fault| panic!("{bytes:?}: {fault}")).expect("complete");
    let addresses =
        header.addresses.map(|found| (found.source.to_string(), found.destination.to_string()));
    (addresses, header.consumed)
}

fn block(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

fn pair(source: &str, destination: &str) -> Option<(String, String)> {
    Some((source.to_owned(), destination.to_owned()))
}

#[test]
fn version_1() {
    let text = b"PROXY TCP4 192.168.0.1 10.0.0.2 56324 443\r\n";
    assert_eq!(good(text), (pair("192.168.0.1:56324", "10.0.0.2:443"), text.len()));
    let text = b"PROXY TCP6 2001:DB8::1 ::1 1 65535\r\n";
    assert_eq!(good(text), (pair("[2001:db8::1]:1", "[::1]:65535"), text.len()));
    assert_eq!(
        good(b"PROXY TCP6 ::ffff:1.2.3.4 ::ffff:5.6.7.8 0 1\r\n").0,
        pair("1.2.3.4:0", "5.6.7.8:1")
    );
    assert_eq!(good(b"PROXY UNKNOWN\r\n"), (None, 15));
    assert_eq!(good(b"PROXY UNKNOWN ffff::1 what ever\r\n").0, None);
    let longest =
        b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(good(longest), (None, 107));
}

#[test]
fn version_1_that_is_none() {
    for text in [
        "GET / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\n",
        "proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXYTCP4",
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n",
        "PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 -1 1\r\n",
        "PROXY TCP4 1.1.1.01 1.1.1.1 1 1\r\n",
        "PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
        "PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n",
        "PROXY TCP4 1.1.1.1\t1.1.1.1 1 1\r\n",
    ] {
        assert!(read(text.as_bytes()).is_err(), "{text:?}");
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "a".repeat(92));
    assert_eq!(long.len(), 108);
    assert!(read(long.as_bytes()).is_err());
    assert_eq!(read(b"PROXY TCP4 1.1.1.1 1.1"), Ok(None));
    assert_eq!(read(b""), Ok(None));
}

#[test]
fn version_2() {
    let four = [1, 2, 3, 4, 5, 6, 7, 8, 0x1f, 0x90, 0, 80];
    assert_eq!(good(&block(0x21, 0x11, &four)), (pair("1.2.3.4:8080", "5.6.7.8:80"), 28));
    let mut six = [0u8; 36];
    (six[0], six[1], six[15], six[31], six[33], six[35]) = (0x20, 1, 9, 1, 7, 8);
    assert_eq!(good(&block(0x21, 0x21, &six)), (pair("[2001::9]:7", "[::1]:8"), 52));
    // Fields behind the addresses are walked over.
    let fields = [&four[..], &[0x01, 0, 2, b'h', b'2', 0x04, 0, 0, 0xee, 0, 1, 9]].concat();
    assert_eq!(good(&block(0x21, 0x11, &fields)), (pair("1.2.3.4:8080", "5.6.7.8:80"), 40));
    // Nobody in particular: the sender itself, no addresses, sockets of a machine, datagrams.
    assert_eq!(good(&block(0x20, 0x00, b"")), (None, 16));
    assert_eq!(good(&block(0x20, 0x11, b"x")).0, None);
    assert_eq!(good(&block(0x20, 0x77, b"xyz")), (None, 19));
    assert_eq!(good(&block(0x21, 0x00, b"")).0, None);
    assert_eq!(good(&block(0x21, 0x31, &[0; 216])).0, None);
    assert_eq!(good(&block(0x21, 0x12, &four)).0, None);
    let most = [&four[..], &[0xee, 0x0f, 0xf1], &[0; 4081]].concat();
    assert_eq!(good(&block(0x21, 0x11, &most)).1, 16 + 4096);
}

#[test]
fn version_2_that_is_none() {
    let four = [1, 2, 3, 4, 5, 6, 7, 8, 0x1f, 0x90, 0, 80];
    for bytes in [
        b"\r\n\r\nGET / HTTP/1.1\r\n".to_vec(),
        b"\x16\x03\x01".to_vec(),
        block(0x11, 0x11, &four),
        block(0x31, 0x11, &four),
        block(0x22, 0x11, &four),
        block(0x2f, 0x11, &four),
        block(0x21, 0x13, &four),
        block(0x21, 0x41, &four),
        block(0x21, 0x01, &four),
        block(0x21, 0x11, &four[..11]),
        block(0x21, 0x21, &four),
        block(0x21, 0x11, &[&four[..], &[1]].concat()),
        block(0x21, 0x11, &[&four[..], &[1, 0, 2, 3]].concat()),
        block(0x21, 0x11, &[&four[..], &[3, 0, 2, 3, 3]].concat()),
        block(0x21, 0x11, &[&four[..], &[0; 4096 - 11]].concat()),
    ] {
        assert!(read(&bytes).is_err(), "{bytes:?}");
    }
    let whole = block(0x21, 0x11, &four);
    for end in 0..whole.len() {
        assert_eq!(read(&whole[..end]), Ok(None));
    }
}

#[test]
fn version_2_checksums() {
    let four = [127, 0, 0, 1, 127, 0, 0, 1, 0x30, 0x39, 0x1f, 0x90];
    let with_sum = |sum: [u8; 4]| block(0x21, 0x11, &[&four[..], &[3, 0, 4], &sum].concat());
    let mut right = None;
    // Independent of the code under test: the sum by long division over the bits, most significant first.
    let message = with_sum([0; 4]);
    let mut remainder: u64 = 0;
    let bits = message.iter().flat_map(|byte| (0..8).map(move |bit| u64::from(byte >> bit & 1)));
    for (at, bit) in bits.chain(std::iter::repeat_n(0, 32)).enumerate() {
        let bit = if at < 32 { bit ^ 1 } else { bit };
        remainder = remainder << 1 | bit;
        if remainder >> 32 == 1 {
            remainder ^= 0x1_1edc_6f41;
        }
    }
    let sum = (remainder as u32 ^ u32::MAX).reverse_bits();
    if let Ok(Some(header)) = read(&with_sum(sum.to_be_bytes())) {
        right = header.addresses;
    }
    assert_eq!(right.map(|found| found.source.to_string()), Some("127.0.0.1:12345".to_owned()));
    assert!(read(&with_sum((sum ^ 1).to_be_bytes())).is_err());
}
