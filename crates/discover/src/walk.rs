//! The one walker over a repository's files.
//!
//! It honours `.gitignore` (also in a tree without `.git`), follows no symbolic link, skips folders that hold no inputs,
//! and passes over files that are larger than people write.

use std::path::{Path, PathBuf};

use ignore::{DirEntry, WalkBuilder};

/// Folders below the root, at most: inputs lie no deeper.
const MAX_DEPTH: usize = 12;
/// Bytes. Inputs of a bootstrap are written by people; larger files are data.
const MAX_FILE: u64 = 1 << 20;
/// Folders that never hold inputs, wherever they lie.
const SKIPPED: [&str; 2] = ["node_modules", "target"];
/// Folders that hold none directly below the root of the repository. Below it, such a name is an application's.
const SKIPPED_AT_ROOT: [&str; 2] = ["tests", "docs"];
/// Beginnings of the hidden folders that hold recipes: `.taskfiles`, `.justfiles`.
const RECIPE_FOLDERS: [&str; 2] = [".task", ".just"];

/// The files of the repository at `root`, in the order of their paths, absolute if `root` is.
///
/// A file that cannot be read or listed is left out: a reader that needs it by name reports it.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let mut builder = WalkBuilder::new(root);
    builder
        .standard_filters(false)
        .git_ignore(true)
        .git_exclude(true)
        .require_git(false)
        .follow_links(false)
        .max_depth(Some(MAX_DEPTH))
        .max_filesize(Some(MAX_FILE))
        .filter_entry(is_entered);
    let entries = builder.build().filter_map(Result::ok);
    let mut files: Vec<PathBuf> =
        entries.filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file())).map(DirEntry::into_path).collect();
    files.sort();
    files
}

/// As [`files`], those below `folder` only.
pub fn files_below(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let mut files = files(root);
    files.retain(|path| path.starts_with(folder));
    files
}

/// Whether a file's name has one of these endings: `.yaml`.
pub fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    endings.iter().any(|ending| name.ends_with(ending))
}

fn is_entered(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
    if entry.depth() == 0 || !is_folder {
        return true;
    }
    let lower = name.to_ascii_lowercase();
    let is_hidden = lower.starts_with('.') && !RECIPE_FOLDERS.iter().any(|start| lower.starts_with(start));
    let is_skipped = SKIPPED.contains(&&*name) || entry.depth() == 1 && SKIPPED_AT_ROOT.contains(&&*name);
    !is_hidden && !is_skipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_hidden_and_generated_files_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            (".gitignore", "*.dec.yaml\nout/\n"),
            ("a.yaml", ""),
            ("a.dec.yaml", ""),
            ("out/x.yaml", ""),
            ("docs/guide.yaml", ""),
            ("apps/docs/ks.yaml", ""),
            ("node_modules/x/p.yaml", ""),
            (".github/w.yaml", ""),
            (".taskfiles/talos/Taskfile.yaml", ""),
            (".justfile", ""),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink("a.yaml", root.path().join("link.yaml")).unwrap();
        std::fs::write(root.path().join("large.yaml"), vec![b'#'; 1 << 21]).unwrap();
        let found: Vec<_> = files(root.path())
            .iter()
            .map(|path| path.strip_prefix(root.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(found, [".gitignore", ".justfile", ".taskfiles/talos/Taskfile.yaml", "a.yaml", "apps/docs/ks.yaml"]);
    }
}
