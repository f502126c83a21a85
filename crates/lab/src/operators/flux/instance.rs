//! flux-operator: from a FluxInstance to running controllers.

use std::time::Instant;

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::kinds::{BUCKET, CRDS, GIT_REPOSITORY, INSTANCE, KUSTOMIZATION, OCI_REPOSITORY};
use crate::cluster_cache::{CAUSE_ANNOTATION, helm_release_of};
use crate::cluster_context::ClusterContext;
use crate::operators::crd;
use crate::operators::objects::{CRD, ObjectKind, apply, condition, set_status};
use crate::record::facts;

const MANAGER: &str = "flux-operator";
const CONTROLLERS: [&str; 4] =
    ["source-controller", "kustomize-controller", "helm-controller", "notification-controller"];
const DEPLOYMENT: ObjectKind = ObjectKind { group: "apps", version: "v1", name: "Deployment", plural: "deployments" };

/// The parts of a FluxInstance that the lab acts on.
#[derive(Debug, Clone)]
pub(super) struct FluxInstance {
    pub(super) namespace: String,
    name: String,
    version: String,
    /// `spec.sync`, if present.
    pub(super) sync: Option<Value>,
    /// The facts that its reconciliation depends on.
    causes: Vec<String>,
}

/// Waits for the operator and for a FluxInstance.
pub(super) async fn wait_for_instance(context: &ClusterContext) -> FluxInstance {
    let operator = context.cache.wait_until(|cache| cache.ready_pod_of("flux-operator")).await;
    let mut instances = INSTANCE.watch(&context.cache.client);
    loop {
        if let Some(object) = instances.next().await {
            let prerequisites = helm_release_of(&object).map(|release| context.release_causes(&release));
            let causes = std::iter::once(operator.fact).chain(prerequisites.into_iter().flatten());
            return FluxInstance::from_object(&object, causes.collect());
        }
    }
}

impl FluxInstance {
    fn from_object(object: &DynamicObject, causes: Vec<String>) -> Self {
        let version = object.data.pointer("/spec/distribution/version").and_then(Value::as_str).unwrap_or("2.7.5");
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            version: version.to_owned(),
            sync: object.data.pointer("/spec/sync").cloned(),
            causes,
        }
    }

    /// The kind of the source.
    pub(super) fn sync_kind(&self) -> ObjectKind {
        match self.sync.as_ref().and_then(|sync| sync["kind"].as_str()) {
            Some("OCIRepository") => OCI_REPOSITORY,
            Some("Bucket") => BUCKET,
            _ => GIT_REPOSITORY,
        }
    }

    /// The name of the source and of the root Kustomization.
    pub(super) fn sync_name(&self) -> &str {
        let name = self.sync.as_ref().and_then(|sync| sync["name"].as_str());
        name.unwrap_or(&self.namespace)
    }

    /// Installs the CRDs, the controllers and the sync objects, and reports progress in the status. It is Ready last, once
    /// the root Kustomization is `applied` (flux-operator 0.38).
    pub(super) async fn install(&self, context: &ClusterContext, applied: &Notify) {
        let (client, began) = (&context.cache.client, Instant::now());
        let step = context.lab.scenario.operators.flux_step.duration();
        self.set_ready_condition(context, "Unknown", "Progressing", "Reconciliation in progress").await;
        tokio::time::sleep(step).await;
        for names in CRDS {
            apply(client, CRD, MANAGER, &crd::definition(names)).await;
        }
        context.lab.recorder.record_fact(facts::FLUX_CRDS_REGISTERED, began, self.causes.clone());
        self.set_ready_condition(context, "Unknown", "Progressing", "Applying the controllers").await;
        let began = Instant::now();
        tokio::time::sleep(step).await;
        context.lab.recorder.record_fact(
            facts::FLUX_CONTROLLERS_BUILT,
            began,
            [facts::FLUX_CRDS_REGISTERED.to_owned()],
        );
        for controller in CONTROLLERS {
            apply(client, DEPLOYMENT, MANAGER, &self.deployment(controller)).await;
        }
        for (kind, object) in self.sync_objects() {
            apply(client, kind, MANAGER, &object).await;
        }
        let mut ready = vec![facts::FLUX_CONTROLLERS_BUILT.to_owned()];
        for controller in CONTROLLERS {
            self.set_ready_condition(
                context,
                "Unknown",
                "Progressing",
                &format!("Waiting for Deployment/{}/{controller}", self.namespace),
            )
            .await;
            ready.push(context.cache.wait_until(|cache| cache.ready_pod_of(controller)).await.fact);
        }
        // Without a source there is nothing more to wait for.
        if self.sync.is_some() {
            let source = self.sync_kind().name;
            let objects = format!("{source}/{0}/{1}, Kustomization/{0}/{1}", self.namespace, self.sync_name());
            let waiting = format!("Waiting for {objects} to be ready");
            self.set_ready_condition(context, "Unknown", "Progressing", &waiting).await;
            applied.notified().await;
            ready.push(facts::FLUX_KUSTOMIZATION_READY.to_owned());
        }
        let began = Instant::now();
        tokio::time::sleep(step).await;
        self.set_ready_condition(context, "True", "ReconciliationSucceeded", "Reconciliation finished").await;
        context.lab.recorder.record_fact(facts::FLUX_INSTANCE_READY, began, ready);
    }

    async fn set_ready_condition(&self, context: &ClusterContext, ready: &str, reason: &str, message: &str) {
        let mut status = json!({"conditions": [condition("Ready", ready, reason, message)]});
        if ready == "True" {
            status["lastAppliedRevision"] = json!(format!("v{}", self.version.trim_start_matches('v')));
            status["lastAttemptedRevision"] = status["lastAppliedRevision"].clone();
        }
        set_status(&context.cache.client, INSTANCE, Some(&self.namespace), &self.name, &status).await;
    }

    fn deployment(&self, name: &str) -> Value {
        let labels = json!({"app": name});
        let body = json!({
            "metadata": {
                "labels": {"app.kubernetes.io/part-of": "flux", "app.kubernetes.io/component": name},
                "annotations": {CAUSE_ANNOTATION: facts::FLUX_CONTROLLERS_BUILT},
            },
            "spec": {
                "replicas": 1, "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{
                        "name": "manager", "image": format!("ghcr.io/fluxcd/{name}:flux-{}", self.version),
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
                            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
                        },
                    }]},
                },
            },
        });
        DEPLOYMENT.object(Some(&self.namespace), name, body)
    }

    /// The source and the Kustomization for `spec.sync` (flux-operator 0.38).
    fn sync_objects(&self) -> Vec<(ObjectKind, Value)> {
        let Some(sync) = &self.sync else { return vec![] };
        let kind = self.sync_kind();
        let mut spec = json!({"interval": sync["interval"].as_str().unwrap_or("1m")});
        let url = sync["url"].as_str().unwrap_or_default();
        match kind {
            OCI_REPOSITORY => {
                spec["url"] = json!(url);
                spec["ref"] = json!({"tag": sync["ref"]});
            }
            BUCKET => {
                spec["endpoint"] = json!(url);
                spec["bucketName"] = sync["ref"].clone();
            }
            _ => {
                spec["url"] = json!(url);
                spec["ref"] = json!({"name": sync["ref"]});
            }
        }
        if let Some(secret) = sync["pullSecret"].as_str().filter(|secret| !secret.is_empty()) {
            spec["secretRef"] = json!({"name": secret});
        }
        let kustomization = json!({
            "metadata": {},
            "spec": {
                "interval": "10m", "path": sync["path"], "prune": true,
                "sourceRef": {"kind": kind.name, "name": self.sync_name()},
            },
        });
        let place = (Some(self.namespace.as_str()), self.sync_name());
        vec![
            (kind, kind.object(place.0, place.1, json!({"metadata": {}, "spec": spec}))),
            (KUSTOMIZATION, KUSTOMIZATION.object(place.0, place.1, kustomization)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sync_becomes_a_repository_and_a_kustomization() {
        let object: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "flux", "namespace": "flux-system"},
            "spec": {"sync": {
                "kind": "GitRepository", "url": "ssh://git@github.com/acme/k8s-ops.git", "ref": "refs/heads/main",
                "path": "clusters/infra/flux", "pullSecret": "github-deploy-key",
            }},
        }))
        .unwrap();
        let objects = FluxInstance::from_object(&object, vec![]).sync_objects();
        assert_eq!(objects[0].0, GIT_REPOSITORY);
        assert_eq!(objects[0].1["metadata"]["name"], "flux-system");
        assert_eq!(objects[0].1["spec"]["secretRef"]["name"], "github-deploy-key");
        assert_eq!(objects[1].1["spec"]["path"], "clusters/infra/flux");
        assert_eq!(objects[1].1["spec"]["sourceRef"], json!({"kind": "GitRepository", "name": "flux-system"}));
    }

    #[test]
    fn an_artifact_and_a_bucket_are_sources_too() {
        let source = |kind: &str| {
            let object: DynamicObject = serde_json::from_value(json!({
                "metadata": {"name": "flux", "namespace": "flux-system"},
                "spec": {"sync": {"kind": kind, "url": "oci://ghcr.io/acme/fleet", "ref": "latest", "path": "./infra"}},
            }))
            .unwrap();
            let objects = FluxInstance::from_object(&object, vec![]).sync_objects();
            assert_eq!(objects[1].1["spec"]["sourceRef"]["kind"], kind);
            objects[0].1["spec"].clone()
        };
        assert_eq!(source("OCIRepository")["ref"], json!({"tag": "latest"}));
        assert_eq!(source("Bucket")["bucketName"], "latest");
    }
}
