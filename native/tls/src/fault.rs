//! Why there is no TLS connection, or none any more.

use rustls::{AlertDescription, CertificateError, Error};

/// What kind of fault ended a session, for whoever has to decide what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The peer does not speak TLS at all.
    NotTls,
    /// The peers have no version, cipher suite or kind of certificate in common, as far as this library goes: another
    /// library might find one. Nothing was decided about whether the peer is who it says.
    Incompatible,
    /// The peer's certificate is not to be trusted.
    Untrusted,
    /// Anything else: broken records, alerts, certificates or keys that cannot be used.
    Failed,
}

/// See [`FaultKind`]. The detail is for logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The class.
    pub kind: FaultKind,
    /// One line.
    pub detail: String,
}

impl Fault {
    pub(crate) fn failed(detail: impl Into<String>) -> Self {
        Fault { kind: FaultKind::Failed, detail: detail.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(&self.detail)
    }
}

impl std::error::Error for Fault {}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::PeerIncompatible(_) => FaultKind::Incompatible,
            Error::AlertReceived(
                AlertDescription::HandshakeFailure
                | AlertDescription::ProtocolVersion
                | AlertDescription::InsufficientSecurity,
            ) => FaultKind::Incompatible,
            Error::InvalidCertificate(error) => certificate_kind(error),
            Error::NoCertificatesPresented => FaultKind::Untrusted,
            Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => FaultKind::NotTls,
            _ => FaultKind::Failed,
        };
        Fault { kind, detail: error.to_string() }
    }
}

/// Certificates that are older than what the verifier reads (without alternative names, of version 1, keys on other curves)
/// are not judged by it.
fn certificate_kind(error: &CertificateError) -> FaultKind {
    #[allow(deprecated)]
    match error {
        CertificateError::UnsupportedSignatureAlgorithm
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
        | CertificateError::BadEncoding
        | CertificateError::UnhandledCriticalExtension
        | CertificateError::Other(_) => FaultKind::Incompatible,
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            FaultKind::Incompatible
        }
        _ => FaultKind::Untrusted,
    }
}
