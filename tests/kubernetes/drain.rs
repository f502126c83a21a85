//! Cordon and drain against a real API server.

use std::time::Duration;

use kube::Client;
use kubernetes::{CORDONED, DrainError, ObjectRef, Scheduling, apply, cordon, delete, drain, get, nodes, uncordon};
use serde_json::{Value, json};

use super::server::server;
use super::{US, namespace, patch_status, quiet};

/// A pod that ends at once when it is deleted: no kubelet runs that would end it.
fn pod(name: &str, node: &str, owner: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "drain", "labels": {"app": name}, "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": owner, "name": "owner", "uid": "1", "controller": true},
        ]},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": "x:1"}]},
    })
}

async fn names(client: &Client) -> Vec<String> {
    let pods = kubernetes::list(client, "v1", "Pod", Some("drain")).await.unwrap();
    let mut names: Vec<String> = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_drain_respects_disruption_budgets_and_leaves_daemon_sets() {
    let client = server().client();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "drained"}});
    // Without a controller its status allows no disruption.
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "guard", "namespace": "drain"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}},
    });
    let objects = [
        namespace("drain"),
        node,
        budget.clone(),
        pod("guarded", "drained", "ReplicaSet"),
        pod("free", "drained", "ReplicaSet"),
        pod("agent", "drained", "DaemonSet"),
    ];
    apply(&client, &US, &objects, &quiet).await.unwrap();
    // A budget does not cover a pod that does not run.
    let running = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    patch_status(&client, "v1", "Pod", Some("drain"), "guarded", running).await;
    let limit = Duration::from_secs(2);
    let error = drain(&client, "drained", limit, &quiet).await.unwrap_err();
    let DrainError::Stuck { pod, reason, .. } = &error else { panic!("{error}") };
    assert_eq!(pod, "drain/guarded");
    assert!(reason.contains("PodDisruptionBudget guard allows no disruption"), "{reason}");
    assert!(!names(&client).await.contains(&"free".to_owned()));

    delete(&client, &ObjectRef::from_manifest(&budget).unwrap()).await.unwrap();
    drain(&client, "drained", limit, &quiet).await.unwrap();
    assert_eq!(names(&client).await, ["agent"]);
}

#[tokio::test]
async fn only_our_own_cordon_is_undone() {
    let client = server().client();
    let named = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let mut theirs = named("theirs");
    theirs["spec"]["unschedulable"] = true.into();
    apply(&client, &US, &[named("ours"), theirs], &quiet).await.unwrap();
    for name in ["ours", "theirs"] {
        cordon(&client, name).await.unwrap();
        cordon(&client, name).await.unwrap();
    }
    let seen = nodes(&client).await.unwrap();
    assert_eq!((seen["ours"].scheduling, seen["theirs"].scheduling), (Scheduling::CordonedByUs, Scheduling::Cordoned));
    for name in ["ours", "theirs", "absent"] {
        uncordon(&client, name).await.unwrap();
    }
    let seen = nodes(&client).await.unwrap();
    assert_eq!((seen["ours"].scheduling, seen["theirs"].scheduling), (Scheduling::Allowed, Scheduling::Cordoned));
    let ours = get(&client, &ObjectRef::new("v1", "Node", None, "ours")).await.unwrap().unwrap();
    assert!(ours["metadata"]["annotations"][CORDONED].is_null(), "{ours}");
}
