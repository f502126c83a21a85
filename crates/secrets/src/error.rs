//! Why a template could not be filled in.

use std::fmt;
use std::time::Duration;

use net::FetchError;

use super::{Reference, UnresolvedReason};

/// Why a template could not be filled in. No message holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `op` is signed out, or its session expired; the operator can sign in while the run waits.
    #[error("op is not signed in: {0}")]
    NotSignedIn(SignedOut),
    /// A token is rejected; a running process cannot receive another one.
    #[error("{provider} rejected the token: {message}")]
    Token { provider: Provider, message: String },
    /// 1Password throttles; its limits apply to the whole account.
    #[error("the rate limit of 1Password is exhausted: {message}")]
    RateLimited { message: String, retry_after: Option<Duration> },
    #[error("the request to 1Password Connect failed")]
    Fetch(#[source] FetchError),
    /// A status of the Connect server that says nothing about a reference.
    #[error("1Password Connect failed: {message}")]
    Connect { message: String, source: FetchError },
    #[error("1Password Connect did not return valid JSON")]
    NotJson,
    /// A reference has no value.
    #[error("cannot resolve {} (line {}, column {})", .reference.text, .reference.line, .reference.column)]
    Unresolved {
        reference: Reference,
        #[source]
        reason: UnresolvedReason,
    },
    /// A program that resolves references is not installed.
    #[error("`{program}` not found")]
    Missing { program: String, next: String },
    /// The message of `op`, which names no reference.
    #[error("op cannot fill in the template: {0}")]
    Op(String),
    #[error("op cannot fill in the template")]
    Program(#[source] process::Error),
    #[error("op cannot fill in the template: its output is not UTF-8")]
    NotText,
}

/// What a failure means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The operator has to sign in or to renew a token.
    Unauthenticated,
    RateLimited,
    /// The provider does not respond or failed; a retry may succeed.
    Unavailable,
    /// The operator has to correct a reference or its source.
    InvalidReference,
    /// A program or its setup has to be corrected.
    Program,
}

/// What rejected a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Through the program `op`.
    OnePassword,
    Connect,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnePassword => "1Password",
            Self::Connect => "1Password Connect",
        })
    }
}

/// Why `op` has no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedOut {
    /// The message of `op`.
    NoSession(String),
    /// `op` knows no account, or none that matches; its message.
    NoAccount(String),
    /// `op` did not respond within this time.
    Unanswered(Duration),
}

impl fmt::Display for SignedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSession(message) | Self::NoAccount(message) => f.write_str(message),
            Self::Unanswered(duration) => {
                write!(
                    f,
                    "op did not respond within {}s; it may be waiting for 1Password to be unlocked",
                    duration.as_secs()
                )
            }
        }
    }
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotSignedIn(_) | Self::Token { .. } => ErrorKind::Unauthenticated,
            Self::RateLimited { .. } => ErrorKind::RateLimited,
            Self::Fetch(error) if !error.is_retryable() => ErrorKind::Program,
            Self::Fetch(_) | Self::Connect { .. } | Self::NotJson => ErrorKind::Unavailable,
            Self::Unresolved { .. } => ErrorKind::InvalidReference,
            Self::Missing { .. } | Self::Op(_) | Self::Program(_) | Self::NotText => ErrorKind::Program,
        }
    }

    /// Whether a retry may succeed without a change by the operator.
    pub fn is_retryable(&self) -> bool {
        match self.kind() {
            ErrorKind::RateLimited | ErrorKind::Unavailable => true,
            ErrorKind::Unauthenticated | ErrorKind::InvalidReference | ErrorKind::Program => false,
        }
    }

    /// The delay that the provider asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The next command.
    pub fn next(&self) -> String {
        match self {
            Self::NotSignedIn(SignedOut::NoAccount(_)) => {
                "`op account list` shows the accounts that op knows; `op account add` adds one".to_owned()
            }
            Self::NotSignedIn(SignedOut::NoSession(_) | SignedOut::Unanswered(_)) => {
                "eval $(op signin), or set OP_SERVICE_ACCOUNT_TOKEN".to_owned()
            }
            Self::Token { provider: Provider::Connect, .. } => {
                "set OP_CONNECT_TOKEN to a token of this server: `op connect token create`".to_owned()
            }
            Self::Token { provider: Provider::OnePassword, .. } => {
                "sign in again and export the session: eval $(op signin), or set OP_SERVICE_ACCOUNT_TOKEN".to_owned()
            }
            Self::Fetch(_) | Self::Connect { .. } | Self::NotJson => {
                "check OP_CONNECT_HOST: `curl $OP_CONNECT_HOST/health`".to_owned()
            }
            Self::Missing { next, .. } => next.clone(),
            Self::Unresolved { reference, .. } if !reference.is_one_password() => {
                "correct the reference or the command of its scheme in k8s-bootstrap.yaml; run that command by hand to see \
                 its output"
                    .to_owned()
            }
            Self::Unresolved { reference, reason: UnresolvedReason::UnknownVault(_) } => format!(
                "correct the reference, or declare the account of the vault in k8s-bootstrap.yaml: \
                 secrets: {{accounts: {{{}: <account>}}}}",
                reference.vault()
            ),
            Self::Unresolved { .. } | Self::RateLimited { .. } | Self::Op(_) | Self::Program(_) | Self::NotText => {
                "correct the reference, or create the item: `op item list` shows the existing ones".to_owned()
            }
        }
    }
}
