//! The scripts and recipes of a repository, and what they have in common.

use std::path::{Path, PathBuf};

use crate::walk;

/// Folders by the names that recipes of community repositories give them.
const FOLDERS: [(&str, &str); 4] =
    [("ROOT_DIR", ""), ("BOOTSTRAP_DIR", "bootstrap"), ("KUBERNETES_DIR", "kubernetes"), ("TALOS_DIR", "talos")];

/// The cluster and the usual folders, by the names that recipes give them.
pub fn common_variables(root: &Path, cluster: &str) -> Vec<(&'static str, String)> {
    let folders = FOLDERS.iter().map(|(variable, folder)| (*variable, root.join(folder)));
    let folders = folders.filter(|(_, folder)| folder.is_dir());
    let folders =
        folders.map(|(variable, folder)| (variable, folder.to_string_lossy().trim_end_matches('/').to_owned()));
    folders.chain([("CLUSTER", cluster.to_owned())]).collect()
}

/// Those of `paths` that recipes name, by their last two parts: `helmfile.d/01-apps.yaml`.
pub fn named_by_recipes<'p>(root: &Path, paths: impl Iterator<Item = &'p PathBuf>) -> Vec<PathBuf> {
    let recipes: Vec<String> = files(root).iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    let is_named = |path: &&PathBuf| {
        let inside = path.strip_prefix(root).unwrap_or(path);
        let parts: Vec<_> = inside.iter().collect();
        let ending: PathBuf = parts[parts.len().saturating_sub(2)..].iter().collect();
        let ending = ending.to_string_lossy().into_owned();
        recipes.iter().any(|recipe| recipe.contains(&ending))
    };
    paths.filter(is_named).cloned().collect()
}

/// Scripts, justfiles and Taskfiles, in the order of their paths.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let mut files = walk::files(root);
    files.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let is_yaml = [".yaml", ".yml"].iter().any(|ending| name.ends_with(ending));
        let is_below_taskfiles = path.iter().any(|part| part.to_string_lossy().starts_with(".task"));
        [".sh", ".just", "justfile"].iter().any(|ending| name.ends_with(ending))
            || is_yaml && (name.starts_with("taskfile") || is_below_taskfiles)
    });
    files
}
