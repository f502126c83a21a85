//! What `lab status` shows.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::control_plane::ControlPlane;
use super::node::SimulatedNode;
use super::record::{CriticalPath, LabRecord, Recorder};
use super::spec::LabSpec;

/// A machine as `lab status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulatedNodeStatus {
    pub name: String,
    pub address: std::net::IpAddr,
    pub role: String,
    pub stage: String,
    pub port_open: bool,
}

/// An etcd member as `lab status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdMemberSummary {
    pub name: String,
    /// In hexadecimal, as etcd's own tools print it.
    pub id: String,
    /// The member replicates but does not vote yet.
    pub learner: bool,
    /// Declared addresses.
    pub client_urls: Vec<String>,
}

/// A lab as `lab status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabStatus {
    pub cluster: String,
    /// The seed of the lab's random choices.
    pub seed: u64,
    pub nodes: Vec<SimulatedNodeStatus>,
    /// Empty before etcd is bootstrapped.
    pub members: Vec<EtcdMemberSummary>,
    pub api_ready: bool,
    pub record: LabRecord,
    pub critical_path: CriticalPath,
}

/// The parts of a running lab that its status is made from.
#[derive(Debug)]
pub(super) struct RunningLab {
    pub(super) spec: LabSpec,
    pub(super) seed: u64,
    pub(super) nodes: Vec<Arc<SimulatedNode>>,
    pub(super) control_plane: Arc<ControlPlane>,
    pub(super) recorder: Recorder,
}

impl RunningLab {
    pub(super) fn folder(&self) -> &Path {
        &self.spec.folder
    }

    pub(super) async fn status(&self) -> LabStatus {
        let members = self.control_plane.all_members().await;
        let record = self.recorder.snapshot(self.folder());
        LabStatus {
            cluster: self.spec.cluster.clone(),
            seed: self.seed,
            nodes: self.nodes.iter().map(|node| node_status(node)).collect(),
            members: members
                .into_iter()
                .map(|member| EtcdMemberSummary {
                    name: member.hostname,
                    id: format!("{:x}", member.id),
                    learner: member.is_learner,
                    client_urls: member.client_urls,
                })
                .collect(),
            api_ready: self.control_plane.client.borrow().is_some(),
            critical_path: record.critical_path(),
            record,
        }
    }
}

fn node_status(node: &SimulatedNode) -> SimulatedNodeStatus {
    let state = node.state.borrow();
    let role = state.config.as_ref().map_or("unconfigured", |config| config.role.display_name());
    SimulatedNodeStatus {
        name: node.name().to_owned(),
        address: node.address(),
        role: role.to_owned(),
        stage: state.stage.name().to_owned(),
        port_open: state.port_open,
    }
}
