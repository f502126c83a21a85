//! Which release makes which object: two that make the same one cannot both be installed (failure H06).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use helmfile::Release;

/// Kinds outside of namespaces, besides those whose name says so (Kubernetes 1.35).
const CLUSTER_WIDE: [&str; 9] = [
    "APIService",
    "CustomResourceDefinition",
    "GatewayClass",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "PriorityClass",
    "StorageClass",
    "ValidatingWebhookConfiguration",
];

/// Kind, namespace and name.
type Key = (String, String, String);

/// The objects of all releases that have been rendered, with the release that came first.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<BTreeMap<Key, Claim>>);

/// A release as an error names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    release: String,
    place: String,
}

impl Claims {
    /// Notes what a release makes.
    ///
    /// # Errors
    ///
    /// The first object that another release makes, and which one, as the reason of an error.
    pub(super) fn note(&self, release: &Release, objects: &[Value]) -> Result<(), String> {
        let own = Claim { release: release.id.to_string(), place: release.at.to_string() };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for object in objects {
            let Some(key) = key(object) else { continue };
            match known.entry(key) {
                Entry::Vacant(free) => drop(free.insert(own.clone())),
                Entry::Occupied(taken) if *taken.get() == own => {}
                Entry::Occupied(taken) => {
                    let (kind, _, name) = taken.key();
                    let Claim { release: other, place } = taken.get();
                    let chart = &release.chart;
                    return Err(format!("{kind} {name} is made by {other} ({place}) too; the chart here is {chart}"));
                }
            }
        }
        Ok(())
    }
}

fn key(object: &Value) -> Option<Key> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind")?;
    let wide = kind.starts_with("Cluster") || CLUSTER_WIDE.contains(&kind);
    let namespace = text("/metadata/namespace").filter(|_| !wide).unwrap_or_default();
    Some((kind.to_owned(), namespace.to_owned(), text("/metadata/name")?.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use helmfile::{Chart, ReleaseId};
    use yaml::{Origin, Position};

    fn release(namespace: &str, name: &str) -> Release {
        let chart = Chart::Oci { reference: "quay.io/jetstack/charts/cert-manager".into(), version: None };
        let id = ReleaseId { namespace: namespace.into(), name: name.into() };
        Release::new(id, chart, Origin::new("apps.yaml").at(Position { line: 3, column: 5 }))
    }

    #[test]
    fn an_object_of_two_releases_is_told_with_both() {
        let claims = Claims::default();
        let object =
            |kind: &str, namespace: &str| json!({"kind": kind, "metadata": {"name": "x", "namespace": namespace}});
        let (one, other) = (release("network", "cert-manager"), release("security", "secrets"));
        let objects = |namespace: &str| [object("Service", namespace), object("ClusterRole", namespace)];
        assert_eq!(claims.note(&one, &objects("network")), Ok(()));
        assert_eq!(claims.note(&one, &objects("network")), Ok(()), "a second rendering is no second release");
        let told = claims.note(&other, &objects("security")).unwrap_err();
        assert!(told.starts_with("ClusterRole x is made by network/cert-manager (apps.yaml:3:5) too"), "{told}");
        assert!(told.ends_with("the chart here is cert-manager"), "{told}");
    }
}
