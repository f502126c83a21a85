//! Configs of the 1.14 contract, whose settings are documents of their own. They are converted to the single `v1alpha1`
//! document that they replace, so that the lab reads both forms alike.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The `v1alpha1` document with the settings of the other documents merged in.
pub(super) fn to_single_document(documents: &[Value]) -> Option<Value> {
    let mut legacy = documents.iter().find(|document| document.get("kind").is_none())?.clone();
    // A config of an older contract has these in the `v1alpha1` document, and must not lose them.
    let is_multi_document = documents.iter().any(|document| kind(document) == "KubeClusterConfig");
    for document in documents {
        merge_into_legacy(&mut legacy, document);
    }
    if is_multi_document {
        let cni = documents.iter().find(|document| kind(document) == "KubeFlannelCNIConfig");
        put(&mut legacy, "/cluster/network/cni/name", json!(cni.map_or("none", |_| "flannel")));
    }
    // This document alone decides the taints, whatever form the rest has (Talos 1.14, `container.K8sNodeConfig`).
    let node = documents.iter().find(|document| kind(document) == "KubeNodeConfig");
    if is_multi_document || node.is_some() {
        let taints = node.and_then(|document| document.pointer("/taints")).and_then(Value::as_object);
        let tainted = taints.is_some_and(|taints| taints.contains_key("node-role.kubernetes.io/control-plane"));
        put(&mut legacy, "/cluster/allowSchedulingOnControlPlanes", json!(!tainted));
    }
    Some(legacy)
}

fn kind(document: &Value) -> &str {
    document.get("kind").and_then(Value::as_str).unwrap_or_default()
}

fn merge_into_legacy(legacy: &mut Value, document: &Value) {
    let get = |pointer: &str| document.pointer(pointer).filter(|value| !value.is_null()).cloned();
    let mut copy = |from: &str, to: &str| {
        if let Some(value) = get(from) {
            put(legacy, to, value);
        }
    };
    match kind(document) {
        "HostnameConfig" => copy("/hostname", "/machine/network/hostname"),
        "KubeClusterConfig" => {
            copy("/clusterName", "/cluster/clusterName");
            copy("/endpoint", "/cluster/controlPlane/endpoint");
        }
        "KubeNetworkConfig" => {
            copy("/dnsDomain", "/cluster/network/dnsDomain");
            copy("/podSubnets", "/cluster/network/podSubnets");
            copy("/serviceSubnets", "/cluster/network/serviceSubnets");
        }
        "KubeNodeConfig" => copy("/labels", "/machine/nodeLabels"),
        "KubeletConfig" => copy("/image", "/machine/kubelet/image"),
        "KubeAPIServerConfig" => {
            copy("/certExtraSANs", "/cluster/apiServer/certSANs");
            copy("/image", "/cluster/apiServer/image");
        }
        "KubeControllerManagerConfig" => copy("/image", "/cluster/controllerManager/image"),
        "KubeSchedulerConfig" => copy("/image", "/cluster/scheduler/image"),
        "DiscoveryServiceConfig" => put(legacy, "/cluster/discovery/enabled", json!(true)),
        "DiscoveryIdentityConfig" => copy("/clusterID", "/cluster/id"),
        "UnattendedInstallConfig" => {
            copy("/installer/image", "/machine/install/image");
            copy("/provisioning/diskSelector", "/machine/install/diskSelector");
        }
        "KubeEtcdEncryptionConfig" => {
            let providers = get("/config/resources/0/providers");
            let mut secret = providers.iter().filter_map(Value::as_array).flatten();
            let secret = secret.find_map(|provider| provider.pointer("/secretbox/keys/0/secret"));
            if let Some(secret) = secret {
                put(legacy, "/cluster/secretboxEncryptionSecret", secret.clone());
            }
        }
        "KubeAPIServerCAConfig" => {
            copy_certificate_pair(legacy, document, "/issuingCA", "/cluster/ca");
            if let Some(accepted) = document.pointer("/acceptedCAs/0").filter(|_| get("/issuingCA").is_none()) {
                put(legacy, "/cluster/ca/crt", to_base64(accepted));
            }
        }
        "KubeAggregatorCAConfig" => copy_certificate_pair(legacy, document, "/issuingCA", "/cluster/aggregatorCA"),
        "KubeServiceAccountConfig" => {
            if let Some(key) = get("/issuer/privateKey") {
                put(legacy, "/cluster/serviceAccount/key", to_base64(&key));
            }
        }
        "KubeAdmissionControlConfig" => {
            let plugin = json!({"name": get("/name"), "configuration": get("/configuration")});
            let mut plugins = legacy.pointer("/cluster/apiServer/admissionControl").and_then(Value::as_array).cloned();
            plugins.get_or_insert_default().push(plugin);
            put(legacy, "/cluster/apiServer/admissionControl", json!(plugins));
        }
        _ => {}
    }
}

/// PEM texts, which the `v1alpha1` document has in base64.
fn copy_certificate_pair(legacy: &mut Value, document: &Value, from: &str, to: &str) {
    for (old, new) in [("crt", "cert"), ("key", "key")] {
        if let Some(text) = document.pointer(&format!("{from}/{new}")) {
            put(legacy, &format!("{to}/{old}"), to_base64(text));
        }
    }
}

fn to_base64(text: &Value) -> Value {
    json!(STANDARD.encode(text.as_str().unwrap_or_default()))
}

/// Sets a value and creates the mappings above it.
fn put(value: &mut Value, pointer: &str, new: Value) {
    let mut at = value;
    for key in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[key];
    }
    *at = new;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a control plane node (Talos 1.14).
    #[test]
    fn the_kube_node_config_alone_decides_the_taints() {
        let schedulable = |more: &[Value]| {
            let old = json!({"version": "v1alpha1", "machine": {"type": "controlplane"}, "cluster": {}});
            let all: Vec<Value> = std::iter::once(old).chain(more.iter().cloned()).collect();
            to_single_document(&all).unwrap().pointer("/cluster/allowSchedulingOnControlPlanes").cloned()
        };
        let node = |taints: Value| json!({"apiVersion": "v1alpha1", "kind": "KubeNodeConfig", "taints": taints});
        assert_eq!(schedulable(&[]), None);
        assert_eq!(schedulable(&[node(Value::Null)]), Some(json!(true)));
        let taint = json!({"node-role.kubernetes.io/control-plane": "NoSchedule"});
        assert_eq!(schedulable(&[node(taint)]), Some(json!(false)));
    }
}
