//! A pod's status as a kubelet of Kubernetes 1.35 writes it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::lifecycle::PodStage;

/// Where the pod runs, and how often it was restarted.
#[derive(Debug, Clone, Copy)]
pub(super) struct PodPlacement {
    pub(super) host: IpAddr,
    /// The pod's own address, once it has a sandbox.
    pub(super) address: Option<IpAddr>,
    /// How often its containers were restarted.
    pub(super) restarts: u32,
}

/// The status of a pod in a stage, as a patch of its present status. `now` is a Kubernetes timestamp.
pub(super) fn status(pod: &Pod, stage: &PodStage, placement: PodPlacement, now: &str) -> Value {
    let phase = match stage {
        PodStage::Running { .. } | PodStage::Crashed(_) => "Running",
        PodStage::Completed => "Succeeded",
        _ => "Pending",
    };
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let began = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0.to_string());
    let mut status = json!({
        "phase": phase,
        "hostIP": placement.host.to_string(),
        "hostIPs": [{"ip": placement.host.to_string()}],
        "startTime": began.unwrap_or_else(|| now.to_owned()),
        "conditions": conditions(pod, stage, now),
        "initContainerStatuses": init.iter().map(|one| init_status(one, stage, placement, now)).collect::<Vec<_>>(),
        "containerStatuses":
            containers.iter().map(|one| container_status(one, stage, placement, now)).collect::<Vec<_>>(),
    });
    if init.is_empty()
        && let Value::Object(keys) = &mut status
    {
        keys.remove("initContainerStatuses");
    }
    if let Some(address) = placement.address {
        status["podIP"] = json!(address.to_string());
        status["podIPs"] = json!([{"ip": address.to_string()}]);
    }
    status
}

fn conditions(pod: &Pod, stage: &PodStage, now: &str) -> Vec<Value> {
    let started = matches!(stage, PodStage::Running { .. } | PodStage::Crashed(_) | PodStage::Completed);
    let ready = matches!(stage, PodStage::Running { ready: true });
    let initialized = started || (!has_init(pod) && !matches!(stage, PodStage::Initializing));
    let sandbox = started || matches!(stage, PodStage::Creating | PodStage::PullFailed(_) | PodStage::Initializing);
    let reason = if *stage == PodStage::Completed { "PodCompleted" } else { "ContainersNotReady" };
    let unready_reason = (!ready).then_some(reason);
    let mut all = vec![
        ("PodReadyToStartContainers", sandbox && *stage != PodStage::Completed, None),
        ("Initialized", initialized, (!initialized).then_some("ContainersNotInitialized")),
        ("Ready", ready, unready_reason),
        ("ContainersReady", ready, unready_reason),
    ];
    let known = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    // The scheduler writes this condition for the pods that it bound, the kubelet for all others.
    if !known.iter().any(|condition| condition.type_ == "PodScheduled") {
        all.push(("PodScheduled", true, None));
    }
    all.into_iter()
        .map(|(kind, is_true, reason)| {
            let value = if is_true { "True" } else { "False" };
            let same = known.iter().find(|condition| condition.type_ == kind && condition.status == value);
            let since = same.and_then(|condition| condition.last_transition_time.as_ref());
            json!({
                "type": kind, "status": value, "reason": reason, "lastProbeTime": null,
                "message": (reason == Some("ContainersNotReady")).then(|| unready_message(pod)),
                "lastTransitionTime": since.map_or_else(|| now.to_owned(), |time| time.0.to_string()),
            })
        })
        .collect()
}

fn unready_message(pod: &Pod) -> String {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let names: Vec<_> = containers.map(|container| container.name.as_str()).collect();
    format!("containers with unready status: [{}]", names.join(" "))
}

fn has_init(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.init_containers.as_ref().is_some_and(|init| !init.is_empty()))
}

fn init_status(container: &Container, stage: &PodStage, placement: PodPlacement, now: &str) -> Value {
    let sidecar = container.restart_policy.as_deref() == Some("Always");
    let initialized = matches!(stage, PodStage::Running { .. } | PodStage::Crashed(_) | PodStage::Completed);
    let state = match stage {
        PodStage::PullFailed(message) => ContainerState::not_ready(pull_failed(container, message)),
        PodStage::Initializing => ContainerState::not_ready(running(now)),
        _ if initialized && sidecar && *stage != PodStage::Completed => ContainerState::ready(running(now)),
        _ if initialized => ContainerState::ready(terminated(now)),
        _ => ContainerState::not_ready(waiting("PodInitializing")),
    };
    describe(container, &state, placement)
}

fn container_status(container: &Container, stage: &PodStage, placement: PodPlacement, now: &str) -> Value {
    let state = match stage {
        PodStage::NoNetwork | PodStage::Creating | PodStage::MountFailed(_) | PodStage::Ended => {
            ContainerState::not_ready(waiting("ContainerCreating"))
        }
        PodStage::Initializing => ContainerState::not_ready(waiting("PodInitializing")),
        PodStage::PullFailed(message) => ContainerState::not_ready(pull_failed(container, message)),
        PodStage::Running { ready: true } => ContainerState::ready(running(now)),
        PodStage::Running { ready: false } => ContainerState::not_ready(running(now)),
        PodStage::Completed => ContainerState::not_ready(terminated(now)),
        PodStage::Crashed(_) => {
            let message = format!("back-off 10s restarting failed container={}", container.name);
            ContainerState::not_ready(json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}}))
        }
    };
    let mut status = describe(container, &state, placement);
    if let PodStage::Crashed(message) = stage {
        status["restartCount"] = json!(placement.restarts + 1);
        status["lastState"] = json!({"terminated": {
            "exitCode": 1, "reason": "Error", "message": message, "startedAt": now, "finishedAt": now,
        }});
    }
    status
}

/// The `state` and `ready` fields of a container's status.
struct ContainerState {
    state: Value,
    ready: bool,
}

impl ContainerState {
    fn ready(state: Value) -> Self {
        Self { state, ready: true }
    }

    fn not_ready(state: Value) -> Self {
        Self { state, ready: false }
    }
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason}})
}

fn running(now: &str) -> Value {
    json!({"running": {"startedAt": now}})
}

fn terminated(now: &str) -> Value {
    json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}})
}

fn pull_failed(container: &Container, message: &str) -> Value {
    let image = container.image.as_deref().unwrap_or_default();
    json!({"waiting": {
        "reason": "ImagePullBackOff",
        "message": format!("Back-off pulling image \"{image}\": ErrImagePull: {message}"),
    }})
}

fn describe(container: &Container, state: &ContainerState, placement: PodPlacement) -> Value {
    let ContainerState { state, ready } = state;
    json!({
        "name": container.name, "image": container.image, "imageID": container.image, "state": state,
        "ready": ready, "started": state.get("running").is_some(), "restartCount": placement.restarts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-02T03:04:05Z";

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {"containers": [{"name": "web", "image": "ghcr.io/acme/web:1"}]},
        }))
        .unwrap()
    }

    fn placement() -> PodPlacement {
        PodPlacement { host: "10.0.0.1".parse().unwrap(), address: None, restarts: 0 }
    }

    fn condition<'s>(status: &'s Value, kind: &str) -> &'s Value {
        status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind).unwrap()
    }

    #[test]
    fn a_failed_pull_contains_the_registrys_message() {
        let status = status(&pod(), &PodStage::PullFailed("429 Too Many Requests".into()), placement(), NOW);
        assert_eq!(status["phase"], "Pending");
        let waiting = &status["containerStatuses"][0]["state"]["waiting"];
        assert_eq!(waiting["reason"], "ImagePullBackOff");
        insta::assert_snapshot!(
            waiting["message"].as_str().unwrap(),
            @r#"Back-off pulling image "ghcr.io/acme/web:1": ErrImagePull: 429 Too Many Requests"#
        );
        assert_eq!(condition(&status, "Ready")["reason"], "ContainersNotReady");
    }

    #[test]
    fn a_condition_keeps_its_transition_time_until_it_changes() {
        let mut pod = pod();
        let first = status(&pod, &PodStage::Creating, placement(), NOW);
        pod.status = serde_json::from_value(first).unwrap();
        let later = status(&pod, &PodStage::Running { ready: true }, placement(), "2026-01-02T03:05:00Z");
        assert_eq!(condition(&later, "Ready")["lastTransitionTime"], "2026-01-02T03:05:00Z");
        assert_eq!(condition(&later, "Initialized")["lastTransitionTime"], NOW);
        assert_eq!(later["startTime"], NOW);
    }

    #[test]
    fn a_completed_pod_succeeded_and_is_not_ready() {
        let status = status(&pod(), &PodStage::Completed, placement(), NOW);
        assert_eq!(status["phase"], "Succeeded");
        assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
        assert_eq!(condition(&status, "Ready")["reason"], "PodCompleted");
    }
}
