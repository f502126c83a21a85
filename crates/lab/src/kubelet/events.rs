//! What a kubelet tells of its pods: events, from which an operator digs out a reason.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::MANAGER;
use super::lifecycle::Stage;
use super::registration::NO_NETWORK;

/// An event to write: type, reason and message.
type Told = (&'static str, &'static str, String);

/// What a pod's arrival in a stage is told by.
pub(super) fn of_stage(pod: &Pod, stage: &Stage) -> Vec<Told> {
    let image = super::lifecycle::images(pod).next().unwrap_or_default();
    match stage {
        Stage::NoNetwork => vec![("Warning", "NetworkNotReady", format!("network is not ready: {NO_NETWORK}"))],
        Stage::Creating => vec![("Normal", "Pulling", format!("Pulling image \"{image}\""))],
        Stage::PullFailed(message) => vec![
            ("Normal", "Pulling", format!("Pulling image \"{image}\"")),
            ("Warning", "Failed", format!("Failed to pull image \"{image}\": {message}")),
            ("Warning", "Failed", "Error: ErrImagePull".to_owned()),
            ("Normal", "BackOff", format!("Back-off pulling image \"{image}\"")),
            ("Warning", "Failed", "Error: ImagePullBackOff".to_owned()),
        ],
        Stage::MountFailed(message) => vec![("Warning", "FailedMount", message.clone())],
        Stage::Crashed(_) => {
            let message = format!("Back-off restarting failed container in pod {}", pod.name_any());
            vec![("Warning", "BackOff", message)]
        }
        Stage::Initializing | Stage::Running { .. } | Stage::Completed | Stage::Ended => vec![],
    }
}

/// Writes events about a pod.
pub(super) async fn tell(client: &kube::Client, pod: &Pod, host: &str, told: Vec<Told>) -> kube::Result<()> {
    let namespace = pod.namespace().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    for (kind, reason, message) in told {
        let now = super::now();
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"generateName": format!("{}.", pod.name_any()), "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "namespace": namespace,
                "uid": pod.uid(), "resourceVersion": pod.resource_version(),
            },
            "type": kind, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": MANAGER, "host": host},
            "reportingComponent": MANAGER, "reportingInstance": host,
        });
        let event: Event = serde_json::from_value(event).map_err(kube::Error::SerdeError)?;
        events.create(&PostParams::default(), &event).await?;
    }
    Ok(())
}
