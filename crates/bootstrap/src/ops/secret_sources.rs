//! What opens secrets: sops, and the sources of references that the environment and the repository name.

use std::path::Path;

use repository::{Cluster, SecretKind, Settings};
use secrets::sops::Sops;
use secrets::{Connect, OnePassword, Sources};
use tools::Tool;

use super::{SecretsMode, Workspace};
use crate::steps::SecretsFrom;

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
