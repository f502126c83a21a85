//! Asks the control planes what the decision has to know. Nothing is changed here.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::super::site::Site;
use super::decision::{Etcd, Facts, State, View};
use crate::talos::client::{Client, ClientError, Kind, Maintenance, Probe, Service, Stage, probe};
use crate::talos::config::Node;

/// Where Talos keeps etcd's data (1.11 to 1.14).
const DATA: &str = "/var/lib/etcd";
/// What Talos calls the moment in which it takes a bootstrap (1.11 to 1.14). The service is loaded anew right after it,
/// so its own history does not have it; the log of the daemon does, until the next boot.
const REQUESTED: &str = "Bootstrap requested";

/// Every control plane, all at once.
pub(super) async fn look(site: &Site) -> Vec<View> {
    join_all(site.control_planes().into_iter().map(|node| view(site, node))).await
}

async fn view(site: &Site, node: &Node) -> View {
    let unknown = |error: ClientError| State::Unknown { reason: error.to_string() };
    let state = match probe(&site.dialer, node.address, &site.talos).await {
        Ok(Probe::Configured { client, .. }) => facts(&client).await.map_or_else(unknown, State::Known),
        Ok(Probe::Maintenance { client, .. }) => State::Unconfigured { stage: stage(&client).await },
        Ok(Probe::Foreign(foreign)) => State::Foreign { evidence: foreign.evidence },
        Ok(Probe::Closed(error)) | Err(error) => unknown(error),
    };
    View { node: node.address, state }
}

async fn stage(client: &Maintenance) -> String {
    match client.machine_status().await {
        Ok(status) => format!("{:?}", status.stage).to_lowercase(),
        Err(error) => error.reason,
    }
}

async fn facts(client: &Client) -> Result<Facts, ClientError> {
    let (boot, services, data, requested, stage) = tokio::try_join!(
        client.boot_id(),
        client.services(),
        client.folder(DATA),
        requested(client),
        client.machine_status(),
    )?;
    let service = |id: &str| services.iter().find(|service| service.id == id);
    let etcd = match service("etcd") {
        Some(service) => etcd(client, service).await?,
        None => Etcd::Waiting { message: "the node does not list etcd yet".to_owned() },
    };
    Ok(Facts { boot, etcd, requested, data: !data.is_empty(), blocked: blocked(service("cri"), stage.stage) })
}

async fn etcd(client: &Client, service: &Service) -> Result<Etcd, ClientError> {
    let last = service.events.last().cloned().unwrap_or_default();
    Ok(match service.state.as_str() {
        "Running" => Etcd::Running { members: members(client).await? },
        "Failed" => Etcd::Failed { reason: last },
        state => Etcd::Waiting { message: format!("{state}: {last}") },
    })
}

/// A member that has just started may have no list yet; that it runs is known all the same.
async fn members(client: &Client) -> Result<BTreeSet<u64>, ClientError> {
    match client.etcd_members().await {
        Ok(members) => Ok(members.into_iter().map(|member| member.id).collect()),
        Err(error) if error.kind == Kind::Unreachable => Err(error),
        Err(_) => Ok(BTreeSet::new()),
    }
}

/// Whether the node accepted a bootstrap in this boot.
async fn requested(client: &Client) -> Result<bool, ClientError> {
    let log = client.log("machined").await?;
    Ok(log.lines().any(|line| line.contains("service[etcd]") && line.contains(REQUESTED)))
}

/// Why the node would refuse the call now (failure T06).
fn blocked(cri: Option<&Service>, stage: Stage) -> Option<String> {
    match stage {
        Stage::Booting | Stage::Running => {}
        other => return Some(format!("its stage is {}", format!("{other:?}").to_lowercase())),
    }
    match cri {
        Some(cri) if cri.state == "Running" => None,
        Some(cri) => Some(format!("its container runtime is {}", cri.state.to_lowercase())),
        None => Some("it does not list its container runtime yet".to_owned()),
    }
}
