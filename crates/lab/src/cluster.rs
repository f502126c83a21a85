//! The tasks that simulate the inside of the Kubernetes cluster: kubelets, the API server's network, operators.

use std::sync::Arc;
use std::time::Instant;

use error_report::ErrorReport;
use k8s_openapi::api::core::v1::Node;
use tokio::task::JoinSet;

use super::cluster_cache::ClusterCache;
use super::cluster_context::{ClusterContext, OperatorTools};
use super::kubelet::Kubelets;
use super::network::{self, ServiceEndpoints};
use super::node::{LabContext, SimulatedNode};
use super::record::facts;
use super::spec::ReleaseSpec;
use super::{operators, releases};

/// Runs from the moment the API is ready until the lab ends.
pub(super) async fn run(
    lab: LabContext,
    nodes: Vec<Arc<SimulatedNode>>,
    releases: Arc<[ReleaseSpec]>,
    tools: OperatorTools,
) {
    let mut ready = lab.control_plane.client.subscribe();
    let Ok(Some(client)) = ready.wait_for(Option::is_some).await.map(|client| client.clone()) else { return };
    let mut tasks = JoinSet::new();
    let cache = ClusterCache::start(client, &mut tasks);
    let endpoints = ServiceEndpoints::default();
    let context = ClusterContext { lab, cache: cache.clone(), nodes, releases, tools: Arc::new(tools) };
    let (folder, served) = (context.tools.folder.clone(), endpoints.clone());
    tasks.spawn(async move {
        if let Err(error) = network::serve(&folder, cache, served).await {
            tracing::error!(error = %ErrorReport::new(&error), "the API server has no connection into the cluster");
        }
    });
    tasks.spawn(record_controller_manager(context.clone(), Instant::now()));
    tasks.spawn(releases::record(context.clone()));
    tasks.spawn(operators::run(context.clone(), endpoints));
    tasks.spawn(Kubelets::new(context).run());
    while tasks.join_next().await.is_some() {}
}

/// Records when the controller manager, which starts once the API is ready, begins to act. It starts all of its
/// controllers at once (Kubernetes 1.35); the first visible effect is a pod CIDR on a node.
async fn record_controller_manager(context: ClusterContext, began: Instant) {
    let has_pod_cidr = |node: &Node| node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some());
    context.cache.wait_until(|cache| cache.nodes.find(has_pod_cidr)).await;
    context.lab.recorder.record_fact(facts::CONTROLLERS_RUNNING, began, [facts::API_READY.to_owned()]);
}
