//! Configs of the 1.14 contract, whose settings are documents of their own: brought into the shape of the one document
//! that they have taken the place of, so that the rest reads either.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The old document with what the other documents say put in.
pub(super) fn lowered(documents: &[Value]) -> Option<Value> {
    let mut legacy = documents.iter().find(|document| document.get("kind").is_none())?.clone();
    // A config of an older contract has these in the old document, and must not lose them.
    let own = documents.iter().any(|document| kind(document) == "KubeClusterConfig");
    for document in documents {
        lower(&mut legacy, document);
    }
    if own {
        let cni = documents.iter().find(|document| kind(document) == "KubeFlannelCNIConfig");
        put(&mut legacy, "/cluster/network/cni/name", json!(cni.map_or("none", |_| "flannel")));
    }
    // Where there is this document, taints are its alone, whatever form the rest has (Talos 1.14,
    // `container.K8sNodeConfig`).
    let node = documents.iter().find(|document| kind(document) == "KubeNodeConfig");
    if own || node.is_some() {
        let taints = node.and_then(|document| document.pointer("/taints")).and_then(Value::as_object);
        let tainted = taints.is_some_and(|taints| taints.contains_key("node-role.kubernetes.io/control-plane"));
        put(&mut legacy, "/cluster/allowSchedulingOnControlPlanes", json!(!tainted));
    }
    Some(legacy)
}

fn kind(document: &Value) -> &str {
    document.get("kind").and_then(Value::as_str).unwrap_or_default()
}

fn lower(legacy: &mut Value, document: &Value) {
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
        "KubeAPIServerConfig" => copy("/certExtraSANs", "/cluster/apiServer/certSANs"),
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
            pair(legacy, document, "/issuingCA", "/cluster/ca");
            if let Some(accepted) = document.pointer("/acceptedCAs/0").filter(|_| get("/issuingCA").is_none()) {
                put(legacy, "/cluster/ca/crt", encoded(accepted));
            }
        }
        "KubeAggregatorCAConfig" => pair(legacy, document, "/issuingCA", "/cluster/aggregatorCA"),
        "KubeServiceAccountConfig" => {
            if let Some(key) = get("/issuer/privateKey") {
                put(legacy, "/cluster/serviceAccount/key", encoded(&key));
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

/// PEM texts, which the old document has in base64.
fn pair(legacy: &mut Value, document: &Value, from: &str, to: &str) {
    for (old, new) in [("crt", "cert"), ("key", "key")] {
        if let Some(text) = document.pointer(&format!("{from}/{new}")) {
            put(legacy, &format!("{to}/{old}"), encoded(text));
        }
    }
}

fn encoded(text: &Value) -> Value {
    json!(STANDARD.encode(text.as_str().unwrap_or_default()))
}

/// Sets a value, making the mappings on the way to it.
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

/// What a mapping of documents is told apart by.
fn identity(document: &Value) -> [&Value; 3] {
    ["apiVersion", "kind", "name"].map(|key| document.get(key).unwrap_or(&Value::Null))
}

/// Documents with those of a later config in their places, or after them.
pub(super) fn joined(before: Vec<Value>, later: Vec<Value>) -> Vec<Value> {
    let mut all = before;
    for document in later {
        match all.iter_mut().find(|known| identity(known) == identity(&document)) {
            Some(known) => *known = document,
            None => all.push(document),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the control plane's node, as Talos 1.14 has it: the document of a node owns its taints.
    #[test]
    fn a_document_about_the_node_decides_its_taints_alone() {
        let schedulable = |more: &[Value]| {
            let old = json!({"version": "v1alpha1", "machine": {"type": "controlplane"}, "cluster": {}});
            let all: Vec<Value> = std::iter::once(old).chain(more.iter().cloned()).collect();
            lowered(&all).unwrap().pointer("/cluster/allowSchedulingOnControlPlanes").cloned()
        };
        let node = |taints: Value| json!({"apiVersion": "v1alpha1", "kind": "KubeNodeConfig", "taints": taints});
        assert_eq!(schedulable(&[]), None);
        assert_eq!(schedulable(&[node(Value::Null)]), Some(json!(true)));
        let taint = json!({"node-role.kubernetes.io/control-plane": "NoSchedule"});
        assert_eq!(schedulable(&[node(taint)]), Some(json!(false)));
    }
}
