//! What runs inside the cluster: kubelets, the network that the API server sees, operators.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;

use super::kubelet::Kubelets;
use super::node::{Node, World};
use super::spec::ReleaseSpec;
use super::view::View;

/// What everything inside the cluster shares.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    pub(super) world: World,
    pub(super) view: Arc<View>,
    pub(super) machines: Vec<Arc<Node>>,
    pub(super) releases: Arc<[ReleaseSpec]>,
}

impl Inside {
    /// The facts that had to be true before the pod's release could be installed.
    pub(super) fn causes(&self, pod: &Pod) -> Vec<String> {
        self.view.release_of(pod).map(|(namespace, name)| self.needs(&namespace, &name)).unwrap_or_default()
    }

    /// The facts that had to be true before the release could be installed.
    pub(super) fn needs(&self, namespace: &str, name: &str) -> Vec<String> {
        let release = self.releases.iter().find(|release| release.namespace == namespace && release.name == name);
        let needs = release.into_iter().flat_map(|release| &release.needs);
        needs.map(|need| format!("release/{need}/ready")).collect()
    }
}

/// Runs from the moment in which the API is ready until the lab ends.
pub(super) async fn run(world: World, machines: Vec<Arc<Node>>, releases: Arc<[ReleaseSpec]>) {
    let mut ready = world.control_plane.client.subscribe();
    let Ok(Some(client)) = ready.wait_for(Option::is_some).await.map(|client| client.clone()) else { return };
    let mut tasks = JoinSet::new();
    let view = View::start(client, &mut tasks);
    let inside = Inside { world, view, machines, releases };
    tasks.spawn(super::releases::record(inside.clone()));
    tasks.spawn(Kubelets::new(inside).run());
    while tasks.join_next().await.is_some() {}
}
