//! Custom resource definitions with the upstream names and open schemas.

use serde_json::{Value, json};

/// Where objects of a kind live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Namespaced,
    Cluster,
}

/// A kind: its name, its plural, its scope, and its versions, the stored one first.
pub(super) type Kind = (&'static str, &'static str, Scope, &'static [&'static str]);

/// The definition of a kind that takes whatever it is given.
pub(super) fn definition(group: &str, (kind, plural, scope, versions): Kind) -> Value {
    let versions: Vec<_> = versions
        .iter()
        .enumerate()
        .map(|(index, version)| {
            json!({
                "name": version, "served": true, "storage": index == 0, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            })
        })
        .collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "versions": versions,
            "scope": if scope == Scope::Cluster { "Cluster" } else { "Namespaced" },
            "names": {
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase(),
            },
        },
    })
}
