//! Asks the control planes for the facts that the decision needs. Changes nothing.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::super::context::RunContext;
use super::decision::{Etcd, Facts, State, View};
use error_report::ErrorReport;
use talos_client::{
    Client, ClientError, ClientErrorKind, EtcdSpec, LogMode, Maintenance, Probe, Service, Stage, Tail, TimeStatus,
    UnattendedInstallStatus,
};
use talos_config::InventoryNode;

/// Where Talos keeps etcd's data (1.11 to 1.14).
const DATA: &str = "/var/lib/etcd";
/// Talos's event for an accepted bootstrap (1.11 to 1.14). The service is loaded again right after it, so its own history
/// does not have the event; the log of the daemon does, until the next boot.
const REQUESTED: &str = "Bootstrap requested";

/// Every control plane, all at once.
pub(in crate::steps) async fn survey(context: &RunContext) -> Vec<View> {
    join_all(context.control_planes().into_iter().map(|node| view(context, node))).await
}

async fn view(context: &RunContext, node: &InventoryNode) -> View {
    let unknown = |error: ClientError| State::Unknown { reason: ErrorReport::new(&error).to_string() };
    let state = match context.probe(node).await {
        Ok(Probe::Configured { client, .. }) => Box::pin(facts(&client)).await.map_or_else(unknown, State::Known),
        Ok(Probe::Maintenance { client, .. }) => State::Unconfigured { stage: stage(&client).await },
        Ok(Probe::Foreign(foreign)) => State::Foreign { evidence: foreign.evidence },
        Ok(Probe::Closed(error)) => unknown(error),
        Err(error) => State::Unknown { reason: error.to_string() },
    };
    View { node: node.address, state }
}

async fn stage(client: &Maintenance) -> String {
    match client.machine_status().await {
        Ok(status) => status.stage.to_string(),
        Err(error) => error.reason,
    }
}

async fn facts(client: &Client) -> Result<Facts, ClientError> {
    let (boot, services, data, requested, blocked) = tokio::try_join!(
        client.boot_id(),
        client.services(),
        client.folder(DATA),
        requested(client),
        blocked(client),
    )?;
    let etcd = match services.iter().find(|service| service.id == "etcd") {
        Some(service) => etcd(client, service, if requested { Request::Seen } else { Request::None }).await?,
        None => Etcd::Waiting { message: "the node does not list etcd yet".to_owned() },
    };
    let cri = services.iter().find(|service| service.id == "cri").map(|service| service.state.as_str());
    let blocked = blocked.or_else(|| match cri {
        Some("Running") => None,
        Some(state) => Some(format!("its container runtime is {}", state.to_lowercase())),
        None => Some("it does not list its container runtime yet".to_owned()),
    });
    Ok(Facts { boot, etcd, requested, data: !data.is_empty(), blocked })
}

/// Whether the node's log shows a bootstrap request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Request {
    None,
    Seen,
}

async fn etcd(client: &Client, service: &Service, request: Request) -> Result<Etcd, ClientError> {
    let last = service.events.last().cloned().unwrap_or_default();
    Ok(match service.state.as_str() {
        "Running" => Etcd::Running { members: members(client).await? },
        "Failed" => Etcd::Failed { reason: last },
        state if request == Request::Seen && has_no_spec(client).await => {
            Etcd::Waiting { message: format!("{state}: no address of the node matches cluster.etcd.advertisedSubnets") }
        }
        state => Etcd::Waiting { message: format!("{state}: {last}") },
    })
}

/// Talos starts etcd once it has found an address for it; until then it has no spec (T14).
async fn has_no_spec(client: &Client) -> bool {
    client.resources().get::<EtcdSpec>("etcd").await.is_err_and(|error| error.kind == ClientErrorKind::NotFound)
}

/// A member that has just started may have no list yet; that it runs is known all the same.
async fn members(client: &Client) -> Result<BTreeSet<u64>, ClientError> {
    match client.etcd_members().await {
        Ok(members) => Ok(members.into_iter().map(|member| member.id).collect()),
        Err(error) if error.kind == ClientErrorKind::Unavailable => Err(error),
        Err(_) => Ok(BTreeSet::new()),
    }
}

/// Whether the node accepted a bootstrap in this boot.
async fn requested(client: &Client) -> Result<bool, ClientError> {
    let log = client.log("machined", Tail::Everything, LogMode::Existing).await?.collect().await?;
    Ok(log.iter().any(|line| line.contains("service[etcd]") && line.contains(REQUESTED)))
}

/// Why the node would reject the call now, apart from its container runtime (T06).
async fn blocked(client: &Client) -> Result<Option<String>, ClientError> {
    let resources = client.resources();
    let (machine, clock, install) = tokio::try_join!(
        client.machine_status(),
        resources.find::<TimeStatus>("node"),
        resources.find::<UnattendedInstallStatus>("unattended-install"),
    )?;
    if !matches!(machine.stage, Stage::Booting | Stage::Running) {
        return Ok(Some(format!("its stage is {}", machine.stage)));
    }
    if clock.is_some_and(|clock| !clock.synced) {
        return Ok(Some("its clock is not in sync".to_owned()));
    }
    Ok(install.filter(|install| install.phase != "installed").map(|install| {
        let why = if install.error.is_empty() { String::new() } else { format!(": {}", install.error) };
        format!("its installation is {}{why}", install.phase)
    }))
}
