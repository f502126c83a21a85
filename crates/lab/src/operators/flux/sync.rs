//! source-controller and kustomize-controller: the repository is fetched and its objects are applied.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::adoption;
use super::failure::fail_first;
use super::instance::FluxInstance;
use super::kinds::KUSTOMIZATION;
use crate::cluster_context::ClusterContext;
use crate::operators::objects::{apply, condition, set_status};
use crate::record::facts;
use crate::scenario::FluxStage;
use crate::timestamp;

const MANAGER: &str = "kustomize-controller";
/// Between two reads of an object that does not exist yet.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A Kustomization that the root one creates.
struct ChildKustomization {
    name: &'static str,
    depends_on: Option<&'static str>,
}

const CHILDREN: [ChildKustomization; 3] = [
    ChildKustomization { name: "cluster-infrastructure", depends_on: None },
    ChildKustomization { name: "cluster-apps", depends_on: Some("cluster-infrastructure") },
    ChildKustomization { name: "cluster-local", depends_on: Some("cluster-apps") },
];

/// Fetches and applies the instance's sync source, says that the root is `applied`, then adopts its releases.
pub(super) async fn run(context: &ClusterContext, instance: &FluxInstance, sync: &Value, applied: &Notify) {
    let source = context.cache.wait_until(|cache| cache.ready_pod_of("source-controller")).await;
    let stored = StoredArtifact::invented(instance, sync);
    fetch(context, instance, sync, &stored, source.fact).await;
    let revision = stored.revision;
    let kustomize = context.cache.wait_until(|cache| cache.ready_pod_of("kustomize-controller")).await;
    let namespace = instance.namespace.as_str();
    fail_first(context, FluxStage::Root, KUSTOMIZATION, namespace, instance.sync_name()).await;
    let began = Instant::now();
    tokio::time::sleep(context.lab.scenario.operators.kustomize.duration()).await;
    for child in &CHILDREN {
        create_child(context, instance, child).await;
    }
    // What is applied by it appears once it succeeds.
    fail_first(context, FluxStage::Kustomization, KUSTOMIZATION, namespace, CHILDREN[0].name).await;
    adoption::create_helm_releases(context).await;
    mark_applied(context, instance, instance.sync_name(), &revision).await;
    let causes = [kustomize.fact, facts::FLUX_REPOSITORY_READY.to_owned()];
    context.lab.recorder.record_fact(facts::FLUX_KUSTOMIZATION_READY, began, causes);
    applied.notify_one();
    adoption::run(context).await;
    for child in &CHILDREN {
        mark_applied(context, instance, child.name, &revision).await;
    }
}

/// What the status of a source says of its artifact (source-controller 1.7.4).
#[derive(Debug, Clone)]
pub(super) struct StoredArtifact {
    pub(super) revision: String,
    pub(super) path: String,
    pub(super) url: String,
    /// As `sha256:HEX`.
    pub(super) digest: String,
    /// In bytes.
    pub(super) size: usize,
}

impl StoredArtifact {
    /// One that is never downloaded.
    fn invented(instance: &FluxInstance, sync: &Value) -> Self {
        let (namespace, name) = (&instance.namespace, instance.sync_name());
        let path = format!("{}/{namespace}/{name}/latest.tar.gz", instance.sync_kind().name.to_lowercase());
        let digest: String =
            Sha256::digest(sync.to_string().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            revision: revision(sync),
            url: format!("http://source-controller.{namespace}.svc.cluster.local./{path}"),
            path,
            digest: format!("sha256:{digest}"),
            size: 0,
        }
    }

    pub(super) fn message(&self) -> String {
        format!("stored artifact for revision '{}'", self.revision)
    }

    /// `status.artifact`.
    pub(super) fn status(&self) -> Value {
        json!({
            "revision": self.revision, "path": self.path, "url": self.url, "digest": self.digest, "size": self.size,
            "lastUpdateTime": timestamp::now(),
        })
    }
}

/// The revision of the fetched commit in source-controller's format.
fn revision(sync: &Value) -> String {
    let reference = sync["ref"].as_str().unwrap_or("refs/heads/main");
    let digest = Sha256::digest(sync.to_string().as_bytes());
    let commit: String = digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    format!("{reference}@sha1:{commit}")
}

/// Reports the source as fetched, once it exists and its Secret does.
pub(super) async fn fetch(
    context: &ClusterContext,
    instance: &FluxInstance,
    sync: &Value,
    stored: &StoredArtifact,
    source: String,
) {
    let (client, namespace, name) = (&context.cache.client, instance.namespace.as_str(), instance.sync_name());
    let api = instance.sync_kind().api(client, Some(namespace));
    while api.get(name).await.is_err() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    if let Some(secret) = sync["pullSecret"].as_str().filter(|secret| !secret.is_empty()) {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let mut is_reported = false;
        while secrets.get_metadata(secret).await.is_err() {
            if !std::mem::replace(&mut is_reported, true) {
                let message = format!("failed to get secret '{namespace}/{secret}': secrets \"{secret}\" not found");
                let status = json!({"conditions": [condition("Ready", "False", "AuthenticationFailed", &message)]});
                set_status(client, instance.sync_kind(), Some(namespace), name, &status).await;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
    fail_first(context, FluxStage::Source, instance.sync_kind(), namespace, name).await;
    let began = Instant::now();
    tokio::time::sleep(context.lab.scenario.operators.git_fetch.duration()).await;
    let message = stored.message();
    let status = json!({
        "observedGeneration": 1,
        "artifact": stored.status(),
        "conditions": [
            condition("Ready", "True", "Succeeded", &message),
            condition("ArtifactInStorage", "True", "Succeeded", &message),
        ],
    });
    set_status(client, instance.sync_kind(), Some(namespace), name, &status).await;
    context.lab.recorder.record_fact(facts::FLUX_REPOSITORY_READY, began, [source]);
}

/// Applies a child Kustomization, which is not Ready at first.
async fn create_child(context: &ClusterContext, instance: &FluxInstance, child: &ChildKustomization) {
    let name = child.name;
    let client = &context.cache.client;
    let mut body = json!({
        "metadata": {},
        "spec": {
            "interval": "1h", "path": format!("./{name}"), "prune": true,
            "sourceRef": {"kind": instance.sync_kind().name, "name": instance.sync_name()},
        },
    });
    let (status, reason, message) = match child.depends_on {
        None => ("Unknown", "Progressing", "Reconciliation in progress".to_owned()),
        Some(dependency) => {
            body["spec"]["dependsOn"] = json!([{"name": dependency}]);
            let message = format!("dependency '{}/{dependency}' is not ready", instance.namespace);
            ("False", "DependencyNotReady", message)
        }
    };
    apply(client, KUSTOMIZATION, MANAGER, &KUSTOMIZATION.object(Some(&instance.namespace), name, body)).await;
    let status = json!({"conditions": [condition("Ready", status, reason, &message)]});
    set_status(client, KUSTOMIZATION, Some(&instance.namespace), name, &status).await;
}

/// Marks a Kustomization as Ready, with all of its objects applied.
async fn mark_applied(context: &ClusterContext, instance: &FluxInstance, name: &str, revision: &str) {
    let message = format!("Applied revision: {revision}");
    let status = json!({
        "observedGeneration": 1, "lastAppliedRevision": revision, "lastAttemptedRevision": revision,
        "conditions": [condition("Ready", "True", "ReconciliationSucceeded", &message)],
    });
    set_status(&context.cache.client, KUSTOMIZATION, Some(&instance.namespace), name, &status).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_names_the_reference_and_a_commit() {
        let revision = revision(&json!({"ref": "refs/heads/release", "url": "x"}));
        let (reference, commit) = revision.split_once("@sha1:").unwrap();
        assert_eq!((reference, commit.len()), ("refs/heads/release", 40));
    }
}
