//! Errors of the adapters as errors of steps.

use engine::{Code, ErrorClass, StepError};
use helm::HelmError;
use helmfile::Release;
use talos_client::{ClientError, ClientErrorKind};
use talos_config::InventoryNode;

/// A client's error as a step's.
pub(super) fn step_error(error: &ClientError, node: &InventoryNode) -> StepError {
    let class = match error.kind {
        ClientErrorKind::Unavailable | ClientErrorKind::NotReady | ClientErrorKind::Other => ErrorClass::Unavailable,
        ClientErrorKind::Rejected | ClientErrorKind::Unimplemented => ErrorClass::InvalidInput,
        ClientErrorKind::Untrusted
        | ClientErrorKind::OutOfTime
        | ClientErrorKind::FingerprintMismatch
        | ClientErrorKind::AlreadyExists
        | ClientErrorKind::NotFound
        | ClientErrorKind::PermissionDenied
        | ClientErrorKind::ResourceExhausted => ErrorClass::FailedPrecondition,
    };
    let failed = StepError::new(class, format!("{} failed", error.call)).with_place(place(node)).because(&error.reason);
    match error.kind {
        ClientErrorKind::FingerprintMismatch => failed
            .next("compare with the fingerprint on the machine's console; a machine creates a new key at each boot"),
        ClientErrorKind::OutOfTime => failed.code(Code::O12),
        _ => failed,
    }
}

/// The code of a secret that cannot be read.
pub(crate) fn secrets_code(kind: secrets::ErrorKind) -> Option<Code> {
    match kind {
        secrets::ErrorKind::Unauthenticated => Some(Code::O01),
        secrets::ErrorKind::RateLimited => Some(Code::O02),
        secrets::ErrorKind::Unavailable | secrets::ErrorKind::InvalidReference | secrets::ErrorKind::Program => None,
    }
}

/// A node as errors name it.
pub(super) fn place(node: &InventoryNode) -> String {
    format!("node {} ({})", node.hostname, node.address)
}

/// Helm's error as a step's.
pub(super) fn helm_error(error: &HelmError, release: &Release) -> StepError {
    use helm::HelmErrorKind as Helm;
    let class = match error.kind {
        _ if error.is_retryable() => ErrorClass::Unavailable,
        Helm::NotFound | Helm::Chart => ErrorClass::InvalidInput,
        _ => ErrorClass::FailedPrecondition,
    };
    let code = match error.kind {
        Helm::NotFound | Helm::Denied | Helm::RateLimited | Helm::Unreachable => Some(Code::H10),
        Helm::Unconverted => Some(Code::H04),
        Helm::NotYet => Some(Code::H05),
        Helm::Pending => Some(Code::H01),
        Helm::Conflict => Some(Code::H06),
        Helm::Hook => Some(Code::H12),
        Helm::Changed => Some(Code::H11),
        Helm::TooOld | Helm::Chart | Helm::Other => None,
    };
    let base =
        StepError::new(class, format!("release {}", release.id)).with_place(release.at.to_string()).caused_by(error);
    let base = match error.hint() {
        Some(hint) => base.next(hint),
        None => base,
    };
    match code {
        Some(code) => base.code(code),
        None => base,
    }
}
