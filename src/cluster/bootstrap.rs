//! What goes onto the cluster before Flux: CRDs, releases, secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::settings::Paths;
use crate::helm::helmfile::{self, Helmfile};
use crate::yaml::{Diagnostic, Diagnostics};

/// The helmfiles and secret manifests of one cluster.
#[derive(Debug, Clone, Default)]
pub struct Bootstrap {
    /// Charts whose CRDs go in first; nothing else of them is applied.
    pub crds: Helmfile,
    /// The chain of releases.
    pub releases: Helmfile,
    pub secrets: Vec<SecretSource>,
}

/// A file with manifests that hold secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    /// Absolute.
    pub path: PathBuf,
    pub kind: SecretKind,
    /// As it is in the repository, so without any secret in it.
    pub text: String,
}

/// How a file's secrets come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// `op://` references, resolved by 1Password.
    OnePassword,
    /// Encrypted by SOPS.
    Sops,
}

/// File names below the cluster's bootstrap folder when `k8s-bootstrap.yaml` names no others.
const CRDS: &str = "helmfile.d/00-crds.yaml";
const RELEASES: &str = "helmfile.d/01-apps.yaml";
const TEMPLATE: &str = "secrets.yaml.tpl";
/// The variable by which helmfile itself is told its environment.
const ENVIRONMENT: &str = "HELMFILE_ENVIRONMENT";

impl Bootstrap {
    /// Reads everything below `folder`, or where `paths` says.
    pub(super) fn read(
        root: &Path,
        folder: &Path,
        paths: &Paths,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Diagnostics> {
        let mut found = Diagnostics::default();
        let place = |named: &Option<PathBuf>, usual: &str| {
            named.as_ref().map_or_else(|| folder.join(usual), |named| root.join(named))
        };
        let named = paths.environment.clone().or_else(|| environment.get(ENVIRONMENT).cloned());
        let options = helmfile::Options { environment: named, ..helmfile::Options::default() };
        let mut read = |named: &Option<PathBuf>, usual: &str, needed: bool| {
            let path = place(named, usual);
            if !needed && named.is_none() && !path.exists() {
                return Helmfile::default();
            }
            if !path.exists() {
                found.push(missing(root, &path));
                return Helmfile::default();
            }
            super::keep(helmfile::read(root, &path, environment, &options), &mut found).unwrap_or_default()
        };
        let crds = read(&paths.crds, CRDS, false);
        let releases = read(&paths.releases, RELEASES, true);
        if let Err(more) = helmfile::check(&[&crds, &releases]) {
            found.extend(more);
        }
        let secrets = super::keep(secrets(root, folder, paths), &mut found).unwrap_or_default();
        found.into_result(Self { crds, releases, secrets })
    }
}

fn missing(root: &Path, path: &Path) -> Diagnostic {
    let looked = path.strip_prefix(root).unwrap_or(path).display();
    Diagnostic::general(format!("there is no helmfile {looked}"))
        .with_hint("k8s-bootstrap.yaml can name another one: clusters.<name>.releases")
}

fn secrets(root: &Path, folder: &Path, paths: &Paths) -> Result<Vec<SecretSource>, Diagnostics> {
    let mut found = Diagnostics::default();
    let files = if paths.secrets.is_empty() { usual_secrets(folder) } else { named_secrets(root, &paths.secrets) };
    let mut sources = Vec::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = if name.contains(".sops.") { SecretKind::Sops } else { SecretKind::OnePassword };
        match std::fs::read_to_string(&path) {
            Ok(text) => sources.push(SecretSource { path, kind, text }),
            Err(error) => {
                let looked = path.strip_prefix(root).unwrap_or(&path).display();
                found.push(Diagnostic::general(format!("the secrets file {looked} cannot be read: {error}")));
            }
        }
    }
    found.into_result(sources)
}

fn named_secrets(root: &Path, named: &[PathBuf]) -> Vec<PathBuf> {
    named.iter().map(|path| root.join(path)).collect()
}

fn usual_secrets(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name == TEMPLATE || name.ends_with(".sops.yaml") || name.ends_with(".sops.yml")
        })
        .collect();
    files.sort();
    files
}
