//! source-controller and kustomize-controller: the repository is fetched, and what it holds is there.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::adoption;
use super::instance::Instance;
use super::kinds::{GIT_REPOSITORY, KUSTOMIZATION};
use crate::cluster::Inside;
use crate::operators::objects::{apply, condition, set_status};

const MANAGER: &str = "kustomize-controller";
/// Between two looks for a Secret that is not there.
const PAUSE: Duration = Duration::from_millis(100);

/// The Kustomizations that the root one brings, each with the one it depends on.
const BELOW: [(&str, Option<&str>); 3] = [
    ("cluster-infrastructure", None),
    ("cluster-apps", Some("cluster-infrastructure")),
    ("cluster-local", Some("cluster-apps")),
];

/// Fetches and applies what the instance's sync names, and goes on with the releases in it.
pub(super) async fn run(inside: &Inside, instance: &Instance) {
    let Some(sync) = &instance.sync else { return };
    let (_, source) = inside.view.until(|view| view.ready_of("source-controller")).await;
    let revision = revision(sync);
    fetch(inside, instance, sync, &revision, source).await;
    let (_, kustomize) = inside.view.until(|view| view.ready_of("kustomize-controller")).await;
    let began = Instant::now();
    tokio::time::sleep(inside.world.scenario.operators.kustomize.duration()).await;
    for (name, after) in BELOW {
        bring(inside, instance, name, after).await;
    }
    adoption::bring(inside).await;
    kustomized(inside, instance, instance.sync_name(), &revision).await;
    let causes = [kustomize, "flux/repository-ready".to_owned()];
    inside.world.recorder.fact("flux/kustomization-ready", began, causes);
    adoption::run(inside).await;
    for (name, _) in BELOW {
        kustomized(inside, instance, name, &revision).await;
    }
}

/// What source-controller calls the commit that it fetched.
fn revision(sync: &Value) -> String {
    let reference = sync["ref"].as_str().unwrap_or("refs/heads/main");
    let digest = Sha256::digest(sync.to_string().as_bytes());
    let commit: String = digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    format!("{reference}@sha1:{commit}")
}

async fn fetch(inside: &Inside, instance: &Instance, sync: &Value, revision: &str, source: String) {
    let (client, namespace, name) = (&inside.view.client, instance.namespace.as_str(), instance.sync_name());
    let api = GIT_REPOSITORY.api(client, Some(namespace));
    while api.get(name).await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    if let Some(secret) = sync["pullSecret"].as_str().filter(|secret| !secret.is_empty()) {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let mut told = false;
        while secrets.get_metadata(secret).await.is_err() {
            if !std::mem::replace(&mut told, true) {
                let message = format!("failed to get secret '{namespace}/{secret}': secrets \"{secret}\" not found");
                let status = json!({"conditions": [condition("Ready", "False", "AuthenticationFailed", &message)]});
                set_status(client, GIT_REPOSITORY, Some(namespace), name, &status).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    let began = Instant::now();
    tokio::time::sleep(inside.world.scenario.operators.git_fetch.duration()).await;
    let message = format!("stored artifact for revision '{revision}'");
    let status = json!({
        "observedGeneration": 1,
        "artifact": {
            "revision": revision, "path": format!("gitrepository/{namespace}/{name}/latest.tar.gz"),
            "url": format!("http://source-controller.{namespace}.svc.cluster.local./gitrepository/{namespace}/{name}/latest.tar.gz"),
            "lastUpdateTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        },
        "conditions": [
            condition("Ready", "True", "Succeeded", &message),
            condition("ArtifactInStorage", "True", "Succeeded", &message),
        ],
    });
    set_status(client, GIT_REPOSITORY, Some(namespace), name, &status).await;
    inside.world.recorder.fact("flux/repository-ready", began, [source]);
}

/// Applies a Kustomization below the root one; at first it is not Ready.
async fn bring(inside: &Inside, instance: &Instance, name: &str, after: Option<&str>) {
    let client = &inside.view.client;
    let mut rest = json!({
        "metadata": {},
        "spec": {
            "interval": "1h", "path": format!("./{name}"), "prune": true,
            "sourceRef": {"kind": "GitRepository", "name": instance.sync_name()},
        },
    });
    let (status, reason, message) = match after {
        None => ("Unknown", "Progressing", "Reconciliation in progress".to_owned()),
        Some(after) => {
            rest["spec"]["dependsOn"] = json!([{"name": after}]);
            let message = format!("dependency '{}/{after}' is not ready", instance.namespace);
            ("False", "DependencyNotReady", message)
        }
    };
    apply(client, KUSTOMIZATION, MANAGER, &KUSTOMIZATION.object(Some(&instance.namespace), name, rest)).await;
    let status = json!({"conditions": [condition("Ready", status, reason, &message)]});
    set_status(client, KUSTOMIZATION, Some(&instance.namespace), name, &status).await;
}

/// A Kustomization whose objects are all applied.
async fn kustomized(inside: &Inside, instance: &Instance, name: &str, revision: &str) {
    let message = format!("Applied revision: {revision}");
    let status = json!({
        "observedGeneration": 1, "lastAppliedRevision": revision, "lastAttemptedRevision": revision,
        "conditions": [condition("Ready", "True", "ReconciliationSucceeded", &message)],
    });
    set_status(&inside.view.client, KUSTOMIZATION, Some(&instance.namespace), name, &status).await;
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
