//! What the tools around a repository (mise, task, direnv, just) put into the environment of whatever is started in it.
//!
//! Who runs `k8s-bootstrap` by itself, on a fresh laptop, has none of them. Only what is written is read, nothing is run:
//! a value that has to be computed is left out. Facts: mise 2026 "Environments", task 3 "Environment variables", direnv
//! 2.37 stdlib, just 1.4x "Export".

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::{Captures, Regex};

use template::{clean, dotenv};
use yaml::{Node, Origin};

/// Where mise looks, what counts most last.
const MISE: [&str; 6] = [
    ".config/mise/config.toml",
    ".config/mise.toml",
    "mise/config.toml",
    ".mise/config.toml",
    "mise.toml",
    ".mise.toml",
];
const TASK: [&str; 4] = ["Taskfile.dist.yaml", "Taskfile.dist.yml", "Taskfile.yaml", "Taskfile.yml"];
const JUST: [&str; 3] = ["justfile", "Justfile", ".justfile"];
/// With any of these, the operator has told SOPS himself where his key is.
const OF_SOPS: [&str; 4] = ["SOPS_AGE_KEY", KEY_FILE, "SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_FILE"];
const KEY_FILE: &str = "SOPS_AGE_KEY_FILE";

type Variables = BTreeMap<String, String>;

/// The variables that the repository at `root` sets for its recipes; `own`, the environment that we have, counts more.
pub fn surroundings(root: &Path, own: &Variables) -> Variables {
    let mut reader = Reader { root, own, set: Variables::new() };
    JUST.iter().for_each(|file| reader.just(file));
    TASK.iter().for_each(|file| reader.task(file));
    reader.direnv();
    MISE.iter().for_each(|file| reader.mise(file));
    let Reader { mut set, .. } = reader;
    set.retain(|name, _| !own.contains_key(name));
    set
}

/// The values among such variables that are secrets by their names.
pub fn secrets(variables: &Variables) -> impl Iterator<Item = &str> {
    let is_secret =
        |name: &str| ["SECRET", "TOKEN", "PASS"].iter().any(|word| name.to_ascii_uppercase().contains(word));
    variables.iter().filter(move |(name, _)| is_secret(name)).map(|(_, value)| value.as_str())
}

/// The file of SOPS's age keys that the repository's tools name, where our own environment names no key and it is there.
pub fn key_file(root: &Path, own: &Variables) -> Option<PathBuf> {
    if OF_SOPS.iter().any(|name| own.contains_key(*name)) {
        return None;
    }
    let file = root.join(surroundings(root, own).get(KEY_FILE)?);
    file.is_file().then_some(file)
}

struct Reader<'r> {
    root: &'r Path,
    own: &'r Variables,
    set: Variables,
}

/// `{{ config_root }}` and `{{ env.NAME }}` of mise; `{{.ROOT_DIR}}` of task.
static BRACES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\{\{-?\s*(?:env)?\.?([A-Za-z_]\w*)\s*-?\}\}").ok());
/// A path of direnv, and variables of the shell.
static SHELL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"\$\(expand_path\s+["']?([^\s"')]+)["']?\)|\$\((pwd)\)|\$\{?([A-Za-z_]\w*)\}?"#).ok()
});
static EXPORT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^export\s+([A-Za-z_]\w*)=(.*)$").ok());
static DOTENV: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^dotenv(?:_if_exists)?\b\s*(\S*)").ok());
/// `export NAME := justfile_directory() / "x"`, or a text alone.
static OF_JUST: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let folder = r"(justfile_dir(?:ectory)?\(\)\s*(?:\+|/)\s*)?";
    Regex::new(&format!(r#"^export\s+([A-Za-z_]\w*)\s*:=\s*{folder}["']([^"'{{]*)["']\s*$"#)).ok()
});

impl Reader<'_> {
    fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(file)).ok()
    }

    fn put(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.set.insert(name.to_owned(), value);
        }
    }

    fn known(&self, name: &str) -> Option<String> {
        self.own.get(name).or_else(|| self.set.get(name)).cloned()
    }

    fn folder(&self) -> String {
        self.root.to_string_lossy().trim_end_matches('/').to_owned()
    }

    /// The text with what its braces stand for; none where that is not known.
    fn filled(&self, text: &str, also: &Variables) -> Option<String> {
        let name = |name: &str| match name {
            "config_root" | "ROOT_DIR" | "TASKFILE_DIR" | "USER_WORKING_DIR" | "cwd" => Some(self.folder()),
            name => also.get(name).cloned().or_else(|| self.known(name)),
        };
        let braces = BRACES.as_ref()?;
        let all = braces.captures_iter(text).all(|found| name(&found[1]).is_some());
        let filled = braces.replace_all(text, |found: &Captures<'_>| name(&found[1]).unwrap_or_default());
        (all && !filled.contains("{{")).then(|| filled.into_owned())
    }

    /// The variables of a file, which lies where its name is meant from the root; what is not there sets nothing.
    fn file(&mut self, name: &str) {
        let Ok(text) = std::fs::read_to_string(self.root.join(name)) else { return };
        let outer = |name: &str| self.known(name);
        if let Some(variables) = dotenv::parse(&text, &outer) {
            self.set.extend(variables);
        }
    }

    fn mise(&mut self, file: &str) {
        let Some(text) = self.text(file) else { return };
        let Ok(table) = text.parse::<toml::Table>() else { return };
        let Some(variables) = table.get("env").and_then(toml::Value::as_table) else { return };
        for (name, value) in variables {
            let value = value.get("value").unwrap_or(value);
            let text = match value {
                toml::Value::String(text) => self.filled(text, &Variables::new()),
                toml::Value::Integer(number) => Some(number.to_string()),
                _ => None,
            };
            self.put(name, text);
        }
        let files = variables.get("_").and_then(|special| special.get("file"));
        let files = match files {
            Some(toml::Value::Array(files)) => files.iter().collect(),
            other => Vec::from_iter(other),
        };
        for file in files {
            let path = file.as_str().or_else(|| file.get("path")?.as_str());
            if let Some(path) = path.and_then(|path| self.filled(path, &Variables::new())) {
                self.file(&path);
            }
        }
    }

    fn task(&mut self, file: &str) {
        let Some(text) = self.text(file) else { return };
        let Ok(document) = yaml::parse_one(&Origin::new(file), &text) else { return };
        let field = |key: &str| document.as_mapping().and_then(|mapping| mapping.get(key));
        let texts = |key: &str| -> Vec<(String, String)> {
            let entries = field(key).and_then(Node::as_mapping).into_iter().flat_map(|mapping| mapping.iter());
            entries.filter_map(|entry| Some((entry.key.clone(), entry.value.as_str()?.to_owned()))).collect()
        };
        let mut of_task = Variables::new();
        for (name, value) in texts("vars") {
            if let Some(value) = self.filled(&value, &of_task) {
                of_task.insert(name, value);
            }
        }
        let files = field("dotenv").and_then(Node::as_sequence).unwrap_or_default();
        // Of several files, task takes the first that has the variable.
        for path in files.iter().rev().filter_map(Node::as_str) {
            if let Some(path) = self.filled(path, &of_task) {
                self.file(&path);
            }
        }
        for (name, value) in texts("env") {
            let value = self.filled(&value, &of_task);
            self.put(&name, value);
        }
    }

    fn direnv(&mut self) {
        let Some(text) = self.text(".envrc") else { return };
        for line in text.lines().map(str::trim) {
            if let Some(found) = EXPORT.as_ref().and_then(|export| export.captures(line)) {
                let value = found[2].split(" #").next().unwrap_or_default().trim();
                let value = value.trim_matches('"');
                let value = match value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
                    Some(literal) => Some(literal.to_owned()),
                    None => self.expanded(value),
                };
                self.put(&found[1], value);
            } else if let Some(found) = DOTENV.as_ref().and_then(|dotenv| dotenv.captures(line)) {
                let file = if found[1].is_empty() { ".env" } else { &found[1] };
                self.file(file);
            }
        }
    }

    fn expanded(&self, text: &str) -> Option<String> {
        let shell = SHELL.as_ref()?;
        let value = |found: &Captures<'_>| match (found.get(1), found.get(2), found.get(3)) {
            (Some(path), ..) => Some(self.path(path.as_str())),
            (_, Some(_), _) => Some(self.folder()),
            (.., Some(name)) if name.as_str() == "PWD" => Some(self.folder()),
            (.., Some(name)) => self.known(name.as_str()),
            _ => None,
        };
        let all = shell.captures_iter(text).all(|found| value(&found).is_some());
        let expanded = shell.replace_all(text, |found: &Captures<'_>| value(found).unwrap_or_default());
        (all && !expanded.contains(['`', '$', '"'])).then(|| expanded.into_owned())
    }

    /// A path as direnv's `expand_path` makes it.
    fn path(&self, path: &str) -> String {
        let home = || Some(PathBuf::from(self.own.get("HOME")?).join(path.strip_prefix("~/")?));
        clean(&home().unwrap_or_else(|| self.root.join(path))).to_string_lossy().into_owned()
    }

    fn just(&mut self, file: &str) {
        let Some(text) = self.text(file) else { return };
        for line in text.lines() {
            let Some(found) = OF_JUST.as_ref().and_then(|export| export.captures(line)) else { continue };
            let text = &found[3];
            let value = match found.get(2) {
                Some(_) => format!("{}/{}", self.folder(), text.trim_start_matches('/')),
                None => text.to_owned(),
            };
            self.put(&found[1], Some(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)], own: &[(&str, &str)]) -> (Vec<String>, Option<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let own = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let folder = root.path().display().to_string();
        let all = surroundings(root.path(), &own).into_iter();
        let all = all.map(|(name, value)| format!("{name}={}", value.replace(&folder, "/repo"))).collect();
        let key = key_file(root.path(), &own);
        (all, key.map(|key| Path::new("/repo").join(key.strip_prefix(root.path()).unwrap())))
    }

    #[test]
    fn mise_sets_variables_and_reads_files() {
        let config = "[env]\nSOPS_AGE_KEY_FILE = \"{{ config_root }}/age.key\"\nN = 3\nV = { value = \"x\" }\nW = false\n\
                      P = \"{{ env.HOME }}/p\"\nQ = \"{{ exec(command='date') }}\"\n_.file = [\"a.env\", { path = \"{{config_root}}/b.env\" }, \"no.env\"]\n";
        let files =
            [(".mise.toml", config), ("a.env", "TALOS_VERSION=v1\nA=a\n"), ("b.env", "A=b # c\n"), ("age.key", "")];
        let (all, key) = read(&files, &[("HOME", "/home/o"), ("TALOS_VERSION", "v2")]);
        assert_eq!(all, ["A=b", "N=3", "P=/home/o/p", "SOPS_AGE_KEY_FILE=/repo/age.key", "V=x"]);
        assert_eq!(key, Some("/repo/age.key".into()));
        let secret = Variables::from([("API_TOKEN".to_owned(), "t".to_owned()), ("ZONE".to_owned(), "z".to_owned())]);
        assert_eq!(secrets(&secret).collect::<Vec<_>>(), ["t"]);
        let (_, key) = read(&files, &[("SOPS_AGE_KEY", "AGE-SECRET-KEY-1")]);
        assert_eq!(key, None);
        assert_eq!(read(&files[..3], &[]).1, None);
    }

    #[test]
    fn task_sets_variables_out_of_its_own() {
        let tasks = "vars:\n  DIR: '{{.ROOT_DIR}}/kubernetes'\n  NOW: {sh: date}\nenv:\n  KUBECONFIG: '{{.DIR}}/kubeconfig'\n  \
                     WHEN: '{{.NOW}}'\ndotenv: ['{{.DIR}}/versions.env', '.env']\n";
        let files = [("Taskfile.yaml", tasks), ("kubernetes/versions.env", "V=1\n"), (".env", "V=2\nW=2\n")];
        assert_eq!(read(&files, &[]).0, ["KUBECONFIG=/repo/kubernetes/kubeconfig", "V=1", "W=2"]);
    }

    #[test]
    fn direnv_and_just_set_variables() {
        let envrc = "#shellcheck disable=SC2148\nexport SOPS_AGE_KEY_FILE=\"$(expand_path ./age.key)\"\nPATH_add .bin\n\
                     export A=$PWD/a # b\nexport B='$A'\nexport C=\"$(date)\"\nexport D=\"${A}/d\"\ndotenv_if_exists more.env\n";
        let just = "set quiet\nexport J := justfile_directory() / \"j\"\nexport K := \"k\"\nexport L := `date`\nexport M := \"{{x}}\"\n";
        let files = [(".envrc", envrc), (".justfile", just), ("more.env", "E=e\n"), ("age.key", "")];
        let (all, key) = read(&files, &[]);
        let expected =
            ["A=/repo/a", "B=$A", "D=/repo/a/d", "E=e", "J=/repo/j", "K=k", "SOPS_AGE_KEY_FILE=/repo/age.key"];
        assert_eq!(all, expected);
        assert_eq!(key, Some("/repo/age.key".into()));
    }
}
