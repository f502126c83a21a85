//! The nodes of a cluster, independent of the input format.

use std::net::IpAddr;
use talos_schema::Contract;

use super::Role;
use yaml::Location;

/// The endpoint of the Kubernetes API: `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    /// Parses `https://host:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://")?.trim_end_matches('/');
        let (host, port) = rest.rsplit_once(':')?;
        let host = host.trim_matches(['[', ']']);
        (!host.is_empty()).then_some(())?;
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }

    /// The host when it is an IP address.
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

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct InventoryNode {
    pub hostname: String,
    /// The address of its Talos API.
    pub address: IpAddr,
    pub role: Role,
    /// The place of its definition.
    pub at: Location,
}

/// The facts about a cluster that need no secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    pub cluster_name: String,
    pub endpoint: Endpoint,
    /// With a leading `v`.
    pub talos_version: String,
    /// Without a leading `v`.
    pub kubernetes_version: String,
    pub nodes: Vec<InventoryNode>,
}

impl Inventory {
    /// The control planes, sorted by address, so that the order does not depend on the input files.
    pub fn control_planes(&self) -> Vec<&InventoryNode> {
        let mut nodes: Vec<&InventoryNode> = self.nodes.iter().filter(|node| node.role == Role::ControlPlane).collect();
        nodes.sort_by_key(|node| node.address);
        nodes
    }

    /// The message when the running Talos has another minor version than the config, or an unknown one.
    pub fn version_mismatch(&self, running: &str) -> Option<String> {
        let (runs, configured) = (minor(running)?, minor(&self.talos_version)?);
        let version = &self.talos_version;
        let (oldest, newest) = (Contract::OLDEST.minor(), Contract::NEWEST.minor());
        if runs < oldest {
            return Some(format!(
                "it runs Talos {running}, older than the oldest supported version 1.{oldest}; features may be missing"
            ));
        }
        if runs > newest {
            return Some(format!(
                "it runs Talos {running}, newer than the newest supported version 1.{newest}; it is treated as 1.{newest}"
            ));
        }
        if configured > runs {
            return Some(format!(
                "it runs Talos {running}, its config is for {version}: the node may reject newer fields"
            ));
        }
        (configured < runs).then(|| format!("it runs Talos {running}, its config is for {version}, which it accepts"))
    }
}

/// The minor version of a Talos 1 version.
fn minor(version: &str) -> Option<u32> {
    version.trim_start_matches('v').strip_prefix("1.")?.split(['.', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_minor_versions_are_reported() {
        let inventory = Inventory {
            cluster_name: "blue".into(),
            endpoint: Endpoint { host: "10.0.0.10".into(), port: 6443 },
            talos_version: "v1.12.4".into(),
            kubernetes_version: "1.35.0".into(),
            nodes: vec![],
        };
        let message = |running: &str| inventory.version_mismatch(running).unwrap_or_else(|| "nothing".to_owned());
        let all: Vec<String> =
            ["v1.10.7", "v1.11.5", "v1.12.0", "v1.13.0-alpha.1", "v1.15.0"].into_iter().map(message).collect();
        insta::assert_snapshot!(all.join("\n"), @"
        it runs Talos v1.10.7, older than the oldest supported version 1.11; features may be missing
        it runs Talos v1.11.5, its config is for v1.12.4: the node may reject newer fields
        nothing
        it runs Talos v1.13.0-alpha.1, its config is for v1.12.4, which it accepts
        it runs Talos v1.15.0, newer than the newest supported version 1.14; it is treated as 1.14
        ");
    }
}
