//! Reads a cluster's files together with what they need from SOPS, 1Password, commands and DNS.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use process::Command;
use repository::{Cluster, ClusterReading, ReadContext, Settings};
use secrecy::{ExposeSecret, SecretString};
use secrets::sops;
use sha2::{Digest, Sha256};
use talos_config::adapters::is_machine_config;
use talos_config::{FetchedInputs, InputRequest, RenderedConfig, SecretsBundle};
use yaml::Diagnostic;

use super::{OpsError, SecretsMode, Workspace, secret_sources};
use crate::template_programs;

/// How long a command may take to print a node's config.
const COMMAND_DEADLINE: Duration = Duration::from_mins(2);

/// Reads the cluster `name`, and fetches what its files need until they need nothing more.
///
/// # Errors
///
/// All mistakes in the files at once, or the first input that cannot be fetched.
pub async fn read_cluster(workspace: &Workspace, name: &str, secrets: SecretsMode) -> Result<Cluster, OpsError> {
    let root = workspace.repository()?;
    let mut sources = FetchedInputs::default();
    let programs = template_programs();
    let context = ReadContext { environment: &workspace.variables, programs: Some(&programs) };
    loop {
        match Cluster::read_with(&root, name, context, &sources)? {
            ClusterReading::Complete(cluster) => return Ok(*cluster),
            ClusterReading::NeedsInput(inputs) => {
                for input in inputs {
                    let text = fetch(workspace, &root, &input, secrets).await?;
                    sources.provide(input, text);
                }
            }
        }
    }
}

/// Warnings about the inputs of a cluster.
pub fn input_warnings(cluster: &Cluster) -> impl Iterator<Item = &Diagnostic> {
    cluster.inputs.warnings().iter().chain(cluster.warnings.iter())
}

/// Warnings about patches that change nothing on any node; none if a config cannot be rendered.
pub(super) fn unused_patch_warnings(cluster: &Cluster, bundle: &SecretsBundle) -> Vec<Diagnostic> {
    let nodes = cluster.inventory.nodes.iter();
    let rendered = nodes.map(|node| cluster.inputs.render(bundle, node)).collect::<Result<Vec<RenderedConfig>, _>>();
    rendered.map(|all| RenderedConfig::unused_patches(&all).iter().cloned().collect()).unwrap_or_default()
}

async fn fetch(
    workspace: &Workspace,
    root: &Path,
    input: &InputRequest,
    secrets: SecretsMode,
) -> Result<SecretString, OpsError> {
    match input {
        InputRequest::SopsFile(path) => decrypted(workspace, root, path, secrets).await,
        InputRequest::References { origin, text } => match secrets {
            SecretsMode::Placeholder => Ok(secrets::placeholders(text, &Settings::read(root)?.sources).into()),
            SecretsMode::Real => resolved(workspace, root, origin, text).await,
        },
        InputRequest::Variable { name, .. } if secrets == SecretsMode::Placeholder => {
            Ok(format!("op://environment/{}", name.trim_start_matches('.')).into())
        }
        InputRequest::Variable { name, behind, at } => {
            Err(OpsError::Variable { name: name.clone(), wrapper: behind.clone(), at: at.clone() })
        }
        InputRequest::CommandOutput(command) => output(root, command).await,
        InputRequest::Address { host, subnet } => {
            let address = match secrets {
                SecretsMode::Placeholder => placeholder_address(host, *subnet),
                SecretsMode::Real => resolve(host, *subnet).await,
            };
            Ok(address.map(|address| address.to_string()).unwrap_or_default().into())
        }
    }
}

async fn decrypted(
    workspace: &Workspace,
    root: &Path,
    path: &Path,
    secrets: SecretsMode,
) -> Result<SecretString, OpsError> {
    let failed = |source| OpsError::Read { path: path.to_owned(), source };
    let sealed = std::fs::read_to_string(path).map_err(failed)?;
    let text = match secrets {
        SecretsMode::Placeholder if hides_machine_type(&sealed) => {
            let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
            return Err(OpsError::EncryptedConfig { path: shown });
        }
        SecretsMode::Placeholder => sops::placeholders(&sealed).into(),
        SecretsMode::Real => decrypt(workspace, root, path).await?,
    };
    workspace.redactor.learn_filled(&sops::placeholders(&sealed), text.expose_secret());
    Ok(text)
}

/// Whether an encrypted machine config does not even show the type of its machine.
fn hides_machine_type(sealed: &str) -> bool {
    is_machine_config(sealed) && sealed.lines().any(|line| line.trim_start().starts_with("type: ENC["))
}

/// Decrypts a file with SOPS.
pub(super) async fn decrypt(workspace: &Workspace, root: &Path, path: &Path) -> Result<SecretString, OpsError> {
    let sops = secret_sources::sops(workspace, root).await;
    let sops = sops.map_err(OpsError::SopsTool)?;
    sops::decrypt(&sops, path).await.map_err(OpsError::Sops)
}

async fn resolved(workspace: &Workspace, root: &Path, origin: &str, text: &str) -> Result<SecretString, OpsError> {
    let settings = Settings::read(root)?;
    let sources = secret_sources::secret_sources(workspace, root, &settings).await;
    let filled = sources.fill(text).await;
    filled.map_err(|source| OpsError::References { origin: origin.to_owned(), source })
}

async fn output(root: &Path, command: &[String]) -> Result<SecretString, OpsError> {
    let shown = command.join(" ");
    let Some((program, arguments)) = command.split_first() else { return Err(OpsError::EmptyCommand) };
    let output = Command::new(program).args(arguments).current_dir(root).deadline(COMMAND_DEADLINE).run().await;
    let output = output.map_err(|source| OpsError::Command { command: shown.clone(), source })?;
    String::from_utf8(output.stdout).map(Into::into).map_err(|_| OpsError::CommandOutput { command: shown })
}

/// The address of a host, preferably in the subnet; none if DNS does not know the name.
async fn resolve(host: &str, subnet: Option<IpNet>) -> Option<IpAddr> {
    let addresses: Vec<IpAddr> = tokio::net::lookup_host((host, 0)).await.ok()?.map(|found| found.ip()).collect();
    let inside = addresses.iter().find(|address| subnet.is_some_and(|subnet| subnet.contains(*address)));
    inside.or(addresses.iter().find(|address| address.is_ipv4())).or(addresses.first()).copied()
}

/// An invented address for a host in a rehearsal, the same for the same name.
fn placeholder_address(host: &str, subnet: Option<IpNet>) -> Option<IpAddr> {
    // Reserved for benchmarks of networks (RFC 2544).
    let subnet = subnet.or_else(|| "198.18.0.0/16".parse().ok())?;
    let hosts = subnet.hosts().take(1 << 16).collect::<Vec<_>>();
    // The lowest addresses usually belong to routers and to shared addresses.
    let usable = hosts.get(16..).filter(|usable| !usable.is_empty()).unwrap_or(&hosts);
    let digest = Sha256::digest(host.as_bytes());
    let number = usize::from(digest[0]) << 8 | usize::from(digest[1]);
    usable.get(number % usable.len().max(1)).copied()
}
