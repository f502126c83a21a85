//! Where a run works: the cluster, the keys to it, and the way there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::cluster::Cluster;
use crate::dial::Dialer;
use crate::engine::{ErrorClass, StepError};
use crate::kubernetes::Access;
use crate::plan::Fingerprint;
use crate::talos::client::{ClientError, Kind};
use crate::talos::config::talconfig::{Node, RenderError};
use crate::talos::config::{
    AdminIdentity, Documents, KubernetesAdmin, PkiError, SecretsBundle, ca_fingerprint, kubeconfig, talosconfig,
};

/// A closed port that is due to open is tried this often.
pub(super) const KNOCK: Duration = Duration::from_millis(125);

/// Everything that the steps of a run share.
#[derive(Debug)]
pub struct Site {
    pub cluster: Cluster,
    pub dialer: Dialer,
    /// An earlier run is continued, so a node that is silent may be rebooting.
    pub resumed: bool,
    /// Where this cluster's journal, kubeconfig and talosconfig are kept.
    pub folder: PathBuf,
    bundle: SecretsBundle,
    pub(super) talos: AdminIdentity,
    kubernetes: KubernetesAdmin,
}

/// Why a run has no site.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    #[error("the administrator's certificates cannot be made: {0}")]
    Certificates(#[from] PkiError),
    #[error(transparent)]
    Render(#[from] RenderError),
}

impl Site {
    /// Takes the cluster's secrets and makes the administrator's certificates from them, without asking anybody.
    ///
    /// # Errors
    ///
    /// A bundle whose authorities cannot be used; a node whose config cannot be rendered.
    pub fn new(
        cluster: Cluster,
        bundle: SecretsBundle,
        dialer: Dialer,
        folder: PathBuf,
        resumed: bool,
    ) -> Result<Self, SiteError> {
        let now = Timestamp::now();
        for node in &cluster.talconfig.nodes {
            cluster.talconfig.render(&bundle, node)?;
        }
        Ok(Self {
            talos: AdminIdentity::issue(&bundle, now)?,
            kubernetes: KubernetesAdmin::issue(&bundle, now)?,
            cluster,
            dialer,
            resumed,
            folder,
            bundle,
        })
    }

    /// SHA-256 of the Talos CA: what tells this cluster from one of the same name.
    ///
    /// # Errors
    ///
    /// When the bundle holds no certificate.
    pub fn talos_ca(&self) -> Result<String, PkiError> {
        ca_fingerprint(&self.bundle.os.certificate)
    }

    /// The config of a node. It holds secrets.
    pub(super) fn config(&self, node: &Node) -> Documents {
        // Rendering was tried when the site was made, and nothing in it has changed since.
        self.cluster.talconfig.render(&self.bundle, node).unwrap_or_default()
    }

    pub(super) fn config_text(&self, node: &Node) -> SecretString {
        self.config(node).to_yaml().into()
    }

    /// The fingerprint of a node's config, keyed from the bundle: a plain digest of a secret could be guessed.
    pub(super) fn config_fingerprint(&self, node: &Node) -> Fingerprint {
        let key = self.bundle.cluster_secret.expose_secret().as_bytes();
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Fingerprint::builder().finish() };
        mac.update(self.config_text(node).expose_secret().as_bytes());
        Fingerprint::builder().part(mac.finalize().into_bytes()).finish()
    }

    pub(super) fn control_planes(&self) -> Vec<&Node> {
        self.cluster.talconfig.control_planes()
    }

    pub(super) fn hostnames(&self) -> BTreeSet<String> {
        self.cluster.talconfig.nodes.iter().map(|node| node.hostname.clone()).collect()
    }

    /// The way into the Kubernetes API, by the control planes' own addresses.
    pub fn access(&self) -> Access {
        let endpoint = &self.cluster.talconfig.endpoint;
        Access {
            servers: self
                .control_planes()
                .into_iter()
                .map(|node| SocketAddr::new(node.address, endpoint.port))
                .collect(),
            tls_server_name: endpoint.host.clone(),
            ca_pem: self.kubernetes.ca_pem.clone(),
            certificate_pem: self.kubernetes.certificate_pem.clone(),
            key_pem: self.kubernetes.key_pem.clone(),
        }
    }

    /// The kubeconfig to keep: in a rehearsal it dials where the lab is, under the declared name.
    pub(super) fn kubeconfig(&self) -> SecretString {
        let endpoint = &self.cluster.talconfig.endpoint;
        let declared = endpoint.address().map(|address| SocketAddr::new(address, endpoint.port));
        let dialled = declared.and_then(|address| self.dialer.target(address).ok());
        match dialled {
            Some(target) if Some(target) != declared => {
                kubeconfig(&self.kubernetes, &self.cluster.name, &format!("https://{target}"), Some(&endpoint.host))
            }
            _ => kubeconfig(&self.kubernetes, &self.cluster.name, &endpoint.url(), None),
        }
    }

    pub(super) fn talosconfig(&self) -> SecretString {
        let texts = |nodes: Vec<&Node>| nodes.into_iter().map(|node| node.address.to_string()).collect::<Vec<_>>();
        let nodes = texts(self.cluster.talconfig.nodes.iter().collect());
        talosconfig(&self.talos, &self.cluster.name, &texts(self.control_planes()), &nodes)
    }

    /// Where the kubeconfig is written.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Where the talosconfig is written.
    pub fn talosconfig_path(&self) -> PathBuf {
        self.folder.join("talosconfig")
    }
}

/// A client's error as a step's.
pub(super) fn step_error(error: &ClientError, node: &Node) -> StepError {
    let class = match error.kind {
        Kind::Unreachable | Kind::NotYet | Kind::Other => ErrorClass::Retryable,
        Kind::Refused | Kind::Unsupported => ErrorClass::WrongInput,
        Kind::Untrusted | Kind::AlreadyDone => ErrorClass::WrongWorld,
    };
    StepError::new(class, format!("{} failed", error.call))
        .at(format!("node {} ({})", node.hostname, node.address))
        .because(&error.reason)
}

/// Waits until a node answers as one of this cluster, knocking at its port and saying why it is waiting.
pub(super) async fn wait_configured(
    site: &Site,
    node: &Node,
    tell: &(dyn Fn(&str) + Send + Sync),
) -> Result<crate::talos::client::Client, StepError> {
    use crate::talos::client::Client;
    let mut told = String::new();
    loop {
        let reason = match Client::connect(&site.dialer, node.address, &site.talos).await {
            Ok(client) => match client.machine_status().await {
                Ok(_) => return Ok(client),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let line = match reason.kind {
            Kind::Unreachable => "its port is closed: installing or rebooting".to_owned(),
            Kind::Untrusted => "it still answers as an unconfigured node".to_owned(),
            _ => reason.to_string(),
        };
        if line != told {
            tell(&line);
            told = line;
        }
        tokio::time::sleep(KNOCK).await;
    }
}
