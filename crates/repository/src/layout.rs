//! Finds the files of a cluster in a repository, by their content.
//!
//! Layouts differ: one cluster or many, the cluster's name in one folder or another, a helmfile or a folder of them. The
//! content is what they share: a talconfig, a state file with `releases:`, a template with `op://` references. A path in
//! `k8s-bootstrap.yaml` counts before anything that is found.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::settings::Paths;
use discover::walk;
use secret_references::Adapters;
use talos_config::adapters::is_machine_config;
use yaml::{Diagnostic, near};

/// Folders below which nothing is an input of its own.
const SKIPPED: [&str; 3] = ["charts", "templates", "clusterconfig"];
/// Files and folders that mark the folder around them as Talos inputs.
const TALOS: [&str; 9] = [
    "talconfig.yaml",
    "talconfig.yml",
    "topf.yaml",
    "topf.yml",
    "machineconfig.yaml.j2",
    "cluster.yaml.j2",
    "controlplane.yaml.j2",
    "controlplane.yaml",
    "clusterconfig",
];
/// Folder names that describe the content and are not the name of a cluster.
const GENERIC: [&str; 16] = [
    "talos",
    "bootstrap",
    "kubernetes",
    "k8s",
    "cluster",
    "clusters",
    "helmfile",
    "helmfile.d",
    "infrastructure",
    "apps",
    "provision",
    "setup",
    "machines",
    "nodes",
    "configs",
    "rendered",
];

/// The inputs of one cluster, absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) talos: PathBuf,
    /// State files of which only the CRDs are applied, sorted by name.
    pub(super) crds: Vec<PathBuf>,
    /// The state files of the release chain, sorted by name.
    pub(super) releases: Vec<PathBuf>,
    pub(super) secrets: Vec<PathBuf>,
    /// The helmfile environment that `k8s-bootstrap.yaml` selects.
    pub(super) environment: Option<String>,
    /// The names of the repository's other clusters.
    pub(super) others: BTreeSet<String>,
}

/// All files of a repository that may be inputs of a cluster.
#[derive(Debug, Default)]
struct Candidates {
    /// Folders, each with the cluster that its files name.
    talos: Vec<(PathBuf, Option<String>)>,
    /// Folders that hold finished machine configs.
    finished: Vec<(PathBuf, Option<String>)>,
    helmfiles: Vec<Helmfile>,
    secrets: Vec<PathBuf>,
    sources: Adapters,
}

#[derive(Debug)]
struct Helmfile {
    path: PathBuf,
    only_crds: bool,
    text: String,
}

impl Layout {
    /// Finds the inputs of the cluster `name`; paths that the settings name are used as they are.
    ///
    /// # Errors
    ///
    /// The repository does not describe the cluster, or several folders do.
    pub(super) fn find(root: &Path, name: &str, paths: &Paths, sources: &Adapters) -> Result<Self, Diagnostic> {
        let survey = Candidates::find(root, sources);
        let talos = match &paths.talos {
            Some(named) => root.join(named),
            None => survey.talos_of(root, name)?,
        };
        // With a single cluster every folder belongs to it, whatever its name.
        let several = survey.talos.len() > 1;
        let others = survey.names(root).into_iter().filter(|known| several && known != name);
        let others: BTreeSet<String> = others.collect();
        let helmfiles = survey.helmfiles.iter().map(|helmfile| &helmfile.path);
        let own = own(root, name, &others, helmfiles);
        let nested =
            |path: &Path| survey.helmfiles.iter().any(|other| own.contains(&other.path) && other.includes(path));
        let chosen = |only_crds: bool| -> Vec<PathBuf> {
            let files = survey.helmfiles.iter().filter(|helmfile| helmfile.only_crds == only_crds);
            let files = files.map(|helmfile| &helmfile.path);
            let files = files.filter(|path| own.contains(*path) && !nested(path) && !survey.has_folder_beside(path));
            files.cloned().collect()
        };
        let named = |path: &Option<PathBuf>, found: Vec<PathBuf>| match path {
            Some(path) => vec![root.join(path)],
            None => found,
        };
        let releases = named(&paths.releases, survey.undisputed(root, chosen(false)));
        let secrets = if paths.secrets.is_empty() {
            let near =
                |path: &&PathBuf| is_of_bootstrap(root, path) || releases.iter().any(|file| is_beside(path, file));
            kustomized(root, own_of(root, name, &others, survey.secrets.iter().filter(near)))
        } else {
            paths.secrets.iter().map(|path| root.join(path)).collect()
        };
        let (crds, environment) = (named(&paths.crds, chosen(true)), paths.environment.clone());
        Ok(Self { talos, crds, releases, secrets, environment, others })
    }
}

/// The releases that a state file lists, by name.
fn listed_releases(text: &str) -> BTreeSet<&str> {
    let listed = text.lines().skip_while(|line| !line.starts_with("releases:")).skip(1);
    let listed = listed.take_while(|line| line.starts_with([' ', '-', '#']) || line.is_empty());
    listed
        .filter_map(|line| Some(line.trim_start().strip_prefix("- name:")?.trim().trim_matches(['"', '\''])))
        .collect()
}

/// Those of `paths` that belong to the cluster: below a folder with its name, or else below none with another cluster's.
fn own_of<'p>(
    root: &Path,
    name: &str,
    others: &BTreeSet<String>,
    paths: impl Iterator<Item = &'p PathBuf>,
) -> Vec<PathBuf> {
    let (named, rest): (Vec<&PathBuf>, Vec<&PathBuf>) =
        paths.partition(|path| folders(root, path).contains(&name.to_owned()));
    let of_no_cluster = |path: &&PathBuf| !folders(root, path).iter().any(|folder| others.contains(folder));
    if named.is_empty() {
        rest.into_iter().filter(of_no_cluster).cloned().collect()
    } else {
        named.into_iter().cloned().collect()
    }
}

fn own<'p>(
    root: &Path,
    name: &str,
    others: &BTreeSet<String>,
    paths: impl Iterator<Item = &'p PathBuf>,
) -> BTreeSet<PathBuf> {
    own_of(root, name, others, paths).into_iter().collect()
}

/// The names of the folders between the repository and a file or folder, the last one of a folder included.
fn folders(root: &Path, path: &Path) -> Vec<String> {
    let inside = path.strip_prefix(root).unwrap_or(path);
    inside.iter().map(|part| part.to_string_lossy().into_owned()).collect()
}

const KUSTOMIZATION: &str = "kustomization.yaml";

/// The files, each replaced by the kustomization that lists it: the kustomization sets the namespace.
fn kustomized(root: &Path, files: Vec<PathBuf>) -> Vec<PathBuf> {
    let lists = |folder: &Path, what: &Path| {
        let name = what.file_name().unwrap_or_default().to_string_lossy().into_owned();
        std::fs::read_to_string(folder.join(KUSTOMIZATION)).is_ok_and(|text| {
            let listed = |line: &str| line.trim().trim_start_matches("- ").trim_start_matches("./") == name;
            text.lines().any(|line| listed(line.trim_end_matches('/')))
        })
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for file in files {
        let folders = file.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
        let mut path = file.as_path();
        for folder in folders {
            if !lists(folder, path) {
                break;
            }
            path = folder;
        }
        if !found.iter().any(|known| known == path) {
            found.push(path.to_owned());
        }
    }
    found
}

/// Whether a file lies below a folder `bootstrap`.
fn is_of_bootstrap(root: &Path, path: &Path) -> bool {
    folders(root, path).iter().any(|folder| folder == "bootstrap")
}

/// Whether a secrets file lies in the folder of a state file or in one of the two above.
fn is_beside(secrets: &Path, helmfile: &Path) -> bool {
    let folder = secrets.parent();
    helmfile.ancestors().skip(1).take(3).any(|near| Some(near) == folder)
}

impl Helmfile {
    /// Whether the state file lists another one under `helmfiles:`.
    fn includes(&self, other: &Path) -> bool {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let Ok(relative) = other.strip_prefix(folder) else { return false };
        let listed = self.text.lines().skip_while(|line| !line.starts_with("helmfiles:"));
        let relative = relative.to_string_lossy();
        other != self.path && listed.into_iter().any(|line| line.contains(relative.as_ref()))
    }
}

impl Candidates {
    /// The state files without leftovers of an earlier layout: of two that list the same release, the one that recipes name.
    fn undisputed(&self, root: &Path, files: Vec<PathBuf>) -> Vec<PathBuf> {
        let text = |path: &PathBuf| {
            let known = self.helmfiles.iter().find(|helmfile| helmfile.path == *path);
            known.map(|helmfile| helmfile.text.as_str()).unwrap_or_default()
        };
        let disputed = |path: &&PathBuf| {
            let own = listed_releases(text(path));
            files.iter().any(|other| other != *path && !own.is_disjoint(&listed_releases(text(other))))
        };
        let disputed: BTreeSet<&PathBuf> = files.iter().filter(disputed).collect();
        if disputed.is_empty() {
            return files;
        }
        let named = discover::named_by_recipes(root, disputed.iter().copied());
        let stays = |path: &PathBuf| named.is_empty() || named.contains(path) || !disputed.contains(path);
        files.iter().filter(|path| stays(path)).cloned().collect()
    }

    fn find(root: &Path, sources: &Adapters) -> Self {
        let mut survey = Self { sources: sources.clone(), ..Self::default() };
        survey.read(root);
        // Configs below other inputs are rendered from them.
        let known: Vec<PathBuf> = survey.talos.iter().map(|(folder, _)| folder.clone()).collect();
        let own = |(folder, _): &(PathBuf, Option<String>)| !known.iter().any(|known| folder.starts_with(known));
        let finished = std::mem::take(&mut survey.finished);
        survey.talos.extend(finished.into_iter().filter(own));
        survey
    }

    fn read(&mut self, root: &Path) {
        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        for path in walk::files(root) {
            let relative = path.strip_prefix(root).unwrap_or(&path);
            let mut parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
            let Some(name) = parts.pop().map(std::borrow::Cow::into_owned) else { continue };
            if parts.iter().any(|part| part.starts_with('.')) {
                continue;
            }
            let marker = relative.ancestors().find(|part| part.file_name().is_some_and(is_talos_marker));
            folders.extend(marker.and_then(Path::parent).map(|folder| root.join(folder)));
            if !parts.iter().any(|part| SKIPPED.contains(&&**part)) {
                self.classify(&path, &name);
            }
        }
        for folder in folders {
            let named = TALOS.iter().find_map(|file| cluster_name(&folder.join(file)));
            self.talos.push((folder, named));
        }
    }

    fn classify(&mut self, path: &Path, name: &str) {
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if !ends(&[".yaml", ".yml", ".gotmpl", ".tpl", ".j2", ".sops.json"]) {
            return;
        }
        let Ok(text) = std::fs::read_to_string(path) else { return };
        let begins = |key: &str| text.lines().any(|line| line.starts_with(key));
        if is_machine_config(&text) {
            let folder = path.parent().unwrap_or(path).to_owned();
            if !self.finished.iter().any(|(known, _)| *known == folder) {
                self.finished.push((folder, cluster_name(path)));
            }
            return;
        }
        let is_json = ends(&[".sops.json"]) && ["\"apiVersion\"", "\"kind\""].iter().all(|key| text.contains(key));
        let has_manifests = is_json || begins("apiVersion:") && begins("kind:");
        if ends(&[".sops.yaml", ".sops.yml", ".sops.json"]) {
            if has_manifests {
                self.secrets.push(path.to_owned());
            }
            return;
        }
        let in_place = path.iter().any(|part| part.to_string_lossy().contains("helmfile") || part == "bootstrap");
        if in_place && !ends(&[".tpl", ".j2"]) && (begins("releases:") || begins("helmfiles:")) {
            let only_crds = name.contains("crd") || text.contains("--include-crds");
            self.helmfiles.push(Helmfile { path: path.to_owned(), only_crds, text });
        } else if in_place && has_manifests && (text.contains("op://") || self.sources.mentions(&text)) {
            self.secrets.push(path.to_owned());
        }
    }

    /// Whether a `helmfile.yaml` has a `helmfile.d` beside it: helmfile 1.x accepts only one of them, and the folder is the
    /// newer form.
    fn has_folder_beside(&self, path: &Path) -> bool {
        let is_file = path.file_stem().is_some_and(|stem| stem == "helmfile" || stem == "helmfile.yaml");
        let Some(folder) = path.parent().map(|folder| folder.join("helmfile.d")).filter(|_| is_file) else {
            return false;
        };
        let includes = |other: &Path| self.helmfiles.iter().any(|file| file.path == path && file.includes(other));
        self.helmfiles.iter().any(|other| other.path.parent() == Some(&folder) && !includes(&other.path))
    }

    /// The names of the repository's clusters.
    fn names(&self, root: &Path) -> BTreeSet<String> {
        let of = |(folder, named): &(PathBuf, Option<String>)| {
            let last = folders(root, folder).into_iter().rev().find(|part| !GENERIC.contains(&part.as_str()));
            match (self.talos.as_slice(), named) {
                // Folder names distinguish clusters; a single cluster is known by the name in its files.
                ([_], Some(named)) => Some(named.clone()),
                _ => last.or_else(|| named.clone()),
            }
        };
        self.talos.iter().filter_map(of).collect()
    }

    fn talos_of(&self, root: &Path, name: &str) -> Result<PathBuf, Diagnostic> {
        let below_name = self.talos.iter().filter(|(folder, _)| folders(root, folder).iter().any(|part| part == name));
        let mut found: Vec<&PathBuf> = below_name.map(|(folder, _)| folder).collect();
        if found.is_empty() {
            let by_name = self.talos.iter().filter(|(_, named)| named.as_deref() == Some(name));
            found = by_name.map(|(folder, _)| folder).collect();
        }
        let usual = root.join("talos").join(name);
        match found[..] {
            [one] => Ok(one.clone()),
            // The readers report what is missing in a folder without known files.
            [] if usual.is_dir() => Ok(usual),
            [] => self.only(root, name).ok_or_else(|| self.unknown(root, name)),
            _ => found.iter().find(|folder| ***folder == usual).map(|folder| (*folder).clone()).ok_or_else(|| {
                let folders: Vec<String> = found
                    .iter()
                    .map(|folder| folder.strip_prefix(root).unwrap_or(folder).display().to_string())
                    .collect();
                Diagnostic::general(format!("several folders hold Talos inputs of `{name}`: {}", folders.join(", ")))
                    .with_hint(format!("name one of them in k8s-bootstrap.yaml: clusters.{name}.talos"))
            }),
        }
    }

    /// The only cluster of the repository: any name selects it, unless it looks like a typo of its own.
    fn only(&self, root: &Path, name: &str) -> Option<PathBuf> {
        let [(folder, _)] = self.talos.as_slice() else { return None };
        let names = self.names(root);
        near(name, names.iter().map(String::as_str)).is_none().then(|| folder.clone())
    }

    fn unknown(&self, root: &Path, name: &str) -> Diagnostic {
        let names = self.names(root);
        let message = format!("cluster `{name}` not found: no folder of that name holds Talos inputs");
        let all = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        Diagnostic::general(message).with_hint(match near(name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`? This repository describes: {all}"),
            None if names.is_empty() => {
                "run from the root of the repository that describes your clusters, or name it with -C".to_owned()
            }
            None => format!("this repository describes: {all}"),
        })
    }
}

fn is_talos_marker(name: &OsStr) -> bool {
    TALOS.iter().any(|marker| *marker == name)
}

/// The cluster's name in a file of Talos inputs, when it is a plain word.
fn cluster_name(inputs: &Path) -> Option<String> {
    let text = std::fs::read_to_string(inputs).ok()?;
    let value = text.lines().find_map(|line| line.trim_start().strip_prefix("clusterName:"))?;
    let value = value.split(" #").next()?.trim().trim_matches(['"', '\'', '&']);
    let value = value.rsplit(' ').next()?.trim_matches(['"', '\'']);
    (!value.is_empty() && !value.contains(['$', '{', '}'])).then(|| value.to_owned())
}

#[cfg(test)]
mod tests;
