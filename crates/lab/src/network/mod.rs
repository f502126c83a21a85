//! The network that the API server sees: there are no pods to dial, so its connections into the cluster come here.
//!
//! kube-apiserver sends every connection to a webhook, a kubelet or an aggregated API through an egress selector: an
//! HTTP `CONNECT` over a Unix socket. The lab answers for the Services that it serves itself, and only while a pod
//! behind the Service is Ready.

mod egress;
mod target;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UnixStream;

pub(super) use egress::{SOCKET, serve};

/// A Service by namespace and name.
pub(super) type Name = (String, String);

type Answer = Arc<dyn Fn(UnixStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What the lab itself answers for, by Service.
#[derive(Clone, Default)]
pub(super) struct Endpoints(Arc<Mutex<BTreeMap<Name, Answer>>>);

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoints").finish_non_exhaustive()
    }
}

impl Endpoints {
    /// From now on `answer` takes every connection to the Service.
    pub(super) fn serve<F, A>(&self, name: Name, answer: A)
    where
        F: Future<Output = ()> + Send + 'static,
        A: Fn(UnixStream) -> F + Send + Sync + 'static,
    {
        let answer: Answer = Arc::new(move |stream| Box::pin(answer(stream)));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, answer);
    }

    fn get(&self, name: &Name) -> Option<Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
