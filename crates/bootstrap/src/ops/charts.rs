//! The outside programs and sources that a run context is made of: helm with its charts, sops, secret sources, kubectl.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use repository::{Cluster, SecretKind, Settings};
use secrets::sops::Sops;
use secrets::{Connect, OnePassword, Sources};
use tokio::sync::OnceCell;
use tools::Tool;

use super::{OpsError, SecretsMode, Target, Workspace};
use crate::charts::{HelmSupply, LazyCharts};
use crate::steps::SecretsFrom;

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

/// Where the secrets in manifests come from. A missing program is reported by the step that needs it.
pub(super) async fn manifest_secrets(workspace: &Workspace, cluster: &Cluster, secrets: SecretsMode) -> SecretsFrom {
    if secrets == SecretsMode::Placeholder {
        return SecretsFrom::Placeholders;
    }
    let has_sops = cluster.bootstrap.secrets.iter().any(|source| source.kind == SecretKind::Sops);
    let needs_sops = has_sops || !cluster.flux.decryptions().is_empty();
    let sops = if needs_sops { sops(workspace, &cluster.root).await.ok() } else { None };
    let references = secret_sources(workspace, &cluster.root, &cluster.settings).await;
    SecretsFrom::Operator { references: Box::new(references), sops }
}

/// The program `sops`, with the key file that the repository's own tools name.
pub(super) async fn sops(workspace: &Workspace, root: &Path) -> Result<Sops, tools::Error> {
    let found = workspace.toolbox().find(Tool::Sops).await?;
    Ok(Sops { program: found.path, key_file: discover::sops_key_file(root, &workspace.variables) })
}

/// What resolves secret references: a Connect server if the environment names one, else `op`, and the declared sources.
pub(super) async fn secret_sources(workspace: &Workspace, root: &Path, settings: &Settings) -> Sources {
    let one_password = match Connect::from_variables(&workspace.variables) {
        Some(connect) => OnePassword::Connect(connect),
        None => match workspace.toolbox().find(Tool::Op).await {
            Ok(found) => OnePassword::Program(found.path),
            Err(_) => OnePassword::Unavailable,
        },
    };
    Sources {
        one_password,
        adapters: settings.sources.clone(),
        accounts: settings.accounts.clone(),
        folder: root.to_owned(),
        variables: workspace.variables.clone(),
        redactor: workspace.redactor.clone(),
        prompt: workspace.operator.clone(),
    }
}

/// The program that builds kustomizations, if the cluster has any. The step that needs it reports a missing one.
pub(super) async fn kubectl(workspace: &Workspace, cluster: &Cluster) -> Option<PathBuf> {
    if !cluster.bootstrap.has_kustomizations() {
        return None;
    }
    workspace.toolbox().find(Tool::Kubectl).await.ok().map(|found| found.path)
}
