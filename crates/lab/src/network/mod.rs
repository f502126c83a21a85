//! The cluster network as the API server sees it. There are no pods to dial, so the lab accepts its connections.
//!
//! kube-apiserver sends every connection to a webhook, a kubelet or an aggregated API through an egress selector: an
//! HTTP `CONNECT` over a Unix socket. The lab serves the Services of simulated operators, and only while a pod of the
//! Service is Ready.

mod egress;
mod target;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UnixStream;

pub(super) use crate::cluster_cache::ServiceKey;
pub(super) use egress::{SOCKET, serve};

type ConnectionHandler = Arc<dyn Fn(UnixStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Handlers for connections to Services.
#[derive(Clone, Default)]
pub(super) struct ServiceEndpoints(Arc<Mutex<BTreeMap<ServiceKey, ConnectionHandler>>>);

impl std::fmt::Debug for ServiceEndpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceEndpoints").finish_non_exhaustive()
    }
}

impl ServiceEndpoints {
    /// From now on `handle` serves every connection to the Service.
    pub(super) fn serve<F, A>(&self, service: ServiceKey, handle: A)
    where
        F: Future<Output = ()> + Send + 'static,
        A: Fn(UnixStream) -> F + Send + Sync + 'static,
    {
        let handler: ConnectionHandler = Arc::new(move |stream| Box::pin(handle(stream)));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(service, handler);
    }

    fn get(&self, service: &ServiceKey) -> Option<ConnectionHandler> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(service).cloned()
    }
}
