//! A cluster's files, read together with what they need from SOPS, 1Password and commands.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::args::{Common, SecretsArg};
use super::exit::Refusal;
use super::{output, setup};
use process::Command;
use repository::{Cluster, Settings};
use secrets::{Redactor, sops};
use talos_config::adapters::is_machine_config;
use talos_config::{FetchedInputs, InputRequest, RenderedConfig, SecretsBundle};

/// How long a command may take to print a node's config.
const COMMAND: Duration = Duration::from_mins(2);

/// Reads the cluster's files, and fetches what they name.
pub(super) async fn cluster(
    common: &Common,
    name: &str,
    secrets: SecretsArg,
    redactor: &Redactor,
) -> Result<Cluster, Refusal> {
    let root = common.directory.canonicalize().map_err(|error| {
        Refusal::input(format!("the repository {} cannot be opened: {error}", common.directory.display()))
    })?;
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let mut sources = FetchedInputs::default();
    loop {
        let result = Cluster::read_with(&root, name, &environment, &sources);
        let missing = sources.missing();
        if missing.is_empty() {
            return Ok(result?);
        }
        for wanted in missing {
            let text = fetch(common, &root, &wanted, secrets, redactor).await?;
            sources.provide(wanted, text);
        }
    }
}

/// Says what in the inputs is no mistake and may still not be meant.
pub(super) fn warn(cluster: &Cluster, redactor: &Redactor) {
    for warning in cluster.inputs.warnings().iter().chain(cluster.warnings.iter()) {
        output::say(&redactor.redact(&format!("warning: {warning}")));
    }
}

/// Says which patches come to nothing on every node. A config that cannot be rendered is told by whoever needs it.
pub(super) fn warn_idle(cluster: &Cluster, bundle: &SecretsBundle, redactor: &Redactor) {
    let nodes = cluster.inventory.nodes.iter();
    let Ok(all) = nodes.map(|node| cluster.inputs.render(bundle, node)).collect::<Result<Vec<RenderedConfig>, _>>()
    else {
        return;
    };
    for warning in RenderedConfig::unused_patches(&all).iter() {
        output::say(&redactor.redact(&format!("warning: {warning}")));
    }
}

async fn fetch(
    common: &Common,
    root: &Path,
    wanted: &InputRequest,
    secrets: SecretsArg,
    redactor: &Redactor,
) -> Result<SecretString, Refusal> {
    match wanted {
        InputRequest::SopsFile(path) => {
            let sealed = std::fs::read_to_string(path)
                .map_err(|error| Refusal::world(format!("{} cannot be read: {error}", path.display())))?;
            let text = match secrets {
                SecretsArg::Placeholder if is_hidden(&sealed) => return Err(hidden(root, path)),
                SecretsArg::Placeholder => sops::placeholders(&sealed).into(),
                SecretsArg::Real => open(common, root, path).await?,
            };
            redactor.learn_filled(&sops::placeholders(&sealed), text.expose_secret());
            Ok(text)
        }
        InputRequest::References { origin, text } => {
            let filled = match secrets {
                SecretsArg::Placeholder => secrets::placeholders(text, &Settings::read(root)?.sources).into(),
                SecretsArg::Real => fill(common, root, origin, text, redactor).await?,
            };
            Ok(filled)
        }
        InputRequest::Variable { name, .. } if secrets == SecretsArg::Placeholder => {
            Ok(format!("op://environment/{}", name.trim_start_matches('.')).into())
        }
        InputRequest::Variable { name, behind, at } => {
            Err(Refusal::input(format!("the variable `{name}` is not set; `{behind}` sets it for recipes ({at})"))
                .hint(format!("run this behind it too: {behind} k8s-bootstrap …, or set the variable")))
        }
        InputRequest::CommandOutput(command) => run(root, command).await,
        InputRequest::Address { host, subnet } => Ok(match secrets {
            SecretsArg::Placeholder => placeholder_address(host, *subnet),
            SecretsArg::Real => resolve(host, *subnet).await,
        }
        .map(|address| address.to_string())
        .unwrap_or_default()
        .into()),
    }
}

/// Whether a sealed machine config does not even say what kind of machine it is for.
fn is_hidden(sealed: &str) -> bool {
    is_machine_config(sealed) && sealed.lines().any(|line| line.trim_start().starts_with("type: ENC["))
}

fn hidden(root: &Path, path: &Path) -> Refusal {
    let shown = path.strip_prefix(root).unwrap_or(path).display();
    Refusal::input(format!("{shown} is sealed as a whole: with placeholders in it, it describes no machine"))
        .hint("rehearse with `--secrets real`, so that sops opens it; its contents stay in memory")
}

/// The address of a host, of the subnet if there is one; nothing when its name is not known here.
async fn resolve(host: &str, subnet: Option<IpNet>) -> Option<IpAddr> {
    let addresses: Vec<IpAddr> = tokio::net::lookup_host((host, 0)).await.ok()?.map(|found| found.ip()).collect();
    let inside = addresses.iter().find(|address| subnet.is_some_and(|subnet| subnet.contains(*address)));
    inside.or(addresses.iter().find(|address| address.is_ipv4())).or(addresses.first()).copied()
}

/// An address for a host that a rehearsal cannot ask anybody about: the same for the same name.
fn placeholder_address(host: &str, subnet: Option<IpNet>) -> Option<IpAddr> {
    // For benchmarks of networks, so nobody's (RFC 2544).
    let subnet = subnet.or_else(|| "198.18.0.0/16".parse().ok())?;
    let hosts = subnet.hosts().take(1 << 16).collect::<Vec<_>>();
    // The lowest ones are routers' and shared addresses'.
    let usable = hosts.get(16..).filter(|usable| !usable.is_empty()).unwrap_or(&hosts);
    let digest = Sha256::digest(host.as_bytes());
    let number = usize::from(digest[0]) << 8 | usize::from(digest[1]);
    usable.get(number % usable.len().max(1)).copied()
}

/// Opens a file that SOPS sealed.
pub(super) async fn open(common: &Common, root: &Path, path: &Path) -> Result<SecretString, Refusal> {
    let sops = setup::sops(common, root).await;
    let sops = sops
        .map_err(|error| Refusal::world(error.to_string()).hint("install sops, or name its folder with --tools-dir"))?;
    sops::decrypt(&sops, path).await.map_err(|error| {
        Refusal::world(error.to_string())
            .hint("make the key available as sops wants it, such as SOPS_AGE_KEY_FILE=~/.config/sops/age/keys.txt")
    })
}

async fn fill(
    common: &Common,
    root: &Path,
    origin: &str,
    text: &str,
    redactor: &Redactor,
) -> Result<SecretString, Refusal> {
    let settings = Settings::read(root)?;
    let sources = setup::sources(common, root, &settings, redactor, output::person(common.output)).await;
    let filled = sources.fill(text).await;
    filled.map_err(|error| Refusal::world(format!("{origin}: {error}")).hint(error.next()))
}

async fn run(root: &Path, command: &[String]) -> Result<SecretString, Refusal> {
    let shown = command.join(" ");
    let Some((program, arguments)) = command.split_first() else {
        return Err(Refusal::input("an empty command cannot print a config"));
    };
    let output = Command::new(program).args(arguments).current_dir(root).deadline(COMMAND).run().await;
    let output = output.map_err(|error| {
        Refusal::world(format!("the command for a node's config failed: `{shown}`: {error}"))
            .hint("run it by hand in the repository's root; clusters.<name>.exec in k8s-bootstrap.yaml names it")
    })?;
    String::from_utf8(output.stdout).map(Into::into).map_err(|_| Refusal::input(format!("`{shown}` printed no text")))
}
