//! Whether an object has become what its spec says: the rules of kstatus (sigs.k8s.io/cli-utils) for built-in kinds,
//! conditions for custom ones.

use serde_json::Value;

/// Where an object stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Not yet, and why.
    Progressing(String),
    /// It will not become ready by itself, and why.
    Failed(String),
}

fn progressing(reason: impl Into<String>) -> Readiness {
    Readiness::Progressing(reason.into())
}

/// Kinds that are ready as soon as they exist. A load balancer's address is none of a gate's business: the network
/// that hands it out may be what is being installed (K01).
const EXISTENCE: [&str; 26] = [
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "Service",
    "Endpoints",
    "EndpointSlice",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "NetworkPolicy",
    "PriorityClass",
    "IngressClass",
    "StorageClass",
    "RuntimeClass",
    "Ingress",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "LimitRange",
    "ResourceQuota",
    "CronJob",
    "Lease",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "FlowSchema",
    "PriorityLevelConfiguration",
];

/// Whether an object of this kind can be there without being ready.
pub(super) fn takes_time(kind: &str) -> bool {
    !EXISTENCE.contains(&kind)
}

/// Judges a live object.
pub fn readiness(object: &Value) -> Readiness {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    if !takes_time(kind) {
        return Readiness::Ready;
    }
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return progressing("it is being deleted");
    }
    if let Some(reason) = outdated(object) {
        return progressing(reason);
    }
    match kind {
        "Deployment" => deployment(object),
        "ReplicaSet" => replicas(object, "/status/readyReplicas", "ready"),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        "Job" => job(object),
        "Pod" => pod(object),
        "PersistentVolumeClaim" => phase(object, "Bound"),
        "Namespace" => phase(object, "Active"),
        "CustomResourceDefinition" => crd(object),
        "APIService" => condition(object, "Available"),
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => webhooks(object),
        _ => custom(object),
    }
}

/// The controller has not seen the newest spec.
fn outdated(object: &Value) -> Option<String> {
    let seen = object.pointer("/status/observedGeneration")?.as_i64()?;
    let now = object.pointer("/metadata/generation")?.as_i64()?;
    (seen < now).then(|| "its controller has not seen the newest spec".to_owned())
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// A condition's status, reason and message.
pub(super) fn find_condition<'o>(object: &'o Value, name: &str) -> Option<(&'o str, &'o str, &'o str)> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition.get("type").and_then(Value::as_str) == Some(name))?;
    let text = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or_default();
    Some((text("status"), text("reason"), text("message")))
}

fn wish(object: &Value) -> i64 {
    object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

fn replicas(object: &Value, pointer: &str, what: &str) -> Readiness {
    let (have, want) = (number(object, pointer), wish(object));
    if have < want { progressing(format!("{have}/{want} pods {what}")) } else { Readiness::Ready }
}

fn deployment(object: &Value) -> Readiness {
    if let Some(("False", "ProgressDeadlineExceeded", message)) = find_condition(object, "Progressing") {
        return Readiness::Failed(message.to_owned());
    }
    if let Some(("True", _, message)) = find_condition(object, "ReplicaFailure") {
        return progressing(message);
    }
    if object.pointer("/status/observedGeneration").is_none() {
        return progressing("its controller has not seen it");
    }
    let (updated, all) = (number(object, "/status/updatedReplicas"), number(object, "/status/replicas"));
    if updated < wish(object) {
        return progressing(format!("{updated}/{} pods updated", wish(object)));
    }
    if all > updated {
        return progressing(format!("{} old pods are still there", all - updated));
    }
    replicas(object, "/status/availableReplicas", "ready")
}

fn stateful_set(object: &Value) -> Readiness {
    let updated = replicas(object, "/status/updatedReplicas", "updated");
    if updated == Readiness::Ready { replicas(object, "/status/readyReplicas", "ready") } else { updated }
}

fn daemon_set(object: &Value) -> Readiness {
    if object.pointer("/status/observedGeneration").is_none() {
        return progressing("its controller has not seen it");
    }
    let want = number(object, "/status/desiredNumberScheduled");
    let updated = number(object, "/status/updatedNumberScheduled");
    let available = number(object, "/status/numberAvailable");
    if updated < want {
        return progressing(format!("{updated}/{want} pods updated"));
    }
    if available < want { progressing(format!("{available}/{want} pods ready")) } else { Readiness::Ready }
}

fn job(object: &Value) -> Readiness {
    match (find_condition(object, "Complete"), find_condition(object, "Failed")) {
        (Some(("True", ..)), _) => Readiness::Ready,
        (_, Some(("True", reason, message))) => Readiness::Failed(format!("{reason}: {message}")),
        _ => progressing("it has not completed"),
    }
}

fn pod(object: &Value) -> Readiness {
    match object.pointer("/status/phase").and_then(Value::as_str).unwrap_or("Pending") {
        "Succeeded" => Readiness::Ready,
        "Failed" => Readiness::Failed("it failed".to_owned()),
        _ => condition(object, "Ready"),
    }
}

fn phase(object: &Value, wanted: &str) -> Readiness {
    let phase = object.pointer("/status/phase").and_then(Value::as_str).unwrap_or("Pending");
    if phase == wanted { Readiness::Ready } else { progressing(format!("it is {phase}")) }
}

fn crd(object: &Value) -> Readiness {
    if let Some(("False", reason, message)) = find_condition(object, "NamesAccepted") {
        return Readiness::Failed(format!("{reason}: {message}"));
    }
    condition(object, "Established")
}

fn condition(object: &Value, name: &str) -> Readiness {
    match find_condition(object, name) {
        Some(("True", ..)) => Readiness::Ready,
        Some((_, reason, message)) => progressing(told(reason, message)),
        None => progressing(format!("it has no condition {name} yet")),
    }
}

fn told(reason: &str, message: &str) -> String {
    match (reason.is_empty(), message.is_empty()) {
        (_, true) => reason.to_owned(),
        (true, false) => message.to_owned(),
        (false, false) => format!("{reason}: {message}"),
    }
}

/// A webhook that waits for a certificate refuses everything until its bundle is injected (H05).
fn webhooks(object: &Value) -> Readiness {
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let injected = annotations.into_iter().flatten().any(|(key, _)| key.starts_with("cert-manager.io/inject-"));
    let webhooks = object.get("webhooks").and_then(Value::as_array).into_iter().flatten();
    let bare = webhooks
        .filter(|webhook| webhook.pointer("/clientConfig/service").is_some())
        .filter(|webhook| {
            let bundle = webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str);
            bundle.unwrap_or_default().is_empty()
        })
        .count();
    if injected && bare > 0 { progressing("its CA bundle is not injected yet") } else { Readiness::Ready }
}

fn custom(object: &Value) -> Readiness {
    if let Some(("True", reason, message)) = find_condition(object, "Stalled") {
        return Readiness::Failed(told(reason, message));
    }
    match find_condition(object, "Ready").or_else(|| find_condition(object, "Available")) {
        Some(("True", ..)) => Readiness::Ready,
        Some((_, reason, message)) => progressing(told(reason, message)),
        // A kind without conditions is what it is.
        None => match find_condition(object, "Reconciling") {
            Some(("True", reason, message)) => progressing(told(reason, message)),
            _ => Readiness::Ready,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, spec: Value, status: Value) -> Value {
        json!({"kind": kind, "metadata": {"name": "x", "generation": 1}, "spec": spec, "status": status})
    }

    #[test]
    fn built_in_kinds_follow_their_own_numbers() {
        let cases = [
            (
                object(
                    "Deployment",
                    json!({"replicas": 2}),
                    json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}),
                ),
                progressing("1/2 pods ready"),
            ),
            (
                object(
                    "Deployment",
                    json!({}),
                    json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}),
                ),
                Readiness::Ready,
            ),
            (object("Deployment", json!({}), json!({})), progressing("its controller has not seen it")),
            (
                object("Deployment", json!({}), json!({"observedGeneration": 0})),
                progressing("its controller has not seen the newest spec"),
            ),
            (
                object(
                    "DaemonSet",
                    json!({}),
                    json!({"observedGeneration": 1, "desiredNumberScheduled": 6, "updatedNumberScheduled": 6, "numberAvailable": 4}),
                ),
                progressing("4/6 pods ready"),
            ),
            (
                object(
                    "Job",
                    json!({}),
                    json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}]}),
                ),
                Readiness::Failed("BackoffLimitExceeded: too often".to_owned()),
            ),
            (object("PersistentVolumeClaim", json!({}), json!({"phase": "Pending"})), progressing("it is Pending")),
            (object("ConfigMap", json!({}), json!({})), Readiness::Ready),
        ];
        for (object, expected) in cases {
            assert_eq!(readiness(&object), expected, "{object}");
        }
    }

    #[test]
    fn custom_kinds_follow_their_conditions() {
        let conditions =
            |list: Value| object("Issuer", json!({}), json!({"observedGeneration": 1, "conditions": list}));
        assert_eq!(readiness(&conditions(json!([{"type": "Ready", "status": "True"}]))), Readiness::Ready);
        let waiting = json!([{"type": "Ready", "status": "False", "reason": "Pending", "message": "no CA"}]);
        assert_eq!(readiness(&conditions(waiting)), progressing("Pending: no CA"));
        let stalled = json!([{"type": "Stalled", "status": "True", "reason": "Bad"}]);
        assert_eq!(readiness(&conditions(stalled)), Readiness::Failed("Bad".to_owned()));
        assert_eq!(readiness(&object("Thing", json!({}), json!({}))), Readiness::Ready);
    }

    #[test]
    fn a_webhook_without_its_bundle_is_not_ready() {
        let mut webhook = json!({"kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "x", "annotations": {"cert-manager.io/inject-ca-from-secret": "a/b"}},
            "webhooks": [{"clientConfig": {"service": {"name": "x"}}}]});
        assert_eq!(readiness(&webhook), progressing("its CA bundle is not injected yet"));
        webhook["webhooks"][0]["clientConfig"]["caBundle"] = json!("LS0t");
        assert_eq!(readiness(&webhook), Readiness::Ready);
    }
}
