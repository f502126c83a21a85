//! Network faults: what can happen to a call before it reaches the machine.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;

use super::SimulatedNode;
use super::call_name::{NamedCall, with_call_name};
use crate::scenario::CallFaultKind;

pub(super) type ResponseFuture<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

/// Applies the scenario's network faults to calls.
#[derive(Debug, Clone)]
pub(super) struct NetworkFaults<S> {
    pub(super) node: Arc<SimulatedNode>,
    pub(super) inner: S,
}

impl<S> tower::Service<http::Request<Body>> for NetworkFaults<S>
where
    S: tower::Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let node = self.node.clone();
        // Only the service that was polled is known to be ready, not its clone.
        let spare = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, spare);
        Box::pin(async move {
            let NamedCall { name, request } = match with_call_name(request).await {
                Ok(call) => call,
                Err(status) => return Ok(status.into_http()),
            };
            match node.take_fault(&name, CallFaultKind::is_network_fault) {
                Some(CallFaultKind::Refused) => return Ok(Status::unavailable("connection refused").into_http()),
                Some(CallFaultKind::Slow(delay)) => tokio::time::sleep(delay.duration()).await,
                Some(CallFaultKind::Down(lasts)) => {
                    node.lose_power(lasts.duration());
                    return Ok(Status::unavailable("the connection was lost").into_http());
                }
                Some(CallFaultKind::Stall(lasts)) => node.network.stall(lasts.duration()),
                // These happen once the call has reached the node.
                Some(
                    CallFaultKind::LostReply
                    | CallFaultKind::NotYet
                    | CallFaultKind::Reboot
                    | CallFaultKind::Status { .. }
                    | CallFaultKind::ExitCode(_),
                )
                | None => {}
            }
            inner.call(request).await
        })
    }
}
