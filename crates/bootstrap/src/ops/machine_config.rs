//! Machine configs without a repository: generated, patched, validated.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use secrecy::SecretString;
use talos_config::{AdminIdentity, GenerateInput, GenerateOptions, Role, SecretsBundle, generate_with, talosconfig};
use talos_schema::{ConfigPatch, Contract, Documents, RuntimeMode, ValidationFindings, parse_strictly, validate_text};
use yaml::{Diagnostics, Origin};

use super::{OpsError, Workspace};

/// A text with the name that errors give it.
#[derive(Debug, Clone)]
pub struct NamedText {
    pub origin: Origin,
    pub text: String,
}

impl NamedText {
    /// Reads a file, relative to the workspace's directory.
    ///
    /// # Errors
    ///
    /// [`OpsError::ReadInput`].
    pub fn file(workspace: &Workspace, path: &Path) -> Result<Self, OpsError> {
        let text = std::fs::read_to_string(in_workspace(workspace, path));
        let text = text.map_err(|source| OpsError::ReadInput { path: path.to_owned(), source })?;
        Ok(Self { origin: Origin::of_path(path), text })
    }
}

/// A path of an argument: relative to the working directory or to `-C`.
pub fn in_workspace(workspace: &Workspace, path: &Path) -> PathBuf {
    if workspace.directory == Path::new(".") { path.to_owned() } else { workspace.directory.join(path) }
}

/// Patches of one argument, inline or as files (`@FILE` or a path).
#[derive(Debug, Clone, Copy)]
pub struct PatchArguments<'a> {
    /// The name of the argument, for errors.
    pub argument: &'static str,
    pub patches: &'a [String],
}

impl PatchArguments<'_> {
    /// Reads all patches, and reports all their errors at once.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, invalid patches.
    pub fn read(self, workspace: &Workspace) -> Result<Vec<ConfigPatch>, OpsError> {
        let mut found = Diagnostics::default();
        let mut patches = Vec::new();
        for (index, argument) in self.patches.iter().enumerate() {
            let NamedText { origin, text } = match ConfigPatch::file(argument) {
                Some(file) => NamedText::file(workspace, Path::new(file))?,
                None => NamedText {
                    origin: Origin::new(format!("<{} {}>", self.argument, index + 1)),
                    text: argument.clone(),
                },
            };
            match ConfigPatch::parse(&origin, &text) {
                Ok(patch) => {
                    if patch.is_empty() {
                        workspace.note(&format!("warning: the patch {origin} is empty"));
                    }
                    patches.push(patch);
                }
                Err(more) => found.extend(more),
            }
        }
        Ok(found.into_result(patches)?)
    }
}

/// What a generated file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeneratedFile {
    ControlPlane,
    Worker,
    Talosconfig,
}

/// What machine configs are generated from.
#[derive(Debug)]
pub struct GenerateRequest<'a> {
    pub cluster: &'a str,
    /// The URL of the Kubernetes API: `https://HOST:PORT`.
    pub endpoint: &'a str,
    /// As the operator wrote it; [`Contract::DEFAULT`] when absent.
    pub talos_version: Option<&'a str>,
    /// The contract's own when absent.
    pub kubernetes_version: Option<&'a str>,
    pub install_disk: &'a str,
    /// The installer of the Talos version when absent.
    pub install_image: Option<&'a str>,
    pub dns_domain: &'a str,
    pub options: GenerateOptions,
    /// Secrets to use; generated when absent.
    pub secrets: Option<NamedText>,
    pub every_patch: PatchArguments<'a>,
    pub control_plane_patch: PatchArguments<'a>,
    pub worker_patch: PatchArguments<'a>,
}

/// Generates the texts of `files`, in their order. They hold secrets.
///
/// # Errors
///
/// An invalid version, endpoint, patch or bundle; a patch whose document kind the Talos version does not have.
pub fn generate_machine_configs(
    workspace: &Workspace,
    request: &GenerateRequest<'_>,
    files: &[GeneratedFile],
) -> Result<Vec<SecretString>, OpsError> {
    let contract = contract(request.talos_version)?;
    check_endpoint(request.endpoint)?;
    let every = request.every_patch.read(workspace)?;
    let control_plane = request.control_plane_patch.read(workspace)?;
    let worker = request.worker_patch.read(workspace)?;
    check_kinds(contract, every.iter().chain(&control_plane).chain(&worker))?;
    let bundle = match &request.secrets {
        None => SecretsBundle::generate_for(contract, Timestamp::now())?,
        Some(secrets) => SecretsBundle::parse(&secrets.origin, &secrets.text)?,
    };
    let image = request.install_image.map_or_else(|| installer(request.talos_version, contract), str::to_owned);
    let facts = GenerateInput {
        contract,
        cluster_name: request.cluster,
        endpoint: request.endpoint,
        kubernetes_version: request.kubernetes_version.unwrap_or(contract.kubernetes()).trim_start_matches('v'),
        install_image: &image,
        install_disk: request.install_disk,
        dns_domain: request.dns_domain,
        pod_subnets: &["10.244.0.0/16".to_owned()],
        service_subnets: &["10.96.0.0/12".to_owned()],
        bundle: &bundle,
    };
    let config =
        |role, own: &[ConfigPatch]| patched(generate_with(&facts, &request.options, role), every.iter().chain(own));
    let text = |file: &GeneratedFile| -> Result<SecretString, OpsError> {
        Ok(match file {
            GeneratedFile::ControlPlane => config(Role::ControlPlane, &control_plane)?.to_yaml().into(),
            GeneratedFile::Worker => config(Role::Worker, &worker)?.to_yaml().into(),
            GeneratedFile::Talosconfig => {
                talosconfig(&AdminIdentity::issue(&bundle, Timestamp::now())?, request.cluster, &[], &[])
            }
        })
    };
    files.iter().map(text).collect()
}

/// A fresh secrets bundle for the Talos version that a cluster starts with.
///
/// # Errors
///
/// An invalid version.
pub fn generate_secrets(talos_version: Option<&str>) -> Result<SecretsBundle, OpsError> {
    Ok(SecretsBundle::generate_for(contract(talos_version)?, Timestamp::now())?)
}

/// Applies patches to a config, in their order.
///
/// # Errors
///
/// An invalid config or patch.
pub fn patch_machine_config(
    workspace: &Workspace,
    config: &NamedText,
    patches: PatchArguments<'_>,
) -> Result<Documents, OpsError> {
    let patches = patches.read(workspace)?;
    patched(parse_strictly(&config.origin, &config.text)?, patches.iter())
}

/// Whether warnings are errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    Lenient,
    Strict,
}

/// Validates a config as Talos does, without a node. Warnings become notes.
///
/// # Errors
///
/// All errors of the config, and with [`Strictness::Strict`] its warnings.
pub fn validate_machine_config(
    workspace: &Workspace,
    config: &NamedText,
    mode: RuntimeMode,
    strictness: Strictness,
) -> Result<(), OpsError> {
    let ValidationFindings { mut errors, warnings } = validate_text(&config.origin, &config.text, mode)?;
    if strictness == Strictness::Strict && !warnings.is_empty() {
        errors.extend(warnings);
        return Err(OpsError::StrictWarnings(errors));
    }
    for warning in warnings.iter() {
        workspace.note(&format!("warning: {warning}"));
    }
    Ok(errors.into_result(())?)
}

fn contract(version: Option<&str>) -> Result<Contract, OpsError> {
    version.map_or(Ok(Contract::DEFAULT), |version| version.parse().map_err(OpsError::TalosVersion))
}

/// A document kind of a newer Talos version would make nodes of this version reject the whole config.
fn check_kinds<'p>(contract: Contract, patches: impl Iterator<Item = &'p ConfigPatch>) -> Result<(), Diagnostics> {
    let mut found = Diagnostics::default();
    for patch in patches {
        if let Err(newer) = patch.check_kinds(contract) {
            found.extend(newer);
        }
    }
    found.into_result(())
}

fn patched<'p>(config: Documents, mut patches: impl Iterator<Item = &'p ConfigPatch>) -> Result<Documents, OpsError> {
    patches.try_fold(config, |config, patch| patch.apply(&config).map_err(|error| error.0.into()))
}

fn check_endpoint(endpoint: &str) -> Result<(), OpsError> {
    let host = endpoint.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap_or_default());
    if host.is_some_and(|host| !host.is_empty() && !host.contains(' ')) {
        return Ok(());
    }
    let bare = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let port = if bare.rsplit_once(':').is_some() { "" } else { ":6443" };
    let suggestion = format!("https://{bare}{port}");
    Err(OpsError::Endpoint { endpoint: endpoint.to_owned(), suggestion })
}

/// The installer image of the requested version, or of the default release when only a minor version was requested.
fn installer(version: Option<&str>, contract: Contract) -> String {
    let exact = version.filter(|version| version.split('.').count() > 2);
    let release = exact.unwrap_or(contract.release()).trim_start_matches('v');
    format!("ghcr.io/siderolabs/installer:v{release}")
}
