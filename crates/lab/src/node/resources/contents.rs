//! The specs of a machine's resources, from its state and the node directory.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::hardware;
use super::kinds::{self, ResourceKind};
use super::{ResourceItem, messages as api};
use crate::machine_config::{AppliedConfig, NodeRole};
use crate::node::services::ServiceState;
use crate::node::storage::{ephemeral_size, format_size};
use crate::node::{NodeService, NodeState, SimulatedNode, UnattendedInstall};
use crate::scenario::DiscoveryService;
use crate::spec::DiskSpec;

/// The default of Talos 1.12.4.
const ETCD_IMAGE: &str = "registry.k8s.io/etcd:v3.6.7";

/// All resources of a kind.
pub(super) fn items(node: &SimulatedNode, kind: &ResourceKind) -> Vec<ResourceItem> {
    let state = node.state.borrow().clone();
    let name = kind.full_name();
    match name.split('.').next().unwrap_or_default() {
        "ResourceDefinitions" => kinds::definitions(&state.talos),
        "Namespaces" => kinds::namespaces(&state.talos),
        "Members" => members(node),
        "MachineConfigs" => machine_configs(&state),
        "Services" => services(&state),
        "VolumeStatuses" => volumes(&state, &node.spec.disk),
        "NodeAddresses" => hardware::node_addresses(node),
        "BootIDs" => vec![ResourceItem::new("boot-id", &text(&state.boot_id), json!({"bootID": state.boot_id}))],
        "AddressStatuses" => hardware::addresses(node),
        "LinkStatuses" => hardware::links(node),
        "Disks" => hardware::disks(&node.spec.disk),
        "CertSANs" => cert_sans(node, &state),
        "StaticPodStatuses" => super::static_pods::statuses(&state, &node.hostname()),
        "HostnameStatuses" => {
            let name = node.hostname();
            vec![ResourceItem::new("hostname", &text(&name), json!({"hostname": name, "domainname": ""}))]
        }
        singleton => singletons(node, &state, singleton).into_iter().collect(),
    }
}

fn text(text: &str) -> api::Text {
    api::Text { text: text.to_owned() }
}

fn singletons(node: &SimulatedNode, state: &NodeState, kind: &str) -> Option<ResourceItem> {
    let config = state.config.as_ref();
    match kind {
        "MachineStatuses" => Some(machine_status(node, state)),
        "Versions" => {
            let tag = state.talos.tag();
            let message = api::Version { version: tag.to_owned(), name: "Talos".to_owned() };
            Some(ResourceItem::new("version", &message, json!({"version": tag, "name": "Talos"})))
        }
        "SecurityStates" => {
            let message = api::SecurityState { secure_boot: false };
            Some(ResourceItem::new("securitystate", &message, json!({"secureBoot": false, "seLinuxState": "disabled"})))
        }
        "UnattendedInstallStatuses" => state.unattended.map(|phase| unattended(state, phase)),
        "RebootRequests" => (state.unattended == Some(UnattendedInstall::WaitingForReboot))
            .then(|| ResourceItem::new("reboot-request", &(), json!({"reason": "unattended install is finished"}))),
        "MachineTypes" => {
            let machine_type = config.map_or(MachineType::UNKNOWN, |config| MachineType::from_role(config.role));
            let message = api::Number { number: machine_type.number };
            Some(ResourceItem::new("machine-type", &message, json!(machine_type.name)))
        }
        "Identities" => {
            let id = node_id(node);
            Some(ResourceItem::new("local", &text(&id), json!({"nodeId": id})))
        }
        "Infos" => config.map(|config| {
            let (cluster_id, cluster_name) = (config.cluster_id.clone(), config.cluster_name.clone());
            let text = json!({"clusterId": cluster_id, "clusterName": cluster_name});
            ResourceItem::new("current", &api::Info { cluster_id, cluster_name }, text)
        }),
        "Nodenames" => config.map(|_| {
            let name = node.hostname();
            let shown = json!({"nodename": name, "hostnameVersion": "1", "skipNodeRegistration": false});
            ResourceItem::new("nodename", &text(&name), shown)
        }),
        "NodeStatuses" => state.registered.then(|| node_status(node, state)),
        "BootstrapManifestsConfigs" => config.filter(|config| config.role == NodeRole::ControlPlane).map(|config| {
            let cni_name = config.cni.clone();
            let shown = json!({"cniName": cni_name});
            ResourceItem::new("manifests", &api::BootstrapManifestsConfig { cni_name }, shown)
        }),
        "TimeStatuses" => {
            let synced = node.has_synced_clock();
            let message = api::TimeStatus { synced, epoch: 1 };
            Some(ResourceItem::new("node", &message, json!({"synced": synced, "epoch": 1, "syncDisabled": false})))
        }
        "EtcdSpecs" => config.and_then(|config| etcd_spec(node, config)),
        "SystemDisks" => state.disk.installed.as_ref().map(|_| {
            let disk = &node.spec.disk;
            let message = api::SystemDisk { disk_id: disk.name.clone(), dev_path: disk.path() };
            ResourceItem::new("system-disk", &message, json!({"diskID": disk.name, "devPath": disk.path()}))
        }),
        "NetworkStatuses" => {
            let message = api::NetworkStatus {
                address_ready: true,
                connectivity_ready: true,
                hostname_ready: true,
                etc_files_ready: true,
            };
            let shown = json!({
                "addressReady": true, "connectivityReady": true, "hostnameReady": true, "etcFilesReady": true,
            });
            Some(ResourceItem::new("status", &message, shown))
        }
        // Kinds that a simulated machine has no resources of.
        _ => None,
    }
}

fn machine_status(node: &SimulatedNode, state: &NodeState) -> ResourceItem {
    let message = state.machine_status(&node.hostname());
    let status = message.status.clone().unwrap_or_default();
    let unmet = status.unmet_conditions.iter();
    let unmet: Vec<Value> =
        unmet.map(|condition| json!({"name": condition.name, "reason": condition.reason})).collect();
    let shown = json!({
        "stage": state.stage.name(),
        "status": {"ready": status.ready, "unmetConditions": unmet},
    });
    ResourceItem::new("machine", &message, shown)
}

fn unattended(state: &NodeState, phase: UnattendedInstall) -> ResourceItem {
    let (number, name) = match phase {
        UnattendedInstall::Installing => (1, "installing"),
        UnattendedInstall::Installed => (2, "installed"),
        UnattendedInstall::WaitingForReboot => (3, "waiting for reboot"),
    };
    let image = state.config.as_ref().map(|config| config.install_image.clone()).unwrap_or_default();
    let shown = json!({"image": image, "phase": name});
    let message = api::UnattendedInstallStatus { image, phase: number, error: String::new() };
    ResourceItem::new("unattended-install", &message, shown)
}

/// The config as a YAML string that contains YAML. In 1.11, the YAML itself.
fn machine_configs(state: &NodeState) -> Vec<ResourceItem> {
    let item = |id: &str, config: &str| {
        let message = api::MachineConfig { yaml_marshalled: config.as_bytes().to_vec() };
        if state.talos.minor() < 12 {
            ResourceItem::with_yaml_text(id, &message, config)
        } else {
            ResourceItem::new(id, &message, json!(config))
        }
    };
    let active = state.config.as_ref().map(|config| config.text.as_str()).or(state.partial.as_deref());
    let persistent = state.disk.config.as_ref().map(|config| config.text.as_str());
    [("v1alpha1", active), ("persistent", persistent)]
        .into_iter()
        .filter_map(|(id, config)| Some(item(id, config?)))
        .collect()
}

/// A machine type by its number in the API and its name.
struct MachineType {
    number: i32,
    name: &'static str,
}

impl MachineType {
    const UNKNOWN: Self = Self { number: 0, name: "unknown" };

    fn from_role(role: NodeRole) -> Self {
        match role {
            NodeRole::ControlPlane => Self { number: 2, name: "controlplane" },
            NodeRole::Worker => Self { number: 3, name: "worker" },
        }
    }
}

/// A node ID in Talos's form, which is base62 of random bytes. This one is derived from the name.
fn node_id(node: &SimulatedNode) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(node.name());
    let letters = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    digest.iter().map(|byte| char::from(letters[usize::from(*byte) % letters.len()])).collect()
}

/// The nodes that discovery knows: the installed ones with a config of the same cluster.
fn members(node: &SimulatedNode) -> Vec<ResourceItem> {
    let Some(own) = node.config() else { return vec![] };
    let nodes = node.lab.directory.all();
    let knows_others = own.uses_discovery_service && node.lab.scenario.discovery.service == DiscoveryService::Reachable;
    let mut members: Vec<ResourceItem> = nodes
        .iter()
        .filter(|other| knows_others || other.name() == node.name())
        .filter_map(|other| {
            let state = other.state.borrow();
            let config = state.config.as_ref().filter(|config| config.cluster_id == own.cluster_id)?;
            state.disk.installed.as_ref()?;
            let machine_type = MachineType::from_role(config.role);
            let (hostname, id) = (config.hostname.clone().unwrap_or_else(|| other.name().to_owned()), node_id(other));
            let system = format!("Talos ({})", state.talos.tag());
            let is_control_plane = config.role == NodeRole::ControlPlane;
            let message = api::Member {
                node_id: id.clone(),
                addresses: vec![other.address().into()],
                hostname: hostname.clone(),
                machine_type: machine_type.number,
                operating_system: system.clone(),
                control_plane: is_control_plane.then_some(api::ControlPlane { api_server_port: 6443 }),
            };
            let mut shown = json!({
                "nodeId": id, "addresses": [other.address()], "hostname": hostname, "machineType": machine_type.name,
                "operatingSystem": system,
            });
            if is_control_plane {
                shown["controlPlane"] = json!({"port": 6443});
            }
            Some(ResourceItem::new(&hostname, &message, shown))
        })
        .collect();
    members.sort_by(|a, b| a.id.cmp(&b.id));
    members
}

fn node_status(node: &SimulatedNode, state: &NodeState) -> ResourceItem {
    let nodename = node.hostname();
    let shown = json!({
        "nodename": nodename, "nodeReady": state.node_ready, "unschedulable": false, "labels": {}, "annotations": {},
    });
    let message = api::NodeStatus { nodename: nodename.clone(), node_ready: state.node_ready, unschedulable: false };
    ResourceItem::new(&nodename, &message, shown)
}

fn services(state: &NodeState) -> Vec<ResourceItem> {
    let item = |(id, service): (&&str, &NodeService)| {
        let message = api::Service {
            running: service.state == ServiceState::Running,
            healthy: service.healthy == Some(true),
            unknown: service.healthy.is_none(),
        };
        let shown = json!({"running": message.running, "healthy": message.healthy, "unknown": message.unknown});
        ResourceItem::new(id, &message, shown)
    };
    state.services.iter().map(item).collect()
}

fn volumes(state: &NodeState, disk: &DiskSpec) -> Vec<ResourceItem> {
    if state.disk.installed.is_none() {
        return vec![];
    }
    [("EPHEMERAL", 5, ephemeral_size(disk)), ("META", 3, 1 << 20), ("STATE", 4, 100 << 20)]
        .into_iter()
        .map(|(id, index, size)| {
            let location = disk.partition(index);
            let message = api::VolumeStatus {
                phase: 6,
                location: location.clone(),
                size,
                pretty_size: format_size(size),
                volume_type: 0,
            };
            let shown = json!({
                "phase": "ready", "type": "partition", "location": location, "size": size,
                "prettySize": message.pretty_size,
            });
            ResourceItem::new(id, &message, shown)
        })
        .collect()
}

/// The parameters that etcd starts with. Without an address to advertise there are none, and etcd waits.
fn etcd_spec(node: &SimulatedNode, config: &AppliedConfig) -> Option<ResourceItem> {
    if config.role != NodeRole::ControlPlane || !node.advertises_etcd(config) {
        return None;
    }
    let (name, address) = (node.hostname(), node.address());
    let unspecified = IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED);
    let image = ETCD_IMAGE.to_owned();
    let shown = json!({
        "name": name, "advertisedAddresses": [address], "listenPeerAddresses": [unspecified],
        "listenClientAddresses": [unspecified], "image": image, "extraArgs": {},
    });
    let message = api::EtcdSpec {
        name,
        advertised_addresses: vec![address.into()],
        image,
        listen_peer_addresses: vec![unspecified.into()],
        listen_client_addresses: vec![unspecified.into()],
    };
    Some(ResourceItem::new("etcd", &message, shown))
}

/// The names in the certificate of the machine's API.
fn cert_sans(node: &SimulatedNode, state: &NodeState) -> Vec<ResourceItem> {
    let id = if state.config.is_some() { "api" } else { "maintenance" };
    let (hostname, ips) = (node.hostname(), vec![node.address(), std::net::Ipv4Addr::LOCALHOST.into()]);
    let shown = json!({"ips": ips, "dnsNames": [hostname], "fqdn": hostname});
    let message = api::CertSan {
        ips: ips.into_iter().map(Into::into).collect(),
        dns_names: vec![hostname.clone()],
        fqdn: hostname,
    };
    vec![ResourceItem::new(id, &message, shown)]
}
