//! Objects by name: read, list, delete.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use serde_json::Value;

use super::discovery::Kinds;
use super::error::{ApiError, malformed, with_retry};
use super::object_ref::ObjectRef;

impl ObjectRef {
    /// The identity of the object in a manifest.
    ///
    /// # Errors
    ///
    /// A manifest without `apiVersion`, `kind` or `metadata.name`.
    pub fn from_manifest(object: &Value) -> Result<Self, ApiError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let required = |pointer: &str| {
            text(pointer).ok_or_else(|| {
                let kind = text("/kind").unwrap_or("object");
                malformed(format!("{kind} without {}", pointer.trim_start_matches('/').replace('/', ".")))
            })
        };
        Ok(Self::new(
            required("/apiVersion")?,
            required("/kind")?,
            text("/metadata/namespace"),
            required("/metadata/name")?,
        ))
    }
}

/// The live object; nothing when the object or its kind does not exist.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn get(client: &kube::Client, object: &ObjectRef) -> Result<Option<Value>, ApiError> {
    let kinds = Kinds::new(client.clone());
    let Some(served) = kinds.find(&object.api_version, &object.kind).await? else { return Ok(None) };
    read(&served.api(client, object.namespace.as_deref()), object).await
}

pub(super) async fn read(api: &Api<DynamicObject>, object: &ObjectRef) -> Result<Option<Value>, ApiError> {
    let found = with_retry(|| api.get_opt(&object.name)).await.map_err(|error| error.at(object))?;
    found.map(|found| value(&found)).transpose()
}

/// Every object of a kind, of one namespace or of all; none when the kind is not served.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn list(
    client: &kube::Client,
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
) -> Result<Vec<Value>, ApiError> {
    let Some(served) = Kinds::new(client.clone()).find(api_version, kind).await? else { return Ok(vec![]) };
    let api = served.api(client, namespace);
    let params = ListParams::default();
    match with_retry(|| api.list(&params)).await {
        Ok(found) => {
            let typed = found.items.into_iter().map(|mut object| {
                // The API omits the type of the items of a list.
                object.types.get_or_insert_with(|| served.type_meta());
                value(&object)
            });
            typed.collect()
        }
        Err(error) if error.is_not_found() => Ok(vec![]),
        Err(error) => Err(error),
    }
}

/// Deletes an object and its dependents in the background. A missing object is not an error.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn delete(client: &kube::Client, object: &ObjectRef) -> Result<(), ApiError> {
    let Some(served) = Kinds::new(client.clone()).find(&object.api_version, &object.kind).await? else {
        return Ok(());
    };
    let api = served.api(client, object.namespace.as_deref());
    let params = DeleteParams::background();
    let deleted = with_retry(|| api.delete(&object.name, &params));
    match kill_points::around("deletion of an object", deleted).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.at(object)),
    }
}

/// The UID of the namespace `kube-system`, which identifies a cluster: it is created once with etcd's data and never deleted.
/// Nothing when the API server has not created it yet.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn cluster_uid(client: &kube::Client) -> Result<Option<String>, ApiError> {
    let api = Api::<Namespace>::all(client.clone());
    let found = with_retry(|| api.get_opt("kube-system")).await?;
    Ok(found.and_then(|namespace| namespace.metadata.uid))
}

/// The Secrets of a namespace whose labels match `labels`, such as `owner=helm,name=cilium`.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn secrets(client: &kube::Client, namespace: &str, labels: &str) -> Result<Vec<Secret>, ApiError> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let params = ListParams::default().labels(labels);
    with_retry(|| api.list(&params)).await.map(|list| list.items)
}

/// The Secrets of all namespaces whose labels match `labels`.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn all_secrets(client: &kube::Client, labels: &str) -> Result<Vec<Secret>, ApiError> {
    let api = Api::<Secret>::all(client.clone());
    let params = ListParams::default().labels(labels);
    with_retry(|| api.list(&params)).await.map(|list| list.items)
}

/// An object as JSON.
pub(super) fn value(object: &DynamicObject) -> Result<Value, ApiError> {
    serde_json::to_value(object).map_err(malformed)
}

/// JSON as an object to send.
pub(super) fn dynamic(object: &Value) -> Result<DynamicObject, ApiError> {
    serde_json::from_value(object.clone()).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_reads_as_kind_namespace_and_name() {
        let object = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "cilium", "namespace": "kube-system"}});
        let reference = ObjectRef::from_manifest(&object).unwrap();
        assert_eq!(reference.to_string(), "DaemonSet kube-system/cilium");
        assert_eq!(reference.group(), "apps");
        assert_eq!(ObjectRef::new("v1", "Namespace", None, "flux-system").to_string(), "Namespace flux-system");
    }

    #[test]
    fn a_manifest_without_a_name_is_rejected() {
        let error =
            ObjectRef::from_manifest(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}})).unwrap_err();
        assert_eq!(error.to_string(), "invalid Kubernetes object: Secret without metadata.name");
        assert!(!error.is_retryable());
    }
}
