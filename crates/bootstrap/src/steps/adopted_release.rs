//! Which release Flux will own: one of another name or place would be installed over the same objects (F09).

use std::time::Duration;

use engine::{Code, StepError};
use repository::drift::{Difference, Drift};

use super::context::RunContext;
use super::handoff;

/// A cluster that exists responds within this.
const THERE: Duration = Duration::from_secs(3);

/// Whether each HelmRelease owns the release that the bootstrap installs. One that Flux has taken over already, with its
/// record elsewhere, stays.
///
/// # Errors
///
/// All those that would own another one.
pub(super) async fn check(context: &RunContext) -> Result<(), StepError> {
    let drift = context.cluster.drift();
    // A HelmRelease of another chart has the same name by chance.
    let is_other_chart = |other: &Drift| {
        drift.iter().any(|known| known.release == other.release && known.difference == Difference::Chart)
    };
    let mut wrong: Vec<&Drift> =
        drift.iter().filter(|one| one.difference == Difference::Release && !is_other_chart(one)).collect();
    if !wrong.is_empty()
        && let Ok(Ok(client)) = tokio::time::timeout(THERE, context.kubernetes()).await
        && let Ok(known) = handoff::helm_releases(&client).await
    {
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
