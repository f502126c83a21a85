//! The time service. Every time server agrees with the machine's clock.

use jiff::Timestamp;
use talos_proto::time::time_service_server::TimeService;
use talos_proto::time::{Time, TimeRequest, TimeResponse};
use tonic::{Request, Response, Status};

use super::SimulatedNode;
use super::api::NodeApi;
use super::to_proto_timestamp;

const SERVER: &str = "time.cloudflare.com";

impl SimulatedNode {
    /// Whether its clock is in sync since its boot, by the scenario.
    pub(super) fn has_synced_clock(&self) -> bool {
        let faults = &self.lab.scenario.clock_faults;
        let Some(fault) = faults.iter().find(|fault| fault.node == self.name()) else { return true };
        let booted_at = self.state.borrow().booted_at;
        Timestamp::now().duration_since(booted_at).unsigned_abs() >= fault.lasts.duration()
    }
}

fn time_response(server: &str) -> Response<TimeResponse> {
    let now = Some(to_proto_timestamp(Timestamp::now()));
    let message = Time { metadata: None, server: server.to_owned(), localtime: now, remotetime: now };
    Response::new(TimeResponse { messages: vec![message] })
}

#[tonic::async_trait]
impl TimeService for NodeApi {
    async fn time(&self, _: Request<()>) -> Result<Response<TimeResponse>, Status> {
        Ok(time_response(SERVER))
    }

    async fn time_check(&self, request: Request<TimeRequest>) -> Result<Response<TimeResponse>, Status> {
        let server = &request.get_ref().server;
        if server.is_empty() && self.node.talos().has_full_maintenance_api() {
            return Err(Status::invalid_argument("ntp server is required"));
        }
        Ok(time_response(server))
    }
}
