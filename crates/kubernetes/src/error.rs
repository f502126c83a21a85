//! Why a request to the API failed, and whether a retry can succeed.

use std::fmt::Display;
use std::time::Duration;

use error_report::ErrorReport;
use kube::core::Status;
use retry::policies::API_OUTAGE;
use retry::{Verdict, retry};

use super::object_ref::ObjectRef;

/// A healthy API server answers a request within 60 s; a connection that was cut never does.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// No `Retry-After` of an API server is followed for longer.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// A failed request and the object that it was for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{kind}", .object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default())]
pub struct ApiError {
    pub object: Option<ObjectRef>,
    pub kind: ApiErrorKind,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiErrorKind {
    /// Connection refused, cut, or timed out.
    #[error("the Kubernetes API does not respond: {0}")]
    Unreachable(String),
    /// The API server, or etcd behind it, is overloaded or starting.
    #[error("the Kubernetes API is unavailable: {message}")]
    Busy { message: String, retry_after: Option<Duration> },
    /// The API server could not call a required admission webhook (H05).
    #[error("admission webhook {webhook} is unreachable: {reason}")]
    WebhookUnreachable { webhook: String, reason: String },
    /// An admission webhook denied the request.
    #[error("admission webhook {webhook} denied the request: {reason}")]
    WebhookDenied { webhook: String, reason: String },
    /// Objects of a kind are readable in their storage version only, because their conversion webhook fails (H04).
    #[error("the conversion webhook of {kind} failed: {reason}")]
    Unconverted { kind: String, reason: String },
    /// Another field manager owns fields that we want to set (H06).
    #[error("{}", conflict(.ours, .theirs))]
    Conflict { ours: String, theirs: Vec<Ownership> },
    /// The API server does not serve this kind (H03, H07).
    #[error(
        "the API server does not serve {kind} of {api_version}; its CustomResourceDefinition is not installed by an earlier release, or its operator has not registered it yet"
    )]
    NotServed { api_version: String, kind: String },
    /// The object to send is not a Kubernetes object.
    #[error("invalid Kubernetes object: {0}")]
    Malformed(String),
    /// Any other status of the API server.
    #[error("{message} ({code} {reason})")]
    Refused { code: u16, reason: String, message: String },
}

/// Fields and the manager that owns them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    pub manager: String,
    pub fields: Vec<String>,
}

fn conflict(ours: &str, theirs: &[Ownership]) -> String {
    let owned: Vec<String> =
        theirs.iter().map(|other| format!("with \"{}\" over {}", other.manager, other.fields.join(", "))).collect();
    format!("field manager \"{ours}\" conflicts {}", owned.join(" and "))
}

impl ApiError {
    pub(super) fn new(kind: ApiErrorKind) -> Self {
        Self { object: None, kind }
    }

    #[must_use]
    pub(super) fn at(mut self, object: &ObjectRef) -> Self {
        self.object.get_or_insert_with(|| object.clone());
        self
    }

    /// Names the field manager that sent the request.
    #[must_use]
    pub(super) fn by(mut self, manager: &str) -> Self {
        if let ApiErrorKind::Conflict { ours, .. } = &mut self.kind {
            manager.clone_into(ours);
        }
        self
    }

    /// Whether the same request can succeed later without a change by the operator.
    pub fn is_retryable(&self) -> bool {
        let is_webhook =
            matches!(self.kind, ApiErrorKind::WebhookUnreachable { .. } | ApiErrorKind::Unconverted { .. });
        self.is_outage() || is_webhook
    }

    /// Whether the API itself is away for a while, whatever the request (K07).
    pub(super) fn is_outage(&self) -> bool {
        matches!(self.kind, ApiErrorKind::Unreachable(_) | ApiErrorKind::Busy { .. })
    }

    pub(super) fn is_not_found(&self) -> bool {
        matches!(self.kind, ApiErrorKind::Refused { code: 404, .. })
    }

    /// How long the API server asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind {
            ApiErrorKind::Busy { retry_after, .. } => retry_after,
            _ => None,
        }
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::new(classify(&status)),
            kube::Error::SerdeError(error) => Self::new(ApiErrorKind::Malformed(ErrorReport::new(&error).to_string())),
            kube::Error::BuildRequest(error) => {
                Self::new(ApiErrorKind::Malformed(ErrorReport::new(&error).to_string()))
            }
            other => Self::new(ApiErrorKind::Unreachable(ErrorReport::new(&other).to_string())),
        }
    }
}

/// Classifies a status of the API server.
fn classify(status: &Status) -> ApiErrorKind {
    let message = status.message.as_str();
    if let Some((webhook, reason)) = webhook(message, "failed calling webhook \"") {
        return ApiErrorKind::WebhookUnreachable { webhook, reason: innermost(&reason) };
    }
    if let Some((webhook, reason)) = webhook(message, "admission webhook \"") {
        let reason = reason.strip_prefix("denied the request:").unwrap_or(&reason).trim().to_owned();
        return ApiErrorKind::WebhookDenied { webhook, reason };
    }
    if let Some((kind, reason)) = conversion(message) {
        return ApiErrorKind::Unconverted { kind, reason };
    }
    let theirs = ownership(status);
    if !theirs.is_empty() {
        return ApiErrorKind::Conflict { ours: String::new(), theirs };
    }
    if is_busy(status) {
        let seconds = status.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds.into()));
        return ApiErrorKind::Busy { message: message.to_owned(), retry_after };
    }
    ApiErrorKind::Refused { code: status.code, reason: status.reason.clone(), message: message.to_owned() }
}

/// Whether the API server itself is in trouble. A schema error of server-side apply is a 500 too, but permanent.
fn is_busy(status: &Status) -> bool {
    let message = status.message.as_str();
    let schema_errors =
        ["failed to create typed patch object", "field not declared in schema", "failed to create manager"];
    if schema_errors.iter().any(|phrase| message.contains(phrase)) {
        return false;
    }
    let races = ["the object has been modified", "is being terminated", "object is being deleted"];
    match status.code {
        408 | 429 | 500 | 502..=504 => true,
        403 | 409 => races.iter().any(|phrase| message.contains(phrase)),
        _ => message.contains("etcdserver: "),
    }
}

/// The name of the webhook after `opening`, and the text after it.
fn webhook(message: &str, opening: &str) -> Option<(String, String)> {
    let (_, rest) = message.split_once(opening)?;
    let (name, reason) = rest.split_once('"')?;
    Some((name.to_owned(), reason.trim_start_matches(':').trim().to_owned()))
}

/// The kind whose conversion webhook failed, and why (Kubernetes 1.35 `apiextensions-apiserver`).
fn conversion(message: &str) -> Option<(String, String)> {
    let (_, rest) = message.split_once("conversion webhook for ")?;
    let (stored, reason) = rest.split_once(" failed: ")?;
    let kind = stored.split_once(", Kind=").map_or(stored.to_owned(), |(version, kind)| format!("{kind} of {version}"));
    Some((kind, innermost(reason)))
}

/// The last error of a chain of Go errors: the cause.
fn innermost(reason: &str) -> String {
    reason.rsplit_once("\": ").map_or(reason, |(_, cause)| cause).to_owned()
}

/// The owners of the fields in conflict with a server-side apply.
fn ownership(status: &Status) -> Vec<Ownership> {
    let mut theirs: Vec<Ownership> = Vec::new();
    for cause in status.details.iter().flat_map(|details| &details.causes) {
        if cause.reason != "FieldManagerConflict" {
            continue;
        }
        let manager = cause.message.split('"').nth(1).unwrap_or(&cause.message).to_owned();
        match theirs.iter_mut().find(|other| other.manager == manager) {
            Some(other) => other.fields.push(cause.field.clone()),
            None => theirs.push(Ownership { manager, fields: vec![cause.field.clone()] }),
        }
    }
    theirs
}

/// Sends a request, and retries it for a bounded time while the API is away.
pub(super) async fn with_retry<T, F>(mut request: impl FnMut() -> F) -> Result<T, ApiError>
where
    F: Future<Output = kube::Result<T>>,
{
    let attempt = || {
        let request = request();
        async move {
            tokio::time::timeout(REQUEST_TIMEOUT, request).await.map_or_else(
                |_| Err(ApiError::new(ApiErrorKind::Unreachable("request timed out after 1m".to_owned()))),
                |answer| answer.map_err(ApiError::from),
            )
        }
    };
    let verdict = |error: &ApiError| match error.retry_after() {
        _ if !error.is_outage() => Verdict::GiveUp,
        Some(delay) => Verdict::RetryAfter(delay.min(LONGEST_DELAY)),
        None => Verdict::Retry,
    };
    retry(API_OUTAGE, attempt, verdict).await
}

pub(super) fn malformed(reason: impl Display) -> ApiError {
    ApiError::new(ApiErrorKind::Malformed(reason.to_string()))
}

/// The API server does not serve a kind.
pub(super) fn not_served(api_version: &str, kind: &str) -> ApiError {
    ApiError::new(ApiErrorKind::NotServed { api_version: api_version.to_owned(), kind: kind.to_owned() })
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    fn answer(code: u16, message: &str) -> ApiError {
        kube::Error::Api(Status::failure(message, "InternalError").with_code(code).boxed()).into()
    }

    #[test]
    fn an_unreachable_webhook_is_named_with_the_cause_and_retried() {
        let error = answer(
            500,
            "Internal error occurred: failed calling webhook \"webhook.cert-manager.io\": failed to call webhook: Post \"https://cert-manager-webhook.cert-manager.svc:443/validate?timeout=30s\": no endpoints available for service \"cert-manager-webhook\"",
        );
        assert!(error.is_retryable() && !error.is_outage());
        insta::assert_snapshot!(error, @r#"admission webhook webhook.cert-manager.io is unreachable: no endpoints available for service "cert-manager-webhook""#);
    }

    #[test]
    fn a_denial_by_a_webhook_is_not_retried() {
        let error =
            answer(400, "admission webhook \"webhook.cert-manager.io\" denied the request: spec.acme: Required");
        assert!(!error.is_retryable());
        insta::assert_snapshot!(error, @"admission webhook webhook.cert-manager.io denied the request: spec.acme: Required");
    }

    #[test]
    fn a_conflict_names_both_managers_and_the_fields() {
        let cause = |manager: &str, field: &str| StatusCause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with \"{manager}\" using apps/v1"),
            field: field.to_owned(),
        };
        let details = StatusDetails {
            causes: vec![cause("helm", ".spec.replicas"), cause("kubectl", ".data"), cause("helm", ".spec.paused")],
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            retry_after_seconds: 0,
        };
        let status = Status::failure("Apply failed", "Conflict").with_code(409).with_details(details);
        let error = ApiError::from(kube::Error::Api(status.boxed())).by("k8s-bootstrap");
        assert!(!error.is_retryable());
        insta::assert_snapshot!(error, @r#"field manager "k8s-bootstrap" conflicts with "helm" over .spec.replicas, .spec.paused and with "kubectl" over .data"#);
    }

    #[test]
    fn outages_of_the_api_are_temporary_and_mistakes_permanent() {
        for (code, message) in [
            (429, "too many requests"),
            (500, "etcdserver: leader changed"),
            (503, "apiserver not ready"),
            (409, "Operation cannot be fulfilled: the object has been modified"),
            (403, "unable to create new content in namespace x because it is being terminated"),
        ] {
            assert!(answer(code, message).is_outage(), "{message}");
        }
        for (code, message) in [
            (
                500,
                "failed to create typed patch object (a/b; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema",
            ),
            (403, "deployments.apps is forbidden"),
            (422, "spec.replicas: Invalid value"),
            (404, "namespaces \"x\" not found"),
        ] {
            assert!(!answer(code, message).is_retryable(), "{message}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_retried_until_the_api_is_back_but_not_for_ever() {
        let away = || Err::<(), _>(kube::Error::Api(Status::failure("away", "").with_code(503).boxed()));
        let mut sent = 0;
        let outcome = with_retry(|| {
            sent += 1;
            let answer = if sent == 4 { Ok(()) } else { away() };
            async move { answer }
        });
        assert_eq!(outcome.await, Ok(()));
        assert_eq!(sent, 4);
        let mut sent = 0;
        let began = tokio::time::Instant::now();
        let outcome = with_retry(|| {
            sent += 1;
            std::future::ready(away())
        });
        assert!(outcome.await.unwrap_err().is_outage());
        assert!(sent >= 37, "{sent} requests in 75 s: not retried every 2 s at least");
        let ended = began.elapsed();
        assert!((70..=75).contains(&ended.as_secs()), "given up after {ended:?}");
    }
}
