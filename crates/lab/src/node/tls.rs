//! The two TLS set-ups of a machine's port (Talos 1.11 to 1.14).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::FromDer;

use super::Node;
use crate::machine::{MachineConfig, Pair};
use crate::pki::{Authority, Key, Leaf, Subject, Use};

/// Server TLS with a certificate that nobody can check, and no client certificate.
pub(super) fn maintenance(node: &Node) -> Result<ServerConfig, String> {
    let leaf = Authority::throwaway()?.issue(&Subject {
        name: "maintenance-service.talos.dev",
        organizations: vec![],
        addresses: vec![node.address(), node.mapped(), Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        names: vec![node.name().to_owned()],
        purpose: Use::Server,
        key: Key::Ed25519,
    })?;
    let (chain, key) = material(&leaf)?;
    let config = builder()?.with_no_client_auth().with_single_cert(chain, key);
    Ok(with_h2(config.map_err(|error| error.to_string())?))
}

/// Mutual TLS: the machine CA signs both sides. A worker's certificate is signed by a control plane, whose key it is.
pub(super) fn configured(node: &Node, config: &MachineConfig, signer: &Pair) -> Result<ServerConfig, String> {
    let (mut addresses, mut names) =
        (vec![node.address(), node.mapped(), IpAddr::from(Ipv4Addr::LOCALHOST)], vec![node.hostname()]);
    for san in &config.cert_sans {
        match san.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => names.push(san.clone()),
        }
    }
    let hostname = node.hostname();
    let leaf = Authority::new(&signer.certificate, &signer.key)?.issue(&Subject {
        name: &hostname,
        organizations: vec![],
        addresses,
        names,
        purpose: Use::Server,
        key: Key::Ed25519,
    })?;
    let (chain, key) = material(&leaf)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(config.ca.certificate.as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| error.to_string())?;
    let config = builder()?.with_client_cert_verifier(verifier).with_single_cert(chain, key);
    Ok(with_h2(config.map_err(|error| error.to_string())?))
}

/// The roles in a client certificate, or why it is refused: its extended key usage must be client use and nothing else.
pub(super) fn roles(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let (_, parsed) =
        x509_parser::certificate::X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let usage = parsed.extended_key_usage().map_err(|error| error.to_string())?;
    let client_only = usage.is_some_and(|usage| {
        let usage = usage.value;
        usage.client_auth && !usage.server_auth && !usage.any && usage.other.is_empty()
    });
    if !client_only {
        return Err("certificate's extended key usage is not exactly clientAuth".to_owned());
    }
    let organizations = parsed.subject().iter_organization();
    Ok(organizations.filter_map(|attribute| attribute.as_str().ok().map(str::to_owned)).collect())
}

fn material(leaf: &Leaf) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes()).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes());
    Ok((chain.map_err(|error| error.to_string())?, key.map_err(|error| error.to_string())?))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, String> {
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())
}

fn with_h2(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.send_tls13_tickets = 0;
    config
}
