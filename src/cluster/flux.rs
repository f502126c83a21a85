//! What Flux will own later: the HelmReleases that lie in the repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::yaml::{self, Origin};

/// HelmReleases by name, with the file that holds each.
pub type HelmReleases = BTreeMap<String, PathBuf>;

/// Deeper trees than this hold no manifests.
const DEPTH: usize = 8;
/// Folders that hold no manifests of this cluster.
const SKIPPED: [&str; 5] = [".git", "target", "node_modules", "tests", "docs"];

/// Finds every HelmRelease below `root`. A file that cannot be read as YAML is some other tool's.
pub(super) fn helm_releases(root: &Path) -> HelmReleases {
    let mut found = HelmReleases::new();
    walk(root, DEPTH, &mut found);
    found
}

fn walk(folder: &Path, depth: usize, found: &mut HelmReleases) {
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
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            read(&path, found);
        }
    }
}

fn read(path: &Path, found: &mut HelmReleases) {
    let Ok(text) = std::fs::read_to_string(path) else { return };
    if !text.contains("HelmRelease") {
        return;
    }
    let Ok(documents) = yaml::parse(&Origin::of_path(path), &text) else { return };
    for document in documents {
        let kind = document.find(&["kind"]).and_then(yaml::Node::as_str);
        if kind != Some("HelmRelease") {
            continue;
        }
        if let Some(name) = document.find(&["metadata", "name"]).and_then(yaml::Node::as_str) {
            found.entry(name.to_owned()).or_insert_with(|| path.to_owned());
        }
    }
}
