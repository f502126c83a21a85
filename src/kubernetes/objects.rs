//! Objects of any kind, by name.

use std::collections::HashMap;
use std::fmt;

use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersion};
use kube::discovery::{ApiCapabilities, Scope, pinned_group};
use serde_json::Value;

use super::ApiError;

/// An object's identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    pub api_version: String,
    pub kind: String,
    pub namespace: Option<String>,
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl ObjectRef {
    /// The identity that a manifest gives.
    ///
    /// # Errors
    ///
    /// A manifest without `apiVersion`, `kind` or a name.
    pub fn of(object: &Value) -> Result<Self, ApiError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let missing = |what: &str| ApiError::refused("a manifest", format!("it has no {what}"));
        Ok(Self {
            api_version: text("/apiVersion").ok_or_else(|| missing("apiVersion"))?,
            kind: text("/kind").ok_or_else(|| missing("kind"))?,
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name").ok_or_else(|| missing("metadata.name"))?,
        })
    }
}

/// The API group and version; the core group is empty.
fn group_version(api_version: &str) -> GroupVersion {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    GroupVersion { group: group.to_owned(), version: version.to_owned() }
}

/// Which kinds the API serves, asked once a group and version, and again after a miss.
pub(super) struct Kinds {
    client: kube::Client,
    known: HashMap<String, Vec<(ApiResource, ApiCapabilities)>>,
}

impl Kinds {
    pub(super) fn new(client: &kube::Client) -> Self {
        Self { client: client.clone(), known: HashMap::new() }
    }

    /// The resource behind a kind; nothing when it is not served.
    pub(super) async fn find(
        &mut self,
        api_version: &str,
        kind: &str,
    ) -> Result<Option<(ApiResource, ApiCapabilities)>, ApiError> {
        if let Some(found) = self.look(api_version, kind) {
            return Ok(Some(found));
        }
        let served = super::retry::patiently(|| async {
            match pinned_group(&self.client, &group_version(api_version)).await {
                Ok(group) => Ok(group.versioned_resources(group_version(api_version).version.as_str())),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
                Err(kube::Error::Discovery(_)) => Ok(Vec::new()),
                Err(error) => Err(ApiError::from_kube(format!("the kinds of {api_version}"), &error)),
            }
        })
        .await?;
        self.known.insert(api_version.to_owned(), served);
        Ok(self.look(api_version, kind))
    }

    fn look(&self, api_version: &str, kind: &str) -> Option<(ApiResource, ApiCapabilities)> {
        self.known.get(api_version)?.iter().find(|(resource, _)| resource.kind == kind).cloned()
    }

    /// The API for an object, with its namespace where the kind has one.
    pub(super) async fn api(
        &mut self,
        object: &ObjectRef,
        default_namespace: &str,
    ) -> Result<Option<Api<DynamicObject>>, ApiError> {
        let Some((resource, capabilities)) = self.find(&object.api_version, &object.kind).await? else {
            return Ok(None);
        };
        let namespace = object.namespace.as_deref().unwrap_or(default_namespace);
        Ok(Some(match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), namespace, &resource),
        }))
    }
}

pub(super) fn to_value(object: &DynamicObject) -> Value {
    // Everything in it came out of JSON.
    serde_json::to_value(object).unwrap_or_default()
}

/// An object as the API has it; nothing when it, or its kind, is not there.
///
/// # Errors
///
/// When the API does not answer.
pub async fn get(client: &kube::Client, object: &ObjectRef) -> Result<Option<Value>, ApiError> {
    let Some(api) = Kinds::new(client).api(object, "default").await? else { return Ok(None) };
    super::retry::patiently(|| async {
        let found = api.get_opt(&object.name).await;
        found.map_err(|error| ApiError::from_kube(object.to_string(), &error))
    })
    .await
    .map(|found| found.as_ref().map(to_value))
}

/// Every object of a kind; none when the kind is not served.
///
/// # Errors
///
/// When the API does not answer.
pub async fn list(
    client: &kube::Client,
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
) -> Result<Vec<Value>, ApiError> {
    let Some((resource, _)) = Kinds::new(client).find(api_version, kind).await? else { return Ok(Vec::new()) };
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let found = super::retry::patiently(|| async {
        let found = api.list(&ListParams::default()).await;
        found.map_err(|error| ApiError::from_kube(format!("the list of {kind}"), &error))
    })
    .await?;
    let named = |mut object: DynamicObject| {
        // Items of a list do not carry their own type.
        object
            .types
            .get_or_insert_with(|| kube::core::TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() });
        to_value(&object)
    };
    Ok(found.items.into_iter().map(named).collect())
}

/// Deletes an object; one that is gone already is no failure.
///
/// # Errors
///
/// When the API refuses or does not answer.
pub async fn delete(client: &kube::Client, object: &ObjectRef) -> Result<(), ApiError> {
    let Some(api) = Kinds::new(client).api(object, "default").await? else { return Ok(()) };
    super::retry::patiently(|| async {
        match api.delete(&object.name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(ApiError::from_kube(object.to_string(), &error)),
        }
    })
    .await
}

/// Secrets by their labels, such as the records that Helm keeps of a release.
///
/// # Errors
///
/// When the API does not answer.
pub async fn secrets(
    client: &kube::Client,
    namespace: &str,
    labels: &str,
) -> Result<Vec<k8s_openapi::api::core::v1::Secret>, ApiError> {
    let api: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), namespace);
    super::retry::patiently(|| async {
        let found = api.list(&ListParams::default().labels(labels)).await;
        found.map_err(|error| ApiError::from_kube(format!("Secrets in {namespace}"), &error))
    })
    .await
    .map(|found| found.items)
}
