//! Reading, writing and following objects of any kind.

use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

/// Between two tries of what the API does not take yet.
const PAUSE: Duration = Duration::from_millis(100);

/// A kind whose definition may come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    /// In the singular, as in `kind:`.
    pub(super) name: &'static str,
    pub(super) plural: &'static str,
}

impl Kind {
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

    /// The kind's objects in a namespace, or everywhere.
    pub(super) fn api(self, client: &kube::Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource()),
            None => Api::all_with(client.clone(), &self.resource()),
        }
    }

    /// Every object of the kind as it is created or changed, from when the kind is defined.
    pub(super) fn follow(self, client: &kube::Client) -> impl Stream<Item = DynamicObject> + Send + Unpin + use<> {
        let events = watcher(self.api(client, None), watcher::Config::default()).backoff(Steady);
        Box::pin(events.applied_objects().filter_map(|object| std::future::ready(object.ok())))
    }

    /// An object of the kind, with its identity filled in.
    pub(super) fn object(self, namespace: Option<&str>, name: &str, mut rest: Value) -> Value {
        let resource = self.resource();
        rest["apiVersion"] = json!(resource.api_version);
        rest["kind"] = json!(resource.kind);
        rest["metadata"]["name"] = json!(name);
        if let Some(namespace) = namespace {
            rest["metadata"]["namespace"] = json!(namespace);
        }
        rest
    }
}

/// Looks again at an even pace: on loopback there is nobody to spare.
#[derive(Debug)]
struct Steady;

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(PAUSE)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

/// Applies an object until the API takes it.
pub(super) async fn apply(client: &kube::Client, kind: Kind, manager: &str, object: &Value) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let api = kind.api(client, text("/metadata/namespace"));
    let name = text("/metadata/name").unwrap_or_default();
    let params = PatchParams::apply(manager).force();
    while let Err(reason) = api.patch(name, &params, &Patch::Apply(object)).await {
        tracing::debug!(%reason, name, kind = kind.name, "not applied yet");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Merges a status into an object until the API takes it; an object that has gone needs none.
pub(super) async fn set_status(client: &kube::Client, kind: Kind, namespace: Option<&str>, name: &str, status: &Value) {
    let (api, body) = (kind.api(client, namespace), json!({"status": status}));
    loop {
        match api.patch_status(name, &PatchParams::default(), &Patch::Merge(&body)).await {
            Ok(_) => return,
            Err(kube::Error::Api(reason)) if reason.is_not_found() => return,
            Err(reason) => tracing::debug!(%reason, name, kind = kind.name, "status not written yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A condition as of now. `status` is `True`, `False` or `Unknown`.
pub(super) fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now})
}

/// Whether an object's condition `Ready` is `True`.
pub(super) fn is_ready(object: &DynamicObject) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

pub(super) const CRD: Kind = Kind {
    group: "apiextensions.k8s.io",
    version: "v1",
    name: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
};
