//! A cluster's machines, whatever format describes them.

use std::net::IpAddr;

use super::Role;
use yaml::Location;

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

    /// What to say when a node runs another line of Talos than its config is written for, or one that is not known here.
    pub fn disagreement(&self, running: &str) -> Option<String> {
        let (runs, wants) = (minor(running)?, minor(&self.talos_version)?);
        let wanted = &self.talos_version;
        if runs < OLDEST {
            return Some(format!(
                "it runs Talos {running}; 1.{OLDEST} is the oldest that is known here, and what it lacks is done without"
            ));
        }
        if runs > NEWEST {
            return Some(format!(
                "it runs Talos {running}; 1.{NEWEST} is the newest that is known here, and it is spoken to as that"
            ));
        }
        if wants > runs {
            return Some(format!(
                "it runs Talos {running}, its config is written for {wanted}: fields that came since would be refused"
            ));
        }
        (wants < runs).then(|| format!("it runs Talos {running}, its config is written for {wanted}, which it takes"))
    }
}

/// The lines of Talos that are known, 1.x.
const OLDEST: u32 = 11;
const NEWEST: u32 = 14;

/// The line of a version of Talos 1.
fn minor(version: &str) -> Option<u32> {
    version.trim_start_matches('v').strip_prefix("1.")?.split(['.', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_disagree_are_told_and_the_same_line_is_not() {
        let inventory = Inventory {
            cluster_name: "blue".into(),
            endpoint: Endpoint { host: "10.0.0.10".into(), port: 6443 },
            talos_version: "v1.12.4".into(),
            kubernetes_version: "1.35.0".into(),
            nodes: vec![],
        };
        let told = |running: &str| inventory.disagreement(running).unwrap_or_else(|| "nothing".to_owned());
        let all: Vec<String> =
            ["v1.10.7", "v1.11.5", "v1.12.0", "v1.13.0-alpha.1", "v1.15.0"].into_iter().map(told).collect();
        insta::assert_snapshot!(all.join("\n"), @"
        it runs Talos v1.10.7; 1.11 is the oldest that is known here, and what it lacks is done without
        it runs Talos v1.11.5, its config is written for v1.12.4: fields that came since would be refused
        nothing
        it runs Talos v1.13.0-alpha.1, its config is written for v1.12.4, which it takes
        it runs Talos v1.15.0; 1.14 is the newest that is known here, and it is spoken to as that
        ");
    }
}
