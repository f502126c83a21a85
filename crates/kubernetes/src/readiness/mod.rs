//! Whether a live object is ready.
//!
//! The rules are those of kstatus (`sigs.k8s.io/cli-utils`, `pkg/kstatus/status/{core,generic}.go`), which Flux and
//! Helm 4 use, with these exceptions: a Job is ready when it is complete, not when it has started, since the next step
//! needs its result; crash loops and unschedulable pods are progressing, since during a bootstrap their prerequisites may
//! still appear; kinds whose controller always reports `Ready` are not ready before it does; and webhooks whose CA is
//! injected are not ready before it is.

mod custom;
mod workload;

use serde_json::Value;

/// The readiness of an object. The texts continue the object's name, as in `4/6 pods ready`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Not ready yet, with the reason.
    Progressing(String),
    /// Its controller gave up, with the reason.
    Failed(String),
}

impl Readiness {
    /// Why the object is not ready; nothing when it is.
    pub fn unready(&self) -> Option<&str> {
        match self {
            Self::Ready => None,
            Self::Progressing(reason) | Self::Failed(reason) => Some(reason),
        }
    }
}

/// The readiness of a live object.
pub fn readiness(object: &Value) -> Readiness {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return progressing("is being deleted");
    }
    let (group, kind) = (group(object), text(object, "/kind"));
    match (group, kind) {
        ("apps", "Deployment") => workload::deployment(object),
        ("apps", "StatefulSet") => workload::stateful_set(object),
        ("apps", "DaemonSet") => workload::daemon_set(object),
        ("apps", "ReplicaSet") => workload::replica_set(object),
        ("", "Pod") => workload::pod(object),
        ("batch", "Job") => workload::job(object),
        ("", "PersistentVolumeClaim") => claim(object),
        ("", "Service") => service(object),
        ("", "Namespace") => namespace(object),
        ("policy", "PodDisruptionBudget") => observed(object).unwrap_or(Readiness::Ready),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        ("apiregistration.k8s.io", "APIService") => expect(object, "Available"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => {
            webhooks(object)
        }
        ("", "Node") => expect(object, "Ready"),
        _ => custom::custom(object),
    }
}

fn progressing(reason: impl Into<String>) -> Readiness {
    Readiness::Progressing(reason.into())
}

fn failed(reason: impl Into<String>) -> Readiness {
    Readiness::Failed(reason.into())
}

fn group(object: &Value) -> &str {
    super::object_ref::group(text(object, "/apiVersion"))
}

fn text<'o>(object: &'o Value, pointer: &str) -> &'o str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

/// A condition of an object's status.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition<'o> {
    pub(super) status: &'o str,
    pub(super) reason: &'o str,
    pub(super) message: &'o str,
    observed_generation: Option<i64>,
}

impl Condition<'_> {
    pub(super) fn is_true(&self) -> bool {
        self.status == "True"
    }

    /// Whether it refers to the current generation of its object, if it names one.
    pub(super) fn is_current(&self, object: &Value) -> bool {
        self.observed_generation.is_none_or(|observed| observed >= number(object, "/metadata/generation").unwrap_or(0))
    }

    /// Its reason and message.
    pub(super) fn summary(&self) -> String {
        match (self.reason, self.message) {
            (reason, "") => reason.to_owned(),
            ("", message) => message.to_owned(),
            (reason, message) => format!("{reason}: {message}"),
        }
    }
}

impl<'o> Condition<'o> {
    fn of(found: &'o Value) -> Self {
        Self {
            status: text(found, "/status"),
            reason: text(found, "/reason"),
            message: text(found, "/message"),
            observed_generation: number(found, "/observedGeneration"),
        }
    }
}

pub(super) fn condition<'o>(object: &'o Value, kind: &str) -> Option<Condition<'o>> {
    conditions(object).find(|condition| text(condition, "/type") == kind).map(Condition::of)
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
}

/// Its controller gave up on this generation.
pub(super) fn stalled(object: &Value) -> Option<Condition<'_>> {
    condition(object, "Stalled")
        .filter(|stalled| stalled.is_true() && stalled.is_current(object))
        .filter(|stalled| stalled.observed_generation.is_some() || observed(object).is_none())
}

/// Reasons for which an object is not Ready while nothing fails (Flux, `pkg/apis/meta`).
const NO_FAILURES: [&str; 3] = ["DependencyNotReady", "Progressing", "ProgressingWithRetry"];

/// What the controller of an object says about its failure: its condition `Ready` is `False` for the current generation.
pub fn reported_failure(object: &Value) -> Option<String> {
    let ready = condition(object, "Ready").filter(|ready| ready.status == "False" && ready.is_current(object))?;
    (!NO_FAILURES.contains(&ready.reason)).then(|| ready.summary())
}

/// Not ready when the controller has not observed the current generation of the object yet.
pub(super) fn observed(object: &Value) -> Option<Readiness> {
    let observed = number(object, "/status/observedGeneration")?;
    let generation = number(object, "/metadata/generation")?;
    (observed < generation).then(|| match latest_report(object, generation) {
        Some(report) => progressing(format!("is not ready: {}", report.summary())),
        None => progressing("has a change that its controller has not observed yet"),
    })
}

/// What the controller said last about this generation: `Ready`, else the newest condition.
///
/// An object that never succeeded keeps `observedGeneration: -1` while its conditions are current (helm-controller
/// 1.4.5, kustomize-controller 1.7.3).
fn latest_report(object: &Value, generation: i64) -> Option<Condition<'_>> {
    let is_current = |condition: &&Value| number(condition, "/observedGeneration") == Some(generation);
    // Times of Kubernetes are ordered as texts.
    conditions(object)
        .filter(is_current)
        .map(|condition| (text(condition, "/type") == "Ready", text(condition, "/lastTransitionTime"), condition))
        .max_by_key(|(is_ready, since, _)| (*is_ready, *since))
        .map(|(_, _, condition)| Condition::of(condition))
}

/// Ready by one condition alone.
fn expect(object: &Value, kind: &str) -> Readiness {
    match condition(object, kind) {
        Some(condition) if condition.is_true() => Readiness::Ready,
        Some(condition) => progressing(format!("is not {kind}: {}", condition.summary())),
        None => progressing(format!("is not {kind} yet")),
    }
}

fn claim(object: &Value) -> Readiness {
    match text(object, "/status/phase") {
        "Bound" => Readiness::Ready,
        "Lost" => failed("lost its volume"),
        _ => progressing("is not bound to a volume"),
    }
}

fn service(object: &Value) -> Readiness {
    if text(object, "/spec/type") == "LoadBalancer" && text(object, "/spec/clusterIP").is_empty() {
        return progressing("has no cluster IP");
    }
    Readiness::Ready
}

fn namespace(object: &Value) -> Readiness {
    match text(object, "/status/phase") {
        "Terminating" => progressing("is being deleted"),
        _ => Readiness::Ready,
    }
}

fn definition(object: &Value) -> Readiness {
    match (condition(object, "NamesAccepted"), condition(object, "Established")) {
        (Some(names), _) if names.status == "False" => failed(format!("has a name conflict: {}", names.summary())),
        (_, Some(established)) if established.is_true() => Readiness::Ready,
        (_, Some(established)) => progressing(format!("is not established: {}", established.summary())),
        _ => progressing("is not established yet"),
    }
}

/// A webhook without its CA fails every request that it is called for.
fn webhooks(object: &Value) -> Readiness {
    if !super::manifest::is_injected(object) {
        return Readiness::Ready;
    }
    let webhooks = object.get("webhooks").and_then(Value::as_array);
    let bare = webhooks.into_iter().flatten().find(|webhook| {
        let client = |field: &str| webhook.pointer(&format!("/clientConfig/{field}"));
        client("service").is_some() && client("caBundle").and_then(Value::as_str).unwrap_or_default().is_empty()
    });
    match bare {
        Some(webhook) => progressing(format!("has no caBundle for its webhook {} yet", text(webhook, "/name"))),
        None => Readiness::Ready,
    }
}

#[cfg(test)]
mod tests;
