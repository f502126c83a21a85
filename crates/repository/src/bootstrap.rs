//! The bootstrap inputs of a cluster, what is installed before Flux: CRDs, releases, secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout::Layout;
use discover::CrdUrl;
use helmfile::{Helmfile, HelmfileOptions};
use template::ProgramRunner;
use template::jinja::{Jinja, Style};
use yaml::{Diagnostic, Diagnostics, Origin};

/// The helmfiles and secret manifests of one cluster.
#[derive(Debug, Clone, Default)]
pub struct Bootstrap {
    /// Charts whose CRDs go in first; nothing else of them is applied.
    pub crds: Helmfile,
    /// Files of CRDs that are applied with them, by URL.
    pub crd_files: Vec<CrdUrl>,
    /// The chain of releases.
    pub releases: Helmfile,
    pub secrets: Vec<SecretSource>,
    /// Why the chain of releases is missing: such a repository can be rendered and planned, but not run.
    pub missing: Option<Diagnostic>,
}

/// A file with manifests that hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretSource {
    /// Absolute.
    pub path: PathBuf,
    pub kind: SecretKind,
    /// The path is a folder with a kustomization, which is built first.
    pub kustomized: bool,
    /// The text in the repository, Jinja templates rendered. Values from the environment may be secret.
    pub text: String,
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretSource").field("path", &self.path).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// How a file holds its secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// References to 1Password (`op://`) or to another manager.
    References,
    /// Encrypted by SOPS.
    Sops,
}

/// The variable that selects the environment in helmfile 1.x.
const ENVIRONMENT: &str = "HELMFILE_ENVIRONMENT";

impl Bootstrap {
    /// Whether secrets or hooks have kustomizations to be built.
    pub fn has_kustomizations(&self) -> bool {
        let releases = self.releases.releases.iter().flat_map(|release| &release.hooks);
        let mut hooks = releases.chain(self.releases.files.iter().flat_map(|file| &file.hooks));
        let builds = |argument: &String| argument == "-k" || argument.starts_with("--kustomize");
        self.secrets.iter().any(|source| source.kustomized) || hooks.any(|hook| hook.args.iter().any(builds))
    }

    /// Reads the files that the layout of the cluster `name` lists.
    pub(super) fn read(
        root: &Path,
        name: &str,
        layout: &Layout,
        environment: &BTreeMap<String, String>,
        programs: Option<Arc<dyn ProgramRunner>>,
    ) -> Result<Self, Diagnostics> {
        let mut found = Diagnostics::default();
        let missing = layout.releases.is_empty().then(|| missing(name));
        let named = layout.environment.clone().or_else(|| environment.get(ENVIRONMENT).cloned());
        let options = HelmfileOptions { environment: named, programs, ..HelmfileOptions::default() };
        let mut read = |paths: &[PathBuf]| -> Vec<Helmfile> {
            let read = |path: &PathBuf| super::keep(helmfile::read(root, path, environment, &options), &mut found);
            paths.iter().filter_map(read).collect()
        };
        let (crds, releases) = (read(&layout.crds), read(&layout.releases));
        found.extend(helmfile::check_duplicates(&releases));
        let all: Vec<&Helmfile> = crds.iter().chain(&releases).collect();
        if let Err(more) = helmfile::check_needs(&all) {
            found.extend(more);
        }
        let secrets = super::keep(secrets(root, &layout.secrets, environment), &mut found).unwrap_or_default();
        found.into_result(Self {
            crds: joined(crds),
            crd_files: Vec::new(),
            releases: joined(releases),
            secrets,
            missing,
        })
    }
}

/// Joins several state files into one with the name of the first.
fn joined(files: Vec<Helmfile>) -> Helmfile {
    let join = |mut all: Helmfile, next: Helmfile| {
        all.files.extend(next.files);
        all.releases.extend(next.releases);
        all.notices.extend(next.notices);
        all
    };
    files.into_iter().reduce(join).unwrap_or_default()
}

fn missing(name: &str) -> Diagnostic {
    Diagnostic::general(format!("no helmfile found for `{name}`: no state file below bootstrap/ has `releases:`"))
        .with_hint(format!("name one in k8s-bootstrap.yaml: clusters.{name}.releases"))
}

fn secrets(
    root: &Path,
    files: &[PathBuf],
    environment: &BTreeMap<String, String>,
) -> Result<Vec<SecretSource>, Diagnostics> {
    let mut found = Diagnostics::default();
    let mut sources = Vec::new();
    for path in files.iter().cloned() {
        if path.is_dir() {
            let text = texts(&path);
            sources.push(SecretSource { path, kind: SecretKind::References, kustomized: true, text });
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = if name.contains(".sops.") { SecretKind::Sops } else { SecretKind::References };
        match std::fs::read_to_string(&path) {
            Ok(text) if name.ends_with(".j2") || text.contains("{{ ENV.") => {
                match jinja(root, &path, &text, environment) {
                    Ok(text) => sources.push(SecretSource { path, kind, kustomized: false, text }),
                    Err(diagnostic) => found.push(diagnostic),
                }
            }
            Ok(text) => sources.push(SecretSource { path, kind, kustomized: false, text }),
            Err(error) => {
                let shown = path.strip_prefix(root).unwrap_or(&path).display();
                found.push(Diagnostic::general(format!("cannot read the secrets file {shown}: {error}")));
            }
        }
    }
    found.into_result(sources)
}

/// The text of all files of a kustomization, for its fingerprint.
pub(super) fn texts(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let read =
        |path: PathBuf| if path.is_dir() { texts(&path) } else { std::fs::read_to_string(&path).unwrap_or_default() };
    paths.into_iter().map(read).collect()
}

/// Renders a Jinja template of manifests, before its references are resolved. It may include templates of its folder.
fn jinja(root: &Path, path: &Path, text: &str, environment: &BTreeMap<String, String>) -> Result<String, Diagnostic> {
    let folder = path.parent().unwrap_or(root);
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let templates = entries.filter(|path| path.extension().is_some_and(|ending| ending == "j2"));
    let read =
        |path: PathBuf| Some((path.file_name()?.to_string_lossy().into_owned(), std::fs::read_to_string(&path).ok()?));
    let others: BTreeMap<String, String> = templates.filter_map(read).collect();
    let origin = |name: &str| {
        let path = folder.join(name);
        Origin::of_path(path.strip_prefix(root).unwrap_or(&path))
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let values = minijinja::context! { ENV => minijinja::Value::from_pairs(environment.clone()) };
    let template =
        Jinja { name: &name, text, others: &others, origin: &origin, style: Style::read_config(root, environment) };
    Ok(template.render(values)?)
}
