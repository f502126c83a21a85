//! `--merge-kubeconfig`: the cluster's access added to the operator's own kubeconfig, only when asked for.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::error::CommandError;
use super::exit::Exit;
use super::output;
use bootstrap::steps::RunContext;
use yaml::Origin;

/// Adds cluster, user and context to the first file of `KUBECONFIG`, else `~/.kube/config`. The current context stays.
pub(super) fn merge(context: &RunContext) -> Result<(), CommandError> {
    let path = target()?;
    let own = read(&context.kubeconfig_path())?;
    let theirs = if path.exists() { read(&path)? } else { json!({"apiVersion": "v1", "kind": "Config"}) };
    let text = yaml::to_string(&merged(theirs, &own))
        .map_err(|error| CommandError::caused_by(Exit::PreconditionFailed, &error))?;
    write(&path, &text)
        .map_err(|error| CommandError::precondition(format!("{} cannot be written: {error}", path.display())))?;
    output::say(&format!("merged into {}", path.display()));
    Ok(())
}

fn target() -> Result<PathBuf, CommandError> {
    let named = std::env::var_os("KUBECONFIG").and_then(|paths| std::env::split_paths(&paths).next());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    named
        .filter(|path| !path.as_os_str().is_empty())
        .or_else(home)
        .ok_or_else(|| CommandError::precondition("no kubeconfig to merge into: set KUBECONFIG or HOME"))
}

fn read(path: &Path) -> Result<Value, CommandError> {
    let fail = |reason: String| CommandError::precondition(format!("{} cannot be read: {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    let node = yaml::parse_one(&Origin::of_path(path), &text).map_err(|error| fail(error.to_string()))?;
    Ok(node.to_json())
}

/// `own` wins over entries of the same name; everything else of `theirs` stays as it is.
fn merged(mut theirs: Value, own: &Value) -> Value {
    for list in ["clusters", "users", "contexts"] {
        let fresh = own.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        let known = theirs.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        let replaced = |entry: &Value| fresh.iter().any(|new| new.get("name") == entry.get("name"));
        let mut all: Vec<Value> = known.into_iter().filter(|entry| !replaced(entry)).collect();
        all.extend(fresh);
        theirs[list] = Value::Array(all);
    }
    if theirs.get("current-context").is_none_or(|context| context.as_str().unwrap_or_default().is_empty()) {
        theirs["current-context"] = own.get("current-context").cloned().unwrap_or_default();
    }
    theirs
}

/// Writes the file whole or not at all, for its owner alone.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension("k8s-bootstrap");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_has_stays_and_the_cluster_is_replaced() {
        let theirs = json!({"current-context": "work", "clusters": [{"name": "work"}, {"name": "blue", "cluster": 1}]});
        let own = json!({"current-context": "admin@blue", "clusters": [{"name": "blue", "cluster": 2}],
                         "users": [{"name": "admin@blue"}]});
        let merged = merged(theirs, &own);
        assert_eq!(merged["current-context"], "work");
        assert_eq!(merged["clusters"], json!([{"name": "work"}, {"name": "blue", "cluster": 2}]));
        assert_eq!(merged["users"], json!([{"name": "admin@blue"}]));
    }
}
