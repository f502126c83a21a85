//! Extracts facts about the node and the cluster from a machine config.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::{Endpoint, Role};
use talos_schema::Documents;

/// The facts that a run needs from a finished config.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ConfigFacts {
    pub(super) role: Option<Role>,
    pub(super) hostname: Option<String>,
    /// All addresses that the config assigns, in order.
    pub(super) addresses: Vec<IpAddr>,
    /// Subnets of the node's address, for configs without one.
    pub(super) subnets: Vec<IpNet>,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) cluster_name: Option<String>,
    /// With a leading `v`.
    pub(super) talos_version: Option<String>,
    /// Without a leading `v`.
    pub(super) kubernetes_version: Option<String>,
}

/// Fields with the subnets of node addresses, legacy document first (Talos 1.11 to 1.14).
const SUBNETS: [&str; 4] = [
    "/machine/kubelet/nodeIP/validSubnets",
    "/cluster/etcd/advertisedSubnets",
    "/nodeIP/validSubnets",
    "/advertisedSubnets",
];

/// Extracts the facts of all documents.
pub(super) fn from_documents(documents: &Documents) -> ConfigFacts {
    let mut facts = ConfigFacts::default();
    if let Some(config) = documents.legacy() {
        legacy(&mut facts, config);
    }
    for document in &documents.0 {
        for pointer in SUBNETS {
            let listed = document.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
            facts.subnets.extend(listed.filter_map(|subnet| subnet.as_str()?.parse::<IpNet>().ok()));
        }
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        match text("/kind").unwrap_or_default() {
            "HostnameConfig" => facts.hostname = text("/hostname").map(str::to_owned).or(facts.hostname.take()),
            "LinkConfig" | "BondConfig" | "VLANConfig" | "BridgeConfig" => {
                let addresses = document.get("addresses").and_then(Value::as_array).into_iter().flatten();
                facts.addresses.extend(addresses.filter_map(|entry| address(entry.get("address")?.as_str()?)));
            }
            "KubeClusterConfig" => {
                facts.endpoint = text("/endpoint").and_then(Endpoint::parse).or(facts.endpoint.take());
                facts.cluster_name = text("/clusterName").map(str::to_owned).or(facts.cluster_name.take());
            }
            "KubeletConfig" => {
                facts.kubernetes_version = text("/image").and_then(tag).or(facts.kubernetes_version.take());
            }
            "UnattendedInstallConfig" => {
                facts.talos_version = text("/installer/image").and_then(version).or(facts.talos_version.take());
            }
            _ => {}
        }
    }
    facts
}

fn legacy(facts: &mut ConfigFacts, config: &Value) {
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    facts.role = match text("/machine/type") {
        Some("controlplane" | "init") => Some(Role::ControlPlane),
        Some("worker") => Some(Role::Worker),
        _ => None,
    };
    facts.hostname = text("/machine/network/hostname").map(str::to_owned);
    facts.endpoint = text("/cluster/controlPlane/endpoint").and_then(Endpoint::parse);
    facts.cluster_name = text("/cluster/clusterName").map(str::to_owned);
    facts.kubernetes_version = text("/machine/kubelet/image").and_then(tag);
    facts.talos_version = text("/machine/install/image").and_then(version);
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let interfaces = config.pointer("/machine/network").map(|network| list(network, "interfaces"));
    for interface in interfaces.unwrap_or_default() {
        for link in std::iter::once(interface.clone()).chain(list(&interface, "vlans")) {
            facts.addresses.extend(list(&link, "addresses").iter().filter_map(|entry| address(entry.as_str()?)));
        }
    }
}

/// A routable address; link-local and loopback addresses are skipped.
fn address(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpNet>().map(|net| net.addr()).or_else(|_| text.parse()).ok()?;
    let local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_loopback(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_loopback(),
    };
    (!local).then_some(address)
}

/// The tag of an image without a leading `v` and without digest.
fn tag(image: &str) -> Option<String> {
    let image = image.split('@').next().unwrap_or(image);
    let (_, tag) = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    Some(tag.trim_start_matches('v').to_owned())
}

fn version(image: &str) -> Option<String> {
    tag(image).map(|tag| format!("v{tag}"))
}
