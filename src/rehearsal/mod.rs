//! Labs: starting one for a cluster, reaching a running one, and ending it. The only module that knows both the lab and the
//! operations on clusters.

mod seal;
mod spec;

use std::path::{Path, PathBuf};

use ::lab::{
    ApiServers, ChartsFrom, EncryptedFiles, FluxControllers, Lab, LabError, LabFile, Scenario, ScenarioError,
    WorkingTree, lab_folder, web_folder,
};
use bootstrap::ops::{LabAccess, OpsError, Workspace, create_private_folder, lab_bundle};
use repository::Cluster;

pub(crate) use seal::{Isolation, OutsideNeeds, isolate};

/// How a lab is set up.
#[derive(Debug, Clone)]
pub(crate) struct LabOptions {
    pub(crate) scenario: String,
    pub(crate) charts: ChartsFrom,
    pub(crate) api_servers: ApiServers,
    pub(crate) flux: FluxChoice,
}

/// Which kustomize-controller is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FluxChoice {
    Played,
    Real(EncryptedFiles),
}

/// Why a lab is not available.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RehearsalError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("a lab of `{cluster}` is already running")]
    AlreadyRunning { cluster: String },
    #[error("cannot remove {}", .path.display())]
    Remove { path: PathBuf, source: std::io::Error },
    #[error("no lab of `{cluster}` in {}", .folder.display())]
    NotRunning { cluster: String, folder: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Start(#[from] LabError),
    #[error(transparent)]
    Ops(#[from] OpsError),
    #[error(transparent)]
    Tool(#[from] tools::Error),
}

/// The folder of a cluster's lab.
pub(crate) fn folder(workspace: &Workspace, cluster: &str) -> Result<PathBuf, OpsError> {
    Ok(lab_folder(&workspace.state_folder()?, cluster))
}

/// How the running lab of a cluster is reached.
pub(crate) fn access(workspace: &Workspace, cluster: &str) -> Result<LabAccess, RehearsalError> {
    let folder = folder(workspace, cluster)?;
    let file = LabFile::read(&folder).map_err(|source| RehearsalError::NotRunning {
        cluster: cluster.to_owned(),
        folder: folder.clone(),
        source,
    })?;
    Ok(LabAccess { addresses: file.addresses, mirrors: file.mirrors, web: web_folder(&folder), folder })
}

/// Starts the lab of a cluster. What a killed lab left behind is removed first.
pub(crate) async fn start(
    workspace: &Workspace,
    cluster: &Cluster,
    options: &LabOptions,
) -> Result<Lab, RehearsalError> {
    let scenario = Scenario::load(&options.scenario)?;
    let folder = folder(workspace, &cluster.name)?;
    if ::lab::query_status(&folder).await.is_ok() {
        return Err(RehearsalError::AlreadyRunning { cluster: cluster.name.clone() });
    }
    if folder.exists() {
        remove(&folder)?;
    }
    create_private_folder(&folder)?;
    let secrets = lab_bundle(&folder)?;
    let flux = match options.flux {
        FluxChoice::Played => FluxControllers::Played,
        FluxChoice::Real(encrypted) => {
            FluxControllers::RealKustomize(WorkingTree { root: cluster.root.clone(), encrypted })
        }
    };
    let mut spec = spec::lab_spec(cluster, &secrets, folder, options.charts, options.api_servers);
    spec.flux = flux;
    Ok(Lab::start(spec, scenario, &workspace.toolbox(), &|line| workspace.note(line)).await?)
}

/// What becomes of a lab's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    Remove,
    Keep,
}

/// Ends a lab.
pub(crate) async fn end(lab: Lab, workspace: &Workspace, afterwards: Afterwards) -> Result<(), RehearsalError> {
    let folder = lab.spec().folder.clone();
    lab.shut_down().await;
    match afterwards {
        Afterwards::Remove => remove(&folder),
        Afterwards::Keep => {
            workspace.note(&format!("kept: {}", folder.display()));
            Ok(())
        }
    }
}

fn remove(folder: &Path) -> Result<(), RehearsalError> {
    std::fs::remove_dir_all(folder).map_err(|source| RehearsalError::Remove { path: folder.to_owned(), source })
}
