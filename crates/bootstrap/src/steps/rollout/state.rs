//! Reads the cluster for the decision. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use kubernetes::NodeView;
use talos_client::{EtcdAlarm, EtcdMember, EtcdStatus, Probe, RebootRequest, Stage};
use talos_config::InventoryNode;

use super::super::context::RunContext;
use super::super::etcd::connect;
use super::super::etcd::membership::{MatchedMember, MemberList, Membership, check_one_cluster};
use super::cordons::Cordon;
use super::decision::{Alarms, ClusterState, EtcdState, Health, OtherNode, Voter};
use engine::StepError;
use error_report::ErrorReport;

/// Nodes by name; nothing while the Kubernetes API is unreachable.
type Registered = Option<BTreeMap<String, NodeView>>;

/// The condition of Talos that the Kubernetes Node is Ready, which is read from Kubernetes itself (1.11 to 1.14).
const NODE_READY: &str = "nodeReady:";

/// What a node reports of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeReport {
    /// With the reason.
    Unreachable(String),
    Unconfigured,
    Configured(MachineReport),
}

/// What a configured machine reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineReport {
    pub stage: Stage,
    /// Conditions of Talos that are not met.
    pub unmet: Vec<String>,
    pub boot_id: String,
    pub reboot: PendingReboot,
}

/// Whether a machine has requested a reboot (Talos 1.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingReboot {
    None,
    Requested,
}

/// The cluster around `node`.
///
/// # Errors
///
/// Two etcd clusters (T03).
pub(super) async fn cluster_state(
    context: &RunContext,
    node: &InventoryNode,
    api: Option<&kube::Client>,
) -> Result<ClusterState, StepError> {
    let inventory = &context.cluster.inventory.nodes;
    let (machines, registered, etcd) = tokio::join!(
        join_all(inventory.iter().map(|other| machine(context, other))),
        registered(api),
        etcd_state(context)
    );
    Ok(ClusterState::from_reports(&node.hostname, inventory, &machines, registered.as_ref(), etcd?))
}

impl ClusterState {
    /// The cluster around the node `name`, from what each node of the inventory reports, in its order; `registered` is
    /// absent while the Kubernetes API is unreachable.
    pub fn from_reports(
        name: &str,
        inventory: &[InventoryNode],
        reports: &[NodeReport],
        registered: Option<&BTreeMap<String, NodeView>>,
        etcd: EtcdState,
    ) -> Self {
        let mut state = Self { etcd, others: Vec::new(), health: Health::Up };
        for (node, report) in inventory.iter().zip(reports) {
            let other = OtherNode {
                name: node.hostname.clone(),
                role: node.role,
                health: node_health(&node.hostname, report, registered),
                cordon: Cordon::from_nodes(&node.hostname, registered),
            };
            if other.name == name {
                state.health = other.health;
            } else {
                state.others.push(other);
            }
        }
        state
    }
}

/// The nodes of Kubernetes. An API that stopped responding leaves the last state out, which counts as down.
async fn registered(api: Option<&kube::Client>) -> Registered {
    match api {
        Some(client) => Some(kubernetes::nodes(client).await.unwrap_or_default()),
        None => None,
    }
}

async fn machine(context: &RunContext, node: &InventoryNode) -> NodeReport {
    let (client, status) = match context.probe(node).await {
        Ok(Probe::Configured { client, status }) => (client, status),
        Ok(Probe::Maintenance { .. }) => return NodeReport::Unconfigured,
        Ok(Probe::Closed(_)) => return NodeReport::Unreachable("its port is closed".to_owned()),
        Ok(Probe::Foreign(foreign)) => return NodeReport::Unreachable(foreign.evidence),
        Err(error) => return NodeReport::Unreachable(ErrorReport::new(&error).to_string()),
    };
    let resources = client.resources();
    let read = tokio::try_join!(client.boot_id(), resources.find::<RebootRequest>("reboot-request"));
    match read {
        Ok((boot_id, request)) => NodeReport::Configured(MachineReport {
            stage: status.stage,
            unmet: status.unmet,
            boot_id,
            reboot: if request.is_some() { PendingReboot::Requested } else { PendingReboot::None },
        }),
        Err(error) => NodeReport::Unreachable(error.reason),
    }
}

/// Whether a node serves, by its own report and by the nodes of Kubernetes; `registered` is absent while the API is
/// unreachable.
pub fn node_health(name: &str, machine: &NodeReport, registered: Option<&BTreeMap<String, NodeView>>) -> Health {
    let down = |reason: &str| Health::Down(reason.to_owned());
    let machine = match machine {
        NodeReport::Unreachable(reason) => return down(reason),
        NodeReport::Unconfigured => return down("in maintenance mode"),
        NodeReport::Configured(machine) => machine,
    };
    if machine.stage != Stage::Running {
        return Health::Down(format!("it is {}", machine.stage));
    }
    if machine.reboot == PendingReboot::Requested {
        return down("it is about to reboot");
    }
    if let Some(condition) = machine.unmet.iter().find(|condition| !condition.starts_with(NODE_READY)) {
        return down(condition);
    }
    let Some(registered) = registered else { return Health::Up };
    match registered.get(name) {
        None => down("not registered in Kubernetes"),
        Some(node) if node.boot_id.trim() != machine.boot_id.trim() => {
            down("its kubelet has not reported since it booted")
        }
        Some(node) if node.ready => Health::Up,
        // Before the network plugin is installed no node is Ready, so none is less available for that.
        Some(node) if node.lacks_pod_network() && !registered.values().any(|node| node.ready) => Health::Up,
        Some(node) => down(&node.reason),
    }
}

/// What a control plane reports of etcd.
#[derive(Debug)]
pub struct EtcdReport<'n> {
    pub node: &'n InventoryNode,
    pub members: Vec<EtcdMember>,
    pub status: Option<EtcdStatus>,
    /// Absent when they could not be read.
    pub alarms: Option<Vec<String>>,
}

async fn etcd_state(context: &RunContext) -> Result<EtcdState, StepError> {
    let control_planes = context.control_planes();
    let reports = join_all(control_planes.iter().map(|node| etcd_report(context, node))).await;
    let reports: Vec<EtcdReport<'_>> = reports.into_iter().flatten().collect();
    EtcdState::from_reports(&reports, &control_planes)
}

impl EtcdState {
    /// What the control planes on which etcd runs report, in the order of `control_planes`.
    ///
    /// # Errors
    ///
    /// Two etcd clusters (T03).
    pub fn from_reports(reports: &[EtcdReport<'_>], control_planes: &[&InventoryNode]) -> Result<Self, StepError> {
        let lists: Vec<MemberList> = reports
            .iter()
            .map(|report| MemberList { node: report.node.address, members: report.members.clone() })
            .collect();
        check_one_cluster(&lists)?;
        let Some(list) = lists.into_iter().find(|list| !list.members.is_empty()) else { return Ok(Self::default()) };
        let Membership { matched, outsiders, unstarted } = Membership::new(list.members, control_planes);
        let (learners, voters): (Vec<_>, Vec<_>) = matched.into_iter().partition(|matched| matched.member.is_learner);
        let mut state = Self {
            voters: voters
                .iter()
                .map(|voter| Voter { name: voter.node.hostname.clone(), health: member_health(voter, reports) })
                .collect(),
            learners: learners.into_iter().map(|learner| learner.node.hostname.clone()).collect(),
            outsiders,
            alarms: Alarms::from_reports(reports),
        };
        state.learners.extend((0..unstarted).map(|_| "without a name".to_owned()));
        Ok(state)
    }
}

impl Alarms {
    fn from_reports(reports: &[EtcdReport<'_>]) -> Self {
        let lists: Vec<&Vec<String>> = reports.iter().filter_map(|report| report.alarms.as_ref()).collect();
        if lists.is_empty() {
            return Self::Unread;
        }
        let alarms: BTreeSet<&String> = lists.into_iter().flatten().collect();
        Self::Read(alarms.into_iter().cloned().collect())
    }
}

/// What a control plane reports of etcd; nothing when it does not run there.
async fn etcd_report<'n>(context: &RunContext, node: &'n InventoryNode) -> Option<EtcdReport<'n>> {
    let client = connect(context, node).await.ok()?;
    let members = client.etcd_members().await.ok()?;
    let (status, alarms) = tokio::join!(client.etcd_status(), client.etcd_alarms());
    let describe = |(id, alarm): (u64, EtcdAlarm)| {
        let name = members.iter().find(|member| member.id == id).map_or("a member", |member| &member.hostname);
        format!("{name}: {alarm:?}")
    };
    let alarms = alarms.ok().map(|alarms| alarms.into_iter().map(describe).collect());
    Some(EtcdReport { node, alarms, status: status.ok(), members })
}

fn member_health(voter: &MatchedMember<'_>, reports: &[EtcdReport<'_>]) -> Health {
    let report = reports.iter().find(|report| report.node.hostname == voter.node.hostname);
    match report.and_then(|report| report.status.as_ref()) {
        None => Health::Down("etcd does not respond there".to_owned()),
        Some(status) if status.is_learner => Health::Down("it is a learner".to_owned()),
        Some(status) if status.leader == 0 => Health::Down("it has no leader".to_owned()),
        Some(status) => match status.errors.first() {
            Some(error) => Health::Down(error.clone()),
            None => Health::Up,
        },
    }
}

#[cfg(test)]
mod tests {
    use kubernetes::Scheduling;

    use super::*;

    fn view(ready: bool, reason: &str, boot_id: &str) -> NodeView {
        let (reason, boot_id) = (reason.to_owned(), boot_id.to_owned());
        NodeView { ready, reason, boot_id, addresses: vec![], scheduling: Scheduling::Allowed }
    }

    fn machine() -> MachineReport {
        MachineReport {
            stage: Stage::Running,
            unmet: vec!["nodeReady: node is not ready".to_owned()],
            boot_id: "b\n".to_owned(),
            reboot: PendingReboot::None,
        }
    }

    fn reason(machine: MachineReport, nodes: &[(&str, NodeView)]) -> Option<String> {
        let nodes = nodes.iter().map(|(name, view)| ((*name).to_owned(), view.clone())).collect();
        match node_health("a", &NodeReport::Configured(machine), Some(&nodes)) {
            Health::Up => None,
            Health::Down(reason) => Some(reason),
        }
    }

    #[test]
    fn a_node_is_up_when_machine_and_kubelet_agree_on_the_boot() {
        let no_network = "runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady";
        assert_eq!(reason(machine(), &[("a", view(true, "", "b"))]), None);
        let stale = reason(machine(), &[("a", view(true, "", "an earlier one"))]);
        assert_eq!(stale.as_deref(), Some("its kubelet has not reported since it booted"));
        assert_eq!(reason(machine(), &[("a", view(false, no_network, "b"))]), None);
        let alone = reason(machine(), &[("a", view(false, no_network, "b")), ("c", view(true, "", "x"))]);
        assert_eq!(alone.as_deref(), Some(no_network));
        assert_eq!(reason(machine(), &[]).as_deref(), Some("not registered in Kubernetes"));
        let booting = MachineReport { stage: Stage::Booting, ..machine() };
        assert_eq!(reason(booting, &[("a", view(true, "", "b"))]).as_deref(), Some("it is booting"));
        let unmet = MachineReport { unmet: vec!["staticPods: kube-apiserver".to_owned()], ..machine() };
        assert_eq!(reason(unmet, &[("a", view(true, "", "b"))]).as_deref(), Some("staticPods: kube-apiserver"));
        let requested = MachineReport { reboot: PendingReboot::Requested, ..machine() };
        assert_eq!(reason(requested, &[("a", view(true, "", "b"))]).as_deref(), Some("it is about to reboot"));
    }

    fn control_plane(name: &str, last: u8) -> InventoryNode {
        InventoryNode {
            hostname: name.to_owned(),
            address: std::net::IpAddr::from([10, 0, 0, last]),
            role: talos_config::Role::ControlPlane,
            at: yaml::Location {
                origin: yaml::Origin::new("talconfig.yaml"),
                position: yaml::Position { line: 1, column: 1 },
            },
        }
    }

    fn member(id: u64, name: &str) -> EtcdMember {
        EtcdMember {
            id,
            hostname: name.to_owned(),
            peer_urls: vec![format!("https://10.0.0.{id}:2380")],
            client_urls: vec![],
            is_learner: false,
        }
    }

    #[test]
    fn unreadable_alarms_are_not_the_absence_of_alarms() {
        let nodes = [control_plane("a", 1), control_plane("b", 2)];
        let inventory: Vec<&InventoryNode> = nodes.iter().collect();
        let state = |alarms: [Option<Vec<String>>; 2]| {
            let report = |(node, alarms)| EtcdReport { node, members: vec![member(1, "a")], status: None, alarms };
            let reports: Vec<_> = nodes.iter().zip(alarms).map(report).collect();
            EtcdState::from_reports(&reports, &inventory).unwrap().alarms
        };
        assert_eq!(state([None, None]), Alarms::Unread);
        assert_eq!(state([None, Some(vec![])]), Alarms::Read(vec![]));
        let raised = vec!["a: NoSpace".to_owned()];
        assert_eq!(state([Some(vec![]), Some(raised.clone())]), Alarms::Read(raised));
    }

    #[test]
    fn members_outside_the_inventory_are_kept_apart_from_voters() {
        let node = control_plane("a", 1);
        let members = vec![member(1, "a"), member(9, "gone")];
        let report = EtcdReport { node: &node, members, status: None, alarms: None };
        let state = EtcdState::from_reports(&[report], &[&node]).unwrap();
        assert_eq!(state.voters.iter().map(|voter| voter.name.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(state.outsiders, [member(9, "gone")]);
    }

    #[test]
    fn the_cordon_of_a_run_is_unknown_while_the_api_is_away() {
        let nodes = |scheduling| BTreeMap::from([("a".to_owned(), NodeView { scheduling, ..view(true, "", "b") })]);
        assert_eq!(Cordon::from_nodes("a", Some(&nodes(Scheduling::CordonedByUs))), Cordon::Left);
        assert_eq!(Cordon::from_nodes("a", Some(&nodes(Scheduling::Allowed))), Cordon::None);
        assert_eq!(Cordon::from_nodes("b", Some(&nodes(Scheduling::Allowed))), Cordon::None);
        assert_eq!(Cordon::from_nodes("a", None), Cordon::Unknown);
        assert_eq!(Cordon::from_nodes("a", Some(&BTreeMap::new())), Cordon::Unknown);
    }

    #[test]
    fn without_the_kubernetes_api_the_machine_alone_is_asked() {
        assert_eq!(node_health("a", &NodeReport::Configured(machine()), None), Health::Up);
        assert_ne!(node_health("a", &NodeReport::Unconfigured, None), Health::Up);
        assert_ne!(node_health("a", &NodeReport::Unreachable("closed".to_owned()), None), Health::Up);
    }
}
