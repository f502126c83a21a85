//! When a node becomes Ready: after the network plugin's pod on it has been Ready since the last boot.
//!
//! If the plugin's pod goes away later, its configuration stays on the node and the node stays Ready. A reboot clears it.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use crate::cluster_cache::{ClusterCache, controller, is_ready};
use crate::record::facts;
use crate::scenario::PodLabel;

/// A network plugin's pod that has been Ready.
#[derive(Debug, Clone)]
pub(super) struct ReadyPlugin {
    pub(super) seen: Instant,
    /// The fact that the pod is Ready.
    pub(super) fact: String,
}

/// The state of a node's network since the machine booted.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeNetwork {
    pub(super) boot_id: String,
    pub(super) plugin: Option<ReadyPlugin>,
    /// When the node's Ready condition was written.
    pub(super) ready: Option<Instant>,
}

impl NodeNetwork {
    /// When the node becomes Ready. `None` if it is Ready, or its plugin is not.
    pub(super) fn due(&self, latency: Duration) -> Option<Instant> {
        let plugin = self.plugin.as_ref()?;
        self.ready.is_none().then_some(plugin.seen + latency)
    }
}

/// The fact that the network plugin's pod on a node is Ready. The pod has the label and belongs to a DaemonSet.
pub(super) fn ready_plugin_on(cache: &ClusterCache, host: &str, label: &PodLabel) -> Option<String> {
    let on_node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(host);
    let in_daemon_set = |pod: &Pod| controller(pod).is_some_and(|owner| owner.kind == "DaemonSet");
    let pod = cache.pods.find(|pod| label.matches(pod) && on_node(pod) && in_daemon_set(pod) && is_ready(pod))?;
    Some(facts::pod_ready(&pod))
}
