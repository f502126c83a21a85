//! Asks the control planes for the facts that the decision needs. Changes nothing.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::super::context::RunContext;
use super::super::etcd_watch::WatchedNode;
use super::decision::{Blocker, Etcd, Facts, State, View};
use error_report::ErrorReport;
use talos_client::{
    Client, ClientError, ClientErrorKind, EtcdSpec, Maintenance, Probe, Service, Stage, TimeStatus,
    UnattendedInstallStatus,
};
use talos_config::InventoryNode;

/// Where Talos keeps etcd's data (1.11 to 1.14).
const DATA: &str = "/var/lib/etcd";

/// Where requests for a bootstrap are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestsFrom {
    /// The subscription, which has read the log once.
    Events,
    /// The end of the log too.
    EventsAndLog,
}

/// Every control plane, all at once.
pub(in crate::steps) async fn survey(context: &RunContext) -> Vec<View> {
    survey_with(context, RequestsFrom::Events).await
}

/// The same for the moment before a call.
pub(super) async fn survey_before_call(context: &RunContext) -> Vec<View> {
    survey_with(context, RequestsFrom::EventsAndLog).await
}

async fn survey_with(context: &RunContext, requests: RequestsFrom) -> Vec<View> {
    join_all(context.control_planes().into_iter().map(|node| look(context, node, requests))).await
}

/// One control plane: at most five calls over its kept connection, and the end of its log where that is read.
pub(super) async fn look(context: &RunContext, node: &InventoryNode, requests: RequestsFrom) -> View {
    let found = async {
        let watched = context.watched(node).await?;
        if requests == RequestsFrom::EventsAndLog {
            watched.confirm_requests().await?;
        }
        facts(&watched).await
    };
    let found = Box::pin(found).await;
    let state = match found {
        Ok(facts) => State::Known(facts),
        Err(error) if error.kind == ClientErrorKind::Untrusted => without_trust(context, node).await,
        Err(error) => unknown(&error),
    };
    View { node: node.address, state }
}

fn unknown(error: &ClientError) -> State {
    State::Unknown { reason: ErrorReport::new(error).to_string() }
}

/// What a control plane is that does not accept the administrator.
async fn without_trust(context: &RunContext, node: &InventoryNode) -> State {
    match context.probe(node).await {
        Ok(Probe::Maintenance { client, .. }) => State::Unconfigured { stage: stage(&client).await },
        Ok(Probe::Foreign(foreign)) => State::Foreign { evidence: foreign.evidence },
        Ok(Probe::Closed(error)) => unknown(&error),
        // It has just become one of this cluster; the next look reads it.
        Ok(Probe::Configured { status, .. }) => State::Unknown { reason: format!("the node is {}", status.stage) },
        Err(error) => State::Unknown { reason: error.to_string() },
    }
}

async fn stage(client: &Maintenance) -> String {
    match client.machine_status().await {
        Ok(status) => status.stage.to_string(),
        Err(error) => error.reason,
    }
}

async fn facts(watched: &WatchedNode) -> Result<Facts, ClientError> {
    let client = &watched.client;
    let services = client.services().await?;
    let service = |id: &str| services.iter().find(|service| service.id == id);
    let etcd = match service("etcd") {
        Some(service) => etcd(watched, service).await?,
        None => Etcd::Waiting { message: "the node does not list etcd yet".to_owned() },
    };
    let boot = watched.boot.clone();
    if matches!(etcd, Etcd::Running { .. }) {
        return Ok(Facts { boot, etcd, requested: watched.is_requested(), data: true, blocked: None });
    }
    let data = !client.folder(DATA).await?.is_empty();
    // Whether a bootstrap would be accepted matters only where one may be sent.
    let blocked = if data || watched.is_requested() { None } else { blocked(client, service("cri")).await? };
    Ok(Facts { boot, etcd, requested: watched.is_requested(), data, blocked })
}

async fn etcd(watched: &WatchedNode, service: &Service) -> Result<Etcd, ClientError> {
    Ok(match service.state.as_str() {
        "Running" => Etcd::Running { members: members(&watched.client).await? },
        "Failed" => Etcd::Failed { reason: last_event(service) },
        _ => {
            let is_missing = watched.is_requested() && has_no_spec(&watched.client).await;
            let spec = if is_missing { Spec::Missing } else { Spec::Unknown };
            Etcd::Waiting { message: wait_message(service, spec) }
        }
    })
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

/// Why the node would reject a bootstrap now (T06 to T08).
async fn blocked(client: &Client, cri: Option<&Service>) -> Result<Option<Blocker>, ClientError> {
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
    if let Some(install) = install.filter(|install| install.phase != "installed") {
        let why = if install.error.is_empty() { String::new() } else { format!(": {}", install.error) };
        return Ok(Some(Blocker::Installation(format!("its installation is {}{why}", install.phase))));
    }
    Ok(match cri.map(|service| service.state.as_str()) {
        Some("Running") => None,
        Some(state) => Some(Blocker::NotUp(format!("its container runtime is {}", state.to_lowercase()))),
        None => Some(Blocker::NotUp("it does not list its container runtime yet".to_owned())),
    })
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
