//! Workloads: by the counts in their status.

use serde_json::Value;

use super::{Readiness, condition, failed, number, observed, progressing, text};

/// Not ready when the controller manager has not observed the current generation, or the object at all.
fn unobserved(object: &Value) -> Option<Readiness> {
    if number(object, "/status/observedGeneration").is_none() && number(object, "/metadata/generation").is_some() {
        return Some(progressing("was not observed by its controller yet"));
    }
    observed(object)
}

fn count(object: &Value, field: &str) -> i64 {
    number(object, &format!("/status/{field}")).unwrap_or(0)
}

fn replicas(object: &Value) -> i64 {
    number(object, "/spec/replicas").unwrap_or(1)
}

/// The first count below the desired one.
fn short(desired: i64, counts: &[(i64, &str)]) -> Option<Readiness> {
    counts
        .iter()
        .find(|(count, _)| *count < desired)
        .map(|(count, what)| progressing(format!("{count}/{desired} {what}")))
}

pub(super) fn deployment(object: &Value) -> Readiness {
    if let Some(unobserved) = unobserved(object) {
        return unobserved;
    }
    if let Some(progress) = condition(object, "Progressing")
        && progress.reason == "ProgressDeadlineExceeded"
    {
        return failed(format!("exceeded its progress deadline: {}", progress.message));
    }
    let desired = replicas(object);
    let (all, updated) = (count(object, "replicas"), count(object, "updatedReplicas"));
    if let Some(short) = short(desired, &[(all, "pods created"), (updated, "pods updated")]) {
        return short;
    }
    if all > desired {
        return progressing(format!("{} old pods still terminating", all - desired));
    }
    let ready =
        [(count(object, "readyReplicas"), "pods ready"), (count(object, "availableReplicas"), "pods available")];
    if let Some(short) = short(desired, &ready) {
        return short;
    }
    match condition(object, "Available") {
        Some(available) if available.is_true() => Readiness::Ready,
        Some(available) => progressing(format!("is not available: {}", available.message)),
        None => progressing("is not available yet"),
    }
}

pub(super) fn stateful_set(object: &Value) -> Readiness {
    if let Some(unobserved) = unobserved(object) {
        return unobserved;
    }
    if text(object, "/spec/updateStrategy/type") == "OnDelete" {
        return Readiness::Ready;
    }
    let desired = replicas(object);
    let all = count(object, "replicas");
    if let Some(short) = short(desired, &[(all, "pods created"), (count(object, "readyReplicas"), "pods ready")]) {
        return short;
    }
    if all > desired {
        return progressing(format!("{} surplus pods still terminating", all - desired));
    }
    let updated = count(object, "updatedReplicas");
    if let Some(partition) = number(object, "/spec/updateStrategy/rollingUpdate/partition").filter(|from| *from > 0) {
        return short(desired - partition, &[(updated, "pods updated")]).unwrap_or(Readiness::Ready);
    }
    if let Some(short) = short(desired, &[(count(object, "currentReplicas"), "pods current")]) {
        return short;
    }
    if text(object, "/status/currentRevision") != text(object, "/status/updateRevision") {
        return progressing("is still updating its pods");
    }
    Readiness::Ready
}

pub(super) fn daemon_set(object: &Value) -> Readiness {
    if let Some(unobserved) = unobserved(object) {
        return unobserved;
    }
    let Some(desired) = number(object, "/status/desiredNumberScheduled") else {
        return progressing("has no count of its nodes yet");
    };
    let on_delete = text(object, "/spec/updateStrategy/type") == "OnDelete";
    let updated = if on_delete { desired } else { count(object, "updatedNumberScheduled") };
    let counts = [
        (count(object, "currentNumberScheduled"), "pods created"),
        (updated, "pods updated"),
        (count(object, "numberReady"), "pods ready"),
        (count(object, "numberAvailable"), "pods available"),
    ];
    short(desired, &counts).unwrap_or(Readiness::Ready)
}

pub(super) fn replica_set(object: &Value) -> Readiness {
    if let Some(unobserved) = unobserved(object) {
        return unobserved;
    }
    if let Some(failure) = condition(object, "ReplicaFailure").filter(super::Condition::is_true) {
        return progressing(format!("cannot create pods: {}", failure.message));
    }
    let desired = replicas(object);
    let all = count(object, "replicas");
    let counts = [
        (all, "pods created"),
        (count(object, "readyReplicas"), "pods ready"),
        (count(object, "availableReplicas"), "pods available"),
    ];
    match short(desired, &counts) {
        Some(short) => short,
        None if all > desired => progressing(format!("{} surplus pods still terminating", all - desired)),
        None => Readiness::Ready,
    }
}

pub(super) fn pod(object: &Value) -> Readiness {
    match text(object, "/status/phase") {
        "Succeeded" => Readiness::Ready,
        "Failed" => failed(match text(object, "/status/message") {
            "" => "failed",
            message => message,
        }),
        "Running" => match condition(object, "Ready") {
            Some(ready) if ready.is_true() => Readiness::Ready,
            Some(ready) => progressing(format!("is not ready: {}", ready.summary())),
            None => progressing("is not ready yet"),
        },
        _ => match condition(object, "PodScheduled") {
            Some(scheduled) if scheduled.status == "False" => {
                progressing(format!("is not scheduled: {}", scheduled.message))
            }
            _ => progressing("has not started yet"),
        },
    }
}

pub(super) fn job(object: &Value) -> Readiness {
    let done = |kind: &str| condition(object, kind).filter(super::Condition::is_true);
    if let Some(failure) = done("Failed") {
        return failed(format!("failed: {}", failure.summary()));
    }
    if done("Complete").is_some() {
        return Readiness::Ready;
    }
    if done("Suspended").is_some() {
        return progressing("is suspended");
    }
    let desired = number(object, "/spec/completions").unwrap_or(1);
    progressing(format!("{}/{desired} pods succeeded", count(object, "succeeded")))
}
