//! Classifies the files of a template directory, by name or else by content.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::layers;
use crate::{Role, is_sops_encrypted};

const ENDINGS: [&str; 4] = [".yaml.j2", ".yml.j2", ".yaml", ".yml"];
/// Names of the base layer; `cluster` only as a template, since other tools also have a `cluster.yaml`.
const BASES: [&str; 2] = ["machineconfig", "cluster"];
const ROLES: [(&str, Role); 6] = [
    ("controlplane", Role::ControlPlane),
    ("control-plane", Role::ControlPlane),
    ("controlplanes", Role::ControlPlane),
    ("control-planes", Role::ControlPlane),
    ("worker", Role::Worker),
    ("workers", Role::Worker),
];
const NODES: &str = "nodes";
const SCHEMATIC: &str = "schematic";

/// A node's own layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeFile {
    pub(super) name: String,
    /// The role from its directory.
    pub(super) role: Option<Role>,
    pub(super) path: PathBuf,
}

/// The classified files of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Files {
    pub(super) base: Option<PathBuf>,
    /// Layers of all nodes, sorted by name.
    pub(super) everyone: Vec<PathBuf>,
    pub(super) roles: BTreeMap<Role, Vec<PathBuf>>,
    pub(super) nodes: Vec<NodeFile>,
    /// The default image factory schematic.
    pub(super) schematic: Option<PathBuf>,
    pub(super) schematics: BTreeMap<String, PathBuf>,
}

/// Whether a directory has template layers.
pub(super) fn detects(folder: &Path) -> bool {
    base(folder).is_some() || ROLES.iter().any(|(name, _)| find(folder, name).is_some()) || !whole(folder).is_empty()
}

/// The file `stem` with any of the extensions.
fn find(folder: &Path, stem: &str) -> Option<PathBuf> {
    ENDINGS.iter().map(|ending| folder.join(format!("{stem}{ending}"))).find(|path| path.is_file())
}

fn base(folder: &Path) -> Option<PathBuf> {
    let is_template = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "j2");
    BASES.iter().find_map(|name| find(folder, name).filter(|path| *name != "cluster" || is_template(path)))
}

/// Templates of whole configs, one per node.
fn whole(folder: &Path) -> Vec<PathBuf> {
    let is_node = |path: &PathBuf| {
        let name = stem(path);
        let is_known = role(&name).is_some() || BASES.contains(&name.as_str());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let has = |key: &str| text.lines().any(|line| line.trim_start().starts_with(key));
        path.extension().is_some_and(|ending| ending == "j2")
            && !is_known
            && ["machine:", "cluster:", "token:", "endpoint:", "kubelet:"].iter().all(|key| has(key))
    };
    directly_in(folder).into_iter().filter(is_node).collect()
}

/// The name of a file without its extensions.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name).to_owned()
}

fn role(name: &str) -> Option<Role> {
    ROLES.iter().find(|(known, _)| *known == name).map(|(_, role)| *role)
}

impl Files {
    pub(super) fn classify(folder: &Path) -> Self {
        let mut files = Self { base: base(folder), schematic: find(folder, SCHEMATIC), ..Self::default() };
        let whole = if files.base.is_none() { whole(folder) } else { Vec::new() };
        for path in directly_in(folder) {
            let name = stem(&path);
            match role(&name) {
                _ if whole.contains(&path) => files.nodes.push(NodeFile { name, role: None, path }),
                Some(role) => files.roles.entry(role).or_default().push(path),
                None if is_layer(&path) => files.everyone.push(path),
                None => {}
            }
        }
        let nodes = folder.join(NODES);
        files.add_nodes(&nodes, None);
        let in_nodes = nodes.is_dir();
        for (name, role) in ROLES {
            files.add_nodes(&nodes.join(name), Some(role));
            let apart = folder.join(name);
            if in_nodes {
                files.roles.entry(role).or_default().extend(layers::files(&apart, &ENDINGS));
            } else {
                files.add_nodes(&apart, Some(role));
            }
        }
        files
    }

    fn add_nodes(&mut self, folder: &Path, role: Option<Role>) {
        for path in directly_in(folder) {
            let name = stem(&path);
            match name.strip_suffix(".schematic") {
                None if name == SCHEMATIC => self.schematic = self.schematic.take().or(Some(path)),
                Some(name) => drop(self.schematics.insert(name.to_owned(), path)),
                None => self.nodes.push(NodeFile { name, role, path }),
            }
        }
    }

    /// The layers below the node's own, the lowest first.
    pub(super) fn below(&self, role: Option<Role>) -> impl Iterator<Item = &PathBuf> {
        let of_role = role.and_then(|role| self.roles.get(&role)).into_iter().flatten();
        self.base.iter().chain(self.everyone.iter().filter(|path| Some(*path) != self.base.as_ref())).chain(of_role)
    }

    /// Whether a file beside the templates is a data file.
    pub(super) fn is_data(&self, path: &PathBuf) -> bool {
        let parts = self.base.iter().chain(&self.everyone).chain(self.roles.values().flatten()).chain(&self.schematic);
        let is_plain = path.extension().is_some_and(|ending| ending != "j2");
        is_plain && !parts.chain(self.nodes.iter().map(|node| &node.path)).any(|part| part == path)
    }

    /// The role of nodes without one: when only one role has layers and no base exists.
    pub(super) fn only_role(&self) -> Option<Role> {
        let mut described = self.roles.iter().filter(|(_, paths)| !paths.is_empty()).map(|(role, _)| *role);
        let first = described.next().filter(|_| self.base.is_none())?;
        described.next().is_none().then_some(first)
    }

    /// The schematic of a node.
    pub(super) fn schematic_of(&self, node: &str) -> Option<&PathBuf> {
        self.schematics.get(node).or(self.schematic.as_ref())
    }
}

/// The files of a directory that may be layers, sorted by name.
fn directly_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let has_ending = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ENDINGS.iter().any(|ending| name.ends_with(ending))
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.retain(has_ending);
    paths.sort();
    paths
}

/// Whether a file with an unknown name is part of a machine config. Secrets bundles also have a top-level `cluster`.
fn is_layer(path: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let begins = |key: &str| text.lines().any(|line| line.starts_with(key));
    let is_bundle = begins("trustdinfo:") || begins("certs:");
    let is_legacy = begins("machine:") || begins("cluster:");
    let is_document = begins("apiVersion: v1alpha1") && begins("kind:");
    (is_legacy || is_document) && !is_bundle && !is_sops_encrypted(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = Files::classify(folder.path());
        let shown = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
        let all = |paths: &mut dyn Iterator<Item = &PathBuf>| paths.map(shown).collect::<Vec<_>>().join(" < ");
        let nodes = found.nodes.iter().map(|node| {
            let schematic = found.schematic_of(&node.name).map(shown).unwrap_or_default();
            format!("{}: {} < {} ({schematic})", node.name, all(&mut found.below(node.role)), shown(&node.path))
        });
        nodes.collect()
    }

    #[test]
    fn all_template_layouts_are_detected() {
        let machine = "machine: {}\n";
        assert_eq!(
            summary(&[
                ("cluster.yaml.j2", machine),
                ("controlplane.yaml.j2", machine),
                ("nodes/controlplane/k8s-0.yaml.j2", machine),
                ("nodes/workers/k8s-1.yaml.j2", machine),
                ("nodes/workers/k8s-1.schematic.yaml.j2", "customization: {}\n"),
                ("schematic.yaml.j2", "customization: {}\n"),
            ]),
            [
                "k8s-0: cluster.yaml.j2 < controlplane.yaml.j2 < nodes/controlplane/k8s-0.yaml.j2 (schematic.yaml.j2)",
                "k8s-1: cluster.yaml.j2 < nodes/workers/k8s-1.yaml.j2 (nodes/workers/k8s-1.schematic.yaml.j2)",
            ]
        );
        assert_eq!(
            summary(&[
                ("machineconfig.yaml.j2", machine),
                ("networking.yaml", "---\napiVersion: v1alpha1\nkind: LinkConfig\nname: eth0\n"),
                ("talsecret.yaml", "cluster: {}\ncerts: {}\n"),
                ("version.yaml", "talos_version: v1.14.0\n"),
                ("controlplane/10.0.0.1.yaml", machine),
            ]),
            ["10.0.0.1: machineconfig.yaml.j2 < networking.yaml < controlplane/10.0.0.1.yaml ()"]
        );
        assert_eq!(
            summary(&[("controlplane.yaml", machine), ("controlplane/m0.yaml", machine), ("cluster.yaml", "a: b\n")]),
            ["m0: controlplane.yaml < controlplane/m0.yaml ()"]
        );
        assert_eq!(
            summary(&[
                ("machineconfig.yaml.j2", machine),
                ("controlplane/10-etcd.yaml", machine),
                ("nodes/a.yaml", machine)
            ]),
            ["a: machineconfig.yaml.j2 < nodes/a.yaml ()"]
        );
    }
}
