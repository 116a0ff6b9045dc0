//! Both sides against each other, in memory.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use sallyport_tls::{
    Authorities, ClientContext, ClientHello, ClientOptions, Fault, FaultKind, Hello, ServerContext,
    ServerHost, Session, Strategy, TicketSecret, Version,
};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority")
}

/// Certificate and key, PEM.
fn leaf(names: &[&str], issuer: &Issuer) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(names).expect("params");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer).expect("certificate");
    (certificate.pem(), key.serialize_pem())
}

fn host(names: &[&str], issuer: &Issuer) -> ServerHost {
    let (chain, key) = leaf(names, issuer);
    ServerHost {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        chain,
        key,
        min: Version::Tls12,
        max: Version::Tls13,
        ciphers: Vec::new(),
        clients: None,
    }
}

fn server(hosts: Vec<ServerHost>) -> ServerContext {
    ServerContext::new(hosts, &[b"h2".to_vec(), b"http/1.1".to_vec()]).expect("a context")
}

fn client(authorities: Option<&str>) -> ClientContext {
    let authorities = authorities.map(|text| Authorities::from_pem(text).expect("authorities"));
    let options = ClientOptions { authorities, alpn: vec![b"http/1.1".to_vec()] };
    ClientContext::new(options).expect("a context")
}

/// What one session has to say goes to the other, in pieces of at most so many bytes; returns the plaintext.
fn carry(from: &mut Session, to: &mut Session, piece: usize) -> Result<Vec<u8>, Fault> {
    let mut plain = Vec::new();
    let bytes = from.outgoing().to_vec();
    from.sent(bytes.len());
    let mut space = vec![0; 256 * 1024];
    for part in bytes.chunks(piece) {
        let kept = to.copy_partial(&mut space);
        space[kept..kept + part.len()].copy_from_slice(part);
        to.receive(&mut space[..kept + part.len()], &mut plain)?;
    }
    Ok(plain)
}

/// Until nobody has anything to say; plaintext as (server got, client got).
fn talk(
    client: &mut Session,
    server: &mut Session,
    piece: usize,
) -> Result<(Vec<u8>, Vec<u8>), Fault> {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    while !client.outgoing().is_empty() || !server.outgoing().is_empty() {
        up.extend(carry(client, server, piece)?);
        down.extend(carry(server, client, piece)?);
    }
    Ok((up, down))
}

fn shake(
    client: &ClientContext,
    server: &ServerContext,
    name: &str,
) -> Result<(Session, Session), Fault> {
    let mut left = client.connect(name).expect("a session");
    let mut right = Session::server(server);
    talk(&mut left, &mut right, usize::MAX)?;
    assert!(!left.is_handshaking() && !right.is_handshaking());
    Ok((left, right))
}

fn failure(client: &ClientContext, server: &ServerContext, name: &str) -> Fault {
    shake(client, server, name).err().expect("a fault")
}

#[test]
fn both_versions_whole_and_byte_by_byte() {
    let ca = authority("ca");
    for (min, max, number) in [
        (Version::Tls12, Version::Tls12, 0x0303),
        (Version::Tls13, Version::Tls13, 0x0304),
        (Version::Tls12, Version::Tls13, 0x0304),
    ] {
        let context = server(vec![ServerHost { min, max, ..host(&["a.test"], &ca) }]);
        for piece in [1, 7, 1_000, usize::MAX] {
            let mut left = client(Some(&ca.pem())).connect("a.test").expect("a session");
            let mut right = Session::server(&context);
            talk(&mut left, &mut right, piece).expect("a handshake");
            left.write(b"question").expect("written");
            right.write(b"answer").expect("written");
            let got = talk(&mut left, &mut right, piece).expect("data");
            assert_eq!(got, (b"question".to_vec(), b"answer".to_vec()));
            assert_eq!(right.facts().version, number);
            assert_eq!(right.facts().alpn, b"http/1.1");
            assert_eq!(right.facts().server_name, "a.test");
            assert_eq!(left.partial_bytes() + right.partial_bytes(), 0, "nothing is kept");
        }
    }
}

#[test]
fn a_megabyte_each_way_and_never_more_plaintext_than_bytes() {
    let ca = authority("ca");
    let (mut left, mut right) =
        shake(&client(Some(&ca.pem())), &server(vec![host(&["a.test"], &ca)]), "a.test")
            .expect("a handshake");
    let body: Vec<u8> = (0..1_000_000u32).map(|at| at as u8).collect();
    left.write(&body).expect("written");
    let mut plain = Vec::new();
    let mut space = vec![0; 96 * 1024];
    let bytes = left.outgoing().to_vec();
    left.sent(bytes.len());
    for part in bytes.chunks(40_000) {
        let kept = right.copy_partial(&mut space);
        assert!(kept <= sallyport_tls::MAX_RECORD_BYTES);
        space[kept..kept + part.len()].copy_from_slice(part);
        let before = plain.len();
        right.receive(&mut space[..kept + part.len()], &mut plain).expect("data");
        assert!(plain.len() - before <= kept + part.len());
    }
    assert!(plain == body);
}

#[test]
fn the_name_asked_for_decides_rfc_6066_3() {
    let ca = authority("ca");
    let names: [&[&str]; 4] =
        [&["first.test"], &["b.test", "c.test"], &["*.wild.test"], &["x.wild.test"]];
    let context = server(names.iter().map(|names| host(names, &ca)).collect());
    let trusting = client(None);
    for (name, place) in [
        ("first.test", 0),
        ("c.test", 1),
        ("C.TEST", 1),
        ("y.wild.test", 2),
        ("x.wild.test", 3),
        ("z.y.wild.test", 0),
        ("wild.test", 0),
        ("other.test", 0),
        ("127.0.0.1", 0),
    ] {
        let (_, right) = shake(&trusting, &context, name).expect("a handshake");
        assert_eq!(right.facts().host, place, "{name}");
    }
    let (_, right) = shake(&trusting, &context, "127.0.0.1").expect("a handshake");
    assert_eq!(right.facts().server_name, "", "an address is not sent as a name");
}

#[test]
fn h_56_whom_a_client_trusts() {
    let (ca, other) = (authority("ca"), authority("other"));
    let context = server(vec![host(&["a.test", "127.0.0.1"], &ca)]);
    let trusting = client(Some(&ca.pem()));
    shake(&trusting, &context, "a.test").expect("authority and name are right");
    shake(&trusting, &context, "127.0.0.1").expect("an address among its names");
    let both = format!("{}{}", other.pem(), ca.pem());
    shake(&client(Some(&both)), &context, "a.test").expect("one of two");
    shake(&client(None), &context, "b.test").expect("not verified");
    for fault in [
        failure(&client(Some(&other.pem())), &context, "a.test"),
        failure(&trusting, &context, "b.test"),
        failure(&trusting, &context, "127.0.0.2"),
    ] {
        assert_eq!(fault.kind, FaultKind::Untrusted, "{fault}");
    }
    assert!(Authorities::from_pem("nothing").is_err());
}

#[test]
fn a_certificate_that_is_trusted_itself_though_it_may_sign_others() {
    let made = |name: &str| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("made")
    };
    let own = made("up.test");
    let shown = ServerHost {
        chain: own.pem(),
        key: own.key().serialize_pem(),
        ..host(&["up.test"], &authority("unused"))
    };
    let context = server(vec![shown]);
    shake(&client(Some(&own.pem())), &context, "up.test").expect("trusted");
    assert_eq!(failure(&client(Some(&own.pem())), &context, "b.test").kind, FaultKind::Untrusted);
    // another one: OpenSSL may know better than to trust it, this library says that it does not know
    let fault = failure(&client(Some(&made("up.test").pem())), &context, "up.test");
    assert_eq!(fault.kind, FaultKind::Incompatible);
}

#[test]
fn sessions_are_resumed_within_one_context() {
    let ca = authority("ca");
    for max in [Version::Tls12, Version::Tls13] {
        let make = || server(vec![ServerHost { max, ..host(&["a.test"], &ca) }]);
        let (context, next) = (make(), make());
        let trusting = client(Some(&ca.pem()));
        let resumed = |context: &ServerContext| {
            let (left, right) = shake(&trusting, context, "a.test").expect("a handshake");
            assert_eq!(left.facts().is_resumed, right.facts().is_resumed);
            right.facts().is_resumed
        };
        assert!(!resumed(&context));
        assert!(resumed(&context));
        assert!(!resumed(&next), "not with tickets of another context");
        let (_, right) = shake(&client(Some(&ca.pem())), &context, "a.test").expect("a handshake");
        assert!(!right.facts().is_resumed, "a client without tickets");
    }
}

#[test]
fn sessions_are_resumed_by_whoever_has_the_secret_and_the_same_rules() {
    let ca = authority("ca");
    let here = TicketSecret::random().expect("a secret");
    let (secret, epoch) = here.now();
    let there = TicketSecret::of(secret, epoch);
    for max in [Version::Tls12, Version::Tls13] {
        let rules = ServerHost { max, ..host(&["a.test"], &ca) };
        let make = |rules: &ServerHost, tickets: &TicketSecret| {
            ServerContext::with_tickets(vec![rules.clone()], &[b"http/1.1".to_vec()], tickets)
                .expect("a context")
        };
        let trusting = client(Some(&ca.pem()));
        let is_resumed = |context: &ServerContext| {
            shake(&trusting, context, "a.test").expect("a handshake").1.facts().is_resumed
        };
        assert!(!is_resumed(&make(&rules, &here)));
        assert!(is_resumed(&make(&rules, &there)), "another worker");
        assert!(is_resumed(&make(&rules, &here)), "after a reload that changed nothing");
        let stricter = ServerHost { min: max, max, ciphers: vec![], ..rules.clone() };
        assert!(!is_resumed(&make(&stricter, &here)) || stricter.min == rules.min);
        let other = ServerHost { names: vec!["a.test".into(), "b.test".into()], ..rules };
        assert!(!is_resumed(&make(&other, &here)), "other rules");
    }
}

/// rustls remembers where in the bytes before it a message began: they must be there when it is asked to encrypt.
#[test]
fn written_to_while_a_message_has_come_in_part() {
    let ca = authority("ca");
    let context = server(vec![host(&["a.test"], &ca)]);
    let mut left = client(Some(&ca.pem())).connect("a.test").expect("a session");
    let mut right = Session::server(&context);
    carry(&mut left, &mut right, usize::MAX).expect("greeting");
    carry(&mut right, &mut left, usize::MAX).expect("keys");
    carry(&mut left, &mut right, usize::MAX).expect("finished");
    // tickets, and data behind them
    right.write(b"answer").expect("written");
    let bytes = right.outgoing().to_vec();
    right.sent(bytes.len());
    let (mut space, mut plain) = (vec![0; 64 * 1024], Vec::new());
    for byte in &bytes {
        let kept = left.copy_partial(&mut space);
        space[kept] = *byte;
        left.receive(&mut space[..=kept], &mut plain).expect("data");
        left.write(b"q").expect("written");
    }
    assert_eq!(plain, b"answer");
    left.close();
    assert_eq!(carry(&mut left, &mut right, 3).expect("data"), vec![b'q'; bytes.len()]);
}

#[test]
fn close_notify_is_told_and_data_before_it_is_kept() {
    let ca = authority("ca");
    let (mut left, mut right) =
        shake(&client(None), &server(vec![host(&["a.test"], &ca)]), "a.test").expect("a handshake");
    right.write(b"last words").expect("written");
    right.close();
    right.close();
    let plain = carry(&mut right, &mut left, 5).expect("data");
    assert_eq!(plain, b"last words");
    assert!(left.is_peer_closed() && !right.is_peer_closed());
    // the other direction is still open
    left.write(b"understood").expect("written");
    left.close();
    assert_eq!(carry(&mut left, &mut right, usize::MAX).expect("data"), b"understood");
    assert!(right.is_peer_closed());
    assert!(right.outgoing().is_empty());
}

#[test]
fn strategies_for_client_certificates() {
    let (ca, other) = (authority("ca"), authority("other"));
    let with = |strategy| {
        let authorities = Some(Authorities::from_pem(&ca.pem()).expect("authorities"));
        let clients = Some(sallyport_tls::ClientCertificates { strategy, authorities });
        server(vec![ServerHost { clients, ..host(&["a.test"], &ca) }])
    };
    let known = leaf(&["client"], &ca);
    let stranger = leaf(&["client"], &other);
    for (strategy, none, stranger_passes) in [
        (Strategy::RequireAndVerify, false, false),
        (Strategy::RequireAny, false, true),
        (Strategy::Request, true, true),
    ] {
        let context = with(strategy);
        for (shown, passes) in
            [(None, none), (Some(&stranger), stranger_passes), (Some(&known), true)]
        {
            let mut trusting = client(Some(&ca.pem()));
            if let Some((chain, key)) = shown {
                trusting = trusting.showing(chain, key).expect("a certificate");
            }
            let mut left = trusting.connect("a.test").expect("a session");
            let mut right = Session::server(&context);
            let went = talk(&mut left, &mut right, usize::MAX);
            assert_eq!(went.is_ok(), passes, "{strategy:?} {}", shown.is_some());
            assert_eq!(
                right.facts().peer_certificates.len(),
                usize::from(passes && shown.is_some())
            );
            if let Err(fault) = went {
                assert_eq!(fault.kind, FaultKind::Untrusted, "{fault}");
                assert!(!right.outgoing().is_empty(), "an alert says why");
            }
        }
    }
    let clients = Some(sallyport_tls::ClientCertificates {
        strategy: Strategy::RequireAndVerify,
        authorities: None,
    });
    let hosts = vec![ServerHost { clients, ..host(&["a.test"], &ca) }];
    assert!(ServerContext::new(hosts, &[]).is_err());
}

#[test]
fn versions_and_ciphers_are_narrowed() {
    let ca = authority("ca");
    let cipher = |max, name: &str| {
        let ciphers = vec![name.to_owned()];
        let context = server(vec![ServerHost { max, ciphers, ..host(&["a.test"], &ca) }]);
        shake(&client(None), &context, "a.test").expect("a handshake").1.facts().cipher
    };
    assert_eq!(cipher(Version::Tls13, "TLS_CHACHA20_POLY1305_SHA256"), 0x1303);
    assert_eq!(cipher(Version::Tls13, "TLS_AES_128_GCM_SHA256"), 0x1301);
    assert_eq!(cipher(Version::Tls12, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"), 0xc02b);
    let refused = |change: fn(&mut ServerHost)| {
        let mut host = host(&["a.test"], &ca);
        change(&mut host);
        ServerContext::new(vec![host], &[]).expect_err("refused").detail
    };
    assert!(refused(|host| {
        host.max = Version::Tls12;
        host.ciphers = vec!["TLS_AES_128_GCM_SHA256".to_owned()];
    })
    .contains("cipher"));
    assert!(
        refused(|host| (host.min, host.max) = (Version::Tls13, Version::Tls12)).contains("range")
    );
    assert!(refused(|host| host.key = KeyPair::generate().expect("key").serialize_pem())
        .contains("not that of"));
    assert!(refused(|host| host.key = "-".to_owned()).contains("a.test: the key"));
    assert!(refused(|host| host.chain = String::new()).contains("a.test"));
    assert!(ServerContext::new(Vec::new(), &[]).is_err());
}

#[test]
fn what_is_not_tls_or_broken() {
    let ca = authority("ca");
    let context = server(vec![host(&["a.test"], &ca)]);
    let says = |bytes: &[u8]| {
        let mut right = Session::server(&context);
        let fault = right.receive(&mut bytes.to_vec(), &mut Vec::new()).expect_err("a fault");
        (fault.kind, !right.outgoing().is_empty())
    };
    assert_eq!(says(b"GET / HTTP/1.1\r\n\r\n"), (FaultKind::NotTls, false));
    assert_eq!(says(b"\x16\x02\x00"), (FaultKind::NotTls, false));
    // a message that is no greeting, one that ends too early, a record without content
    assert_eq!(says(b"\x16\x03\x01\x00\x05\x02\0\0\x01\0"), (FaultKind::Failed, true));
    assert!(says(b"\x16\x03\x01\x00\x06\x01\0\0\x02\x03\x03").1);
    assert!(says(b"\x16\x03\x01\x00\x00\x16").1);
    let mut left = client(None).connect("a.test").expect("a session");
    let fault = left
        .receive(&mut b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), &mut Vec::new())
        .expect_err("a fault");
    assert_eq!(fault.kind, FaultKind::NotTls);
    // records after the handshake that nobody with the keys made
    let (mut left, _) = shake(&client(None), &context, "a.test").expect("a handshake");
    let mut forged = vec![23, 3, 3, 0, 32];
    forged.extend([0; 32]);
    assert!(left.receive(&mut forged, &mut Vec::new()).is_err());
    assert!(!left.outgoing().is_empty(), "an alert says why");
    // nothing in common
    let context = server(vec![ServerHost {
        ciphers: vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()],
        max: Version::Tls12,
        ..host(&["a.test"], &ca)
    }]);
    let mut left = client(None).connect("a.test").expect("a session");
    let mut right = Session::server(&context);
    assert!(carry(&mut left, &mut right, usize::MAX).is_err());
    let fault = carry(&mut right, &mut left, usize::MAX).expect_err("an alert");
    assert_eq!(fault.kind, FaultKind::Incompatible);
}

#[test]
fn greetings_are_read_in_any_pieces() {
    let mut left = client(None).connect("Some.Test").expect("a session");
    let bytes = left.outgoing().to_vec();
    left.sent(bytes.len());
    for length in 0..bytes.len() {
        assert_eq!(ClientHello::read(&bytes[..length]), Hello::Partial, "{length}");
    }
    let Hello::Complete(hello) = ClientHello::read(&bytes) else { panic!("not complete") };
    assert_eq!((hello.server_name.as_str(), hello.alpn.len()), ("some.test", 1));
    assert!(hello.ja4.starts_with("t13d") && hello.ja4.contains("h1_"), "{}", hello.ja4);
    // the same message in records of 10 bytes
    let mut cut = Vec::new();
    for part in bytes[5..].chunks(10) {
        cut.extend([22, 3, 1, 0, part.len() as u8]);
        cut.extend(part);
    }
    assert_eq!(ClientHello::read(&cut), Hello::Complete(hello));
    // every byte wrong once: never a panic
    for at in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[at] ^= 0xff;
        let _ = ClientHello::read(&wrong);
        let mut right = Session::server(&server_once());
        let _ = right.receive(&mut wrong, &mut Vec::new());
    }
}

fn server_once() -> ServerContext {
    thread_local! {
        static CONTEXT: ServerContext = server(vec![host(&["a.test"], &authority("ca"))]);
    }
    CONTEXT.with(Clone::clone)
}

/// The example of the algorithm's description: a greeting of Chrome with GREASE in all its places.
#[test]
fn ja4_of_the_published_example() {
    let ciphers: &[u16] = &[
        0x0a0a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
        0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
    ];
    let schemes: &[u16] = &[0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];
    let shorts = |values: &[u16]| -> Vec<u8> {
        values.iter().flat_map(|value| value.to_be_bytes()).collect()
    };
    let piece = |body: &[u8]| [&(body.len() as u16).to_be_bytes()[..], body].concat();
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, body: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(piece(body));
    };
    extension(0x1a1a, b"");
    extension(0x001b, b"\x02\x00\x02");
    extension(0x0000, &piece(&[&b"\0"[..], &piece(b"example.com")].concat()));
    for kind in [0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012] {
        match kind {
            0x0010 => extension(kind, &piece(b"\x02h2\x08http/1.1")),
            0x000d => extension(kind, &piece(&shorts(schemes))),
            _ => extension(kind, b""),
        }
    }
    extension(0x002b, &[&[6u8][..], &shorts(&[0x2a2a, 0x0304, 0x0303])].concat());
    for kind in [0xff01, 0x000b, 0x000a, 0x0015] {
        extension(kind, b"");
    }
    extension(0x3a3a, b"\0");
    let body =
        [&b"\x03\x03"[..], &[7; 32], &[0], &piece(&shorts(ciphers)), &[1, 0], &piece(&extensions)]
            .concat();
    let message = [&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat();
    let record = [&[22, 3, 1][..], &piece(&message)].concat();
    let Hello::Complete(hello) = ClientHello::read(&record) else { panic!("not complete") };
    assert_eq!(hello.ja4, "t13d1516h2_8daaf6152771_e5627efa2ab1");
}

#[test]
fn behind_a_fault_nothing_is_read_or_written() {
    let mut session = client(None).connect("a.test").expect("a session");
    session.sent(session.outgoing().len());
    let mut plain = Vec::new();
    // A part of a message, then an alert where no other record may come.
    let mut bytes = b"\x16\x03\x03\0\x02\x02\0".to_vec();
    session.receive(&mut bytes, &mut plain).expect("a part");
    let mut space = [0; 64];
    let kept = session.copy_partial(&mut space);
    space[kept..kept + 7].copy_from_slice(b"\x15\x03\x03\0\x02\x02\x28");
    session.receive(&mut space[..kept + 7], &mut plain).expect_err("an alert");
    for bytes in [&b"abc"[..], b"", &[0; 64]] {
        session.receive(&mut bytes.to_vec(), &mut plain).expect_err("it is over");
        session.write(b"data").expect_err("it is over");
        session.close();
        session.update_keys();
    }
    assert!(plain.is_empty());
}
