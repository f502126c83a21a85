//! Asks the control planes for the facts that the decision needs. Changes nothing.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::super::context::RunContext;
use super::decision::{Blocker, Etcd, Facts, State, View};
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
        Some(state) => Some(Blocker::NotUp(format!("its container runtime is {}", state.to_lowercase()))),
        None => Some(Blocker::NotUp("it does not list its container runtime yet".to_owned())),
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
    match service.state.as_str() {
        "Running" => Ok(Etcd::Running { members: members(client).await? }),
        "Failed" => Ok(Etcd::Failed { reason: last_event(service) }),
        _ => {
            let spec =
                if request == Request::Seen && has_no_spec(client).await { Spec::Missing } else { Spec::Unknown };
            Ok(Etcd::Waiting { message: wait_message(service, spec) })
        }
    }
}

/// Whether etcd has the parameters to start with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spec {
    Missing,
    /// It has them, or a bootstrap was not requested yet.
    Unknown,
}

fn last_event(service: &Service) -> String {
    service.events.last().cloned().unwrap_or_default()
}

/// What etcd waits for. A bootstrap that was accepted without effect has one cause: no address to advertise (T14).
fn wait_message(service: &Service, spec: Spec) -> String {
    let state = &service.state;
    match spec {
        Spec::Missing => format!("{state}: no address of the node matches cluster.etcd.advertisedSubnets"),
        Spec::Unknown => format!("{state}: {}", last_event(service)),
    }
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

/// Why the node would reject the call now, apart from its container runtime (T06 to T08).
async fn blocked(client: &Client) -> Result<Option<Blocker>, ClientError> {
    let resources = client.resources();
    let (machine, clock, install) = tokio::try_join!(
        client.machine_status(),
        resources.find::<TimeStatus>("node"),
        resources.find::<UnattendedInstallStatus>("unattended-install"),
    )?;
    if !matches!(machine.stage, Stage::Booting | Stage::Running) {
        return Ok(Some(Blocker::NotUp(format!("its stage is {}", machine.stage))));
    }
    if clock.is_some_and(|clock| !clock.synced) {
        return Ok(Some(Blocker::Clock));
    }
    Ok(install.filter(|install| install.phase != "installed").map(|install| {
        let why = if install.error.is_empty() { String::new() } else { format!(": {}", install.error) };
        Blocker::Installation(format!("its installation is {}{why}", install.phase))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_bootstrap_without_a_spec_names_the_setting_to_correct() {
        let service = Service {
            id: "etcd".to_owned(),
            state: "Preparing".to_owned(),
            events: vec!["Bootstrap requested".to_owned(), "Running pre state".to_owned()],
            healthy: false,
            last_message: String::new(),
        };
        assert_eq!(wait_message(&service, Spec::Unknown), "Preparing: Running pre state");
        assert_eq!(
            wait_message(&service, Spec::Missing),
            "Preparing: no address of the node matches cluster.etcd.advertisedSubnets"
        );
    }
}
