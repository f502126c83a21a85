//! The two TLS configurations of a machine's port (Talos 1.11 to 1.14).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::FromDer;

use super::SimulatedNode;
use crate::machine_config::{AppliedConfig, PemPair};
use crate::pki::{
    CertificateAuthority, CertificatePurpose, CertificateSubject, KeyAlgorithm, TlsMaterialError, crypto_provider,
    tls_server_builder,
};

/// Why a client certificate is rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientCertificateError {
    #[error("the certificate cannot be parsed")]
    Parse(#[from] x509_parser::error::X509Error),
    #[error("certificate's extended key usage is not exactly clientAuth")]
    ExtendedKeyUsage,
}

/// Server TLS with a self-signed certificate and without client certificates.
pub(super) fn maintenance(node: &SimulatedNode) -> Result<ServerConfig, TlsMaterialError> {
    let leaf = CertificateAuthority::generate()?.issue(&CertificateSubject {
        common_name: "maintenance-service.talos.dev",
        organizations: vec![],
        addresses: vec![node.address(), node.listen_address(), Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        dns_names: vec![node.name().to_owned()],
        purpose: CertificatePurpose::Server,
        key: KeyAlgorithm::Ed25519,
    })?;
    let builder = tls_server_builder()?.with_no_client_auth();
    Ok(with_h2(builder.with_single_cert(leaf.chain()?, leaf.private_key()?)?))
}

/// The certificate of a configured machine's API. It is issued anew whenever the machine's addresses change (Talos 1.11 to
/// 1.14, `APIController`); connections that are open stay so.
#[derive(Debug)]
pub(super) struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl CurrentCertificate {
    pub(super) fn issue(
        node: &SimulatedNode,
        config: &AppliedConfig,
        signer: &PemPair,
    ) -> Result<Arc<Self>, TlsMaterialError> {
        Ok(Arc::new(Self(RwLock::new(issue(node, config, signer)?))))
    }

    pub(super) fn reissue(
        &self,
        node: &SimulatedNode,
        config: &AppliedConfig,
        signer: &PemPair,
    ) -> Result<(), TlsMaterialError> {
        let issued = issue(node, config, signer)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = issued;
        Ok(())
    }
}

/// A certificate for the machine's present addresses. `signer` is the machine CA with its key, which a worker does not have
/// itself.
fn issue(
    node: &SimulatedNode,
    config: &AppliedConfig,
    signer: &PemPair,
) -> Result<Arc<CertifiedKey>, TlsMaterialError> {
    let hostname = node.hostname();
    let mut addresses = vec![node.address(), node.listen_address(), IpAddr::from(Ipv4Addr::LOCALHOST)];
    addresses.extend(node.lab.control_plane.vip_on(node.address()));
    let mut dns_names = vec![hostname.clone()];
    for san in &config.cert_sans {
        match san.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => dns_names.push(san.clone()),
        }
    }
    let leaf = CertificateAuthority::from_pem(&signer.certificate, &signer.key)?.issue(&CertificateSubject {
        common_name: &hostname,
        organizations: vec![],
        addresses,
        dns_names,
        purpose: CertificatePurpose::Server,
        key: KeyAlgorithm::Ed25519,
    })?;
    Ok(Arc::new(CertifiedKey::from_der(leaf.chain()?, leaf.private_key()?, &crypto_provider())?))
}

/// Mutual TLS: the machine CA signs both sides.
pub(super) fn configured(
    config: &AppliedConfig,
    certificate: Arc<CurrentCertificate>,
) -> Result<ServerConfig, TlsMaterialError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(config.ca.certificate.as_bytes()) {
        roots.add(certificate?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto_provider()).build()?;
    Ok(with_h2(tls_server_builder()?.with_client_cert_verifier(verifier).with_cert_resolver(certificate)))
}

/// The roles in a client certificate, whose extended key usage must be client authentication and nothing else.
pub(super) fn roles(certificate: &CertificateDer<'_>) -> Result<Vec<String>, ClientCertificateError> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|error| ClientCertificateError::Parse(error.into()))?;
    let is_client_only = parsed.extended_key_usage()?.is_some_and(|usage| {
        let usage = usage.value;
        usage.client_auth && !usage.server_auth && !usage.any && usage.other.is_empty()
    });
    if !is_client_only {
        return Err(ClientCertificateError::ExtendedKeyUsage);
    }
    let organizations = parsed.subject().iter_organization();
    Ok(organizations.filter_map(|attribute| attribute.as_str().ok().map(str::to_owned)).collect())
}

fn with_h2(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.send_tls13_tickets = 0;
    config
}
