//! The static pods of a control plane, which mirror pods represent in the API.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::machine_config::AppliedConfig;
use crate::timestamp;

/// The static pods of a control plane (Talos 1.12).
pub(in crate::node) const STATIC: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// Creates the mirror pods of a control plane that do not exist yet.
pub(super) async fn create_mirror_pods(
    client: &kube::Client,
    host: &str,
    uid: &str,
    config: &AppliedConfig,
) -> kube::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    let version = config.kubelet_image.rsplit(':').next().unwrap_or_default();
    for name in STATIC {
        let pod: Pod = serde_json::from_value(mirror_pod(name, host, uid, version)).map_err(kube::Error::SerdeError)?;
        match pods.create(&PostParams::default(), &pod).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn mirror_pod(name: &str, host: &str, uid: &str, version: &str) -> Value {
    let hash = format!("{name}-{host}");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{name}-{host}"), "namespace": "kube-system",
            "labels": {"tier": "control-plane", "k8s-app": name, "component": name},
            "annotations": {
                "kubernetes.io/config.hash": hash, "kubernetes.io/config.mirror": hash,
                "kubernetes.io/config.source": "file", "kubernetes.io/config.seen": timestamp::now(),
            },
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": host, "uid": uid, "controller": true},
            ],
        },
        "spec": {
            "nodeName": host, "hostNetwork": true, "priorityClassName": "system-cluster-critical",
            "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
            "containers": [{"name": name, "image": format!("registry.k8s.io/{name}:{version}")}],
        },
    })
}

/// Whether the pod represents a static pod.
pub(crate) fn is_mirror_pod(pod: &Pod) -> bool {
    kube::ResourceExt::annotations(pod).contains_key("kubernetes.io/config.mirror")
}
