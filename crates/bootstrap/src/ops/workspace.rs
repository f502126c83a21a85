//! Where operations work: the repository, the state and cache folders, the operator's environment.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrets::{OperatorPrompt, Redactor};
use tools::{Options, Toolbox};

use super::{OpsError, Target};

/// Everything that an operation takes from its surroundings instead of its options.
#[derive(Clone)]
pub struct Workspace {
    /// The repository, or a folder in it.
    pub directory: PathBuf,
    /// Where journals, kubeconfigs and labs are kept, instead of the XDG state folder.
    pub state_dir: Option<PathBuf>,
    /// A folder that is searched for tools first.
    pub tools_dir: Option<PathBuf>,
    /// The environment variables.
    pub variables: BTreeMap<String, String>,
    pub redactor: Redactor,
    /// Asked to renew a session; none without a terminal.
    pub operator: Option<OperatorPrompt>,
    /// Receives warnings and progress, a line each, redacted.
    pub notes: Arc<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Variables may hold secrets.
        f.debug_struct("Workspace").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Workspace {
    /// Reports a line to the operator.
    pub fn note(&self, line: &str) {
        (self.notes)(&self.redactor.redact(line));
    }

    /// The repository, absolute.
    ///
    /// # Errors
    ///
    /// [`OpsError::Repository`] if the folder does not exist.
    pub fn repository(&self) -> Result<PathBuf, OpsError> {
        let failed = |source| OpsError::Repository { path: self.directory.clone(), source };
        self.directory.canonicalize().map_err(failed)
    }

    /// The folder of all state.
    ///
    /// # Errors
    ///
    /// [`OpsError::NoFolder`] if neither an option nor the environment names one.
    pub fn state_folder(&self) -> Result<PathBuf, OpsError> {
        let xdg = || self.variable("XDG_STATE_HOME").map(|state| state.join("k8s-bootstrap"));
        let home = || self.variable("HOME").map(|home| home.join(".local/state/k8s-bootstrap"));
        self.state_dir.clone().or_else(xdg).or_else(home).ok_or(OpsError::NoFolder { variable: "XDG_STATE_HOME" })
    }

    /// The folder of downloaded charts and tools.
    pub(super) fn cache_folder(&self) -> Result<PathBuf, OpsError> {
        let home = || self.variable("HOME").map(|home| home.join(".cache"));
        let cache = self.variable("XDG_CACHE_HOME").or_else(home);
        cache.map(|cache| cache.join("k8s-bootstrap")).ok_or(OpsError::NoFolder { variable: "XDG_CACHE_HOME" })
    }

    /// The folder of a cluster's journal, kubeconfig and talosconfig. It need not exist.
    ///
    /// # Errors
    ///
    /// As [`Workspace::state_folder`].
    pub fn run_folder(&self, cluster: &str, target: &Target) -> Result<PathBuf, OpsError> {
        match target {
            Target::Cluster => Ok(self.state_folder()?.join(cluster)),
            Target::Lab(lab) => Ok(lab.folder.join("run")),
        }
    }

    /// The outside programs.
    pub fn toolbox(&self) -> Toolbox {
        Toolbox::new(Options::from_environment(self.tools_dir.clone()))
    }

    fn variable(&self, name: &str) -> Option<PathBuf> {
        self.variables.get(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }
}

/// Creates a folder that only its owner can enter.
///
/// # Errors
///
/// [`OpsError::StateFolder`].
pub fn create_private_folder(folder: &Path) -> Result<(), OpsError> {
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|source| OpsError::StateFolder { path: folder.to_owned(), source })
}
