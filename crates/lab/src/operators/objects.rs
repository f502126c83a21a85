//! Reading, writing and watching objects of any kind.

use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use crate::timestamp;

/// Between two attempts at a request that the API rejects.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// A kind, whose CRD may not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ObjectKind {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    /// As in `kind:`.
    pub(super) name: &'static str,
    pub(super) plural: &'static str,
}

impl ObjectKind {
    fn resource(self) -> ApiResource {
        let api_version =
            if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) };
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version,
            kind: self.name.to_owned(),
            plural: self.plural.to_owned(),
        }
    }

    /// The API for the kind's objects in a namespace, or in all.
    pub(super) fn api(self, client: &kube::Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource()),
            None => Api::all_with(client.clone(), &self.resource()),
        }
    }

    /// The kind's objects whenever they are created or changed, once the kind is defined.
    pub(super) fn watch(self, client: &kube::Client) -> impl Stream<Item = DynamicObject> + Send + Unpin + use<> {
        let events = watcher(self.api(client, None), watcher::Config::default()).backoff(FixedDelay);
        Box::pin(events.applied_objects().filter_map(|object| std::future::ready(object.ok())))
    }

    /// An object of the kind with its identity.
    pub(super) fn object(self, namespace: Option<&str>, name: &str, mut body: Value) -> Value {
        let resource = self.resource();
        body["apiVersion"] = json!(resource.api_version);
        body["kind"] = json!(resource.kind);
        body["metadata"]["name"] = json!(name);
        if let Some(namespace) = namespace {
            body["metadata"]["namespace"] = json!(namespace);
        }
        body
    }
}

/// Retries without backoff, since the API server is local.
#[derive(Debug)]
struct FixedDelay;

impl Iterator for FixedDelay {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(RETRY_DELAY)
    }
}

impl Backoff for FixedDelay {
    fn reset(&mut self) {}
}

/// Applies an object. Retries until the API accepts it.
pub(super) async fn apply(client: &kube::Client, kind: ObjectKind, manager: &str, object: &Value) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let api = kind.api(client, text("/metadata/namespace"));
    let name = text("/metadata/name").unwrap_or_default();
    let params = PatchParams::apply(manager).force();
    while let Err(error) = api.patch(name, &params, &Patch::Apply(object)).await {
        tracing::debug!(%error, name, kind = kind.name, "object not applied yet");
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Merges a status into an object. Retries until the API accepts it or the object is gone.
pub(super) async fn set_status(
    client: &kube::Client,
    kind: ObjectKind,
    namespace: Option<&str>,
    name: &str,
    status: &Value,
) {
    let (api, body) = (kind.api(client, namespace), json!({"status": status}));
    loop {
        match api.patch_status(name, &PatchParams::default(), &Patch::Merge(&body)).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.is_not_found() => return,
            Err(error) => tracing::debug!(%error, name, kind = kind.name, "status not written yet"),
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Of an object whose spec never changed.
pub(super) const FIRST_GENERATION: i64 = 1;

/// The same condition, of an object's first generation.
pub(super) fn current(condition: Value) -> Value {
    at_generation(condition, FIRST_GENERATION)
}

/// The same condition, of this generation of its object.
pub(super) fn at_generation(mut condition: Value, generation: i64) -> Value {
    condition["observedGeneration"] = json!(generation);
    condition
}

/// A condition with the current time. `status` is `True`, `False` or `Unknown`.
pub(super) fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let now = timestamp::now();
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now})
}

/// Whether an object's condition `Ready` is `True`.
pub(super) fn is_ready(object: &DynamicObject) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

pub(super) const CRD: ObjectKind = ObjectKind {
    group: "apiextensions.k8s.io",
    version: "v1",
    name: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
};
