//! flux-operator: from a FluxInstance to running controllers.

use std::time::Instant;

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::kinds::{DEFINED, GIT_REPOSITORY, INSTANCE, KUSTOMIZATION};
use crate::cluster::Inside;
use crate::operators::crd;
use crate::operators::objects::{CRD, Kind, apply, condition, set_status};
use crate::view::{CAUSE, release};

const MANAGER: &str = "flux-operator";
const CONTROLLERS: [&str; 4] =
    ["source-controller", "kustomize-controller", "helm-controller", "notification-controller"];
const DEPLOYMENT: Kind = Kind { group: "apps", version: "v1", name: "Deployment", plural: "deployments" };

/// The fact that the controllers' manifests are there to be applied.
const BUILT: &str = "flux/controllers-built";

/// What a FluxInstance asks for.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) namespace: String,
    name: String,
    version: String,
    /// `spec.sync`, when it is there.
    pub(super) sync: Option<Value>,
    /// The facts that had to be true before it could be acted on.
    causes: Vec<String>,
}

/// Waits for the operator and for a FluxInstance.
pub(super) async fn found(inside: &Inside) -> Instance {
    let (_, cause) = inside.view.until(|view| view.ready_of("flux-operator")).await;
    let mut instances = INSTANCE.follow(&inside.view.client);
    loop {
        if let Some(object) = instances.next().await {
            let needs = release(&object).map(|(namespace, name)| inside.needs(&namespace, &name));
            let causes = std::iter::once(cause).chain(needs.into_iter().flatten());
            return Instance::read(&object, causes.collect());
        }
    }
}

impl Instance {
    fn read(object: &DynamicObject, causes: Vec<String>) -> Self {
        let version = object.data.pointer("/spec/distribution/version").and_then(Value::as_str).unwrap_or("2.7.5");
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            version: version.to_owned(),
            sync: object.data.pointer("/spec/sync").cloned(),
            causes,
        }
    }

    /// The name of the GitRepository and of the root Kustomization.
    pub(super) fn sync_name(&self) -> &str {
        let given = self.sync.as_ref().and_then(|sync| sync["name"].as_str());
        given.unwrap_or(&self.namespace)
    }

    /// Installs the CRDs, the controllers and the sync, and says at each step how far it is.
    pub(super) async fn install(&self, inside: &Inside) {
        let (client, began) = (&inside.view.client, Instant::now());
        let step = inside.world.scenario.operators.flux_step.duration();
        self.tell(inside, "Unknown", "Progressing", "Reconciliation in progress").await;
        tokio::time::sleep(step).await;
        for (group, kind) in DEFINED {
            apply(client, CRD, MANAGER, &crd::definition(group, kind)).await;
        }
        inside.world.recorder.fact("flux/crds-registered", began, self.causes.clone());
        self.tell(inside, "Unknown", "Progressing", "Applying the controllers").await;
        let began = Instant::now();
        tokio::time::sleep(step).await;
        inside.world.recorder.fact(BUILT, began, ["flux/crds-registered".to_owned()]);
        for controller in CONTROLLERS {
            apply(client, DEPLOYMENT, MANAGER, &self.deployment(controller)).await;
        }
        for object in self.sync_objects() {
            let kind = if object["kind"] == "GitRepository" { GIT_REPOSITORY } else { KUSTOMIZATION };
            apply(client, kind, MANAGER, &object).await;
        }
        let mut ready = vec![BUILT.to_owned()];
        for controller in CONTROLLERS {
            self.tell(
                inside,
                "Unknown",
                "Progressing",
                &format!("Waiting for Deployment/{}/{controller}", self.namespace),
            )
            .await;
            ready.push(inside.view.until(|view| view.ready_of(controller)).await.1);
        }
        let began = Instant::now();
        tokio::time::sleep(step).await;
        self.tell(inside, "True", "ReconciliationSucceeded", "Reconciliation finished").await;
        inside.world.recorder.fact("flux/instance-ready", began, ready);
    }

    async fn tell(&self, inside: &Inside, ready: &str, reason: &str, message: &str) {
        let mut status = json!({"conditions": [condition("Ready", ready, reason, message)]});
        if ready == "True" {
            status["lastAppliedRevision"] = json!(format!("v{}", self.version.trim_start_matches('v')));
            status["lastAttemptedRevision"] = status["lastAppliedRevision"].clone();
        }
        set_status(&inside.view.client, INSTANCE, Some(&self.namespace), &self.name, &status).await;
    }

    fn deployment(&self, name: &str) -> Value {
        let labels = json!({"app": name});
        let rest = json!({
            "metadata": {
                "labels": {"app.kubernetes.io/part-of": "flux", "app.kubernetes.io/component": name},
                "annotations": {CAUSE: BUILT},
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
        DEPLOYMENT.object(Some(&self.namespace), name, rest)
    }

    /// The GitRepository and the Kustomization that `spec.sync` asks for.
    fn sync_objects(&self) -> Vec<Value> {
        let Some(sync) = &self.sync else { return vec![] };
        let interval = sync["interval"].as_str().unwrap_or("1m");
        let mut repository = json!({
            "metadata": {}, "spec": {"interval": interval, "url": sync["url"], "ref": {"name": sync["ref"]}},
        });
        if let Some(secret) = sync["pullSecret"].as_str().filter(|secret| !secret.is_empty()) {
            repository["spec"]["secretRef"] = json!({"name": secret});
        }
        let kustomization = json!({
            "metadata": {},
            "spec": {
                "interval": "10m", "path": sync["path"], "prune": true,
                "sourceRef": {"kind": "GitRepository", "name": self.sync_name()},
            },
        });
        vec![
            GIT_REPOSITORY.object(Some(&self.namespace), self.sync_name(), repository),
            KUSTOMIZATION.object(Some(&self.namespace), self.sync_name(), kustomization),
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
        let objects = Instance::read(&object, vec![]).sync_objects();
        assert_eq!(objects[0]["metadata"]["name"], "flux-system");
        assert_eq!(objects[0]["spec"]["secretRef"]["name"], "github-deploy-key");
        assert_eq!(objects[1]["spec"]["path"], "clusters/infra/flux");
        assert_eq!(objects[1]["spec"]["sourceRef"]["name"], "flux-system");
    }
}
