//! From arguments to what commands work with: the cluster, its state folder, its secrets, the way to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::args::{Common, SecretsArg};
use super::exit::Refusal;
use super::inputs;
use bootstrap::client_identity;
use bootstrap::steps::{Parts, SecretsFrom, Site, Verdict};
use engine::plan::StepId;
use helm::{ChartBundle, Charts, Helm, Mirrors};
use helmfile::Chart;
use lab::{LabFile, lab_folder, web_folder};
use net::{Dialer, Web};
use repository::{Cluster, SecretKind, Settings};
use secrets::sops::Sops;
use secrets::{Connect, OnePassword, Person, Redactor, Sources};
use talos_client::{CertificateFingerprint, ClientIdentity};
use talos_config::adapters::SecretsLocation;
use talos_config::{AdminIdentity, InventoryNode, Role, SecretsBundle, is_sops_encrypted};
use tools::{Options, Tool, Toolbox};
use yaml::Origin;

/// The world that a command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Field,
    Lab,
}

/// Where journals, kubeconfigs and labs are kept, unless an argument says otherwise.
pub(super) fn state_folder(common: &Common) -> Result<PathBuf, Refusal> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    common
        .state_dir
        .clone()
        .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("k8s-bootstrap")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/k8s-bootstrap")))
        .ok_or_else(|| Refusal::world("neither XDG_STATE_HOME nor HOME is set").hint("name a folder with --state-dir"))
}

/// The folder of one cluster's run.
pub(super) fn run_folder_path(common: &Common, cluster: &str, place: Place) -> Result<PathBuf, Refusal> {
    let state = state_folder(common)?;
    Ok(match place {
        Place::Field => state.join(cluster),
        Place::Lab => lab_folder(&state, cluster).join("run"),
    })
}

/// The folder of one cluster's run, made if need be and checked for being writable.
pub(super) fn run_folder(common: &Common, cluster: &str, place: Place) -> Result<PathBuf, Refusal> {
    let folder = run_folder_path(common, cluster, place)?;
    make_private(&folder)?;
    Ok(folder)
}

/// Makes a folder that only its owner can enter.
pub(super) fn make_private(folder: &Path) -> Result<(), Refusal> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        Refusal::world(format!("the state directory {} cannot be made: {error}", folder.display()))
            .hint("name another one with --state-dir")
    })
}

pub(super) fn toolbox(common: &Common) -> Toolbox {
    Toolbox::new(Options::from_environment(common.tools_dir.clone()))
}

/// The dialer for a place, and the lab's folder when it is one.
pub(super) fn dialer(common: &Common, cluster: &str, place: Place) -> Result<Dialer, Refusal> {
    if place == Place::Field {
        return Ok(Dialer::direct());
    }
    Ok(Dialer::lab(lab_file(common, cluster)?.addresses))
}

/// What the running lab of a cluster says of itself.
fn lab_file(common: &Common, cluster: &str) -> Result<LabFile, Refusal> {
    let folder = lab_folder(&state_folder(common)?, cluster);
    LabFile::read(&folder).map_err(|error| {
        Refusal::world(format!("there is no lab of `{cluster}` in {}: {error}", folder.display()))
            .hint(format!("start it in another terminal: k8s-bootstrap lab up {cluster}"))
    })
}

/// Opens the cluster's secrets, or makes the lab's placeholders.
pub(super) async fn bundle(
    common: &Common,
    cluster: &Cluster,
    place: Place,
    secrets: SecretsArg,
    redactor: &Redactor,
) -> Result<SecretsBundle, Refusal> {
    let bundle = match secrets {
        SecretsArg::Real => real_bundle(common, cluster).await?,
        SecretsArg::Placeholder => placeholder_bundle(common, cluster, place)?,
    };
    for value in bundle.secret_values() {
        redactor.learn(&value);
    }
    Ok(bundle)
}

async fn real_bundle(common: &Common, cluster: &Cluster) -> Result<SecretsBundle, Refusal> {
    let path = match cluster.inputs.secrets() {
        SecretsLocation::InConfigs(bundle) => return Ok(bundle.clone()),
        SecretsLocation::Incomplete(found) => return Err(found.into()),
        SecretsLocation::File(path) => path,
    };
    let shown = cluster.relative(&path).display();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Refusal::input(format!("the secrets bundle {shown} cannot be read: {error}")).hint(
            "expected is talsecret.sops.yaml, talsecret.yaml or secrets.yaml; `k8s-bootstrap secrets gen` makes one",
        )
    })?;
    let text = if is_sops_encrypted(&text) { inputs::open(common, &cluster.root, &path).await? } else { text.into() };
    let origin = Origin::of_path(cluster.relative(&path));
    Ok(SecretsBundle::parse(&origin, text.expose_secret())?)
}

/// The lab's own bundle, made once and kept with it, so that a resume meets the same authorities. Elsewhere one that
/// nobody keeps: only what changes nothing gets it.
fn placeholder_bundle(common: &Common, cluster: &Cluster, place: Place) -> Result<SecretsBundle, Refusal> {
    if place == Place::Field {
        return SecretsBundle::generate(Timestamp::now()).map_err(|error| Refusal::world(error.to_string()));
    }
    let folder = lab_folder(&state_folder(common)?, &cluster.name);
    make_private(&folder)?;
    let path = folder.join("placeholder-secrets.yaml");
    let origin = Origin::of_path(&path);
    if let Ok(text) = std::fs::read_to_string(&path) {
        return Ok(SecretsBundle::parse(&origin, &text)?);
    }
    let bundle = SecretsBundle::generate(Timestamp::now()).map_err(|error| Refusal::world(error.to_string()))?;
    std::fs::write(&path, bundle.to_yaml().expose_secret()).map_err(|error| {
        Refusal::world(format!("{} cannot be written: {error}; nothing was changed", path.display()))
            .hint("free space there, or name another folder with --state-dir")
    })?;
    Ok(bundle)
}

/// The registries that serve in others' places: the lab's, or those that the repository names.
fn mirrors(common: &Common, cluster: &Cluster, place: Place) -> Result<Mirrors, Refusal> {
    Ok(Mirrors(match place {
        Place::Field => cluster.settings.mirrors.clone(),
        Place::Lab => lab_file(common, &cluster.name)?.mirrors,
    }))
}

/// Helm, and the charts that it can reach.
pub(super) async fn charts(
    common: &Common,
    cluster: &Cluster,
    place: Place,
    bundle: Option<&Path>,
) -> Result<Charts, Refusal> {
    let helm = helm(common, place).await?;
    let cache = match place {
        Place::Field => cache_folder()?.join("charts"),
        // What a lab serves is not what the registries serve, so it never mixes with their charts.
        Place::Lab => lab_folder(&state_folder(common)?, &cluster.name).join("charts"),
    };
    let open = |path: &Path| {
        ChartBundle::open(path).map(Arc::new).map_err(|error| {
            Refusal::world(format!("the bundle {} cannot be used: {error}; nothing was changed", path.display())).hint(
                format!(
                    "make one where registries are reachable: k8s-bootstrap bundle create {} --out FILE",
                    cluster.name
                ),
            )
        })
    };
    let bundle = bundle.map(open).transpose()?;
    Ok(Charts { helm, cache, mirrors: mirrors(common, cluster, place)?, bundle })
}

async fn helm(common: &Common, place: Place) -> Result<Helm, Refusal> {
    let toolbox = toolbox(common);
    let found = match place {
        Place::Field => toolbox.find(Tool::Helm).await,
        Place::Lab => toolbox.provide(Tool::Helm, &|progress| super::output::say(progress)).await,
    };
    let found = found.map_err(|error| {
        Refusal::world(format!("{error}; nothing was changed"))
            .hint("install helm 4, provide it with `k8s-bootstrap tools install`, or name its folder with --tools-dir")
    })?;
    Ok(Helm { program: found.path, version: found.version })
}

/// The charts of a repository's helmfiles, whichever cluster they are for.
pub(super) async fn charts_of(common: &Common, root: &Path) -> Result<Charts, Refusal> {
    let settings = Settings::read(root)?;
    Ok(Charts {
        helm: helm(common, Place::Field).await?,
        cache: cache_folder()?.join("charts"),
        mirrors: Mirrors(settings.mirrors),
        bundle: None,
    })
}

fn cache_folder() -> Result<PathBuf, Refusal> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("k8s-bootstrap"))
        .ok_or_else(|| Refusal::world("neither XDG_CACHE_HOME nor HOME is set").hint("set one of them"))
}

/// Where the secrets of manifests come from. A program that is missing is told by the step that needs it.
async fn secrets_from(
    common: &Common,
    cluster: &Cluster,
    secrets: SecretsArg,
    redactor: &Redactor,
    person: Option<&Person>,
) -> SecretsFrom {
    if secrets == SecretsArg::Placeholder {
        return SecretsFrom::Placeholders;
    }
    let has = |kind: SecretKind| cluster.bootstrap.secrets.iter().any(|source| source.kind == kind);
    let tried = !cluster.flux.decryptions().is_empty();
    let sops = if has(SecretKind::Sops) || tried { sops(common, &cluster.root).await.ok() } else { None };
    let references = sources(common, &cluster.root, &cluster.settings, redactor, person.cloned()).await;
    SecretsFrom::Operator { references: Box::new(references), sops }
}

/// The program `sops`, with the key that the repository's own tools would name to it.
pub(super) async fn sops(common: &Common, root: &Path) -> Result<Sops, tools::Error> {
    let found = toolbox(common).find(Tool::Sops).await?;
    Ok(Sops { program: found.path, key_file: discover::sops_key_file(root, &std::env::vars().collect()) })
}

/// Whoever answers for the references in a repository: a Connect server where the environment names one, else `op`.
pub(super) async fn sources(
    common: &Common,
    root: &Path,
    settings: &Settings,
    redactor: &Redactor,
    person: Option<Person>,
) -> Sources {
    let variables: BTreeMap<String, String> = std::env::vars().collect();
    let one_password = match Connect::of(&variables) {
        Some(connect) => OnePassword::Connect(connect),
        None => match toolbox(common).find(Tool::Op).await {
            Ok(found) => OnePassword::Program(found.path),
            Err(_) => OnePassword::Nobody,
        },
    };
    Sources {
        one_password,
        adapters: settings.sources.clone(),
        accounts: settings.accounts.clone(),
        folder: root.to_owned(),
        variables,
        redactor: redactor.clone(),
        person,
    }
}

/// The node that is called so, by hostname or address.
pub(super) fn node<'c>(cluster: &'c Cluster, name: &str) -> Result<&'c InventoryNode, Refusal> {
    let nodes = &cluster.inventory.nodes;
    nodes.iter().find(|node| node.hostname == name || node.address.to_string() == name).ok_or_else(|| {
        let names: Vec<&str> = nodes.iter().map(|node| node.hostname.as_str()).collect();
        Refusal::input(format!("`{name}` is no node of `{}`", cluster.name))
            .hint(format!("its nodes are {}", names.join(", ")))
    })
}

/// The control plane that is called so.
fn control_plane(cluster: &Cluster, name: &str) -> Result<IpAddr, Refusal> {
    let node = node(cluster, name)?;
    if node.role == Role::ControlPlane {
        return Ok(node.address);
    }
    Err(Refusal::input(format!("`{name}` is no control plane of `{}`", cluster.name)))
}

/// The way to a cluster's machines, without what a run needs besides.
pub(super) struct Way {
    pub(super) cluster: Cluster,
    pub(super) dialer: Dialer,
    pub(super) identity: ClientIdentity,
}

/// Reads the cluster's files and mints the administrator's certificate from its secrets.
pub(super) async fn way(common: &Common, name: &str, place: Place, redactor: &Redactor) -> Result<Way, Refusal> {
    let secrets = match place {
        Place::Field => SecretsArg::Real,
        Place::Lab => SecretsArg::Placeholder,
    };
    let cluster = inputs::cluster(common, name, secrets, redactor).await?;
    let dialer = dialer(common, name, place)?;
    let bundle = bundle(common, &cluster, place, secrets, redactor).await?;
    let admin = AdminIdentity::issue(&bundle, Timestamp::now()).map_err(|error| Refusal::input(error.to_string()))?;
    Ok(Way { cluster, dialer, identity: client_identity(&admin) })
}

/// Takes the digests out of charts' references, since a lab's charts have others.
fn unpin(cluster: &mut Cluster) {
    let bootstrap = &mut cluster.bootstrap;
    for release in bootstrap.crds.releases.iter_mut().chain(&mut bootstrap.releases.releases) {
        if let Chart::Oci { reference, .. } = &mut release.chart {
            reference.truncate(super::lab::unpinned(reference).len());
        }
    }
}

/// The program that builds kustomizations, where the cluster has any. One that is missing is told by the step that needs it.
async fn kubectl(common: &Common, cluster: &Cluster) -> Option<PathBuf> {
    if !cluster.bootstrap.has_kustomizations() {
        return None;
    }
    toolbox(common).find(Tool::Kubectl).await.ok().map(|found| found.path)
}

/// What a command wants a site for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'w> {
    /// Who can be asked to renew a session while the run waits.
    pub(super) person: Option<&'w Person>,
    pub(super) cluster: &'w str,
    pub(super) place: Place,
    pub(super) secrets: Option<SecretsArg>,
    pub(super) resumed: bool,
    /// Where charts come from instead of their registries.
    pub(super) bundle: Option<&'w Path>,
    /// The control plane that the operator forces, by hostname or address.
    pub(super) forced: Option<&'w str>,
    /// What the operator says of hooks.
    pub(super) verdicts: &'w [(StepId, Verdict)],
    /// The keys that nodes must show, by hostname or address.
    pub(super) pins: &'w [(String, CertificateFingerprint)],
}

/// Everything that the steps of a run share. Without `writes` the state folder is only named, not made.
pub(super) async fn site(
    common: &Common,
    wanted: Wanted<'_>,
    writes: bool,
    redactor: &Redactor,
) -> Result<Arc<Site>, Refusal> {
    let secrets = wanted.secrets.unwrap_or(match wanted.place {
        Place::Field => SecretsArg::Real,
        Place::Lab => SecretsArg::Placeholder,
    });
    if writes && wanted.place == Place::Field && secrets == SecretsArg::Placeholder {
        return Err(Refusal::input("placeholder secrets are for rehearsals and plans only").hint("leave --secrets out"));
    }
    let mut cluster = inputs::cluster(common, wanted.cluster, secrets, redactor).await?;
    if wanted.place == Place::Lab {
        unpin(&mut cluster);
    }
    discover::secret_values(&cluster.recipe_environment).for_each(|value| redactor.learn(&value.to_owned().into()));
    inputs::warn(&cluster, redactor);
    let forced = wanted.forced.map(|name| control_plane(&cluster, name)).transpose()?;
    let pins = wanted.pins.iter().map(|(name, print)| Ok((node(&cluster, name)?.address, print.clone())));
    let pins = pins.collect::<Result<_, Refusal>>()?;
    let dialer = dialer(common, wanted.cluster, wanted.place)?;
    let folder = if writes {
        run_folder(common, wanted.cluster, wanted.place)?
    } else {
        run_folder_path(common, wanted.cluster, wanted.place)?
    };
    let bundle = bundle(common, &cluster, wanted.place, secrets, redactor).await?;
    inputs::warn_idle(&cluster, &bundle, redactor);
    let site = Site::new(Parts {
        charts: charts(common, &cluster, wanted.place, wanted.bundle).await?,
        web: match wanted.place {
            Place::Field => Web::Internet,
            Place::Lab => Web::Folder(web_folder(&lab_folder(&state_folder(common)?, &cluster.name))),
        },
        secrets: secrets_from(common, &cluster, secrets, redactor, wanted.person).await,
        kubectl: kubectl(common, &cluster).await,
        redactor: redactor.clone(),
        resumed: wanted.resumed,
        forced,
        verdicts: wanted.verdicts.iter().cloned().collect(),
        pins,
        cluster,
        bundle,
        dialer,
        folder,
    });
    site.map(Arc::new).map_err(|error| Refusal::input(error.to_string()))
}
