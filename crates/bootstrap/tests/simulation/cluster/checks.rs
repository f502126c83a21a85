//! The rules, checked after every event.

use std::collections::BTreeSet;
use std::time::Duration;

use talos_config::Role;

use super::{Cause, SimulatedCluster};
use crate::inputs::RELEASES;

/// How many workers may be down by our doing at once.
const MAX_UNAVAILABLE: usize = 1;

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
        for (role, most) in [(Role::ControlPlane, 1), (Role::Worker, MAX_UNAVAILABLE)] {
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
        for index in 0..self.nodes.len() {
            if self.nodes[index].down_by.is_some() && self.serves(index) {
                self.nodes[index].down_by = None;
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
    pub(super) fn check_reboot(&mut self, index: usize, looked: Option<Duration>) {
        if !self.etcd_exists() {
            return;
        }
        let name = self.nodes[index].name.clone();
        let Some(looked) = looked else {
            return self.violate(format!("a run reboots {name} without a look at the cluster, and etcd exists"));
        };
        let Some(cluster) = self.nodes[index].data.filter(|_| self.nodes[index].is_control_plane()) else { return };
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
