//! Merges values: Helm's way for values files, helmfile's way for the layers of `.Values`.

use serde_json::{Map, Value};

/// Merges `over` into `into` as Helm merges values files (Helm 4, `pkg/cli/values`): maps merge, other values are replaced,
/// also by null, which removes a chart's default. helmfile merges the items of a list of values the same way.
pub fn merge_values(into: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(into)), Value::Object(over)) => merge_values(into, over),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// How lists of two layers merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    /// The later list replaces the earlier one; its null elements keep those of the earlier list.
    Replace,
    /// Element by element.
    Elements,
}

/// Merges one layer of `.Values` over another (helmfile 1.7, `MergeMaps`): like [`merge_values`], but null never replaces.
pub(super) fn merge_layer(into: &mut Map<String, Value>, over: &Map<String, Value>, lists: Lists) {
    for (key, value) in over {
        match (into.get_mut(key), value) {
            (Some(_), Value::Null) => {}
            (Some(Value::Object(into)), Value::Object(over)) => merge_layer(into, over, lists),
            (Some(Value::Array(into)), Value::Array(over))
                if lists == Lists::Elements || over.contains(&Value::Null) =>
            {
                merge_elements(into, over, lists);
            }
            (_, value) => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

fn merge_elements(into: &mut Vec<Value>, over: &[Value], lists: Lists) {
    into.resize(into.len().max(over.len()), Value::Null);
    for (own, value) in into.iter_mut().zip(over) {
        match (own, value) {
            (_, Value::Null) => {}
            (Value::Object(own), Value::Object(over)) => merge_layer(own, over, lists),
            (own, value) => *own = value.clone(),
        }
    }
}
