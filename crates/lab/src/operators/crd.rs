//! CRDs with the upstream names and open schemas.

use serde_json::{Value, json};

/// The scope of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CrdScope {
    Namespaced,
    Cluster,
}

/// The identity of a CRD.
#[derive(Debug, Clone, Copy)]
pub(super) struct CrdNames {
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    pub(super) scope: CrdScope,
    /// The stored version is the first.
    pub(super) versions: &'static [&'static str],
}

/// A CRD that accepts every object.
pub(super) fn definition(names: CrdNames) -> Value {
    let CrdNames { group, kind, plural, scope, versions } = names;
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
            "scope": if scope == CrdScope::Cluster { "Cluster" } else { "Namespaced" },
            "names": {
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase(),
            },
        },
    })
}
