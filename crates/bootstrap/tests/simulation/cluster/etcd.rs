//! etcd: data directories, members, quorum.

use std::collections::BTreeMap;
use std::time::Duration;

use bootstrap::steps::etcd::decision::State;
use talos_client::{EtcdMember, EtcdStatus};

use super::{Power, SimulatedCluster};

/// After a boot, until etcd starts on data that it has.
const START: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    /// Votes in so many seconds.
    Learner {
        votes_in: u64,
    },
    Voter,
}

/// The members of an etcd cluster, by the index of their node.
#[derive(Debug, Clone, Default)]
pub(crate) struct EtcdCluster {
    pub(crate) members: BTreeMap<usize, Membership>,
}

/// What a node answers to a bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BootstrapReply {
    Accepted,
    AlreadyExists,
    /// "not available yet".
    NotYet,
}

impl SimulatedCluster {
    /// Whether any data directory has etcd's data.
    pub(crate) fn etcd_exists(&self) -> bool {
        self.nodes.iter().any(|node| node.data.is_some())
    }

    pub(super) fn voters(&self, cluster: u64) -> impl Iterator<Item = usize> {
        let members = self.etcd.get(&cluster).into_iter().flat_map(|cluster| &cluster.members);
        members.filter(|(_, membership)| **membership == Membership::Voter).map(|(index, _)| *index)
    }

    /// Whether a majority of the voters runs.
    pub(crate) fn has_quorum(&self, cluster: u64) -> bool {
        let (mut all, mut running) = (0, 0);
        for index in self.voters(cluster) {
            all += 1;
            running += usize::from(self.nodes[index].etcd_runs);
        }
        running > all / 2
    }

    /// A control plane's report of etcd.
    pub(crate) fn etcd_view(&self, index: usize) -> State {
        let node = &self.nodes[index];
        let members = node.data.and_then(|cluster| self.etcd.get(&cluster));
        let ids = members.into_iter().flat_map(|cluster| cluster.members.keys());
        node.etcd_view(self.now(), ids.map(|member| node.data.unwrap_or_default() * 10 + *member as u64))
    }

    /// The member list of a control plane; nothing while etcd does not run there, or has no quorum.
    pub(crate) fn etcd_members(&self, index: usize) -> Option<Vec<EtcdMember>> {
        let cluster =
            self.nodes[index].data.filter(|cluster| self.nodes[index].etcd_runs && self.has_quorum(*cluster))?;
        let member = |(index, membership): (&usize, &Membership)| {
            let node = &self.nodes[*index];
            EtcdMember {
                id: cluster * 10 + *index as u64,
                hostname: node.name.clone(),
                peer_urls: vec![format!("https://{}:2380", node.address)],
                client_urls: vec![],
                is_learner: *membership != Membership::Voter,
            }
        };
        Some(self.etcd.get(&cluster)?.members.iter().map(member).collect())
    }

    /// The status of a control plane's own member.
    pub(crate) fn etcd_status(&self, index: usize) -> Option<EtcdStatus> {
        let cluster = self.nodes[index].data.filter(|_| self.nodes[index].etcd_runs)?;
        let membership = self.etcd.get(&cluster)?.members.get(&index)?;
        Some(EtcdStatus {
            member: cluster * 10 + index as u64,
            leader: u64::from(self.has_quorum(cluster)),
            is_learner: *membership != Membership::Voter,
            version: "3.6.0".to_owned(),
            database: 0,
            database_in_use: 0,
            raft_index: 0,
            raft_applied_index: 0,
            errors: vec![],
        })
    }

    /// The alarms that a control plane lists.
    pub(crate) fn etcd_alarms(&self) -> Vec<String> {
        if self.now() < self.alarm_until { vec!["cp-1: NoSpace".to_owned()] } else { vec![] }
    }

    /// A bootstrap arrives.
    pub(crate) fn bootstrap(&mut self, index: usize) -> BootstrapReply {
        let now = self.now();
        let node = &mut self.nodes[index];
        let reply = if node.data.is_some() {
            BootstrapReply::AlreadyExists
        } else if !node.is_up() || node.is_blocked(now) {
            BootstrapReply::NotYet
        } else {
            node.requested = true;
            BootstrapReply::Accepted
        };
        self.counts.bootstraps += u64::from(reply == BootstrapReply::Accepted);
        self.log(|| format!("{} answers a bootstrap: {reply:?}", name(index)));
        reply
    }

    pub(super) fn tick_etcd(&mut self) {
        for index in 0..self.nodes.len() {
            let now = self.now();
            let Power::Up { since } = self.nodes[index].power else { continue };
            if !self.nodes[index].is_control_plane() || now < since + START || self.nodes[index].etcd_runs {
                continue;
            }
            match self.nodes[index].data {
                Some(_) => self.start_etcd(index),
                None if self.nodes[index].requested => self.create_etcd(index),
                None => self.join_etcd(index),
            }
        }
        self.promote_learners();
    }

    fn start_etcd(&mut self, index: usize) {
        self.nodes[index].etcd_runs = true;
        self.log(|| format!("etcd runs on {}", name(index)));
    }

    fn create_etcd(&mut self, index: usize) {
        let cluster = self.etcd.len() as u64 + 1;
        let members = BTreeMap::from([(index, Membership::Voter)]);
        self.etcd.insert(cluster, EtcdCluster { members });
        self.etcd_created.get_or_insert(self.began.elapsed());
        self.nodes[index].data = Some(cluster);
        self.log(|| format!("{} creates etcd cluster {cluster}", name(index)));
    }

    /// Talos adds one learner at a time, once the others vote.
    fn join_etcd(&mut self, index: usize) {
        let Some(cluster) = self.etcd.keys().copied().find(|cluster| self.has_quorum(*cluster)) else { return };
        let Some(members) = self.etcd.get_mut(&cluster).map(|cluster| &mut cluster.members) else { return };
        if members.values().any(|membership| *membership != Membership::Voter) {
            return;
        }
        members.insert(index, Membership::Learner { votes_in: self.chance.within(1..=6) });
        self.nodes[index].data = Some(cluster);
        self.nodes[index].etcd_runs = true;
        self.log(|| format!("{} joins etcd cluster {cluster}", name(index)));
    }

    fn promote_learners(&mut self) {
        let now = self.now();
        let clusters: Vec<u64> = self.etcd.keys().copied().filter(|cluster| self.has_quorum(*cluster)).collect();
        for cluster in clusters {
            let Some(cluster) = self.etcd.get_mut(&cluster) else { continue };
            for (index, membership) in &mut cluster.members {
                match membership {
                    Membership::Learner { votes_in: 0 } => {
                        *membership = Membership::Voter;
                        self.nodes[*index].etcd_down_since = now;
                    }
                    Membership::Learner { votes_in } if self.nodes[*index].etcd_runs => *votes_in -= 1,
                    Membership::Learner { .. } | Membership::Voter => {}
                }
            }
        }
    }
}

/// A node as the log names it.
fn name(index: usize) -> String {
    crate::inputs::declared().nodes[index].hostname.clone()
}
