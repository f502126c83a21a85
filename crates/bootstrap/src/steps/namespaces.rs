//! The namespaces of a cluster, with the labels that the repository gives them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::context::RunContext;

/// Every cluster has these.
const BUILTIN: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// The namespaces of releases, with their labels.
pub(super) fn namespaces(context: &RunContext) -> Vec<Value> {
    names(context).iter().map(|name| namespace(context, name)).collect()
}

/// The names of the namespaces that releases use and that no cluster has by itself.
pub(super) fn names(context: &RunContext) -> BTreeSet<String> {
    let releases = context.cluster.bootstrap.releases.releases.iter();
    releases.map(|release| release.id.namespace.clone()).filter(|name| !BUILTIN.contains(&name.as_str())).collect()
}

/// The namespaces that manifests use and that nothing else creates: neither a release nor the manifests themselves.
pub(super) fn missing_namespaces(context: &RunContext, objects: &[Value]) -> Vec<Value> {
    let text = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let is_namespace = |object: &&Value| text(object, "/kind").as_deref() == Some("Namespace");
    let created = objects.iter().filter(is_namespace).filter_map(|object| text(object, "/metadata/name"));
    let created: BTreeSet<String> = created.chain(names(context)).chain(BUILTIN.map(str::to_owned)).collect();
    let named: BTreeSet<String> = objects.iter().filter_map(|object| text(object, "/metadata/namespace")).collect();
    named.difference(&created).map(|name| namespace(context, name)).collect()
}

/// A namespace with the Pod Security labels that the repository gives it.
fn namespace(context: &RunContext, name: &str) -> Value {
    let mut metadata = json!({"name": name});
    let labels = context.cluster.flux.pod_security(name);
    if !labels.is_empty() {
        metadata["labels"] = json!(labels);
    }
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}
