//! Causes in the network that a message of a controller shows: names that do not resolve (K11), traffic that does not
//! arrive (K10).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde_json::Value;

use super::context::RunContext;
use engine::Code;

/// What resolvers say of a name: Go 1.25 (`net.DNSError`), and C libraries that libgit2, ssh and curl use.
const UNRESOLVED: [&str; 4] =
    ["no such host", "server misbehaving", "Temporary failure in name resolution", "Could not resolve host"];
/// What Go says of packets that are lost.
const LOST: [&str; 3] = ["i/o timeout", "no route to host", "network is unreachable"];

/// The code of what a controller says, where it is about names or about the cluster's own networks.
pub(super) fn network_code(message: &str, cluster_networks: &[IpNet]) -> Option<Code> {
    let contains = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    // Go writes `lookup NAME on SERVER: read udp …: i/o timeout` when the server does not respond.
    let is_lookup = message.contains("lookup ") && contains(&LOST);
    if contains(&UNRESOLVED) || is_lookup {
        return Some(Code::K11);
    }
    let dialled = message.split("dial tcp ").skip(1).filter_map(dialled_address);
    let is_inside = |address: &IpAddr| cluster_networks.iter().any(|network| network.contains(address));
    (contains(&LOST) && dialled.into_iter().any(|address| is_inside(&address))).then_some(Code::K10)
}

/// The address in what follows `dial tcp `: `10.96.0.7:80: i/o timeout`.
fn dialled_address(rest: &str) -> Option<IpAddr> {
    let word = rest.split_whitespace().next()?;
    word.trim_end_matches(':').parse().ok().map(|address: SocketAddr| address.ip())
}

impl RunContext {
    /// The same for this cluster.
    pub(super) fn network_code(&self, message: &str) -> Option<Code> {
        network_code(message, &self.cluster_networks())
    }

    /// The networks of pods and services, as the control planes' configs have them.
    fn cluster_networks(&self) -> Vec<IpNet> {
        let Some(node) = self.control_planes().into_iter().next() else { return vec![] };
        let config = self.config(node);
        // Talos 1.14 has a document of its own, earlier versions a section.
        let sections = config.0.iter().flat_map(|document| [Some(document), document.pointer("/cluster/network")]);
        let lists = sections.flatten().flat_map(|section| [section.get("podSubnets"), section.get("serviceSubnets")]);
        let texts = lists.flatten().filter_map(Value::as_array).flatten().filter_map(Value::as_str);
        texts.filter_map(|text| text.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_controllers_show_what_is_wrong_with_the_network() {
        let networks: Vec<IpNet> =
            ["10.42.0.0/16", "10.96.0.0/12", "fd00:96::/112"].map(|text| text.parse().unwrap()).into();
        let code = |message: &str| network_code(message, &networks);
        for unresolved in [
            "failed to checkout and determine revision: unable to list remote: dial tcp: lookup github.com on 10.96.0.10:53: no such host",
            "lookup ghcr.io on 10.96.0.10:53: server misbehaving",
            "dial tcp: lookup github.com on 10.96.0.10:53: read udp 10.42.1.9:42311->10.96.0.10:53: i/o timeout",
            "ssh: Could not resolve hostname github.com: Temporary failure in name resolution",
        ] {
            assert_eq!(code(unresolved), Some(Code::K11), "{unresolved}");
        }
        for lost in [
            "Get \"http://source-controller.flux-system.svc.cluster.local./x.tar.gz\": dial tcp 10.96.12.7:80: i/o timeout",
            "dial tcp 10.42.3.4:8443: connect: no route to host",
            "dial tcp [fd00:96::7]:80: i/o timeout",
        ] {
            assert_eq!(code(lost), Some(Code::K10), "{lost}");
        }
        for other in [
            // Outside the cluster: an egress firewall, or the server itself.
            "dial tcp 140.82.121.4:443: i/o timeout",
            "dial tcp 10.42.3.4:8443: connect: connection refused",
            "authentication required",
            "knownhosts: key mismatch",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }
}
