//! A helmfile, read, merged and rendered.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Map, Value};

use yaml::Location;

/// A state file, or a folder of them, with all files that it names.
#[derive(Debug, Clone, Default)]
pub struct Helmfile {
    /// Absolute.
    pub path: PathBuf,
    /// The releases to install: selected and enabled; those of a sub-helmfile before those of its parent.
    pub releases: Vec<Release>,
    /// Every state file that was read, in the same order.
    pub files: Vec<StateFile>,
    /// Warnings, for example about values that are empty.
    pub notices: Vec<String>,
}

impl Helmfile {
    /// The hooks of all releases and files.
    pub fn hooks(&self) -> impl Iterator<Item = &Hook> {
        let of_releases = self.releases.iter().flat_map(|release| &release.hooks);
        of_releases.chain(self.files.iter().flat_map(|file| &file.hooks))
    }
}

/// One state file, its bases included.
#[derive(Debug, Clone)]
pub struct StateFile {
    /// Absolute.
    pub path: PathBuf,
    pub environment: String,
    /// `.Values`.
    pub values: Map<String, Value>,
    /// The selected releases, in file order, including disabled ones.
    pub releases: Vec<ListedRelease>,
    /// All releases, selected or not.
    pub known: Vec<ReleaseId>,
    /// The file's own hooks: `prepare` before its first release, `cleanup` after its last.
    pub hooks: Vec<Hook>,
}

/// A release of a state file, without values.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedRelease {
    pub name: String,
    /// Empty if the file names none.
    pub namespace: String,
    /// As written, with templates rendered.
    pub chart: String,
    pub version: String,
    /// Including `name`, `namespace` and `chart`, which selectors also match.
    pub labels: BTreeMap<String, String>,
    pub needs: Vec<ReleaseId>,
    /// `installed` and `installedTemplate`.
    pub installed: bool,
    /// The result of `condition`.
    pub enabled: bool,
    pub kube_version: Option<String>,
    pub api_versions: Vec<String>,
    pub at: Location,
}

impl ListedRelease {
    pub fn id(&self) -> ReleaseId {
        ReleaseId::new(&self.namespace, &self.name)
    }
}

/// A release's identity: `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReleaseId {
    pub namespace: String,
    pub name: String,
}

impl ReleaseId {
    /// The namespace of a release without one: that of a kubeconfig that names none.
    const NO_NAMESPACE: &'static str = "default";

    pub(super) fn new(namespace: &str, name: &str) -> Self {
        let namespace = if namespace.is_empty() { Self::NO_NAMESPACE } else { namespace };
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A release, with templates rendered.
#[derive(Debug, Clone)]
pub struct Release {
    pub id: ReleaseId,
    pub chart: Chart,
    pub fetch: FetchOptions,
    /// All values for Helm: values files and inline values, merged in order, and `set`; an object.
    pub values: Value,
    /// The values without `set`.
    pub written_values: Value,
    pub needs: Vec<ReleaseId>,
    /// Releases that come first by file order: sub-helmfiles are installed one by one, before their parent.
    pub after: Vec<ReleaseId>,
    pub hooks: Vec<Hook>,
    pub flags: InstallFlags,
    /// The Kubernetes version to render the chart for when no cluster is queried.
    pub kube_version: Option<String>,
    pub api_versions: Vec<String>,
    /// Patches of the rendered manifests.
    pub patches: Vec<Patch>,
    /// The state file, absolute.
    pub file: PathBuf,
    /// The location of the release in its file.
    pub at: Location,
}

impl Release {
    /// A release of a chart with helmfile's defaults.
    pub fn new(id: ReleaseId, chart: Chart, at: Location) -> Self {
        Self {
            id,
            chart,
            fetch: FetchOptions::default(),
            values: Value::Object(Map::new()),
            written_values: Value::Object(Map::new()),
            needs: vec![],
            after: vec![],
            hooks: vec![],
            flags: InstallFlags::default(),
            kube_version: None,
            api_versions: vec![],
            patches: vec![],
            file: PathBuf::new(),
            at,
        }
    }
}

/// The source of a chart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Chart {
    /// `oci://HOST/PATH` without the scheme; a version is a tag, a digest is part of the reference (`…@sha256:…`).
    Oci { reference: String, version: Option<String> },
    /// A chart of an HTTP repository.
    Repository { url: String, name: String, version: Option<String> },
    /// A folder or a packed chart, absolute.
    Local(PathBuf),
}

impl Chart {
    /// The digest in a reference, such as `sha256:…`.
    pub fn digest(&self) -> Option<&str> {
        match self {
            Self::Oci { reference, .. } => reference.split_once('@').map(|(_, digest)| digest),
            Self::Repository { .. } | Self::Local(_) => None,
        }
    }
}

impl fmt::Display for Chart {
    /// The chart's name and version.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, version) = match self {
            Self::Oci { reference, version } => (reference.rsplit('/').next().unwrap_or(reference), version.as_deref()),
            Self::Repository { name, version, .. } => (name.as_str(), version.as_deref()),
            Self::Local(path) => return write!(f, "{}", path.display()),
        };
        write!(f, "{name}{}", version.map(|version| format!(" {version}")).unwrap_or_default())
    }
}

/// How a chart is fetched: options of its repository and of its release.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    pub credentials: Option<Credentials>,
    /// Absolute, like the other paths.
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Do not verify the server's certificate.
    pub skip_tls_verify: bool,
    pub plain_http: bool,
    /// Include prereleases if no version is given.
    pub devel: bool,
}

/// Credentials for a repository. Never in arguments, never on disk.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub username: String,
    pub password: SecretString,
    /// Send them to other hosts that the repository's index names.
    pub pass_on: bool,
}

/// How a release is installed: helmfile's keys, with defaults applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallFlags {
    pub wait: Wait,
    pub timeout: Duration,
    pub create_namespace: bool,
    pub force_conflicts: bool,
    pub on_failure: OnFailure,
    /// Additional arguments, as written.
    pub args: Vec<String>,
}

impl Default for InstallFlags {
    fn default() -> Self {
        Self {
            wait: Wait::Nothing,
            timeout: Self::TIMEOUT,
            create_namespace: true,
            force_conflicts: false,
            on_failure: OnFailure::Keep,
            args: vec![],
        }
    }
}

impl InstallFlags {
    /// Helm's default.
    pub(super) const TIMEOUT: Duration = Duration::from_mins(5);
}

/// What must be ready before the next release is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// `wait: false`: nothing.
    Nothing,
    Workloads,
    /// `waitForJobs: true`.
    WorkloadsAndJobs,
}

/// What Helm does after a failed installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    Keep,
    /// `cleanupOnFail`.
    CleanUp,
    /// `atomic`: Helm's `--rollback-on-failure`.
    RollBack,
}

/// A patch of rendered manifests.
#[derive(Debug, Clone, PartialEq)]
pub enum Patch {
    /// JSON patch operations for every object that the target matches.
    Json { target: PatchTarget, operations: Value, at: Location },
    /// A strategic merge into the object that it names.
    Merge { object: Value, at: Location },
}

/// Which objects a JSON patch applies to; an empty field matches all. Each field is a regular expression for the whole text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PatchTarget {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookEvent {
    Prepare,
    Preapply,
    Presync,
    Preuninstall,
    Postuninstall,
    Postsync,
    Cleanup,
}

/// Whether an event is before or after an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookSide {
    Before,
    After,
    /// An event of an uninstallation.
    Neither,
}

impl HookEvent {
    pub fn side(self) -> HookSide {
        match self {
            Self::Prepare | Self::Preapply | Self::Presync => HookSide::Before,
            Self::Postsync | Self::Cleanup => HookSide::After,
            Self::Preuninstall | Self::Postuninstall => HookSide::Neither,
        }
    }
}

/// A command that runs before or after a release, with its command and arguments rendered separately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub events: Vec<HookEvent>,
    pub command: String,
    pub args: Vec<String>,
    pub show_logs: bool,
    /// The working directory: the state file's folder, absolute.
    pub folder: PathBuf,
    pub at: Location,
}

impl Hook {
    /// Whether the hook runs on this side of an installation.
    pub fn is_on(&self, side: HookSide) -> bool {
        self.events.iter().any(|event| event.side() == side)
    }
}
