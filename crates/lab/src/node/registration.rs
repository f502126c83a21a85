//! The machine's own part of its kubelet: registers the Kubernetes node once the API is ready, and renews its lease.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{SimulatedNode, static_pods};
use crate::kubelet_reports::{KUBELET, NETWORK_NOT_READY, mark_ready};
use crate::machine_config::{AppliedConfig, NodeRole};
use crate::record::facts;
use crate::timestamp::{now, now_micros};

/// Between two lease renewals (Kubernetes 1.35: a quarter of the lease's 40 s).
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Before a request that the API server did not accept is retried.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Runs until the machine goes down.
pub(super) async fn run(node: &SimulatedNode, config: &Arc<AppliedConfig>) {
    tokio::time::sleep(node.lab.scenario.kubelet_start.duration()).await;
    let mut began = Instant::now();
    let mut registered = false;
    loop {
        let client = node.lab.control_plane.client.borrow().clone();
        let Some(client) = client else {
            let mut changes = node.lab.control_plane.client.subscribe();
            // The control plane owns the sender and outlives every machine, so this only ever waits.
            let _ = changes.wait_for(Option::is_some).await;
            began = Instant::now();
            continue;
        };
        if !registered {
            registered = register(&client, node, config).await.is_ok();
            if registered {
                let causes = [facts::node_booted(node.name()), facts::API_READY.to_owned()];
                node.lab.recorder.record_fact(facts::node_registered(node.name()), began, causes);
                node.change(|state| state.registered = true);
            }
        }
        let is_renewed = registered && renew_lease(&client, &node.hostname()).await.is_ok();
        if is_renewed && node.state.borrow().node_ready {
            // The next heartbeat tries again.
            let _ = report_again(&client, &node.hostname()).await;
        }
        tokio::time::sleep(if is_renewed { HEARTBEAT } else { RETRY_DELAY }).await;
    }
}

/// Creates the Kubernetes node with its taints. Of an existing one, the kubelet updates only labels and status.
async fn register(client: &kube::Client, node: &SimulatedNode, config: &AppliedConfig) -> kube::Result<()> {
    let name = node.hostname();
    let nodes: Api<KubernetesNode> = Api::all(client.clone());
    let mut labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
    });
    for (key, value) in &config.node_labels {
        labels[key] = json!(value);
    }
    let mut taints = vec![json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"})];
    if config.role == NodeRole::ControlPlane {
        labels["node-role.kubernetes.io/control-plane"] = json!("");
        if !config.schedule_on_control_planes {
            taints.push(json!({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}));
        }
    }
    let object = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints},
    });
    let new: KubernetesNode = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let merge = PatchParams { field_manager: Some(KUBELET.to_owned()), ..PatchParams::default() };
    let object = match nodes.create(&PostParams::default(), &new).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let labels = json!({"metadata": {"labels": labels}});
            nodes.patch(&name, &merge, &Patch::Strategic(&labels)).await?
        }
        created => created?,
    };
    let status = json!({"status": status(node, config)});
    nodes.patch_status(&name, &merge, &Patch::Strategic(&status)).await?;
    if config.role == NodeRole::ControlPlane {
        static_pods::create_mirror_pods(client, &name, &object.uid().unwrap_or_default(), config).await?;
    }
    Ok(())
}

fn status(node: &SimulatedNode, config: &AppliedConfig) -> serde_json::Value {
    let now = now();
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
               "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let kubelet = config.kubelet_image.rsplit(':').next().unwrap_or_default();
    json!({
        "addresses": [
            {"type": "InternalIP", "address": node.address().to_string()},
            {"type": "Hostname", "address": node.hostname()},
        ],
        "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "400Gi"},
        "allocatable": {"cpu": "8", "memory": "31Gi", "pods": "110", "ephemeral-storage": "380Gi"},
        "nodeInfo": {
            "architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": kubelet,
            "osImage": format!("Talos ({})", node.talos().tag()), "kernelVersion": "6.18.0-talos",
            "containerRuntimeVersion": "containerd://2.1.6", "kubeProxyVersion": "",
            "bootID": node.state.borrow().boot_id, "machineID": node.name(), "systemUUID": node.name(),
        },
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "False", "KubeletNotReady", NETWORK_NOT_READY),
        ],
    })
}

/// Reports a Ready node again that the node controller has marked Unknown, as after an outage of the API (Kubernetes 1.35).
async fn report_again(client: &kube::Client, name: &str) -> kube::Result<()> {
    let nodes: Api<KubernetesNode> = Api::all(client.clone());
    let status = nodes.get(name).await?.status.unwrap_or_default();
    let mut conditions = status.conditions.into_iter().flatten();
    if conditions.any(|condition| condition.type_ == "Ready" && condition.status == "Unknown") {
        mark_ready(client, name).await?;
    }
    Ok(())
}

async fn renew_lease(client: &kube::Client, name: &str) -> kube::Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now_micros()},
    });
    leases.patch(name, &PatchParams::apply(KUBELET).force(), &Patch::Apply(&lease)).await.map(|_| ())
}
