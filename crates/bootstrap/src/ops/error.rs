//! Why an operation did not do its work. Nothing was changed, unless a variant says otherwise.

use std::io;
use std::path::PathBuf;

use engine::Code;
use engine::journal::{JournalError, LockError, RunId};
use engine::plan::{PlanError, StepId};
use helm::HelmError;
use talos_client::ClientError;
use talos_config::{CertificateError, GenerateBundleError};
use yaml::Diagnostics;

use crate::steps::ContextError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    #[error("cannot open the repository {}: {source}", .path.display())]
    Repository { path: PathBuf, source: io::Error },
    #[error("neither {variable} nor HOME is set")]
    NoFolder { variable: &'static str },
    #[error("cannot create the state folder {}: {source}", .path.display())]
    StateFolder { path: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}; nothing was changed", .path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Mistakes in the repository's files.
    #[error("{}", describe(.0))]
    Inputs(#[from] Diagnostics),
    #[error("cannot read the secrets bundle {path}: {source}")]
    NoBundle { path: String, source: io::Error },
    #[error("cannot generate a secrets bundle: {0}")]
    GenerateBundle(#[from] GenerateBundleError),
    #[error("cannot issue the administrator's certificates: {0}")]
    Certificates(#[from] CertificateError),
    #[error("{path} is encrypted as a whole: with placeholders in it, it does not describe a node")]
    EncryptedConfig { path: String },
    #[error("{0}")]
    Sops(#[source] secrets::sops::SopsError),
    #[error("{origin}: {source}")]
    References { origin: String, source: secrets::Error },
    #[error("the variable `{name}` is not set; `{wrapper}` sets it for recipes ({at})")]
    Variable { name: String, wrapper: String, at: String },
    #[error("the command for a node's config is empty")]
    EmptyCommand,
    #[error("the command for a node's config failed: `{command}`: {source}")]
    Command { command: String, source: process::Error },
    #[error("the command for a node's config did not print text: `{command}`")]
    CommandOutput { command: String },
    #[error("{source}; nothing was changed")]
    Tool { source: tools::Error, purpose: ToolPurpose },
    #[error("cannot use the chart bundle {}: {source}; nothing was changed", .path.display())]
    ChartBundle { path: PathBuf, cluster: String, source: helm::BundleError },
    #[error(transparent)]
    Helm(#[from] HelmError),
    #[error("node `{name}` not found in cluster `{cluster}`")]
    UnknownNode { name: String, cluster: String, nodes: Vec<String> },
    #[error("`{name}` is not a control plane of `{cluster}`")]
    NotControlPlane { name: String, cluster: String },
    #[error("placeholder secrets are for rehearsals and plans only")]
    PlaceholdersForRun,
    #[error("--detailed-exitcode queries the cluster and needs its real secrets")]
    PlaceholdersForQuery,
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("`--hook {step}`: step not found in the plan")]
    UnknownHook { step: StepId, cluster: String },
    #[error("run {run} of `{cluster}` is unfinished: {done} of {steps} steps are done; nothing was changed")]
    Unfinished { run: RunId, cluster: String, done: usize, steps: usize, resume: String },
    #[error("{0}; nothing was changed")]
    Lock(#[from] LockError),
    #[error("{0}; nothing was changed")]
    Journal(#[from] JournalError),
    /// The first record of a run cannot be written.
    #[error("{0}; nothing was changed")]
    StartRecord(#[source] JournalError),
    #[error("cannot read the machine config of node {node}: {source}")]
    RunningConfig { node: String, source: ClientError },
    #[error("the running machine config of node `{node}` is not valid YAML")]
    InvalidRunningConfig { node: String },
}

/// What a missing tool was needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolPurpose {
    Helm,
    Sops,
}

/// What the operator does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint(pub String);

impl OpsError {
    /// The entry of the error catalogue, if there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Lock(error) => Some(error.code()),
            Self::Journal(error) => error.code(),
            Self::StartRecord(_) => Some(Code::O05),
            Self::Sops(_) => Some(Code::O03),
            _ => None,
        }
    }

    /// What the operator does next, if it is known.
    pub fn hint(&self) -> Option<Hint> {
        let text = match self {
            Self::NoFolder { .. } | Self::StateFolder { .. } => "set a folder with --state-dir".to_owned(),
            Self::Write { .. } | Self::StartRecord(_) => {
                "free space there, or set another folder with --state-dir".to_owned()
            }
            Self::NoBundle { .. } => "expected is talsecret.sops.yaml, talsecret.yaml or secrets.yaml; \
                 `k8s-bootstrap secrets gen` creates one"
                .to_owned(),
            Self::EncryptedConfig { .. } => {
                "rehearse with `--secrets real`, so that sops decrypts it; its content stays in memory".to_owned()
            }
            Self::Sops(_) => {
                "make the key available to sops, for example SOPS_AGE_KEY_FILE=~/.config/sops/age/keys.txt".to_owned()
            }
            Self::References { source, .. } => source.next(),
            Self::Variable { wrapper, .. } => {
                format!("run this behind it too: {wrapper} k8s-bootstrap …, or set the variable")
            }
            Self::Command { .. } => {
                "run it in the repository's root; clusters.<name>.exec in k8s-bootstrap.yaml names it".to_owned()
            }
            Self::Tool { purpose: ToolPurpose::Helm, .. } => {
                "install helm 4, provide it with `k8s-bootstrap tools install`, or name its folder with --tools-dir"
                    .to_owned()
            }
            Self::Tool { purpose: ToolPurpose::Sops, .. } => {
                "install sops, or name its folder with --tools-dir".to_owned()
            }
            Self::ChartBundle { cluster, .. } => {
                format!("create one where registries are reachable: k8s-bootstrap bundle create {cluster} --out FILE")
            }
            Self::Helm(error) => return error.hint().map(Hint),
            Self::UnknownNode { nodes, .. } => format!("its nodes are {}", nodes.join(", ")),
            Self::PlaceholdersForRun => "leave --secrets out".to_owned(),
            Self::PlaceholdersForQuery => "remove --secrets placeholder".to_owned(),
            Self::UnknownHook { cluster, .. } => format!("`k8s-bootstrap plan {cluster}` lists the steps"),
            Self::Unfinished { resume, .. } => format!("continue it: {resume}"),
            Self::Lock(LockError::Held { .. }) => "wait for it to end, or end it".to_owned(),
            Self::Lock(LockError::Io { .. }) => "set another folder with --state-dir".to_owned(),
            Self::Journal(_) => {
                "move the file away to start a new record; a run then adopts what it finds, with --resume".to_owned()
            }
            Self::RunningConfig { .. } => {
                "a node without a config has nothing to compare: leave --diff out, or name another node".to_owned()
            }
            _ => return None,
        };
        Some(Hint(text))
    }
}

fn describe(found: &Diagnostics) -> String {
    let count = found.len();
    let noun = if count == 1 { "mistake" } else { "mistakes" };
    format!("{count} {noun} in the inputs; nothing was changed\n{found}")
}
