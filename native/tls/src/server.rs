//! What a TLS listener shows its clients and asks of them: one set of rules per host name, chosen by SNI.
//!
//! Source: RFC 6066 §3; RFC 8446 §4.4.2, §4.6.1; RFC 5077; traffic-policy.md §5.25 (strategies).

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{ring as provider, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};

use crate::authorities::Authorities;
use crate::fault::Fault;
use crate::tickets::TicketSecret;

/// Names of the cipher suites that there are, in the order preferred, with their numbers.
pub const CIPHER_NAMES: [(u16, &str); 9] = [
    (0x1302, "TLS_AES_256_GCM_SHA384"),
    (0x1301, "TLS_AES_128_GCM_SHA256"),
    (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    (0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    (0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

/// The versions that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// What is asked of clients that are asked for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// They must show one that an authority has signed.
    RequireAndVerify,
    /// They must show one, whatever it is; only that they have its key is verified.
    RequireAny,
    /// They may show one, whatever it is.
    Request,
}

/// How clients are asked for certificates.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    /// See there.
    pub strategy: Strategy,
    /// Needed to verify; else only named to the clients.
    pub authorities: Option<Authorities>,
}

/// What clients get who ask for certain names.
#[derive(Clone, Debug)]
pub struct ServerHost {
    /// Lower case; `*.example.org` stands for one label.
    pub names: Vec<String>,
    /// PEM, the certificate itself first.
    pub chain: String,
    /// PEM, not encrypted.
    pub key: String,
    /// The oldest spoken.
    pub min: Version,
    /// The newest spoken.
    pub max: Version,
    /// Of [`CIPHER_NAMES`]; empty = all.
    pub ciphers: Vec<String>,
    /// `None`: they are not asked.
    pub clients: Option<ClientCertificates>,
}

/// All hosts of a listener. Cheap to clone; connections keep the one they began with.
#[derive(Clone, Debug)]
pub struct ServerContext {
    id: u32,
    hosts: Arc<Vec<(Vec<String>, Arc<ServerConfig>)>>,
}

impl ServerContext {
    /// The first host serves clients that ask for no name, or for one that is nobody's. `alpn`: in the order preferred.
    /// Fails with one sentence when something cannot be used; `hosts` must not be empty.
    ///
    /// Tickets of such a context resume sessions of the same context and host only.
    pub fn new(hosts: Vec<ServerHost>, alpn: &[Vec<u8>]) -> Result<Self, Fault> {
        ServerContext::with_tickets(hosts, alpn, &TicketSecret::random()?)
    }

    /// The same with tickets that every context with this secret takes, in other processes too, if the rules of the host are
    /// equal: what new ones ask of clients cannot be got around with an old ticket.
    pub fn with_tickets(
        hosts: Vec<ServerHost>,
        alpn: &[Vec<u8>],
        tickets: &TicketSecret,
    ) -> Result<Self, Fault> {
        if hosts.is_empty() {
            return Err(Fault::failed("a listener needs a certificate"));
        }
        let mut made = Vec::with_capacity(hosts.len());
        for host in hosts {
            let label = host.names.first().cloned().unwrap_or_else(|| "no name".to_owned());
            let config = configure(&host, alpn, tickets)
                .map_err(|fault| Fault { detail: format!("{label}: {}", fault.detail), ..fault })?;
            made.push((host.names, Arc::new(config)));
        }
        Ok(ServerContext { id: 0, hosts: Arc::new(made) })
    }

    /// The same, with a number by which connections say which context they began with.
    pub fn numbered(self, id: u32) -> Self {
        ServerContext { id, ..self }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// The place of the host for a name in lower case, if there is one; exact names count more than wildcards.
    pub(crate) fn host_for(&self, name: &str) -> Option<usize> {
        let find = |wanted: &str| {
            self.hosts.iter().position(|(names, _)| names.iter().any(|one| one == wanted))
        };
        let wildcard = || name.split_once('.').and_then(|(_, rest)| find(&format!("*.{rest}")));
        find(name).or_else(wildcard)
    }

    pub(crate) fn config(&self, host: usize) -> Arc<ServerConfig> {
        self.hosts[host].1.clone()
    }
}

impl ServerHost {
    /// Equal for equal rules.
    fn label(&self, alpn: &[Vec<u8>]) -> Vec<u8> {
        let Self { names, chain, key, min, max, ciphers, clients } = self;
        let (strategy, authorities) = clients.as_ref().map_or((0, Vec::new()), |clients| {
            let authorities = clients.authorities.as_ref().map(Authorities::label);
            (1 + clients.strategy as u8, authorities.unwrap_or_default())
        });
        let range = [*min as u8, *max as u8, strategy];
        let texts = names.iter().chain(ciphers).map(String::as_bytes);
        let rest = [chain.as_bytes(), key.as_bytes(), &range, &authorities];
        let mut label = Vec::new();
        for part in texts.chain(alpn.iter().map(Vec::as_slice)).chain(rest) {
            label.extend_from_slice(&part.len().to_be_bytes());
            label.extend_from_slice(part);
        }
        label
    }
}

fn configure(
    host: &ServerHost,
    alpn: &[Vec<u8>],
    tickets: &TicketSecret,
) -> Result<ServerConfig, Fault> {
    let mut crypto = provider::default_provider();
    if !host.ciphers.is_empty() {
        let numbers: Vec<u16> = CIPHER_NAMES
            .iter()
            .filter(|(_, name)| host.ciphers.iter().any(|one| one == name))
            .map(|(number, _)| *number)
            .collect();
        crypto.cipher_suites.retain(|suite| numbers.contains(&u16::from(suite.suite())));
    }
    let crypto = Arc::new(crypto);
    let versions: Vec<&'static SupportedProtocolVersion> =
        [(Version::Tls13, &TLS13), (Version::Tls12, &TLS12)]
            .into_iter()
            .filter(|(version, _)| *version >= host.min && *version <= host.max)
            .map(|(_, version)| version)
            .collect();
    if versions.is_empty() {
        return Err(Fault::failed("there is no version of TLS in this range"));
    }
    let chain = CertificateDer::pem_slice_iter(host.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Fault::failed(format!("the certificate is not PEM: {error:?}")))?;
    let key = PrivateKeyDer::from_pem_slice(host.key.as_bytes())
        .map_err(|_| Fault::failed("the key is not PEM"))?;
    let certified = CertifiedKey::from_der(chain, key, &crypto).map_err(|error| match error {
        Error::InconsistentKeys(_) => Fault::failed("the key is not that of the certificate"),
        other => Fault::failed(format!("certificate or key cannot be used: {other}")),
    })?;
    let builder = ServerConfig::builder_with_provider(crypto.clone())
        .with_protocol_versions(&versions)
        .map_err(|_| Fault::failed("none of the ciphers is of a version in the range"))?;
    let builder = match &host.clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            builder.with_client_cert_verifier(Arc::new(ClientVerifier::new(clients, crypto)?))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = alpn.to_vec();
    config.ticketer = tickets.ticketer(&host.label(alpn));
    Ok(config)
}

/// Applies a [`Strategy`].
#[derive(Debug)]
struct ClientVerifier {
    /// `None`: whatever they show.
    inner: Option<Arc<dyn ClientCertVerifier>>,
    authorities: Option<Authorities>,
    hints: Vec<DistinguishedName>,
    is_mandatory: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientVerifier {
    fn new(clients: &ClientCertificates, provider: Arc<CryptoProvider>) -> Result<Self, Fault> {
        let inner = match (clients.strategy, &clients.authorities) {
            (Strategy::RequireAndVerify, None) => {
                return Err(Fault::failed("clients are verified against nothing"));
            }
            (Strategy::RequireAndVerify, Some(authorities)) => Some(
                WebPkiClientVerifier::builder_with_provider(
                    authorities.store.clone(),
                    provider.clone(),
                )
                .build()
                .map_err(|error| Fault::failed(error.to_string()))?,
            ),
            _ => None,
        };
        Ok(ClientVerifier {
            inner,
            hints: clients.authorities.as_ref().map(|it| it.store.subjects()).unwrap_or_default(),
            authorities: clients.authorities.clone(),
            is_mandatory: clients.strategy != Strategy::Request,
            provider,
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let Some(inner) = &self.inner else { return Ok(ClientCertVerified::assertion()) };
        match inner.verify_client_cert(end_entity, intermediates, now) {
            // a client that is its own authority, as OpenSSL takes it; its validity was looked at before
            Err(Error::InvalidCertificate(CertificateError::Other(OtherError(error))))
                if matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
                    && self.authorities.as_ref().is_some_and(|it| it.has(end_entity)) =>
            {
                Ok(ClientCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
