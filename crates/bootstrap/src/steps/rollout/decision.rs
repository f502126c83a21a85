//! Whether a node may reboot: a pure function of what the cluster reports.

use engine::Code;
use talos_config::Role;

use super::super::etcd::decision::{Etcd, State, View};

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
}

/// A voting member of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// The node that it runs on.
    pub name: String,
    pub health: Health,
}

/// etcd as its members report it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EtcdState {
    pub voters: Vec<Voter>,
    /// Members that do not vote yet.
    pub learners: Vec<String>,
    pub alarms: Vec<String>,
}

/// The cluster around a node that is to reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterState {
    pub etcd: EtcdState,
    pub others: Vec<OtherNode>,
    /// The node itself.
    pub health: Health,
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

/// Whether the node `name` may reboot now.
///
/// # Errors
///
/// Why it must not.
pub fn may_reboot(name: &str, role: Role, cluster: &ClusterState, max_unavailable: usize) -> Result<(), RebootWait> {
    match role {
        Role::ControlPlane => control_plane(name, cluster),
        Role::Worker => worker(cluster, max_unavailable),
    }
}

fn control_plane(name: &str, cluster: &ClusterState) -> Result<(), RebootWait> {
    let EtcdState { voters, learners, alarms } = &cluster.etcd;
    if voters.is_empty() {
        return wait(Code::T13, "no control plane lists etcd's members".to_owned());
    }
    if let Some(learner) = learners.first() {
        return wait(Code::T12, format!("etcd member {learner} is a learner and does not vote yet"));
    }
    if let Some(alarm) = alarms.first() {
        return wait(Code::T13, format!("etcd raises an alarm: {alarm}"));
    }
    let others: Vec<&Voter> = voters.iter().filter(|voter| voter.name != name).collect();
    let majority = voters.len() / 2 + 1;
    let is_only_voter = others.is_empty();
    if !is_only_voter && others.len() < majority {
        let text = format!("etcd has {} voters, so no reboot keeps its quorum", voters.len());
        return Err(RebootWait { text, code: Code::T21, outlook: Outlook::Permanent });
    }
    for voter in others {
        if let Health::Down(reason) = &voter.health {
            return wait(Code::T13, format!("etcd member {} is unhealthy: {reason}", voter.name));
        }
    }
    let control_planes = cluster.others.iter().filter(|other| other.role == Role::ControlPlane);
    match down(control_planes).first() {
        Some(other) => wait(Code::T21, format!("another control plane is down: {other}")),
        None => Ok(()),
    }
}

fn worker(cluster: &ClusterState, max_unavailable: usize) -> Result<(), RebootWait> {
    if cluster.health != Health::Up {
        // It is down already, so its reboot takes nothing away.
        return Ok(());
    }
    let down = down(cluster.others.iter());
    if down.len() < max_unavailable {
        return Ok(());
    }
    wait(Code::T21, format!("{} of at most {max_unavailable} nodes are down: {}", down.len(), down.join("; ")))
}

fn down<'o>(others: impl Iterator<Item = &'o OtherNode>) -> Vec<String> {
    others
        .filter_map(|other| match &other.health {
            Health::Up => None,
            Health::Down(reason) => Some(format!("{} ({reason})", other.name)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn health() -> impl Strategy<Value = Health> {
        prop_oneof![3 => Just(Health::Up), 1 => Just(Health::Down("rebooting".to_owned()))]
    }

    prop_compose! {
        /// A cluster of 1 to 5 control planes and up to 4 workers; the node to reboot is its first control plane.
        fn cluster()(
            voters in prop::collection::vec(health(), 1..=5),
            nodes in prop::collection::vec(health(), 4),
            workers in prop::collection::vec(health(), 0..=4),
            learner in prop::bool::weighted(0.2),
            alarm in prop::bool::weighted(0.2),
            own in health(),
        ) -> ClusterState {
            let name = |index: usize| format!("cp-{index}");
            let control_planes = (1..voters.len()).zip(nodes).map(|(index, health)| OtherNode {
                name: name(index), role: Role::ControlPlane, health,
            });
            let workers = workers.into_iter().enumerate().map(|(index, health)| OtherNode {
                name: format!("worker-{index}"), role: Role::Worker, health,
            });
            ClusterState {
                others: control_planes.chain(workers).collect(),
                etcd: EtcdState {
                    voters: voters.into_iter().enumerate().map(|(index, health)| Voter { name: name(index), health }).collect(),
                    learners: learner.then(|| "cp-9".to_owned()).into_iter().collect(),
                    alarms: alarm.then(|| "cp-1: NoSpace".to_owned()).into_iter().collect(),
                },
                health: own,
            }
        }
    }

    fn is_up(health: &Health) -> bool {
        *health == Health::Up
    }

    proptest! {
        #[test]
        fn a_reboot_of_a_control_plane_never_costs_the_quorum(cluster in cluster()) {
            if may_reboot("cp-0", Role::ControlPlane, &cluster, 1).is_ok() {
                let voters = &cluster.etcd.voters;
                let left = voters.iter().filter(|voter| voter.name != "cp-0" && is_up(&voter.health)).count();
                prop_assert!(voters.len() == 1 || left > voters.len() / 2, "{cluster:?}");
                prop_assert!(cluster.etcd.learners.is_empty() && cluster.etcd.alarms.is_empty(), "{cluster:?}");
                let control_planes = cluster.others.iter().filter(|other| other.role == Role::ControlPlane);
                prop_assert!(control_planes.clone().all(|other| is_up(&other.health)), "{cluster:?}");
            }
        }

        #[test]
        fn a_healthy_cluster_lets_a_control_plane_reboot(mut cluster in cluster()) {
            cluster.etcd.learners.clear();
            cluster.etcd.alarms.clear();
            cluster.etcd.voters.iter_mut().for_each(|voter| voter.health = Health::Up);
            cluster.others.iter_mut().for_each(|other| other.health = Health::Up);
            let decision = may_reboot("cp-0", Role::ControlPlane, &cluster, 1);
            match cluster.etcd.voters.len() {
                2 => prop_assert_eq!(decision.unwrap_err().outlook, Outlook::Permanent),
                _ => prop_assert_eq!(decision, Ok(())),
            }
        }

        #[test]
        fn no_more_workers_than_allowed_are_down_after_a_reboot(cluster in cluster(), max in 1_usize..4) {
            let down = cluster.others.iter().filter(|other| !is_up(&other.health)).count();
            let allowed = may_reboot("worker-9", Role::Worker, &cluster, max).is_ok();
            prop_assert_eq!(allowed, !is_up(&cluster.health) || down < max, "{:?}", cluster);
        }

        #[test]
        fn every_refusal_names_its_reason(cluster in cluster()) {
            for (name, role) in [("cp-0", Role::ControlPlane), ("worker-9", Role::Worker)] {
                if let Err(reason) = may_reboot(name, role, &cluster, 1) {
                    prop_assert!(!reason.text.is_empty(), "{cluster:?}");
                }
            }
        }
    }

    #[test]
    fn reasons_are_for_the_operator() {
        let other = |name: &str, role, health| OtherNode { name: name.to_owned(), role, health };
        let voter = |name: &str, health| Voter { name: name.to_owned(), health };
        let rebooting = || Health::Down("rebooting".to_owned());
        let cluster = ClusterState {
            etcd: EtcdState {
                voters: vec![voter("a", Health::Up), voter("b", rebooting()), voter("c", Health::Up)],
                ..EtcdState::default()
            },
            others: vec![other("b", Role::ControlPlane, rebooting()), other("d", Role::Worker, rebooting())],
            health: Health::Up,
        };
        let reason = |name, role| may_reboot(name, role, &cluster, 1).unwrap_err().text;
        assert_eq!(reason("a", Role::ControlPlane), "etcd member b is unhealthy: rebooting");
        assert_eq!(reason("w", Role::Worker), "2 of at most 1 nodes are down: b (rebooting); d (rebooting)");
        let etcd = EtcdState { learners: vec!["d".to_owned()], ..cluster.etcd };
        let refused = may_reboot("a", Role::ControlPlane, &ClusterState { etcd, ..cluster }, 1).unwrap_err();
        assert_eq!(
            (refused.text.as_str(), refused.code),
            ("etcd member d is a learner and does not vote yet", Code::T12)
        );
    }
}
