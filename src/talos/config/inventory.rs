//! A cluster's machines, whatever format describes them.

use std::net::IpAddr;

use super::Role;
use crate::yaml::Location;

/// The address under which the Kubernetes API is known: `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    /// Reads `https://host:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://")?.trim_end_matches('/');
        let (host, port) = rest.rsplit_once(':')?;
        let host = host.trim_matches(['[', ']']);
        (!host.is_empty()).then_some(())?;
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }

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

/// One machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub hostname: String,
    /// The address that its API is reached at.
    pub address: IpAddr,
    pub role: Role,
    /// Where it is described.
    pub at: Location,
}

/// What is known of a cluster before any secret is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    pub cluster_name: String,
    pub endpoint: Endpoint,
    /// With a leading `v`.
    pub talos_version: String,
    /// Without a leading `v`.
    pub kubernetes_version: String,
    pub nodes: Vec<Node>,
}

impl Inventory {
    /// The control planes, lowest address first: an order that does not depend on the file's.
    pub fn control_planes(&self) -> Vec<&Node> {
        let mut nodes: Vec<&Node> = self.nodes.iter().filter(|node| node.role == Role::ControlPlane).collect();
        nodes.sort_by_key(|node| node.address);
        nodes
    }
}
