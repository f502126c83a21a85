//! Whether a Talos runs the Kubernetes of a config (`ValidateKubernetesImageTag`, Talos 1.11 to 1.14). A machine checks it
//! when it is sent a config; `talosctl validate` does not.

use serde_json::Value;

use super::{Contract, Documents};

/// An image in a config whose Kubernetes the machine's Talos does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedKubernetes {
    /// The index of the document.
    pub document: usize,
    /// The field, such as `machine.kubelet.image`.
    pub path: &'static str,
    pub message: String,
}

/// Fields with images of Kubernetes, by the kind of their document.
const EVERY_MACHINE: [(Option<&str>, &str); 2] = [(None, "machine.kubelet.image"), (Some("KubeletConfig"), "image")];
const CONTROL_PLANES: [(Option<&str>, &str); 6] = [
    (None, "cluster.apiServer.image"),
    (None, "cluster.controllerManager.image"),
    (None, "cluster.scheduler.image"),
    (Some("KubeAPIServerConfig"), "image"),
    (Some("KubeControllerManagerConfig"), "image"),
    (Some("KubeSchedulerConfig"), "image"),
];

/// The images in a config whose Kubernetes a Talos does not run. `version` is the Talos as messages show it.
pub fn unsupported_kubernetes(documents: &Documents, talos: Contract, version: &str) -> Vec<UnsupportedKubernetes> {
    let machine_type = documents.legacy().and_then(|legacy| legacy.pointer("/machine/type")?.as_str());
    let is_control_plane = matches!(machine_type, Some("controlplane" | "init"));
    let fields = EVERY_MACHINE.iter().chain(CONTROL_PLANES.iter().filter(|_| is_control_plane));
    let mut found = Vec::new();
    for (document, value) in documents.0.iter().enumerate() {
        for (_, path) in fields.clone().filter(|(kind, _)| *kind == value.get("kind").and_then(Value::as_str)) {
            let image = path.split('.').try_fold(value, |value, key| value.get(key)).and_then(Value::as_str);
            let problem = image.filter(|image| !image.is_empty()).and_then(|image| problem(image, talos, version));
            found.extend(problem.map(|message| UnsupportedKubernetes { document, path, message }));
        }
    }
    found
}

fn problem(image: &str, talos: Contract, version: &str) -> Option<String> {
    let Some((_, tag)) = image.rsplit_once(":v") else {
        return Some(format!("the image `{image}` has no tag with a Kubernetes version, which Talos needs"));
    };
    let tag = tag.split('@').next().unwrap_or(tag);
    let mut numbers = tag.split('.');
    let (major, minor) = (numbers.next()?, numbers.next()?.parse::<u64>().ok()?);
    let minors = talos.kubernetes_minors();
    let is_supported = major == "1" && minors.contains(&minor);
    let (low, high) = (minors.start(), minors.end());
    (!is_supported).then(|| format!("Talos {version} does not support Kubernetes {tag}, only 1.{low} to 1.{high}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(machine_type: &str, kubelet: &str, apiserver: &str, talos: Contract) -> Vec<String> {
        let legacy = json!({
            "machine": {"type": machine_type, "kubelet": {"image": kubelet}},
            "cluster": {"apiServer": {"image": apiserver}},
        });
        let documents = Documents(vec![legacy]);
        let found = unsupported_kubernetes(&documents, talos, &talos.to_string());
        found.into_iter().map(|found| format!("{}: {}", found.path, found.message)).collect()
    }

    #[test]
    fn a_kubernetes_outside_the_range_of_its_talos_is_found() {
        let (old, new) = ("ghcr.io/siderolabs/kubelet:v1.29.9", "registry.k8s.io/kube-apiserver:v1.36.1@sha256:0");
        assert_eq!(
            found("controlplane", old, new, Contract::V1_12),
            [
                "machine.kubelet.image: Talos v1.12 does not support Kubernetes 1.29.9, only 1.30 to 1.35",
                "cluster.apiServer.image: Talos v1.12 does not support Kubernetes 1.36.1, only 1.30 to 1.35",
            ]
        );
        assert_eq!(found("worker", "ghcr.io/siderolabs/kubelet:v1.35.0", new, Contract::V1_12), [""; 0]);
        assert_eq!(found("controlplane", "", new, Contract::V1_13), [""; 0]);
        let untagged = found("worker", "ghcr.io/siderolabs/kubelet", "", Contract::V1_12);
        assert!(untagged[0].contains("has no tag with a Kubernetes version"), "{untagged:?}");
    }

    #[test]
    fn documents_of_the_new_contract_are_read_too() {
        let legacy = json!({"machine": {"type": "worker"}});
        let kubelet = json!({"kind": "KubeletConfig", "image": "ghcr.io/siderolabs/kubelet:v1.31.0"});
        let found = unsupported_kubernetes(&Documents(vec![legacy, kubelet]), Contract::V1_14, "v1.14.0");
        assert_eq!((found.len(), found[0].document, found[0].path), (1, 1, "image"));
    }
}
