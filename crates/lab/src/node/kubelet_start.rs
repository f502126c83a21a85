//! The start of the kubelet and of the static pods of a control plane, with the scenario's faults.

use super::services::{KUBELET, ServiceState};
use super::{NodeService, SimulatedNode};
use crate::scenario::{ApiServerFault, KubeletFault, Millis};

/// The static pods of a control plane, as its kubelet reports them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::node) enum StaticPods {
    /// Talos has not rendered them: etcd is not healthy on this node (Talos 1.12, `control_plane_static_pod.go`).
    #[default]
    NotRendered,
    /// All run but the API server.
    ApiServerFails(ApiServerFault),
    Running,
}

impl SimulatedNode {
    pub(super) fn kubelet_fault(&self) -> Option<&KubeletFault> {
        self.lab.scenario.kubelet_faults.iter().find(|fault| fault.node == self.name())
    }

    /// Runs a kubelet that fails until its fault ends. Talos itself starts it again only on request.
    pub(super) async fn run_kubelet_fault(&self) {
        let Some(fault) = self.kubelet_fault() else { return };
        self.set_service_state(KUBELET, ServiceState::Starting, "Starting service");
        self.set_service_state(KUBELET, ServiceState::Preparing, "Running pre state");
        self.set_service_state(KUBELET, ServiceState::Failed, &fault.message);
        outlast(fault.lasts).await;
        self.start_service(KUBELET);
    }

    /// Waits for a kubelet that runs.
    pub(super) async fn kubelet_runs(&self) {
        let is_running = |service: &NodeService| service.state == ServiceState::Running;
        let mut state = self.state.subscribe();
        // `self` owns the sender, so this only ever waits.
        let _ = state.wait_for(|state| state.services.get(KUBELET).is_some_and(is_running)).await;
    }

    /// Starts the static pods; returns when the API server may run.
    pub(super) async fn start_static_pods(&self) {
        self.kubelet_runs().await;
        let fault = self.lab.scenario.api_server_faults.iter().find(|fault| fault.node == self.name());
        if let Some(fault) = fault {
            self.change(|state| state.static_pods = StaticPods::ApiServerFails(fault.clone()));
            outlast(fault.lasts).await;
        }
        self.change(|state| state.static_pods = StaticPods::Running);
    }
}

async fn outlast(fault: Option<Millis>) {
    match fault {
        Some(lasts) => tokio::time::sleep(lasts.duration()).await,
        None => std::future::pending().await,
    }
}
