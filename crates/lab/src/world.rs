//! The lab's life: machines, control plane, control socket.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::control_plane::{ControlPlane, Programs};
use super::node::{Neighbours, Node, Talos, World, resources};
use super::record::{CriticalPath, Record, Recorder};
use super::registry::{Registry, files};
use super::scenario::Scenario;
use super::spec::{LabFile, Spec, web_folder};
use tools::{Tool, Toolbox};

/// Why a lab could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error("a tool of the lab is missing: {0}")]
    Tool(#[from] tools::Error),
    #[error("a machine cannot be simulated: {0}")]
    Machine(String),
    #[error("the lab's folder {folder} cannot be used: {source}")]
    Folder { folder: String, source: std::io::Error },
    #[error("the lab has no charts to serve: {0}")]
    Charts(String),
}

/// A machine as `lab status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub name: String,
    pub address: std::net::IpAddr,
    pub role: String,
    pub stage: String,
    pub port_open: bool,
}

/// A member of etcd as `lab status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    pub name: String,
    /// In hexadecimal, as etcd's own tools print it.
    pub id: String,
    /// It follows, and has no vote yet.
    pub learner: bool,
    /// Declared addresses.
    pub client_urls: Vec<String>,
}

/// A lab as `lab status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub cluster: String,
    pub nodes: Vec<NodeStatus>,
    /// None before etcd is bootstrapped.
    pub members: Vec<MemberStatus>,
    pub api_ready: bool,
    pub record: Record,
    pub critical_path: CriticalPath,
}

/// A running lab. Everything in it ends with it.
#[derive(Debug)]
pub struct Lab {
    inner: Arc<Inner>,
    tasks: JoinSet<()>,
    registry: Option<Registry>,
}

#[derive(Debug)]
pub(super) struct Inner {
    spec: Spec,
    nodes: Vec<Arc<Node>>,
    control_plane: Arc<ControlPlane>,
    recorder: Recorder,
}

impl Lab {
    /// Starts the machines, all in maintenance mode, and the control socket.
    ///
    /// # Errors
    ///
    /// A tool that is nowhere, a folder that cannot be written.
    pub async fn start(
        spec: Spec,
        scenario: Scenario,
        toolbox: &Toolbox,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Self, LabError> {
        let programs = programs(toolbox, tell).await?;
        let helm = toolbox.provide(Tool::Helm, tell).await?;
        let operators = super::cluster::Tools {
            helm: helm.path,
            helm_version: helm.version,
            registry: spec.registry_address(),
            folder: spec.folder.clone(),
        };
        let folder_error = |source| LabError::Folder { folder: spec.folder.display().to_string(), source };
        let recorder = Recorder::default();
        let talos = Talos::parse(scenario.talos.as_ref().unwrap_or(&spec.talos_version)).map_err(LabError::Machine)?;
        let control_plane = Arc::new(ControlPlane::new(programs, &spec, recorder.clone()));
        let world = World {
            addresses: spec.address_map(),
            scenario: Arc::new(scenario),
            recorder: recorder.clone(),
            control_plane: control_plane.clone(),
            talos,
            neighbours: Neighbours::default(),
        };
        let nodes: Vec<Arc<Node>> =
            spec.nodes.iter().map(|node| Arc::new(Node::new(node.clone(), world.clone()))).collect();
        world.neighbours.settle(&nodes);
        let inner = Arc::new(Inner { spec: spec.clone(), nodes: nodes.clone(), control_plane, recorder });
        let mut tasks = JoinSet::new();
        tasks.spawn(super::cluster::run(world, nodes.clone(), spec.releases.clone().into(), operators));
        tasks.spawn(super::socket::serve(inner.clone()).map_err(folder_error)?);
        let registry = registry(&spec, toolbox, tell);
        let (registry, started) = tokio::join!(registry, machines(&mut tasks, nodes));
        started?;
        let registry = registry?;
        let file = LabFile {
            cluster: spec.cluster.clone(),
            pid: std::process::id(),
            addresses: spec.address_map(),
            mirrors: spec.registry_address().map(|address| ("*".to_owned(), address.to_string())).into_iter().collect(),
            stand_ins: registry.as_ref().map(|registry| registry.stand_ins().to_vec()).unwrap_or_default(),
        };
        file.write(&spec.folder).map_err(folder_error)?;
        Ok(Self { inner, tasks, registry })
    }

    pub async fn status(&self) -> Status {
        self.inner.status().await
    }

    pub fn spec(&self) -> &Spec {
        &self.inner.spec
    }

    /// Ends every machine and every program of the lab.
    pub async fn shut_down(mut self) {
        self.tasks.shutdown().await;
        self.inner.control_plane.shut_down().await;
        if let Some(registry) = self.registry {
            registry.shut_down().await;
        }
    }
}

impl Inner {
    pub(super) fn folder(&self) -> &std::path::Path {
        &self.spec.folder
    }

    pub(super) async fn status(&self) -> Status {
        let members = self.control_plane.all_members().await;
        let nodes = self
            .nodes
            .iter()
            .map(|node| {
                let state = node.state.borrow();
                NodeStatus {
                    name: node.name().to_owned(),
                    address: node.address(),
                    role: resources::role_name(state.config.as_ref().map(|config| config.role)).to_owned(),
                    stage: state.stage.name().to_owned(),
                    port_open: state.port_open,
                }
            })
            .collect();
        let record = self.recorder.snapshot(self.folder());
        Status {
            cluster: self.spec.cluster.clone(),
            nodes,
            members: members
                .into_iter()
                .map(|member| MemberStatus {
                    name: member.hostname,
                    id: format!("{:x}", member.id),
                    learner: member.is_learner,
                    client_urls: member.client_urls,
                })
                .collect(),
            api_ready: self.control_plane.client.borrow().is_some(),
            critical_path: record.critical_path(),
            record,
        }
    }
}

/// Starts every machine and waits until its port is open.
async fn machines(tasks: &mut JoinSet<()>, nodes: Vec<Arc<Node>>) -> Result<(), LabError> {
    for node in nodes {
        let mut open = node.state.subscribe();
        let (stopped, mut early) = tokio::sync::oneshot::channel();
        tasks.spawn(async move {
            if let Err(reason) = Box::pin(node.live()).await
                && let Err(reason) = stopped.send(reason)
            {
                tracing::error!(%reason, "a machine stopped");
            }
        });
        tokio::select! {
            // The machine holds the sender, so an error here means that it has stopped, which the other arm tells.
            Ok(_) = open.wait_for(|state| state.port_open) => {}
            Ok(reason) = &mut early => return Err(LabError::Machine(reason)),
        }
    }
    Ok(())
}

async fn registry(
    spec: &Spec,
    toolbox: &Toolbox,
    tell: &(dyn Fn(&str) + Send + Sync),
) -> Result<Option<Registry>, LabError> {
    let Some(address) = spec.registry_address() else { return Ok(None) };
    let crane = toolbox.provide(Tool::Crane, tell).await?.path;
    let helm = toolbox.provide(Tool::Helm, tell).await?.path;
    let folder = spec.folder.join("registry");
    files::make(&helm, &folder, &web_folder(&spec.folder), &spec.files).await.map_err(LabError::Charts)?;
    Registry::start(&crane, &helm, address, &folder, &spec.releases, spec.charts)
        .await
        .map(Some)
        .map_err(LabError::Charts)
}

async fn programs(toolbox: &Toolbox, tell: &(dyn Fn(&str) + Send + Sync)) -> Result<Programs, tools::Error> {
    Ok(Programs {
        etcd: toolbox.provide(Tool::Etcd, tell).await?.path,
        etcdctl: toolbox.provide(Tool::Etcdctl, tell).await?.path,
        etcdutl: toolbox.provide(Tool::Etcdutl, tell).await?.path,
        apiserver: toolbox.provide(Tool::KubeApiserver, tell).await?.path,
        controller_manager: toolbox.provide(Tool::KubeControllerManager, tell).await?.path,
        scheduler: toolbox.provide(Tool::KubeScheduler, tell).await?.path,
    })
}
