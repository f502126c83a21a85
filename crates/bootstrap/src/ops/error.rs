//! Why an operation did not do its work. Nothing was changed, unless a variant says otherwise.

use std::io;
use std::path::PathBuf;

use engine::Code;
use engine::journal::{JournalError, LockError, RunId};
use engine::plan::{PlanError, StepId};
use helm::HelmError;
use helmfile::{SelectorError, StateValueError};
use kubernetes::LeaseError;
use talos_client::{ClientError, ClientErrorKind, ResourceKindError};
use talos_config::{CertificateError, GenerateBundleError};
use talos_schema::UnknownContract;
use yaml::{Diagnostic, Diagnostics, SerializeError};

use crate::charts::ChartsError;
use crate::steps::{ContextError, LeaseRefusal, client_code, helm_code, secrets_code};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    #[error("cannot open the repository {}", .path.display())]
    Repository { path: PathBuf, source: io::Error },
    #[error("neither {variable} nor HOME is set")]
    NoFolder { variable: &'static str },
    #[error("cannot create the state folder {}", .path.display())]
    StateFolder { path: PathBuf, source: io::Error },
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A file that an argument names.
    #[error("cannot read {}", .path.display())]
    ReadInput { path: PathBuf, source: io::Error },
    #[error("cannot read {}", .path.display())]
    Kubeconfig { path: PathBuf, source: Diagnostic },
    #[error("cannot write YAML")]
    Yaml(#[from] SerializeError),
    /// Mistakes in the repository's files.
    #[error("{}", describe(.0))]
    Inputs(#[from] Diagnostics),
    #[error("cannot read the secrets bundle {path}")]
    NoBundle { path: String, source: io::Error },
    #[error("cannot generate a secrets bundle")]
    GenerateBundle(#[from] GenerateBundleError),
    #[error("cannot issue the administrator's certificates")]
    Certificates(#[from] CertificateError),
    #[error("{path} is encrypted as a whole: with placeholders in it, it does not describe a node")]
    EncryptedConfig { path: String },
    #[error(transparent)]
    Sops(secrets::sops::SopsError),
    #[error("{origin}")]
    References { origin: String, source: secrets::Error },
    #[error("the variable `{name}` is not set; `{wrapper}` sets it for recipes ({at})")]
    Variable { name: String, wrapper: String, at: String },
    #[error("the command for a node's config is empty")]
    EmptyCommand,
    #[error("the command for a node's config failed: `{command}`")]
    Command { command: String, source: process::Error },
    #[error("the command for a node's config printed output that is not UTF-8: `{command}`")]
    CommandOutput { command: String },
    /// Helm cannot be used.
    #[error(transparent)]
    HelmTool(tools::Error),
    /// `sops` cannot be used.
    #[error(transparent)]
    SopsTool(tools::Error),
    #[error("cannot use the chart bundle {}", .path.display())]
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
    #[error("`--hook {step}`: the outcome of this hook is not in question; nothing was changed")]
    UnaskedHook { step: StepId, open: Vec<StepId> },
    #[error("run {run} of `{cluster}` is unfinished: {done} of {steps} steps are done; nothing was changed")]
    Unfinished { run: RunId, cluster: String, done: usize, steps: usize, resume: String },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The first record of a run cannot be written.
    #[error(transparent)]
    StartRecord(JournalError),
    #[error("the run was not started")]
    LeaseRefused(#[source] LeaseRefusal),
    /// During a run, whose finished steps stay.
    #[error("the run was stopped")]
    LeaseLost(#[source] LeaseRefusal),
    #[error("cannot put the journal {location} of an earlier cluster aside")]
    Archive { location: String, source: io::Error },
    #[error("cannot read the machine config of node {node}")]
    RunningConfig { node: String, source: ClientError },
    #[error("the running machine config of node `{node}` is not valid YAML")]
    InvalidRunningConfig { node: String },
    #[error(transparent)]
    Call(#[from] ClientError),
    #[error(transparent)]
    ResourceKind(#[from] ResourceKindError),
    #[error("no control plane has a healthy etcd member{0}")]
    NoWorkingMember(NoMembers),
    #[error(transparent)]
    Selector(#[from] SelectorError),
    #[error(transparent)]
    StateValue(#[from] StateValueError),
    #[error("{} has no release that matches the selectors", .file.display())]
    NoReleases { file: PathBuf },
    #[error("cannot write the chart bundle {}", .path.display())]
    WriteBundle { path: PathBuf, source: io::Error },
    #[error("--talos-version")]
    TalosVersion(#[source] UnknownContract),
    #[error("invalid endpoint `{endpoint}`: expected https://HOST:PORT")]
    Endpoint { endpoint: String, suggestion: String },
    /// Warnings of a config that are errors because the operator says so.
    #[error("{}", describe(.0))]
    StrictWarnings(Diagnostics),
}

/// Why the members of a cluster cannot be used.
#[derive(Debug)]
pub struct NoMembers(pub(super) Vec<NoMember>);

impl std::fmt::Display for NoMembers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|member| write!(f, "\n  {}: {}", member.node, member.reason))
    }
}

#[derive(Debug)]
pub(super) struct NoMember {
    pub(super) node: String,
    pub(super) reason: NoMemberReason,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum NoMemberReason {
    #[error("its member has no leader")]
    NoLeader,
    #[error("{0}")]
    Call(ClientError),
}

/// What the operator does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint(pub String);

impl OpsError {
    /// Charts of `cluster` that cannot be opened.
    pub fn charts(error: ChartsError, cluster: &str) -> Self {
        match error {
            ChartsError::Helm(error) => Self::HelmTool(error),
            ChartsError::Bundle { path, source } => Self::ChartBundle { path, cluster: cluster.to_owned(), source },
        }
    }

    /// The entry of the error catalogue.
    pub fn code(&self) -> Code {
        match self {
            Self::Kubeconfig { .. }
            | Self::Inputs(_)
            | Self::EncryptedConfig { .. }
            | Self::ChartBundle { .. }
            | Self::Plan(_)
            | Self::StrictWarnings(_)
            | Self::Context(ContextError::Render(_)) => Code::I01,
            Self::UnknownNode { .. }
            | Self::NotControlPlane { .. }
            | Self::PlaceholdersForRun
            | Self::PlaceholdersForQuery
            | Self::UnknownHook { .. }
            | Self::UnaskedHook { .. }
            | Self::Selector(_)
            | Self::StateValue(_)
            | Self::NoReleases { .. }
            | Self::TalosVersion(_)
            | Self::ResourceKind(ResourceKindError::Unknown { .. } | ResourceKindError::Ambiguous { .. })
            | Self::Endpoint { .. } => Code::I02,
            Self::Repository { .. } | Self::Read { .. } | Self::ReadInput { .. } | Self::NoBundle { .. } => Code::I03,
            Self::HelmTool(_) | Self::SopsTool(_) => Code::P01,
            Self::NoFolder { .. } | Self::StateFolder { .. } | Self::Write { .. } | Self::WriteBundle { .. } => {
                Code::P02
            }
            Self::Unfinished { .. } => Code::P03,
            Self::Variable { .. } | Self::EmptyCommand | Self::Command { .. } | Self::CommandOutput { .. } => Code::P05,
            Self::Yaml(_) | Self::GenerateBundle(_) => Code::X01,
            Self::Certificates(error) | Self::Context(ContextError::Certificates(error)) => certificate_code(error),
            Self::Sops(_) => Code::O03,
            Self::References { source, .. } => secrets_code(source.kind()),
            Self::Helm(error) => helm_code(error.kind),
            Self::Lock(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::StartRecord(_) | Self::Archive { .. } => Code::O05,
            Self::LeaseRefused(_) | Self::LeaseLost(_) => Code::O04,
            Self::RunningConfig { source, .. } => client_code(source.kind),
            Self::InvalidRunningConfig { .. } => Code::T25,
            Self::Call(error) | Self::ResourceKind(ResourceKindError::Call(error)) => client_code(error.kind),
            Self::NoWorkingMember(_) => Code::T13,
        }
    }

    /// Whether the message has to say that nothing was changed: an error before a run, whose own text does not.
    pub fn is_before_any_change(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::HelmTool(_)
                | Self::SopsTool(_)
                | Self::ChartBundle { .. }
                | Self::Lock(_)
                | Self::Journal(_)
                | Self::StartRecord(_)
                | Self::Archive { .. }
        )
    }

    /// What the operator does next, if it is known.
    pub fn hint(&self) -> Option<Hint> {
        let text = match self {
            Self::NoFolder { .. } | Self::StateFolder { .. } => "set a folder with --state-dir".to_owned(),
            Self::Write { .. } | Self::StartRecord(_) | Self::Archive { .. } => {
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
            Self::ResourceKind(ResourceKindError::Unknown { .. }) => {
                "list its types: k8s-bootstrap node get CLUSTER NODE ResourceDefinitions".to_owned()
            }
            Self::Variable { wrapper, .. } => {
                format!("run k8s-bootstrap through the same wrapper: {wrapper} k8s-bootstrap …, or set the variable")
            }
            Self::Command { .. } => {
                "run it in the repository's root; clusters.<name>.exec in k8s-bootstrap.yaml names it".to_owned()
            }
            Self::HelmTool(_) => {
                "install helm 4, provide it with `k8s-bootstrap tools install`, or name its folder with --tools-dir"
                    .to_owned()
            }
            Self::SopsTool(_) => "install sops, or name its folder with --tools-dir".to_owned(),
            Self::ChartBundle { cluster, .. } => {
                format!("create one where registries are reachable: k8s-bootstrap bundle create {cluster} --out FILE")
            }
            Self::Helm(error) => return error.hint().map(Hint),
            Self::UnknownNode { nodes, .. } => format!("its nodes are {}", nodes.join(", ")),
            Self::PlaceholdersForRun => "leave --secrets out".to_owned(),
            Self::PlaceholdersForQuery => "remove --secrets placeholder".to_owned(),
            Self::UnknownHook { cluster, .. } => format!("`k8s-bootstrap plan {cluster}` lists the steps"),
            Self::UnaskedHook { open, .. } if open.is_empty() => "no hook is in question; leave --hook out".to_owned(),
            Self::UnaskedHook { open, .. } => {
                let steps: Vec<&str> = open.iter().map(StepId::as_str).collect();
                format!("in question: {}", steps.join(", "))
            }
            Self::Unfinished { resume, .. } => format!("continue it: {resume}"),
            Self::LeaseRefused(refusal) | Self::LeaseLost(refusal) => match refusal {
                LeaseRefusal::Unavailable(LeaseError::Expired(_)) => {
                    "make sure that this run is dead, then add --take-over".to_owned()
                }
                _ => "wait for it to end, or stop it there; then run with --resume".to_owned(),
            },
            Self::Lock(LockError::Held { .. }) => "wait for it to end, or stop it".to_owned(),
            Self::Lock(LockError::Io { .. }) => "set another folder with --state-dir".to_owned(),
            Self::Journal(error) => error.code().next().to_owned(),
            Self::RunningConfig { .. } => {
                "a node without a config has nothing to compare: leave --diff out, or name another node".to_owned()
            }
            Self::Certificates(CertificateError::OutOfTime { .. })
            | Self::Context(ContextError::Certificates(CertificateError::OutOfTime { .. })) => {
                Code::O12.next().to_owned()
            }
            Self::Call(error) => match error.kind {
                ClientErrorKind::OutOfTime => Code::O12.next().to_owned(),
                ClientErrorKind::Untrusted => {
                    "the node may have no config yet, or belong to another cluster".to_owned()
                }
                ClientErrorKind::Unavailable => "check that the node is on and its port 50000 is reachable".to_owned(),
                _ => return None,
            },
            Self::NoReleases { .. } => {
                "list its releases and their labels: k8s-bootstrap releases list -f FILE".to_owned()
            }
            Self::WriteBundle { .. } => "free space there, or pass another file with --out".to_owned(),
            Self::Endpoint { suggestion, .. } => format!("did you mean {suggestion}?"),
            Self::StrictWarnings(_) => "--strict treats warnings as errors".to_owned(),
            _ => return None,
        };
        Some(Hint(text))
    }
}

fn certificate_code(error: &CertificateError) -> Code {
    match error {
        CertificateError::OutOfTime { .. } => Code::T15,
        CertificateError::Invalid { .. } => Code::I01,
        CertificateError::Make(_) | CertificateError::Rsa => Code::X01,
    }
}

fn describe(found: &Diagnostics) -> String {
    let count = found.len();
    let noun = if count == 1 { "mistake" } else { "mistakes" };
    format!("{count} {noun} in the inputs; nothing was changed\n{found}")
}
