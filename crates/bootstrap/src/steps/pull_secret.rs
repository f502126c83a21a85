//! The Secret by which Flux reads the repository: without it the hand-over never ends (failure F02).

use std::time::Duration;

use super::hooks;
use super::site::Site;
use engine::{StepContext, StepError};

/// A cluster that is there already answers within this.
const THERE: Duration = Duration::from_secs(3);

/// Whether somebody brings the Secret that Flux's instance names: a manifest of the repository, a hook, or the cluster.
///
/// # Errors
///
/// When nobody does.
pub(super) async fn check(site: &Site, cx: &StepContext) -> Result<(), StepError> {
    let Some((secret, at)) = site.flux_pull_secret() else { return Ok(()) };
    let bootstrap = &site.cluster.bootstrap;
    if bootstrap.secrets.iter().any(|source| source.text.contains(&secret.name)) || site.kinds.brings(&secret) {
        return Ok(());
    }
    if let Ok(Ok(client)) = tokio::time::timeout(THERE, site.kubernetes()).await
        && matches!(kubernetes::get(&client, &secret).await, Ok(Some(_)))
    {
        return Ok(());
    }
    let because = format!("no manifest here has {secret}, by which Flux is to read the repository");
    if hooks::runs_a_program(&bootstrap.releases) {
        cx.tell(&format!("{because}; a hook may"));
        return Ok(());
    }
    Err(StepError::wrong_input("Flux would not get at the repository")
        .at(at)
        .because(because)
        .next(format!(
            "add a manifest of `{}` beside the helmfile, sealed by SOPS or with op:// references (`flux create secret git {} \
             --export` makes one), or leave pullSecret out for a public repository",
            secret.name, secret.name
        ))
        .code("F02"))
}
