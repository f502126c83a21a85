//! What community recipes hand on to the tools that they call, wherever it is run: which cluster is meant, where the
//! repository's usual folders are, and variables that the recipes themselves set.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use super::bootstrap::texts;
use super::layout::Layout;
use template::jinja;
use template::written;
use template::written::{Found, Repository};
use yaml::{Diagnostic, Diagnostics, Location, Origin, Position};

const FOLDERS: [(&str, &str); 4] =
    [("ROOT_DIR", ""), ("BOOTSTRAP_DIR", "bootstrap"), ("KUBERNETES_DIR", "kubernetes"), ("TALOS_DIR", "talos")];

/// The cluster and the folders, by the names that recipes give them.
pub(super) fn usual(root: &Path, cluster: &str) -> Vec<(&'static str, String)> {
    let there = FOLDERS.iter().map(|(variable, folder)| (*variable, root.join(folder)));
    let there = there.filter(|(_, folder)| folder.is_dir());
    let folders = there.map(|(variable, folder)| (variable, folder.to_string_lossy().trim_end_matches('/').to_owned()));
    folders.chain([("CLUSTER", cluster.to_owned())]).collect()
}

static REQUIRED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"\brequiredEnv\s+["`](\w+)["`]"#).ok());

/// What helmfiles cannot do without and templates of manifests name, where the environment does not say it and the
/// repository does; the findings tell what was taken.
pub(super) fn set(
    root: &Path,
    layout: &Layout,
    environment: &BTreeMap<String, String>,
) -> (BTreeMap<String, String>, Diagnostics) {
    let (mut all, mut notices) = (BTreeMap::new(), Diagnostics::default());
    let mut keep = |found: BTreeMap<String, Found>| {
        for (name, found) in found {
            let notice = found.notice(&name);
            if let Entry::Vacant(place) = all.entry(name) {
                place.insert(found.value);
                notices.push(notice);
            }
        }
    };
    let look = |folder: &Path, names: BTreeSet<String>| {
        let lacking: BTreeSet<String> = names.into_iter().filter(|name| !environment.contains_key(name)).collect();
        let repository = Repository { root, folder, known: environment };
        if lacking.is_empty() { BTreeMap::new() } else { repository.written(&lacking) }
    };
    let folders: BTreeSet<&Path> =
        layout.crds.iter().chain(&layout.releases).filter_map(|path| path.parent()).collect();
    for folder in folders {
        let text = texts(folder);
        let names = REQUIRED.iter().flat_map(|required| required.captures_iter(&text));
        let mut found = look(folder, names.map(|name| name[1].to_owned()).collect());
        // Helmfiles are read before anybody is asked for secrets.
        found.retain(|_, found| !found.value.starts_with("op://"));
        keep(found);
    }
    let manifests = |path: &&PathBuf| path.is_file();
    for path in layout.secrets.iter().filter(manifests) {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        keep(look(path.parent().unwrap_or(root), jinja::of_environment(&text)));
    }
    (all, notices)
}

/// A file of custom resource definitions that a recipe applies from the web.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrdFile {
    pub url: String,
    pub at: Location,
}

/// The beginning of a list in a shell script: `crds=(`.
static LIST: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^\s*(?:(?:local|declare|readonly)\s+)?(?:-\w+\s+)*\w*[Cc][Rr][Dd]\w*=\($").ok());

/// The files of definitions that recipes apply before any chart: addresses in a list `crds=(…)` of a shell script.
pub(super) fn crd_files(root: &Path, others: &BTreeSet<String>) -> (Vec<CrdFile>, Diagnostics) {
    let (mut files, mut notices): (Vec<CrdFile>, _) = (Vec::new(), Diagnostics::default());
    for path in written::recipes(root) {
        let shown = path.strip_prefix(root).unwrap_or(&path);
        let mut folders = shown.components().map(|part| part.as_os_str().to_string_lossy());
        if folders.any(|folder| others.contains(folder.as_ref())) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for (line, url) in listed(&text) {
            let at = Origin::of_path(shown).at(Position { line, column: 1 });
            if url.contains(['$', '{']) {
                notices.push(
                    Diagnostic::at(
                        at,
                        format!("the definitions at `{url}` are left out: a variable says where they are"),
                    )
                    .with_hint("write the address as it is, or take them from a chart"),
                );
            } else if !files.iter().any(|known| known.url == url) {
                files.push(CrdFile { url: url.to_owned(), at });
            }
        }
    }
    (files, notices)
}

/// The addresses of YAML files in such lists, with their lines.
fn listed(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if LIST.as_ref().is_some_and(|list| list.is_match(line)) {
            inside = true;
        } else if line.starts_with(')') {
            inside = false;
        } else if inside {
            let url = line.split_whitespace().next().unwrap_or_default().trim_matches(['"', '\'']);
            let is_manifest = [".yaml", ".yml"].iter().any(|ending| url.ends_with(ending));
            if url.starts_with("https://") && is_manifest {
                found.push((index + 1, url));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_taken_from_lists_in_scripts() {
        let script = "function apply_crds() {\n    local -r crds=(\n        # renovate: x\n        \
                      https://example.org/a/crd.yaml\n        # https://example.org/old.yaml\n        \
                      \"https://example.org/${V}/b.yaml\"\n    )\n    for crd in x; do https://example.org/c.yaml\n}\n\
                      other=(\n  https://example.org/d.yaml\n)\n";
        let root = tempfile::tempdir().unwrap();
        for (path, text) in
            [("scripts/apps.sh", script), ("scripts/staging/apps.sh", "crds=(\n https://example.org/s.yml\n)\n")]
        {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let (files, notices) = crd_files(root.path(), &BTreeSet::from(["staging".to_owned()]));
        let told: Vec<String> = files.iter().map(|file| format!("{} {}", file.url, file.at)).collect();
        assert_eq!(told, ["https://example.org/a/crd.yaml scripts/apps.sh:4:1"]);
        assert_eq!(notices.iter().count(), 1);
    }
}
