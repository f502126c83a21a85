//! The time service. The lab's clock is right, whomever the machine asks.

use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::machine_service::Api;
use super::stamp;
use talos_proto::time::time_service_server::TimeService;
use talos_proto::time::{Time, TimeRequest, TimeResponse};

const SERVER: &str = "time.cloudflare.com";

fn answer(server: &str) -> Response<TimeResponse> {
    let now = Some(stamp(Timestamp::now()));
    let message = Time { metadata: None, server: server.to_owned(), localtime: now, remotetime: now };
    Response::new(TimeResponse { messages: vec![message] })
}

#[tonic::async_trait]
impl TimeService for Api {
    async fn time(&self, _: Request<()>) -> Result<Response<TimeResponse>, Status> {
        Ok(answer(SERVER))
    }

    async fn time_check(&self, request: Request<TimeRequest>) -> Result<Response<TimeResponse>, Status> {
        let server = &request.get_ref().server;
        if server.is_empty() && self.node.talos().one_server() {
            return Err(Status::invalid_argument("ntp server is required"));
        }
        Ok(answer(server))
    }
}
