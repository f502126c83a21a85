//! The rules, checked after every event.

use std::collections::BTreeSet;
use std::time::Duration;

use talos_config::Role;

use super::{ApplyMode, Cause, Node, SimulatedCluster};
use crate::inputs::RELEASES;

/// What happened, so that a simulation without faults does not go unnoticed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) runs: u64,
    pub(crate) kills: u64,
    pub(crate) stops: u64,
    pub(crate) reboots: u64,
    pub(crate) reboots_by_runs: u64,
    pub(crate) wipes: u64,
    pub(crate) bootstraps: u64,
    /// Replies and requests that were lost.
    pub(crate) lost: u64,
    pub(crate) unwritten_records: u64,
    pub(crate) interrupted_helms: u64,
    pub(crate) questions: u64,
    pub(crate) second_operators: u64,
    pub(crate) alarms: u64,
    /// Workers that runs rebooted while another worker was down.
    pub(crate) shared_outages: u64,
    /// Workers that failed while two others had their turn to reboot.
    pub(crate) worker_failures: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.kills += other.kills;
        self.stops += other.stops;
        self.reboots += other.reboots;
        self.reboots_by_runs += other.reboots_by_runs;
        self.wipes += other.wipes;
        self.bootstraps += other.bootstraps;
        self.lost += other.lost;
        self.unwritten_records += other.unwritten_records;
        self.interrupted_helms += other.interrupted_helms;
        self.questions += other.questions;
        self.second_operators += other.second_operators;
        self.alarms += other.alarms;
        self.shared_outages += other.shared_outages;
        self.worker_failures += other.worker_failures;
    }
}

impl SimulatedCluster {
    /// Checks what must hold at any time.
    pub(crate) fn check(&mut self) {
        let held: BTreeSet<u64> = self.nodes.iter().filter_map(|node| node.data).collect();
        if held.len() > 1 {
            self.violate(format!("two etcd clusters: {held:?}"));
        }
        self.note_recovered();
        for (role, most) in [(Role::ControlPlane, 1), (Role::Worker, self.max_unavailable.get() as usize)] {
            let down = self.nodes.iter().filter(|node| node.role == role && node.down_by == Some(Cause::Run));
            let down: Vec<&str> = down.map(|node| node.name.as_str()).collect();
            if down.len() > most {
                let rule = format!("runs took away {} at once, and {most} is allowed", down.join(" and "));
                self.violate(rule);
            }
        }
    }

    /// Nodes that serve again are down no more.
    fn note_recovered(&mut self) {
        let now = self.now();
        for index in 0..self.nodes.len() {
            let serves = self.serves(index);
            let node = &mut self.nodes[index];
            if serves && node.down_since.is_none() {
                continue;
            }
            // The moment of its recovery included.
            node.last_down = now;
            if serves {
                (node.down_by, node.down_since) = (None, None);
            } else {
                node.down_since.get_or_insert(now);
            }
        }
    }

    /// Whether a node does its work: a control plane with a voting member of etcd.
    fn serves(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        let is_registered = !self.api_responds_inside() || self.kubernetes.reports_boot(index, node.boot);
        let votes = || self.etcd_status(index).is_some_and(|status| !status.is_learner);
        node.is_up() && is_registered && (node.role == Role::Worker || votes())
    }

    /// A run reboots a node. What was down before it began to look, and still is, it must have seen.
    pub(super) fn check_reboot(&mut self, index: usize, mode: ApplyMode) {
        let Some(created) = self.etcd_created else { return };
        let name = self.nodes[index].name.clone();
        let looked = match mode {
            ApplyMode::Auto { looked } => looked,
            // The same run creates etcd while workers are configured. On a worker that was asked before, nothing runs yet.
            ApplyMode::BeforeEtcd { looked } if self.nodes[index].role == Role::Worker && looked <= created => return,
            ApplyMode::BeforeEtcd { .. } | ApplyMode::NoReboot => {
                return self.violate(format!("a run reboots {name} without a look at the cluster, and etcd exists"));
            }
        };
        if self.nodes[index].role == Role::Worker {
            return self.check_worker_reboot(index, looked);
        }
        if self.alarm_since < looked && self.now() < self.alarm_until {
            let since = self.alarm_since;
            self.violate(format!(
                "a run reboots {name} while etcd raises an alarm since {since:?}, seen at {looked:?}"
            ));
        }
        let Some(cluster) = self.nodes[index].data else { return };
        let others: Vec<usize> = self.voters(cluster).filter(|other| *other != index).collect();
        let is_down = |other: &&usize| {
            let other = &self.nodes[**other];
            !other.etcd_runs && other.etcd_down_since < looked
        };
        if let Some(other) = others.iter().find(is_down) {
            let other = &self.nodes[*other];
            let since = other.etcd_down_since;
            let rule = format!("a run reboots {name} while {} is down since {since:?}, seen at {looked:?}", other.name);
            self.violate(rule);
        }
    }

    /// Whether a run that reboots a node takes it away: before etcd exists it takes nothing away, and neither does one that
    /// saw the worker down.
    pub(super) fn cause_of_reboot(&self, index: usize, mode: ApplyMode) -> Cause {
        let node = &self.nodes[index];
        match mode {
            ApplyMode::Auto { looked } if node.role == Role::Worker && node.last_down >= looked => Cause::Other,
            ApplyMode::Auto { .. } => Cause::Run,
            ApplyMode::BeforeEtcd { .. } | ApplyMode::NoReboot => Cause::Other,
        }
    }

    /// A run reboots a worker: no more workers than the operator allows may be down then, by runs or since before its look.
    fn check_worker_reboot(&mut self, index: usize, looked: Duration) {
        if self.cause_of_reboot(index, ApplyMode::Auto { looked }) == Cause::Other {
            return;
        }
        let is_down =
            |node: &&Node| node.down_by == Some(Cause::Run) || node.down_since.is_some_and(|since| since < looked);
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, node)| node);
        let workers = others.filter(|node| node.role == Role::Worker);
        let down: Vec<String> = workers.filter(is_down).map(|node| node.name.clone()).collect();
        let (count, names) = (down.len(), down.join(" and "));
        self.counts.shared_outages += u64::from(count > 0);
        let most = self.max_unavailable.get() as usize;
        if count >= most {
            let name = self.nodes[index].name.clone();
            self.violate(format!("a run reboots {name} while {names} is down, and {most} is allowed"));
        }
    }

    /// Checks what must hold once every run is complete and no fault is left.
    pub(crate) fn check_complete(&mut self) {
        let mut missing = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if node.config != Some(self.inputs) {
                missing.push(format!("{} runs config {:?}, not {}", node.name, node.config, self.inputs));
            }
            if self.kubernetes.is_cordoned(index) {
                missing.push(format!("{} is cordoned", node.name));
            }
            if !self.serves(index) {
                missing.push(format!("{} does not serve", node.name));
            }
        }
        for release in RELEASES {
            if self.kubernetes.deployed_config(release.name) != Some(self.inputs) {
                missing.push(format!("{} is not deployed from config {}", release.name, self.inputs));
            }
        }
        if self.kubernetes.hook_effects == 0 {
            missing.push("the hook has not run".to_owned());
        }
        if !missing.is_empty() {
            self.violate(format!("complete, but {}", missing.join("; ")));
        }
    }
}
