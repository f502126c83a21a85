//! Why a template could not be filled in.

use std::time::Duration;

use super::Reference;

/// Why a template could not be filled in. No message holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `op` is signed out, or its session expired (O01); the operator can sign in while the run waits.
    #[error("op is not signed in: {0}")]
    NotSignedIn(String),
    /// A token is rejected (O01); a running process cannot receive another one.
    #[error("{provider} rejected the token: {message}")]
    Token { provider: &'static str, message: String },
    /// 1Password throttles; its limits apply to the whole account (O02).
    #[error("the rate limit of 1Password is exhausted: {message}")]
    RateLimited { message: String, after: Option<Duration> },
    #[error("{0}")]
    Unreachable(String),
    /// A reference has no value.
    #[error("cannot resolve {} (line {}, column {}): {reason}", .reference.text, .reference.line, .reference.column)]
    Unresolved { reference: Reference, reason: String },
    /// A program that resolves references is not installed.
    #[error("`{program}` not found")]
    Missing { program: String, next: String },
    #[error("op cannot fill in the template: {0}")]
    Failed(String),
}

impl Error {
    /// Whether a retry may succeed without a change by the operator.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unreachable(_))
    }

    /// The next command.
    pub fn next(&self) -> String {
        match self {
            Self::NotSignedIn(words) if words.contains("found no accounts") => {
                "`op account list` shows the accounts that op knows; `op account add` adds one".to_owned()
            }
            Self::NotSignedIn(_) => "eval $(op signin), or set OP_SERVICE_ACCOUNT_TOKEN".to_owned(),
            Self::Token { provider: "1Password Connect", .. } => {
                "set OP_CONNECT_TOKEN to a token of this server: `op connect token create`".to_owned()
            }
            Self::Token { .. } => {
                "sign in again and export the session: eval $(op signin), or set OP_SERVICE_ACCOUNT_TOKEN".to_owned()
            }
            Self::Unreachable(_) => "check OP_CONNECT_HOST: `curl $OP_CONNECT_HOST/health`".to_owned(),
            Self::Missing { next, .. } => next.clone(),
            Self::Unresolved { reference, .. } if !super::op::is_one(reference) => {
                "correct the reference or the command of its scheme in k8s-bootstrap.yaml; run that command by hand to see its output".to_owned()
            }
            Self::Unresolved { reference, reason } if reason.contains("isn't a vault in this account") => format!(
                "correct the reference, or declare the account of the vault in k8s-bootstrap.yaml: \
                 secrets: {{accounts: {{{}: <account>}}}}",
                super::op::vault(reference)
            ),
            _ => "correct the reference, or create the item: `op item list` shows the existing ones".to_owned(),
        }
    }

    /// The entry of the failure catalogue.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::NotSignedIn(_) | Self::Token { .. } => Some("O01"),
            Self::RateLimited { .. } => Some("O02"),
            _ => None,
        }
    }
}
