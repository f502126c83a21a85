//! Flux's Kustomizations: which files each one applies, and the variables that it substitutes in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::variables::Variables;
use super::{FluxObjects, Object};
use discover::walk;
use yaml::{Location, Node, Origin};

/// The API group.
pub(super) const GROUP: &str = "kustomize.toolkit.fluxcd.io";
/// How deep kustomizations may nest; deeper is a cycle.
const MAX_DEPTH: usize = 16;

pub(super) fn is_kustomization(object: &Object) -> bool {
    object.kind == "Kustomization" && object.text(&["apiVersion"]).is_some_and(|version| version.starts_with(GROUP))
}

/// Fields of a HelmRelease that decide what is installed, and as which release.
const INSTALLED_BY: [&str; 10] = [
    "chart",
    "chartRef",
    "commonMetadata",
    "postRenderers",
    "releaseName",
    "storageNamespace",
    "suspend",
    "targetNamespace",
    "values",
    "valuesFrom",
];
/// Patches may hold patches: a root Kustomization patches others, which patch HelmReleases.
const MAX_PATCH_DEPTH: usize = 3;

/// A patch that a Kustomization applies to HelmReleases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KustomizationPatch {
    /// The location of the patch.
    pub at: Location,
    /// The fields below `spec` that it sets and that decide what is installed.
    pub fields: Vec<String>,
    /// The HelmRelease; none for every one.
    target: Option<String>,
}

/// Those of a cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct Kustomizations(Vec<Kustomization>);

#[derive(Debug, Clone)]
struct Kustomization {
    path: PathBuf,
    files: BTreeSet<PathBuf>,
    target_namespace: Option<String>,
    /// Its own.
    substitution: Option<Substitution>,
    /// What its patches set in others.
    patched: Option<Substitution>,
    /// The Secret that it decrypts with: namespace and name.
    decryption: Option<(String, String)>,
    /// The name of the Secret that its patches set in others.
    patched_decryption: Option<String>,
    helm_release_patches: Vec<KustomizationPatch>,
    namespace: String,
}

/// A `postBuild`.
#[derive(Debug, Clone, Default)]
struct Substitution {
    config_maps: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Kustomizations {
    pub(super) fn read(root: &Path, objects: Vec<Object>) -> Self {
        let read = |object: Object| Kustomization {
            files: object.text(&["spec", "path"]).map(|path| files(root, path)).unwrap_or_default(),
            target_namespace: object.text(&["spec", "targetNamespace"]).map(str::to_owned),
            substitution: object.document.find(&["spec", "postBuild"]).map(Substitution::of),
            patched: patched(&object, &["spec", "postBuild"]).as_ref().map(Substitution::of),
            decryption: object.text(&DECRYPTION).map(|name| (namespace(&object), name.to_owned())),
            patched_decryption: patched(&object, &DECRYPTION).and_then(|node| Some(node.as_str()?.to_owned())),
            helm_release_patches: helm_release_patches(&object.document, &object.origin, MAX_PATCH_DEPTH),
            namespace: namespace(&object),
            path: object.path,
        };
        Self(objects.into_iter().map(read).collect())
    }

    /// What patches set in the HelmRelease of this name.
    pub(super) fn patches_of(&self, name: &str) -> Vec<KustomizationPatch> {
        let all = self.0.iter().flat_map(|one| &one.helm_release_patches);
        all.filter(|patch| patch.target.as_deref().is_none_or(|target| target == name)).cloned().collect()
    }

    /// The ConfigMaps that variables come from.
    pub(super) fn config_maps(&self) -> impl Iterator<Item = String> + '_ {
        let all = self.0.iter().flat_map(|one| one.substitution.iter().chain(&one.patched));
        all.flat_map(|substitution| substitution.config_maps.iter().cloned())
    }

    /// The `targetNamespace` of the Kustomization that applies a file.
    pub(super) fn namespace_of(&self, file: &Path) -> Option<&str> {
        self.0.iter().filter(|one| one.files.contains(file)).find_map(|one| one.target_namespace.as_deref())
    }

    /// The Secret, by namespace and name, whose keys decrypt a file; none if no Kustomization applies it.
    pub(super) fn decrypted_with(&self, file: &Path) -> Option<(String, String)> {
        let given = self.0.iter().find_map(|one| one.patched_decryption.as_ref());
        let mut applied = self.0.iter().filter(|one| one.files.contains(file));
        applied.find_map(|one| one.decryption.clone().or_else(|| Some((one.namespace.clone(), given?.clone()))))
    }

    /// The variables that are substituted in a file; none if no Kustomization substitutes.
    pub(super) fn variables(&self, objects: &FluxObjects, file: &Path) -> Option<Variables> {
        let applies = |one: &&Kustomization| one.files.contains(file);
        let own: Vec<&Substitution> =
            self.0.iter().filter(applies).filter_map(|one| one.substitution.as_ref()).collect();
        let is_applied = self.0.iter().any(|one| one.files.contains(file));
        let given = self.0.iter().filter_map(|one| Some((one, one.patched.as_ref()?)));
        let mut all: Vec<(&Path, &Substitution)> = given.map(|(one, given)| (one.path.as_path(), given)).collect();
        all.extend(own.into_iter().map(|substitution| (file, substitution)));
        if !is_applied {
            // Which Kustomization applies the file is unknown: the ConfigMaps are what all share.
            all.extend(self.0.iter().filter_map(|one| Some((one.path.as_path(), one.substitution.as_ref()?))));
        }
        if all.is_empty() {
            return None;
        }
        let mut variables = BTreeMap::new();
        for (near, substitution) in all {
            for name in &substitution.config_maps {
                variables.extend(objects.config_map(name, near).into_iter().flat_map(|map| map.data.iter().cloned()));
            }
            if is_applied {
                variables.extend(substitution.values.clone());
            }
        }
        Some(Variables(variables))
    }
}

impl Substitution {
    fn of(node: &Node) -> Self {
        let from = node.find(&["substituteFrom"]).and_then(Node::as_sequence).unwrap_or_default();
        let is_map = |entry: &&Node| entry.find(&["kind"]).and_then(Node::as_str) == Some("ConfigMap");
        let name = |entry: &Node| entry.find(&["name"]).and_then(Node::as_str).map(str::to_owned);
        let values = node.find(&["substitute"]).and_then(Node::as_mapping).into_iter().flat_map(|map| map.iter());
        let text = |node: &Node| node.as_str().map_or_else(|| node.to_json().to_string(), str::to_owned);
        Self {
            config_maps: from.iter().filter(is_map).filter_map(name).collect(),
            values: values.map(|entry| (entry.key.clone(), text(&entry.value))).collect(),
        }
    }
}

/// The path of the Secret with the keys in a Kustomization.
const DECRYPTION: [&str; 4] = ["spec", "decryption", "secretRef", "name"];
/// The namespace of Kustomizations that name none.
const NAMESPACE: &str = "flux-system";

fn namespace(object: &Object) -> String {
    object.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned())
}

/// What a Kustomization's patches set in the Kustomizations that it applies.
fn patched(object: &Object, path: &[&str]) -> Option<Node> {
    let patches = object.document.find(&["spec", "patches"]).and_then(Node::as_sequence).unwrap_or_default();
    patches.iter().find_map(|entry| {
        let patch = yaml::parse_one(&object.origin, entry.find(&["patch"])?.as_str()?).ok()?;
        patch.find(path).cloned()
    })
}

/// The patches below `spec.patches` that reach HelmReleases.
fn helm_release_patches(document: &Node, origin: &Origin, depth: usize) -> Vec<KustomizationPatch> {
    let entries = document.find(&["spec", "patches"]).and_then(Node::as_sequence).unwrap_or_default();
    let of = |entry: &Node| {
        let node = entry.find(&["patch"])?;
        let patch = yaml::parse_one(origin, node.as_str()?).ok()?;
        let text = |keys: &[&str]| entry.find(keys).and_then(Node::as_str).map(str::to_owned);
        let kind =
            text(&["target", "kind"]).or_else(|| patch.find(&["kind"]).and_then(Node::as_str).map(str::to_owned))?;
        match kind.as_str() {
            "HelmRelease" => {
                let fields: Vec<String> =
                    fields(&patch).into_iter().filter(|field| INSTALLED_BY.contains(&field.as_str())).collect();
                let patch =
                    KustomizationPatch { at: origin.location(node.at), fields, target: text(&["target", "name"]) };
                Some(if patch.fields.is_empty() { vec![] } else { vec![patch] })
            }
            "Kustomization" if depth > 0 => {
                let nested = helm_release_patches(&patch, origin, depth - 1).into_iter();
                // Places within a patch are those of its text.
                Some(nested.map(|nested| KustomizationPatch { at: origin.location(node.at), ..nested }).collect())
            }
            _ => None,
        }
    };
    entries.iter().filter_map(of).flatten().collect()
}

/// The fields below `spec` that a patch sets: a merge patch, or a list of operations.
fn fields(patch: &Node) -> Vec<String> {
    let spec = patch.find(&["spec"]).and_then(Node::as_mapping).into_iter();
    let merged = spec.flat_map(|spec| spec.iter()).map(|entry| entry.key.clone());
    let operations = patch.as_sequence().unwrap_or_default().iter();
    let paths = operations.filter_map(|operation| operation.find(&["path"])?.as_str()?.strip_prefix("/spec/"));
    merged.chain(paths.map(|path| path.split('/').next().unwrap_or(path).to_owned())).collect()
}

/// Every file that a Kustomization with this path applies: those in its kustomization.yaml, or else all below the path.
fn files(root: &Path, path: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let folder = template::clean(&root.join(path.trim_start_matches("./")));
    if !collect(&folder, MAX_DEPTH, &mut found) {
        let below = walk::files_below(root, &folder);
        found.extend(below.into_iter().filter(|path| walk::has_ending(path, &super::MANIFESTS)));
    }
    found
}

/// Collects the files that a folder's kustomization.yaml lists. Returns whether it has one.
fn collect(folder: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> bool {
    let file = ["kustomization.yaml", "kustomization.yml"].map(|name| folder.join(name));
    let Some((file, text)) =
        file.into_iter().find_map(|file| Some((file.clone(), std::fs::read_to_string(file).ok()?)))
    else {
        return false;
    };
    let Ok(document) = yaml::parse_one(&Origin::of_path(&file), &text) else { return true };
    let lists = ["resources", "components"].into_iter().filter_map(|key| document.find(&[key])?.as_sequence());
    for entry in lists.flatten().filter_map(Node::as_str).filter(|entry| !entry.contains("://")) {
        let path = template::clean(&folder.join(entry));
        if path.is_dir() && depth > 0 {
            collect(&path, depth - 1, found);
        } else if path.is_file() {
            found.insert(path);
        }
    }
    true
}
