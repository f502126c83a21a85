//! Kustomizations, built by kubectl (`docs/adr/0009-kustomizations.md`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::context::RunContext;
use engine::{Code, StepError};
use process::Command;

/// It is built from local files.
const DEADLINE: Duration = Duration::from_mins(1);

/// Builds the kustomization in `folder`.
pub(super) async fn build(context: &RunContext, folder: &Path) -> Result<String, StepError> {
    let name = context.cluster.relative(folder).display().to_string();
    let kubectl = context.kubectl.clone().unwrap_or_else(|| PathBuf::from("kubectl"));
    let command = Command::new(kubectl).arg("kustomize").arg(folder).env("KUBECONFIG", "/dev/null");
    let output = command.deadline(DEADLINE).run().await.map_err(|error| match error {
        process::Error::Start { .. } => StepError::failed_precondition("`kubectl` not found")
            .with_place(&name)
            .because("kubectl builds the kustomization")
            .next("install kubectl, or set its folder with --tools-dir")
            .code(Code::P01),
        error => StepError::invalid_input("a kustomization cannot be built").with_place(&name).caused_by(&error),
    })?;
    let text = String::from_utf8(output.stdout);
    text.map_err(|_| StepError::invalid_input("the output of `kubectl kustomize` is not UTF-8").with_place(&name))
}
