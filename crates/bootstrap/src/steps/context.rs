//! What the steps of a run share: the cluster, its credentials, and how its nodes are reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::select_ok;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::Mutex;

use super::choices::Choices;
use super::config_warnings::ConfigWarnings;
use super::errors::step_error;
use super::etcd_watch::{EtcdWatches, WatchedNode};
use super::kinds::Kinds;
use super::object_owners::ObjectOwners;
use super::pending::LeaseView;
use super::run_lease::RunLease;
use engine::journal::{ClusterFact, ClusterFacts, History};
use engine::plan::{FingerprintKey, StepId};
use engine::{Code, StepContext, StepError};
use helm::{Charts, TemplateOptions};

use crate::charts::{ChartsError, LazyCharts};
use kubernetes::{Access, AccessError, UnpulledImage};
use net::{Dialer, DownloadSource};
use process::SecretFile;
use repository::Cluster;
use retry::policies::USUAL_BOOT;
use secrets::sops::Sops;
use secrets::{Redactor, Sources};
use talos_client::{BootTimes, Client, ClientError, ClientIdentity, NodeConnections, Probe};
use talos_config::registries;
use talos_config::{
    AdminIdentity, CertificateError, InventoryNode, KubernetesAdmin, RenderedConfig, SecretsBundle, ca_fingerprint,
    kubeconfig, talosconfig,
};
use talos_schema::Documents;
use yaml::Diagnostics;

/// A server that is ready says so within this; shorter than the time that any caller waits.
const READY: Duration = Duration::from_secs(2);

/// An API that is up responds within this.
const RESPONSE: Duration = Duration::from_secs(3);

/// The step after which a node runs its config.
fn configured_step(node: &InventoryNode) -> StepId {
    StepId::new(format!("machine-config/{}", node.hostname))
}

/// What the steps of a run share.
pub struct RunContext {
    pub cluster: Cluster,
    pub dialer: Dialer,
    pub(super) choices: Choices,
    /// Where this cluster's journal, kubeconfig and talosconfig are kept.
    pub folder: PathBuf,
    charts: LazyCharts,
    pub(super) downloads: DownloadSource,
    pub(super) secrets: SecretsFrom,
    /// What builds kustomizations; hooks find it too.
    pub(super) kubectl: Option<PathBuf>,
    pub(super) redactor: Redactor,
    bundle: SecretsBundle,
    /// The config of each node by hostname, from the one validated rendering.
    rendered: BTreeMap<String, RenderedConfig>,
    pub(super) talos: AdminIdentity,
    pub(super) client_identity: ClientIdentity,
    pub(super) connections: NodeConnections,
    pub(super) etcd_watches: EtcdWatches,
    pub(super) config_warnings: ConfigWarnings,
    /// Nodes that an earlier run of this epoch has configured, once the journal is read.
    configured_before: OnceLock<BTreeSet<String>>,
    kubernetes: KubernetesAdmin,
    client: Mutex<Option<kube::Client>>,
    api_has_served: AtomicBool,
    etcd_began: AtomicBool,
    boots: std::sync::Mutex<BootTimes>,
    pub(super) owners: ObjectOwners,
    pub(super) kinds: Kinds,
    pub(crate) lease: RunLease,
}

impl std::fmt::Debug for RunContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunContext").field("cluster", &self.cluster.name).finish_non_exhaustive()
    }
}

/// Where the secrets in manifests come from.
#[derive(Debug, Clone)]
pub enum SecretsFrom {
    /// The operator's own: the providers of references, and `sops` where it was found.
    Operator { references: Box<Sources>, sops: Option<Sops> },
    /// Values of the right shape, for a rehearsal.
    Placeholders,
}

/// The parts of a [`RunContext`].
#[derive(Debug)]
pub(crate) struct ContextParts {
    pub cluster: Cluster,
    pub bundle: SecretsBundle,
    pub dialer: Dialer,
    pub folder: PathBuf,
    pub(crate) choices: Choices,
    pub charts: LazyCharts,
    pub downloads: DownloadSource,
    pub secrets: SecretsFrom,
    pub kubectl: Option<PathBuf>,
    pub redactor: Redactor,
    /// Mistakes in the files, which are reported together with those that the configs have.
    pub(crate) found: Diagnostics,
}

/// Why a [`RunContext`] cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error("cannot issue the administrator's certificates")]
    Certificates(#[from] CertificateError),
    #[error(transparent)]
    Render(#[from] Diagnostics),
}

impl RunContext {
    /// Issues the administrator's certificates from the secrets of the cluster, without a prompt or network access.
    ///
    /// # Errors
    ///
    /// A bundle whose authorities cannot be used; a node whose config cannot be rendered.
    pub(crate) fn new(parts: ContextParts) -> Result<Self, ContextError> {
        let now = Timestamp::now();
        let ContextParts {
            cluster,
            bundle,
            dialer,
            folder,
            choices,
            charts,
            downloads,
            secrets,
            kubectl,
            redactor,
            mut found,
        } = parts;
        let mut rendered = BTreeMap::new();
        for node in &cluster.inventory.nodes {
            match cluster.inputs.config(&bundle, node) {
                Ok(config) => drop(rendered.insert(node.hostname.clone(), config)),
                Err(more) => found.extend(more),
            }
        }
        found.into_result(())?;
        let talos = AdminIdentity::issue(&bundle, now)?;
        let kubernetes = KubernetesAdmin::issue(&bundle, now)?;
        let client = Mutex::default();
        let client_identity = crate::client_identity(&talos);
        Ok(Self {
            connections: NodeConnections::new(dialer.clone(), client_identity.clone()),
            etcd_watches: EtcdWatches::default(),
            config_warnings: ConfigWarnings::new(
                cluster.inventory.nodes.iter().map(|node| node.hostname.clone()).collect(),
            ),
            configured_before: OnceLock::new(),
            cluster,
            dialer,
            choices,
            folder,
            charts,
            downloads,
            secrets,
            kubectl,
            redactor,
            bundle,
            rendered,
            client_identity,
            talos,
            kubernetes,
            client,
            api_has_served: AtomicBool::new(false),
            etcd_began: AtomicBool::new(false),
            boots: std::sync::Mutex::default(),
            owners: ObjectOwners::default(),
            kinds: Kinds::default(),
            lease: RunLease::default(),
        })
    }

    /// SHA-256 of the Talos CA: distinguishes this cluster from another of the same name.
    ///
    /// # Errors
    ///
    /// When the bundle holds no certificate.
    pub fn talos_ca(&self) -> Result<String, CertificateError> {
        ca_fingerprint(&self.bundle.os.certificate)
    }

    /// Warnings about patches that change nothing on any node.
    pub fn unused_patches(&self) -> Diagnostics {
        RenderedConfig::unused_patches(self.rendered.values())
    }

    /// The validated config of a node, rendered once. It holds secrets.
    #[expect(clippy::expect_used, reason = "`new` fails unless every node of the inventory has a rendered config")]
    fn rendered(&self, node: &InventoryNode) -> &RenderedConfig {
        self.rendered.get(&node.hostname).expect("a node of the inventory")
    }

    pub(super) fn config(&self, node: &InventoryNode) -> &Documents {
        &self.rendered(node).documents
    }

    /// The field of a node's config that the node's message names, and who set it: "`machine.install.disk` set by …".
    pub(super) fn field_in_message(&self, node: &InventoryNode, message: &str) -> Option<String> {
        let field = self.rendered(node).field_in_message(message)?;
        Some(format!("`{}` is set by {}", field.path, field.setter))
    }

    /// Whom a node asks for an image that it does not get, when its config says more than the image does.
    pub(super) fn image_endpoints(&self, unpulled: &UnpulledImage) -> Option<String> {
        let name = unpulled.node.as_ref()?;
        let node = self.cluster.inventory.nodes.iter().find(|node| node.hostname == *name)?;
        let asked = registries::pull_endpoints(self.config(node), &unpulled.image)?;
        Some(format!("its config has it asked for at {}", asked.join(", then ")))
    }

    pub(super) fn config_text(&self, node: &InventoryNode) -> SecretString {
        self.config(node).to_yaml().into()
    }

    /// Keys the fingerprints of secret inputs.
    pub(super) fn fingerprint_key(&self) -> FingerprintKey {
        FingerprintKey::new(&self.bundle.cluster_secret)
    }

    /// Helm and the charts.
    pub(super) async fn charts(&self) -> Result<&Charts, StepError> {
        self.charts.get().await.map_err(|error| match error {
            ChartsError::Helm(_) => StepError::failed_precondition("helm cannot be used")
                .caused_by(&error)
                .next(
                    "install helm 4, provide it with `k8s-bootstrap tools install`, or name its folder with --tools-dir",
                )
                .code(Code::P01),
            ChartsError::Bundle { .. } => {
                StepError::failed_precondition("the chart bundle cannot be used").caused_by(&error).code(Code::I01)
            }
        })
    }

    /// Finds helm and opens the chart bundle, so that a missing one is reported before anything else.
    ///
    /// # Errors
    ///
    /// As [`LazyCharts::get`].
    pub async fn open_charts(&self) -> Result<&Charts, ChartsError> {
        self.charts.get().await
    }

    /// What charts may ask about the cluster that they will be installed on.
    pub(super) fn template_options(&self) -> TemplateOptions {
        let version = self.cluster.inventory.kubernetes_version.clone();
        TemplateOptions { kube_version: Some(version), ..TemplateOptions::default() }
    }

    pub(super) fn control_planes(&self) -> Vec<&InventoryNode> {
        self.cluster.inventory.control_planes()
    }

    pub(super) fn hostnames(&self) -> BTreeSet<String> {
        self.cluster.inventory.nodes.iter().map(|node| node.hostname.clone()).collect()
    }

    /// The way into the Kubernetes API, by the control planes' own addresses.
    pub fn access(&self) -> Access {
        let endpoint = &self.cluster.inventory.endpoint;
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

    /// A client of an API server that is ready; the one that served last while it still is. A run holds the cluster's lease
    /// from then on.
    pub(super) async fn kubernetes(&self) -> Result<kube::Client, StepError> {
        let client = self.ready_client().await?;
        // Boxed: every step waits on this future.
        Box::pin(self.lease.ensure(&client, || self.access(), &self.dialer)).await?;
        Ok(client)
    }

    /// Takes the cluster's lease at the start of a run if the API is up then, before any node is changed.
    pub(crate) async fn take_lease_of_living_cluster(&self) {
        let access = self.access();
        let connects = access.servers.iter().map(|server| {
            let one = Access { servers: vec![*server], ..access.clone() };
            Box::pin(async move { kubernetes::connect(&one, &self.dialer).await })
        });
        let connects: Vec<_> = connects.collect();
        if connects.is_empty() {
            return;
        }
        if let Ok(Ok((client, _))) = tokio::time::timeout(RESPONSE, select_ok(connects)).await {
            // Why it is refused is kept; an API that goes away again is met by the steps.
            let _ = self.lease.ensure(&client, || self.access(), &self.dialer).await;
        }
    }

    pub(super) fn lease_view(&self) -> LeaseView {
        if self.lease.is_held() { LeaseView::Ours } else { LeaseView::NotOurs }
    }

    async fn ready_client(&self) -> Result<kube::Client, StepError> {
        let mut known = self.client.lock().await;
        if let Some(client) = known.as_ref() {
            if matches!(tokio::time::timeout(READY, kubernetes::readyz(client)).await, Ok(Ok(()))) {
                return Ok(client.clone());
            }
            *known = None;
        }
        let client = kubernetes::connect(&self.access(), &self.dialer).await.map_err(|error| match error {
            error if error.is_retryable() => self.api_unreachable(&error),
            error => StepError::invalid_input("the Kubernetes API cannot be used").caused_by(&error),
        })?;
        *known = Some(client.clone());
        self.api_has_served.store(true, Ordering::Relaxed);
        Ok(client)
    }

    /// An API that has served this run is in an outage (K07); one that has not is not up yet (K01). Both are waited for.
    fn api_unreachable(&self, error: &AccessError) -> StepError {
        let code = if self.api_has_served.load(Ordering::Relaxed) { Code::K07 } else { Code::K01 };
        StepError::not_ready("the Kubernetes API does not respond").caused_by(error).code(code)
    }

    /// The kubeconfig of this cluster where a child can read it, by a control plane's own address. Recipes call the
    /// context by the cluster's name.
    pub(super) async fn child_kubeconfig(&self) -> Result<SecretFile, StepError> {
        let server = kubernetes::ready_server(&self.access(), &self.dialer).await;
        let server = server.map_err(|error| self.api_unreachable(&error))?;
        let host = &self.cluster.inventory.endpoint.host;
        let (name, aliases) = (&self.cluster.name, [&*self.cluster.name, &*self.cluster.inventory.cluster_name]);
        let content = kubeconfig(&self.kubernetes, name, &format!("https://{server}"), Some(host), &aliases);
        SecretFile::new(&content).map_err(|error| {
            StepError::failed_precondition("the kubeconfig for child processes cannot be created")
                .caused_by(&error)
                .code(Code::X01)
        })
    }

    /// Notes which nodes an earlier run has configured.
    pub(crate) fn note_history(&self, history: &History) {
        let is_done = |node: &&InventoryNode| history.ever_done.contains(&configured_step(node));
        let nodes = self.cluster.inventory.nodes.iter().filter(is_done);
        let _ = self.configured_before.set(nodes.map(|node| node.hostname.clone()).collect());
    }

    /// Whether the node may have its config from an earlier run.
    pub(super) fn may_be_configured(&self, node: &InventoryNode) -> bool {
        self.choices.resumed || self.configured_before.get().is_some_and(|nodes| nodes.contains(&node.hostname))
    }

    /// Notes that this run has sent the call with which etcd begins.
    pub(super) fn note_etcd_bootstrap(&self) {
        self.etcd_began.store(true, Ordering::Relaxed);
    }

    /// Whether this run has.
    pub(super) fn has_bootstrapped_etcd(&self) -> bool {
        self.etcd_began.load(Ordering::Relaxed)
    }

    /// What a node is.
    pub(super) async fn probe(&self, node: &InventoryNode) -> Result<Probe, StepError> {
        let pin = self.choices.pins.get(&node.address);
        let probed = self.connections.probe(node.address, self.usual_boot(node), pin).await;
        probed.map_err(|error| step_error(&error, node))
    }

    /// The administrator's connection to a node, which all steps share.
    pub(super) async fn node_client(&self, node: &InventoryNode) -> Result<Client, ClientError> {
        self.connections.client(node.address, self.usual_boot(node)).await
    }

    /// A control plane, with a subscription to its events.
    pub(super) async fn watched(&self, node: &InventoryNode) -> Result<Arc<WatchedNode>, ClientError> {
        self.etcd_watches.node(node.address, self.node_client(node)).await
    }

    fn usual_boot(&self, node: &InventoryNode) -> Duration {
        self.boots.lock().unwrap_or_else(PoisonError::into_inner).usual(node.address)
    }

    /// How long a node may be unreachable before the step fails.
    pub(super) fn boot_limit(&self, node: &InventoryNode) -> Duration {
        self.boots.lock().unwrap_or_else(PoisonError::into_inner).limit(node.address)
    }

    /// Notes how long a node was away, for this run; a boot that is not a usual one for later runs too.
    pub(super) async fn learn_boot(&self, node: &InventoryNode, took: Duration, cx: &StepContext) {
        self.note_boot(node, took);
        if took <= USUAL_BOOT {
            return;
        }
        cx.learn(ClusterFact::BootDuration { node: node.hostname.clone(), seconds: took.as_secs() }).await;
    }

    fn note_boot(&self, node: &InventoryNode, took: Duration) {
        self.boots.lock().unwrap_or_else(PoisonError::into_inner).learn(node.address, took);
    }

    /// Takes over how long boots took in earlier runs.
    pub(crate) fn recall_boots(&self, facts: &ClusterFacts) {
        for node in &self.cluster.inventory.nodes {
            if let Some(seconds) = facts.boot_seconds.get(&node.hostname) {
                self.note_boot(node, Duration::from_secs(*seconds));
            }
        }
    }

    /// The kubeconfig to keep: in a rehearsal it dials where the lab is, under the declared name.
    pub(super) fn kubeconfig(&self) -> SecretString {
        let endpoint = &self.cluster.inventory.endpoint;
        let declared = endpoint.address().map(|address| SocketAddr::new(address, endpoint.port));
        let dialled = declared.and_then(|address| self.dialer.target(address).ok());
        match dialled {
            Some(target) if Some(target) != declared => kubeconfig(
                &self.kubernetes,
                &self.cluster.name,
                &format!("https://{target}"),
                Some(&endpoint.host),
                &[],
            ),
            _ => kubeconfig(&self.kubernetes, &self.cluster.name, &endpoint.url(), None, &[]),
        }
    }

    pub(super) fn talosconfig(&self) -> SecretString {
        let texts =
            |nodes: Vec<&InventoryNode>| nodes.into_iter().map(|node| node.address.to_string()).collect::<Vec<_>>();
        let nodes = texts(self.cluster.inventory.nodes.iter().collect());
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
