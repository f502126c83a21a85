//! Where a repository keeps what it says of a cluster: found by what files hold, not by one fixed path.
//!
//! The layouts of community repositories change from year to year: one cluster or many, the cluster's name in this folder
//! or in that one, a helmfile or a folder of them. What they share is the content: a talconfig, a state file with
//! `releases:`, a template with `op://` references. `k8s-bootstrap.yaml` decides where it says something.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::settings::Paths;
use crate::secrets::Adapters;
use crate::yaml::{Diagnostic, near};

/// Deeper trees than this hold no inputs of a bootstrap.
const DEPTH: usize = 6;
/// A file of inputs is read by people; larger ones are something else.
const MAX_FILE: u64 = 1 << 20;
/// Folders that hold no inputs, besides those that begin with a dot.
const SKIPPED: [&str; 7] = ["target", "node_modules", "tests", "docs", "charts", "templates", "clusterconfig"];
/// Files and folders that make the folder around them one of Talos inputs.
const TALOS: [&str; 7] = [
    "talconfig.yaml",
    "talconfig.yml",
    "topf.yaml",
    "topf.yml",
    "machineconfig.yaml.j2",
    "controlplane.yaml",
    "clusterconfig",
];
/// Names of folders that say what lies in them, and not for which cluster.
const GENERIC: [&str; 11] = [
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
    /// Folders, each with the cluster that its talconfig names.
    talos: Vec<(PathBuf, Option<String>)>,
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
        let others: BTreeSet<String> = survey.names(root).into_iter().filter(|known| known != name).collect();
        let helmfiles = survey.helmfiles.iter().map(|helmfile| &helmfile.path);
        let own = own(root, name, &others, helmfiles);
        let nested =
            |path: &Path| survey.helmfiles.iter().any(|other| own.contains(&other.path) && other.includes(path));
        let chosen = |only_crds: bool| -> Vec<PathBuf> {
            let files = survey.helmfiles.iter().filter(|helmfile| helmfile.only_crds == only_crds);
            let files = files.map(|helmfile| &helmfile.path).filter(|path| own.contains(*path) && !nested(path));
            files.cloned().collect()
        };
        let named = |path: &Option<PathBuf>, found: Vec<PathBuf>| match path {
            Some(path) => vec![root.join(path)],
            None => found,
        };
        let releases = named(&paths.releases, chosen(false));
        let secrets = if paths.secrets.is_empty() {
            let beside = survey.secrets.iter().filter(|path| releases.iter().any(|file| is_beside(path, file)));
            own_of(root, name, &others, beside)
        } else {
            paths.secrets.iter().map(|path| root.join(path)).collect()
        };
        let (crds, environment) = (named(&paths.crds, chosen(true)), paths.environment.clone());
        Ok(Self { talos, crds, releases, secrets, environment, others })
    }
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
    fn of(root: &Path, sources: &Adapters) -> Self {
        let mut survey = Self { sources: sources.clone(), ..Self::default() };
        survey.walk(root, DEPTH);
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
            let named = ["talconfig.yaml", "talconfig.yml"].iter().find_map(|file| cluster_name(&folder.join(file)));
            self.talos.push((folder.to_owned(), named));
        }
    }

    fn look(&mut self, path: &Path, name: &str) {
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends(&[".sops.yaml", ".sops.yml"]) && !name.starts_with("talsecret") && !name.starts_with("talenv") {
            self.secrets.push(path.to_owned());
            return;
        }
        let small = path.metadata().is_ok_and(|metadata| metadata.len() <= MAX_FILE);
        if !small || !ends(&[".yaml", ".yml", ".gotmpl", ".tpl", ".j2"]) {
            return;
        }
        let Ok(text) = std::fs::read_to_string(path) else { return };
        let begins = |key: &str| text.lines().any(|line| line.starts_with(key));
        let in_place = path.iter().any(|part| part.to_string_lossy().contains("helmfile") || part == "bootstrap");
        if in_place && !ends(&[".tpl", ".j2"]) && (begins("releases:") || begins("helmfiles:")) {
            let only_crds = name.contains("crd") || text.contains("--include-crds");
            self.helmfiles.push(Helmfile { path: path.to_owned(), only_crds, text });
        } else if in_place && (text.contains("op://") || begins("kind:") && self.sources.mentions(&text)) {
            self.secrets.push(path.to_owned());
        }
    }

    /// What the repository calls its clusters.
    fn names(&self, root: &Path) -> BTreeSet<String> {
        let of = |(folder, named): &(PathBuf, Option<String>)| {
            let last = folders(root, folder).into_iter().rev().find(|part| !GENERIC.contains(&part.as_str()));
            last.or_else(|| named.clone())
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
            [] => Err(self.unknown(root, name)),
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

/// The cluster's name in a talconfig, when it is a plain word.
fn cluster_name(talconfig: &Path) -> Option<String> {
    let text = std::fs::read_to_string(talconfig).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("clusterName:"))?;
    let value = value.split(" #").next()?.trim().trim_matches(['"', '\'', '&']);
    let value = value.rsplit(' ').next()?.trim_matches(['"', '\'']);
    (!value.is_empty() && !value.contains('$')).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALCONFIG: &str = "clusterName: &name main # ours\nendpoint: https://10.0.0.10:6443\n";
    const CRDS: &str = "helmDefaults:\n  args: [--include-crds, --no-hooks]\nreleases: []\n";
    const APPS: &str = "releases:\n  - name: cilium\n";

    /// A repository of these files; the layout of a cluster in it, each path relative.
    fn layout(files: &[(&str, &str)], name: &str) -> Result<[String; 4], String> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = Layout::find(root.path(), name, &Paths::default(), &Adapters::default())
            .map_err(|error| format!("{error}"))?;
        let relative = |paths: &[PathBuf]| {
            let paths = paths.iter().map(|path| path.strip_prefix(root.path()).unwrap().display().to_string());
            paths.collect::<Vec<_>>().join(" ")
        };
        Ok([relative(&[found.talos]), relative(&found.crds), relative(&found.releases), relative(&found.secrets)])
    }

    #[test]
    fn one_cluster_is_known_by_its_talconfig_and_needs_no_folder_of_its_name() {
        let found = layout(
            &[
                ("talos/talconfig.yaml", TALCONFIG),
                ("bootstrap/helmfile.d/00-crds.yaml", CRDS),
                ("bootstrap/helmfile.d/01-apps.yaml", APPS),
                ("bootstrap/helmfile.d/templates/values.yaml.gotmpl", "releases: {}\n"),
                ("bootstrap/resources.yaml.tpl", "token: op://vault/item/field\n"),
                ("bootstrap/github-deploy-key.sops.yaml", "sops: {}\n"),
                ("kubernetes/apps/default/web/secret.sops.yaml", "sops: {}\n"),
                ("bootstrap/vault.yaml", "kind: Secret\nstringData: {a: ref+vault://kv/app#/a}\n"),
                ("bootstrap/values.yaml", "a: ref+vault://kv/app#/a\n"),
                ("kubernetes/apps/default/web/values.yaml", "releases: []\n"),
            ],
            "main",
        );
        insta::assert_snapshot!(found.unwrap().join("\n"), @r"
        talos
        bootstrap/helmfile.d/00-crds.yaml
        bootstrap/helmfile.d/01-apps.yaml
        bootstrap/github-deploy-key.sops.yaml bootstrap/resources.yaml.tpl bootstrap/vault.yaml
        ");
    }

    #[test]
    fn each_of_several_clusters_has_the_files_with_its_name_on_their_way_and_the_shared_ones() {
        let files = [
            ("kubernetes/blue/talos/talconfig.yaml", "clusterName: b\n"),
            ("kubernetes/green/talos/talconfig.yaml", "clusterName: g\n"),
            ("kubernetes/blue/bootstrap/helmfile.yaml", APPS),
            ("bootstrap/helmfile/apps.yaml", APPS),
            ("bootstrap/helmfile/crds.yaml", CRDS),
            ("bootstrap/helmfile/default.yaml", "helmDefaults: {}\n"),
            ("bootstrap/green/secrets.yaml", "token: op://vault/item/field\n"),
        ];
        insta::assert_snapshot!(layout(&files, "blue").unwrap().join("\n"), @r"
        kubernetes/blue/talos

        kubernetes/blue/bootstrap/helmfile.yaml
        ");
        insta::assert_snapshot!(layout(&files, "green").unwrap().join("\n"), @r"
        kubernetes/green/talos
        bootstrap/helmfile/crds.yaml
        bootstrap/helmfile/apps.yaml
        ");
        insta::assert_snapshot!(layout(&files, "gren").unwrap_err(), @r"
        there is no cluster `gren` here: no folder of that name holds Talos inputs
          hint: did you mean `green`? This repository describes: blue, green
        ");
    }

    #[test]
    fn a_helmfile_that_takes_others_in_stands_for_them() {
        let found = layout(
            &[
                ("talos/main/topf.yaml", "clusterName: main\n"),
                ("helmfile.yaml", "helmfiles:\n  - path: helmfile.d/apps.yaml\n"),
                ("helmfile.d/apps.yaml", APPS),
            ],
            "main",
        );
        insta::assert_snapshot!(found.unwrap().join("\n"), @r"
        talos/main

        helmfile.yaml
        ");
    }

    #[test]
    fn two_folders_for_one_cluster_are_told() {
        let files = [("a/main/talconfig.yaml", TALCONFIG), ("b/main/talconfig.yaml", TALCONFIG)];
        insta::assert_snapshot!(layout(&files, "main").unwrap_err(), @r"
        several folders hold Talos inputs of `main`: a/main, b/main
          hint: name one of them in k8s-bootstrap.yaml: clusters.main.talos
        ");
        insta::assert_snapshot!(layout(&[], "main").unwrap_err(), @r"
        there is no cluster `main` here: no folder of that name holds Talos inputs
          hint: run from the root of the repository that describes your clusters, or name it with -C
        ");
    }
}
