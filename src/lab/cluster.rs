//! What runs inside the cluster: kubelets, the network that the API server sees, operators.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;

use super::control_plane::KUBECONFIG;
use super::kubelet::Kubelets;
use super::network::{self, Endpoints};
use super::node::{Node, World};
use super::spec::ReleaseSpec;
use super::view::View;
use super::{operators, releases};

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
    pub(super) machines: Vec<Arc<Node>>,
    pub(super) releases: Arc<[ReleaseSpec]>,
    pub(super) tools: Arc<Tools>,
}

impl Inside {
    /// The facts that had to be true before the pod could be asked for, or be what it has become.
    pub(super) fn causes(&self, pod: &Pod) -> Vec<String> {
        let needs = self.view.release_of(pod).map(|(namespace, name)| self.needs(&namespace, &name));
        let holds = self.world.scenario.pods.holds.iter().filter(|hold| hold.pod.selects(pod));
        let holds = holds.map(|hold| hold.until.clone());
        needs.into_iter().flatten().chain(self.view.cause_of(pod)).chain(holds).collect()
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
pub(super) async fn run(world: World, machines: Vec<Arc<Node>>, releases: Arc<[ReleaseSpec]>, tools: Tools) {
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
    tasks.spawn(releases::record(inside.clone()));
    tasks.spawn(operators::run(inside.clone(), endpoints));
    tasks.spawn(Kubelets::new(inside).run());
    while tasks.join_next().await.is_some() {}
}
