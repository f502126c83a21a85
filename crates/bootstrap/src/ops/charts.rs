//! The outside programs and sources that a run context is made of: helm with its charts, sops, secret sources, kubectl.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use helm::{ChartBundle, Charts, Helm, Mirrors};
use repository::{Cluster, SecretKind, Settings};
use secrets::sops::Sops;
use secrets::{Connect, OnePassword, Sources};
use tools::Tool;

use super::error::ToolPurpose;
use super::{OpsError, SecretsMode, Target, Workspace};
use crate::steps::SecretsFrom;

/// Helm, and the charts that it can reach.
///
/// # Errors
///
/// Helm is missing or too old; the chart bundle cannot be used.
pub async fn charts(
    workspace: &Workspace,
    cluster: &Cluster,
    target: &Target,
    bundle: Option<&Path>,
) -> Result<Charts, OpsError> {
    let open = |path: &Path| {
        let failed = |source| OpsError::ChartBundle { path: path.to_owned(), cluster: cluster.name.clone(), source };
        ChartBundle::open(path).map(Arc::new).map_err(failed)
    };
    let (cache, mirrors) = match target {
        Target::Cluster => (workspace.cache_folder()?.join("charts"), cluster.settings.mirrors.clone()),
        // A lab's stand-ins have the names of real charts, so they never share a cache.
        Target::Lab(lab) => (lab.folder.join("charts"), lab.mirrors.clone()),
    };
    let helm = helm(workspace, target).await?;
    Ok(Charts { helm, cache, mirrors: Mirrors(mirrors), bundle: bundle.map(open).transpose()? })
}

/// The charts of a repository's helmfiles, without a cluster.
///
/// # Errors
///
/// As [`charts`].
pub async fn repository_charts(workspace: &Workspace, root: &Path) -> Result<Charts, OpsError> {
    let mirrors = Mirrors(Settings::read(root)?.mirrors);
    let cache = workspace.cache_folder()?.join("charts");
    Ok(Charts { helm: helm(workspace, &Target::Cluster).await?, cache, mirrors, bundle: None })
}

async fn helm(workspace: &Workspace, target: &Target) -> Result<Helm, OpsError> {
    let toolbox = workspace.toolbox();
    let found = match target {
        Target::Cluster => toolbox.find(Tool::Helm).await,
        Target::Lab(_) => toolbox.provide(Tool::Helm, &|progress| workspace.note(progress)).await,
    };
    let found = found.map_err(|source| OpsError::Tool { source, purpose: ToolPurpose::Helm })?;
    Ok(Helm { program: found.path, version: found.version })
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
    let one_password = match Connect::of(&workspace.variables) {
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
