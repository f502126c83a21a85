//! What an operation is asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::plan::StepId;
use kubernetes::ExpiredLease;
use net::AddressMap;
use talos_client::CertificateFingerprint;

use crate::steps::{HookAnswer, RolloutOptions};

/// What an operation works on.
#[derive(Debug, Clone)]
pub enum Target {
    /// The real nodes.
    Cluster,
    /// The simulated nodes of a lab.
    Lab(LabAccess),
}

impl Target {
    pub fn is_lab(&self) -> bool {
        matches!(self, Self::Lab(_))
    }

    /// Where the secrets of this target come from unless the operator says otherwise.
    pub fn default_secrets(&self) -> SecretsMode {
        match self {
            Self::Cluster => SecretsMode::Real,
            Self::Lab(_) => SecretsMode::Placeholder,
        }
    }
}

/// How a running lab is reached.
#[derive(Debug, Clone)]
pub struct LabAccess {
    /// The lab's folder; its runs are kept below it.
    pub folder: PathBuf,
    /// Declared addresses to loopback addresses.
    pub addresses: AddressMap,
    /// Registry hosts to the lab's registry.
    pub mirrors: BTreeMap<String, String>,
    /// The folder of files that stand in for URLs.
    pub web: PathBuf,
}

impl LabAccess {
    /// A lab that has ended: its records can be read, and nothing in it dialled.
    pub fn ended(folder: PathBuf) -> Self {
        Self { web: folder.clone(), folder, addresses: AddressMap::default(), mirrors: BTreeMap::new() }
    }
}

/// Which secrets an operation uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretsMode {
    /// The operator's own, through sops, op and the declared sources.
    Real,
    /// Generated values of the right shape.
    Placeholder,
}

/// Options of a run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    pub cluster: String,
    pub target: Target,
    /// An unfinished run is continued; without it, it is an error.
    pub resume: bool,
    pub secrets: SecretsMode,
    /// A chart bundle that replaces the registries.
    pub bundle: Option<PathBuf>,
    /// The control plane that bootstraps etcd although others do not respond, by hostname or address.
    pub force_bootstrap_node: Option<String>,
    /// The operator's answers about hooks with an unknown outcome.
    pub hook_answers: Vec<(StepId, HookAnswer)>,
    /// Certificate fingerprints that nodes in maintenance mode must present, by hostname or address.
    pub pins: Vec<(String, CertificateFingerprint)>,
    /// How config changes reach configured nodes.
    pub rollout: RolloutOptions,
    /// What becomes of a cluster's lease that another run no longer renews.
    pub expired_lease: ExpiredLease,
}

impl RunOptions {
    /// A run with the target's defaults.
    pub fn new(cluster: impl Into<String>, target: Target) -> Self {
        Self {
            cluster: cluster.into(),
            resume: false,
            secrets: target.default_secrets(),
            bundle: None,
            force_bootstrap_node: None,
            hook_answers: Vec::new(),
            pins: Vec::new(),
            rollout: RolloutOptions::default(),
            expired_lease: ExpiredLease::Respect,
            target,
        }
    }
}
