//! Where a repository keeps what it says of a cluster: found by what files hold, not by one fixed path.
//!
//! The layouts of community repositories change from year to year: one cluster or many, the cluster's name in this folder
//! or in that one, a helmfile or a folder of them. What they share is the content: a talconfig, a state file with
//! `releases:`, a template with `op://` references. `k8s-bootstrap.yaml` decides where it says something.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::settings::Paths;
use secrets::Adapters;
use talos_config::adapters::is_machine_config;
use template::written;
use yaml::{Diagnostic, near};

/// Deeper trees than this hold no inputs of a bootstrap.
const DEPTH: usize = 6;
/// A file of inputs is read by people; larger ones are something else.
const MAX_FILE: u64 = 1 << 20;
/// Folders that hold no inputs, besides those that begin with a dot.
const SKIPPED: [&str; 7] = ["target", "node_modules", "tests", "docs", "charts", "templates", "clusterconfig"];
/// Files and folders that make the folder around them one of Talos inputs.
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
/// Names of folders that say what lies in them, and not for which cluster.
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
    /// State files of which only the CRDs are applied, in the order of their names.
    pub(super) crds: Vec<PathBuf>,
    /// The state files of the chain, in the order of their names.
    pub(super) releases: Vec<PathBuf>,
    pub(super) secrets: Vec<PathBuf>,
    /// The environment of the helmfiles that `k8s-bootstrap.yaml` chooses.
    pub(super) environment: Option<String>,
    /// What the repository's other clusters are called.
    pub(super) others: BTreeSet<String>,
}

/// Everything in a repository that may be an input of some cluster.
#[derive(Debug, Default)]
struct Survey {
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
    /// Finds the inputs of the cluster `name`; what `paths` names is taken as it is.
    ///
    /// # Errors
    ///
    /// A cluster that the repository does not describe, or that several folders claim to.
    pub(super) fn find(root: &Path, name: &str, paths: &Paths, sources: &Adapters) -> Result<Self, Diagnostic> {
        let survey = Survey::of(root, sources);
        let talos = match &paths.talos {
            Some(named) => root.join(named),
            None => survey.talos_of(root, name)?,
        };
        // Where there is one cluster, every folder is about it, whatever it is called.
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
fn released(text: &str) -> BTreeSet<&str> {
    let listed = text.lines().skip_while(|line| !line.starts_with("releases:")).skip(1);
    let listed = listed.take_while(|line| line.starts_with([' ', '-', '#']) || line.is_empty());
    listed
        .filter_map(|line| Some(line.trim_start().strip_prefix("- name:")?.trim().trim_matches(['"', '\''])))
        .collect()
}

/// Those of `paths` that are the cluster's: the ones with its name on their way, or else those with nobody's.
fn own_of<'p>(
    root: &Path,
    name: &str,
    others: &BTreeSet<String>,
    paths: impl Iterator<Item = &'p PathBuf>,
) -> Vec<PathBuf> {
    let (named, rest): (Vec<&PathBuf>, Vec<&PathBuf>) =
        paths.partition(|path| folders(root, path).contains(&name.to_owned()));
    let of_nobody = |path: &&PathBuf| !folders(root, path).iter().any(|folder| others.contains(folder));
    if named.is_empty() {
        rest.into_iter().filter(of_nobody).cloned().collect()
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

/// The files, or the kustomizations that take them in: those give them their namespace.
fn kustomized(root: &Path, files: Vec<PathBuf>) -> Vec<PathBuf> {
    let takes = |folder: &Path, what: &Path| {
        let name = what.file_name().unwrap_or_default().to_string_lossy().into_owned();
        std::fs::read_to_string(folder.join(KUSTOMIZATION)).is_ok_and(|text| {
            let listed = |line: &str| line.trim().trim_start_matches("- ").trim_start_matches("./") == name;
            text.lines().any(|line| listed(line.trim_end_matches('/')))
        })
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for file in files {
        let folders = file.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
        let mut place = file.as_path();
        for folder in folders {
            if !takes(folder, place) {
                break;
            }
            place = folder;
        }
        if !found.iter().any(|known| known == place) {
            found.push(place.to_owned());
        }
    }
    found
}

/// Whether a file lies below a folder that says what it is for.
fn is_of_bootstrap(root: &Path, path: &Path) -> bool {
    folders(root, path).iter().any(|folder| folder == "bootstrap")
}

/// Whether a file of secrets lies where a state file's bootstrap does: in its folder or in one of the two above.
fn is_beside(secrets: &Path, helmfile: &Path) -> bool {
    let folder = secrets.parent();
    helmfile.ancestors().skip(1).take(3).any(|near| Some(near) == folder)
}

impl Helmfile {
    /// Whether the state file takes another one in by its `helmfiles:`.
    fn includes(&self, other: &Path) -> bool {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let Ok(relative) = other.strip_prefix(folder) else { return false };
        let listed = self.text.lines().skip_while(|line| !line.starts_with("helmfiles:"));
        let relative = relative.to_string_lossy();
        other != self.path && listed.into_iter().any(|line| line.contains(relative.as_ref()))
    }
}

impl Survey {
    /// The state files without those that an earlier layout left behind: of two that list the same release, the one that
    /// the repository's recipes name.
    fn undisputed(&self, root: &Path, files: Vec<PathBuf>) -> Vec<PathBuf> {
        let text = |path: &PathBuf| {
            let known = self.helmfiles.iter().find(|helmfile| helmfile.path == *path);
            known.map(|helmfile| helmfile.text.as_str()).unwrap_or_default()
        };
        let disputed = |path: &&PathBuf| {
            let own = released(text(path));
            files.iter().any(|other| other != *path && !own.is_disjoint(&released(text(other))))
        };
        let disputed: BTreeSet<&PathBuf> = files.iter().filter(disputed).collect();
        if disputed.is_empty() {
            return files;
        }
        let recipes: Vec<String> =
            written::recipes(root).iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
        let is_named = |path: &PathBuf| {
            let ending: PathBuf =
                folders(root, path).into_iter().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect();
            let ending = ending.to_string_lossy().into_owned();
            recipes.iter().any(|recipe| recipe.contains(&ending))
        };
        let named: BTreeSet<PathBuf> =
            disputed.iter().filter(|path| is_named(path)).map(|path| (*path).clone()).collect();
        let stays = |path: &PathBuf| named.is_empty() || named.contains(path) || !disputed.contains(path);
        files.iter().filter(|path| stays(path)).cloned().collect()
    }

    fn of(root: &Path, sources: &Adapters) -> Self {
        let mut survey = Self { sources: sources.clone(), ..Self::default() };
        survey.walk(root, DEPTH);
        // What lies below other inputs was made from them.
        let known: Vec<PathBuf> = survey.talos.iter().map(|(folder, _)| folder.clone()).collect();
        let own = |(folder, _): &(PathBuf, Option<String>)| !known.iter().any(|known| folder.starts_with(known));
        let finished = std::mem::take(&mut survey.finished);
        survey.talos.extend(finished.into_iter().filter(own));
        survey
    }

    fn walk(&mut self, folder: &Path, depth: usize) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| !path.is_symlink()).collect();
        paths.sort();
        let mut talos = false;
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            talos |= TALOS.contains(&name.as_str());
            if path.is_dir() {
                if depth > 0 && !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                    self.walk(&path, depth - 1);
                }
                continue;
            }
            self.look(&path, &name);
        }
        if talos && !self.talos.iter().any(|(known, _)| known == folder) {
            let named = TALOS.iter().find_map(|file| cluster_name(&folder.join(file)));
            self.talos.push((folder.to_owned(), named));
        }
    }

    fn look(&mut self, path: &Path, name: &str) {
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        let small = path.metadata().is_ok_and(|metadata| metadata.len() <= MAX_FILE);
        if !small || !ends(&[".yaml", ".yml", ".gotmpl", ".tpl", ".j2", ".sops.json"]) {
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

    /// Whether a `helmfile.yaml` lies beside a `helmfile.d`: helmfile takes either, never both, and the folder is the later
    /// way of the two.
    fn has_folder_beside(&self, path: &Path) -> bool {
        let is_file = path.file_stem().is_some_and(|stem| stem == "helmfile" || stem == "helmfile.yaml");
        let Some(folder) = path.parent().map(|folder| folder.join("helmfile.d")).filter(|_| is_file) else {
            return false;
        };
        let takes_in = |other: &Path| self.helmfiles.iter().any(|file| file.path == path && file.includes(other));
        self.helmfiles.iter().any(|other| other.path.parent() == Some(&folder) && !takes_in(&other.path))
    }

    /// What the repository calls its clusters.
    fn names(&self, root: &Path) -> BTreeSet<String> {
        let of = |(folder, named): &(PathBuf, Option<String>)| {
            let last = folders(root, folder).into_iter().rev().find(|part| !GENERIC.contains(&part.as_str()));
            match (self.talos.as_slice(), named) {
                // A folder's name tells clusters apart; where there is one, its own name says more.
                ([_], Some(named)) => Some(named.clone()),
                _ => last.or_else(|| named.clone()),
            }
        };
        self.talos.iter().filter_map(of).collect()
    }

    fn talos_of(&self, root: &Path, name: &str) -> Result<PathBuf, Diagnostic> {
        let on_the_way = self.talos.iter().filter(|(folder, _)| folders(root, folder).iter().any(|part| part == name));
        let mut found: Vec<&PathBuf> = on_the_way.map(|(folder, _)| folder).collect();
        if found.is_empty() {
            let by_name = self.talos.iter().filter(|(_, named)| named.as_deref() == Some(name));
            found = by_name.map(|(folder, _)| folder).collect();
        }
        let usual = root.join("talos").join(name);
        match found[..] {
            [one] => Ok(one.clone()),
            // What is wrong with a folder that holds nothing known is told by those who read it.
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

    /// The one cluster of the repository, which may be called as one likes unless the name is nearly another.
    fn only(&self, root: &Path, name: &str) -> Option<PathBuf> {
        let [(folder, _)] = self.talos.as_slice() else { return None };
        let names = self.names(root);
        near(name, names.iter().map(String::as_str)).is_none().then(|| folder.clone())
    }

    fn unknown(&self, root: &Path, name: &str) -> Diagnostic {
        let names = self.names(root);
        let message = format!("there is no cluster `{name}` here: no folder of that name holds Talos inputs");
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
