//! The services of a machine, and what may be done with them.

use tonic::Status;

use super::Api;
use talos_proto::machine as api;

/// The one service that may be started and restarted by a call; extensions, which may too, are none here.
const KUBELET: &str = "kubelet";

impl Api {
    pub(super) fn services(&self) -> api::ServiceList {
        let state = self.node.state.borrow();
        let services = state.services.iter().map(|(id, service)| service.info(id)).collect();
        api::ServiceList { metadata: None, services }
    }

    /// Whether the service runs; an error when there is none.
    fn runs(&self, id: &str) -> Result<bool, Status> {
        let state = self.node.state.borrow();
        let service = state.services.get(id);
        let service = service.ok_or_else(|| Status::unknown(format!("service {id:?} not defined")))?;
        Ok(!matches!(service.state, "Finished" | "Failed" | "Skipped"))
    }

    fn refuse(id: &str, operation: &str) -> Status {
        Status::unknown(format!("service {id:?} doesn't support {operation} operation via API"))
    }

    pub(super) fn start_service(&self, id: &str) -> Result<api::ServiceStart, Status> {
        if !self.runs(id)? {
            if id != KUBELET {
                return Err(Self::refuse(id, "start"));
            }
            self.node.start_service(KUBELET);
        }
        Ok(api::ServiceStart { metadata: None, resp: format!("Service {id:?} started") })
    }

    pub(super) fn stop_service(&self, id: &str) -> Result<api::ServiceStop, Status> {
        if self.runs(id)? {
            return Err(Self::refuse(id, "stop"));
        }
        Ok(api::ServiceStop { metadata: None, resp: format!("Service {id:?} stopped") })
    }

    pub(super) fn restart_service(&self, id: &str) -> Result<api::ServiceRestart, Status> {
        if !self.runs(id)? {
            self.start_service(id)?;
        } else if id == KUBELET {
            self.node.service(KUBELET, "Stopping", "Sending SIGTERM to task kubelet");
            self.node.service(KUBELET, "Finished", "Service finished successfully");
            self.node.start_service(KUBELET);
        } else {
            return Err(Self::refuse(id, "restart"));
        }
        Ok(api::ServiceRestart { metadata: None, resp: format!("Service {id:?} restarted") })
    }
}
