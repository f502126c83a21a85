//! Errors of API calls, classified by what the caller can do about them.

use std::net::IpAddr;

use error_report::ErrorReport;
use tonic::{Code, Status};

/// Why a call failed, from its gRPC code and the state of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientErrorKind {
    /// The node does not respond; it may be rebooting.
    Unavailable,
    /// The node rejected the client certificate, or its own certificate was rejected: it may belong to another cluster.
    Untrusted,
    /// A certificate is not valid at this time, by the clock of the node or of this machine.
    OutOfTime,
    /// The node presented a certificate that does not match its pinned fingerprint.
    FingerprintMismatch,
    /// The node is not ready for this call yet.
    NotReady,
    /// The requested action was already carried out.
    AlreadyExists,
    /// The requested object does not exist on the node.
    NotFound,
    /// The node rejected the request as invalid.
    Rejected,
    /// The certificate or the node's mode does not permit the call.
    PermissionDenied,
    /// A limit of the node is reached, such as its disk space.
    ResourceExhausted,
    /// The node has this call and never carries it out as it is: in a container, on a worker, without an installed system.
    Unsupported,
    /// The node does not implement this call in its current state or version.
    Unimplemented,
    /// Anything else.
    Other,
}

/// A failed call to a node.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call} on node {node} failed: {reason}")]
pub struct ClientError {
    pub node: IpAddr,
    pub call: &'static str,
    pub kind: ClientErrorKind,
    pub reason: String,
}

impl ClientError {
    pub(super) fn new(node: IpAddr, call: &'static str, kind: ClientErrorKind, reason: impl Into<String>) -> Self {
        Self { node, call, kind, reason: reason.into() }
    }

    pub(super) fn from_status(node: IpAddr, call: &'static str, status: &Status) -> Self {
        let reason = match status.code() {
            Code::Unavailable | Code::Unknown if status.message().is_empty() => ErrorReport::new(status).to_string(),
            _ => format!("{} ({:?})", status.message(), status.code()),
        };
        Self::new(node, call, kind(status), reason)
    }
}

/// Messages with FailedPrecondition that no wait changes, each with where Talos returns it. Every other one is about
/// something that passes: the container runtime, the clock, another call that is in progress, a reboot.
const PERMANENT: [&str; 5] = [
    // 1.11 and 1.12, `v1alpha1_server.go`, `Bootstrap`; later versions return Unimplemented.
    "bootstrap can only be performed on a control plane node",
    // `Rollback`, 1.11 to 1.14, `v1alpha1_server.go`: in a container, or not installed.
    "system disk not found",
    // `Upgrade`, 1.11 and 1.12 in `maintenance/server.go`, 1.13 and 1.14 in `v1alpha1_server.go`.
    "Talos is not installed",
    // `LifecycleService/Upgrade`, 1.13 and 1.14, `lifecycle/lifecycle.go`.
    "machine is not installed",
    // `Kubeconfig`, 1.14, `v1alpha1_server.go`: the config has no CA of the API server.
    "k8s API server CA config is not set",
];

/// Whether the mode of the platform rules the call out: `method is not supported in container mode` (`checkSupported` in
/// `v1alpha1_server.go`, 1.11 to 1.14; seen for Reboot on 1.12.4), `upgrade is not supported in container mode`
/// (`lifecycle/lifecycle.go`, 1.13 and 1.14).
fn is_unsupported_by_mode(message: &str) -> bool {
    message.contains(" is not supported in ") && message.ends_with(" mode")
}

/// Whether a message with FailedPrecondition stays true however long the caller waits.
fn is_permanent(message: &str) -> bool {
    is_unsupported_by_mode(message) || PERMANENT.iter().any(|permanent| message.starts_with(permanent))
}

/// Talos 1.14 returns this with code Unknown although the call succeeds later (`services/etcd.go`).
const LATER: &str = "bootstrap is not allowed during unattended install";

fn kind(status: &Status) -> ClientErrorKind {
    // Only transport errors can be about certificates; the message of a node may mention certificates, too.
    let text = ErrorReport::new(status).to_string();
    if std::error::Error::source(status).is_some()
        && let Some(kind) = trust_failure(&text)
    {
        return kind;
    }
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => ClientErrorKind::Unavailable,
        Code::FailedPrecondition if is_permanent(status.message()) => ClientErrorKind::Unsupported,
        Code::FailedPrecondition => ClientErrorKind::NotReady,
        Code::AlreadyExists => ClientErrorKind::AlreadyExists,
        Code::NotFound => ClientErrorKind::NotFound,
        Code::InvalidArgument | Code::OutOfRange => ClientErrorKind::Rejected,
        Code::PermissionDenied => ClientErrorKind::PermissionDenied,
        Code::ResourceExhausted => ClientErrorKind::ResourceExhausted,
        Code::Unimplemented => ClientErrorKind::Unimplemented,
        Code::Unknown if status.message().starts_with(LATER) => ClientErrorKind::NotReady,
        Code::Unknown if text.contains("transport error") || text.contains("h2 protocol error") => {
            ClientErrorKind::Unavailable
        }
        _ => ClientErrorKind::Other,
    }
}

/// What a failed handshake reports about the identity of a peer, if it is about that.
pub(super) fn trust_failure(text: &str) -> Option<ClientErrorKind> {
    let contains = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // rustls 0.23 about a certificate; the alert of a node, which Go and rustls send for either end of the period.
    if contains(&["certificate expired", "certificate not valid yet", "CertificateExpired"]) {
        return Some(ClientErrorKind::OutOfTime);
    }
    contains(&["certificate", "Certificate", "UnknownCA", "UnknownIssuer", "alert"])
        .then_some(ClientErrorKind::Untrusted)
}
