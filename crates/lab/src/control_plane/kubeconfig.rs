//! Kubeconfigs: those of the lab's own programs, and the one that a machine's API serves.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::ControlPlaneError;
use super::program_files::client_subject;
use crate::machine_config::AppliedConfig;
use crate::pki::{CertificateAuthority, IssuedCertificate};
use crate::yaml_text::to_yaml;

pub(super) struct Kubeconfig<'k> {
    pub(super) cluster: &'k str,
    pub(super) server: &'k str,
    pub(super) tls_server_name: Option<&'k str>,
    /// The Kubernetes CA, as PEM.
    pub(super) authority: &'k str,
    pub(super) client: &'k IssuedCertificate,
}

pub(super) fn to_text(kubeconfig: &Kubeconfig<'_>) -> String {
    let (name, user) = (kubeconfig.cluster, format!("admin@{}", kubeconfig.cluster));
    let authority = STANDARD.encode(kubeconfig.authority);
    let mut cluster = json!({"server": kubeconfig.server, "certificate-authority-data": authority});
    if let Some(tls_server_name) = kubeconfig.tls_server_name {
        cluster["tls-server-name"] = json!(tls_server_name);
    }
    to_yaml(&json!({
        "apiVersion": "v1", "kind": "Config", "current-context": user,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(&kubeconfig.client.certificate),
            "client-key-data": STANDARD.encode(&kubeconfig.client.key),
        }}],
        "contexts": [{"name": user, "context": {"cluster": name, "namespace": "default", "user": user}}],
    }))
}

/// The response to the `Kubeconfig` call (Talos 1.12): a gzipped tar with one file and without an end-of-archive mark.
pub(crate) fn kubeconfig_archive(config: &AppliedConfig) -> Result<Vec<u8>, ControlPlaneError> {
    let authority = CertificateAuthority::from_pem(&config.kubernetes_ca.certificate, &config.kubernetes_ca.key)?;
    let client = authority.issue(&client_subject("admin", Some("system:masters")))?;
    let content = to_text(&Kubeconfig {
        cluster: &config.cluster_name,
        server: &config.endpoint,
        tls_server_name: None,
        authority: &authority.certificate,
        client: &client,
    });
    archive(&content).map_err(ControlPlaneError::Archive)
}

fn archive(content: &str) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "kubeconfig", content.as_bytes())?;
    // Talos never closes its tar writer, so the two blocks that end an archive are missing.
    let mut plain = builder.into_inner()?;
    plain.truncate(plain.len() - 1024);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, &plain)?;
    gzip.finish()
}
