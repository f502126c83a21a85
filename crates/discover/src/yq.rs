//! What a recipe looks up with `yq` in a file of the repository, versions mostly. The program is not run for it.

use std::path::Path;

use lazy_regex::regex;
use yaml::{Origin, Query};

use crate::Variables;
use crate::expand::expand;
use crate::just::{Assignment, Value};

/// How many variables of the recipe a path may lead through.
const MAX_DEPTH: usize = 4;

/// The recipe file that a command belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe<'r> {
    pub(crate) root: &'r Path,
    pub(crate) text: &'r str,
    pub(crate) known: &'r Variables,
}

impl Recipe<'_> {
    /// What a command prints that only looks a value up; none where it does more, or the value is not a line of text.
    pub(crate) fn lookup(&self, command: &str) -> Option<String> {
        // `yq 'EXPRESSION' FILE`, with flags that do not change how a text is printed (yq 4.x).
        let yq = regex!(
            r#"\byq\s+(?:(?:-[er]|--exit-status|--unwrapScalar)\s+)*(?:'([^']+)'|"([^"$`]+)")\s+(?:<\s*)?["']?((?:\{\{[^}]*\}\}|[^\s"'`|)])+)["']?\s*(?:\)|`|$)"#
        );
        let found = yq.captures(command)?;
        // `| select(.)` only turns null into no output.
        let expression = found.get(1).or(found.get(2))?.as_str().trim().trim_end_matches("| select(.)").trim();
        let file = self.expand(&found[3], MAX_DEPTH)?;
        if file.contains('$') {
            return None;
        }
        let query = Query::parse(&[expression.to_owned(), file.clone()])?;
        let text = std::fs::read_to_string(self.root.join(&file)).ok()?;
        let printed = query.run(&Origin::new(&file), &text).ok()?;
        let value = printed.trim();
        (!value.is_empty() && value != "null" && !value.contains('\n')).then(|| value.to_owned())
    }

    fn expand(&self, path: &str, depth: usize) -> Option<String> {
        expand(path, &|name| self.known.get(name).cloned().or_else(|| self.own_variable(name, depth)))
    }

    /// A variable that the recipe file itself sets.
    fn own_variable(&self, name: &str, depth: usize) -> Option<String> {
        let depth = depth.checked_sub(1)?;
        self.text.lines().find_map(|line| {
            if let Some(Assignment { name: assigned, value, .. }) = Assignment::parse(line) {
                let (Value::Text(path) | Value::BelowRoot(path)) = value;
                return (assigned == name).then(|| path.trim_start_matches('/').to_owned());
            }
            let value = line.trim().strip_prefix(name)?.strip_prefix(':')?.trim().trim_matches(['"', '\'']);
            if value.is_empty() { None } else { self.expand(value, depth) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yq_lookup_is_answered_without_yq() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("apps/up")).unwrap();
        std::fs::write(root.path().join("apps/up/k8s.yaml"), "kind: Upgrade\nspec: {kubernetes: {version: v1.36.1}}\n")
            .unwrap();
        let known = Variables::from([("KUBERNETES_DIR".to_owned(), root.path().display().to_string())]);
        let text = "vars:\n  FILE: '{{.KUBERNETES_DIR}}/{{.REST}}'\n  REST: apps/up/k8s.yaml\nup_dir := justfile_dir() + '/apps/up'\n";
        let recipe = Recipe { root: root.path(), text, known: &known };
        for command in [
            "yq '.spec.kubernetes.version | select(.)' {{.FILE}}",
            "yq '.spec.kubernetes.version' {{ .KUBERNETES_DIR }}/apps/up/k8s.yaml",
            "$(yq -e '.spec.kubernetes.version' \"{{ up_dir }}/k8s.yaml\")",
            "yq --exit-status 'select(.kind == \"Upgrade\").spec.kubernetes.version' < {{.FILE}}",
        ] {
            assert_eq!(recipe.lookup(command).as_deref(), Some("v1.36.1"), "{command}");
        }
        for command in [
            "yq '.spec.nothing' {{.FILE}}",
            "yq '.spec' {{.FILE}} | head",
            "yq '.spec.kubernetes.version' {{.UNSET}}",
            "curl x",
            "yq '.spec | keys' {{.FILE}}",
        ] {
            assert_eq!(recipe.lookup(command), None, "{command}");
        }
    }
}
