//! Starting and stopping a lab.

use std::net::SocketAddr;
use std::sync::Arc;

use error_report::ErrorReport;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tools::{Tool, Toolbox};

use super::cluster_context::{KustomizeController, OperatorTools, RealKustomize};
use super::control_plane::{ControlPlane, Programs};
use super::node::{LabContext, NodeDirectory, NodeError, SimulatedNode, TalosVersion, TalosVersionError};
use super::record::Recorder;
use super::registry::{ChartRegistry, RegistryError, crd_files};
use super::scenario::{FluxStage, RegistryFault, Scenario};
use super::spec::{FluxControllers, KustomizeSummary, LabFile, LabSpec, PlayedReason, web_folder};
use super::status::{LabStatus, RunningLab};
use super::{cluster, control_socket};

/// Receives one line for each tool that is downloaded or built.
type OnProgress<'p> = &'p (dyn Fn(&str) + Send + Sync);

/// Why a lab could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error("a tool of the lab is missing")]
    Tool(#[from] tools::Error),
    #[error(transparent)]
    TalosVersion(#[from] TalosVersionError),
    #[error("node {node} cannot be simulated")]
    Node { node: String, source: NodeError },
    #[error("cannot write to the lab's folder {folder}")]
    Folder { folder: String, source: std::io::Error },
    #[error("the lab cannot serve charts")]
    Charts(#[from] RegistryError),
    #[error("the scenario has faults of Kustomizations, which the real kustomize-controller does not have")]
    KustomizationFaults,
}

/// A running lab. Its nodes and programs end with it.
#[derive(Debug)]
pub struct Lab {
    running: Arc<RunningLab>,
    tasks: JoinSet<()>,
    registry: Option<ChartRegistry>,
}

impl Lab {
    /// Starts the machines, all in maintenance mode, the chart registry and the control socket.
    ///
    /// # Errors
    ///
    /// A tool is missing, the scenario's Talos version is not supported, an address is in use, a chart cannot be served,
    /// or the folder cannot be written to.
    pub async fn start(
        spec: LabSpec,
        scenario: Scenario,
        toolbox: &Toolbox,
        on_progress: OnProgress<'_>,
    ) -> Result<Self, LabError> {
        let programs = provide_programs(toolbox, on_progress).await?;
        let helm = toolbox.provide(Tool::Helm, on_progress).await?;
        let operator_tools = OperatorTools {
            helm: helm.path,
            helm_version: helm.version,
            registry: spec.registry_address(),
            folder: spec.folder.clone(),
            kustomize: kustomize_controller(&spec, &scenario, toolbox, on_progress).await?,
        };
        let kustomize = match &operator_tools.kustomize {
            KustomizeController::Played(reason) => KustomizeSummary::Played(reason.clone()),
            KustomizeController::Real(real) => KustomizeSummary::Real(real.version.to_string()),
        };
        let folder_error = |source| LabError::Folder { folder: spec.folder.display().to_string(), source };
        let recorder = Recorder::default();
        let talos = TalosVersion::parse(scenario.talos.as_ref().unwrap_or(&spec.talos_version))?;
        // 32 bits, so that every reader of the JSON status gets the same number.
        let seed = scenario.seed.unwrap_or_else(|| rand::random::<u32>().into());
        let registry_faults = scenario.registry_faults.clone();
        let control_plane = Arc::new(ControlPlane::new(programs, &spec, &scenario, recorder.clone()));
        let context = LabContext {
            addresses: spec.address_map(),
            scenario: Arc::new(scenario),
            seed,
            recorder: recorder.clone(),
            control_plane: control_plane.clone(),
            talos,
            directory: NodeDirectory::default(),
        };
        let nodes: Vec<Arc<SimulatedNode>> =
            spec.nodes.iter().map(|node| Arc::new(SimulatedNode::new(node.clone(), context.clone()))).collect();
        context.directory.register(&nodes);
        let running = Arc::new(RunningLab { spec: spec.clone(), seed, nodes: nodes.clone(), control_plane, recorder });
        let mut tasks = JoinSet::new();
        tasks.spawn(cluster::run(context, nodes.clone(), spec.releases.clone().into(), operator_tools));
        tasks.spawn(control_socket::serve(running.clone()).map_err(folder_error)?);
        let registry = start_registry(&spec, &registry_faults, toolbox, on_progress);
        let (registry, started) = tokio::join!(registry, start_nodes(&mut tasks, nodes));
        started?;
        let registry = registry?;
        if let (Some(address), false) = (spec.registry_address(), registry_faults.is_empty()) {
            let upstream = unfaulted(address);
            tasks.spawn(ChartRegistry::serve_with_faults(address, upstream, &registry_faults).await?);
        }
        let file = LabFile {
            cluster: spec.cluster.clone(),
            pid: std::process::id(),
            addresses: spec.address_map(),
            mirrors: spec.registry_address().map(|address| ("*".to_owned(), address.to_string())).into_iter().collect(),
            stand_ins: registry.as_ref().map(|registry| registry.stand_ins().to_vec()).unwrap_or_default(),
            seed,
            kustomize,
        };
        file.write(&spec.folder).map_err(folder_error)?;
        Ok(Self { running, tasks, registry })
    }

    pub async fn status(&self) -> LabStatus {
        self.running.status().await
    }

    pub fn spec(&self) -> &LabSpec {
        &self.running.spec
    }

    /// The seed of the lab's random choices, for a scenario that repeats them.
    pub fn seed(&self) -> u64 {
        self.running.seed
    }

    /// Ends every machine and every program of the lab.
    pub async fn shut_down(mut self) {
        self.tasks.shutdown().await;
        self.running.control_plane.shut_down().await;
        if let Some(registry) = self.registry {
            registry.shut_down().await;
        }
    }
}

/// Starts every machine and waits until its port is open.
async fn start_nodes(tasks: &mut JoinSet<()>, nodes: Vec<Arc<SimulatedNode>>) -> Result<(), LabError> {
    for node in nodes {
        let name = node.name().to_owned();
        let mut state = node.state.subscribe();
        let (stopped, mut stopped_early) = oneshot::channel();
        tasks.spawn(async move {
            let name = node.name().to_owned();
            if let Err(error) = Box::pin(node.run()).await
                && let Err(error) = stopped.send(error)
            {
                tracing::error!(node = name, error = %ErrorReport::new(&error), "a simulated node stopped");
            }
        });
        tokio::select! {
            // The node owns the state, so this fails only after the node has stopped; the other branch has the reason.
            Ok(_) = state.wait_for(|state| state.port_open) => {}
            Ok(source) = &mut stopped_early => return Err(LabError::Node { node: name, source }),
        }
    }
    Ok(())
}

/// Where the registry itself listens when its faults are served at its own address.
fn unfaulted(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + 1)
}

async fn start_registry(
    spec: &LabSpec,
    faults: &[RegistryFault],
    toolbox: &Toolbox,
    on_progress: OnProgress<'_>,
) -> Result<Option<ChartRegistry>, LabError> {
    let Some(address) = spec.registry_address() else { return Ok(None) };
    let crane = toolbox.provide(Tool::Crane, on_progress).await?.path;
    let helm = toolbox.provide(Tool::Helm, on_progress).await?.path;
    let folder = spec.folder.join("registry");
    crd_files::write_all(&helm, &folder, &web_folder(&spec.folder), &spec.crd_urls).await?;
    let address = if faults.is_empty() { address } else { unfaulted(address) };
    let registry = ChartRegistry::start(&crane, &helm, address, &folder, &spec.releases, spec.charts).await?;
    Ok(Some(registry))
}

/// The real kustomize-controller where it is wanted and can be had.
async fn kustomize_controller(
    spec: &LabSpec,
    scenario: &Scenario,
    toolbox: &Toolbox,
    on_progress: OnProgress<'_>,
) -> Result<KustomizeController, LabError> {
    let FluxControllers::RealKustomize(tree) = &spec.flux else {
        return Ok(KustomizeController::Played(PlayedReason::NotRequested));
    };
    if scenario.flux_faults.iter().any(|fault| [FluxStage::Root, FluxStage::Kustomization].contains(&fault.object)) {
        return Err(LabError::KustomizationFaults);
    }
    Ok(match toolbox.provide(Tool::KustomizeController, on_progress).await {
        Ok(found) => {
            KustomizeController::Real(RealKustomize { program: found.path, version: found.version, tree: tree.clone() })
        }
        Err(error) => KustomizeController::Played(PlayedReason::Unavailable(ErrorReport::new(&error).to_string())),
    })
}

async fn provide_programs(toolbox: &Toolbox, on_progress: OnProgress<'_>) -> Result<Programs, tools::Error> {
    Ok(Programs {
        etcd: toolbox.provide(Tool::Etcd, on_progress).await?.path,
        etcdctl: toolbox.provide(Tool::Etcdctl, on_progress).await?.path,
        etcdutl: toolbox.provide(Tool::Etcdutl, on_progress).await?.path,
        apiserver: toolbox.provide(Tool::KubeApiserver, on_progress).await?.path,
        controller_manager: toolbox.provide(Tool::KubeControllerManager, on_progress).await?.path,
        scheduler: toolbox.provide(Tool::KubeScheduler, on_progress).await?.path,
    })
}
