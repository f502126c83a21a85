//! Values that the operator's recipes would hand on, found where they are written: what the environment does not say is
//! looked for in the repository under the same name, and what was found there is told.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

use super::{Place, layers};
use crate::yaml::{Diagnostic, Location, Position};

/// Deeper trees hold nothing that recipes read.
const DEPTH: usize = 8;
/// A file that people write is not larger.
const MAX_FILE: u64 = 1 << 20;
/// Files that recipes read, and recipes themselves.
const ENDINGS: [&str; 5] = [".yaml", ".yml", ".env", ".toml", ".just"];

/// A value that is written in the repository under a variable's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) value: String,
    pub(super) at: Location,
}

/// Looks for `name: value` and `name=value` in the files of the folder, and where it is not there, in the whole repository.
/// A name with several values is not known.
pub(super) fn written(root: &Path, folder: &Path, names: &BTreeSet<String>) -> BTreeMap<String, Found> {
    let mut found = search(root, folder, names);
    let rest: BTreeSet<String> = names.iter().filter(|name| !found.contains_key(*name)).cloned().collect();
    if !rest.is_empty() {
        found.extend(search(root, root, &rest));
    }
    found
}

fn search(root: &Path, folder: &Path, names: &BTreeSet<String>) -> BTreeMap<String, Found> {
    let mut all: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    let alternatives = names.iter().map(|name| regex::escape(name)).collect::<Vec<_>>().join("|");
    let value = r#"["']?([^\s"'{}$#]+)["']?"#;
    let line = format!(r"(?i)^\s*(?:export\s+)?({alternatives})\s*(?::=|[:=])\s*{value}\s*(?:#.*)?$");
    let Ok(line) = Regex::new(&line) else { return BTreeMap::new() };
    let mut paths = Vec::new();
    walk(folder, DEPTH, &mut paths);
    for path in paths {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (index, captures) in
            text.lines().enumerate().filter_map(|(index, text)| Some((index, line.captures(text)?)))
        {
            let Some(name) = names.iter().find(|name| name.eq_ignore_ascii_case(&captures[1])) else { continue };
            let at = layers::origin(root, &path).at(Position { line: index + 1, column: 1 });
            all.entry(name.clone()).or_default().push(Found { value: captures[2].to_owned(), at });
        }
    }
    let unanimous = |found: Vec<Found>| {
        let first = found.first()?.clone();
        found.iter().all(|other| other.value == first.value).then_some(first)
    };
    all.into_iter().filter_map(|(name, found)| Some((name, unanimous(found)?))).collect()
}

fn walk(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| !path.is_symlink()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if depth > 0 && !name.starts_with('.') && name != "node_modules" {
                walk(&path, depth - 1, paths);
            }
            continue;
        }
        let is_recipe = name.to_ascii_lowercase().trim_start_matches('.') == "justfile";
        let is_read = is_recipe || ENDINGS.iter().any(|ending| name.ends_with(ending));
        if is_read && path.metadata().is_ok_and(|metadata| metadata.len() <= MAX_FILE) {
            paths.push(path);
        }
    }
}

/// As [`written()`], one name at a time.
pub(super) struct Elsewhere<'p> {
    place: &'p Place<'p>,
    known: RefCell<BTreeMap<String, Option<Found>>>,
}

impl<'p> Elsewhere<'p> {
    pub(super) fn new(place: &'p Place<'p>) -> Self {
        Self { place, known: RefCell::default() }
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        let mut known = self.known.borrow_mut();
        let found = known.entry(name.to_owned()).or_insert_with(|| {
            written(self.place.root, self.place.folder, &BTreeSet::from([name.to_owned()])).remove(name)
        });
        found.as_ref().map(|found| found.value.clone())
    }

    /// What was found, each with its place.
    pub(super) fn notices(&self) -> Vec<Diagnostic> {
        let known = self.known.borrow();
        known.iter().filter_map(|(name, found)| Some(found.as_ref()?.notice(name))).collect()
    }
}

impl Found {
    /// Tells where a variable's value was taken from.
    pub(super) fn notice(&self, name: &str) -> Diagnostic {
        let text = format!("`{}` is taken for the variable `{name}`, which the environment lacks", self.value);
        Diagnostic::at(self.at.clone(), text)
            .with_hint("set the variable in the environment where another value is meant")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_from_the_nearest_file_and_only_when_all_agree() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("talos/version.yaml", "# renovate\ntalos_version: v1.14.0 # x\n"),
            ("apps/ks.yaml", "spec:\n  substitute:\n    K8S_VERSION: \"v1.36.2\"\n    TALOS_VERSION: v1.0.0\n"),
            ("a.env", "export TWICE=1\nSECRET=${OTHER}\n"),
            ("b.env", "TWICE=2\n"),
            ("talos/mod.just", "export prefix := \"fd00\"\n"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let names = ["prefix", "TALOS_VERSION", "K8S_VERSION", "TWICE", "SECRET", "NOWHERE"].map(str::to_owned);
        let found = written(root.path(), &root.path().join("talos"), &names.into());
        let found: Vec<_> = found.iter().map(|(name, found)| format!("{name}={} {}", found.value, found.at)).collect();
        assert_eq!(
            found,
            [
                "K8S_VERSION=v1.36.2 apps/ks.yaml:3:1",
                "TALOS_VERSION=v1.14.0 talos/version.yaml:2:1",
                "prefix=fd00 talos/mod.just:1:1"
            ]
        );
    }
}
