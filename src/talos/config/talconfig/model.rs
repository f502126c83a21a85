//! What a talconfig says, checked.

use std::net::IpAddr;

use serde_json::Value;

use crate::talos::config::{Contract, Documents, Role};
use crate::yaml::Location;

/// The address under which the Kubernetes API is known: `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    /// The host as an address, when it is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    pub fn url(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("https://[{address}]:{}", self.port),
            _ => format!("https://{}:{}", self.host, self.port),
        }
    }
}

/// A patch and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Patch {
    pub(super) at: Location,
    pub(super) documents: Documents,
}

/// The settings that a node shares with the others of its role.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Group {
    pub(super) settings: Settings,
    pub(super) patches: Vec<Patch>,
}

/// Settings that a node or its role may give; the node's win.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Settings {
    pub(super) nameservers: Vec<String>,
    pub(super) node_labels: Option<Value>,
    pub(super) node_annotations: Option<Value>,
    pub(super) node_taints: Option<Value>,
    pub(super) schematic: Option<Value>,
    pub(super) image_url: Option<String>,
    pub(super) interfaces: Vec<Value>,
    pub(super) files: Vec<Value>,
    pub(super) kernel_modules: Vec<Value>,
}

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub hostname: String,
    /// The first of its addresses; the one that the API is reached at.
    pub address: IpAddr,
    pub role: Role,
    pub at: Location,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ignore_hostname: bool,
    pub(super) install_disk: Option<String>,
    pub(super) install_disk_selector: Option<Value>,
    pub(super) settings: Settings,
    pub(super) patches: Vec<Patch>,
}

/// A cluster as its talconfig describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Talconfig {
    pub cluster_name: String,
    pub endpoint: Endpoint,
    pub contract: Contract,
    /// With a leading `v`.
    pub talos_version: String,
    /// Without a leading `v`.
    pub kubernetes_version: String,
    pub nodes: Vec<Node>,
    pub pod_subnets: Vec<String>,
    pub service_subnets: Vec<String>,
    pub(super) dns_domain: String,
    pub(super) cni: Option<Value>,
    pub(super) api_server_sans: Vec<String>,
    pub(super) machine_sans: Vec<String>,
    pub(super) schedule_on_control_planes: bool,
    pub(super) patches: Vec<Patch>,
    pub(super) control_plane: Group,
    pub(super) worker: Group,
}

impl Talconfig {
    /// The control planes, lowest address first: an order that does not depend on the file's.
    pub fn control_planes(&self) -> Vec<&Node> {
        let mut nodes: Vec<&Node> = self.nodes.iter().filter(|node| node.role == Role::ControlPlane).collect();
        nodes.sort_by_key(|node| node.address);
        nodes
    }

    pub(super) fn group(&self, role: Role) -> &Group {
        match role {
            Role::ControlPlane => &self.control_plane,
            Role::Worker => &self.worker,
        }
    }
}
