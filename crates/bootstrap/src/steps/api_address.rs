//! Whether every node serves the address at which Cilium looks for the Kubernetes API (K06): without it no agent starts.

use std::net::IpAddr;

use serde_json::Value;

use super::context::RunContext;
use engine::{Code, StepError};
use talos_config::Role;
use talos_schema::Documents;

/// The port of KubePrism in a config that names none (Talos 1.11 to 1.14, `defaultKubePrismPort`).
const KUBE_PRISM: u64 = 7445;
/// The port of an API server in a config that names none (Talos 1.11 to 1.14, `constants.DefaultControlPlanePort`).
const API_SERVER: u64 = 6443;

/// Fails when a release is to find the API on each node's own loopback address, and a node does not serve it there.
pub(super) fn check(context: &RunContext) -> Result<(), StepError> {
    for release in &context.cluster.bootstrap.releases.releases {
        let Some(port) = loopback_port(&release.values) else { continue };
        let mut nodes = context.cluster.inventory.nodes.iter();
        let Some(node) = nodes.find(|node| !serves(context.config(node), node.role, port)) else {
            continue;
        };
        return Err(StepError::invalid_input(format!(
            "{} looks for the Kubernetes API on each node's own port {port}, and {} does not serve it there",
            release.id, node.hostname
        ))
        .with_place(super::errors::release_place(release))
        .because(kube_prism(context.config(node)).map_or_else(
            || "KubePrism is not enabled on the node".to_owned(),
            |other| format!("KubePrism listens on port {other} there"),
        ))
        .code(Code::K06));
    }
    Ok(())
}

/// The port on which Cilium looks for the API on each node itself (Cilium 1.18: `k8sServiceHost`, `k8sServicePort`);
/// nothing when it looks elsewhere.
fn loopback_port(values: &Value) -> Option<u64> {
    let host = values.get("k8sServiceHost")?.as_str()?;
    let is_loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let port = match values.get("k8sServicePort")? {
        Value::String(text) => text.parse().ok()?,
        port => port.as_u64()?,
    };
    is_loopback.then_some(port)
}

/// Whether a node with this config serves the API on its own loopback address.
fn serves(config: &Documents, role: Role, port: u64) -> bool {
    let own = config.legacy().and_then(|legacy| legacy.pointer("/cluster/controlPlane/localAPIServerPort")?.as_u64());
    let is_api_server = role == Role::ControlPlane && port == own.filter(|port| *port > 0).unwrap_or(API_SERVER);
    is_api_server || kube_prism(config) == Some(port)
}

/// The port of KubePrism, where it is enabled: a document of its own from Talos 1.14 on, a feature before.
fn kube_prism(config: &Documents) -> Option<u64> {
    let document = config.0.iter().find(|document| document["kind"] == "KubePrismConfig");
    if let Some(document) = document {
        return document["port"].as_u64();
    }
    let feature = config.legacy()?.pointer("/machine/features/kubePrism")?;
    (feature["enabled"] == true).then(|| feature["port"].as_u64().filter(|port| *port > 0).unwrap_or(KUBE_PRISM))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_that_a_node_does_not_serve_is_found() {
        let cilium = |host: &str, port: Value| loopback_port(&json!({"k8sServiceHost": host, "k8sServicePort": port}));
        assert_eq!(cilium("localhost", json!(7445)), Some(7445));
        assert_eq!(cilium("127.0.0.1", json!("7445")), Some(7445));
        assert_eq!(cilium("::1", json!(6443)), Some(6443));
        assert_eq!(cilium("localhost", Value::Null), None);
        assert_eq!(cilium("api.example.com", json!(6443)), None);
        assert_eq!(loopback_port(&json!({"operator": {}})), None);

        let feature = |prism: Value| Documents(vec![json!({"machine": {"features": {"kubePrism": prism}}})]);
        let on = feature(json!({"enabled": true}));
        assert!(serves(&on, Role::Worker, 7445) && !serves(&on, Role::Worker, 6443));
        assert!(serves(&on, Role::ControlPlane, 6443), "an API server serves its own node");
        assert!(serves(&feature(json!({"enabled": true, "port": 7000})), Role::Worker, 7000));
        assert!(!serves(&feature(json!({"enabled": true, "port": 7000})), Role::Worker, 7445));
        assert!(!serves(&feature(json!({"enabled": false, "port": 7445})), Role::Worker, 7445));
        assert!(!serves(&Documents(vec![json!({"machine": {}})]), Role::ControlPlane, 7445));
        let document = json!({"apiVersion": "v1alpha1", "kind": "KubePrismConfig", "port": 7445});
        assert!(serves(&Documents(vec![json!({"machine": {}}), document]), Role::Worker, 7445));
    }
}
