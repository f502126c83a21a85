//! Whether the cluster is still the one that a journal is about (O11). A pure decision over what was recorded and what is seen.
//!
//! Talos reports no cluster id of etcd, and etcd derives that id and the id of its first member from the member's address
//! (etcd 3.5 and 3.6, `computeMemberID`): a rebuilt cluster has the same ones. The UID of the namespace `kube-system` is
//! random and lives in etcd's data, so it is the evidence that counts most; it also survives a restore from a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Identity;

/// The number of a cluster among those that had the same name in the same state folder, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(u32);

impl Epoch {
    pub const FIRST: Self = Self(1);

    pub fn new(number: u32) -> Self {
        Self(number)
    }

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Default for Epoch {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something that distinguishes this cluster from another one of the same name. Recorded when it is first seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterFact {
    /// The ids of etcd's members, in hexadecimal digits.
    EtcdMembers(BTreeSet<String>),
    /// The UID of the namespace `kube-system`.
    KubeSystem(String),
    /// The boot of a node: its hostname, and Linux's random boot id (`random(4)`).
    NodeBoot { node: String, boot: String },
    /// How long a node was away for a boot, in seconds: later runs wait at least as patiently.
    BootDuration { node: String, seconds: u64 },
}

/// What the facts of an epoch add up to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterFacts {
    /// The newest list of members.
    pub etcd_members: BTreeSet<String>,
    pub kube_system: Option<String>,
    /// The newest boot of each node, by hostname.
    pub boots: BTreeMap<String, String>,
    /// The longest boot of each node in seconds, by hostname.
    pub boot_seconds: BTreeMap<String, u64>,
}

/// What a fact adds to those that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Learned {
    New,
    Known,
    /// It cannot be true of the same cluster; what was recorded.
    Contradicts(String),
}

impl ClusterFacts {
    /// Adds a fact.
    pub fn learn(&mut self, fact: &ClusterFact) -> Learned {
        let is_new = match fact {
            ClusterFact::EtcdMembers(ids) => std::mem::replace(&mut self.etcd_members, ids.clone()) != *ids,
            ClusterFact::NodeBoot { node, boot } => {
                self.boots.insert(node.clone(), boot.clone()).as_ref() != Some(boot)
            }
            ClusterFact::BootDuration { node, seconds } => {
                let known = self.boot_seconds.get(node).copied();
                if known.is_none_or(|known| known < *seconds) {
                    self.boot_seconds.insert(node.clone(), *seconds);
                }
                known.is_none_or(|known| known < *seconds)
            }
            ClusterFact::KubeSystem(uid) => match &self.kube_system {
                Some(known) if known != uid => return Learned::Contradicts(known.clone()),
                Some(_) => false,
                None => {
                    self.kube_system = Some(uid.clone());
                    true
                }
            },
        };
        if is_new { Learned::New } else { Learned::Known }
    }
}

/// Whether a recorded run has started etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordedEtcd {
    Bootstrapped,
    NotBootstrapped,
}

/// What a journal records of its cluster.
#[derive(Debug, Clone, Copy)]
pub struct RecordedCluster<'r> {
    pub identity: &'r Identity,
    pub facts: &'r ClusterFacts,
    pub etcd: RecordedEtcd,
}

/// What a node is at the start of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservedNode {
    /// Without a config.
    Maintenance,
    /// It accepts the certificate of this cluster.
    Configured,
    /// It belongs to a cluster with another CA.
    Foreign,
    Unknown,
}

/// What exists at the start of a run, as far as it responds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedCluster {
    pub identity: Identity,
    pub control_planes: Vec<ObservedNode>,
    pub workers: Vec<ObservedNode>,
    /// The ids of etcd's members, in hexadecimal digits; empty when they are not known.
    pub etcd_members: BTreeSet<String>,
    pub kube_system: Option<String>,
}

impl ObservedCluster {
    /// Whether no node that responds has a config, and every control plane responds: etcd is nowhere.
    fn is_empty(&self) -> bool {
        let is_without = |node: &ObservedNode| *node == ObservedNode::Maintenance;
        let may_be = |node: &ObservedNode| is_without(node) || *node == ObservedNode::Unknown;
        !self.control_planes.is_empty() && self.control_planes.iter().all(is_without) && self.workers.iter().all(may_be)
    }

    /// Whether the nodes show that this run's Talos CA is the cluster's: one accepts it, or every control plane waits for
    /// its first config; and none runs under another one. Silence shows nothing.
    fn shows_its_authority(&self) -> bool {
        let any = |state| self.control_planes.iter().chain(&self.workers).any(|node| *node == state);
        (any(ObservedNode::Configured) || self.is_empty()) && !any(ObservedNode::Foreign)
    }
}

/// Whether a journal goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochDecision {
    /// Nothing shows that it is another cluster.
    Same,
    New(EpochEnd),
}

/// Why an epoch has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochEnd {
    OtherTalosCa,
    OtherKubernetes,
    OtherEtcd,
    Wiped,
}

impl fmt::Display for EpochEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherTalosCa => "the cluster has another Talos CA",
            Self::OtherKubernetes => "Kubernetes was created anew",
            Self::OtherEtcd => "etcd has none of its earlier members",
            Self::Wiped => "every control plane is back in maintenance mode",
        })
    }
}

/// Compares the cluster on record with the one that exists.
///
/// The same Kubernetes is the same cluster, whatever else changed: certificate authorities are rotated, members replaced.
/// Another Talos CA ends the epoch when the nodes accept it or wait for a config. While none responds, or one runs under yet
/// another CA, this run may have the wrong secrets, and its preflight reports so (T04).
pub fn decide_epoch(recorded: RecordedCluster<'_>, observed: &ObservedCluster) -> EpochDecision {
    if let (Some(known), Some(found)) = (&recorded.facts.kube_system, &observed.kube_system) {
        return if known == found { EpochDecision::Same } else { EpochDecision::New(EpochEnd::OtherKubernetes) };
    }
    let authorities = recorded.identity.talos_ca.as_ref().zip(observed.identity.talos_ca.as_ref());
    if authorities.is_some_and(|(known, found)| known != found) && observed.shows_its_authority() {
        return EpochDecision::New(EpochEnd::OtherTalosCa);
    }
    let (known, found) = (&recorded.facts.etcd_members, &observed.etcd_members);
    if !known.is_empty() && !found.is_empty() && known.is_disjoint(found) {
        return EpochDecision::New(EpochEnd::OtherEtcd);
    }
    if recorded.etcd == RecordedEtcd::Bootstrapped && observed.is_empty() {
        return EpochDecision::New(EpochEnd::Wiped);
    }
    EpochDecision::Same
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(talos_ca: &str) -> Identity {
        Identity { name: "blue".into(), cluster_id: Some(1), talos_ca: Some(talos_ca.into()) }
    }

    fn observed(control_planes: &[ObservedNode], workers: &[ObservedNode]) -> ObservedCluster {
        ObservedCluster {
            identity: identity("ca"),
            control_planes: control_planes.to_vec(),
            workers: workers.to_vec(),
            etcd_members: BTreeSet::new(),
            kube_system: None,
        }
    }

    fn members(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    fn decide(talos_ca: &str, facts: &ClusterFacts, etcd: RecordedEtcd, observed: &ObservedCluster) -> EpochDecision {
        decide_epoch(RecordedCluster { identity: &identity(talos_ca), facts, etcd }, observed)
    }

    use EpochDecision::{New, Same};
    use ObservedNode::{Configured, Foreign, Maintenance, Unknown};
    use RecordedEtcd::{Bootstrapped, NotBootstrapped};

    #[test]
    fn nodes_back_in_maintenance_mode_end_an_epoch_that_had_etcd() {
        let facts = ClusterFacts::default();
        let table: &[(RecordedEtcd, &[ObservedNode], &[ObservedNode], EpochDecision)] = &[
            (Bootstrapped, &[Maintenance, Maintenance], &[Maintenance], New(EpochEnd::Wiped)),
            (Bootstrapped, &[Maintenance], &[], New(EpochEnd::Wiped)),
            (Bootstrapped, &[Maintenance, Maintenance], &[Unknown], New(EpochEnd::Wiped)),
            // The first run stopped before etcd: its nodes wait for a config still.
            (NotBootstrapped, &[Maintenance, Maintenance], &[Maintenance], Same),
            // One control plane was replaced.
            (Bootstrapped, &[Maintenance, Configured], &[Maintenance], Same),
            (Bootstrapped, &[Maintenance, Unknown], &[Maintenance], Same),
            (Bootstrapped, &[Maintenance, Maintenance], &[Configured], Same),
            (Bootstrapped, &[Unknown, Unknown], &[Unknown], Same),
            (Bootstrapped, &[], &[Maintenance], Same),
        ];
        for (etcd, control_planes, workers, expected) in table {
            let found = decide("ca", &facts, *etcd, &observed(control_planes, workers));
            assert_eq!(found, *expected, "{etcd:?} {control_planes:?} {workers:?}");
        }
    }

    #[test]
    fn another_talos_ca_ends_the_epoch_unless_the_secrets_are_the_wrong_ones() {
        let facts = ClusterFacts::default();
        for nodes in [[Maintenance, Maintenance], [Configured, Unknown]] {
            assert_eq!(decide("old", &facts, NotBootstrapped, &observed(&nodes, &[])), New(EpochEnd::OtherTalosCa));
        }
        for nodes in [[Foreign, Unknown], [Foreign, Configured], [Unknown, Unknown], [Maintenance, Unknown]] {
            assert_eq!(decide("old", &facts, Bootstrapped, &observed(&nodes, &[])), Same, "{nodes:?}");
        }
    }

    #[test]
    fn kubernetes_decides_where_it_responds() {
        let facts = ClusterFacts {
            etcd_members: members(&["a", "b"]),
            kube_system: Some("uid-1".into()),
            ..ClusterFacts::default()
        };
        let mut now = observed(&[Configured], &[]);
        now.etcd_members = members(&["c"]);
        assert_eq!(decide("ca", &facts, Bootstrapped, &now), New(EpochEnd::OtherEtcd));
        // Every member was replaced, and the CA rotated, one after the other.
        now.kube_system = Some("uid-1".into());
        assert_eq!(decide("old", &facts, Bootstrapped, &now), Same);
        now.etcd_members = members(&["a"]);
        now.kube_system = Some("uid-2".into());
        assert_eq!(decide("ca", &facts, Bootstrapped, &now), New(EpochEnd::OtherKubernetes));
    }

    #[test]
    fn a_fact_is_new_once() {
        let mut facts = ClusterFacts::default();
        let uid = ClusterFact::KubeSystem("uid-1".into());
        assert_eq!([facts.learn(&uid), facts.learn(&uid)], [Learned::New, Learned::Known]);
        assert_eq!(facts.learn(&ClusterFact::KubeSystem("uid-2".into())), Learned::Contradicts("uid-1".into()));
        assert_eq!(facts.kube_system.as_deref(), Some("uid-1"));
        let boot = |boot: &str| ClusterFact::NodeBoot { node: "cp-1".into(), boot: boot.into() };
        assert_eq!(
            [facts.learn(&boot("1")), facts.learn(&boot("1")), facts.learn(&boot("2"))],
            [Learned::New, Learned::Known, Learned::New]
        );
    }

    fn node() -> impl Strategy<Value = ObservedNode> {
        prop_oneof![Just(Maintenance), Just(Configured), Just(Foreign), Just(Unknown)]
    }

    proptest! {
        /// A cluster of which nothing has changed keeps its journal, whichever nodes respond.
        #[test]
        fn silence_ends_no_epoch(control_planes in proptest::collection::vec(node(), 0..4), workers in proptest::collection::vec(node(), 0..4)) {
            let facts = ClusterFacts { etcd_members: members(&["a"]), kube_system: Some("uid".into()), ..ClusterFacts::default() };
            let now = observed(&control_planes, &workers);
            let expected = if now.is_empty() { New(EpochEnd::Wiped) } else { Same };
            prop_assert_eq!(decide("ca", &facts, Bootstrapped, &now), expected);
            let alive = ObservedCluster { kube_system: Some("uid".into()), ..now };
            prop_assert_eq!(decide("ca", &facts, Bootstrapped, &alive), Same);
        }
    }
}
