//! What the release of Flux's instance says of the Flux that will run.

use helm::ApplyMethod;
use kubernetes::ObjectRef;
use serde_json::Value;

use super::RunContext;

/// The release that carries Flux's instance.
const FLUX_RELEASE: &str = "flux-instance";

/// Flux's sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flux {
    pub namespace: String,
    /// The name of the GitRepository and of the root Kustomization.
    pub sync: String,
    /// What of the repository is followed, such as `main`.
    pub reference: String,
}

impl RunContext {
    /// Flux's instance as its release's values describe it; nothing when no release installs one.
    pub fn flux(&self) -> Option<Flux> {
        let release =
            self.cluster.bootstrap.releases.releases.iter().find(|release| release.id.name == FLUX_RELEASE)?;
        let text = |key: &str| release.values.pointer(&format!("/instance/sync/{key}")).and_then(Value::as_str);
        let reference = text("ref").unwrap_or_default();
        Some(Flux {
            namespace: release.id.namespace.clone(),
            sync: text("name").unwrap_or(&release.id.namespace).to_owned(),
            reference: reference.rsplit('/').next().unwrap_or_default().to_owned(),
        })
    }

    /// The Secret by which Flux is to read the repository, and the release that says so.
    pub(super) fn flux_pull_secret(&self) -> Option<(ObjectRef, String)> {
        let release =
            self.cluster.bootstrap.releases.releases.iter().find(|release| release.id.name == FLUX_RELEASE)?;
        let name = release.values.pointer("/instance/sync/pullSecret").and_then(Value::as_str)?;
        let secret = ObjectRef::new("v1", "Secret", Some(&release.id.namespace), name);
        (!name.is_empty()).then(|| (secret, format!("release {} ({})", release.id, release.at)))
    }

    /// How Helm writes objects: as the Helm inside the Flux that will adopt the releases does.
    pub(super) fn apply_method(&self) -> ApplyMethod {
        let releases = self.cluster.bootstrap.releases.releases.iter();
        let version = releases
            .filter(|release| release.id.name == FLUX_RELEASE)
            .find_map(|release| release.values.pointer("/instance/distribution/version")?.as_str());
        // Without a Flux that says otherwise, the merge that every Helm knows.
        version.map_or(ApplyMethod::ClientSide, ApplyMethod::from_flux_version)
    }
}
