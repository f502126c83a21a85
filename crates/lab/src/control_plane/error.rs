//! Why a control plane could not be started, or an etcd operation failed.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::pki::TlsMaterialError;

/// Why the programs of a control plane could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the {authority} CA in the config of {node} cannot be used")]
    Authority { authority: &'static str, node: String, source: TlsMaterialError },
    #[error(transparent)]
    Certificate(#[from] TlsMaterialError),
    #[error("{program} on {node} cannot be started")]
    Start { program: &'static str, node: String, source: process::Error },
    #[error("cannot forward {from} to the API server")]
    Forward { from: SocketAddr, source: io::Error },
    #[error("the API server's address is invalid")]
    Address(#[from] http::uri::InvalidUri),
    #[error("the request for /readyz is invalid")]
    Request(#[from] http::Error),
    #[error("the Kubernetes CA is not valid PEM")]
    AuthorityPem(#[from] pem::PemError),
    #[error("the lab's Kubernetes client cannot be configured")]
    Client(#[from] kube::Error),
    #[error("the kubeconfig archive cannot be written: {0}")]
    Archive(io::Error),
    #[error(transparent)]
    Etcd(#[from] EtcdError),
}

/// Why an etcd operation failed.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    #[error("etcd is not running on this machine")]
    NotRunning,
    /// The member is not, or no longer, in the cluster. Retrying does not help.
    #[error("{0}")]
    MemberNotFound(String),
    /// Any other error that etcd reports.
    #[error("{0}")]
    Rejected(String),
    #[error(transparent)]
    Etcdctl(process::Error),
    #[error("cannot forfeit leadership, only one member")]
    OnlyMember,
    #[error("failed to recover etcd from snapshot: {0}")]
    Restore(process::Error),
    #[error("cannot access {}", path.display())]
    Data { path: PathBuf, source: io::Error },
}

/// How etcd (`rpctypes`) reports a member that is not in the cluster.
const MEMBER_NOT_FOUND: &str = "member not found";

impl EtcdError {
    /// The errors that etcdctl printed, without its own log lines.
    pub(super) fn from_etcdctl(error: process::Error) -> Self {
        let process::Error::Failed { stderr, .. } = &error else { return Self::Etcdctl(error) };
        let errors: Vec<&str> = stderr.lines().filter_map(|line| line.strip_prefix("Error: ")).collect();
        if errors.is_empty() {
            return Self::Etcdctl(error);
        }
        let message = errors.join("; ");
        if message.contains(MEMBER_NOT_FOUND) { Self::MemberNotFound(message) } else { Self::Rejected(message) }
    }

    pub(super) fn data(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Data { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn failed(stderr: &str) -> EtcdError {
        EtcdError::from_etcdctl(process::Error::Failed {
            program: "etcdctl".to_owned(),
            status: ExitStatus::from_raw(256),
            stderr: stderr.to_owned(),
        })
    }

    #[test]
    fn etcds_own_error_is_extracted_from_the_output_of_etcdctl() {
        let error = failed("{\"level\":\"warn\"}\nError: etcdserver: member not found");
        assert!(matches!(error, EtcdError::MemberNotFound(_)), "{error:?}");
        assert_eq!(error.to_string(), "etcdserver: member not found");
        let error = failed("Error: etcdserver: unhealthy cluster");
        assert!(matches!(error, EtcdError::Rejected(_)), "{error:?}");
        assert!(matches!(failed("panic"), EtcdError::Etcdctl(_)));
    }
}
