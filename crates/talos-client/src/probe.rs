//! What a node is, found out without changing anything.

use std::net::IpAddr;

use super::configured::Client;
use super::connect::Fingerprint;
use super::error::{ClientError, Kind};
use super::maintenance::Maintenance;
use super::resource::{MachineStatus, Stage};
use net::Dialer;
use talos_config::AdminIdentity;

/// What a node turned out to be.
#[derive(Debug)]
pub enum Probe {
    /// Nothing answers on its port: powered off, rebooting, or installing (Talos before 1.13).
    Closed(ClientError),
    /// Waiting for a config; whose key it showed.
    Maintenance { client: Maintenance, fingerprint: Option<Fingerprint> },
    /// A node of this cluster.
    Configured { client: Client, status: MachineStatus },
    /// It proves to belong to another cluster, so nothing may be changed on it.
    Foreign(Foreign),
}

/// Why a node is taken for another cluster's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    pub node: IpAddr,
    /// What the TLS handshake said.
    pub evidence: String,
}

/// Finds out what the node at `node` is: first as the administrator of the cluster, then as a stranger.
///
/// # Errors
///
/// `OtherKey` when a key is pinned for the node and it shows another one in maintenance mode. A node that answers but
/// speaks no Talos API that can be understood.
pub async fn probe(
    dialer: &Dialer,
    node: IpAddr,
    identity: &AdminIdentity,
    pin: Option<&Fingerprint>,
) -> Result<Probe, ClientError> {
    let trusted = match Client::connect(dialer, node, identity).await {
        Ok(client) => client.machine_status().await.map(|status| (client, status)),
        Err(error) => Err(error),
    };
    let refusal = match trusted {
        Ok((client, status)) => return Ok(Probe::Configured { client, status }),
        Err(error) if error.kind == Kind::Unreachable => return Ok(Probe::Closed(error)),
        Err(error) if error.kind == Kind::Untrusted => error,
        Err(error) => return Err(error),
    };
    let stranger = match Maintenance::connect(dialer, node, pin).await {
        Ok(client) => client.machine_status().await.map(|status| (client, status)),
        Err(error) => Err(error),
    };
    match stranger {
        Ok((client, status)) if status.stage == Stage::Maintenance => {
            let fingerprint = client.fingerprint.clone();
            Ok(Probe::Maintenance { client, fingerprint })
        }
        Ok(_) | Err(ClientError { kind: Kind::Untrusted, .. }) => {
            Ok(Probe::Foreign(Foreign { node, evidence: refusal.reason }))
        }
        // The port closed between the two looks, as it does while a node takes its config.
        Err(error) if error.kind == Kind::Unreachable => Ok(Probe::Closed(error)),
        Err(error) => Err(error),
    }
}
