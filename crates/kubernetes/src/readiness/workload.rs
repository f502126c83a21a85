//! Workloads: by the counts that the controller manager keeps.

use serde_json::Value;

use super::{Readiness, condition, failed, number, observed, progressing, text};

/// What to say when the controller manager has not seen this generation, or the object at all.
fn unseen(object: &Value) -> Option<Readiness> {
    if number(object, "/status/observedGeneration").is_none() && number(object, "/metadata/generation").is_some() {
        return Some(progressing("was not seen by its controller yet"));
    }
    observed(object)
}

fn count(object: &Value, field: &str) -> i64 {
    number(object, &format!("/status/{field}")).unwrap_or(0)
}

fn replicas(object: &Value) -> i64 {
    number(object, "/spec/replicas").unwrap_or(1)
}

/// The first count that is too small.
fn short(wanted: i64, counts: &[(i64, &str)]) -> Option<Readiness> {
    counts
        .iter()
        .find(|(count, _)| *count < wanted)
        .map(|(count, what)| progressing(format!("{count}/{wanted} {what}")))
}

pub(super) fn deployment(object: &Value) -> Readiness {
    if let Some(unseen) = unseen(object) {
        return unseen;
    }
    if let Some(progress) = condition(object, "Progressing")
        && progress.reason == "ProgressDeadlineExceeded"
    {
        return failed(format!("makes no progress: {}", progress.message));
    }
    let wanted = replicas(object);
    let (all, updated) = (count(object, "replicas"), count(object, "updatedReplicas"));
    if let Some(short) = short(wanted, &[(all, "pods created"), (updated, "pods updated")]) {
        return short;
    }
    if all > wanted {
        return progressing(format!("{} old pods are still ending", all - wanted));
    }
    let ready =
        [(count(object, "readyReplicas"), "pods ready"), (count(object, "availableReplicas"), "pods available")];
    if let Some(short) = short(wanted, &ready) {
        return short;
    }
    match condition(object, "Available") {
        Some(available) if available.is_true() => Readiness::Ready,
        Some(available) => progressing(format!("is not available: {}", available.message)),
        None => progressing("is not available yet"),
    }
}

pub(super) fn stateful_set(object: &Value) -> Readiness {
    if let Some(unseen) = unseen(object) {
        return unseen;
    }
    if text(object, "/spec/updateStrategy/type") == "OnDelete" {
        return Readiness::Ready;
    }
    let wanted = replicas(object);
    let all = count(object, "replicas");
    if let Some(short) = short(wanted, &[(all, "pods created"), (count(object, "readyReplicas"), "pods ready")]) {
        return short;
    }
    if all > wanted {
        return progressing(format!("{} pods too many are still ending", all - wanted));
    }
    let updated = count(object, "updatedReplicas");
    if let Some(partition) = number(object, "/spec/updateStrategy/rollingUpdate/partition").filter(|from| *from > 0) {
        return short(wanted - partition, &[(updated, "pods updated")]).unwrap_or(Readiness::Ready);
    }
    if let Some(short) = short(wanted, &[(count(object, "currentReplicas"), "pods current")]) {
        return short;
    }
    if text(object, "/status/currentRevision") != text(object, "/status/updateRevision") {
        return progressing("waits for its pods to be updated");
    }
    Readiness::Ready
}

pub(super) fn daemon_set(object: &Value) -> Readiness {
    if let Some(unseen) = unseen(object) {
        return unseen;
    }
    let Some(wanted) = number(object, "/status/desiredNumberScheduled") else {
        return progressing("has not counted its nodes yet");
    };
    let on_delete = text(object, "/spec/updateStrategy/type") == "OnDelete";
    let updated = if on_delete { wanted } else { count(object, "updatedNumberScheduled") };
    let counts = [
        (count(object, "currentNumberScheduled"), "pods created"),
        (updated, "pods updated"),
        (count(object, "numberReady"), "pods ready"),
        (count(object, "numberAvailable"), "pods available"),
    ];
    short(wanted, &counts).unwrap_or(Readiness::Ready)
}

pub(super) fn replica_set(object: &Value) -> Readiness {
    if let Some(unseen) = unseen(object) {
        return unseen;
    }
    if let Some(failure) = condition(object, "ReplicaFailure").filter(super::Condition::is_true) {
        return progressing(format!("cannot create pods: {}", failure.message));
    }
    let wanted = replicas(object);
    let all = count(object, "replicas");
    let counts = [
        (all, "pods created"),
        (count(object, "readyReplicas"), "pods ready"),
        (count(object, "availableReplicas"), "pods available"),
    ];
    match short(wanted, &counts) {
        Some(short) => short,
        None if all > wanted => progressing(format!("{} pods too many are still ending", all - wanted)),
        None => Readiness::Ready,
    }
}

pub(super) fn pod(object: &Value) -> Readiness {
    match text(object, "/status/phase") {
        "Succeeded" => Readiness::Ready,
        "Failed" => failed(match text(object, "/status/message") {
            "" => "has failed",
            message => message,
        }),
        "Running" => match condition(object, "Ready") {
            Some(ready) if ready.is_true() => Readiness::Ready,
            Some(ready) => progressing(format!("is not ready: {}", ready.told())),
            None => progressing("is not ready yet"),
        },
        _ => match condition(object, "PodScheduled") {
            Some(scheduled) if scheduled.status == "False" => {
                progressing(format!("is not scheduled: {}", scheduled.message))
            }
            _ => progressing("is not started yet"),
        },
    }
}

pub(super) fn job(object: &Value) -> Readiness {
    let done = |kind: &str| condition(object, kind).filter(super::Condition::is_true);
    if let Some(failure) = done("Failed") {
        return failed(format!("has failed: {}", failure.told()));
    }
    if done("Complete").is_some() {
        return Readiness::Ready;
    }
    if done("Suspended").is_some() {
        return progressing("is suspended");
    }
    let wanted = number(object, "/spec/completions").unwrap_or(1);
    progressing(format!("{}/{wanted} pods succeeded", count(object, "succeeded")))
}
