//! What may happen to a call before it reaches the machine.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;

use super::Node;
use super::name::named;
use crate::scenario::Trouble;

pub(super) type Answer<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

#[derive(Debug, Clone)]
pub(super) struct Way<S> {
    pub(super) node: Arc<Node>,
    pub(super) inner: S,
}

impl<S> tower::Service<http::Request<Body>> for Way<S>
where
    S: tower::Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let node = self.node.clone();
        // The clone may not be ready; the one that was asked is.
        let spare = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, spare);
        Box::pin(async move {
            let (name, request) = match named(request).await {
                Ok(named) => named,
                Err(status) => return Ok(status.into_http()),
            };
            match node.trouble(&name, Trouble::is_on_the_way) {
                Some(Trouble::Refused) => return Ok(Status::unavailable("connection refused").into_http()),
                Some(Trouble::Slow(delay)) => tokio::time::sleep(delay.duration()).await,
                _ => {}
            }
            inner.call(request).await
        })
    }
}
