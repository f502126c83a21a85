//! The last layer before a method: records the call, checks its roles and applies the scenario's faults.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::ServiceExt;

use super::SimulatedNode;
use super::call_name::{NamedCall, with_call_name};
use super::network_faults::ResponseFuture;
use crate::node::access::{self, ApiMode, Caller, GrpcMethod};
use crate::node::talos_version::TalosVersion;
use crate::scenario::CallFaultKind;

/// Checks calls and passes them to the services of the machine.
#[derive(Clone)]
pub(in crate::node) struct Admission {
    pub(super) node: Arc<SimulatedNode>,
    pub(super) talos: TalosVersion,
    pub(super) mode: ApiMode,
    pub(super) inner: Routes,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("node", &self.node.name()).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Admission {
    pub(super) async fn call(self, request: http::Request<Body>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        let method = GrpcMethod::from_path(&path);
        let NamedCall { name, mut request } = match with_call_name(request).await {
            Ok(call) => call,
            Err(status) => return status.into_http(),
        };
        self.node.lab.recorder.record_call(self.node.name(), &name);
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
        if let Err(status) = access::admit(&self.talos, self.mode, &caller.roles, method) {
            return status.into_http();
        }
        let fault = self.node.take_fault(&name, |what| !what.is_network_fault());
        if let Some(rejection) = fault.as_ref().and_then(CallFaultKind::rejection) {
            return rejection.into_http();
        }
        if let Some(fault) = &fault {
            request.extensions_mut().insert(fault.clone());
        }
        let Ok(response) = self.inner.oneshot(request).await;
        match fault {
            Some(CallFaultKind::LostReply) => {
                Status::unavailable("the connection was lost before the response").into_http()
            }
            Some(CallFaultKind::Reboot) => {
                self.node.request_power_cycle();
                response
            }
            // The first four are over, a status was returned above, and an exit code is the installer's.
            Some(
                CallFaultKind::Refused
                | CallFaultKind::Slow(_)
                | CallFaultKind::Down(_)
                | CallFaultKind::Stall(_)
                | CallFaultKind::NotYet
                | CallFaultKind::Status { .. }
                | CallFaultKind::ExitCode(_),
            )
            | None => with_grpc_message(&self.talos, method, response),
        }
    }
}

/// Adds gRPC's message to the response for a method that this machine does not have.
fn with_grpc_message(
    talos: &TalosVersion,
    method: GrpcMethod<'_>,
    response: http::Response<Body>,
) -> http::Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::Unimplemented && status.message().is_empty() => {
            access::unknown_method(talos, method).into_http()
        }
        _ => response,
    }
}

impl tower::Service<http::Request<Body>> for Admission {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let admission = self.clone();
        Box::pin(async move { Ok(admission.call(request).await) })
    }
}
