//! Certificate authorities that are trusted, and the verification of servers against them.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_name, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use crate::fault::Fault;

/// Trusted certificates, read once.
#[derive(Clone, Debug)]
pub struct Authorities {
    pub(crate) store: Arc<RootCertStore>,
    exact: Arc<HashSet<CertificateDer<'static>>>,
}

impl Authorities {
    /// Reads PEM text; what is no certificate in it is passed over, and so are certificates that cannot be an authority here.
    /// A text without any is a fault.
    pub fn from_pem(text: &str) -> Result<Self, Fault> {
        let mut store = RootCertStore::empty();
        let mut exact = HashSet::new();
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let certificate =
                certificate.map_err(|error| Fault::failed(format!("not PEM: {error:?}")))?;
            if store.add(certificate.clone()).is_ok() {
                exact.insert(certificate);
            }
        }
        if store.is_empty() {
            return Err(Fault::failed("no certificate of an authority"));
        }
        Ok(Authorities { store: Arc::new(store), exact: Arc::new(exact) })
    }

    /// Equal for equal authorities.
    pub(crate) fn label(&self) -> Vec<u8> {
        let mut all: Vec<&[u8]> = self.exact.iter().map(AsRef::as_ref).collect();
        all.sort_unstable();
        all.concat()
    }

    /// The certificate itself is one of them.
    pub(crate) fn has(&self, certificate: &CertificateDer<'_>) -> bool {
        self.exact.contains(certificate)
    }
}

/// Verifies as webpki does, and besides trusts a server whose own certificate is among the authorities although it says
/// that it is one: what `openssl req -x509` makes, and OpenSSL trusts.
#[derive(Debug)]
pub(crate) struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    authorities: Authorities,
}

impl Verifier {
    pub(crate) fn new(
        authorities: &Authorities,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Fault> {
        let inner =
            WebPkiServerVerifier::builder_with_provider(authorities.store.clone(), provider)
                .build()
                .map_err(|error| Fault::failed(error.to_string()))?;
        Ok(Verifier { inner, authorities: authorities.clone() })
    }
}

/// The certificate may sign others. webpki says so only after it has looked at the validity.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error else {
        return false;
    };
    matches!(inner.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            Err(error) if is_authority(&error) && self.authorities.has(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
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
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Trusts every server that has the key of the certificate it shows: for targets whose verification is switched off.
#[derive(Debug)]
pub(crate) struct NoVerifier(pub(crate) Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
