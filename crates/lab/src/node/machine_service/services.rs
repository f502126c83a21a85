//! Calls that list, start, stop and restart services.

use talos_proto::machine as api;
use tonic::Status;

use crate::node::api::NodeApi;
use crate::node::services::ServiceState;

/// The only service that calls can start and restart. Extensions, which could be as well, are not simulated.
const KUBELET: &str = "kubelet";

impl NodeApi {
    pub(super) fn services(&self) -> api::ServiceList {
        let state = self.node.state.borrow();
        let services = state.services.iter().map(|(id, service)| service.info(id)).collect();
        api::ServiceList { metadata: None, services }
    }

    /// Whether the service runs. An error if it does not exist.
    fn is_running(&self, id: &str) -> Result<bool, Status> {
        let state = self.node.state.borrow();
        let service = state.services.get(id);
        let service = service.ok_or_else(|| Status::unknown(format!("service {id:?} not defined")))?;
        Ok(!matches!(service.state, ServiceState::Finished | ServiceState::Failed))
    }

    fn unsupported(id: &str, operation: &str) -> Status {
        Status::unknown(format!("service {id:?} doesn't support {operation} operation via API"))
    }

    pub(super) fn start_service(&self, id: &str) -> Result<api::ServiceStart, Status> {
        if !self.is_running(id)? {
            if id != KUBELET {
                return Err(Self::unsupported(id, "start"));
            }
            self.node.start_service(KUBELET);
        }
        Ok(api::ServiceStart { metadata: None, resp: format!("Service {id:?} started") })
    }

    pub(super) fn stop_service(&self, id: &str) -> Result<api::ServiceStop, Status> {
        if self.is_running(id)? {
            return Err(Self::unsupported(id, "stop"));
        }
        Ok(api::ServiceStop { metadata: None, resp: format!("Service {id:?} stopped") })
    }

    pub(super) fn restart_service(&self, id: &str) -> Result<api::ServiceRestart, Status> {
        if !self.is_running(id)? {
            self.start_service(id)?;
        } else if id == KUBELET {
            self.node.set_service_state(KUBELET, ServiceState::Stopping, "Sending SIGTERM to task kubelet");
            self.node.set_service_state(KUBELET, ServiceState::Finished, "Service finished successfully");
            self.node.start_service(KUBELET);
        } else {
            return Err(Self::unsupported(id, "restart"));
        }
        Ok(api::ServiceRestart { metadata: None, resp: format!("Service {id:?} restarted") })
    }
}
