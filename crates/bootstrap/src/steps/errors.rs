//! Errors of the adapters as errors of steps.

use engine::{Code, ErrorClass, StepError};
use helm::{HelmError, HelmErrorKind};
use helmfile::Release;
use talos_client::{ClientError, ClientErrorKind};
use talos_config::InventoryNode;

/// What a client's error means for a step. Talos reports many passing states without a specific code, so an error without
/// one is retried like a node that does not respond.
pub(super) fn error_class(kind: ClientErrorKind) -> ErrorClass {
    match kind {
        ClientErrorKind::Unavailable | ClientErrorKind::Other => ErrorClass::Unavailable,
        ClientErrorKind::NotReady => ErrorClass::NotReady,
        ClientErrorKind::Rejected | ClientErrorKind::Unimplemented => ErrorClass::InvalidInput,
        ClientErrorKind::Untrusted
        | ClientErrorKind::OutOfTime
        | ClientErrorKind::FingerprintMismatch
        | ClientErrorKind::AlreadyExists
        | ClientErrorKind::NotFound
        | ClientErrorKind::PermissionDenied
        | ClientErrorKind::ResourceExhausted
        | ClientErrorKind::Unsupported => ErrorClass::FailedPrecondition,
    }
}

/// A client's error as a step's.
pub(super) fn step_error(error: &ClientError, node: &InventoryNode) -> StepError {
    let class = error_class(error.kind);
    let failed = StepError::new(class, format!("{} failed", error.call)).with_place(place(node)).because(&error.reason);
    match error.kind {
        ClientErrorKind::FingerprintMismatch
        | ClientErrorKind::NotFound
        | ClientErrorKind::AlreadyExists
        | ClientErrorKind::Unsupported
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
        | ClientErrorKind::Unsupported
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
        HelmErrorKind::ApiUnavailable => Code::K07,
        HelmErrorKind::KindNotServed => Code::H03,
        HelmErrorKind::WebhookUnreachable => Code::H05,
        HelmErrorKind::Terminating => Code::K12,
        HelmErrorKind::Pending => Code::H01,
        HelmErrorKind::Conflict => Code::H06,
        HelmErrorKind::Hook => Code::H12,
        HelmErrorKind::Changed => Code::H11,
        HelmErrorKind::TooOld => Code::P01,
        HelmErrorKind::Chart | HelmErrorKind::Other => Code::H16,
    }
}

/// A release as errors name it.
pub(super) fn release_place(release: &Release) -> String {
    format!("release {} ({})", release.id, release.at)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_class() {
        use ClientErrorKind as Kind;
        let classes = [
            (Kind::Unavailable, ErrorClass::Unavailable),
            (Kind::Other, ErrorClass::Unavailable),
            (Kind::NotReady, ErrorClass::NotReady),
            (Kind::Rejected, ErrorClass::InvalidInput),
            (Kind::Unimplemented, ErrorClass::InvalidInput),
            (Kind::Untrusted, ErrorClass::FailedPrecondition),
            (Kind::FingerprintMismatch, ErrorClass::FailedPrecondition),
            (Kind::AlreadyExists, ErrorClass::FailedPrecondition),
            (Kind::NotFound, ErrorClass::FailedPrecondition),
            (Kind::PermissionDenied, ErrorClass::FailedPrecondition),
            (Kind::ResourceExhausted, ErrorClass::FailedPrecondition),
            // Not retried, unlike what is not ready yet.
            (Kind::Unsupported, ErrorClass::FailedPrecondition),
        ];
        for (kind, expected) in classes {
            assert_eq!(error_class(kind), expected, "{kind:?}");
        }
    }
}
