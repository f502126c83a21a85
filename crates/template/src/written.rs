//! Values that the operator's recipes would hand on to templates, found where they are written: what the environment does
//! not say is looked for in the repository under the same name, and what was found there is told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use super::recipe::Recipe;
use yaml::{Diagnostic, Location, Origin, Position};

/// Deeper trees hold nothing that recipes read.
const DEPTH: usize = 8;
/// A file that people write is not larger.
const MAX_FILE: u64 = 1 << 20;
/// Files that recipes read, and recipes themselves.
const ENDINGS: [&str; 6] = [".yaml", ".yml", ".env", ".toml", ".just", ".sh"];
/// What the names of secrets are made of: their values are not shown, wherever they stand.
const SECRETS: [&str; 6] = ["secret", "token", "pass", "key", "cred", "cert"];

/// A value that is written in the repository under a variable's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value, or the `op://` reference that a recipe reads it from.
    pub value: String,
    pub at: Location,
}

impl Found {
    /// Tells where a variable's value was taken from.
    pub fn notice(&self, name: &str) -> Diagnostic {
        let is_secret = SECRETS.iter().any(|word| name.to_ascii_lowercase().contains(word));
        let value = if is_secret { "what stands here".to_owned() } else { format!("`{}`", self.value) };
        let text = format!("{value} is taken for the variable `{name}`, which the environment lacks");
        Diagnostic::at(self.at.clone(), text)
            .with_hint("set the variable in the environment where another value is meant")
    }
}

/// Where values are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Repository<'r> {
    pub root: &'r Path,
    /// Where they are looked for first.
    pub folder: &'r Path,
    /// Variables that values may be made of: `{{.ROOT_DIR}}/kubernetes`.
    pub known: &'r BTreeMap<String, String>,
}

impl Repository<'_> {
    /// Looks for `name: value` and `name=value` in the files of the folder, and where it is not there, in the whole
    /// repository. The spelling that is nearest to the name counts; a name with several values is not known.
    pub fn written(&self, names: &BTreeSet<String>) -> BTreeMap<String, Found> {
        let mut found = self.search(self.folder, names);
        let rest: BTreeSet<String> = names.iter().filter(|name| !found.contains_key(*name)).cloned().collect();
        if !rest.is_empty() {
            found.extend(self.search(self.root, &rest));
        }
        found
    }

    /// Where the name is given a value, whatever it takes to know it: first in the folder, then elsewhere.
    pub fn set(&self, name: &str) -> Option<Location> {
        let assignment = assignment(&BTreeSet::from([name.to_owned()]))?;
        let mut paths = Vec::new();
        walk(self.folder, DEPTH, &mut paths);
        walk(self.root, DEPTH, &mut paths);
        paths.iter().find_map(|path| {
            let text = std::fs::read_to_string(path).ok()?;
            let lines: Vec<&str> = text.lines().collect();
            let is_set = |index: usize| {
                let captures = assignment.captures(lines[index]);
                captures.is_some_and(|found| found[1] == *name && said(&found, lines.get(index + 1)).is_some())
            };
            let index = (0..lines.len()).find(|index| is_set(*index))?;
            Some(self.origin(path).at(Position { line: index + 1, column: 1 }))
        })
    }

    fn origin(&self, path: &Path) -> Origin {
        Origin::of_path(path.strip_prefix(self.root).unwrap_or(path))
    }

    fn search(&self, folder: &Path, names: &BTreeSet<String>) -> BTreeMap<String, Found> {
        let mut all: BTreeMap<(&String, Spelling), Vec<Found>> = BTreeMap::new();
        let Some(assignment) = assignment(names) else { return BTreeMap::new() };
        let mut paths = Vec::new();
        walk(folder, DEPTH, &mut paths);
        for path in paths {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let recipe = Recipe { root: self.root, text: &text, known: self.known };
            let lines: Vec<&str> = text.lines().collect();
            for (index, line) in lines.iter().enumerate() {
                let Some(captures) = assignment.captures(line) else { continue };
                let Some(said) = said(&captures, lines.get(index + 1)) else { continue };
                let plain = || match said {
                    Said::Text(text) => value(text, self.known),
                    Said::Command(command) => reference(command),
                };
                let Some(value) = recipe.looks_up(said.text()).or_else(plain) else { continue };
                let at = self.origin(&path).at(Position { line: index + 1, column: 1 });
                let meant = names.iter().filter_map(|name| Some((name, spelling(name, &captures[1])?)));
                if let Some(meant) = meant.min_by_key(|(_, spelling)| *spelling) {
                    all.entry(meant).or_default().push(Found { value, at });
                }
            }
        }
        let mut known = BTreeMap::new();
        let mut decided = BTreeSet::new();
        for ((name, _), found) in all {
            let first = &found[0];
            if decided.insert(name) && found.iter().all(|other| other.value == first.value) {
                known.insert(name.clone(), first.clone());
            }
        }
        known
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
    Regex::new(&format!(r"(?i)^\s*(?:export\s+)?({names})\s*(?::=|[:=])\s*(.*)$")).ok()
}

/// What an assignment says behind the name; task's commands stand on the next line.
#[derive(Debug, Clone, Copy)]
enum Said<'t> {
    Text(&'t str),
    Command(&'t str),
}

impl<'t> Said<'t> {
    fn text(self) -> &'t str {
        match self {
            Self::Text(text) | Self::Command(text) => text,
        }
    }
}

fn said<'t>(assignment: &regex::Captures<'t>, next: Option<&&'t str>) -> Option<Said<'t>> {
    let own = assignment.get(2)?.as_str().trim();
    let command = || next?.trim().strip_prefix("sh:").map(|command| Said::Command(command.trim()));
    let said = if own.is_empty() { command() } else { Some(Said::Text(own)) };
    said.filter(|said| !said.text().is_empty())
}

static PIECE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\{\{\s*\.(\w+)\s*\}\}").ok());
static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"\bop read\b.*?(op://[^"'`)]+)"#).ok());
static ITEM: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"\bop item get\s+["']?([^\s"'-][^\s"']*)["']?"#).ok());
static VAULT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"--vault[ =]["']?([^\s"'`)]+)"#).ok());
static FIELD: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"--fields?[ =]["']?(?:label=)?([^\s"'`),]+)"#).ok());

/// The value that the rest of such a line says; none where it takes more than reading to know it.
fn value(text: &str, known: &BTreeMap<String, String>) -> Option<String> {
    if text.contains("op read") || text.contains("op item get") {
        return reference(text);
    }
    let text = text.split(" #").next().unwrap_or_default().trim_end_matches(['\\', ';', '&', ' ']);
    let quoted = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    let mut value = quoted.unwrap_or(text).trim().to_owned();
    if value.contains("{{") {
        let expand = |captures: &regex::Captures<'_>| known.get(&captures[1]).cloned().unwrap_or_default();
        let all_known = |piece: &Regex| piece.captures_iter(&value).all(|found| known.contains_key(&found[1]));
        value = PIECE.as_ref().filter(|piece| all_known(piece))?.replace_all(&value, expand).into_owned();
    }
    if value.starts_with(['|', '>', '&', '*', '!', '[', '@']) {
        return None;
    }
    let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '{' | '}' | '$' | '#' | '`' | '(' | ')');
    (!value.is_empty() && value.chars().all(is_plain)).then_some(value)
}

/// What `op read` or `op item get` is asked for, as a reference.
fn reference(text: &str) -> Option<String> {
    let first = |regex: &LazyLock<Option<Regex>>| -> Option<String> {
        Some(regex.as_ref()?.captures(text)?.get(1)?.as_str().trim().to_owned())
    };
    let is_plain = |reference: &String| !reference.contains(['$', '{', '}']);
    let composed = || Some(format!("op://{}/{}/{}", first(&VAULT)?, first(&ITEM)?, first(&FIELD)?));
    first(&REFERENCE).or_else(composed).filter(is_plain)
}

/// A program that a recipe starts templates' tools behind, so that they see secrets as variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapper {
    /// The program with its arguments, as the recipe has them.
    pub command: String,
    pub at: Location,
}

static WRAPPED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let program = "infisical run|envconsul|op run|doppler run|bws run|vals exec|sops exec-env|secretspec run|chamber exec|teller run";
    Regex::new(&format!(r"\b((?:{program})\b.*?)\s+(?:minijinja-cli|minijinja|talhelper|makejinja)\b")).ok()
});

impl Wrapper {
    /// The first one that the repository's recipes have.
    pub fn find(root: &Path) -> Option<Self> {
        recipes(root).iter().find_map(|path| {
            let text = std::fs::read_to_string(path).ok()?;
            let origin = Origin::of_path(path.strip_prefix(root).unwrap_or(path));
            text.lines().enumerate().find_map(|(index, line)| {
                let command = WRAPPED.as_ref()?.captures(line)?[1].to_owned();
                Some(Self { command, at: origin.at(Position { line: index + 1, column: 1 }) })
            })
        })
    }
}

/// The scripts and recipes of a repository.
pub fn recipes(root: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    walk(root, DEPTH, &mut paths);
    let is_recipe = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let of_task = path.components().any(|part| part.as_os_str().to_string_lossy().starts_with(".task"));
        [".sh", ".just", "justfile"].iter().any(|ending| name.ends_with(ending))
            || name.starts_with("taskfile")
            || of_task
    };
    paths.retain(is_recipe);
    paths
}

fn walk(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| !path.is_symlink()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            let of_recipes = [".task", ".just"].iter().any(|start| name.to_ascii_lowercase().starts_with(start));
            let may_have = !name.starts_with('.') || of_recipes;
            if depth > 0 && may_have && name != "node_modules" {
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
        let repository = Repository { root: root.path(), folder: &folder, known: &known };
        let found = repository.written(&names.iter().map(ToString::to_string).collect());
        found.iter().map(|(name, found)| format!("{name}={} {}", found.value, found.at)).collect()
    }

    #[test]
    fn a_value_is_taken_from_the_nearest_file_and_only_when_all_agree() {
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
    fn what_a_recipe_reads_from_1password_is_a_reference() {
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
    fn values_of_task_are_made_of_what_is_known() {
        let tasks = "vars:\n  APPS: '{{.ROOT_DIR}}/kubernetes/{{.CLUSTER}}/apps'\n  OTHER: '{{.NOBODY}}/x'\n";
        let again = "env:\n  APPS: \"{{.APPS}}\"\n";
        let files = [("Taskfile.yaml", tasks), (".taskfiles/bootstrap/Taskfile.yaml", again)];
        assert_eq!(found(&files, &["APPS", "OTHER"]), ["APPS=/repo/kubernetes/home/apps Taskfile.yaml:2:1"]);
    }

    #[test]
    fn what_is_computed_is_not_known_but_where() {
        let files = [("talos/mod.just", "id:\n    export EARLY=\"$(just early)\"\n"), ("ks.yaml", "EARLY: |-\n")];
        assert_eq!(found(&files, &["EARLY"]), [""; 0]);
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("mod.just"), files[0].1).unwrap();
        let repository = Repository { root: root.path(), folder: root.path(), known: &BTreeMap::new() };
        assert_eq!(repository.set("EARLY").unwrap().to_string(), "mod.just:2:1");
        assert_eq!(repository.set("LATE"), None);
    }

    #[test]
    fn what_recipes_run_behind_is_known_with_its_arguments() {
        let root = tempfile::tempdir().unwrap();
        let recipe = "login:\n    infisical run --path=/x -- true\ntemplate file:\n    \
                      infisical run --env=prod -- minijinja-cli \"{{ file }}\"\n";
        std::fs::write(root.path().join(".justfile"), recipe).unwrap();
        let found = Wrapper::find(root.path()).unwrap();
        assert_eq!(
            (found.command.as_str(), found.at.to_string().as_str()),
            ("infisical run --env=prod --", ".justfile:4:1")
        );
        std::fs::write(root.path().join(".justfile"), "template file:\n    minijinja-cli \"{{ file }}\"\n").unwrap();
        assert_eq!(Wrapper::find(root.path()), None);
    }

    #[test]
    fn what_task_looks_up_in_a_file_is_known() {
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
