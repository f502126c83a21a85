//! `k8s-bootstrap lab up|down|status`: the world of a rehearsal by itself.

use std::collections::BTreeMap;

use tokio::signal::unix::{SignalKind, signal};

use super::args::{ChartsArg, Common, ControlPlanesArg, LabCommand, Output, SecretsArg, WorldArgs};
use super::exit::{Exit, Refusal};
use super::setup::Place;
use super::{inputs, output, setup};
use bootstrap::steps;
use helmfile::{Chart, Release};
use lab::{DiskSpec, Lab, LabSpec, LabStatus, NodeSpec, ReleaseSpec, Scenario, lab_folder};
use repository::Cluster;
use secrets::Redactor;
use talos_client::BlockDevice;
use talos_client::install::InstallDisk;
use talos_config::{InventoryNode, SecretsBundle};

pub(super) async fn lab(common: &Common, command: LabCommand) -> Result<Exit, Refusal> {
    match command {
        LabCommand::Up { cluster, world } => up(common, &cluster, &world).await,
        LabCommand::Down { cluster } => down(common, &cluster).await,
        LabCommand::Status { cluster } => status(common, &cluster).await,
    }
}

/// Starts the lab of a cluster.
pub(super) async fn start(common: &Common, cluster: &Cluster, world: &WorldArgs) -> Result<Lab, Refusal> {
    let scenario = Scenario::load(&world.scenario).map_err(|error| Refusal::input(error.to_string()))?;
    let folder = lab_folder(&setup::state_folder(common)?, &cluster.name);
    if lab::query_status(&folder).await.is_ok() {
        return Err(Refusal {
            exit: Exit::Locked,
            message: format!("a lab of `{}` is up already", cluster.name),
            hint: Some(format!("end it: k8s-bootstrap lab down {}", cluster.name)),
        });
    }
    // What is left of a lab that was killed belongs to a world that is gone.
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .map_err(|error| Refusal::world(format!("{} cannot be cleared: {error}", folder.display())))?;
    }
    setup::make_private(&folder)?;
    let secrets = setup::bundle(common, cluster, Place::Lab, SecretsArg::Placeholder, &Redactor::default()).await?;
    let inventory = &cluster.inventory;
    let own = |address: &std::net::IpAddr| inventory.nodes.iter().any(|node| node.address == *address);
    let files = cluster.bootstrap.crd_files.iter().map(|file| file.url.clone());
    let spec = LabSpec {
        cluster: cluster.name.clone(),
        nodes: inventory
            .nodes
            .iter()
            .map(|node| NodeSpec {
                name: node.hostname.clone(),
                address: node.address,
                disk: disk(cluster, &secrets, node),
            })
            .collect(),
        releases: releases(cluster),
        crd_urls: files.chain(steps::urls(&cluster.bootstrap.releases)).collect(),
        vip: inventory.endpoint.address().filter(|address| !own(address)),
        api_port: inventory.endpoint.port,
        talos_version: inventory.talos_version.clone(),
        folder,
        charts: match world.charts {
            ChartsArg::StandIns => lab::ChartsFrom::StandIns,
            ChartsArg::Real => lab::ChartsFrom::Real,
        },
        api_servers: match world.control_planes {
            ControlPlanesArg::One => lab::ApiServers::One,
            ControlPlanesArg::All => lab::ApiServers::All,
        },
    };
    let lab = Lab::start(spec, scenario, &setup::toolbox(common), &|line| output::say(line)).await;
    lab.map_err(|error| Refusal::world(error.to_string()))
}

/// The disk of a simulated machine: one that the node's config means. Which disks the real machine has is asked there.
fn disk(cluster: &Cluster, secrets: &SecretsBundle, node: &InventoryNode) -> DiskSpec {
    let usual = DiskSpec::default();
    // A config that cannot be rendered is told by the run.
    let Ok(rendered) = cluster.inputs.render(secrets, node) else { return usual };
    let device = BlockDevice {
        dev_path: format!("/dev/{}", usual.name),
        size: usual.size,
        readonly: false,
        cdrom: false,
        model: usual.model,
        serial: usual.serial,
        modalias: usual.modalias,
        uuid: usual.uuid,
        wwid: usual.wwid,
        bus_path: usual.bus_path,
        transport: usual.transport,
        rotational: usual.rotational,
        symlinks: usual.symlinks,
    };
    let device = InstallDisk::from_config(&rendered.documents).with_matching_disk(device);
    DiskSpec {
        name: device.dev_path.trim_start_matches("/dev/").to_owned(),
        size: device.size,
        model: device.model,
        serial: device.serial,
        modalias: device.modalias,
        uuid: device.uuid,
        wwid: device.wwid,
        bus_path: device.bus_path,
        transport: device.transport,
        rotational: device.rotational,
        symlinks: device.symlinks,
    }
}

/// A chart's reference without its digest: what a lab serves are other bytes.
pub(super) fn unpinned(reference: &str) -> &str {
    reference.split('@').next().unwrap_or(reference)
}

/// What a run will install, as the lab serves and judges it.
fn releases(cluster: &Cluster) -> Vec<ReleaseSpec> {
    let spec = |release: &Release, crds_only: bool| {
        let (chart, version) = match &release.chart {
            Chart::Oci { reference, version } => (unpinned(reference).to_owned(), version.clone()),
            Chart::Repository { url, name, version } => {
                let place = url.split_once("://").map_or(url.as_str(), |(_, place)| place);
                (format!("{}/{name}", place.trim_end_matches('/')), version.clone())
            }
            Chart::Local(_) => return None,
        };
        Some(ReleaseSpec {
            namespace: release.id.namespace.clone(),
            name: release.id.name.clone(),
            chart,
            version,
            needs: release.needs.iter().map(ToString::to_string).collect(),
            crds_only,
        })
    };
    let bootstrap = &cluster.bootstrap;
    let crds = bootstrap.crds.releases.iter().filter_map(|release| spec(release, true));
    crds.chain(bootstrap.releases.releases.iter().filter_map(|release| spec(release, false))).collect()
}

/// Ends a lab and removes its folder unless it is to be kept.
pub(super) async fn end(lab: Lab, keep: bool) -> Result<(), Refusal> {
    let folder = lab.spec().folder.clone();
    lab.shut_down().await;
    if keep {
        output::say(&format!("kept: {}", folder.display()));
        return Ok(());
    }
    std::fs::remove_dir_all(&folder)
        .map_err(|error| Refusal::world(format!("{} cannot be removed: {error}", folder.display())))
}

/// Stays until Ctrl-C, a SIGTERM or `lab down`.
pub(super) async fn stay(lab: &Lab, what: &str) -> Result<(), Refusal> {
    let fail = |error: std::io::Error| Refusal::world(format!("signals cannot be caught: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let spec = lab.spec();
    output::say(&format!(
        "the lab of {} is up: {} nodes, seed {}; end it with Ctrl-C or `k8s-bootstrap lab down {}`\n{what}",
        spec.cluster,
        spec.nodes.len(),
        lab.seed(),
        spec.cluster
    ));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn up(common: &Common, cluster: &str, world: &WorldArgs) -> Result<Exit, Refusal> {
    let cluster = inputs::cluster(common, cluster, SecretsArg::Placeholder, &Redactor::default()).await?;
    inputs::warn(&cluster, &Redactor::default());
    let lab = start(common, &cluster, world).await?;
    stay(&lab, &format!("run against it: k8s-bootstrap {} --lab", cluster.name)).await?;
    end(lab, world.keep).await?;
    Ok(Exit::Done)
}

async fn down(common: &Common, cluster: &str) -> Result<Exit, Refusal> {
    let folder = lab_folder(&setup::state_folder(common)?, cluster);
    lab::request_shutdown(&folder).await.map_err(|error| Refusal::world(error.to_string()))?;
    Ok(Exit::Done)
}

async fn status(common: &Common, cluster: &str) -> Result<Exit, Refusal> {
    let folder = lab_folder(&setup::state_folder(common)?, cluster);
    let status = lab::query_status(&folder).await.map_err(|error| Refusal::world(error.to_string()))?;
    output::data(&match common.output {
        Output::Json => serde_json::to_string_pretty(&status).map_err(|error| Refusal::world(error.to_string()))?,
        Output::Text => table(&status),
    });
    Ok(Exit::Done)
}

fn table(status: &LabStatus) -> String {
    let mut lines = vec![format!("{:<20} {:<16} {:<14} {:<12} PORT", "NODE", "ADDRESS", "ROLE", "STAGE")];
    for node in &status.nodes {
        let port = if node.port_open { "open" } else { "closed" };
        lines.push(format!("{:<20} {:<16} {:<14} {:<12} {port}", node.name, node.address, node.role, node.stage));
    }
    let role = |learner: bool| if learner { "learner" } else { "voter" };
    lines.extend(
        status
            .members
            .iter()
            .map(|member| format!("etcd member {:<16} {:<17} {}", member.name, member.id, role(member.learner))),
    );
    lines.push(format!("API ready: {}", status.api_ready));
    lines.push(format!("seed: {}", status.seed));
    let mut calls: BTreeMap<&str, u64> = BTreeMap::new();
    for (method, count) in status.record.calls.values().flatten() {
        *calls.entry(method).or_default() += count;
    }
    let calls: Vec<String> = calls.iter().map(|(method, count)| format!("{method} {count}")).collect();
    lines.push(format!("calls: {}", calls.join(", ")));
    lines.push(format!("Bootstrap calls accepted: {}", status.record.bootstrap_accepted));
    lines.join("\n")
}
