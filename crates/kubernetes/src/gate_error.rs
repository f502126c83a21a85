//! Why a gate did not open.

use super::{ApiError, ObjectRef, WaitReason};

/// Why a gate failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The object's controller gave up; a longer wait changes nothing.
    #[error("{object} {reason}")]
    Failed { object: ObjectRef, reason: WaitReason },
}

impl GateError {
    /// Whether the same wait can succeed later without a change by the operator.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Api(error) if error.is_retryable())
    }
}
