//! Why a wait is not over yet, as a type: nothing has to be read out of a message.

use super::error::{ApiError, ApiErrorKind};

/// Where gates report what they wait for.
pub type Progress<'p> = dyn Fn(&WaitReason) + Send + Sync + 'p;

/// Why a wait is not over yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitReason {
    /// One line for the operator.
    pub text: String,
    pub cause: WaitCause,
}

/// What a wait is held up by, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitCause {
    /// Objects are not ready yet, for no known special reason.
    NotReady,
    /// A pod cannot run: its container exits or is rejected, or no node suits it.
    PodFailing,
    /// A node cannot pull an image (H13).
    ImagePull(UnpulledImage),
    /// No node can run a pod (K05).
    Unschedulable,
    /// Pod Security rejects a pod (K09).
    PodSecurity,
    /// The API itself is away (K07).
    ApiUnavailable,
    /// An admission webhook is unreachable (H05).
    AdmissionWebhook,
    /// A conversion webhook does not convert (H04).
    ConversionWebhook,
    /// A kind is not served: its definition is missing or not established (H03).
    KindNotServed,
}

/// An image that a node cannot pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpulledImage {
    pub image: String,
    pub node: Option<String>,
}

impl WaitReason {
    pub fn new(text: impl Into<String>, cause: WaitCause) -> Self {
        Self { text: text.into(), cause }
    }
}

impl std::fmt::Display for WaitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for WaitReason {
    fn from(text: String) -> Self {
        Self::new(text, WaitCause::NotReady)
    }
}

impl From<&ApiError> for WaitReason {
    fn from(error: &ApiError) -> Self {
        let cause = match error.kind {
            ApiErrorKind::Unreachable(_) | ApiErrorKind::Busy { .. } => WaitCause::ApiUnavailable,
            ApiErrorKind::WebhookUnreachable { .. } => WaitCause::AdmissionWebhook,
            ApiErrorKind::Unconverted { .. } => WaitCause::ConversionWebhook,
            ApiErrorKind::NotServed { .. } => WaitCause::KindNotServed,
            ApiErrorKind::WebhookDenied { .. }
            | ApiErrorKind::Conflict { .. }
            | ApiErrorKind::Malformed(_)
            | ApiErrorKind::Refused { .. } => WaitCause::NotReady,
        };
        Self::new(error.to_string(), cause)
    }
}
