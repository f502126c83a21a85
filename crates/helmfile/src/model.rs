//! A helmfile after everything in it was read, merged and rendered.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Map, Value};

use yaml::Location;

/// A state file, or a folder of them, with everything that it pulls in.
#[derive(Debug, Clone, Default)]
pub struct Helmfile {
    /// Absolute.
    pub path: PathBuf,
    /// What is to be installed: selected, not switched off; those of a sub-helmfile before its parent's.
    pub releases: Vec<Release>,
    /// Every state file that was read, in the same order.
    pub files: Vec<StateFile>,
    /// What the operator should know although nothing is wrong, such as values that a chart's defaults replace.
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
    /// Those that the selectors take, in file order, also where they are switched off.
    pub releases: Vec<ListedRelease>,
    /// Every release in it, selected or not.
    pub known: Vec<ReleaseId>,
    /// Of the whole file: `prepare` before its first release, `cleanup` after its last.
    pub hooks: Vec<Hook>,
}

/// A release as a state file has it, before its values are looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedRelease {
    pub name: String,
    /// Empty when the file names none.
    pub namespace: String,
    /// As it is written, templates rendered.
    pub chart: String,
    pub version: String,
    /// With `name`, `namespace` and `chart`, which selectors see as well.
    pub labels: BTreeMap<String, String>,
    pub needs: Vec<ReleaseId>,
    /// `installed` and `installedTemplate`.
    pub installed: bool,
    /// What `condition` comes to.
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
    /// Where a release without a namespace goes: the one of a kubeconfig that names none.
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

/// One release, its templates rendered.
#[derive(Debug, Clone)]
pub struct Release {
    pub id: ReleaseId,
    pub chart: Chart,
    pub fetch: FetchOptions,
    /// All that Helm is given: values files and inline values, merged in order as Helm merges them, and what is `set`;
    /// an object.
    pub values: Value,
    /// The same without what is `set`.
    pub written_values: Value,
    pub needs: Vec<ReleaseId>,
    /// What the file order puts before it: sub-helmfiles go one after the other, and before their parent.
    pub after: Vec<ReleaseId>,
    pub hooks: Vec<Hook>,
    pub flags: InstallFlags,
    /// What the chart is rendered for where no cluster is asked.
    pub kube_version: Option<String>,
    pub api_versions: Vec<String>,
    /// What changes the rendered manifests before they are installed.
    pub patches: Vec<Patch>,
    /// The state file, absolute.
    pub file: PathBuf,
    /// Where the release is written.
    pub at: Location,
}

impl Release {
    /// A chart as it is, installed as helmfile does when nobody says how.
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

/// Where a chart comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Chart {
    /// `oci://HOST/PATH` without the scheme; a version is a tag, a digest is part of the reference (`…@sha256:…`).
    Oci { reference: String, version: Option<String> },
    /// A chart of an HTTP repository.
    Repository { url: String, name: String, version: Option<String> },
    /// A folder or a packed chart, absolute.
    Local(PathBuf),
}

impl fmt::Display for Chart {
    /// The chart's name and version, as a person calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, version) = match self {
            Self::Oci { reference, version } => (reference.rsplit('/').next().unwrap_or(reference), version.as_deref()),
            Self::Repository { name, version, .. } => (name.as_str(), version.as_deref()),
            Self::Local(path) => return write!(f, "{}", path.display()),
        };
        write!(f, "{name}{}", version.map(|version| format!(" {version}")).unwrap_or_default())
    }
}

/// How a chart is fetched: what its repository and its release say beside the address.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    pub credentials: Option<Credentials>,
    /// Absolute, as the other files.
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// The operator asked not to check the other side's certificate.
    pub skip_tls_verify: bool,
    pub plain_http: bool,
    /// Versions for developers count where none is named.
    pub devel: bool,
}

/// A login at a repository. Never in arguments, never on disk.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub username: String,
    pub password: SecretString,
    /// Also for the host that the repository's index sends to.
    pub pass_on: bool,
}

/// How a release is installed; helmfile's keys, defaults applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallFlags {
    pub wait: Wait,
    pub timeout: Duration,
    pub create_namespace: bool,
    pub force_conflicts: bool,
    pub on_failure: OnFailure,
    /// Further arguments, as written.
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
    /// Helm's own, when nobody says.
    pub(super) const TIMEOUT: Duration = Duration::from_mins(5);
}

/// What a release waits for before the next one may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// `wait: false`: nothing.
    Nothing,
    Workloads,
    /// `waitForJobs: true`.
    WorkloadsAndJobs,
}

/// What the operator asked Helm to do about a failed installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    Keep,
    /// `cleanupOnFail`.
    CleanUp,
    /// `atomic`: Helm's `--rollback-on-failure`.
    RollBack,
}

/// A change of rendered manifests.
#[derive(Debug, Clone, PartialEq)]
pub enum Patch {
    /// JSON patch operations on every object that the target means.
    Json { target: PatchTarget, operations: Value, at: Location },
    /// A strategic merge with the object that it names.
    Merge { object: Value, at: Location },
}

/// Which objects a JSON patch means; what is empty means all. Every text is a regular expression for the whole.
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

/// On which side of an installation an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookSide {
    Before,
    After,
    /// Only a removal has it.
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

/// A command around a release, its command and arguments rendered one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub events: Vec<HookEvent>,
    pub command: String,
    pub args: Vec<String>,
    pub show_logs: bool,
    /// The state file's folder, absolute: where the command runs.
    pub folder: PathBuf,
    pub at: Location,
}

impl Hook {
    /// Whether it runs on this side of an installation.
    pub fn is_on(&self, side: HookSide) -> bool {
        self.events.iter().any(|event| event.side() == side)
    }
}
