//! What the tasks that simulate the inside of the Kubernetes cluster share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::cluster_cache::ClusterCache;
use super::control_plane::KUBECONFIG;
use super::node::{LabContext, SimulatedNode};
use super::record::facts;
use super::spec::{PlayedReason, ReleaseKey, ReleaseSpec, WorkingTree};

/// What simulated operators need from outside the cluster.
#[derive(Debug)]
pub(super) struct OperatorTools {
    pub(super) helm: PathBuf,
    pub(super) helm_version: semver::Version,
    /// Where charts are served by plain HTTP.
    pub(super) registry: Option<SocketAddr>,
    /// The lab's folder.
    pub(super) folder: PathBuf,
    pub(super) kustomize: KustomizeController,
}

/// What applies the repository's Kustomizations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KustomizeController {
    Played(PlayedReason),
    Real(RealKustomize),
}

/// The real program and what it builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RealKustomize {
    pub(super) program: PathBuf,
    pub(super) version: semver::Version,
    pub(super) tree: WorkingTree,
}

impl OperatorTools {
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.folder.join(KUBECONFIG)
    }

    /// An address of the lab's own network, for what its programs fetch.
    pub(super) fn loopback(&self) -> IpAddr {
        self.registry.map_or(Ipv4Addr::LOCALHOST.into(), |registry| registry.ip())
    }
}

/// Shared by kubelets, operators and the record of releases.
#[derive(Debug, Clone)]
pub(super) struct ClusterContext {
    pub(super) lab: LabContext,
    pub(super) cache: Arc<ClusterCache>,
    pub(super) nodes: Vec<Arc<SimulatedNode>>,
    pub(super) releases: Arc<[ReleaseSpec]>,
    pub(super) tools: Arc<OperatorTools>,
}

impl ClusterContext {
    /// The facts that the pod's creation and its present state depend on.
    pub(super) fn pod_causes(&self, pod: &Pod) -> Vec<String> {
        let prerequisites = self.cache.owning_release(pod).map(|release| self.release_causes(&release));
        let holds = self.lab.scenario.pods.holds.iter().filter(|hold| hold.pod.selects(pod));
        let holds = holds.map(|hold| hold.until.clone());
        let causes = prerequisites.into_iter().flatten().chain(self.cache.recorded_cause(pod)).chain(holds);
        std::iter::once(facts::CONTROLLERS_RUNNING.to_owned()).chain(causes).collect()
    }

    /// The facts that the installation of a release depends on.
    pub(super) fn release_causes(&self, key: &ReleaseKey) -> Vec<String> {
        let release = self.releases.iter().find(|release| release.key() == *key);
        let needs = release.into_iter().flat_map(|release| &release.needs);
        needs
            .flat_map(|need| {
                let effects = facts::release_effects(need.rsplit('/').next().unwrap_or_default());
                let effects = effects.iter().map(|&effect| effect.to_owned());
                std::iter::once(format!("release/{need}/ready")).chain(effects)
            })
            .collect()
    }
}
