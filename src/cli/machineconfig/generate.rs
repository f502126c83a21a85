//! `machineconfig gen CLUSTER ENDPOINT`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use bootstrap::ops::{self, GenerateRequest, NamedText, OpsError, PatchArguments, Workspace};
use secrecy::ExposeSecret;
use talos_config::GenerateOptions;
use yaml::Origin;

use super::super::args::GenArgs;
use super::super::error::CommandError;
use super::super::output;
use super::destinations::{Destination, STANDARD_STREAM, destinations};

/// As messages name it.
const STANDARD_INPUT: &str = "<standard input>";

pub(super) fn generate(workspace: &Workspace, args: &GenArgs) -> Result<(), CommandError> {
    if args.with_docs == Some(true) || args.with_examples == Some(true) {
        output::print_note("configs are written without comments: --with-docs and --with-examples have no effect");
    }
    let destinations = destinations(workspace, args)?;
    let request = GenerateRequest {
        cluster: &args.cluster,
        endpoint: &args.endpoint,
        talos_version: args.talos_version.as_deref(),
        kubernetes_version: args.kubernetes_version.as_deref(),
        install_disk: &args.install_disk,
        install_image: args.install_image.as_deref(),
        dns_domain: &args.dns_domain,
        options: options(args),
        secrets: args.with_secrets.as_deref().map(|path| secrets(workspace, path)).transpose()?,
        every_patch: patches("--config-patch", &args.config_patch),
        control_plane_patch: patches("--config-patch-control-plane", &args.config_patch_control_plane),
        worker_patch: patches("--config-patch-worker", &args.config_patch_worker),
    };
    let files: Vec<_> = destinations.iter().map(|destination| destination.file).collect();
    let texts = ops::generate_machine_configs(workspace, &request, &files)?;
    for (Destination { path, .. }, text) in destinations.iter().zip(texts) {
        if path == Path::new(STANDARD_STREAM) {
            output::data(text.expose_secret());
        } else {
            output::private_file(path, text.expose_secret())?;
            output::print_note(&format!("{} written", path.display()));
        }
    }
    Ok(())
}

fn patches<'a>(argument: &'static str, patches: &'a [String]) -> PatchArguments<'a> {
    PatchArguments { argument, patches }
}

fn options(args: &GenArgs) -> GenerateOptions {
    let mut registry_mirrors: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mirror in &args.registry_mirror {
        registry_mirrors.entry(mirror.registry.clone()).or_default().push(mirror.url.clone());
    }
    GenerateOptions {
        additional_sans: args.additional_sans.clone(),
        cluster_discovery: args.with_cluster_discovery,
        kubespan: args.with_kubespan,
        persist: args.persist,
        registry_mirrors,
    }
}

fn secrets(workspace: &Workspace, path: &Path) -> Result<NamedText, CommandError> {
    if path != Path::new(STANDARD_STREAM) {
        return Ok(NamedText::file(workspace, path)?);
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|source| OpsError::ReadInput { path: STANDARD_INPUT.into(), source })?;
    Ok(NamedText { origin: Origin::new(STANDARD_INPUT), text })
}
