//! Why a request to the API failed, and who has to act on it.

use std::fmt::Display;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use kube::core::Status;

use super::ObjectRef;

/// A healthy API server answers a request within 60 s; a connection that was cut never does.
const ANSWER: Duration = Duration::from_mins(1);
/// Static pods that are started anew refuse connections for 30 to 60 s.
const PATIENCE: Duration = Duration::from_secs(75);

/// A request that failed, and the object that it was for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{kind}", .object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default())]
pub struct ApiError {
    pub object: Option<ObjectRef>,
    pub kind: ApiErrorKind,
}

/// What a request failed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiErrorKind {
    /// No answer: refused, cut, or too slow.
    #[error("the Kubernetes API does not answer: {0}")]
    Unreachable(String),
    /// The API server, or etcd behind it, is not able to answer now.
    #[error("the Kubernetes API cannot answer now: {message}")]
    Busy { message: String, retry_after: Option<Duration> },
    /// A webhook that must be asked could not be (H05).
    #[error("the webhook {webhook} cannot be asked: {reason}")]
    WebhookUnreachable { webhook: String, reason: String },
    /// A webhook was asked and said no.
    #[error("the webhook {webhook} refuses it: {reason}")]
    WebhookDenied { webhook: String, reason: String },
    /// Objects of a kind cannot be had in another version than the stored one, since a webhook converts them (H04).
    #[error("objects of {kind} cannot be converted between versions: {reason}")]
    Unconverted { kind: String, reason: String },
    /// Another field manager owns fields that we want to set (H06).
    #[error("{}", conflict(.ours, .theirs))]
    Conflict { ours: String, theirs: Vec<Ownership> },
    /// No API server serves such a kind (H03, H07).
    #[error(
        "the API server serves no {kind} of {api_version}; its CustomResourceDefinition is either in no release before this one, or registered by an operator that has not run yet"
    )]
    NotServed { api_version: String, kind: String },
    /// What was to be sent is no Kubernetes object.
    #[error("this is no Kubernetes object: {0}")]
    Malformed(String),
    /// Every other answer.
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
        theirs.iter().map(|other| format!("{} of \"{}\"", other.fields.join(", "), other.manager)).collect();
    format!("the field manager \"{ours}\" must not change {}", owned.join(" and "))
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

    /// Says as which field manager the request was sent.
    #[must_use]
    pub(super) fn by(mut self, manager: &str) -> Self {
        if let ApiErrorKind::Conflict { ours, .. } = &mut self.kind {
            manager.clone_into(ours);
        }
        self
    }

    /// Whether the same request may well be accepted later without anybody changing it.
    pub fn is_retryable(&self) -> bool {
        let of_webhook =
            matches!(self.kind, ApiErrorKind::WebhookUnreachable { .. } | ApiErrorKind::Unconverted { .. });
        self.is_flap() || of_webhook
    }

    /// Whether the API itself is away for a while, whatever the request (K07).
    pub(super) fn is_flap(&self) -> bool {
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
            kube::Error::SerdeError(error) => Self::new(ApiErrorKind::Malformed(error.to_string())),
            kube::Error::BuildRequest(error) => Self::new(ApiErrorKind::Malformed(error.to_string())),
            other => Self::new(ApiErrorKind::Unreachable(chain(&other))),
        }
    }
}

/// An error with all its causes, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Sorts an answer of the API server.
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

/// The API server's own troubles. A schema error of server-side apply is also a 500, but stays what it is.
fn is_busy(status: &Status) -> bool {
    let message = status.message.as_str();
    let of_schema = ["failed to create typed patch object", "field not declared in schema", "failed to create manager"];
    if of_schema.iter().any(|words| message.contains(words)) {
        return false;
    }
    let races = ["the object has been modified", "is being terminated", "object is being deleted"];
    match status.code {
        408 | 429 | 500 | 502..=504 => true,
        403 | 409 => races.iter().any(|words| message.contains(words)),
        _ => message.contains("etcdserver: "),
    }
}

/// The name of the webhook that `opening` announces, and what follows it.
fn webhook(message: &str, opening: &str) -> Option<(String, String)> {
    let (_, rest) = message.split_once(opening)?;
    let (name, reason) = rest.split_once('"')?;
    Some((name.to_owned(), reason.trim_start_matches(':').trim().to_owned()))
}

/// The kind that a conversion webhook failed for, and why (Kubernetes 1.35 `apiextensions-apiserver`).
fn conversion(message: &str) -> Option<(String, String)> {
    let (_, rest) = message.split_once("conversion webhook for ")?;
    let (stored, reason) = rest.split_once(" failed: ")?;
    let kind = stored.split_once(", Kind=").map_or(stored.to_owned(), |(version, kind)| format!("{kind} of {version}"));
    Some((kind, innermost(reason)))
}

/// The end of a chain of Go errors, which is where the cause stands.
fn innermost(reason: &str) -> String {
    reason.rsplit_once("\": ").map_or(reason, |(_, cause)| cause).to_owned()
}

/// Who owns which of the fields that a server-side apply wanted to set.
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

/// Sends a request, and again while the API is away, for a bounded time.
pub(super) async fn patiently<T, F>(request: impl FnMut() -> F) -> Result<T, ApiError>
where
    F: Future<Output = kube::Result<T>>,
{
    within(PATIENCE, request).await
}

async fn within<T, F>(patience: Duration, mut request: impl FnMut() -> F) -> Result<T, ApiError>
where
    F: Future<Output = kube::Result<T>>,
{
    let attempt = || {
        let request = request();
        async move {
            match tokio::time::timeout(ANSWER, request).await {
                Ok(answer) => answer.map_err(ApiError::from),
                Err(_) => Err(ApiError::new(ApiErrorKind::Unreachable(format!("no answer within {ANSWER:?}")))),
            }
        }
    };
    attempt
        .retry(backoff().with_total_delay(Some(patience)).without_max_times())
        .when(ApiError::is_flap)
        .adjust(|error, delay| delay.map(|delay| error.retry_after().unwrap_or(delay).min(Duration::from_secs(10))))
        .await
}

/// How fast anything is tried again: quickly at first, then every second or so.
pub(super) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
}

pub(super) fn malformed(reason: impl Display) -> ApiError {
    ApiError::new(ApiErrorKind::Malformed(reason.to_string()))
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    fn answer(code: u16, message: &str) -> ApiError {
        kube::Error::Api(Status::failure(message, "InternalError").with_code(code).boxed()).into()
    }

    #[test]
    fn a_webhook_that_cannot_be_asked_is_named_with_the_cause_and_may_be_asked_again() {
        let error = answer(
            500,
            "Internal error occurred: failed calling webhook \"webhook.cert-manager.io\": failed to call webhook: Post \"https://cert-manager-webhook.cert-manager.svc:443/validate?timeout=30s\": no endpoints available for service \"cert-manager-webhook\"",
        );
        assert!(error.is_retryable() && !error.is_flap());
        insta::assert_snapshot!(error, @r#"the webhook webhook.cert-manager.io cannot be asked: no endpoints available for service "cert-manager-webhook""#);
    }

    #[test]
    fn a_webhook_that_says_no_is_not_asked_again() {
        let error =
            answer(400, "admission webhook \"webhook.cert-manager.io\" denied the request: spec.acme: Required");
        assert!(!error.is_retryable());
        insta::assert_snapshot!(error, @"the webhook webhook.cert-manager.io refuses it: spec.acme: Required");
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
        insta::assert_snapshot!(error, @r#"the field manager "k8s-bootstrap" must not change .spec.replicas, .spec.paused of "helm" and .data of "kubectl""#);
    }

    #[test]
    fn flaps_of_the_api_pass_and_mistakes_stay() {
        for (code, message) in [
            (429, "too many requests"),
            (500, "etcdserver: leader changed"),
            (503, "apiserver not ready"),
            (409, "Operation cannot be fulfilled: the object has been modified"),
            (403, "unable to create new content in namespace x because it is being terminated"),
        ] {
            assert!(answer(code, message).is_flap(), "{message}");
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

    #[tokio::test]
    async fn a_request_is_sent_until_the_api_is_back_but_not_for_ever() {
        let away = || Err::<(), _>(kube::Error::Api(Status::failure("away", "").with_code(503).boxed()));
        let mut sent = 0;
        let outcome = patiently(|| {
            sent += 1;
            let answer = if sent == 4 { Ok(()) } else { away() };
            async move { answer }
        });
        assert_eq!(outcome.await, Ok(()));
        assert_eq!(sent, 4);
        let mut sent = 0;
        let outcome = within(Duration::from_millis(250), || {
            sent += 1;
            std::future::ready(away())
        });
        assert!(outcome.await.unwrap_err().is_flap());
        assert!(sent >= 2, "it was not tried again");
    }
}
