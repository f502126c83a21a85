//! The variables that helmfiles and manifest templates need and that the environment lacks, found in the repository.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::bootstrap::texts;
use super::layout::Layout;
use discover::{FoundValue, VariableSearch};
use template::jinja;
use yaml::Diagnostics;

/// Finds the variables that helmfiles require and manifest templates use. Each one found is reported as a warning.
pub(super) fn missing_variables(
    root: &Path,
    layout: &Layout,
    environment: &BTreeMap<String, String>,
) -> (BTreeMap<String, String>, Diagnostics) {
    let (mut all, mut notices) = (BTreeMap::new(), Diagnostics::default());
    let mut keep = |found: BTreeMap<String, FoundValue>| {
        for (name, found) in found {
            let notice = found.warning(&name);
            if let Entry::Vacant(place) = all.entry(name) {
                place.insert(found.value);
                notices.push(notice);
            }
        }
    };
    let look = |folder: &Path, names: BTreeSet<String>| {
        let lacking: BTreeSet<String> = names.into_iter().filter(|name| !environment.contains_key(name)).collect();
        let search = VariableSearch { root, folder, known: environment };
        if lacking.is_empty() { BTreeMap::new() } else { search.find(&lacking) }
    };
    let folders: BTreeSet<&Path> =
        layout.crds.iter().chain(&layout.releases).filter_map(|path| path.parent()).collect();
    for folder in folders {
        let text = texts(folder);
        let names = lazy_regex::regex!(r#"\brequiredEnv\s+["`](\w+)["`]"#).captures_iter(&text);
        let mut found = look(folder, names.map(|name| name[1].to_owned()).collect());
        // Helmfiles are read before secrets are resolved.
        found.retain(|_, found| !found.value.starts_with("op://"));
        keep(found);
    }
    let manifests = |path: &&PathBuf| path.is_file();
    for path in layout.secrets.iter().filter(manifests) {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        keep(look(path.parent().unwrap_or(root), jinja::environment_variables(&text)));
    }
    (all, notices)
}
