//! What runs inside the cluster: kubelets, the network that the API server sees, operators.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::task::JoinSet;

use super::control_plane::KUBECONFIG;
use super::kubelet::Kubelets;
use super::network;
use super::network::Endpoints;
use super::node::{Node as Machine, World};
use super::spec::ReleaseSpec;
use super::view::View;
use super::{operators, releases};

/// The fact that the controller manager does its work: from then on workloads get pods.
const CONTROLLERS: &str = "controllers/running";

/// What operators work with that is not in the cluster.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) helm: PathBuf,
    pub(super) helm_version: semver::Version,
    /// Where charts are served, by plain HTTP.
    pub(super) registry: Option<SocketAddr>,
    /// The lab's own.
    pub(super) folder: PathBuf,
}

impl Tools {
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.folder.join(KUBECONFIG)
    }
}

/// What everything inside the cluster shares.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    pub(super) world: World,
    pub(super) view: Arc<View>,
    pub(super) machines: Vec<Arc<Machine>>,
    pub(super) releases: Arc<[ReleaseSpec]>,
    pub(super) tools: Arc<Tools>,
}

impl Inside {
    /// The facts that had to be true before the pod could be asked for, or be what it has become.
    pub(super) fn causes(&self, pod: &Pod) -> Vec<String> {
        let needs = self.view.release_of(pod).map(|(namespace, name)| self.needs(&namespace, &name));
        let holds = self.world.scenario.pods.holds.iter().filter(|hold| hold.pod.selects(pod));
        let holds = holds.map(|hold| hold.until.clone());
        let own = needs.into_iter().flatten().chain(self.view.cause_of(pod)).chain(holds);
        std::iter::once(CONTROLLERS.to_owned()).chain(own).collect()
    }

    /// The facts that had to be true before the release could be installed.
    pub(super) fn needs(&self, namespace: &str, name: &str) -> Vec<String> {
        let release = self.releases.iter().find(|release| release.namespace == namespace && release.name == name);
        let needs = release.into_iter().flat_map(|release| &release.needs);
        needs
            .flat_map(|need| {
                let effects = operators::effects(need.rsplit('/').next().unwrap_or_default());
                let effects = effects.iter().map(|&effect| effect.to_owned());
                std::iter::once(format!("release/{need}/ready")).chain(effects)
            })
            .collect()
    }
}

/// Runs from the moment in which the API is ready until the lab ends.
pub(super) async fn run(world: World, machines: Vec<Arc<Machine>>, releases: Arc<[ReleaseSpec]>, tools: Tools) {
    let mut ready = world.control_plane.client.subscribe();
    let Ok(Some(client)) = ready.wait_for(Option::is_some).await.map(|client| client.clone()) else { return };
    let mut tasks = JoinSet::new();
    let view = View::start(client, &mut tasks);
    let endpoints = Endpoints::default();
    let inside = Inside { world, view: view.clone(), machines, releases, tools: Arc::new(tools) };
    let (folder, serving) = (inside.tools.folder.clone(), endpoints.clone());
    tasks.spawn(async move {
        if let Err(reason) = network::serve(&folder, view, serving).await {
            tracing::error!(%reason, "the API server cannot reach into the cluster");
        }
    });
    tasks.spawn(controllers(inside.clone(), Instant::now()));
    tasks.spawn(releases::record(inside.clone()));
    tasks.spawn(operators::run(inside.clone(), endpoints));
    tasks.spawn(Kubelets::new(inside).run());
    while tasks.join_next().await.is_some() {}
}

/// Records when the controller manager, which starts once the API is ready, has begun to act: it starts all of its
/// controllers at one time (Kubernetes 1.35), and the first that shows gives each node its range of addresses.
async fn controllers(inside: Inside, began: Instant) {
    let has_range = |node: &Node| node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some());
    inside.view.until(|view| view.nodes.find(has_range)).await;
    inside.world.recorder.fact(CONTROLLERS, began, ["api/ready".to_owned()]);
}
