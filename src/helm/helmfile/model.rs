//! A helmfile after everything in it was read, merged and rendered.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::yaml::Location;

/// A state file with everything that it pulls in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Helmfile {
    /// Absolute.
    pub path: PathBuf,
    /// In file order.
    pub releases: Vec<Release>,
    /// What the operator should know although nothing is wrong, such as values that a chart's defaults replace.
    pub notices: Vec<String>,
}

/// A release's identity: `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReleaseId {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One release, its templates rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    pub id: ReleaseId,
    pub chart: Chart,
    /// All values files and inline values, merged in order as Helm merges them; an object.
    pub values: Value,
    pub needs: Vec<ReleaseId>,
    pub hooks: Vec<Hook>,
    pub flags: Flags,
    /// Where the release is written.
    pub at: Location,
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

/// How a release is installed; helmfile's keys, defaults applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    pub wait: Wait,
    pub timeout: Duration,
    pub create_namespace: bool,
    pub force_conflicts: bool,
    pub on_failure: OnFailure,
    /// Further arguments, as written.
    pub args: Vec<String>,
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
