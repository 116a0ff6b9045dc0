//! TLS sessions of both sides: fed with an input, or with each other's bytes that an input cuts and spoils.
//!
//! The last byte of an input cuts, the one before says what is played ([`flags`]). What must hold: nothing panics; what
//! a session has to say stays bounded; behind a fault there is no plaintext; what a session reads is the beginning of what
//! the other one wrote, all of it where nothing was spoiled, and then both know of the end.
//!
//! Source: RFC 8446 §5, §6; T-80, H-125.

use std::sync::OnceLock;

use rcgen::{CertificateParams, KeyPair};
use sallyport_tls::{
    Authorities, ClientContext, ClientOptions, Fault, ServerContext, ServerHost, Session, Version,
    MAX_RECORD_BYTES,
};

use crate::cut::{pieces, split};

pub(crate) const SEEDS: &[&[u8]] = &[
    b"\x16\x03\x01\0\x05\x01\0\0\x01\0\0\x05",
    b"\x16\x03\x03\0\x02\x02\0\x15\x03\x03\0\x02\x02\x28\x01\x03",
    b"\x17\x03\x03\x40\x01\0",
    b"hello from the client, hello from the server\x02\x40",
    b"\0\x05\x01one byte of the first record is another one\x06\x20",
    b"\x04\x00\x80one byte of the last\x0e\x09",
    b"keys change\x12\xff",
    b"an older version\x22\x40",
];

/// What the last byte but one says.
mod flags {
    /// The input goes to a server's session (0) or a client's (1), as it is.
    pub(super) const CLIENT: u8 = 1;
    /// The two talk with each other, and say the input.
    pub(super) const TALK: u8 = 2;
    /// The first two bytes name one of those that travel, the third what becomes of it.
    pub(super) const SPOIL: u8 = 4;
    /// Of those that go down, not up.
    pub(super) const DOWN: u8 = 8;
    /// Both change their keys in between.
    pub(super) const UPDATE: u8 = 16;
    /// TLS 1.2.
    pub(super) const OLD: u8 = 32;
}

/// More than a handshake has to say, and less than what would be a leak.
const MOST_OUTGOING: usize = 256 * 1024;
const MOST_ROUNDS: usize = 100;

struct Contexts {
    client: ClientContext,
    new: ServerContext,
    old: ServerContext,
}

fn contexts() -> &'static Contexts {
    static CONTEXTS: OnceLock<Contexts> = OnceLock::new();
    CONTEXTS.get_or_init(|| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["a.test".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let server = |max| {
            let host = ServerHost {
                names: vec!["a.test".to_owned()],
                chain: certificate.clone(),
                key: key.serialize_pem(),
                min: Version::Tls12,
                max,
                ciphers: Vec::new(),
                clients: None,
            };
            ServerContext::new(vec![host], &[b"h2".to_vec()]).expect("a context")
        };
        let authorities = Authorities::from_pem(&certificate).expect("authorities");
        let options = ClientOptions { authorities: Some(authorities), alpn: vec![b"h2".to_vec()] };
        let client = ClientContext::new(options).expect("a context");
        Contexts { client, new: server(Version::Tls13), old: server(Version::Tls12) }
    })
}

struct Side {
    session: Session,
    /// What it has read.
    plain: Vec<u8>,
    is_broken: bool,
}

impl Side {
    fn new(session: Session) -> Self {
        Side { session, plain: Vec::new(), is_broken: false }
    }

    fn take(&mut self, part: &[u8]) {
        let mut space = vec![0; self.session.partial_bytes() + part.len() + MAX_RECORD_BYTES];
        let kept = self.session.copy_partial(&mut space);
        space[kept..kept + part.len()].copy_from_slice(part);
        let before = self.plain.len();
        let result: Result<(), Fault> =
            self.session.receive(&mut space[..kept + part.len()], &mut self.plain);
        assert!(self.plain.len() - before <= kept + part.len(), "more plaintext than bytes");
        assert!(!self.is_broken || self.plain.len() == before, "plaintext behind a fault");
        self.is_broken |= result.is_err();
        assert!(self.session.outgoing().len() < MOST_OUTGOING);
    }
}

fn feed(session: Session, parts: &[&[u8]]) {
    let mut side = Side::new(session);
    for part in parts {
        side.take(part);
    }
    side.session.close();
    assert!(side.plain.is_empty(), "plaintext that nobody wrote");
    assert!(side.session.is_handshaking() || side.is_broken, "an input that holds no key");
}

struct Spoiler {
    at: Option<usize>,
    with: u8,
    has_struck: bool,
}

impl Spoiler {
    fn pass(&mut self, bytes: &mut [u8]) {
        let Some(at) = self.at else { return };
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= self.with;
            self.at = None;
            self.has_struck = self.with != 0;
        } else {
            self.at = Some(at - bytes.len());
        }
    }
}

fn carry(from: &mut Side, to: &mut Side, cut: u8, spoiler: Option<&mut Spoiler>) {
    let mut bytes = from.session.outgoing().to_vec();
    from.session.sent(bytes.len());
    if let Some(spoiler) = spoiler {
        spoiler.pass(&mut bytes);
    }
    for part in pieces(&bytes, cut.max(8)) {
        to.take(part);
    }
}

fn talk(input: &[u8], flags: u8, cut: u8) {
    let spoils = flags & flags::SPOIL != 0 && input.len() >= 3;
    let (control, said) = if spoils { input.split_at(3) } else { (&b"\0\0\0"[..], input) };
    let at = usize::from(control[0]) << 8 | usize::from(control[1]);
    let mut spoiler = Spoiler { at: spoils.then_some(at), with: control[2], has_struck: false };
    let is_down = flags & flags::DOWN != 0;
    let contexts = contexts();
    let context = if flags & flags::OLD != 0 { &contexts.old } else { &contexts.new };
    let mut client = Side::new(contexts.client.connect("a.test").expect("a session"));
    let mut server = Side::new(Session::server(context));
    let mut settle = |client: &mut Side, server: &mut Side| {
        for _ in 0..MOST_ROUNDS {
            carry(client, server, cut, (!is_down).then_some(&mut spoiler));
            carry(server, client, cut, is_down.then_some(&mut spoiler));
            if client.session.outgoing().is_empty() && server.session.outgoing().is_empty() {
                return;
            }
        }
        panic!("they never come to rest");
    };
    settle(&mut client, &mut server);
    let (up, down) = said.split_at(said.len() / 2);
    for (at, piece) in up.chunks(7).enumerate() {
        if at == 1 && flags & flags::UPDATE != 0 {
            client.session.update_keys();
            server.session.update_keys();
        }
        // Refused before the handshake is done, and behind a fault.
        let _ = client.session.write(piece);
    }
    let _ = server.session.write(down);
    settle(&mut client, &mut server);
    client.session.close();
    settle(&mut client, &mut server);
    server.session.close();
    settle(&mut client, &mut server);
    assert!(up.starts_with(&server.plain), "what the client wrote");
    assert!(down.starts_with(&client.plain), "what the server wrote");
    if !spoiler.has_struck {
        assert_eq!((server.plain.as_slice(), client.plain.as_slice()), (up, down));
        assert!(!client.is_broken && !server.is_broken);
        assert!(client.session.is_peer_closed() && server.session.is_peer_closed());
        assert_eq!(client.session.facts().alpn, b"h2");
    }
}

/// Sessions of both sides, and an input.
pub fn tls_session(input: &[u8]) {
    let (rest, cut) = split(input);
    let (bytes, flags) = split(rest);
    if flags & flags::TALK != 0 {
        return talk(bytes, flags, cut);
    }
    let contexts = contexts();
    let session = if flags & flags::CLIENT != 0 {
        contexts.client.connect("a.test").expect("a session")
    } else {
        Session::server(&contexts.new)
    };
    feed(session, &pieces(bytes, cut));
}
