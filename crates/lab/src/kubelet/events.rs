//! The events that a kubelet writes about its pods.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::lifecycle::PodStage;
use crate::kubelet_reports::{KUBELET, NETWORK_NOT_READY};
use crate::timestamp;

/// An event about a pod.
#[derive(Debug)]
pub(super) struct PodEvent {
    kind: &'static str,
    reason: &'static str,
    message: String,
}

fn normal(reason: &'static str, message: impl Into<String>) -> PodEvent {
    PodEvent { kind: "Normal", reason, message: message.into() }
}

fn warning(reason: &'static str, message: impl Into<String>) -> PodEvent {
    PodEvent { kind: "Warning", reason, message: message.into() }
}

/// The events when a pod enters a stage.
pub(super) fn for_stage(pod: &Pod, stage: &PodStage) -> Vec<PodEvent> {
    let image = super::lifecycle::images(pod).next().unwrap_or_default();
    match stage {
        PodStage::NoNetwork => vec![warning("NetworkNotReady", format!("network is not ready: {NETWORK_NOT_READY}"))],
        PodStage::Creating => vec![normal("Pulling", format!("Pulling image \"{image}\""))],
        PodStage::PullFailed(message) => vec![
            normal("Pulling", format!("Pulling image \"{image}\"")),
            warning("Failed", format!("Failed to pull image \"{image}\": {message}")),
            warning("Failed", "Error: ErrImagePull"),
            normal("BackOff", format!("Back-off pulling image \"{image}\"")),
            warning("Failed", "Error: ImagePullBackOff"),
        ],
        PodStage::MountFailed(message) => vec![warning("FailedMount", message.clone())],
        PodStage::Crashed(_) => {
            let message = format!("Back-off restarting failed container in pod {}", pod.name_any());
            vec![warning("BackOff", message)]
        }
        PodStage::Initializing | PodStage::Running { .. } | PodStage::Completed | PodStage::Ended => vec![],
    }
}

/// Writes events about a pod.
pub(super) async fn write(client: &kube::Client, pod: &Pod, host: &str, events: Vec<PodEvent>) -> kube::Result<()> {
    let namespace = pod.namespace().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    for PodEvent { kind, reason, message } in events {
        let now = timestamp::now();
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"generateName": format!("{}.", pod.name_any()), "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "namespace": namespace,
                "uid": pod.uid(), "resourceVersion": pod.resource_version(),
            },
            "type": kind, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": KUBELET, "host": host},
            "reportingComponent": KUBELET, "reportingInstance": host,
        });
        let event: Event = serde_json::from_value(event).map_err(kube::Error::SerdeError)?;
        api.create(&PostParams::default(), &event).await?;
    }
    Ok(())
}
