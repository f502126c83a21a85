//! Faults of what serves the Kubernetes API on a control plane.

use serde::Deserialize;

use super::Millis;

/// A node whose kubelet does not start.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KubeletFault {
    /// The node's name.
    pub node: String,
    /// The last event of its service, which is `Failed`.
    pub message: String,
    /// From each boot of the node. Absent means forever.
    pub lasts: Option<Millis>,
}

/// A control plane whose static pod `kube-apiserver` does not run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApiServerFault {
    /// The node's name.
    pub node: String,
    /// The reason of its container, such as `CrashLoopBackOff` or `ImagePullBackOff`.
    pub reason: String,
    pub message: String,
    /// From etcd being healthy on the node. Absent means forever.
    pub lasts: Option<Millis>,
}
