//! The Secret with which Flux reads the repository: without it the hand-over never ends (F02).

use std::time::Duration;

use super::context::RunContext;
use super::hooks;
use engine::{Code, StepContext, StepError};

/// A cluster that exists responds within this.
const THERE: Duration = Duration::from_secs(3);

/// Whether the Secret that Flux's instance names is provided: by a manifest of the repository, a hook, or the cluster.
///
/// # Errors
///
/// When nothing provides it.
pub(super) async fn check(context: &RunContext, cx: &StepContext) -> Result<(), StepError> {
    let Some((secret, at)) = context.flux_pull_secret() else { return Ok(()) };
    let bootstrap = &context.cluster.bootstrap;
    if bootstrap.secrets.iter().any(|source| source.text.contains(&secret.name)) || context.kinds.provides(&secret) {
        return Ok(());
    }
    if let Ok(Ok(client)) = tokio::time::timeout(THERE, context.kubernetes()).await
        && matches!(kubernetes::get(&client, &secret).await, Ok(Some(_)))
    {
        return Ok(());
    }
    let because = format!("no manifest of the repository contains {secret}, which Flux needs to read the repository");
    if hooks::runs_a_program(&bootstrap.releases) {
        cx.progress(&format!("{because}; a hook may create it"));
        return Ok(());
    }
    Err(StepError::invalid_input("Flux cannot read the repository")
        .with_place(at)
        .because(because)
        .next(format!(
            "add a manifest of `{}` beside the helmfile, sealed by SOPS or with op:// references (`flux create secret git {} \
             --export` makes one), or leave pullSecret out for a public repository",
            secret.name, secret.name
        ))
        .code(Code::F02))
}
