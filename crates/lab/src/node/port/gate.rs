//! The last door before a method: the call is recorded, let in or turned away, and may meet trouble there.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::ServiceExt;

use super::name::named;
use super::way::Answer;
use super::{Caller, Node};
use crate::node::access;
use crate::node::access::{Method, Mode};
use crate::node::talos::Talos;
use crate::scenario::Trouble;

#[derive(Clone)]
pub(in crate::node) struct Gate {
    pub(super) node: Arc<Node>,
    pub(super) talos: Talos,
    pub(super) mode: Mode,
    pub(super) inner: Routes,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("node", &self.node.name()).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Gate {
    pub(super) async fn ask(self, request: http::Request<Body>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        let method = Method::of(&path);
        let (name, mut request) = match named(request).await {
            Ok(named) => named,
            Err(status) => return status.into_http(),
        };
        self.node.world.recorder.call(self.node.name(), &name);
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
        if let Err(status) = access::admit(&self.talos, self.mode, &caller.roles, method) {
            return status.into_http();
        }
        let trouble = self.node.trouble(&name, |what| !what.is_on_the_way());
        if let Some(refusal) = trouble.as_ref().and_then(Trouble::refusal) {
            return refusal.into_http();
        }
        if let Some(trouble) = &trouble {
            request.extensions_mut().insert(trouble.clone());
        }
        let Ok(answer) = self.inner.oneshot(request).await;
        match trouble {
            Some(Trouble::LostReply) => Status::unavailable("the connection was lost before the answer").into_http(),
            Some(Trouble::Reboot) => {
                self.node.power_cycle();
                answer
            }
            _ => answer_of(&self.talos, method, answer),
        }
    }
}

/// A method that this machine lacks is answered in gRPC's words.
fn answer_of(talos: &Talos, method: Method<'_>, answer: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(answer.headers()) {
        Some(status) if status.code() == Code::Unimplemented && status.message().is_empty() => {
            access::unknown(talos, method).into_http()
        }
        _ => answer,
    }
}

impl tower::Service<http::Request<Body>> for Gate {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let gate = self.clone();
        Box::pin(async move { Ok(gate.ask(request).await) })
    }
}
