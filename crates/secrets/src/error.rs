//! Why a template could not be filled in.

use std::time::Duration;

use super::Reference;

/// Why a template could not be filled in. No message holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is signed in, or no longer (O01); a person can change that while the run waits.
    #[error("op is not signed in: {0}")]
    NotSignedIn(String),
    /// A token is not accepted (O01), and a process cannot be given another one.
    #[error("{who} does not accept its token: {words}")]
    Token { who: &'static str, words: String },
    /// 1Password asks for a pause; its limits count for the whole account (O02).
    #[error("1Password's rate limit is used up: {words}")]
    RateLimited { words: String, after: Option<Duration> },
    #[error("{0}")]
    Unreachable(String),
    /// A reference leads to nothing.
    #[error("{} (line {}, column {}) leads to nothing: {reason}", .reference.text, .reference.line, .reference.column)]
    Unresolved { reference: Reference, reason: String },
    /// A program that resolves references is not on this machine.
    #[error("`{program}` is needed and nowhere to be found")]
    Missing { program: String, next: String },
    #[error("op could not fill in the template: {0}")]
    Failed(String),
}

impl Error {
    /// Whether it may well work later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unreachable(_))
    }

    /// What to type next.
    pub fn next(&self) -> String {
        match self {
            Self::NotSignedIn(words) if words.contains("found no accounts") => {
                "`op account list` shows the accounts that op knows; `op account add` adds one".to_owned()
            }
            Self::NotSignedIn(_) => "eval $(op signin), or set OP_SERVICE_ACCOUNT_TOKEN".to_owned(),
            Self::Token { who: "1Password Connect", .. } => {
                "set OP_CONNECT_TOKEN to a token of this server: `op connect token create`".to_owned()
            }
            Self::Token { .. } => {
                "sign in anew and set its variable: eval $(op signin), or OP_SERVICE_ACCOUNT_TOKEN".to_owned()
            }
            Self::Unreachable(_) => "look at OP_CONNECT_HOST: `curl $OP_CONNECT_HOST/health`".to_owned(),
            Self::Missing { next, .. } => next.clone(),
            Self::Unresolved { reference, .. } if !super::op::is_one(reference) => {
                "correct the reference, or the source's command in k8s-bootstrap.yaml, and run that by hand".to_owned()
            }
            Self::Unresolved { reference, reason } if reason.contains("isn't a vault in this account") => format!(
                "correct the reference; a vault of another account is declared in k8s-bootstrap.yaml: \
                 secrets: {{accounts: {{{}: <account>}}}}",
                super::op::vault(reference)
            ),
            _ => "correct the reference, or create the item: `op item list` shows what there is".to_owned(),
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
