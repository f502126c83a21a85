//! `machineconfig gen CLUSTER ENDPOINT`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::super::args::Common;
use super::super::error::CommandError;
use super::super::exit::Exit;
use super::super::output;
use super::args::{GenArgs, OutputType};
use super::{at, patches, read};
use talos_config::{AdminIdentity, GenerateInput, GenerateOptions, Role, SecretsBundle, generate_with, talosconfig};
use talos_schema::{ConfigPatch, Contract, Documents};
use yaml::{Diagnostics, Origin};

const STANDARD_STREAM: &str = "-";

pub(super) fn generate(common: &Common, args: &GenArgs) -> Result<Exit, CommandError> {
    let contract = match &args.talos_version {
        Some(version) => version.parse().map_err(|error| CommandError::invalid(format!("--talos-version: {error}")))?,
        None => Contract::DEFAULT,
    };
    check_endpoint(&args.endpoint)?;
    if args.with_docs == Some(true) || args.with_examples == Some(true) {
        output::say("configs are written without comments: --with-docs and --with-examples have no effect");
    }
    let options = options(args)?;
    let every = patches(common, "--config-patch", &args.config_patch)?;
    let control_plane = patches(common, "--config-patch-control-plane", &args.config_patch_control_plane)?;
    let worker = patches(common, "--config-patch-worker", &args.config_patch_worker)?;
    check_kinds(contract, every.iter().chain(&control_plane).chain(&worker))?;
    let destinations = destinations(common, args)?;
    let bundle = bundle(common, args, contract)?;
    let image = args.install_image.clone().unwrap_or_else(|| installer(args.talos_version.as_deref(), contract));
    let kubernetes = args.kubernetes_version.as_deref().unwrap_or(contract.kubernetes());
    let facts = GenerateInput {
        contract,
        cluster_name: &args.cluster,
        endpoint: &args.endpoint,
        kubernetes_version: kubernetes.trim_start_matches('v'),
        install_image: &image,
        install_disk: &args.install_disk,
        dns_domain: &args.dns_domain,
        pod_subnets: &["10.244.0.0/16".to_owned()],
        service_subnets: &["10.96.0.0/12".to_owned()],
        bundle: &bundle,
    };
    let config = |role, own: &[ConfigPatch]| patched(generate_with(&facts, &options, role), every.iter().chain(own));
    let mut texts: Vec<(PathBuf, SecretString)> = Vec::new();
    for (output, path) in destinations {
        let text: SecretString = match output {
            OutputType::ControlPlane => config(Role::ControlPlane, &control_plane)?.to_yaml().into(),
            OutputType::Worker => config(Role::Worker, &worker)?.to_yaml().into(),
            OutputType::Talosconfig => {
                let admin = AdminIdentity::issue(&bundle, Timestamp::now())
                    .map_err(|error| CommandError::caused_by(Exit::InvalidInput, &error))?;
                talosconfig(&admin, &args.cluster, &[], &[])
            }
        };
        texts.push((path, text));
    }
    for (path, text) in texts {
        if path == Path::new(STANDARD_STREAM) {
            output::data(text.expose_secret());
        } else {
            output::private_file(&path, text.expose_secret())?;
            output::say(&format!("{} written", path.display()));
        }
    }
    Ok(Exit::Done)
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

fn patched<'p>(config: Documents, patches: impl Iterator<Item = &'p ConfigPatch>) -> Result<Documents, CommandError> {
    let mut config = config;
    for patch in patches {
        config = patch.apply(&config).map_err(|error| CommandError::from(error.0))?;
    }
    Ok(config)
}

fn check_endpoint(endpoint: &str) -> Result<(), CommandError> {
    let host = endpoint.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap_or_default());
    if host.is_some_and(|host| !host.is_empty() && !host.contains(' ')) {
        return Ok(());
    }
    let bare = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let port = if bare.rsplit_once(':').is_some() { "" } else { ":6443" };
    Err(CommandError::invalid(format!("invalid endpoint `{endpoint}`: expected https://HOST:PORT"))
        .hint(format!("did you mean https://{bare}{port}?")))
}

fn options(args: &GenArgs) -> Result<GenerateOptions, CommandError> {
    let mut registry_mirrors: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mirror in &args.registry_mirror {
        let Some((registry, url)) = mirror.split_once('=') else {
            return Err(CommandError::invalid(format!(
                "--registry-mirror: invalid value `{mirror}`: expected REGISTRY=URL"
            )));
        };
        registry_mirrors.entry(registry.to_owned()).or_default().push(url.to_owned());
    }
    Ok(GenerateOptions {
        additional_sans: args.additional_sans.clone(),
        cluster_discovery: args.with_cluster_discovery,
        kubespan: args.with_kubespan,
        persist: args.persist,
        registry_mirrors,
    })
}

/// The installer image of the requested version, or of the default release when only a minor version was requested.
fn installer(version: Option<&str>, contract: Contract) -> String {
    let exact = version.filter(|version| version.split('.').count() > 2);
    let release = exact.unwrap_or(contract.release()).trim_start_matches('v');
    format!("ghcr.io/siderolabs/installer:v{release}")
}

fn bundle(common: &Common, args: &GenArgs, contract: Contract) -> Result<SecretsBundle, CommandError> {
    let (origin, text) = match args.with_secrets.as_deref() {
        None => {
            return SecretsBundle::generate_for(contract, Timestamp::now())
                .map_err(|error| CommandError::caused_by(Exit::PreconditionFailed, &error));
        }
        Some(path) if path == Path::new(STANDARD_STREAM) => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| CommandError::invalid(format!("cannot read standard input: {error}")))?;
            (Origin::new("<standard input>"), text)
        }
        Some(path) => read(common, path)?,
    };
    Ok(SecretsBundle::parse(&origin, &text)?)
}

/// The path of each output; existing files are only overwritten with `--force`.
fn destinations(common: &Common, args: &GenArgs) -> Result<Vec<(OutputType, PathBuf)>, CommandError> {
    let stream = args.out == Path::new(STANDARD_STREAM);
    if stream && args.output_types.len() > 1 {
        return Err(CommandError::invalid("only one type can be written to standard output")
            .hint("select it with --output-types"));
    }
    let single = args.output_types.len() == 1 && args.out != Path::new(".");
    let mut all = Vec::new();
    for output in &args.output_types {
        let name = match output {
            OutputType::ControlPlane => "controlplane.yaml",
            OutputType::Worker => "worker.yaml",
            OutputType::Talosconfig => "talosconfig",
        };
        let path = match (stream, single) {
            (true, _) => args.out.clone(),
            (false, true) => at(common, &args.out),
            (false, false) => at(common, &args.out.join(name)),
        };
        if !stream && !args.force && path.exists() {
            return Err(CommandError::precondition(format!("{} already exists; nothing was changed", path.display()))
                .hint("overwrite it with --force, or set another path with --out"));
        }
        all.push((*output, path));
    }
    Ok(all)
}
