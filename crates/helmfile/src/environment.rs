//! An environment: name and layers of `.Values`.

use serde_json::{Map, Value, json};

use super::merge::{Lists, merge_layer};

/// The default environment.
pub const DEFAULT: &str = "default";

/// `.Environment`, and the layers of `.Values`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Environment {
    pub(super) name: String,
    pub(super) kube_context: String,
    /// `values` of the state files.
    pub(super) defaults: Map<String, Value>,
    /// `environments.<name>.values`.
    pub(super) values: Map<String, Value>,
    /// Single values from the command line.
    pub(super) overrides: Map<String, Value>,
}

impl Environment {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Merges another environment over this one, layer by layer.
    pub(super) fn under(&self, over: Option<&Self>) -> Self {
        let mut all = self.clone();
        let Some(over) = over else { return all };
        for (own, over) in [(&mut all.name, &over.name), (&mut all.kube_context, &over.kube_context)] {
            if !over.is_empty() {
                own.clone_from(over);
            }
        }
        merge_layer(&mut all.values, &over.values, Lists::Replace);
        merge_layer(&mut all.defaults, &over.defaults, Lists::Replace);
        merge_layer(&mut all.overrides, &over.overrides, Lists::Elements);
        all
    }

    /// `.Values`: all layers merged.
    pub(super) fn merged(&self) -> Map<String, Value> {
        let mut all = Map::new();
        merge_layer(&mut all, &self.defaults, Lists::Replace);
        merge_layer(&mut all, &self.values, Lists::Replace);
        merge_layer(&mut all, &self.overrides, Lists::Elements);
        all
    }

    /// `.Environment`.
    pub(super) fn template(&self) -> Value {
        let mut values = self.values.clone();
        merge_layer(&mut values, &self.overrides, Lists::Elements);
        json!({
            "Name": self.name, "KubeContext": self.kube_context, "Values": values, "Defaults": self.defaults,
            "CLIOverrides": self.overrides,
        })
    }

    /// The data of state files, their `values` and the values of environments.
    pub(super) fn data(&self, values: &Map<String, Value>, namespace: &str) -> Value {
        json!({"Environment": self.template(), "Namespace": namespace, "Values": values, "StateValues": values})
    }
}
