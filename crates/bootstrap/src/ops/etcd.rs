//! The etcd of a running cluster, through any control plane that responds.

use std::net::IpAddr;
use std::path::Path;

use futures::future::join_all;
use talos_client::{Client, ClientError, EtcdAlarm};
use talos_config::InventoryNode;
use tokio::fs::File;

use super::error::{NoMember, NoMemberReason, NoMembers};
use super::{NodeAccess, OpsError};

/// The etcd member of a control plane.
#[derive(Debug)]
pub struct MemberReport {
    /// The hostname of the control plane.
    pub node: String,
    pub state: Result<MemberState, ClientError>,
}

/// What a member does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRole {
    Leader,
    Follower,
    /// It receives the data and does not vote yet.
    Learner,
}

/// How a member is.
#[derive(Debug)]
pub struct MemberState {
    pub id: u64,
    pub role: MemberRole,
    pub version: String,
    /// The size of the database, in bytes.
    pub bytes: i64,
    /// What of it is in use, in bytes.
    pub bytes_in_use: i64,
    /// Entries of the Raft log that it has not applied yet.
    pub behind: u64,
    /// How many members it knows.
    pub members: usize,
    pub alarms: Vec<EtcdAlarm>,
    pub errors: Vec<String>,
}

/// Queries the member of each control plane, all at once.
pub async fn etcd_status(access: &NodeAccess) -> Vec<MemberReport> {
    let report = |node: &'_ InventoryNode| {
        let (name, address) = (node.hostname.clone(), node.address);
        async move { MemberReport { node: name, state: state(access, address).await } }
    };
    join_all(access.cluster.inventory.control_planes().into_iter().map(report)).await
}

async fn state(access: &NodeAccess, address: IpAddr) -> Result<MemberState, ClientError> {
    let client = Client::connect(&access.dialer, address, &access.identity).await?;
    let (status, members, alarms) =
        tokio::try_join!(client.etcd_status(), client.etcd_members(), client.etcd_alarms())?;
    let role = match (status.leader == status.member, status.is_learner) {
        (true, _) => MemberRole::Leader,
        (false, true) => MemberRole::Learner,
        (false, false) => MemberRole::Follower,
    };
    let own = alarms.iter().filter(|(member, _)| *member == status.member);
    Ok(MemberState {
        id: status.member,
        role,
        version: status.version,
        bytes: status.database,
        bytes_in_use: status.database_in_use,
        behind: status.raft_index.saturating_sub(status.raft_applied_index),
        members: members.len(),
        alarms: own.map(|(_, alarm)| *alarm).collect(),
        errors: status.errors,
    })
}

/// Writes a snapshot atomically, with mode 0600: it contains every secret of the cluster. The digest of
/// the stream is checked. Returns the size in bytes.
///
/// # Errors
///
/// No member with a leader; a failed call; a file that cannot be written.
pub async fn etcd_snapshot(access: &NodeAccess, out: &Path) -> Result<u64, OpsError> {
    let failed = |source| OpsError::Write { path: out.to_owned(), source };
    let client = working_member(access).await?;
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut file = File::from_std(part.reopen().map_err(failed)?);
    let length = client.etcd_snapshot(&mut file).await?;
    file.sync_all().await.map_err(failed)?;
    part.persist(out).map_err(|error| failed(error.error))?;
    Ok(length)
}

/// Disarms all alarms; returns how many there were.
///
/// # Errors
///
/// No member with a leader; a failed call.
pub async fn etcd_disarm(access: &NodeAccess) -> Result<usize, OpsError> {
    Ok(working_member(access).await?.etcd_disarm().await?.len())
}

/// A control plane whose member has a leader.
async fn working_member(access: &NodeAccess) -> Result<Client, OpsError> {
    let mut reasons = Vec::new();
    for node in access.cluster.inventory.control_planes() {
        let connected = Client::connect(&access.dialer, node.address, &access.identity).await;
        let client = match connected {
            Ok(client) => client,
            Err(error) => {
                reasons.push(NoMember { node: node.hostname.clone(), reason: NoMemberReason::Call(error) });
                continue;
            }
        };
        let reason = match client.etcd_status().await {
            Ok(status) if status.leader != 0 => return Ok(client),
            Ok(_) => NoMemberReason::NoLeader,
            Err(error) => NoMemberReason::Call(error),
        };
        reasons.push(NoMember { node: node.hostname.clone(), reason });
    }
    Err(OpsError::NoWorkingMember(NoMembers(reasons)))
}
