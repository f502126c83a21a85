//! What templates may use: the environment, and what the operator's recipes would set.
//!
//! A recipe around these templates sets a few variables for each node: its role, the id of its schematic, versions that
//! are written elsewhere in the repository. What the environment does not say is therefore looked for where recipes
//! get it from; what was found elsewhere is told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use super::super::layers;
use crate::talos::config::Role;
use crate::yaml::{Location, Position};

/// Deeper trees hold nothing that recipes read.
const DEPTH: usize = 8;
/// A file that people write is not larger.
const MAX_FILE: u64 = 1 << 20;

static NAMES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"ENV(?:\.([A-Za-z_][A-Za-z0-9_]*)|\[\s*["']([^"']+)["']\s*\])"#).ok());

/// The names of the environment's variables that a template uses.
pub(super) fn of_environment(text: &str) -> BTreeSet<String> {
    let captures = NAMES.iter().flat_map(|names| names.captures_iter(text));
    captures.filter_map(|found| found.get(1).or(found.get(2))).map(|name| name.as_str().to_owned()).collect()
}

/// What a node gives to its templates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'n> {
    pub(super) role: Option<Role>,
    pub(super) schematic: Option<&'n str>,
}

impl Node<'_> {
    /// The role as Talos calls it.
    pub(super) fn role_word(&self) -> Option<&'static str> {
        self.role.map(|role| match role {
            Role::ControlPlane => "controlplane",
            Role::Worker => "worker",
        })
    }

    /// What recipes set for each node, by the names that they give it.
    pub(super) fn says(&self, name: &str) -> Option<String> {
        match name.to_ascii_uppercase().as_str() {
            "MACHINE_TYPE" | "MACHINETYPE" | "NODE_TYPE" => self.role_word().map(str::to_owned),
            // Empty is false in a template.
            "IS_CONTROLPLANE" | "IS_CONTROL_PLANE" => self.role.map(|role| match role {
                Role::ControlPlane => "true".to_owned(),
                Role::Worker => String::new(),
            }),
            "SCHEMATIC" | "SCHEMATIC_ID" | "TALOS_SCHEMATIC" | "TALOS_SCHEMATIC_ID" => {
                self.schematic.map(str::to_owned)
            }
            _ => None,
        }
    }
}

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
    let line = format!(r"(?i)^\s*(?:export\s+)?({alternatives})\s*[:=]\s*{value}\s*(?:#.*)?$");
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
        let is_read = [".yaml", ".yml", ".env", ".toml"].iter().any(|ending| name.ends_with(ending));
        if is_read && path.metadata().is_ok_and(|metadata| metadata.len() <= MAX_FILE) {
            paths.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_both_spellings_are_found() {
        let names = of_environment(r#"{{ ENV.A }} {% if ENV["b.c"] == ENV['D'] %} {{ OTHER.E }}"#);
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["A", "D", "b.c"]);
    }

    #[test]
    fn a_value_is_taken_from_the_nearest_file_and_only_when_all_agree() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("talos/version.yaml", "# renovate\ntalos_version: v1.14.0 # x\n"),
            ("apps/ks.yaml", "spec:\n  substitute:\n    K8S_VERSION: \"v1.36.2\"\n    TALOS_VERSION: v1.0.0\n"),
            ("a.env", "export TWICE=1\nSECRET=${OTHER}\n"),
            ("b.env", "TWICE=2\n"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let names = ["TALOS_VERSION", "K8S_VERSION", "TWICE", "SECRET", "NOWHERE"].map(str::to_owned);
        let found = written(root.path(), &root.path().join("talos"), &names.into());
        let found: Vec<_> = found.iter().map(|(name, found)| format!("{name}={} {}", found.value, found.at)).collect();
        assert_eq!(found, ["K8S_VERSION=v1.36.2 apps/ks.yaml:3:1", "TALOS_VERSION=v1.14.0 talos/version.yaml:2:1"]);
    }
}
