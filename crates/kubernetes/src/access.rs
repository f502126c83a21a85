//! Connections to API servers, whose dialled address is separate from their identity.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{FuturesUnordered, StreamExt};
use secrecy::{ExposeSecret, SecretString};

use error_report::{ErrorReport, HumanDuration};
use net::Dialer;

/// An API server that is ready answers `/readyz` in far less; one that hangs must not hide the others.
const READY_TIMEOUT: Duration = Duration::from_secs(3);

/// The credentials of a cluster and the addresses of its API servers.
#[derive(Debug, Clone)]
pub struct Access {
    /// The control planes' declared addresses, which work before anything serves the cluster's endpoint.
    pub servers: Vec<SocketAddr>,
    /// The name in the server's certificate: the cluster's endpoint, whatever address is dialled.
    pub tls_server_name: String,
    pub ca_pem: String,
    pub certificate_pem: String,
    pub key_pem: SecretString,
}

/// Why the Kubernetes API cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    #[error("the CA certificate of the Kubernetes API is invalid: {0}")]
    Authority(pem::PemError),
    #[error("invalid Kubernetes credentials: {0}")]
    Credentials(Box<kube::Error>),
    #[error("invalid API server address: {0}")]
    Address(http::uri::InvalidUri),
    #[error("cannot read the kubeconfig: {0}")]
    Kubeconfig(Box<kube::config::KubeconfigError>),
    #[error("cannot dial {server}: {error}")]
    Dial { server: SocketAddr, error: std::io::Error },
    #[error("no API server of the cluster is ready; {server}: {reason}")]
    Unready { server: SocketAddr, reason: ReadyzError },
    #[error("the cluster has no control plane")]
    NoControlPlane,
}

impl AccessError {
    /// Whether the same call can succeed later without a change by the operator.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Dial { .. } | Self::Unready { .. } | Self::NoControlPlane)
    }
}

/// Why an API server is not ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadyzError {
    #[error("not ready: {}", .0.join(", "))]
    FailingChecks(Vec<String>),
    #[error("{0}")]
    Rejected(String),
    #[error("no response within {}", HumanDuration(READY_TIMEOUT))]
    NoResponse,
    #[error("{}", ErrorReport::new(.0))]
    Unreachable(Box<kube::Error>),
}

/// A client of a control plane whose API server is ready: all are asked at once, and the first to answer is used.
///
/// # Errors
///
/// Invalid credentials; the last server's reason when none is ready within 3 seconds.
pub async fn connect(access: &Access, dialer: &Dialer) -> Result<kube::Client, AccessError> {
    ready(access, dialer).await.map(|(client, _)| client)
}

/// A client by a kubeconfig file, such as the one that a run writes.
///
/// # Errors
///
/// An unreadable or invalid file.
pub async fn from_kubeconfig(path: &Path) -> Result<kube::Client, AccessError> {
    let invalid = |error| AccessError::Kubeconfig(Box::new(error));
    let kubeconfig = kube::config::Kubeconfig::read_from(path).map_err(invalid)?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(invalid)?;
    kube::Client::try_from(config).map_err(|error| AccessError::Credentials(Box::new(error)))
}

/// The dialled address of a control plane whose API server is ready, for other programs.
///
/// # Errors
///
/// As [`connect`].
pub async fn ready_server(access: &Access, dialer: &Dialer) -> Result<SocketAddr, AccessError> {
    let (_, server) = ready(access, dialer).await?;
    dialer.target(server).map_err(|error| AccessError::Dial { server, error })
}

async fn ready(access: &Access, dialer: &Dialer) -> Result<(kube::Client, SocketAddr), AccessError> {
    let mut clients = Vec::new();
    for server in &access.servers {
        clients.push((client(access, dialer, *server)?, *server));
    }
    let mut asked: FuturesUnordered<_> = clients
        .into_iter()
        .enumerate()
        .map(|(index, (client, server))| async move {
            let answer = tokio::time::timeout(READY_TIMEOUT, readyz(&client)).await;
            match answer.unwrap_or(Err(ReadyzError::NoResponse)) {
                Ok(()) => Ok((client, server)),
                Err(reason) => Err((index, AccessError::Unready { server, reason })),
            }
        })
        .collect();
    let mut last = None;
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(ready) => return Ok(ready),
            Err((index, _)) if last.as_ref().is_some_and(|(known, _)| *known > index) => {}
            Err(failed) => last = Some(failed),
        }
    }
    Err(last.map_or(AccessError::NoControlPlane, |(_, error)| error))
}

fn client(access: &Access, dialer: &Dialer, server: SocketAddr) -> Result<kube::Client, AccessError> {
    let target = dialer.target(server).map_err(|error| AccessError::Dial { server, error })?;
    let uri = format!("https://{target}").parse().map_err(AccessError::Address)?;
    let mut config = kube::Config::new(uri);
    let authority = pem::parse(&access.ca_pem).map_err(AccessError::Authority)?;
    config.root_cert = Some(vec![authority.into_contents()]);
    config.tls_server_name = Some(access.tls_server_name.clone());
    config.connect_timeout = Some(READY_TIMEOUT);
    config.auth_info.client_certificate_data = Some(STANDARD.encode(&access.certificate_pem));
    config.auth_info.client_key_data = Some(STANDARD.encode(access.key_pem.expose_secret()).into());
    kube::Client::try_from(config).map_err(|error| AccessError::Credentials(Box::new(error)))
}

/// Checks whether an API server is ready.
///
/// # Errors
///
/// Why it is not.
pub async fn readyz(client: &kube::Client) -> Result<(), ReadyzError> {
    let request = http::Request::get("/readyz").body(Vec::new());
    let request = request.map_err(|error| ReadyzError::Unreachable(Box::new(kube::Error::HttpError(error))))?;
    match client.request_text(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(rejection(&status.message)),
        Err(error) => Err(ReadyzError::Unreachable(Box::new(error))),
    }
}

/// The failing checks out of the API server's list of all checks.
fn rejection(message: &str) -> ReadyzError {
    let failing: Vec<String> = message
        .lines()
        .filter_map(|line| line.strip_prefix("[-]"))
        .map(|line| line.split_whitespace().next().unwrap_or(line).to_owned())
        .collect();
    if failing.is_empty() { ReadyzError::Rejected(message.to_owned()) } else { ReadyzError::FailingChecks(failing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_failing_checks_are_reported() {
        let list = "[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/rbac/bootstrap-roles failed\nreadyz check failed";
        assert_eq!(rejection(list).to_string(), "not ready: etcd, poststarthook/rbac/bootstrap-roles");
        assert_eq!(rejection("Unauthorized").to_string(), "Unauthorized");
    }
}
