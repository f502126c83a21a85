//! Shell scripts: the lists of CRD files that they apply, `crds=(https://…)`.

use std::collections::BTreeSet;
use std::path::Path;

use lazy_regex::regex_is_match;
use yaml::{Diagnostic, Diagnostics, Location, Origin, Position};

use crate::recipes;

/// A file of custom resource definitions that a recipe applies by its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrdUrl {
    pub url: String,
    pub at: Location,
}

/// The CRD files that recipes apply before any chart, and warnings about URLs that hold a variable. Scripts below a
/// folder that is named after one of `other_clusters` are left out.
pub fn crd_urls(root: &Path, other_clusters: &BTreeSet<String>) -> (Vec<CrdUrl>, Diagnostics) {
    let (mut urls, mut warnings): (Vec<CrdUrl>, _) = (Vec::new(), Diagnostics::default());
    for path in recipes::files(root) {
        let relative = path.strip_prefix(root).unwrap_or(&path);
        if relative.iter().any(|folder| other_clusters.contains(folder.to_string_lossy().as_ref())) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for (line, url) in listed(&text) {
            let at = Origin::of_path(relative).location(Position { line, column: 1 });
            if url.contains(['$', '{']) {
                warnings.push(
                    Diagnostic::at_location(
                        at,
                        format!("the CRDs at `{url}` are not applied: the URL holds a variable"),
                    )
                    .with_hint("write the URL without a variable, or take the CRDs from a chart"),
                );
            } else if !urls.iter().any(|known| known.url == url) {
                urls.push(CrdUrl { url: url.to_owned(), at });
            }
        }
    }
    (urls, warnings)
}

/// The URLs of YAML files in lists `…crds…=( … )`, with their lines.
fn listed(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut is_inside = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if regex_is_match!(r"^\s*(?:(?:local|declare|readonly)\s+)?(?:-\w+\s+)*\w*[Cc][Rr][Dd]\w*=\($", line) {
            is_inside = true;
        } else if line.starts_with(')') {
            is_inside = false;
        } else if is_inside {
            let url = line.split_whitespace().next().unwrap_or_default().trim_matches(['"', '\'']);
            if url.starts_with("https://") && [".yaml", ".yml"].iter().any(|ending| url.ends_with(ending)) {
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
    fn crds_are_read_from_lists_in_scripts() {
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
        let (files, warnings) = crd_urls(root.path(), &BTreeSet::from(["staging".to_owned()]));
        let found: Vec<String> = files.iter().map(|file| format!("{} {}", file.url, file.at)).collect();
        assert_eq!(found, ["https://example.org/a/crd.yaml scripts/apps.sh:4:1"]);
        assert_eq!(warnings.iter().count(), 1);
    }
}
