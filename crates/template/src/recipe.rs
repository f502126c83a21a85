//! What a recipe computes by `yq` out of a file of the repository: versions, mostly. No program is run for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::yq::Query;
use yaml::Origin;

/// `yq 'EXPRESSION' FILE`, with flags that change nothing of a text; `| select(.)` only turns null into nothing.
static YQ: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let expression = r#"(?:'([^']+)'|"([^"$`]+)")"#;
    let file = r#"["']?((?:\{\{[^}]*\}\}|[^\s"'`|)])+)["']?"#;
    Regex::new(&format!(
        r"\byq\s+(?:(?:-[er]|--exit-status|--unwrapScalar)\s+)*{expression}\s+(?:<\s*)?{file}\s*(?:\)|`|$)"
    ))
    .ok()
});
/// `{{.NAME}}` of task, `{{ name }}` of just.
static PIECE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\{\{\s*\.?(\w+)\s*\}\}").ok());
/// A folder that just is given: `name := justfile_dir() + '/talos'`.
static FOLDER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"^(?:export\s+)?(\w+)\s*:=\s*(?:justfile_dir(?:ectory)?\(\)\s*[+/]\s*)?["']([^"'{]*)["']\s*$"#).ok()
});

/// The recipe that a line belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipe<'r> {
    pub(super) root: &'r Path,
    pub(super) text: &'r str,
    pub(super) known: &'r BTreeMap<String, String>,
}

impl Recipe<'_> {
    /// What a command prints that does nothing but look something up; none where it does more.
    pub(super) fn looks_up(&self, command: &str) -> Option<String> {
        let found = YQ.as_ref()?.captures(command)?;
        let expression = found.get(1).or(found.get(2))?.as_str().trim().trim_end_matches("| select(.)").trim();
        let file = self.filled(&found[3], 4)?;
        let query = Query::parse(&[expression.to_owned(), file.clone()])?;
        let text = std::fs::read_to_string(self.root.join(&file)).ok()?;
        let printed = query.run(&Origin::new(&file), &text).ok()?;
        let value = printed.trim();
        (!value.is_empty() && value != "null" && !value.contains('\n')).then(|| value.to_owned())
    }

    /// A path with its variables filled in, which the recipe itself may set.
    fn filled(&self, path: &str, depth: usize) -> Option<String> {
        let piece = PIECE.as_ref()?;
        let value = |name: &str| self.known.get(name).cloned().or_else(|| self.own(name, depth));
        let all = piece.captures_iter(path).all(|found| value(&found[1]).is_some());
        let filled = piece.replace_all(path, |found: &Captures<'_>| value(&found[1]).unwrap_or_default());
        (all && !filled.contains(['{', '$'])).then(|| filled.into_owned())
    }

    fn own(&self, name: &str, depth: usize) -> Option<String> {
        let depth = depth.checked_sub(1)?;
        self.text.lines().find_map(|line| {
            if let Some(found) = FOLDER.as_ref().and_then(|folder| folder.captures(line)) {
                return (found[1] == *name).then(|| found[2].trim_start_matches('/').to_owned());
            }
            let value = line.trim().strip_prefix(name)?.strip_prefix(':')?.trim().trim_matches(['"', '\'']);
            if value.is_empty() { None } else { self.filled(value, depth) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yq_looks_up_is_known_without_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("apps/up")).unwrap();
        std::fs::write(root.path().join("apps/up/k8s.yaml"), "kind: Upgrade\nspec: {kubernetes: {version: v1.36.1}}\n")
            .unwrap();
        let known = BTreeMap::from([("KUBERNETES_DIR".to_owned(), root.path().display().to_string())]);
        let text = "vars:\n  FILE: '{{.KUBERNETES_DIR}}/{{.REST}}'\n  REST: apps/up/k8s.yaml\nup_dir := justfile_dir() + '/apps/up'\n";
        let recipe = Recipe { root: root.path(), text, known: &known };
        for command in [
            "yq '.spec.kubernetes.version | select(.)' {{.FILE}}",
            "yq '.spec.kubernetes.version' {{ .KUBERNETES_DIR }}/apps/up/k8s.yaml",
            "$(yq -e '.spec.kubernetes.version' \"{{ up_dir }}/k8s.yaml\")",
            "yq --exit-status 'select(.kind == \"Upgrade\").spec.kubernetes.version' < {{.FILE}}",
        ] {
            assert_eq!(recipe.looks_up(command).as_deref(), Some("v1.36.1"), "{command}");
        }
        for command in [
            "yq '.spec.nothing' {{.FILE}}",
            "yq '.spec' {{.FILE}} | head",
            "yq '.spec.kubernetes.version' {{.NOBODY}}",
            "curl x",
            "yq '.spec | keys' {{.FILE}}",
        ] {
            assert_eq!(recipe.looks_up(command), None, "{command}");
        }
    }
}
