//! The errors and waits of the Kubernetes adapter as those of steps.

use engine::{Code, ErrorClass, StepContext, StepError, StepWait};
use kubernetes::{ApiError, ApiErrorKind, GateError, WaitCause, WaitReason};

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
        ApiErrorKind::Unreachable(_) => "a request to the Kubernetes API failed",
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
        WaitCause::PodSecurity => Some(Code::K09),
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
    progress_by(cx, move |_| code)
}

/// The same, with a code that depends on the reason.
pub(super) fn progress_by<'c>(
    cx: &'c StepContext,
    code: impl Fn(&WaitReason) -> Code + Send + Sync + 'c,
) -> impl Fn(&WaitReason) + Send + Sync + 'c {
    move |reason| cx.waiting(step_wait(reason).code(code(reason)))
}
