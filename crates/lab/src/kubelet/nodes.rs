//! When a node is Ready: once the network plugin's pod on it has been, within this boot.
//!
//! A plugin that goes away later leaves its configuration on the node, and the node stays Ready; a reboot clears it.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{MANAGER, now};
use crate::scenario::Label;
use crate::view::{View, controller, is_ready};

/// What is known of a node's network within one boot of its machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Network {
    pub(super) boot_id: String,
    /// When the plugin's pod was first seen Ready, and its name.
    pub(super) plugin: Option<(Instant, String)>,
    /// When the API was told that the node is Ready.
    pub(super) ready: Option<Instant>,
}

impl Network {
    /// When the node is to be Ready, if that is known.
    pub(super) fn due(&self, latency: Duration) -> Option<Instant> {
        let (seen, _) = self.plugin.as_ref()?;
        self.ready.is_none().then_some(*seen + latency)
    }
}

/// The network plugin's pod on a node, when it is Ready: a DaemonSet's, known by its label.
pub(super) fn plugin_on(view: &View, host: &str, label: &Label) -> Option<String> {
    let on_node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(host);
    let of_set = |pod: &Pod| controller(pod).is_some_and(|owner| owner.kind == "DaemonSet");
    let pod = view.pods.find(|pod| label.marks(pod) && on_node(pod) && of_set(pod) && is_ready(pod))?;
    Some(format!("pod/{}/{}/ready", pod.namespace().unwrap_or_default(), pod.name_any()))
}

/// Tells the API that the node is Ready.
pub(super) async fn mark_ready(client: &kube::Client, name: &str) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let now = now();
    let status = json!({"status": {"conditions": [{
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }]}});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    nodes.patch_status(name, &params, &Patch::Strategic(&status)).await.map(|_| ())
}
