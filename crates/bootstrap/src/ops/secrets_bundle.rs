//! The Talos secrets bundle of a cluster.

use std::path::Path;

use jiff::Timestamp;
use repository::Cluster;
use secrecy::ExposeSecret;
use talos_config::adapters::SecretsLocation;
use talos_config::{SecretsBundle, is_sops_encrypted};
use yaml::Origin;

use super::workspace::create_private_folder;
use super::{OpsError, SecretsMode, Target, Workspace, inputs};

/// The bundle of a cluster: decrypted, or generated placeholders. The redactor learns its values.
///
/// # Errors
///
/// A bundle that is missing, cannot be decrypted, or is invalid.
pub async fn open_bundle(
    workspace: &Workspace,
    cluster: &Cluster,
    target: &Target,
    secrets: SecretsMode,
) -> Result<SecretsBundle, OpsError> {
    let bundle = match (secrets, target) {
        (SecretsMode::Real, _) => real_bundle(workspace, cluster).await?,
        (SecretsMode::Placeholder, Target::Lab(lab)) => lab_bundle(&lab.folder)?,
        // Only operations that change nothing get a bundle that is not kept.
        (SecretsMode::Placeholder, Target::Cluster) => SecretsBundle::generate(Timestamp::now())?,
    };
    bundle.secret_values().iter().for_each(|value| workspace.redactor.learn(value));
    Ok(bundle)
}

async fn real_bundle(workspace: &Workspace, cluster: &Cluster) -> Result<SecretsBundle, OpsError> {
    let path = match cluster.inputs.secrets() {
        SecretsLocation::InConfigs(bundle) => return Ok(bundle.clone()),
        SecretsLocation::Incomplete(found) => return Err(found.into()),
        SecretsLocation::File(path) => path,
    };
    let shown = cluster.relative(&path).display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|source| OpsError::NoBundle { path: shown, source })?;
    let text =
        if is_sops_encrypted(&text) { inputs::decrypt(workspace, &cluster.root, &path).await? } else { text.into() };
    Ok(SecretsBundle::parse(&Origin::of_path(cluster.relative(&path)), text.expose_secret())?)
}

/// The placeholder bundle of a lab. It is generated once and kept in the lab's folder, so that a resumed run meets the same
/// certificate authorities.
///
/// # Errors
///
/// A folder that cannot be written, or a kept bundle that is damaged.
pub fn lab_bundle(folder: &Path) -> Result<SecretsBundle, OpsError> {
    create_private_folder(folder)?;
    let path = folder.join("placeholder-secrets.yaml");
    if let Ok(text) = std::fs::read_to_string(&path) {
        return Ok(SecretsBundle::parse(&Origin::of_path(&path), &text)?);
    }
    let bundle = SecretsBundle::generate(Timestamp::now())?;
    let written = std::fs::write(&path, bundle.to_yaml().expose_secret());
    written.map_err(|source| OpsError::Write { path, source })?;
    Ok(bundle)
}
