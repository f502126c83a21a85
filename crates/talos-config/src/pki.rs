//! Keys and certificates, made offline.
//!
//! Facts from Talos 1.12 (`talosctl gen secrets`, siderolabs/crypto): key kinds, subjects and usages of the CAs, the
//! admin certificate without a common name, PEM labels.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::der_parser::der::parse_der;

use super::{CertificateAndKey, SecretsBundle};

/// How far a certificate's beginning lies before its making, for nodes whose clocks are slow.
const BACK_DATE: SignedDuration = SignedDuration::from_hours(1);
const TEN_YEARS: SignedDuration = SignedDuration::from_hours(87_600);
const ONE_YEAR: SignedDuration = SignedDuration::from_hours(8_760);

/// Why a key or certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("the {what} cannot be used: {reason}")]
    Unusable { what: &'static str, reason: String },
    #[error("a key or certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("an RSA key could not be made")]
    Rsa,
    /// Failure T15.
    #[error("the {what} of the secrets bundle is valid from {from} to {to}, and now it is {now}")]
    OutOfTime { what: &'static str, from: Timestamp, to: Timestamp, now: Timestamp },
}

/// What an administrator shows to Talos nodes, and how to know them.
#[derive(Debug, Clone)]
pub struct AdminIdentity {
    pub ca_pem: String,
    pub certificate_pem: String,
    pub key_pem: SecretString,
}

/// What an administrator shows to the Kubernetes API, and how to know it.
#[derive(Debug, Clone)]
pub struct KubernetesAdmin {
    pub ca_pem: String,
    pub certificate_pem: String,
    pub key_pem: SecretString,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Ed25519,
    EcdsaP256,
}

/// A self-signed CA, ten years.
pub(super) fn authority(
    organization: Option<&str>,
    kind: KeyKind,
    now: Timestamp,
) -> Result<CertificateAndKey, PkiError> {
    let key = new_key(kind)?;
    let mut params = params(organization, None, now, TEN_YEARS);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(CertificateAndKey { certificate: params.self_signed(&key)?.pem(), key: key_pem(&key, kind) })
}

/// A new RSA key of 4096 bit as PKCS#1 PEM, for service account tokens.
pub(super) fn rsa_private_key() -> Result<SecretString, PkiError> {
    use aws_lc_rs::encoding::AsDer;
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa4096).map_err(|_| PkiError::Rsa)?;
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().map_err(|_| PkiError::Rsa)?;
    let inner = pkcs8_content(der.as_ref()).ok_or(PkiError::Rsa)?;
    Ok(pem::encode_config(&pem::Pem::new("RSA PRIVATE KEY", inner), lf()).into())
}

/// SHA-256 over the DER of the first certificate in `pem`, in hexadecimal digits.
///
/// # Errors
///
/// When there is no certificate in the text.
pub fn ca_fingerprint(certificate_pem: &str) -> Result<String, PkiError> {
    let unusable = |reason: String| PkiError::Unusable { what: "Talos CA certificate", reason };
    let parsed = pem::parse(certificate_pem).map_err(|error| unusable(error.to_string()))?;
    Ok(Sha256::digest(parsed.contents()).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")))
}

/// A CA that has expired, or begins in the future, makes certificates that nobody accepts.
fn check_time(certificate_pem: &str, what: &'static str, now: Timestamp) -> Result<(), PkiError> {
    let unusable = |reason: String| PkiError::Unusable { what, reason };
    let parsed = pem::parse(certificate_pem).map_err(|error| unusable(error.to_string()))?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(parsed.contents()).map_err(|error| unusable(error.to_string()))?;
    let validity = certificate.validity();
    let moment = |at: x509_parser::time::ASN1Time| {
        Timestamp::from_second(at.timestamp()).map_err(|error| unusable(error.to_string()))
    };
    let (from, to) = (moment(validity.not_before)?, moment(validity.not_after)?);
    // Clocks differ; what begins within the hour is accepted by nodes that are as far ahead.
    if (from - BACK_DATE..=to).contains(&now) { Ok(()) } else { Err(PkiError::OutOfTime { what, from, to, now }) }
}

impl AdminIdentity {
    /// Issues an administrator's certificate for the Talos API: role `os:admin`, no common name, client use only.
    ///
    /// # Errors
    ///
    /// When the bundle's CA cannot be used, or not at this time.
    pub fn issue(bundle: &SecretsBundle, now: Timestamp) -> Result<Self, PkiError> {
        check_time(&bundle.os.certificate, "Talos CA", now)?;
        let key = new_key(KeyKind::Ed25519)?;
        let params = client_params(Some("os:admin"), None, now);
        let certificate = params.signed_by(&key, &issuer(&bundle.os, "Talos CA")?)?;
        Ok(Self {
            ca_pem: bundle.os.certificate.clone(),
            certificate_pem: certificate.pem(),
            key_pem: key_pem(&key, KeyKind::Ed25519),
        })
    }
}

impl KubernetesAdmin {
    /// Issues an administrator's certificate for the Kubernetes API, as Talos does: `admin` of `system:masters`.
    ///
    /// # Errors
    ///
    /// When the bundle's CA cannot be used.
    pub fn issue(bundle: &SecretsBundle, now: Timestamp) -> Result<Self, PkiError> {
        let key = new_key(KeyKind::EcdsaP256)?;
        let params = client_params(Some("system:masters"), Some("admin"), now);
        let certificate = params.signed_by(&key, &issuer(&bundle.kubernetes, "Kubernetes CA")?)?;
        Ok(Self {
            ca_pem: bundle.kubernetes.certificate.clone(),
            certificate_pem: certificate.pem(),
            key_pem: key_pem(&key, KeyKind::EcdsaP256),
        })
    }
}

/// A kubeconfig with the names that Talos gives: user and context `admin@<cluster>`. The context can be had under other
/// names too. The text is secret.
pub fn kubeconfig(
    admin: &KubernetesAdmin,
    cluster: &str,
    server: &str,
    tls_server_name: Option<&str>,
    aliases: &[&str],
) -> SecretString {
    let user = format!("admin@{cluster}");
    let mut api = json!({"server": server, "certificate-authority-data": STANDARD.encode(&admin.ca_pem)});
    if let Some(name) = tls_server_name {
        api["tls-server-name"] = json!(name);
    }
    let names: BTreeSet<&str> = aliases.iter().copied().chain([user.as_str()]).collect();
    let context = |name| json!({"name": name, "context": {"cluster": cluster, "namespace": "default", "user": user}});
    let contexts: Vec<Value> = names.into_iter().map(context).collect();
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": api}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(&admin.certificate_pem),
            "client-key-data": STANDARD.encode(admin.key_pem.expose_secret()),
        }}],
        "contexts": contexts,
        "current-context": user,
    });
    yaml::to_string(&config).unwrap_or_default().into()
}

/// A talosconfig with one context named after the cluster. The text is secret.
pub fn talosconfig(admin: &AdminIdentity, cluster: &str, endpoints: &[String], nodes: &[String]) -> SecretString {
    let mut context = json!({
        "endpoints": endpoints,
        "ca": STANDARD.encode(&admin.ca_pem),
        "crt": STANDARD.encode(&admin.certificate_pem),
        "key": STANDARD.encode(admin.key_pem.expose_secret()),
    });
    if !nodes.is_empty() {
        context["nodes"] = json!(nodes);
    }
    let config = json!({"context": cluster, "contexts": {cluster: context}});
    yaml::to_string(&config).unwrap_or_default().into()
}

fn new_key(kind: KeyKind) -> Result<KeyPair, PkiError> {
    Ok(KeyPair::generate_for(match kind {
        KeyKind::Ed25519 => &PKCS_ED25519,
        KeyKind::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
    })?)
}

/// Keys in the forms and under the labels that Talos writes and every release of it reads.
fn key_pem(key: &KeyPair, kind: KeyKind) -> SecretString {
    let pkcs8 = key.serialize_der();
    let (label, der) = match kind {
        KeyKind::Ed25519 => ("ED25519 PRIVATE KEY", pkcs8),
        KeyKind::EcdsaP256 => match sec1(&pkcs8, key.public_key_raw()) {
            Some(der) => ("EC PRIVATE KEY", der),
            None => ("PRIVATE KEY", pkcs8),
        },
    };
    pem::encode_config(&pem::Pem::new(label, der), lf()).into()
}

/// The key inside of PKCS#8, in the form of its own algorithm.
fn pkcs8_content(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let (_, outer) = parse_der(pkcs8).ok()?;
    outer.as_sequence().ok()?.get(2)?.as_slice().ok().map(<[u8]>::to_vec)
}

/// A P-256 key as RFC 5915 writes it, with its curve, which PKCS#8 leaves out.
fn sec1(pkcs8: &[u8], public: &[u8]) -> Option<Vec<u8>> {
    const BEFORE_SECRET: [u8; 7] = [0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20];
    const CURVE: [u8; 12] = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const BEFORE_PUBLIC: [u8; 5] = [0xa1, 0x44, 0x03, 0x42, 0x00];
    let content = pkcs8_content(pkcs8)?;
    let (_, key) = parse_der(&content).ok()?;
    let secret = key.as_sequence().ok()?.get(1)?.as_slice().ok()?;
    (secret.len() == 32 && public.len() == 65)
        .then(|| [&BEFORE_SECRET, secret, &CURVE, &BEFORE_PUBLIC, public].concat())
}

fn lf() -> pem::EncodeConfig {
    pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF)
}

fn client_params(organization: Option<&str>, common_name: Option<&str>, now: Timestamp) -> CertificateParams {
    let mut params = params(organization, common_name, now, ONE_YEAR);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn params(
    organization: Option<&str>,
    common_name: Option<&str>,
    now: Timestamp,
    validity: SignedDuration,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    if let Some(name) = common_name {
        subject.push(DnType::CommonName, name);
    }
    params.distinguished_name = subject;
    let moment = |at: Timestamp| {
        let seconds = u64::try_from(at.as_second()).unwrap_or_default();
        rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds)
    };
    params.not_before = moment(now - BACK_DATE);
    params.not_after = moment(now + validity);
    params.use_authority_key_identifier_extension = true;
    params
}

fn issuer(pair: &CertificateAndKey, what: &'static str) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let unusable = |reason: String| PkiError::Unusable { what, reason };
    let key = pem::parse(pair.key.expose_secret()).map_err(|_| unusable("its key is no PEM text".into()))?;
    let key = match key.tag() {
        "EC PRIVATE KEY" => rustls_pki_types::PrivateKeyDer::Sec1(key.into_contents().into()),
        "RSA PRIVATE KEY" => rustls_pki_types::PrivateKeyDer::Pkcs1(key.into_contents().into()),
        _ => rustls_pki_types::PrivateKeyDer::Pkcs8(key.into_contents().into()),
    };
    let key = KeyPair::try_from(&key).map_err(|error| unusable(error.to_string()))?;
    Issuer::from_ca_cert_pem(&pair.certificate, key).map_err(|error| unusable(error.to_string()))
}
