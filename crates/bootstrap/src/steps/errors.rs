//! Errors of the adapters as errors of steps.

use engine::{Code, ErrorClass, StepError};
use helm::{HelmError, HelmErrorKind};
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
        ClientErrorKind::FingerprintMismatch
        | ClientErrorKind::NotFound
        | ClientErrorKind::AlreadyExists
        | ClientErrorKind::Unimplemented => failed.code(client_code(error.kind)),
        ClientErrorKind::OutOfTime => failed.code(Code::O12),
        // What the call was for says more.
        _ => failed,
    }
}

/// The code of a call to a node that failed.
pub(crate) fn client_code(kind: ClientErrorKind) -> Code {
    match kind {
        ClientErrorKind::Unavailable => Code::T11,
        ClientErrorKind::Untrusted => Code::T04,
        ClientErrorKind::FingerprintMismatch => Code::T26,
        ClientErrorKind::OutOfTime => Code::O12,
        ClientErrorKind::NotReady
        | ClientErrorKind::AlreadyExists
        | ClientErrorKind::NotFound
        | ClientErrorKind::Rejected
        | ClientErrorKind::PermissionDenied
        | ClientErrorKind::ResourceExhausted
        | ClientErrorKind::Unimplemented
        | ClientErrorKind::Other => Code::T25,
    }
}

/// The code of a secret that cannot be read.
pub(crate) fn secrets_code(kind: secrets::ErrorKind) -> Code {
    match kind {
        secrets::ErrorKind::Unauthenticated => Code::O01,
        secrets::ErrorKind::RateLimited => Code::O02,
        secrets::ErrorKind::Unavailable | secrets::ErrorKind::Program => Code::O14,
        secrets::ErrorKind::InvalidReference => Code::O15,
    }
}

/// The code of a failure of helm.
pub(crate) fn helm_code(kind: HelmErrorKind) -> Code {
    match kind {
        HelmErrorKind::NotFound | HelmErrorKind::Denied | HelmErrorKind::RateLimited | HelmErrorKind::Unreachable => {
            Code::H10
        }
        HelmErrorKind::Unconverted => Code::H04,
        HelmErrorKind::NotYet => Code::H05,
        HelmErrorKind::Pending => Code::H01,
        HelmErrorKind::Conflict => Code::H06,
        HelmErrorKind::Hook => Code::H12,
        HelmErrorKind::Changed => Code::H11,
        HelmErrorKind::TooOld => Code::P01,
        HelmErrorKind::Chart | HelmErrorKind::Other => Code::H16,
    }
}

/// A node as errors name it.
pub(super) fn place(node: &InventoryNode) -> String {
    format!("node {} ({})", node.hostname, node.address)
}

/// Helm's error as a step's.
pub(super) fn helm_error(error: &HelmError, release: &Release) -> StepError {
    let class = match error.kind {
        _ if error.is_retryable() => ErrorClass::Unavailable,
        HelmErrorKind::NotFound | HelmErrorKind::Chart => ErrorClass::InvalidInput,
        _ => ErrorClass::FailedPrecondition,
    };
    let base =
        StepError::new(class, format!("release {}", release.id)).with_place(release.at.to_string()).caused_by(error);
    let base = match error.hint() {
        Some(hint) => base.next(hint),
        None => base,
    };
    base.code(helm_code(error.kind))
}
