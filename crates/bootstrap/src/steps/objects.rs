//! Plain objects: compared with the world, applied server-side.

use std::sync::Arc;

use serde_json::Value;

use super::site::Site;
use engine::{ErrorClass, Observation, StepContext, StepError};
use kubernetes::{ApiError, ApiErrorKind, ApplyOptions, GateError, Unpulled};

/// The field manager of what we apply in our own name.
pub(super) const MANAGER: &str = "k8s-bootstrap";

/// Whether the world already holds everything that these objects say. What Flux owns is Flux's to judge (F01).
pub(super) async fn observe_objects(site: &Arc<Site>, objects: &[Value]) -> Result<Observation, StepError> {
    observe_objects_in(site, "default", objects).await
}

/// The same for objects that may name no namespace.
pub(super) async fn observe_objects_in(
    site: &Arc<Site>,
    namespace: &str,
    objects: &[Value],
) -> Result<Observation, StepError> {
    let client = site.kubernetes().await?;
    let mut differences =
        kubernetes::differences(&client, objects, namespace).await.map_err(|error| api_error(&error))?;
    differences.retain(|(_, deviation)| deviation.is_ours_to_apply());
    Ok(match differences.first() {
        None => Observation::Holds(format!("{} objects are as they should be", objects.len())),
        Some((object, deviation)) => {
            let others = differences.len() - 1;
            let more = if others == 0 { String::new() } else { format!(", and {others} more") };
            Observation::Missing(format!("{object} {deviation}{more}"))
        }
    })
}

/// Applies objects in our own name; what we wrote before is ours to overwrite.
pub(super) async fn apply_objects(site: &Arc<Site>, objects: &[Value], cx: &StepContext) -> Result<(), StepError> {
    apply_as(site, ApplyOptions { force: true, ..ApplyOptions::new(MANAGER) }, objects, cx).await
}

pub(super) async fn apply_as(
    site: &Arc<Site>,
    options: ApplyOptions<'_>,
    objects: &[Value],
    cx: &StepContext,
) -> Result<(), StepError> {
    let client = site.kubernetes().await?;
    kubernetes::apply(&client, &options, objects, cx.teller()).await.map(|_| ()).map_err(|error| api_error(&error))
}

/// A failed request as a step's error.
pub(super) fn api_error(error: &ApiError) -> StepError {
    let class = if error.is_retryable() { ErrorClass::Retryable } else { ErrorClass::WrongWorld };
    let mut base = StepError::new(class, "the Kubernetes API did not take this").because(error);
    base.retry_after = error.retry_after();
    match &error.kind {
        ApiErrorKind::Unreachable(_) | ApiErrorKind::Busy { .. } => base.code("K07"),
        ApiErrorKind::WebhookUnreachable { .. } => base.code("H05"),
        ApiErrorKind::Unconverted { .. } => base.code("H04"),
        ApiErrorKind::Conflict { .. } => base.code("H06"),
        ApiErrorKind::NotServed { .. } => base.code("H03"),
        _ => base,
    }
}

/// A gate that was not passed as a step's error.
pub(super) fn gate_error(error: &GateError) -> StepError {
    match error {
        GateError::Api(error) => api_error(error),
        GateError::Failed { reason, .. } => {
            let failed = StepError::wrong_world("what was installed does not become ready").because(error);
            match trouble_code(reason) {
                Some(code) => failed.code(code),
                None => failed,
            }
        }
    }
}

/// The code of what a gate tells, where it has one.
pub(super) fn trouble_code(line: &str) -> Option<&'static str> {
    Unpulled::is_told_by(line).then_some("H13")
}
