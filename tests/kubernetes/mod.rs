//! The adapter to Kubernetes against a real API server.
#![allow(clippy::unwrap_used)]

mod conversion;
mod drain;
mod installed;
mod lease;
mod server;

use std::sync::Mutex;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kubernetes::{
    ApplyOptions, ExpectedNodes, GateError, ObjectDrift, ObjectRef, WaitReason, apply, delete, dry_run_create, get,
    list, object_drifts, secrets, wait_admitted, wait_condition, wait_crds, wait_nodes_ready, wait_ready,
};
use serde_json::{Value, json};
use server::{Bridge, server};
use test_support::{Condition, Deadline, wait_until_async};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const US: ApplyOptions<'_> =
    ApplyOptions { field_manager: "k8s-bootstrap", force: false, default_namespace: "default" };

fn quiet(_: &WaitReason) {}

/// The lines that a gate reports.
struct Lines(Mutex<Vec<String>>, UnboundedSender<String>);

impl Lines {
    fn new() -> (Self, UnboundedReceiver<String>) {
        let (sender, receiver) = unbounded_channel();
        (Self(Mutex::default(), sender), receiver)
    }

    fn push(&self, reason: &WaitReason) {
        self.0.lock().unwrap().push(reason.text.clone());
        self.1.send(reason.text.clone()).ok();
    }
}

/// Waits for a line that contains `words`.
async fn until_reported(lines: &mut UnboundedReceiver<String>, words: &str) -> String {
    loop {
        let line = lines.recv().await.unwrap();
        if line.contains(words) {
            return line;
        }
    }
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn config_map(namespace: &str, name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": {"key": value}})
}

fn deployment(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}, "annotations": {}},
            "spec": {"hostNetwork": false, "containers": [{
                "name": "app", "image": "ghcr.io/acme/app:1", "env": [{"name": "EMPTY", "value": ""}],
                "ports": [{"containerPort": 8080, "name": "http"}],
                "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
            }]},
        }},
    })
}

/// A definition of the kind `kind` in a group of its own.
fn definition(group: &str, kind: &str) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "creationTimestamp": null},
        "spec": {
            "group": group, "scope": "Namespaced", "preserveUnknownFields": false,
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
        "status": {"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": []},
    })
}

async fn patch_status(
    client: &Client,
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    status: Value,
) {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await.unwrap();
}

#[tokio::test]
async fn what_was_applied_is_no_difference_and_every_change_is_one() {
    let client = server().client();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "covers", "labels": {"owner": "helm"}},
        "stringData": {"token": "t0psecret"}, "data": {"kept": "aw=="},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns", "namespace": "covers"},
        "spec": {"selector": {"app": "dns"}, "ports": [
            {"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "tcp", "port": 53, "protocol": "TCP"},
        ]},
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
         "metadata": {"name": "covers", "namespace": "strayed"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
        config_map("covers", "c", "1"),
    ]});
    let objects = [
        list,
        deployment("covers", "app"),
        service,
        secret,
        definition("covers.example.com", "Cover"),
        namespace("covers"),
    ];
    let absent = object_drifts(&client, &US, &objects).await.unwrap();
    assert_eq!(absent.len(), 7);
    assert!(absent.iter().all(|(_, drift)| *drift == ObjectDrift::Absent));
    let applied = apply(&client, &US, &objects, &quiet).await.unwrap();
    assert_eq!(applied[0].to_string(), "Namespace covers");
    assert_eq!(applied[1].to_string(), "CustomResourceDefinition covers.covers.example.com");
    assert_eq!(applied.len(), 7);
    assert_eq!(object_drifts(&client, &US, &objects).await.unwrap(), []);
    apply(&client, &US, &objects, &quiet).await.unwrap();

    let mut changed = deployment("covers", "app");
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = json!("ghcr.io/acme/app:2");
    let found = object_drifts(&client, &US, &[changed]).await.unwrap();
    assert_eq!(found[0].1.to_string(), ".spec.template.spec.containers[name=app].image differs");

    let owned = secrets(&client, "covers", "owner=helm").await.unwrap();
    assert_eq!(owned[0].data.as_ref().unwrap()["token"].0, b"t0psecret");
    let reference = ObjectRef::new("v1", "ConfigMap", Some("covers"), "c");
    assert_eq!(get(&client, &reference).await.unwrap().unwrap()["data"]["key"], "1");
    delete(&client, &reference).await.unwrap();
    delete(&client, &reference).await.unwrap();
    assert_eq!(get(&client, &reference).await.unwrap(), None);
    let deployments = list_names(&client, "apps/v1", "Deployment").await;
    assert_eq!(deployments, ["app"]);
    assert_eq!(list_names(&client, "no.such/v1", "Thing").await, Vec::<String>::new());
}

async fn list_names(client: &Client, api_version: &str, kind: &str) -> Vec<String> {
    let found = list(client, api_version, kind, Some("covers")).await.unwrap();
    assert!(found.iter().all(|object| object["kind"] == kind));
    found.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_object_of_flux_is_held() {
    let client = server().client();
    let mut owned = config_map("default", "of-flux", "1");
    owned["metadata"]["labels"] = json!({
        "kustomize.toolkit.fluxcd.io/name": "cluster", "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    });
    apply(&client, &US, &[owned], &quiet).await.unwrap();
    let found = object_drifts(&client, &US, &[config_map("default", "of-flux", "2")]).await.unwrap();
    assert_eq!(found[0].1.to_string(), "is managed by Flux's Kustomization flux-system/cluster");
    assert!(!found[0].1.needs_apply());
}

#[tokio::test]
async fn a_conflict_names_both_managers_and_force_takes_the_fields() {
    let client = server().client();
    let helm = ApplyOptions::new("helm");
    apply(&client, &helm, &[config_map("default", "contested", "theirs")], &quiet).await.unwrap();
    let ours = [config_map("default", "contested", "ours")];
    let error = apply(&client, &US, &ours, &quiet).await.unwrap_err();
    assert!(!error.is_retryable());
    insta::assert_snapshot!(error, @r#"ConfigMap default/contested: field manager "k8s-bootstrap" conflicts with "helm" over .data.key"#);
    apply(&client, &ApplyOptions { force: true, ..US }, &ours, &quiet).await.unwrap();
    assert_eq!(object_drifts(&client, &US, &ours).await.unwrap(), []);
}

#[tokio::test]
async fn a_definition_and_its_object_go_in_by_one_apply() {
    let client = server().client();
    let widget = json!({"apiVersion": "together.example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}});
    let objects = [widget, definition("together.example.com", "Widget")];
    let applied = apply(&client, &US, &objects, &quiet).await.unwrap();
    assert_eq!(applied[1].to_string(), "Widget default/w");
    assert_eq!(object_drifts(&client, &US, &objects).await.unwrap(), []);
}

#[tokio::test]
async fn an_unserved_kind_is_reported_with_its_possible_providers() {
    let client = server().client();
    let pool = json!({"apiVersion": "cilium.io/v2", "kind": "CiliumLoadBalancerIPPool", "metadata": {"name": "pool"}});
    let error = apply(&client, &US, &[pool], &quiet).await.unwrap_err();
    assert!(!error.is_retryable());
    insta::assert_snapshot!(error, @"CiliumLoadBalancerIPPool pool: the API server does not serve CiliumLoadBalancerIPPool of cilium.io/v2; its CustomResourceDefinition is not installed by an earlier release, or its operator has not registered it yet");
}

#[tokio::test]
async fn a_field_that_does_not_exist_is_not_tried_again() {
    let client = server().client();
    let mut wrong = deployment("default", "wrong");
    wrong["spec"]["replica"] = json!(3);
    let error = apply(&client, &US, &[wrong], &quiet).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert!(error.to_string().contains(".spec.replica: field not declared in schema"), "{error}");
}

#[tokio::test]
async fn a_condition_is_awaited_of_an_object_whose_kind_does_not_exist_yet() {
    let client = server().client();
    let object = ObjectRef::new("later.example.com/v1", "Instance", Some("default"), "flux");
    let (lines, mut seen) = Lines::new();
    let progress = |reason: &WaitReason| lines.push(reason);
    let controllers = async {
        until_reported(&mut seen, "the definition of Instance in later.example.com is not registered yet").await;
        apply(&client, &US, &[definition("later.example.com", "Instance")], &quiet).await.unwrap();
        until_reported(&mut seen, "Instance default/flux does not exist yet").await;
        let instance = json!({"apiVersion": "later.example.com/v1", "kind": "Instance", "metadata": {"name": "flux"}, "spec": {"size": 1}});
        apply(&client, &US, &[instance], &quiet).await.unwrap();
        until_reported(&mut seen, "has no condition Ready yet").await;
        let status = |ready: &str| json!({"observedGeneration": 1, "conditions": [{"type": "Ready", "status": ready, "reason": "Progressing", "message": "2 of 4 controllers"}]});
        patch_status(&client, "later.example.com/v1", "Instance", Some("default"), "flux", status("False")).await;
        until_reported(&mut seen, "Instance default/flux is not Ready: Progressing: 2 of 4 controllers").await;
        patch_status(&client, "later.example.com/v1", "Instance", Some("default"), "flux", status("True")).await;
    };
    let (outcome, ()) = tokio::join!(wait_condition(&client, &object, "Ready", &progress), controllers);
    assert_eq!(outcome.unwrap()["spec"]["size"], 1);
}

const READY: fn() -> Value = || {
    json!({
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        "conditions": [{"type": "Available", "status": "True", "reason": "Minimum", "message": ""}],
    })
};

#[tokio::test]
async fn a_gate_reports_the_pull_error_and_opens_when_all_are_ready() {
    let client = server().client();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gated-7f9-x", "namespace": "gate", "labels": {"app": "gated"}},
        "spec": {"nodeName": "infra-w-01", "containers": [{"name": "app", "image": "ghcr.io/acme/app:1"}]},
    });
    let objects = [namespace("gate"), deployment("gate", "gated"), deployment("gate", "second"), pod];
    let mut applied = apply(&client, &US, &objects, &quiet).await.unwrap();
    applied.retain(|object| object.kind != "Pod");
    let (lines, mut seen) = Lines::new();
    let progress = |reason: &WaitReason| lines.push(reason);
    let controllers = async {
        let patch = |kind: &'static str, name: &'static str, status: Value| {
            let api_version = if kind == "Pod" { "v1" } else { "apps/v1" };
            patch_status(&client, api_version, kind, Some("gate"), name, status)
        };
        until_reported(&mut seen, "2 of 3 not ready: Deployment gate/gated was not observed by its controller yet")
            .await;
        patch("Deployment", "gated", json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1})).await;
        patch("Pod", "gated-7f9-x", json!({"phase": "Pending", "containerStatuses": [{
            "name": "app", "image": "a", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {
                "reason": "ImagePullBackOff", "message": "Back-off pulling image \"a\": ErrImagePull: 429 Too Many Requests",
            }},
        }]})).await;
        let line = until_reported(&mut seen, "429").await;
        insta::assert_snapshot!(line, @r#"2 of 3 not ready: Deployment gate/gated 0/1 pods ready: pod gated-7f9-x on infra-w-01: image a cannot be pulled (ImagePullBackOff): 429 Too Many Requests"#);
        patch("Deployment", "gated", READY()).await;
        until_reported(&mut seen, "1 of 3 not ready: Deployment gate/second").await;
        patch("Deployment", "second", READY()).await;
    };
    let (outcome, ()) = tokio::join!(wait_ready(&client, &applied, &progress), controllers);
    outcome.unwrap();
}

#[tokio::test]
async fn a_job_that_failed_closes_the_gate_with_its_cause() {
    let client = server().client();
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "startupapicheck", "namespace": "default"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "check", "image": "a"}]}}},
    });
    let applied = apply(&client, &US, &[job], &quiet).await.unwrap();
    let now = "2026-01-01T00:00:00Z";
    let failed = |kind: &str| json!({"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit", "lastTransitionTime": now});
    let status = json!({"startTime": now, "failed": 1, "conditions": [failed("FailureTarget"), failed("Failed")]});
    patch_status(&client, "batch/v1", "Job", Some("default"), "startupapicheck", status).await;
    let error = wait_ready(&client, &applied, &quiet).await.unwrap_err();
    assert!(matches!(error, GateError::Failed { .. }) && !error.is_retryable());
    insta::assert_snapshot!(error, @"Job default/startupapicheck failed: BackoffLimitExceeded: Job has reached the specified backoff limit");
}

#[tokio::test]
async fn a_gate_outlives_an_api_that_goes_away() {
    let server = server();
    let bridge = Bridge::to(server.address).await;
    let (near, far) = (server.client(), server.client_by(bridge.address));
    let applied = apply(&near, &US, &[deployment("default", "flapped")], &quiet).await.unwrap();
    let (lines, mut seen) = Lines::new();
    let progress = |reason: &WaitReason| lines.push(reason);
    let controllers = async {
        until_reported(&mut seen, "1 of 1 not ready").await;
        bridge.cut();
        until_reported(&mut seen, "the Kubernetes API does not respond").await;
        patch_status(&near, "apps/v1", "Deployment", Some("default"), "flapped", READY()).await;
        bridge.restore();
    };
    let (outcome, ()) = tokio::join!(wait_ready(&far, &applied, &progress), controllers);
    outcome.unwrap();
}

#[tokio::test]
async fn an_apply_outlives_an_api_that_goes_away() {
    let server = server();
    let bridge = Bridge::to(server.address).await;
    bridge.cut();
    let client = server.client_by(bridge.address);
    let object = [config_map("default", "patient", "1")];
    let restore = async {
        bridge.refused().await;
        bridge.restore();
    };
    let (outcome, ()) = tokio::join!(apply(&client, &US, &object, &quiet), restore);
    outcome.unwrap();
}

#[tokio::test]
async fn a_webhook_that_cannot_be_asked_is_awaited_with_its_reason() {
    let client = server().client();
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "unreachable"},
        "webhooks": [{
            "name": "webhook.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1:1/validate"},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "hooked"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
        }],
    });
    let applied = apply(&client, &US, &[namespace("hooked"), webhook], &quiet).await.unwrap();
    let object = config_map("hooked", "asked", "1");
    let (lines, mut seen) = Lines::new();
    let progress = |reason: &WaitReason| lines.push(reason);
    // The API server's own informers learn of the webhook a moment later.
    let error = wait_until_async(Deadline::after(Duration::from_secs(30)), async || {
        match dry_run_create(&client, &object).await {
            Err(error) => Condition::Met(error),
            Ok(()) => Condition::Unmet("the webhook is not called yet".to_owned()),
        }
    })
    .await;
    assert!(error.is_retryable(), "{error}");
    let error = apply(&client, &US, std::slice::from_ref(&object), &quiet).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let controllers = async {
        let line = until_reported(&mut seen, "is unreachable").await;
        insta::assert_snapshot!(line, @"ConfigMap hooked/asked: admission webhook webhook.example.com is unreachable: dial tcp 127.0.0.1:1: connect: connection refused");
        delete(&client, &applied[1]).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(wait_admitted(&client, &object, &progress), controllers);
    outcome.unwrap();
    let there = get(&client, &ObjectRef::from_manifest(&object).unwrap()).await.unwrap();
    assert_eq!(there, None, "a dry run kept its object");
}

#[tokio::test]
async fn definitions_are_awaited_by_name() {
    let client = server().client();
    let names = ["firsts.named.example.com", "seconds.named.example.com"].map(str::to_owned);
    let (lines, mut seen) = Lines::new();
    let progress = |reason: &WaitReason| lines.push(reason);
    let controllers = async {
        until_reported(
            &mut seen,
            "0 of 2 CustomResourceDefinitions established: firsts.named.example.com does not exist yet",
        )
        .await;
        apply(&client, &US, &[definition("named.example.com", "First")], &quiet).await.unwrap();
        until_reported(
            &mut seen,
            "1 of 2 CustomResourceDefinitions established: seconds.named.example.com does not exist yet",
        )
        .await;
        apply(&client, &US, &[definition("named.example.com", "Second")], &quiet).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(wait_crds(&client, &names, &progress), controllers);
    outcome.unwrap();
}

/// What a kubelet reports of its machine.
fn node_info(boot: &str) -> Value {
    let fields = [
        "machineID",
        "systemUUID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ];
    let mut info: Value = fields.iter().map(|field| ((*field).to_owned(), json!("x"))).collect();
    info["bootID"] = json!(boot);
    info
}

#[tokio::test]
async fn nodes_are_awaited_with_the_kubelets_reason() {
    let client = server().client();
    let expected: ExpectedNodes = [("n1".to_owned(), None), ("n2".to_owned(), Some("second boot".to_owned()))].into();
    let node = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let ready = |status: &str, message: &str| json!({"conditions": [{"type": "Ready", "status": status, "message": message, "reason": "Kubelet"}]});
    let (lines, mut seen) = Lines::new();
    let progress = |reason: &WaitReason| lines.push(reason);
    let controllers = async {
        until_reported(&mut seen, "0 of 2 nodes Ready; n1, n2: not registered").await;
        apply(&client, &US, &[node("n1"), node("n2")], &quiet).await.unwrap();
        patch_status(&client, "v1", "Node", None, "n1", ready("True", "")).await;
        let mut unready = ready("False", "cni plugin not initialized");
        patch_status(&client, "v1", "Node", None, "n2", ready("True", "")).await;
        let replaced = "1 of 2 nodes Ready; n2: its kubelet has not reported since the machine booted";
        until_reported(&mut seen, replaced).await;
        unready["nodeInfo"] = node_info("second boot");
        patch_status(&client, "v1", "Node", None, "n2", unready).await;
        until_reported(&mut seen, "1 of 2 nodes Ready; n2: cni plugin not initialized").await;
        patch_status(&client, "v1", "Node", None, "n2", ready("True", "")).await;
    };
    let (outcome, ()) = tokio::join!(wait_nodes_ready(&client, &expected, &progress), controllers);
    outcome.unwrap();
}
