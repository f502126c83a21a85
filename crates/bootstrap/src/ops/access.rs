//! Access to the nodes of a cluster, for operations beside a run.

use jiff::Timestamp;
use net::Dialer;
use repository::Cluster;
use talos_client::ClientIdentity;
use talos_config::{AdminIdentity, InventoryNode};

use crate::client_identity;

use super::{OpsError, Target, Workspace, open_bundle, read_cluster};

/// A cluster, how its nodes are dialled, and an administrator's certificate.
#[derive(Debug)]
pub struct NodeAccess {
    pub cluster: Cluster,
    pub dialer: Dialer,
    pub identity: ClientIdentity,
}

/// Reads the cluster's files and issues the administrator's certificate from its secrets.
///
/// # Errors
///
/// Mistakes in the files; a bundle that cannot be opened or used.
pub async fn node_access(workspace: &Workspace, name: &str, target: &Target) -> Result<NodeAccess, OpsError> {
    let secrets = target.default_secrets();
    let cluster = read_cluster(workspace, name, secrets).await?;
    let bundle = open_bundle(workspace, &cluster, target, secrets).await?;
    let admin = AdminIdentity::issue(&bundle, Timestamp::now())?;
    Ok(NodeAccess { cluster, dialer: dialer(target), identity: client_identity(&admin) })
}

/// The dialer of a target.
pub(super) fn dialer(target: &Target) -> Dialer {
    match target {
        Target::Cluster => Dialer::direct(),
        Target::Lab(lab) => Dialer::lab(lab.addresses.clone()),
    }
}

/// The node with this hostname or address.
///
/// # Errors
///
/// [`OpsError::UnknownNode`], with the names that exist.
pub fn find_node<'c>(cluster: &'c Cluster, name: &str) -> Result<&'c InventoryNode, OpsError> {
    let nodes = &cluster.inventory.nodes;
    let found = nodes.iter().find(|node| node.hostname == name || node.address.to_string() == name);
    found.ok_or_else(|| OpsError::UnknownNode {
        name: name.to_owned(),
        cluster: cluster.name.clone(),
        nodes: nodes.iter().map(|node| node.hostname.clone()).collect(),
    })
}
