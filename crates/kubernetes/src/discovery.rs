//! Which kinds the API server serves, group by group, so that a broken group does not affect the others.

use std::collections::HashMap;

use kube::api::{ApiResource, DynamicObject, TypeMeta};
use kube::core::GroupVersion;
use kube::discovery::{self, Scope};
use kube::{Api, Client};
use tokio::sync::Mutex;

use super::error::not_served;
use super::error::{ApiError, malformed, with_retry};

/// A kind that is served.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub(super) resource: ApiResource,
    pub(super) namespaced: bool,
}

impl Served {
    /// The API of its objects, of one namespace or of all.
    pub(super) fn api(&self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) if self.namespaced => Api::namespaced_with(client.clone(), namespace, &self.resource),
            _ => Api::all_with(client.clone(), &self.resource),
        }
    }

    pub(super) fn type_meta(&self) -> TypeMeta {
        TypeMeta { api_version: self.resource.api_version.clone(), kind: self.resource.kind.clone() }
    }
}

/// Whether the API server serves a kind.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn serves(client: &Client, api_version: &str, kind: &str) -> Result<bool, ApiError> {
    Ok(Kinds::new(client.clone()).find(api_version, kind).await?.is_some())
}

/// A cache of discovery. Only served kinds are cached: a missing kind can appear at any time.
pub(super) struct Kinds {
    client: Client,
    known: Mutex<HashMap<(String, String), Served>>,
}

impl Kinds {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// The kind, when it is served.
    pub(super) async fn find(&self, api_version: &str, kind: &str) -> Result<Option<Served>, ApiError> {
        let key = (api_version.to_owned(), kind.to_owned());
        // Held over the request, so that concurrent callers request a group once.
        let mut known = self.known.lock().await;
        if !known.contains_key(&key) {
            for served in self.fetch(api_version).await? {
                known.insert((api_version.to_owned(), served.resource.kind.clone()), served);
            }
        }
        Ok(known.get(&key).cloned())
    }

    /// The kind, which must be served.
    pub(super) async fn resolve(&self, api_version: &str, kind: &str) -> Result<Served, ApiError> {
        self.find(api_version, kind).await?.ok_or_else(|| not_served(api_version, kind))
    }

    /// Every kind of a group's version; none when the group does not exist.
    async fn fetch(&self, api_version: &str) -> Result<Vec<Served>, ApiError> {
        let group: GroupVersion = api_version.parse().map_err(malformed)?;
        match with_retry(|| discovery::pinned_group(&self.client, &group)).await {
            Ok(found) => {
                let resources = found.versioned_resources(&group.version).into_iter();
                Ok(resources
                    .map(|(resource, capabilities)| Served {
                        resource,
                        namespaced: capabilities.scope == Scope::Namespaced,
                    })
                    .collect())
            }
            Err(error) if error.is_not_found() => Ok(vec![]),
            Err(error) => Err(error),
        }
    }
}
