//! What can go wrong between us and the Kubernetes API, sorted by what follows from it.

/// What follows from a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The API server, or a webhook behind it, may well take it the next time.
    Transient,
    /// Another manager owns a field (H06).
    Conflict,
    /// A webhook that must be asked does not answer (H05).
    Webhook,
    /// Nothing serves this kind (H03).
    Unserved,
    Refused,
}

/// A failed request: which object, and why in the API server's words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{object}: {reason}")]
pub struct ApiError {
    object: String,
    reason: String,
    kind: Kind,
}

impl ApiError {
    pub(super) fn refused(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { object: object.into(), reason: reason.into(), kind: Kind::Refused }
    }

    pub(super) fn missing_kind(object: impl Into<String>, api_version: &str, kind: &str) -> Self {
        let reason = format!("the API serves no {kind} of {api_version}; its CRD is not installed");
        Self { object: object.into(), reason, kind: Kind::Unserved }
    }

    pub(super) fn from_kube(object: impl Into<String>, error: &kube::Error) -> Self {
        let (kind, reason) = match error {
            kube::Error::Api(status) => (classify(status.code, &status.message), status.message.clone()),
            kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => (Kind::Refused, chain(error)),
            _ => (Kind::Transient, chain(error)),
        };
        Self { object: object.into(), reason, kind }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::Transient | Kind::Webhook | Kind::Unserved)
    }

    /// Whether it is worth repeating at once, before anybody is told.
    pub(super) fn is_transient(&self) -> bool {
        self.kind == Kind::Transient
    }

    /// The entry of the failure catalogue.
    pub fn code(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Transient => Some("K07"),
            Kind::Conflict => Some("H06"),
            Kind::Webhook => Some("H05"),
            Kind::Unserved => Some("H03"),
            Kind::Refused => None,
        }
    }
}

/// Kubernetes 1.35: a webhook that cannot be reached is an internal error whose message names it.
fn classify(code: u16, message: &str) -> Kind {
    if message.contains("failed calling webhook") || message.contains("conversion webhook") {
        return Kind::Webhook;
    }
    match code {
        409 if message.contains("conflict with") || message.contains("conflicts with") => Kind::Conflict,
        409 | 429 | 500 | 502..=504 => Kind::Transient,
        // Authorizers and namespaces are filled in after the server says that it is ready.
        403 if message.contains("not yet ready") => Kind::Transient,
        _ => Kind::Refused,
    }
}

/// The messages of an error and of everything behind it.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        texts.push(cause.to_string());
        source = cause.source();
    }
    texts.dedup();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_by_itself_is_told_from_what_will_not() {
        assert_eq!(classify(500, "failed calling webhook \"webhook.cert-manager.io\": no endpoints"), Kind::Webhook);
        assert_eq!(classify(409, "Apply failed with 1 conflict: conflict with \"helm\": .spec"), Kind::Conflict);
        assert_eq!(classify(503, "etcdserver: leader changed"), Kind::Transient);
        assert_eq!(classify(422, "Deployment.apps \"x\" is invalid"), Kind::Refused);
    }
}
