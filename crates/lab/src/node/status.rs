//! The machine status: the stage, and the conditions that are not met.

use talos_proto::machine::MachineStatusEvent;
use talos_proto::machine::machine_status_event::machine_status::UnmetCondition;
use talos_proto::machine::machine_status_event::{MachineStage, MachineStatus};

use super::services::ServiceState;
use super::{NodeService, NodeStage, NodeState};
use crate::machine_config::NodeRole;

impl NodeStage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Maintenance => "maintenance",
            Self::Installing => "installing",
            Self::Rebooting => "rebooting",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::ShuttingDown => "shutting down",
            Self::Resetting => "resetting",
            Self::Upgrading => "upgrading",
        }
    }

    fn as_message(self) -> MachineStage {
        match self {
            Self::Maintenance => MachineStage::Maintenance,
            Self::Installing => MachineStage::Installing,
            Self::Rebooting => MachineStage::Rebooting,
            Self::Booting => MachineStage::Booting,
            Self::Running => MachineStage::Running,
            Self::ShuttingDown => MachineStage::ShuttingDown,
            Self::Resetting => MachineStage::Resetting,
            Self::Upgrading => MachineStage::Upgrading,
        }
    }
}

impl NodeState {
    /// The conditions that are not met. Empty unless the machine boots or runs.
    fn unmet_conditions(&self, hostname: &str) -> Vec<UnmetCondition> {
        let Some(config) =
            self.config.as_ref().filter(|_| matches!(self.stage, NodeStage::Booting | NodeStage::Running))
        else {
            return vec![];
        };
        let mut unmet = Vec::new();
        let mut add = |name: &str, reason: String| {
            unmet.push(UnmetCondition { name: name.to_owned(), reason });
        };
        let services = self.service_problems(config.role);
        if !services.is_empty() {
            add("services", services.join(", "));
        }
        if !self.registered {
            add("nodeReady", format!("node {hostname:?} status is not available yet"));
        } else if !self.node_ready {
            add("nodeReady", format!("node {hostname:?} is not ready"));
        }
        unmet
    }

    fn service_problems(&self, role: NodeRole) -> Vec<String> {
        let problem = |(id, service): (&&'static str, &NodeService)| {
            if service.state != ServiceState::Running {
                return Some(format!("{id} not running"));
            }
            (service.healthy == Some(false)).then(|| format!("{id} not healthy"))
        };
        let mut problems: Vec<String> = self.services.iter().filter_map(problem).collect();
        let required: &[&str] = match role {
            NodeRole::ControlPlane => &["apid", "machined", "kubelet", "etcd", "trustd"],
            NodeRole::Worker => &["apid", "machined", "kubelet"],
        };
        let missing = required.iter().filter(|id| !self.services.contains_key(**id));
        problems.extend(missing.map(|id| format!("{id} not running")));
        problems
    }

    pub(super) fn machine_status(&self, hostname: &str) -> MachineStatusEvent {
        let unmet_conditions = self.unmet_conditions(hostname);
        let status = MachineStatus { ready: unmet_conditions.is_empty(), unmet_conditions };
        MachineStatusEvent { stage: self.stage.as_message().into(), status: Some(status) }
    }
}
