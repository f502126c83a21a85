//! What community recipes hand on to the tools that they call, wherever it is run: which cluster is meant, where the
//! repository's usual folders are, and variables that the recipes themselves set.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use super::bootstrap::texts;
use super::layout::Layout;
use crate::template::jinja;
use crate::template::written::{Found, Repository};
use crate::yaml::Diagnostics;

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
