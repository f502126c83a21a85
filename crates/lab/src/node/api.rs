//! What the gRPC services of a machine share.

use std::sync::Arc;

use tonic::{Request, Status};

use super::SimulatedNode;
use super::access::{ApiMode, Caller};
use crate::machine_config::{AppliedConfig, NodeRole};

/// The gRPC services of a machine's port.
#[derive(Debug, Clone)]
pub(super) struct NodeApi {
    pub(super) node: Arc<SimulatedNode>,
    pub(super) mode: ApiMode,
}

/// The roles of a request's caller.
pub(super) fn roles_of<T>(request: &Request<T>) -> &[String] {
    request.extensions().get::<Caller>().map(|caller| caller.roles.as_slice()).unwrap_or_default()
}

impl NodeApi {
    pub(super) fn in_maintenance(&self) -> bool {
        self.mode == ApiMode::Maintenance
    }

    /// The config of a control plane. An error on other nodes, with Talos's name of the `method`.
    pub(super) fn control_plane_only(&self, method: &str) -> Result<Arc<AppliedConfig>, Status> {
        match self.node.config() {
            Some(config) if config.role == NodeRole::ControlPlane => Ok(config),
            Some(_) => Err(Status::unimplemented(format!("{method} is only available on control plane nodes"))),
            None => Err(Status::unimplemented(format!("machine type is not set, cannot use {method} API"))),
        }
    }
}
