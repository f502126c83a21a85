//! What kubelets report about their nodes, by whichever part of the lab simulates them.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::timestamp;

/// The field manager of kubelets, and the source of their events.
pub(crate) const KUBELET: &str = "kubelet";

/// Why a node is not Ready before it has a network plugin (kubelet 1.35).
pub(crate) const NETWORK_NOT_READY: &str = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
    message:Network plugin returns error: cni plugin not initialized";

/// Writes the node's Ready condition.
pub(crate) async fn mark_ready(client: &kube::Client, name: &str) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let now = timestamp::now();
    let status = json!({"status": {"conditions": [{
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }]}});
    let params = PatchParams { field_manager: Some(KUBELET.to_owned()), ..PatchParams::default() };
    nodes.patch_status(name, &params, &Patch::Strategic(&status)).await.map(|_| ())
}
