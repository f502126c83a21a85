//! Read-only detection of the state of a node.

use std::net::IpAddr;

use super::client::Client;
use super::connect::{CertificateFingerprint, ClientIdentity};
use super::error::{ClientError, ClientErrorKind};
use super::maintenance::Maintenance;
use super::resource::{MachineStatus, Stage};
use net::Dialer;

/// The detected state of a node.
#[derive(Debug)]
pub enum Probe {
    /// The port is closed: powered off, rebooting, or installing (Talos before 1.13).
    Closed(ClientError),
    /// Waits for a config; with the fingerprint of the presented certificate.
    Maintenance { client: Maintenance, fingerprint: Option<CertificateFingerprint> },
    /// A node of this cluster.
    Configured { client: Client, status: MachineStatus },
    /// Belongs to another cluster, so nothing may be changed on it.
    Foreign(ForeignNode),
}

/// Evidence that a node belongs to another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignNode {
    pub node: IpAddr,
    /// The error of the TLS handshake.
    pub evidence: String,
}

/// Detects the state of a node: connects first as the administrator of the cluster, then without a client certificate.
///
/// # Errors
///
/// `OtherKey` when the node in maintenance mode presents a certificate that does not match the pinned fingerprint. A node
/// that responds with an unknown API. `OutOfTime` when the clocks of this machine and of the node are too far apart.
pub async fn probe(
    dialer: &Dialer,
    node: IpAddr,
    identity: &ClientIdentity,
    pin: Option<&CertificateFingerprint>,
) -> Result<Probe, ClientError> {
    identify(Client::connect(dialer, node, identity).await, dialer, node, pin).await
}

/// The same, by a connection as the administrator of the cluster that was attempted before.
pub(super) async fn identify(
    trusted: Result<Client, ClientError>,
    dialer: &Dialer,
    node: IpAddr,
    pin: Option<&CertificateFingerprint>,
) -> Result<Probe, ClientError> {
    let trusted = match trusted {
        Ok(client) => client.machine_status().await.map(|status| (client, status)),
        Err(error) => Err(error),
    };
    let refusal = match trusted {
        Ok((client, status)) => return Ok(Probe::Configured { client, status }),
        Err(error) if error.kind == ClientErrorKind::Unavailable => return Ok(Probe::Closed(error)),
        Err(error) if matches!(error.kind, ClientErrorKind::Untrusted | ClientErrorKind::OutOfTime) => error,
        Err(error) => return Err(error),
    };
    let anonymous = match Maintenance::connect(dialer, node, pin).await {
        Ok(client) => client.machine_status().await.map(|status| (client, status)),
        Err(error) => Err(error),
    };
    match anonymous {
        Ok((client, status)) if status.stage == Stage::Maintenance => {
            let fingerprint = client.fingerprint.clone();
            Ok(Probe::Maintenance { client, fingerprint })
        }
        // Which cluster it belongs to cannot be decided before the clocks agree.
        Ok(_) | Err(ClientError { kind: ClientErrorKind::Untrusted | ClientErrorKind::OutOfTime, .. })
            if refusal.kind == ClientErrorKind::OutOfTime =>
        {
            Err(refusal)
        }
        Ok(_) | Err(ClientError { kind: ClientErrorKind::Untrusted, .. }) => {
            Ok(Probe::Foreign(ForeignNode { node, evidence: refusal.reason }))
        }
        // The port closed between the two connections, as it does while a node applies its config.
        Err(error) if error.kind == ClientErrorKind::Unavailable => Ok(Probe::Closed(error)),
        Err(error) => Err(error),
    }
}
