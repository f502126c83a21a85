//! All charts of a cluster in one file, for air-gapped installs.

use std::io;
use std::path::Path;

use helm::TemplateOptions;
use helm::bundle::{self, BundleContents};
use tools::Tool;

use super::{OpsError, SecretsMode, Target, Workspace, charts, read_cluster};

/// What a new chart bundle holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedBundle {
    pub charts: usize,
    /// Images of the rendered releases, listed in `images.txt`.
    pub images: usize,
    /// Those that are listed by tag, without a digest.
    pub unpinned: usize,
}

/// Pulls every chart that a run of the cluster needs, and writes them to `out`, atomically.
///
/// # Errors
///
/// Mistakes in the files; helm is missing; a chart that cannot be pulled or rendered; a file that cannot be written.
pub async fn create_bundle(workspace: &Workspace, cluster: &str, out: &Path) -> Result<CreatedBundle, OpsError> {
    let cluster = read_cluster(workspace, cluster, SecretsMode::Placeholder).await?;
    let charts = charts(workspace, &cluster, &Target::Cluster, None)?;
    let charts = charts.get().await.map_err(|error| OpsError::charts(error, &cluster.name))?;
    let kube_version = Some(cluster.inventory.kubernetes_version.clone());
    let options = TemplateOptions { kube_version, include_crds: true, hooks: true, ..TemplateOptions::default() };
    let releases = cluster.bootstrap.crds.releases.iter().chain(&cluster.bootstrap.releases.releases);
    let mut contents = BundleContents::gather(charts, releases, &options).await?;
    match workspace.toolbox().find(Tool::Crane).await {
        Ok(crane) => contents.pin(&crane.path).await,
        Err(_) => workspace.note("note: crane not found; images are listed by tag, without digest"),
    }
    write(&contents, out).map_err(|source| OpsError::WriteBundle { path: out.to_owned(), source })?;
    let unpinned = contents.images.iter().filter(|image| !image.contains("@sha256:")).count();
    Ok(CreatedBundle { charts: contents.charts(), images: contents.images.len(), unpinned })
}

fn write(contents: &BundleContents, out: &Path) -> io::Result<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    bundle::write(contents, &mut file)?;
    file.persist(out).map(|_| ()).map_err(|error| error.error)
}
