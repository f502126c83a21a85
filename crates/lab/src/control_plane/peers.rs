//! How a machine finds the control planes: for the signature of its certificate, and to join etcd.

use std::net::IpAddr;

use super::ControlPlane;
use crate::machine_config::AppliedConfig;
use crate::record::facts;
use crate::scenario::DiscoveryService;

/// What leads a machine to the control planes (Talos 1.11 to 1.14: `StaticEndpointController`, `cluster.EndpointController`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerRoute {
    /// The address in the endpoint is one of a control plane, or a name that stands for them.
    Endpoint,
    /// The discovery service.
    Discovery,
    /// The endpoint's virtual IP, which a control plane has once its API server runs.
    VirtualIp,
}

impl PeerRoute {
    /// The fact that the route waits for.
    pub(crate) fn cause(self) -> Option<String> {
        (self == Self::VirtualIp).then(|| facts::API_READY.to_owned())
    }
}

impl ControlPlane {
    /// Waits until a machine with this config, which has just booted, can find the control planes.
    pub(crate) async fn find_control_planes(&self, config: &AppliedConfig) -> PeerRoute {
        if !self.has_virtual_endpoint(config) {
            return PeerRoute::Endpoint;
        }
        let discovered = async {
            if config.uses_discovery_service && self.discovery.service == DiscoveryService::Reachable {
                tokio::time::sleep(self.discovery.delay.duration()).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let mut client = self.client.subscribe();
        tokio::select! {
            () = discovered => PeerRoute::Discovery,
            // `self` owns the sender, so this only ever waits.
            _ = client.wait_for(Option::is_some) => PeerRoute::VirtualIp,
        }
    }

    /// Whether the endpoint is an address of no machine.
    fn has_virtual_endpoint(&self, config: &AppliedConfig) -> bool {
        let address = endpoint_host(&config.endpoint).parse::<IpAddr>();
        address.is_ok_and(|address| !self.machines.contains(&address))
    }
}

/// The host in an endpoint such as `https://10.0.0.1:6443`.
pub(super) fn endpoint_host(endpoint: &str) -> &str {
    let endpoint = endpoint.trim_start_matches("https://");
    endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host).trim_matches(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_endpoint_has_no_port_and_no_brackets() {
        let hosts = ["https://10.0.0.1:6443", "https://[fd00::1]:6443", "https://api.example.com:6443", "https://api"];
        assert_eq!(hosts.map(endpoint_host), ["10.0.0.1", "fd00::1", "api.example.com", "api"]);
    }
}
