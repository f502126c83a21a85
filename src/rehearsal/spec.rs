//! From a cluster to the specification of its lab.

use std::path::PathBuf;

use ::lab::{ApiServers, ChartsFrom, DiskSpec, FluxControllers, FluxRelease, LabSpec, NodeSpec, ReleaseSpec};
use bootstrap::steps;
use helmfile::{Chart, Release};
use repository::{ChartOrigin, Cluster};
use talos_client::BlockDevice;
use talos_client::install::InstallDisk;
use talos_config::{InventoryNode, SecretsBundle};

/// The lab that serves what a run of the cluster needs.
pub(super) fn lab_spec(
    cluster: &Cluster,
    secrets: &SecretsBundle,
    folder: PathBuf,
    charts: ChartsFrom,
    api_servers: ApiServers,
) -> LabSpec {
    let inventory = &cluster.inventory;
    let is_node = |address: &std::net::IpAddr| inventory.nodes.iter().any(|node| node.address == *address);
    let crd_files = cluster.bootstrap.crd_files.iter().map(|file| file.url.clone());
    let node = |node: &InventoryNode| NodeSpec {
        name: node.hostname.clone(),
        address: node.address,
        disk: disk(cluster, secrets, node),
    };
    LabSpec {
        cluster: cluster.name.clone(),
        nodes: inventory.nodes.iter().map(node).collect(),
        releases: releases(cluster),
        crd_urls: crd_files.chain(steps::hooks::urls(&cluster.bootstrap.releases)).collect(),
        vip: inventory.endpoint.address().filter(|address| !is_node(address)),
        api_port: inventory.endpoint.port,
        talos_version: inventory.talos_version.clone(),
        folder,
        charts,
        api_servers,
        flux: FluxControllers::Played,
    }
}

/// The disk of a simulated node: one that matches the node's install disk or selector.
fn disk(cluster: &Cluster, secrets: &SecretsBundle, node: &InventoryNode) -> DiskSpec {
    let default = DiskSpec::default();
    // The run reports a config that cannot be rendered.
    let Ok(rendered) = cluster.inputs.render(secrets, node) else { return default };
    let device = BlockDevice {
        dev_path: format!("/dev/{}", default.name),
        size: default.size,
        readonly: false,
        cdrom: false,
        model: default.model,
        serial: default.serial,
        modalias: default.modalias,
        uuid: default.uuid,
        wwid: default.wwid,
        bus_path: default.bus_path,
        transport: default.transport,
        rotational: default.rotational,
        symlinks: default.symlinks,
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

/// A chart reference without its digest: a lab's stand-ins have others.
fn without_digest(reference: &str) -> &str {
    reference.split('@').next().unwrap_or(reference)
}

/// The releases that a run will install.
fn releases(cluster: &Cluster) -> Vec<ReleaseSpec> {
    let spec = |release: &Release, flux: FluxRelease| {
        let (chart, version) = match &release.chart {
            Chart::Oci { reference, version } => (without_digest(reference).to_owned(), version.clone()),
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
            flux,
        })
    };
    let bootstrap = &cluster.bootstrap;
    let crds = bootstrap.crds.releases.iter().filter_map(|release| spec(release, FluxRelease::NotAdopted));
    let adopted = bootstrap.releases.releases.iter();
    crds.chain(adopted.filter_map(|release| spec(release, flux_release(cluster, release)))).collect()
}

/// How Flux takes a release over, by its HelmRelease in the repository.
fn flux_release(cluster: &Cluster, release: &Release) -> FluxRelease {
    let Some(flux) = cluster.flux.counterpart(release).filter(|flux| flux.suspended.is_none()) else {
        return FluxRelease::NotAdopted;
    };
    match flux.chart {
        Ok(chart) if chart.source == ChartOrigin::OciRepository => FluxRelease::FromOciRepository,
        _ => FluxRelease::FromChartTemplate,
    }
}
