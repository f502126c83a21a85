//! Plain objects: compared with the cluster, applied server-side.

use std::sync::Arc;

use serde_json::Value;

use super::api_errors::{api_error, progress};
use super::context::RunContext;
use engine::{Effect, Observation, StepContext, StepError};
use kubernetes::ApplyOptions;

/// The field manager of everything but hooks.
pub(super) const MANAGER: &str = "k8s-bootstrap";

/// Whether the cluster has all fields of these objects, and none that was applied before and has left them. Fields that Flux owns are not compared (F01).
pub(super) async fn observe_objects(context: &Arc<RunContext>, objects: &[Value]) -> Result<Observation, StepError> {
    observe_as(context, ApplyOptions::new(MANAGER), objects).await
}

/// The same with the options of the apply.
pub(super) async fn observe_as(
    context: &Arc<RunContext>,
    options: ApplyOptions<'_>,
    objects: &[Value],
) -> Result<Observation, StepError> {
    let client = context.kubernetes().await?;
    let mut drifts = kubernetes::object_drifts(&client, &options, objects).await.map_err(|error| api_error(&error))?;
    drifts.retain(|(_, drift)| drift.needs_apply());
    Ok(match drifts.first() {
        None => Observation::UpToDate(format!("{} objects are up to date", objects.len())),
        Some((object, drift)) => {
            let others = drifts.len() - 1;
            let more = if others == 0 { String::new() } else { format!(", and {others} more") };
            Observation::Missing(format!("{object} {drift}{more}"))
        }
    })
}

/// Applies objects as [`MANAGER`], which overwrites what it applied before.
pub(super) async fn apply_objects(
    context: &Arc<RunContext>,
    objects: &[Value],
    cx: &StepContext,
) -> Result<Effect, StepError> {
    apply_as(context, ApplyOptions { force: true, ..ApplyOptions::new(MANAGER) }, objects, cx).await
}

pub(super) async fn apply_as(
    context: &Arc<RunContext>,
    options: ApplyOptions<'_>,
    objects: &[Value],
    cx: &StepContext,
) -> Result<Effect, StepError> {
    let client = context.kubernetes().await?;
    let applied = kubernetes::apply(&client, &options, objects, &progress(cx)).await;
    applied.map(|_| Effect::Complete).map_err(|error| api_error(&error))
}
