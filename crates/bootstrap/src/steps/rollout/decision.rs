//! Whether a node may reboot: a pure function of what the cluster reports.

use std::collections::BTreeSet;

use engine::Code;
use talos_client::EtcdMember;
use talos_config::Role;

use super::super::etcd::decision::{Etcd, State, View};
use super::cordons::Cordon;

/// Whether etcd exists on any control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EtcdPresence {
    Exists,
    Absent,
    /// No control plane that responds has etcd, and this one does not respond.
    Unknown(String),
}

impl EtcdPresence {
    /// What the reports of all control planes add up to.
    pub fn from_views(views: &[View]) -> Self {
        let facts = || views.iter().filter_map(View::facts);
        if facts().any(|facts| facts.data || facts.requested || matches!(facts.etcd, Etcd::Running { .. })) {
            return Self::Exists;
        }
        let unknown = views.iter().find(|view| matches!(view.state, State::Unknown { .. }));
        unknown.map_or(Self::Absent, |view| Self::Unknown(format!("{}: {}", view.node, view.state)))
    }
}

/// Whether a node or an etcd member serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Up,
    /// With the reason.
    Down(String),
}

/// A node beside the one that is to reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherNode {
    pub name: String,
    pub role: Role,
    pub health: Health,
    /// A run cordons a node before it takes it away, and uncordons it when it is back.
    pub cordon: Cordon,
}

/// A voting member of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// The node that it runs on.
    pub name: String,
    pub health: Health,
}

/// The alarms that etcd raises. Each member lists those of all members (etcd 3.6, `AlarmList`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Alarms {
    /// No member listed them.
    #[default]
    Unread,
    Read(Vec<String>),
}

/// etcd as its members report it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EtcdState {
    /// Those on control planes of the inventory.
    pub voters: Vec<Voter>,
    /// Members that do not vote yet.
    pub learners: Vec<String>,
    /// Members that run on no control plane of the inventory.
    pub outsiders: Vec<EtcdMember>,
    pub alarms: Alarms,
}

/// The cluster around a node that is to reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterState {
    pub etcd: EtcdState,
    pub others: Vec<OtherNode>,
    /// The node itself.
    pub health: Health,
}

impl ClusterState {
    fn control_planes(&self) -> impl Iterator<Item = &OtherNode> {
        self.others.iter().filter(|other| other.role == Role::ControlPlane)
    }
}

/// How many nodes may be down while a worker reboots, and which ones the run itself takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebootLimit {
    pub max_unavailable: usize,
    /// Nodes that were allowed to reboot and are not back. They count as down from the decision on: their drain takes
    /// minutes, and they look healthy meanwhile.
    pub allowed: BTreeSet<String>,
}

/// Why a node must not reboot now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebootWait {
    pub text: String,
    pub code: Code,
    pub outlook: Outlook,
}

/// Whether waiting can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    MayChange,
    /// The operator has to decide.
    Permanent,
}

fn wait(code: Code, text: String) -> Result<(), RebootWait> {
    Err(RebootWait { text, code, outlook: Outlook::MayChange })
}

fn refuse(code: Code, text: String) -> Result<(), RebootWait> {
    Err(RebootWait { text, code, outlook: Outlook::Permanent })
}

/// Whether the node `name` may reboot now.
///
/// # Errors
///
/// Why it must not.
pub fn may_reboot(name: &str, role: Role, cluster: &ClusterState, limit: &RebootLimit) -> Result<(), RebootWait> {
    match role {
        Role::ControlPlane => control_plane(name, cluster),
        Role::Worker => worker(name, cluster, limit),
    }
}

fn control_plane(name: &str, cluster: &ClusterState) -> Result<(), RebootWait> {
    let EtcdState { voters, learners, outsiders, alarms } = &cluster.etcd;
    if let Some(member) = outsiders.first() {
        let text = format!("{} is an etcd member and not a control plane of the inventory", member.hostname);
        return refuse(Code::T22, text);
    }
    if voters.is_empty() {
        return wait(Code::T13, "no control plane lists etcd's members".to_owned());
    }
    if let Some(learner) = learners.first() {
        return wait(Code::T12, format!("etcd member {learner} is a learner and does not vote yet"));
    }
    match alarms {
        Alarms::Unread => return wait(Code::T13, "no control plane lists etcd's alarms".to_owned()),
        Alarms::Read(alarms) => {
            if let Some(alarm) = alarms.first() {
                return wait(Code::T13, format!("etcd raises an alarm: {alarm}"));
            }
        }
    }
    let votes = |other: &&OtherNode| voters.iter().any(|voter| voter.name == other.name);
    if let Some(joining) = cluster.control_planes().find(|other| !votes(other)) {
        return wait(Code::T13, format!("control plane {} has no voting etcd member yet", joining.name));
    }
    quorum(name, cluster)?;
    // A run that was killed: the node that it took away has to come back before the next one goes.
    match cluster.control_planes().find(|other| other.cordon != Cordon::None && other.health != Health::Up) {
        Some(other) => wait(Code::T21, format!("another control plane is down: {}", describe(other))),
        None => Ok(()),
    }
}

/// Whether the voters that are healthy without `name` are a majority of all voters. A control plane that is down is no
/// healthy one, whatever its member reports: its API server is needed too.
fn quorum(name: &str, cluster: &ClusterState) -> Result<(), RebootWait> {
    let voters = &cluster.etcd.voters;
    let others: Vec<&Voter> = voters.iter().filter(|voter| voter.name != name).collect();
    if others.is_empty() {
        return Ok(());
    }
    let majority = voters.len() / 2 + 1;
    if others.len() < majority {
        return refuse(Code::T21, format!("etcd has {} voters, so no reboot keeps its quorum", voters.len()));
    }
    let mut ill: Vec<RebootWait> = others.iter().filter_map(|voter| ill(voter, cluster)).collect();
    if others.len() - ill.len() >= majority { Ok(()) } else { Err(ill.swap_remove(0)) }
}

/// Why a voter does not count as healthy.
fn ill(voter: &Voter, cluster: &ClusterState) -> Option<RebootWait> {
    if let Health::Down(reason) = &voter.health {
        return wait(Code::T13, format!("etcd member {} is unhealthy: {reason}", voter.name)).err();
    }
    let node = cluster.control_planes().find(|other| other.name == voter.name && other.health != Health::Up)?;
    wait(Code::T21, format!("another control plane is down: {}", describe(node))).err()
}

fn worker(name: &str, cluster: &ClusterState, limit: &RebootLimit) -> Result<(), RebootWait> {
    let EtcdState { voters, learners, outsiders, .. } = &cluster.etcd;
    let mut members = voters.iter().map(|voter| &voter.name).chain(learners);
    if members.any(|member| member == name) || outsiders.iter().any(|member| member.hostname == name) {
        return refuse(Code::T22, format!("the inventory has {name} as a worker, and it is an etcd member"));
    }
    if cluster.health != Health::Up {
        // It is down already, so its reboot takes nothing away.
        return Ok(());
    }
    let RebootLimit { max_unavailable, allowed } = limit;
    let is_away = |other: &&OtherNode| other.health != Health::Up || allowed.contains(&other.name);
    let down: Vec<String> = cluster.others.iter().filter(is_away).map(describe).collect();
    if down.len() < *max_unavailable {
        return Ok(());
    }
    wait(Code::T21, format!("{} of at most {max_unavailable} nodes are down: {}", down.len(), down.join("; ")))
}

fn describe(node: &OtherNode) -> String {
    match &node.health {
        Health::Up => format!("{} (about to reboot)", node.name),
        Health::Down(reason) => format!("{} ({reason})", node.name),
    }
}

#[cfg(test)]
mod tests;
