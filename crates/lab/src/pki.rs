//! Certificates that the simulated nodes issue from the CAs in their configs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType,
};
use rustls::crypto::CryptoProvider;
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why a certificate, or a TLS server that presents it, could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsMaterialError {
    #[error("the CA's private key is not valid PEM")]
    KeyPem(#[from] pem::PemError),
    #[error("the CA is invalid: {0}")]
    Authority(rcgen::Error),
    #[error("cannot issue a certificate for {subject:?}")]
    Issue { subject: String, source: rcgen::Error },
    #[error("an issued certificate is not valid PEM")]
    CertificatePem(#[from] rustls_pki_types::pem::Error),
    #[error("the TLS server cannot be configured")]
    Tls(#[from] rustls::Error),
    #[error("client certificates cannot be verified")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A CA that can sign.
pub(super) struct CertificateAuthority {
    pub(super) certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub(super) struct IssuedCertificate {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// What the certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CertificatePurpose {
    Server,
    Client,
    Both,
}

/// The algorithm of the certificate's key: Talos's API uses Ed25519, Kubernetes and etcd ECDSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyAlgorithm {
    Ed25519,
    Ecdsa,
}

/// The contents of a certificate that is to be issued.
#[derive(Debug, Clone)]
pub(super) struct CertificateSubject<'s> {
    /// Empty for none.
    pub(super) common_name: &'s str,
    pub(super) organizations: Vec<&'s str>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) dns_names: Vec<String>,
    pub(super) purpose: CertificatePurpose,
    pub(super) key: KeyAlgorithm,
}

const YEAR: Duration = Duration::from_hours(8760);
const HOUR: Duration = Duration::from_hours(1);

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority").finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Reads a CA from PEM.
    pub(super) fn from_pem(certificate: &str, key: &str) -> Result<Self, TlsMaterialError> {
        let parsed = pem::parse(key)?;
        let der = match parsed.tag() {
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(parsed.into_contents().into()),
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(parsed.into_contents().into()),
            _ => PrivateKeyDer::Pkcs8(parsed.into_contents().into()),
        };
        let key = KeyPair::try_from(&der).map_err(TlsMaterialError::Authority)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(TlsMaterialError::Authority)?;
        Ok(Self { certificate: certificate.to_owned(), issuer })
    }

    /// A throw-away Ed25519 CA, as a machine creates one at each boot into maintenance mode.
    pub(super) fn generate() -> Result<Self, TlsMaterialError> {
        let generate = || -> Result<Self, rcgen::Error> {
            let key = KeyPair::generate_for(&PKCS_ED25519)?;
            let mut params = CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
            let certificate = params.self_signed(&key)?.pem();
            Ok(Self { issuer: Issuer::from_ca_cert_pem(&certificate, key)?, certificate })
        };
        generate().map_err(TlsMaterialError::Authority)
    }

    /// Issues a certificate with a new key, valid for a year from an hour ago.
    pub(super) fn issue(&self, subject: &CertificateSubject<'_>) -> Result<IssuedCertificate, TlsMaterialError> {
        self.issue_for(subject, YEAR)
    }

    /// Issues a certificate with a new key, valid from an hour ago until `validity` from now.
    pub(super) fn issue_for(
        &self,
        subject: &CertificateSubject<'_>,
        validity: Duration,
    ) -> Result<IssuedCertificate, TlsMaterialError> {
        self.try_issue(subject, validity)
            .map_err(|source| TlsMaterialError::Issue { subject: subject.common_name.to_owned(), source })
    }

    fn try_issue(
        &self,
        subject: &CertificateSubject<'_>,
        validity: Duration,
    ) -> Result<IssuedCertificate, rcgen::Error> {
        let key = KeyPair::generate_for(match subject.key {
            KeyAlgorithm::Ed25519 => &PKCS_ED25519,
            KeyAlgorithm::Ecdsa => &PKCS_ECDSA_P256_SHA256,
        })?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        for organization in &subject.organizations {
            name.push(DnType::OrganizationName, *organization);
        }
        if !subject.common_name.is_empty() {
            name.push(DnType::CommonName, subject.common_name);
        }
        params.distinguished_name = name;
        params.subject_alt_names = subject.addresses.iter().map(|address| SanType::IpAddress(*address)).collect();
        for name in &subject.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match subject.purpose {
            CertificatePurpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            CertificatePurpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            CertificatePurpose::Both => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + now.saturating_sub(HOUR);
        params.not_after = epoch + now + validity;
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(IssuedCertificate { certificate, key: key.serialize_pem() })
    }
}

impl IssuedCertificate {
    pub(super) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsMaterialError> {
        Ok(CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<_, _>>()?)
    }

    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsMaterialError> {
        Ok(PrivateKeyDer::from_pem_slice(self.key.as_bytes())?)
    }
}

pub(super) fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A TLS server that still needs its client verification and its certificate.
pub(super) fn tls_server_builder() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, TlsMaterialError> {
    Ok(ServerConfig::builder_with_provider(crypto_provider()).with_safe_default_protocol_versions()?)
}
