//! `k8s-bootstrap bundle create CLUSTER --out FILE`: all charts of a cluster in one file.

use std::path::Path;

use super::args::{BundleCommand, Common};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::workspace::workspace;
use bootstrap::ops::{SecretsMode, Target, charts, read_cluster};
use helm::TemplateOptions;
use helm::bundle;
use helm::bundle::BundleContents;
use tools::Tool;

pub(super) async fn bundle(common: &Common, command: BundleCommand) -> Result<Exit, CommandError> {
    let BundleCommand::Create { cluster, out } = command;
    create(common, &cluster, &out).await
}

async fn create(common: &Common, name: &str, out: &Path) -> Result<Exit, CommandError> {
    let workspace = workspace(common);
    let cluster = read_cluster(&workspace, name, SecretsMode::Placeholder).await?;
    let charts = charts(&workspace, &cluster, &Target::Cluster, None).await?;
    let kube_version = Some(cluster.inventory.kubernetes_version.clone());
    let options = TemplateOptions { kube_version, include_crds: true, hooks: true, ..TemplateOptions::default() };
    let releases = cluster.bootstrap.crds.releases.iter().chain(&cluster.bootstrap.releases.releases);
    let mut contents = BundleContents::gather(&charts, releases, &options).await?;
    let crane = workspace.toolbox().find(Tool::Crane).await;
    match &crane {
        Ok(crane) => contents.pin(&crane.path).await,
        Err(_) => {
            output::say("note: crane not found; images are listed by tag, without digest");
        }
    }
    write(&contents, out).map_err(|error| {
        CommandError::precondition(format!("cannot write the bundle {}: {error}", out.display()))
            .hint("free space there, or pass another file with --out")
    })?;
    let unpinned = contents.images.iter().filter(|image| !image.contains("@sha256:")).count();
    output::say(&format!(
        "{}: {} charts; its images.txt lists {} images, {unpinned} of them without digest\nnext: k8s-bootstrap {name} --bundle {}",
        out.display(),
        contents.charts(),
        contents.images.len(),
        out.display()
    ));
    Ok(Exit::Done)
}

/// Writes the bundle atomically.
fn write(contents: &BundleContents, out: &Path) -> std::io::Result<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    bundle::write(contents, &mut file)?;
    file.persist(out).map(|_| ()).map_err(|error| error.error)
}
