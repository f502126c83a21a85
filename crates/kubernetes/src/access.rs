//! The way into an API server: dial address apart from identity.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use net::Dialer;

/// A request that a healthy API server answers at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Who we are and whom we trust.
#[derive(Debug, Clone)]
pub struct Access {
    /// Control planes by their declared addresses. Before a load balancer serves the cluster's own name, these do.
    pub servers: Vec<SocketAddr>,
    /// The name in the server's certificate: the cluster's endpoint, whatever address is dialled.
    pub tls_server_name: String,
    pub ca_pem: String,
    pub certificate_pem: String,
    pub key_pem: SecretString,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("the Kubernetes credentials cannot be used: {0}")]
    Credentials(String),
    #[error("no control plane of the cluster answers on its API port: {0}")]
    Unreachable(String),
}

/// A client of the first control plane whose API server is ready.
///
/// # Errors
///
/// Credentials that cannot be used; the last reason when none is ready.
pub async fn connect(access: &Access, dialer: &Dialer) -> Result<kube::Client, AccessError> {
    ready(access, dialer).await.map(|(client, _)| client)
}

/// A client by a kubeconfig file, such as the one that a run writes.
///
/// # Errors
///
/// A file that is none, as text.
pub async fn from_kubeconfig(path: &Path) -> Result<kube::Client, String> {
    let kubeconfig = kube::config::Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| error.to_string())?;
    kube::Client::try_from(config).map_err(|error| error.to_string())
}

/// Where the first control plane whose API server is ready is dialled, for programs that dial by themselves.
///
/// # Errors
///
/// As [`connect`].
pub async fn ready_server(access: &Access, dialer: &Dialer) -> Result<SocketAddr, AccessError> {
    let (_, server) = ready(access, dialer).await?;
    dialer.target(server).map_err(|error| AccessError::Unreachable(error.to_string()))
}

async fn ready(access: &Access, dialer: &Dialer) -> Result<(kube::Client, SocketAddr), AccessError> {
    let mut last = "there is no control plane".to_owned();
    for server in &access.servers {
        let client = client(access, dialer, *server)?;
        match readyz(&client).await {
            Ok(()) => return Ok((client, *server)),
            Err(reason) => last = format!("{server}: {reason}"),
        }
    }
    Err(AccessError::Unreachable(last))
}

fn client(access: &Access, dialer: &Dialer, server: SocketAddr) -> Result<kube::Client, AccessError> {
    let credentials = |reason: String| AccessError::Credentials(reason);
    let target = dialer.target(server).map_err(|error| AccessError::Unreachable(error.to_string()))?;
    let uri = format!("https://{target}").parse().map_err(|error| credentials(format!("{error}")))?;
    let mut config = kube::Config::new(uri);
    let authority = pem::parse(&access.ca_pem).map_err(|error| credentials(error.to_string()))?;
    config.root_cert = Some(vec![authority.into_contents()]);
    config.tls_server_name = Some(access.tls_server_name.clone());
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.auth_info.client_certificate_data = Some(STANDARD.encode(&access.certificate_pem));
    config.auth_info.client_key_data = Some(STANDARD.encode(access.key_pem.expose_secret()).into());
    kube::Client::try_from(config).map_err(|error| credentials(error.to_string()))
}

/// Asks an API server whether it is ready; the reason when it is not.
///
/// # Errors
///
/// The reason, as text.
pub async fn readyz(client: &kube::Client) -> Result<(), String> {
    let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
    match client.request_text(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(unready(&status.message)),
        Err(error) => Err(super::error::chain(&error)),
    }
}

/// The checks that fail, out of the API server's list of all checks.
fn unready(message: &str) -> String {
    let failing: Vec<&str> = message
        .lines()
        .filter_map(|line| line.strip_prefix("[-]"))
        .map(|line| line.split_whitespace().next().unwrap_or(line))
        .collect();
    if failing.is_empty() { message.to_owned() } else { format!("not ready yet: {}", failing.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_failing_checks_are_told() {
        let list = "[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/rbac/bootstrap-roles failed\nreadyz check failed";
        assert_eq!(unready(list), "not ready yet: etcd, poststarthook/rbac/bootstrap-roles");
        assert_eq!(unready("Unauthorized"), "Unauthorized");
    }
}
