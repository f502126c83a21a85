//! Plain objects: compared with the cluster, applied server-side; the errors and waits of the Kubernetes adapter.

use std::sync::Arc;

use serde_json::Value;

use super::context::RunContext;
use engine::{Code, Effect, ErrorClass, Observation, StepContext, StepError, StepWait};
use kubernetes::{ApiError, ApiErrorKind, ApplyOptions, GateError, WaitCause, WaitReason};

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

/// What a failed request means for a step. An API that does not respond is waited for: requests were repeated already.
pub(super) fn api_error_class(error: &ApiError) -> ErrorClass {
    match &error.kind {
        ApiErrorKind::Unreachable(_) => ErrorClass::NotReady,
        _ if error.is_retryable() => ErrorClass::Unavailable,
        _ => ErrorClass::FailedPrecondition,
    }
}

/// A failed request as a step's error.
pub(super) fn api_error(error: &ApiError) -> StepError {
    let class = api_error_class(error);
    let what = match &error.kind {
        ApiErrorKind::Unreachable(_) => "the Kubernetes API does not respond",
        _ => "the Kubernetes API rejected a request",
    };
    let mut base = StepError::new(class, what).caused_by(error);
    base.retry_after = error.retry_after();
    match &error.kind {
        ApiErrorKind::Unreachable(_) | ApiErrorKind::Busy { .. } => base.code(Code::K07),
        ApiErrorKind::WebhookUnreachable { .. } => base.code(Code::H05),
        ApiErrorKind::Unconverted { .. } => base.code(Code::H04),
        ApiErrorKind::Conflict { .. } => base.code(Code::H06),
        ApiErrorKind::NotServed { .. } => base.code(Code::H03),
        ApiErrorKind::WebhookDenied { .. } | ApiErrorKind::Malformed(_) | ApiErrorKind::Refused { .. } => {
            base.code(Code::K12)
        }
        _ => base,
    }
}

/// A gate that did not open, as a step's error.
pub(super) fn gate_error(error: &GateError) -> StepError {
    match error {
        GateError::Api(error) => api_error(error),
        GateError::Failed { reason, .. } => {
            let failed = StepError::failed_precondition("an object failed").caused_by(error);
            match wait_code(reason) {
                Some(code) => failed.code(code),
                None => failed,
            }
        }
    }
}

/// The code of what a gate waits for, where it has one.
fn wait_code(reason: &WaitReason) -> Option<Code> {
    match reason.cause {
        WaitCause::ImagePull(_) => Some(Code::H13),
        WaitCause::Unschedulable => Some(Code::K05),
        WaitCause::ApiUnavailable => Some(Code::K07),
        WaitCause::AdmissionWebhook => Some(Code::H05),
        WaitCause::ConversionWebhook => Some(Code::H04),
        WaitCause::KindNotServed => Some(Code::H03),
        _ => None,
    }
}

/// What a gate waits for. Only an object that is merely not ready yet may be on its way.
fn step_wait(reason: &WaitReason) -> StepWait {
    let wait = StepWait::new(&reason.text);
    if reason.cause == WaitCause::NotReady { wait } else { wait.stuck() }
}

/// Reports what a gate waits for as the step's progress, with the code of each cause.
pub(super) fn progress(cx: &StepContext) -> impl Fn(&WaitReason) + Send + Sync + '_ {
    |reason| cx.waiting(step_wait(reason).code(wait_code(reason)))
}

/// The same, with one code for whatever is waited for.
pub(super) fn progress_with(cx: &StepContext, code: Code) -> impl Fn(&WaitReason) + Send + Sync + '_ {
    move |reason| cx.waiting(step_wait(reason).code(code))
}
