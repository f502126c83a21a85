//! A machine's node: registered once the API answers, its lease renewed as long as the machine is up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{MANAGER, mirror, now};
use crate::machine::{MachineConfig, Role};
use crate::node::Node;

/// The kubelet's own rhythm (Kubernetes 1.35: a quarter of the lease's 40 s).
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Between two tries while the API server comes and goes.
const PAUSE: Duration = Duration::from_millis(200);
pub(super) const NO_NETWORK: &str = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
    message:Network plugin returns error: cni plugin not initialized";

/// Runs until the machine goes down.
pub(crate) async fn run(node: &Node, config: &Arc<MachineConfig>) {
    tokio::time::sleep(node.world.scenario.kubelet_start.duration()).await;
    let mut began = Instant::now();
    let mut registered = false;
    loop {
        let client = node.world.control_plane.client.borrow().clone();
        let Some(client) = client else {
            let mut changes = node.world.control_plane.client.subscribe();
            // The sender outlives every machine, so this only ever waits.
            let _ = changes.wait_for(Option::is_some).await;
            began = Instant::now();
            continue;
        };
        if !registered {
            registered = register(&client, node, config).await.is_ok();
            if registered {
                let causes = [format!("node/{}/booted", node.name()), "api/ready".to_owned()];
                node.world.recorder.fact(format!("node/{}/registered", node.name()), began, causes);
                node.change(|state| state.registered = true);
            }
        }
        let beating = registered && heartbeat(&client, &node.hostname()).await.is_ok();
        tokio::time::sleep(if beating { HEARTBEAT } else { PAUSE }).await;
    }
}

/// Creates the node with its taints; of one that was there before, only the labels and the status are the kubelet's.
async fn register(client: &kube::Client, node: &Node, config: &MachineConfig) -> kube::Result<()> {
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
    if config.role == Role::ControlPlane {
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
    let merge = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let object = match nodes.create(&PostParams::default(), &new).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let labels = json!({"metadata": {"labels": labels}});
            nodes.patch(&name, &merge, &Patch::Strategic(&labels)).await?
        }
        created => created?,
    };
    let status = json!({"status": status(node, config)});
    nodes.patch_status(&name, &merge, &Patch::Strategic(&status)).await?;
    if config.role == Role::ControlPlane {
        mirror::create(client, &name, &object.uid().unwrap_or_default(), config).await?;
    }
    Ok(())
}

fn status(node: &Node, config: &MachineConfig) -> serde_json::Value {
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
            condition("Ready", "False", "KubeletNotReady", NO_NETWORK),
        ],
    })
}

async fn heartbeat(client: &kube::Client, name: &str) -> kube::Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
    });
    leases.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&lease)).await.map(|_| ())
}
