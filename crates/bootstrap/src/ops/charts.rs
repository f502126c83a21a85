//! The charts of a run and the outside programs that make manifests: helm, kubectl.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use repository::{Cluster, Settings};
use tokio::sync::OnceCell;
use tools::Tool;

use super::{OpsError, Target, Workspace};
use crate::charts::{HelmSupply, LazyCharts};

/// The charts of a cluster, which are opened when they are first needed.
///
/// # Errors
///
/// [`OpsError::NoFolder`] without a cache folder.
pub fn charts(
    workspace: &Workspace,
    cluster: &Cluster,
    target: &Target,
    bundle: Option<&Path>,
) -> Result<LazyCharts, OpsError> {
    let (cache, mirrors) = match target {
        Target::Cluster => (workspace.cache_folder()?.join("charts"), cluster.settings.mirrors.clone()),
        // A lab's stand-ins have the names of real charts, so they never share a cache.
        Target::Lab(lab) => (lab.folder.join("charts"), lab.mirrors.clone()),
    };
    let helm = match target {
        Target::Cluster => HelmSupply::Installed,
        Target::Lab(_) => {
            let workspace = workspace.clone();
            HelmSupply::Provided(Arc::new(move |progress| workspace.note(progress)))
        }
    };
    let (bundle, toolbox) = (bundle.map(Path::to_owned), workspace.toolbox());
    Ok(LazyCharts { toolbox, helm, cache, mirrors, bundle, opened: OnceCell::new() })
}

/// The charts of a repository's helmfiles, without a cluster.
///
/// # Errors
///
/// As [`charts`], and mistakes in the repository's settings.
pub fn repository_charts(workspace: &Workspace, root: &Path) -> Result<LazyCharts, OpsError> {
    Ok(LazyCharts {
        toolbox: workspace.toolbox(),
        helm: HelmSupply::Installed,
        cache: workspace.cache_folder()?.join("charts"),
        mirrors: Settings::read(root)?.mirrors,
        bundle: None,
        opened: OnceCell::new(),
    })
}

/// The program that builds kustomizations, if the cluster has any. The step that needs it reports a missing one.
pub(super) async fn kubectl(workspace: &Workspace, cluster: &Cluster) -> Option<PathBuf> {
    if !cluster.bootstrap.has_kustomizations() {
        return None;
    }
    workspace.toolbox().find(Tool::Kubectl).await.ok().map(|found| found.path)
}
