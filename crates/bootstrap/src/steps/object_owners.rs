//! Which release creates which object: Helm rejects an object that two releases create (failure H06).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use engine::{Code, StepError};
use helmfile::Release;
use serde_json::Value;

use super::kinds::{Kinds, Scope};

/// API group, kind and name.
type Key = (String, String, String);

/// The objects of all releases that were rendered, in rendering order.
#[derive(Debug, Default)]
pub(super) struct ObjectOwners(Mutex<BTreeMap<Key, Vec<Owner>>>);

/// A release that creates an object of some name, and in which namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    namespace: String,
    release: String,
    location: String,
    chart: String,
}

/// An object that two releases create.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{first} ({first_location}) creates {kind} {name} too; the chart of {second} is {chart}")]
pub(super) struct DuplicateObject {
    kind: String,
    name: String,
    first: String,
    first_location: String,
    second: String,
    second_location: String,
    chart: String,
}

impl From<DuplicateObject> for StepError {
    fn from(duplicate: DuplicateObject) -> Self {
        Self::invalid_input("two releases create the same object, and Helm accepts only one owner")
            .with_place(format!("release {} ({})", duplicate.second, duplicate.second_location))
            .because(duplicate)
            .next("check whether the chart is the intended one, or remove one of the two releases")
            .code(Code::H06)
    }
}

impl ObjectOwners {
    /// Records the objects of a release.
    ///
    /// # Errors
    ///
    /// The first object that another release creates, as far as `kinds` knows the scopes so far.
    pub(super) fn record(&self, release: &Release, objects: &[Value], kinds: &Kinds) -> Result<(), DuplicateObject> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for object in objects {
            let Some((key, namespace)) = identity(object) else { continue };
            let owner = Owner {
                namespace,
                release: release.id.to_string(),
                location: release.at.to_string(),
                chart: release.chart.to_string(),
            };
            let scope = kinds.scope(&key.0, &key.1);
            let owners = all.entry(key.clone()).or_default();
            if owners.contains(&owner) {
                continue;
            }
            owners.push(owner);
            if let Some(duplicate) = duplicate(&key, owners, scope) {
                return Err(duplicate);
            }
        }
        Ok(())
    }

    /// Checks again, once the scope of every kind is known: a definition may be rendered after the objects of its kind.
    ///
    /// # Errors
    ///
    /// The first object that two releases create.
    pub(super) fn check_duplicates(&self, kinds: &Kinds) -> Result<(), DuplicateObject> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find_map(|(key, owners)| duplicate(key, owners, kinds.scope(&key.0, &key.1))).map_or(Ok(()), Err)
    }
}

/// The last owner with an earlier owner of the same object; two namespaces hold two objects unless the kind is
/// cluster-scoped.
fn duplicate(key: &Key, owners: &[Owner], scope: Scope) -> Option<DuplicateObject> {
    let is_same = |one: &Owner, other: &Owner| {
        one.release != other.release && (scope == Scope::Cluster || one.namespace == other.namespace)
    };
    let (second, first) = owners.iter().enumerate().rev().find_map(|(index, second)| {
        let first = owners[..index].iter().find(|first| is_same(first, second))?;
        Some((second, first))
    })?;
    let (_, kind, name) = key;
    Some(DuplicateObject {
        kind: kind.clone(),
        name: name.clone(),
        first: first.release.clone(),
        first_location: first.location.clone(),
        second: second.release.clone(),
        second_location: second.location.clone(),
        chart: second.chart.clone(),
    })
}

/// The key of an object, and its namespace.
fn identity(object: &Value) -> Option<(Key, String)> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let group = text("/apiVersion")?.split_once('/').map_or("", |(group, _)| group);
    let key = (group.to_owned(), text("/kind")?.to_owned(), text("/metadata/name")?.to_owned());
    Some((key, text("/metadata/namespace").unwrap_or_default().to_owned()))
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
        Release::new(id, chart, Origin::new("apps.yaml").location(Position { line: 3, column: 5 }))
    }

    fn object(api_version: &str, kind: &str, namespace: &str) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "db", "namespace": namespace}})
    }

    fn definition(group: &str, kind: &str, scope: &str) -> Value {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "x"}, "spec": {"group": group, "scope": scope, "names": {"kind": kind}},
        })
    }

    #[test]
    fn an_object_of_two_releases_is_reported_with_both() {
        let (owners, kinds) = (ObjectOwners::default(), Kinds::default());
        let (one, other) = (release("network", "cert-manager"), release("security", "secrets"));
        let objects = |namespace: &str| {
            [object("v1", "Service", namespace), object("rbac.authorization.k8s.io/v1", "ClusterRole", namespace)]
        };
        assert_eq!(owners.record(&one, &objects("network"), &kinds), Ok(()));
        assert_eq!(owners.record(&one, &objects("network"), &kinds), Ok(()), "the same release, rendered again");
        let duplicate = owners.record(&other, &objects("security"), &kinds).unwrap_err().to_string();
        let expected = "network/cert-manager (apps.yaml:3:5) creates ClusterRole db too; \
                        the chart of security/secrets is cert-manager";
        assert_eq!(duplicate, expected);
    }

    #[test]
    fn the_scope_of_a_custom_kind_decides_and_not_its_name() {
        let (owners, kinds) = (ObjectOwners::default(), Kinds::default());
        kinds.define(&[definition("postgresql.cnpg.io", "Cluster", "Namespaced")]);
        for (namespace, name) in [("shop", "shop-db"), ("blog", "blog-db")] {
            let cluster = object("postgresql.cnpg.io/v1", "Cluster", namespace);
            assert_eq!(owners.record(&release(namespace, name), &[cluster], &kinds), Ok(()), "{namespace}");
        }
        assert_eq!(owners.check_duplicates(&kinds), Ok(()));
        let again = object("postgresql.cnpg.io/v1", "Cluster", "blog");
        assert!(owners.record(&release("blog", "other"), &[again], &kinds).is_err());
    }

    #[test]
    fn kinds_of_different_groups_are_different_objects() {
        let (owners, kinds) = (ObjectOwners::default(), Kinds::default());
        let knative = object("serving.knative.dev/v1", "Service", "shop");
        assert_eq!(owners.record(&release("shop", "a"), &[object("v1", "Service", "shop")], &kinds), Ok(()));
        assert_eq!(owners.record(&release("shop", "b"), &[knative], &kinds), Ok(()));
    }

    #[test]
    fn a_definition_that_is_rendered_later_still_counts() {
        let (owners, kinds) = (ObjectOwners::default(), Kinds::default());
        for namespace in ["network", "security"] {
            let issuer = object("cert-manager.io/v1", "ClusterIssuer", namespace);
            assert_eq!(owners.record(&release(namespace, "issuers"), &[issuer], &kinds), Ok(()), "{namespace}");
        }
        kinds.define(&[definition("cert-manager.io", "ClusterIssuer", "Cluster")]);
        let duplicate = owners.check_duplicates(&kinds).unwrap_err();
        assert_eq!((duplicate.first.as_str(), duplicate.second.as_str()), ("network/issuers", "security/issuers"));
    }
}
