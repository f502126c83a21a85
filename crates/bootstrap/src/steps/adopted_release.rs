//! Which release Flux will own: one of another name would be installed over the same objects (F09).

use std::time::Duration;

use engine::{Code, StepError};
use repository::drift::{Drift, second_release};
use tokio::time::timeout;

use super::context::RunContext;
use super::handoff;

/// A cluster that exists responds within this.
const THERE: Duration = Duration::from_secs(3);

/// Whether each HelmRelease owns the release that the bootstrap installs, as far as that is certain; `plan` lists the rest as
/// drift.
///
/// # Errors
///
/// All those that would own another one, and do not yet.
pub(super) async fn check(context: &RunContext) -> Result<(), StepError> {
    let releases = context.cluster.bootstrap.releases.releases.iter();
    let mut wrong: Vec<Drift> =
        releases.filter_map(|release| second_release(release, &context.cluster.flux.counterpart(release)?)).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let known = async { handoff::helm_releases(&context.kubernetes().await?).await };
    if let Ok(Ok(known)) = timeout(THERE, known).await {
        wrong.retain(|one| !known.iter().any(|known| known.installs(&one.release)));
    }
    let Some(first) = wrong.first() else { return Ok(()) };
    let reasons: Vec<String> =
        wrong.iter().map(|one| format!("{}: {} ({})", one.release, one.message, one.at)).collect();
    Err(StepError::invalid_input("Flux would install a release a second time")
        .with_place(first.at.to_string())
        .because(reasons.join("; "))
        .next(first.next.clone())
        .code(Code::F09))
}
