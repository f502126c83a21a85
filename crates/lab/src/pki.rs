//! Certificates that the lab's machines issue out of the authorities in their configs.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType,
};
use rustls_pki_types::PrivateKeyDer;

/// An authority that can sign.
pub(super) struct Authority {
    pub(super) certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Server,
    Client,
    Both,
}

/// The key that a certificate gets: Talos's API uses Ed25519, Kubernetes and etcd ECDSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Ed25519,
    Ecdsa,
}

/// What to put into a certificate.
#[derive(Debug, Clone)]
pub(super) struct Subject<'s> {
    pub(super) name: &'s str,
    pub(super) organizations: Vec<&'s str>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) names: Vec<String>,
    pub(super) purpose: Use,
    pub(super) key: Key,
}

const YEAR: Duration = Duration::from_hours(8760);
const HOUR: Duration = Duration::from_hours(1);

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// An authority from its PEM texts.
    pub(super) fn new(certificate: &str, key: &str) -> Result<Self, String> {
        let parsed = pem::parse(key).map_err(|_| "its key is no PEM text".to_owned())?;
        let der = match parsed.tag() {
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(parsed.into_contents().into()),
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(parsed.into_contents().into()),
            _ => PrivateKeyDer::Pkcs8(parsed.into_contents().into()),
        };
        let key = KeyPair::try_from(&der).map_err(|error| error.to_string())?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(|error| error.to_string())?;
        Ok(Self { certificate: certificate.to_owned(), issuer })
    }

    /// A throw-away Ed25519 authority, as a machine makes one at each boot into maintenance mode.
    pub(super) fn throwaway() -> Result<Self, String> {
        let make = || -> Result<Self, rcgen::Error> {
            let key = KeyPair::generate_for(&PKCS_ED25519)?;
            let mut params = CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
            let certificate = params.self_signed(&key)?.pem();
            Ok(Self { issuer: Issuer::from_ca_cert_pem(&certificate, key)?, certificate })
        };
        make().map_err(|error| error.to_string())
    }

    /// Issues a certificate with a key of its own, valid for a year from an hour ago.
    pub(super) fn issue(&self, subject: &Subject<'_>) -> Result<Leaf, String> {
        self.issue_for(subject, YEAR)
    }

    /// The same, valid for another time from now.
    pub(super) fn issue_for(&self, subject: &Subject<'_>, validity: Duration) -> Result<Leaf, String> {
        self.try_issue(subject, validity).map_err(|error| format!("no certificate for {}: {error}", subject.name))
    }

    fn try_issue(&self, subject: &Subject<'_>, validity: Duration) -> Result<Leaf, rcgen::Error> {
        let key = KeyPair::generate_for(match subject.key {
            Key::Ed25519 => &PKCS_ED25519,
            Key::Ecdsa => &PKCS_ECDSA_P256_SHA256,
        })?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        for organization in &subject.organizations {
            name.push(DnType::OrganizationName, *organization);
        }
        if !subject.name.is_empty() {
            name.push(DnType::CommonName, subject.name);
        }
        params.distinguished_name = name;
        params.subject_alt_names = subject.addresses.iter().map(|address| SanType::IpAddress(*address)).collect();
        for name in &subject.names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match subject.purpose {
            Use::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Use::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Use::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + now.saturating_sub(HOUR);
        params.not_after = epoch + now + validity;
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Leaf { certificate, key: key.serialize_pem() })
    }
}
