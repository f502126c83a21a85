//! Adds a cluster's access to the operator's own kubeconfig.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use yaml::Origin;

use super::{OpsError, Workspace};
use crate::private_file::write_private;

/// Adds cluster, user and context of `kubeconfig` to the first file of `KUBECONFIG`, else to `~/.kube/config`. The current
/// context stays. Returns the file that was written.
///
/// # Errors
///
/// No file to merge into; a file that cannot be read, parsed or written, which then stays as it was.
pub fn merge_kubeconfig(workspace: &Workspace, kubeconfig: &Path) -> Result<PathBuf, OpsError> {
    let path = target(workspace)?;
    let own = read(kubeconfig)?;
    let theirs = if path.exists() { read(&path)? } else { json!({"apiVersion": "v1", "kind": "Config"}) };
    let text = yaml::to_string(&merged(theirs, &own))?;
    write(&path, &text).map_err(|source| OpsError::Write { path: path.clone(), source })?;
    Ok(path)
}

fn target(workspace: &Workspace) -> Result<PathBuf, OpsError> {
    let variable = |name: &str| workspace.variables.get(name).filter(|value| !value.is_empty());
    let named = variable("KUBECONFIG").and_then(|paths| std::env::split_paths(paths).next());
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    let named = named.filter(|path| !path.as_os_str().is_empty());
    named.or_else(home).ok_or(OpsError::NoFolder { variable: "KUBECONFIG" })
}

fn read(path: &Path) -> Result<Value, OpsError> {
    let text = std::fs::read_to_string(path).map_err(|source| OpsError::Read { path: path.to_owned(), source })?;
    let failed = |source| OpsError::Kubeconfig { path: path.to_owned(), source };
    Ok(yaml::parse_one(&Origin::of_path(path), &text).map_err(failed)?.to_json())
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
    write_private(path, &path.with_extension("k8s-bootstrap"), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_operator_stay_and_the_cluster_is_replaced() {
        let theirs = json!({"current-context": "work", "clusters": [{"name": "work"}, {"name": "blue", "cluster": 1}]});
        let own = json!({"current-context": "admin@blue", "clusters": [{"name": "blue", "cluster": 2}],
                         "users": [{"name": "admin@blue"}]});
        let merged = merged(theirs, &own);
        assert_eq!(merged["current-context"], "work");
        assert_eq!(merged["clusters"], json!([{"name": "work"}, {"name": "blue", "cluster": 2}]));
        assert_eq!(merged["users"], json!([{"name": "admin@blue"}]));
    }
}
