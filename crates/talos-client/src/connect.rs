//! TLS connections to nodes.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;
use tower::service_fn;
use x509_parser::prelude::FromDer;

use super::connection::{ConnectionFailure, MonitoredStream};
use super::error::{ClientError, ClientErrorKind, trust_failure};
use super::link::Link;
use error_report::ErrorReport;
use net::Dialer;

/// The port of the Talos API on every node.
pub const PORT: u16 = 50000;

/// Timeout for establishing a connection; a node on the same continent responds within a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Base64 of SHA-256 over a certificate's public key, in the format of `talosctl --cert-fingerprint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFingerprint(String);

impl CertificateFingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
        Some(Self(STANDARD.encode(Sha256::digest(parsed.public_key().raw))))
    }
}

/// A text that is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid fingerprint `{0}`: expected the base64 of a SHA-256 digest (44 characters)")]
pub struct InvalidCertificateFingerprint(String);

impl std::str::FromStr for CertificateFingerprint {
    type Err = InvalidCertificateFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match STANDARD.decode(text) {
            Ok(digest) if digest.len() == 32 => Ok(Self(text.to_owned())),
            _ => Err(InvalidCertificateFingerprint(text.to_owned())),
        }
    }
}

impl fmt::Display for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The client certificate of an administrator, and the CA of the nodes.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    pub ca_pem: String,
    pub certificate_pem: String,
    pub key_pem: SecretString,
}

/// The certificate that the server presented.
#[derive(Debug, Clone, Default)]
pub(super) struct PeerCertificate(Arc<Mutex<Option<CertificateDer<'static>>>>);

impl PeerCertificate {
    fn record(&self, certificate: &CertificateDer<'_>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(certificate.clone().into_owned());
    }

    pub(super) fn fingerprint(&self) -> Option<CertificateFingerprint> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(CertificateFingerprint::of)
    }

    /// The issuer of the certificate, for a message about a node of another cluster.
    pub(super) fn issuer(&self) -> Option<String> {
        let certificate = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&certificate).ok()?;
        Some(parsed.issuer().to_string())
    }
}

/// Connects to a node in maintenance mode. Its CA is unknown, so only a pinned fingerprint can be verified.
pub(super) async fn maintenance(
    dialer: &Dialer,
    node: IpAddr,
    pin: Option<&CertificateFingerprint>,
) -> Result<(Link, PeerCertificate), ClientError> {
    let seen = PeerCertificate::default();
    let verifier = Arc::new(AnyCertificate { pin: pin.cloned(), seen: seen.clone(), algorithms: algorithms() });
    let config = builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    match channel(dialer, node, config).await {
        Ok(link) => Ok((link, seen)),
        Err(error) => Err(match (pin, seen.fingerprint()) {
            (Some(pinned), Some(shown)) if *pinned != shown => {
                let text = format!("the certificate has the fingerprint {shown}, expected the pinned {pinned}");
                ClientError::new(node, "connect", ClientErrorKind::FingerprintMismatch, text)
            }
            _ => error,
        }),
    }
}

/// Connects to a configured node: both certificates are verified with the cluster's CA, the node's name is its declared
/// address.
pub(super) async fn configured(
    dialer: &Dialer,
    node: IpAddr,
    identity: &ClientIdentity,
) -> Result<(Link, PeerCertificate), ClientError> {
    let unusable = |what: &str| {
        ClientError::new(node, "connect", ClientErrorKind::Other, format!("the {what} of the administrator is invalid"))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(identity.ca_pem.as_bytes()) {
        roots.add(certificate.map_err(|_| unusable("CA"))?).map_err(|_| unusable("CA"))?;
    }
    let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| unusable("certificate"))?;
    let key = private_key(&identity.key_pem).ok_or_else(|| unusable("key"))?;
    let inner = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|_| unusable("CA"))?;
    let seen = PeerCertificate::default();
    let verifier = Arc::new(RecordingVerifier { inner, seen: seen.clone() });
    let config = builder()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(|_| unusable("key"))?;
    match channel(dialer, node, config).await {
        Ok(link) => Ok((link, seen)),
        Err(mut error) => {
            if let (ClientErrorKind::Untrusted, Some(issuer)) = (error.kind, seen.issuer()) {
                error.reason = format!("{} (the certificate of the node was issued by `{issuer}`)", error.reason);
            }
            Err(error)
        }
    }
}

/// Talos writes Ed25519 keys with its own PEM label; the content is PKCS#8.
fn private_key(pem: &SecretString) -> Option<PrivateKeyDer<'static>> {
    let parsed = pem::parse(pem.expose_secret()).ok()?;
    match parsed.tag() {
        "EC PRIVATE KEY" => Some(PrivateKeyDer::Sec1(parsed.into_contents().into())),
        "RSA PRIVATE KEY" => Some(PrivateKeyDer::Pkcs1(parsed.into_contents().into())),
        _ => Some(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(parsed.into_contents()))),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let builder = ClientConfig::builder_with_provider(provider());
    // The provider supports both default protocol versions, so this cannot fail.
    match builder.with_safe_default_protocol_versions() {
        Ok(builder) => builder,
        Err(error) => unreachable!("aws-lc-rs supports TLS 1.2 and 1.3: {error}"),
    }
}

/// One HTTP/2 connection. It never reconnects by itself: the node may have booted in between, so the caller connects and
/// observes again.
async fn channel(dialer: &Dialer, node: IpAddr, mut config: ClientConfig) -> Result<Link, ClientError> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let (dialer, name) = (dialer.clone(), ServerName::IpAddress(node.into()));
    let opened = Arc::new(AtomicBool::new(false));
    let broken = ConnectionFailure::default();
    let wire = broken.clone();
    let connect = service_fn(move |_| {
        let (connector, dialer, name) = (connector.clone(), dialer.clone(), name.clone());
        let (reconnecting, wire) = (opened.swap(true, Ordering::Relaxed), wire.clone());
        async move {
            if reconnecting {
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the connection was lost"));
            }
            let stream = dialer.connect(SocketAddr::new(node, PORT)).await?;
            keep_alive(&stream);
            connector.connect(name, stream).await.map(|stream| TokioIo::new(MonitoredStream::new(stream, wire)))
        }
    });
    let endpoint = Endpoint::from_static("http://node").connect_timeout(CONNECT_TIMEOUT);
    let channel = endpoint.connect_with_connector(connect).await.map_err(|error| {
        let text = ErrorReport::new(&error).to_string();
        let kind = trust_failure(&text).unwrap_or(ClientErrorKind::Unavailable);
        ClientError::new(node, "connect", kind, text)
    })?;
    Ok(Link::new(node, channel, broken))
}

/// Without keep-alive a watch never ends when the node loses power. HTTP/2 pings are not used: Talos sets no keep-alive
/// policy, so its server may close a connection that pings.
fn keep_alive(stream: &tokio::net::TcpStream) {
    use rustix::net::sockopt;
    // Best effort: the connection works without these options.
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(10));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5));
    let _ = sockopt::set_tcp_keepcnt(stream, 3);
    #[cfg(target_os = "linux")]
    let _ = sockopt::set_tcp_user_timeout(stream, 20_000);
}

/// Accepts only the pinned certificate, or any certificate when none is pinned. The handshake signature is verified.
#[derive(Debug)]
struct AnyCertificate {
    pin: Option<CertificateFingerprint>,
    seen: PeerCertificate,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.seen.record(leaf);
        if self.pin.is_some() && self.pin != self.seen.fingerprint() {
            return Err(rustls::Error::General("the certificate does not match the pinned fingerprint".to_owned()));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The standard verifier, which also records the certificate of the server.
#[derive(Debug)]
struct RecordingVerifier {
    inner: Arc<rustls::client::WebPkiServerVerifier>,
    seen: PeerCertificate,
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.seen.record(leaf);
        self.inner.verify_server_cert(leaf, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
