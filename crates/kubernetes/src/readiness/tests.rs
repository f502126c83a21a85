use serde_json::{Value, json};

use super::*;

/// The object's readiness as one line.
fn summary_of(api_version: &str, kind: &str, rest: Value) -> String {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "generation": 2}});
    merge(&mut object, rest);
    match readiness(&object) {
        Readiness::Ready => "ready".to_owned(),
        Readiness::Progressing(reason) => reason,
        Readiness::Failed(reason) => format!("FAILED {reason}"),
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}

fn conditions(list: &[(&str, &str, &str, &str)]) -> Value {
    list.iter()
        .map(|(kind, status, reason, message)| json!({"type": kind, "status": status, "reason": reason, "message": message}))
        .collect()
}

fn table(api_version: &str, kind: &str, rows: &[(Value, &str)]) {
    for (rest, expected) in rows {
        assert_eq!(summary_of(api_version, kind, rest.clone()), *expected, "{kind}: {rest}");
    }
}

#[test]
fn deployments() {
    let status = |replicas: i64, updated: i64, ready: i64, available: &str| {
        json!({"spec": {"replicas": 2}, "status": {
            "observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready,
            "availableReplicas": ready, "conditions": conditions(&[("Available", available, "Minimum", "too few")]),
        }})
    };
    table(
        "apps/v1",
        "Deployment",
        &[
            (json!({"spec": {"replicas": 2}}), "was not observed by its controller yet"),
            (json!({"status": {"observedGeneration": 1}}), "has a change that its controller has not observed yet"),
            (status(1, 1, 1, "False"), "1/2 pods created"),
            (status(2, 1, 1, "True"), "1/2 pods updated"),
            (status(3, 2, 2, "True"), "1 old pods still terminating"),
            (status(2, 2, 1, "True"), "1/2 pods ready"),
            (status(2, 2, 2, "False"), "is not available: too few"),
            (status(2, 2, 2, "True"), "ready"),
            (
                json!({"status": {"observedGeneration": 2, "conditions": conditions(&[("Progressing", "False", "ProgressDeadlineExceeded", "x has timed out progressing.")])}}),
                "FAILED exceeded its progress deadline: x has timed out progressing.",
            ),
            (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), "is being deleted"),
        ],
    );
}

#[test]
fn daemon_sets() {
    let status = |desired: i64, current: i64, updated: i64, ready: i64| {
        json!({"status": {"observedGeneration": 2, "desiredNumberScheduled": desired, "currentNumberScheduled": current,
            "updatedNumberScheduled": updated, "numberReady": ready, "numberAvailable": ready}})
    };
    table(
        "apps/v1",
        "DaemonSet",
        &[
            (json!({}), "was not observed by its controller yet"),
            (json!({"status": {"observedGeneration": 2}}), "has no count of its nodes yet"),
            (status(6, 5, 5, 4), "5/6 pods created"),
            (status(6, 6, 5, 4), "5/6 pods updated"),
            (status(6, 6, 6, 4), "4/6 pods ready"),
            (status(6, 6, 6, 6), "ready"),
        ],
    );
}

#[test]
fn stateful_sets_and_replica_sets() {
    let status = |ready: i64, current: i64, updated: i64, revision: &str| {
        json!({"spec": {"replicas": 3}, "status": {"observedGeneration": 2, "replicas": 3, "readyReplicas": ready,
            "currentReplicas": current, "updatedReplicas": updated, "currentRevision": "a", "updateRevision": revision}})
    };
    let mut partition = status(3, 1, 2, "b");
    partition["spec"]["updateStrategy"] = json!({"rollingUpdate": {"partition": 1}});
    let mut on_delete = status(0, 0, 0, "b");
    on_delete["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    table(
        "apps/v1",
        "StatefulSet",
        &[
            (status(1, 3, 0, "a"), "1/3 pods ready"),
            (status(3, 2, 1, "b"), "2/3 pods current"),
            (status(3, 3, 3, "b"), "is still updating its pods"),
            (status(3, 3, 3, "a"), "ready"),
            (partition, "ready"),
            (on_delete, "ready"),
        ],
    );
    let failure = json!({"status": {"observedGeneration": 2, "conditions": conditions(&[("ReplicaFailure", "True", "FailedCreate", "forbidden")])}});
    table(
        "apps/v1",
        "ReplicaSet",
        &[
            (failure, "cannot create pods: forbidden"),
            (json!({"status": {"observedGeneration": 2, "replicas": 1}}), "0/1 pods ready"),
        ],
    );
}

#[test]
fn pods_and_jobs() {
    table(
        "v1",
        "Pod",
        &[
            (json!({"status": {"phase": "Succeeded"}}), "ready"),
            (json!({"status": {"phase": "Failed", "message": "Evicted"}}), "FAILED Evicted"),
            (json!({"status": {"phase": "Running", "conditions": conditions(&[("Ready", "True", "", "")])}}), "ready"),
            (
                json!({"status": {"phase": "Running", "conditions": conditions(&[("Ready", "False", "ContainersNotReady", "unready: [app]")])}}),
                "is not ready: ContainersNotReady: unready: [app]",
            ),
            (
                json!({"status": {"phase": "Pending", "conditions": conditions(&[("PodScheduled", "False", "Unschedulable", "0/3 nodes are available")])}}),
                "is not scheduled: 0/3 nodes are available",
            ),
        ],
    );
    table(
        "batch/v1",
        "Job",
        &[
            (json!({"spec": {"completions": 2}, "status": {"active": 1, "succeeded": 1}}), "1/2 pods succeeded"),
            (json!({"status": {"conditions": conditions(&[("Complete", "True", "", "")])}}), "ready"),
            (
                json!({"status": {"conditions": conditions(&[("Failed", "True", "BackoffLimitExceeded", "too often")])}}),
                "FAILED failed: BackoffLimitExceeded: too often",
            ),
        ],
    );
}

#[test]
fn kinds_of_kubernetes_without_pods() {
    table(
        "v1",
        "PersistentVolumeClaim",
        &[
            (json!({"status": {"phase": "Pending"}}), "is not bound to a volume"),
            (json!({"status": {"phase": "Bound"}}), "ready"),
        ],
    );
    table(
        "v1",
        "Service",
        &[
            (json!({"spec": {"type": "LoadBalancer"}}), "has no cluster IP"),
            (json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.9"}}), "ready"),
        ],
    );
    table("v1", "Namespace", &[(json!({"status": {"phase": "Terminating"}}), "is being deleted")]);
    table("v1", "ConfigMap", &[(json!({}), "ready")]);
    table("rbac.authorization.k8s.io/v1", "ClusterRole", &[(json!({}), "ready")]);
    table(
        "policy/v1",
        "PodDisruptionBudget",
        &[
            (json!({"status": {"observedGeneration": 1}}), "has a change that its controller has not observed yet"),
            (json!({"status": {"observedGeneration": 2}}), "ready"),
        ],
    );
    table(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        &[
            (json!({}), "is not established yet"),
            (
                json!({"status": {"conditions": conditions(&[("NamesAccepted", "False", "PluralConflict", "taken")])}}),
                "FAILED has a name conflict: PluralConflict: taken",
            ),
            (json!({"status": {"conditions": conditions(&[("Established", "True", "", "")])}}), "ready"),
        ],
    );
    table(
        "apiregistration.k8s.io/v1",
        "APIService",
        &[(
            json!({"status": {"conditions": conditions(&[("Available", "False", "MissingEndpoints", "no endpoints")])}}),
            "is not Available: MissingEndpoints: no endpoints",
        )],
    );
}

#[test]
fn a_webhook_waits_for_the_ca_that_will_be_injected() {
    let webhook = |bundle: &str, annotation: &str| {
        json!({"metadata": {"annotations": {annotation: "ns/ca"}}, "webhooks": [
            {"name": "by-url", "clientConfig": {"url": "https://a"}},
            {"name": "a.b.c", "clientConfig": {"service": {"name": "s"}, "caBundle": bundle}},
        ]})
    };
    table(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        &[
            (webhook("", "cert-manager.io/inject-ca-from"), "has no caBundle for its webhook a.b.c yet"),
            (webhook("Zm9v", "cert-manager.io/inject-ca-from"), "ready"),
            (webhook("", "other"), "ready"),
        ],
    );
}

#[test]
fn an_object_that_never_succeeded_gives_what_its_controller_said_last() {
    let report = |kind: &str, generation: i64, time: &str| {
        json!({"type": kind, "status": "False", "reason": "UpgradeFailed", "message": format!("{kind} at {time}"),
            "observedGeneration": generation, "lastTransitionTime": time})
    };
    let never = |conditions: Vec<Value>| json!({"status": {"observedGeneration": -1, "conditions": conditions}});
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
    table(
        "helm.toolkit.fluxcd.io/v2",
        "HelmRelease",
        &[
            (never(vec![]), "has a change that its controller has not observed yet"),
            (never(vec![report("Ready", 1, late)]), "has a change that its controller has not observed yet"),
            (
                never(vec![report("Released", 2, late), report("Ready", 2, early)]),
                "is not ready: UpgradeFailed: Ready at 2026-01-01T00:00:00Z",
            ),
            (
                never(vec![report("Released", 2, early), report("TestSuccess", 2, late), report("Ready", 1, late)]),
                "is not ready: UpgradeFailed: TestSuccess at 2026-01-01T00:01:00Z",
            ),
            (
                never(vec![
                    json!({"type": "Stalled", "status": "True", "reason": "RetriesExceeded", "observedGeneration": 2}),
                ]),
                "FAILED is stalled: RetriesExceeded",
            ),
        ],
    );
}

#[test]
fn custom_kinds_by_their_conditions() {
    let outdated = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]}});
    table(
        "example.com/v1",
        "Widget",
        &[
            (json!({}), "ready"),
            (json!({"status": {"observedGeneration": 1}}), "has a change that its controller has not observed yet"),
            (outdated, "has a change that its controller has not observed yet"),
            (json!({"status": {"conditions": conditions(&[("Ready", "True", "", "")])}}), "ready"),
            (
                json!({"status": {"conditions": conditions(&[("Ready", "False", "Waiting", "for x")])}}),
                "is not ready: Waiting: for x",
            ),
            (
                json!({"status": {"conditions": conditions(&[("Ready", "True", "", ""), ("Reconciling", "True", "Progressing", "")])}}),
                "is reconciling: Progressing",
            ),
            (
                json!({"status": {"conditions": conditions(&[("Ready", "False", "", ""), ("Stalled", "True", "InvalidURL", "no scheme")])}}),
                "FAILED is stalled: InvalidURL: no scheme",
            ),
        ],
    );
    let suspended = json!({"spec": {"suspend": true}});
    table(
        "source.toolkit.fluxcd.io/v1",
        "GitRepository",
        &[(json!({}), "was not observed by its controller yet"), (suspended, "ready")],
    );
    table("source.toolkit.fluxcd.io/v1", "HelmRepository", &[(json!({"spec": {"type": "oci"}}), "ready")]);
}
