//! Kustomizations, built by kubectl's own hand (`docs/adr/0009-kustomizations.md`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::site::Site;
use engine::StepError;
use process::Command;

/// It is built from files that are here.
const DEADLINE: Duration = Duration::from_mins(1);

/// The manifests that the kustomization in `folder` comes to.
pub(super) async fn build(site: &Site, folder: &Path) -> Result<String, StepError> {
    let name = site.cluster.relative(folder).display().to_string();
    let kubectl = site.kubectl.clone().unwrap_or_else(|| PathBuf::from("kubectl"));
    let command = Command::new(kubectl).arg("kustomize").arg(folder).env("KUBECONFIG", "/dev/null");
    let output = command.deadline(DEADLINE).run().await.map_err(|error| match error {
        process::Error::Start { .. } => StepError::wrong_world("`kubectl` is needed and nowhere to be found")
            .at(&name)
            .because("it builds the kustomization")
            .next("install kubectl, or name its folder with --tools-dir"),
        error => StepError::wrong_input("a kustomization cannot be built").at(&name).because(error),
    })?;
    let text = String::from_utf8(output.stdout);
    text.map_err(|_| StepError::wrong_input("a kustomization comes to no text").at(&name))
}
