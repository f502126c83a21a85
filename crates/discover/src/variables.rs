//! Values that recipes would give to templates, found where the repository writes them: a variable that the environment
//! lacks is searched for under its own name, and reported with its location.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;
use yaml::{Diagnostic, Location, Origin, Position};

use crate::Variables;
use crate::expand::expand;
use crate::one_password;
use crate::walk;
use crate::yq::Recipe;

/// Files that recipes read, and recipes themselves.
const ENDINGS: [&str; 6] = [".yaml", ".yml", ".env", ".toml", ".just", ".sh"];
/// Parts of the names of secrets, whose values are not shown.
const SECRET_NAMES: [&str; 6] = ["secret", "token", "pass", "key", "cred", "cert"];

/// A value with the location at which the repository writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundValue {
    /// The value, or the `op://` reference that a recipe reads it from.
    pub value: String,
    pub at: Location,
}

impl FoundValue {
    /// A warning that the value is used for the variable `name`.
    pub fn warning(&self, name: &str) -> Diagnostic {
        let is_secret = SECRET_NAMES.iter().any(|word| name.to_ascii_lowercase().contains(word));
        let value = if is_secret { "the value written here".to_owned() } else { format!("`{}`", self.value) };
        Diagnostic::at_location(
            self.at.clone(),
            format!("the variable `{name}` is not set in the environment: using {value}"),
        )
        .with_hint("set the variable in the environment to use another value")
    }
}

/// A search for variables in the files of a repository.
#[derive(Debug, Clone, Copy)]
pub struct VariableSearch<'r> {
    pub root: &'r Path,
    /// Searched before the rest of the repository.
    pub folder: &'r Path,
    /// Variables that values may be made of: `{{.ROOT_DIR}}/kubernetes`.
    pub known: &'r Variables,
}

impl VariableSearch<'_> {
    /// Finds `name: value` and `name=value` in the folder's files, and where it is not there, in the whole repository. The
    /// spelling nearest to the name counts; a name with several values is not found.
    pub fn find(&self, names: &BTreeSet<String>) -> BTreeMap<String, FoundValue> {
        let files = self.files();
        let (near, all) = (|path: &&PathBuf| path.starts_with(self.folder), files.iter());
        let mut found = self.search(all.clone().filter(near), names);
        let rest: BTreeSet<String> = names.iter().filter(|name| !found.contains_key(*name)).cloned().collect();
        if !rest.is_empty() {
            found.extend(self.search(all, &rest));
        }
        found
    }

    /// Where a name is given a value, even one that has to be computed: first in the folder, then elsewhere.
    pub fn assigned_at(&self, name: &str) -> Option<Location> {
        let assignment = assignment(&BTreeSet::from([name.to_owned()]))?;
        let mut files = self.files();
        files.sort_by_key(|path| !path.starts_with(self.folder));
        files.iter().find_map(|path| {
            let text = std::fs::read_to_string(path).ok()?;
            let lines: Vec<&str> = text.lines().collect();
            let is_assigned = |index: usize| {
                let captures = assignment.captures(lines[index]);
                captures.is_some_and(|found| found[1] == *name && assigned(&found, lines.get(index + 1)).is_some())
            };
            let index = (0..lines.len()).find(|index| is_assigned(*index))?;
            Some(self.origin(path).location(Position { line: index + 1, column: 1 }))
        })
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = walk::files(self.root);
        files.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_justfile = name.to_ascii_lowercase().trim_start_matches('.') == "justfile";
            is_justfile || walk::has_ending(path, &ENDINGS)
        });
        files
    }

    fn origin(&self, path: &Path) -> Origin {
        Origin::of_path(path.strip_prefix(self.root).unwrap_or(path))
    }

    fn search<'p>(
        &self,
        files: impl Iterator<Item = &'p PathBuf>,
        names: &BTreeSet<String>,
    ) -> BTreeMap<String, FoundValue> {
        let mut all: BTreeMap<(&String, Spelling), Vec<FoundValue>> = BTreeMap::new();
        let Some(assignment) = assignment(names) else { return BTreeMap::new() };
        for path in files {
            let Ok(text) = std::fs::read_to_string(path) else { continue };
            let recipe = Recipe { root: self.root, text: &text, known: self.known };
            let lines: Vec<&str> = text.lines().collect();
            for (index, line) in lines.iter().enumerate() {
                let Some(captures) = assignment.captures(line) else { continue };
                let Some(assigned) = assigned(&captures, lines.get(index + 1)) else { continue };
                let Some(value) = recipe.lookup(assigned.text()).or_else(|| assigned.value(self.known)) else {
                    continue;
                };
                let at = self.origin(path).location(Position { line: index + 1, column: 1 });
                let matching = names.iter().filter_map(|name| Some((name, spelling(name, &captures[1])?)));
                if let Some(nearest) = matching.min_by_key(|(_, spelling)| *spelling) {
                    all.entry(nearest).or_default().push(FoundValue { value, at });
                }
            }
        }
        let mut unique = BTreeMap::new();
        let mut decided = BTreeSet::new();
        for ((name, _), found) in all {
            let first = &found[0];
            if decided.insert(name) && found.iter().all(|other| other.value == first.value) {
                unique.insert(name.clone(), first.clone());
            }
        }
        unique
    }
}

/// How near a key is to a name, the nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spelling {
    Same,
    OtherCase,
    /// `talosVersion` for `TALOS_VERSION`.
    OtherWords,
}

fn spelling(name: &str, key: &str) -> Option<Spelling> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    if name == key {
        Some(Spelling::Same)
    } else if name.eq_ignore_ascii_case(key) {
        Some(Spelling::OtherCase)
    } else {
        (plain(name) == plain(key)).then_some(Spelling::OtherWords)
    }
}

/// A line that gives one of the names a value, in YAML, TOML, an environment file, a script or a recipe.
fn assignment(names: &BTreeSet<String>) -> Option<Regex> {
    let loose = |name: &String| {
        let letters = name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| regex::escape(&c.to_string()));
        letters.collect::<Vec<_>>().join("[_-]?")
    };
    let names = names.iter().map(loose).collect::<Vec<_>>().join("|");
    // Too many names make a pattern over regex's size limit; then none is found.
    Regex::new(&format!(r"(?i)^\s*(?:export\s+)?({names})\s*(?::=|[:=])\s*(.*)$")).ok()
}

/// The right side of an assignment.
#[derive(Debug, Clone, Copy)]
enum Assigned<'t> {
    Text(&'t str),
    /// A dynamic variable of task: `sh: command` on the next line.
    Command(&'t str),
}

impl<'t> Assigned<'t> {
    fn text(self) -> &'t str {
        match self {
            Self::Text(text) | Self::Command(text) => text,
        }
    }

    /// The value; none where it takes more than reading to know it.
    fn value(self, known: &Variables) -> Option<String> {
        match self {
            Self::Text(text) => literal(text, known),
            Self::Command(command) => one_password::reference(command),
        }
    }
}

fn assigned<'t>(assignment: &regex::Captures<'t>, next: Option<&&'t str>) -> Option<Assigned<'t>> {
    let own = assignment.get(2)?.as_str().trim();
    let command = || next?.trim().strip_prefix("sh:").map(|command| Assigned::Command(command.trim()));
    let assigned = if own.is_empty() { command() } else { Some(Assigned::Text(own)) };
    assigned.filter(|assigned| !assigned.text().is_empty())
}

/// A value that is written as a literal, or read from 1Password.
fn literal(text: &str, known: &Variables) -> Option<String> {
    if one_password::is_read(text) {
        return one_password::reference(text);
    }
    let text = text.split(" #").next().unwrap_or_default().trim_end_matches(['\\', ';', '&', ' ']);
    let quoted = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    let value = expand(quoted.unwrap_or(text).trim(), &|name| known.get(name).cloned())?;
    if value.starts_with(['|', '>', '&', '*', '!', '[', '@']) {
        return None;
    }
    let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '{' | '}' | '$' | '#' | '`' | '(' | ')');
    (!value.is_empty() && value.chars().all(is_plain)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], names: &[&str]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let known =
            [("ROOT_DIR", "/repo"), ("CLUSTER", "home")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (folder, known) = (root.path().join("talos"), known.into());
        let search = VariableSearch { root: root.path(), folder: &folder, known: &known };
        let found = search.find(&names.iter().map(ToString::to_string).collect());
        found.iter().map(|(name, found)| format!("{name}={} {}", found.value, found.at)).collect()
    }

    #[test]
    fn a_value_comes_from_the_nearest_file_and_only_when_all_agree() {
        let files = [
            ("talos/version.yaml", "# renovate\ntalos_version: v1.14.0 # x\n"),
            ("apps/ks.yaml", "spec:\n  substitute:\n    K8S_VERSION: \"v1.36.2\"\n    TALOS_VERSION: v1.0.0\n"),
            ("a.env", "export TWICE=1\nSECRET=${OTHER}\n"),
            ("b.env", "TWICE=2\n"),
            ("talos/mod.just", "export prefix := \"fd00\"\n"),
        ];
        assert_eq!(
            found(&files, &["prefix", "TALOS_VERSION", "K8S_VERSION", "TWICE", "SECRET", "NOWHERE"]),
            [
                "K8S_VERSION=v1.36.2 apps/ks.yaml:3:1",
                "TALOS_VERSION=v1.14.0 talos/version.yaml:2:1",
                "prefix=fd00 talos/mod.just:1:1"
            ]
        );
    }

    #[test]
    fn a_read_from_1password_becomes_a_reference() {
        let recipe = "apply:\n    export PREFIX=\"$(op item get net --field V6 --vault lab)\"; \\\n    \
                      export DISK_KEY=$(op read \"op://lab/disk keys/one\")\n    export AGAIN=\"$(op read \"op://$V/a/b\")\"\n\
                      token := `op read op://lab/talos/token`\n";
        assert_eq!(
            found(&[("talos/mod.just", recipe)], &["PREFIX", "DISK_KEY", "AGAIN", "token"]),
            [
                "DISK_KEY=op://lab/disk keys/one talos/mod.just:3:1",
                "PREFIX=op://lab/net/V6 talos/mod.just:2:1",
                "token=op://lab/talos/token talos/mod.just:5:1"
            ]
        );
    }

    #[test]
    fn values_of_task_are_expanded() {
        let tasks = "vars:\n  APPS: '{{.ROOT_DIR}}/kubernetes/{{.CLUSTER}}/apps'\n  OTHER: '{{.UNSET}}/x'\n";
        let again = "env:\n  APPS: \"{{.APPS}}\"\n";
        let files = [("Taskfile.yaml", tasks), (".taskfiles/bootstrap/Taskfile.yaml", again)];
        assert_eq!(found(&files, &["APPS", "OTHER"]), ["APPS=/repo/kubernetes/home/apps Taskfile.yaml:2:1"]);
    }

    #[test]
    fn a_computed_value_is_unknown_and_its_location_known() {
        let files = [("talos/mod.just", "id:\n    export EARLY=\"$(just early)\"\n"), ("ks.yaml", "EARLY: |-\n")];
        assert_eq!(found(&files, &["EARLY"]), [""; 0]);
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("mod.just"), files[0].1).unwrap();
        let search = VariableSearch { root: root.path(), folder: root.path(), known: &BTreeMap::new() };
        assert_eq!(search.assigned_at("EARLY").unwrap().to_string(), "mod.just:2:1");
        assert_eq!(search.assigned_at("LATE"), None);
    }

    #[test]
    fn a_yq_lookup_of_task_is_found() {
        let tasks = "env:\n  K8S:\n    sh: yq '.spec.version | select(.)' up/k8s.yaml\n  NOW:\n    sh: date\n";
        let files = [(".taskfiles/talos/Taskfile.yaml", tasks), ("up/k8s.yaml", "spec:\n  version: v1.36.2\n")];
        assert_eq!(found(&files, &["K8S", "NOW"]), ["K8S=v1.36.2 .taskfiles/talos/Taskfile.yaml:2:1"]);
    }

    #[test]
    fn the_nearest_spelling_counts() {
        let files =
            [("talos/env.yaml", "talosVersion: v1.2.3\nkubernetesVersion: v1.0.0\nkubernetes_version: v1.1.0\n")];
        assert_eq!(
            found(&files, &["TALOS_VERSION", "KUBERNETES_VERSION"]),
            ["KUBERNETES_VERSION=v1.1.0 talos/env.yaml:3:1", "TALOS_VERSION=v1.2.3 talos/env.yaml:1:1"]
        );
    }
}
