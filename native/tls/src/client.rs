//! What connections to servers have in common: whom they trust, what they speak, and the sessions they may resume.

use std::sync::Arc;

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::ClientConfig;

use crate::authorities::{Authorities, NoVerifier, Verifier};
use crate::fault::Fault;
use crate::session::Session;

/// Servers whose tickets are remembered, and tickets of each.
const REMEMBERED_SESSIONS: usize = 256 * 8;

/// How a [`ClientContext`] speaks.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `None`: the server's certificate is not verified (only that the server has its key).
    pub authorities: Option<Authorities>,
    /// In the order preferred; empty = no ALPN.
    pub alpn: Vec<Vec<u8>>,
}

/// TLS 1.2 and 1.3 towards servers. Sessions of one context resume each other's, by server name.
#[derive(Clone, Debug)]
pub struct ClientContext {
    config: Arc<ClientConfig>,
}

impl ClientContext {
    /// Fails when the authorities cannot be verified against.
    pub fn new(options: ClientOptions) -> Result<Self, Fault> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let dangerous = builder.dangerous();
        let builder = match &options.authorities {
            Some(authorities) => dangerous
                .with_custom_certificate_verifier(Arc::new(Verifier::new(authorities, provider)?)),
            None => dangerous.with_custom_certificate_verifier(Arc::new(NoVerifier(provider))),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = options.alpn;
        config.resumption = Resumption::in_memory_sessions(REMEMBERED_SESSIONS);
        Ok(ClientContext { config: Arc::new(config) })
    }

    /// The same, with a certificate (PEM, the certificate itself first) and its key for servers that ask for one. Sessions
    /// are not shared with the context it comes from.
    pub fn showing(&self, chain: &str, key: &str) -> Result<Self, Fault> {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Fault::failed(format!("the certificate is not PEM: {error:?}")))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| Fault::failed("the key is not PEM"))?;
        let mut config = (*self.config).clone();
        let certified = CertifiedKey::from_der(chain, key, config.crypto_provider())?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        config.resumption = Resumption::in_memory_sessions(REMEMBERED_SESSIONS);
        Ok(ClientContext { config: Arc::new(config) })
    }

    /// The same for servers that are to speak this protocol and no other. Sessions are not shared with the context it comes
    /// from.
    pub fn speaking(&self, protocol: &[u8]) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = Resumption::in_memory_sessions(REMEMBERED_SESSIONS);
        ClientContext { config: Arc::new(config) }
    }

    /// Somebody else has a clone of it, or a session.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.config) > 1
    }

    /// Whether sessions can be made for a server of this name: a host name, or an address as text.
    pub fn takes_name(name: &str) -> bool {
        ServerName::try_from(name).is_ok()
    }

    /// A session with a server that is verified by this name; an address is not sent as SNI (RFC 6066 §3).
    pub fn connect(&self, name: &str) -> Result<Session, Fault> {
        let name = ServerName::try_from(name)
            .map_err(|_| Fault::failed(format!("{name} is not a name for TLS")))?
            .to_owned();
        Session::client(UnbufferedClientConnection::new(self.config.clone(), name)?)
    }
}
