//! What Flux will own later, as the manifests in the repository say, and where that differs from the bootstrap.
//!
//! Manifests are found by kind and name, wherever they lie: one a file, several in one, or all of a kind in a central
//! file. [`FluxObjects::counterpart`] puts together how Flux will install one release, and [`drift`] compares. This is no
//! kustomize: patches and generators other than ConfigMaps' are not applied.

mod counterpart;
mod decryption;
pub mod drift;
mod kustomizations;
mod namespaces;
mod renderers;
mod source;
mod values;
mod variables;
mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kustomizations::Kustomizations;
use yaml::{Location, Node, Origin};

pub use counterpart::Counterpart;
use counterpart::FluxChart;
pub use decryption::Decryption;

/// Deeper trees than this hold no manifests.
const DEPTH: usize = 8;
/// A manifest is read by people; larger files are something else.
const MAX_FILE: u64 = 1 << 20;
/// Folders that hold no manifests of this cluster.
const SKIPPED: [&str; 5] = [".git", "target", "node_modules", "tests", "docs"];
/// The kinds that say how a chart is installed.
const KINDS: [&str; 4] = ["HelmRelease", "OCIRepository", "HelmRepository", "HelmChart"];

/// Flux's manifests in a repository.
#[derive(Debug, Clone, Default)]
pub struct FluxObjects {
    root: PathBuf,
    names: Names,
    objects: Vec<Object>,
    kustomizations: Kustomizations,
    maps: Vec<ConfigMap>,
    sealed: Vec<decryption::Sealed>,
    security: Vec<namespaces::Security>,
}

/// Whose a path is in a repository of several clusters.
#[derive(Debug, Clone, Default)]
struct Names {
    cluster: String,
    others: BTreeSet<String>,
}

impl Names {
    /// How much a path belongs to the cluster: 2 with its name on the way, 0 with only another one's. A folder is another
    /// cluster's when one of this cluster lies beside it; `apps` may be just that, or what a cluster is called.
    fn class(&self, root: &Path, path: &Path) -> u8 {
        let mut folder = root.to_owned();
        let mut foreign = false;
        for part in path.strip_prefix(root).unwrap_or(path).iter().map(|part| part.to_string_lossy()) {
            if part == self.cluster.as_str() {
                return 2;
            }
            foreign |= self.others.contains(part.as_ref()) && folder.join(&self.cluster).is_dir();
            folder.push(part.as_ref());
        }
        u8::from(!foreign)
    }
}

/// One manifest.
#[derive(Debug, Clone)]
struct Object {
    kind: String,
    name: String,
    namespace: Option<String>,
    /// Absolute.
    path: PathBuf,
    origin: Origin,
    document: Node,
}

impl Object {
    fn of(document: Node, path: &Path, origin: &Origin) -> Option<Self> {
        let text = |keys: &[&str]| document.find(keys).and_then(Node::as_str).map(str::to_owned);
        let (kind, name) = (text(&["kind"])?, text(&["metadata", "name"])?);
        let namespace = text(&["metadata", "namespace"]);
        Some(Self { kind, name, namespace, path: path.to_owned(), origin: origin.clone(), document })
    }

    fn text(&self, keys: &[&str]) -> Option<&str> {
        self.document.find(keys).and_then(Node::as_str)
    }

    /// Where the value below `keys` is written; where the object is, when it has none.
    fn place(&self, keys: &[&str]) -> Location {
        let node = self.document.find(keys).or_else(|| self.document.find(&["metadata", "name"]));
        self.origin.at(node.unwrap_or(&self.document).at)
    }
}

/// The texts of a ConfigMap that is a manifest, or that kustomize makes from files.
#[derive(Debug, Clone)]
struct ConfigMap {
    name: String,
    path: PathBuf,
    data: Vec<(String, String)>,
}

impl FluxObjects {
    /// Finds every manifest of Flux below `root`. A file that cannot be read as YAML is some other tool's.
    pub(super) fn read(root: &Path, cluster: &str, others: &BTreeSet<String>) -> Self {
        let mut files = Vec::new();
        walk(root, DEPTH, &mut files);
        let (mut objects, mut flux_kustomizations) = (Vec::new(), Vec::new());
        let (mut maps, mut sealed, mut security) = (Vec::new(), Vec::new(), Vec::new());
        for path in files {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            if text.contains("onfigMap") {
                maps.push(path.clone());
            }
            let marks = [kustomizations::GROUP, "\nsops:", namespaces::LABELS];
            if !KINDS.iter().chain(&marks).any(|mark| text.contains(mark)) {
                continue;
            }
            let origin = Origin::of_path(path.strip_prefix(root).unwrap_or(&path));
            let documents = yaml::parse(&origin, &text).unwrap_or_default();
            sealed.extend(decryption::Sealed::of(&path, &documents));
            security.extend(namespaces::Security::of(&path, &documents));
            for object in documents.into_iter().filter_map(|document| Object::of(document, &path, &origin)) {
                if KINDS.contains(&object.kind.as_str()) {
                    objects.push(object);
                } else if kustomizations::is_one(&object) {
                    flux_kustomizations.push(object);
                }
            }
        }
        let names = Names { cluster: cluster.to_owned(), others: others.clone() };
        flux_kustomizations.retain(|object| names.class(root, &object.path) > 0);
        let kustomizations = Kustomizations::read(root, flux_kustomizations);
        let wanted: BTreeSet<String> =
            objects.iter().flat_map(values::config_maps).chain(kustomizations.config_maps()).collect();
        let maps = if wanted.is_empty() { vec![] } else { values::read_config_maps(&maps, &wanted) };
        Self { root: root.to_owned(), names, objects, kustomizations, maps, sealed, security }
    }

    /// Whether a HelmRelease of this name is in the repository.
    pub fn has_release(&self, name: &str) -> bool {
        self.objects.iter().any(|object| object.kind == "HelmRelease" && object.name == name)
    }

    /// The labels of Pod Security that the repository gives a namespace.
    pub fn pod_security(&self, namespace: &str) -> BTreeMap<String, String> {
        let named = self.security.iter().filter(|known| known.namespace == namespace);
        let own = named.filter(|known| self.names.class(&self.root, &known.path) > 0);
        own.max_by_key(|known| self.names.class(&self.root, &known.path))
            .map(|known| known.labels.clone())
            .unwrap_or_default()
    }

    /// The object of this kind and name that is meant from the file `near`: of this cluster, in the namespace that is
    /// asked for where both say one, and close by.
    fn find(&self, kind: &str, name: &str, namespace: Option<&str>, near: &Path) -> Option<&Object> {
        let named = self.objects.iter().filter(|object| object.kind == kind && object.name == name);
        let fits = named.filter(|object| match (&object.namespace, namespace) {
            (Some(own), Some(asked)) => own == asked,
            _ => true,
        });
        fits.max_by_key(|object| self.rank(&object.path, near))
    }

    fn config_map(&self, name: &str, near: &Path) -> Option<&ConfigMap> {
        let named = self.maps.iter().filter(|map| map.name == name);
        named.max_by_key(|map| self.rank(&map.path, near))
    }

    /// Orders files by how likely they are meant from another one.
    fn rank(&self, path: &Path, near: &Path) -> (u8, usize) {
        let shared = path.iter().zip(near).take_while(|(own, other)| own == other).count();
        (self.names.class(&self.root, path), shared)
    }
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_symlink() || SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            if depth > 0 {
                walk(&path, depth - 1, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
            && path.metadata().is_ok_and(|metadata| metadata.len() <= MAX_FILE)
        {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests;
