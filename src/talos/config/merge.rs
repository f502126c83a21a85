//! Talos's strategic merge (Talos 1.12, `pkg/machinery/config/merge` and `configpatcher`).
//!
//! Scalars are replaced unless the patch's value is zero, maps merge, lists append, a few lists are replaced and a few
//! merge by a key. `$patch: delete` takes a document, a key or a list element away.

use serde_json::{Map, Value};

use super::Documents;
use super::document::{identity, is_legacy};

/// Why a patch does not apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    #[error("the patch deletes `{0}`, which the config does not have")]
    NothingToDelete(String),
    #[error("`$patch: {0}` is not known to Talos; it knows `$patch: delete`")]
    UnknownDirective(String),
    #[error("the legacy document cannot be deleted")]
    LegacyDeleted,
}

/// Lists that a patch replaces as a whole.
const REPLACED: [&str; 2] = ["cluster.network.podSubnets", "cluster.network.serviceSubnets"];
/// Subtrees that a patch replaces as a whole.
const REPLACED_TREES: [&str; 1] = ["cluster.apiServer.auditPolicy"];
/// Lists whose elements are matched by keys, any one of which may identify an element.
const KEYED: [(&str, &[&str]); 4] = [
    ("machine.network.interfaces", &["interface", "deviceSelector"]),
    ("machine.network.interfaces[].vlans", &["vlanId"]),
    ("cluster.apiServer.admissionControl", &["name"]),
    ("configFiles", &["mountPath"]),
];

const DIRECTIVE: &str = "$patch";

/// Merges `patch` into `config`, document by document. Documents that match nothing are appended.
///
/// # Errors
///
/// A deletion of what is not there, or an unknown directive.
pub fn merge(config: &Documents, patch: &Documents) -> Result<Documents, MergeError> {
    let mut merged = config.clone();
    for document in patch.0.iter().filter(|document| deletes(document)) {
        delete_document(&mut merged, document)?;
    }
    for document in patch.0.iter().filter(|document| !deletes(document)) {
        let target = merged.0.iter().position(|known| {
            (is_legacy(known) && is_legacy(document)) || (!is_legacy(document) && identity(known) == identity(document))
        });
        match target {
            Some(index) => merge_value(&mut merged.0[index], document, &mut Vec::new())?,
            None => merged.0.push(strip_directives(document.clone())),
        }
    }
    Ok(merged)
}

fn deletes(value: &Value) -> bool {
    value.get(DIRECTIVE).and_then(Value::as_str) == Some("delete")
}

fn deletes_within(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().any(deletes))
}

fn delete_document(merged: &mut Documents, document: &Value) -> Result<(), MergeError> {
    if is_legacy(document) {
        return Err(MergeError::LegacyDeleted);
    }
    let before = merged.0.len();
    merged.0.retain(|known| is_legacy(known) || identity(known) != identity(document));
    if merged.0.len() == before {
        let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
        return Err(MergeError::NothingToDelete(kind.to_owned()));
    }
    Ok(())
}

fn merge_value(target: &mut Value, patch: &Value, path: &mut Vec<String>) -> Result<(), MergeError> {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => merge_map(target, patch, path),
        (Value::Array(target), Value::Array(patch)) => merge_list(target, patch, path),
        (target, patch) => {
            if !is_zero(patch) {
                *target = patch.clone();
            }
            Ok(())
        }
    }
}

fn merge_map(
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    path: &mut Vec<String>,
) -> Result<(), MergeError> {
    for (key, value) in patch {
        if let Some(directive) = value.get(DIRECTIVE).and_then(Value::as_str) {
            if directive != "delete" {
                return Err(MergeError::UnknownDirective(directive.to_owned()));
            }
            if target.shift_remove(key).is_none() {
                return Err(MergeError::NothingToDelete(join(path, key)));
            }
            continue;
        }
        path.push(key.clone());
        let place = path.join(".");
        match target.get_mut(key) {
            Some(existing) if REPLACED_TREES.contains(&place.as_str()) => *existing = value.clone(),
            Some(existing) if existing.is_null() => *existing = strip_directives(value.clone()),
            Some(existing) => {
                merge_value(existing, value, path)?;
                if deletes_within(value) && is_zero(existing) {
                    target.shift_remove(key);
                }
            }
            None => {
                target.insert(key.clone(), strip_directives(value.clone()));
            }
        }
        path.pop();
    }
    Ok(())
}

fn merge_list(target: &mut Vec<Value>, patch: &[Value], path: &mut Vec<String>) -> Result<(), MergeError> {
    let place = place(path);
    if REPLACED.contains(&place.as_str()) {
        patch.clone_into(target);
        return Ok(());
    }
    let keys =
        KEYED.iter().find(|(list, _)| place == *list || place.ends_with(&format!(".{list}"))).map(|(_, keys)| *keys);
    for element in patch {
        if deletes(element) {
            delete_element(target, element, &place)?;
            continue;
        }
        let same = |known: &Value| {
            keys.is_some_and(|keys| {
                keys.iter().any(|key| element.get(key).is_some() && known.get(key) == element.get(key))
            })
        };
        match target.iter().position(same) {
            Some(index) => {
                path.push("[]".to_owned());
                merge_value(&mut target[index], element, path)?;
                path.pop();
            }
            None => target.push(strip_directives(element.clone())),
        }
    }
    Ok(())
}

/// The first key of the element other than the directive selects what goes, first hit only.
fn delete_element(target: &mut Vec<Value>, element: &Value, place: &str) -> Result<(), MergeError> {
    let selector = element.as_object().and_then(|map| map.iter().find(|(key, _)| *key != DIRECTIVE));
    let index = selector.and_then(|(key, value)| target.iter().position(|known| known.get(key) == Some(value)));
    match index {
        Some(index) => {
            target.remove(index);
            Ok(())
        }
        None => Err(MergeError::NothingToDelete(place.to_owned())),
    }
}

/// Zero values in a patch change nothing; `false` does.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Object(_) => false,
    }
}

fn strip_directives(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !deletes(value))
                .map(|(key, value)| (key, strip_directives(value)))
                .collect(),
        ),
        Value::Array(items) => {
            Value::Array(items.into_iter().filter(|item| !deletes(item)).map(strip_directives).collect())
        }
        other => other,
    }
}

fn place(path: &[String]) -> String {
    path.join(".").replace(".[]", "[]")
}

fn join(path: &[String], key: &str) -> String {
    path.iter().map(String::as_str).chain([key]).collect::<Vec<_>>().join(".")
}
