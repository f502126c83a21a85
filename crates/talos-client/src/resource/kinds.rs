//! The resource types that the client reads, each with the fields in use (Talos 1.11 to 1.14, YAML spelling).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use secrecy::SecretString;
use serde::Deserialize;

use super::Resource;
use talos_schema::parse_documents;
use yaml::Origin;

/// The stage of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Unknown,
    Booting,
    Installing,
    Maintenance,
    Running,
    Rebooting,
    #[serde(rename = "shutting down")]
    ShuttingDown,
    Resetting,
    Upgrading,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Booting => "booting",
            Self::Installing => "installing",
            Self::Maintenance => "maintenance",
            Self::Running => "running",
            Self::Rebooting => "rebooting",
            Self::ShuttingDown => "shutting down",
            Self::Resetting => "resetting",
            Self::Upgrading => "upgrading",
        })
    }
}

/// Stage, readiness and unmet conditions. `ready` is meaningful only in `booting` and `running`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineStatus {
    pub stage: Stage,
    pub ready: bool,
    /// Unmet conditions, each with its reason.
    pub unmet: Vec<String>,
}

impl Resource for MachineStatus {
    const NAMESPACE: &'static str = "runtime";
    const TYPE: &'static str = "MachineStatuses.runtime.talos.dev";

    fn read(yaml: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Spec {
            stage: Stage,
            status: Status,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Status {
            #[serde(default)]
            ready: bool,
            #[serde(default)]
            unmet_conditions: Option<Vec<Unmet>>,
        }
        #[derive(Deserialize)]
        struct Unmet {
            name: String,
            #[serde(default)]
            reason: String,
        }
        let spec: Spec = serde_saphyr::from_str(yaml).ok()?;
        let unmet = spec.status.unmet_conditions.unwrap_or_default();
        Some(Self {
            stage: spec.stage,
            ready: spec.status.ready,
            unmet: unmet.into_iter().map(|condition| format!("{}: {}", condition.name, condition.reason)).collect(),
        })
    }
}

/// The active config as text.
#[derive(Debug, Clone)]
pub struct MachineConfig(pub SecretString);

impl Resource for MachineConfig {
    const NAMESPACE: &'static str = "config";
    const TYPE: &'static str = "MachineConfigs.config.talos.dev";

    /// Up to 1.11 the spec is the config; from 1.12 on it is a string with the config.
    fn read(yaml: &str) -> Option<Self> {
        let quoted = serde_saphyr::from_str::<String>(yaml).ok();
        let plain = || {
            let documents = parse_documents(&Origin::new("<machine config>"), yaml);
            documents.is_ok_and(|documents| !documents.0.is_empty()).then(|| yaml.to_owned())
        };
        quoted.or_else(plain).map(|text| Self(text.into()))
    }
}

/// The machine type of the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineType {
    Unknown,
    Init,
    ControlPlane,
    Worker,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident in $namespace:literal is $kind:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        read_as_is!($name, $namespace, $kind);
    )*};
}

macro_rules! read_as_is {
    ($name:ident, $namespace:literal, $kind:literal) => {
        impl Resource for $name {
            const NAMESPACE: &'static str = $namespace;
            const TYPE: &'static str = $kind;

            fn read(yaml: &str) -> Option<Self> {
                serde_saphyr::from_str(yaml).ok()
            }
        }
    };
}

read_as_is!(MachineType, "config", "MachineTypes.config.talos.dev");

kinds! {
    /// `version`: the running Talos, also in maintenance mode.
    RunningVersion in "runtime" is "Versions.runtime.talos.dev" {
        version: String,
    }

    /// `securitystate`.
    SecurityState in "runtime" is "SecurityStates.talos.dev" {
        #[serde(default)]
        secure_boot: bool,
    }

    /// A problem of the machine, by the id of the problem; healthy machines have none.
    Diagnostic in "runtime" is "Diagnostics.runtime.talos.dev" {
        message: String,
        #[serde(default)]
        details: Option<Vec<String>>,
    }

    /// `unattended-install`, from 1.14 on.
    UnattendedInstallStatus in "runtime" is "UnattendedInstallStatuses.runtime.talos.dev" {
        #[serde(default)]
        image: String,
        /// `pending`, `installing`, `installed`, `waiting-for-reboot`, `failed`.
        #[serde(default)]
        phase: String,
        #[serde(default)]
        error: String,
    }

    /// `reboot-request`, from 1.14 on: the node is about to reboot, after an unattended installation.
    RebootRequest in "runtime" is "RebootRequests.runtime.talos.dev" {
        #[serde(default)]
        reason: String,
    }

    /// `boot-id`, from 1.14 on.
    BootId in "runtime" is "BootIDs.runtime.talos.dev" {
        #[serde(rename = "bootID")]
        boot_id: String,
    }

    /// A discovered machine of the same cluster, by name.
    Member in "cluster" is "Members.cluster.talos.dev" {
        addresses: Vec<IpAddr>,
        hostname: String,
        machine_type: MachineType,
        operating_system: String,
    }

    /// `local`.
    Identity in "cluster" is "Identities.cluster.talos.dev" {
        node_id: String,
    }

    /// `current`: the cluster that the machine belongs to.
    ClusterInfo in "cluster" is "Infos.cluster.talos.dev" {
        cluster_id: String,
        cluster_name: String,
    }

    /// `nodename`: the Kubernetes node name.
    Nodename in "k8s" is "Nodenames.kubernetes.talos.dev" {
        nodename: String,
    }

    /// By Kubernetes node name.
    NodeStatus in "k8s" is "NodeStatuses.kubernetes.talos.dev" {
        nodename: String,
        node_ready: bool,
        unschedulable: bool,
    }

    /// By service id.
    ServiceStatus in "runtime" is "Services.v1alpha1.talos.dev" {
        running: bool,
        healthy: bool,
        unknown: bool,
    }

    /// One for each type that the node has.
    ResourceDefinition in "meta" is "ResourceDefinitions.meta.cosi.dev" {
        /// The full name, such as `MachineStatuses.runtime.talos.dev`.
        #[serde(rename = "type")]
        name: String,
        default_namespace: String,
        /// In lower case; `aliases` among them.
        #[serde(default)]
        all_aliases: Vec<String>,
    }

    /// `node`: clock synchronization.
    TimeStatus in "runtime" is "TimeStatuses.v1alpha1.talos.dev" {
        synced: bool,
        #[serde(default)]
        sync_disabled: bool,
    }

    /// `local`: the member id in hexadecimal.
    EtcdMemberId in "etcd" is "EtcdMembers.etcd.talos.dev" {
        #[serde(rename = "memberID")]
        member_id: String,
    }

    /// `etcd`: the parameters to start etcd with. Without it etcd waits (failure T14).
    EtcdSpec in "etcd" is "EtcdSpecs.etcd.talos.dev" {
        name: String,
        #[serde(default)]
        advertised_addresses: Option<Vec<IpAddr>>,
        image: String,
    }

    /// `system-disk`, once Talos is installed.
    SystemDisk in "runtime" is "SystemDisks.block.talos.dev" {
        #[serde(rename = "diskID")]
        disk_id: String,
        dev_path: String,
    }

    /// By volume label, such as `EPHEMERAL`.
    VolumeStatus in "runtime" is "VolumeStatuses.block.talos.dev" {
        /// Such as `ready`, `failed`, `waiting`.
        phase: String,
        #[serde(default)]
        location: String,
        #[serde(default)]
        size: u64,
        #[serde(default)]
        error_message: String,
    }

    /// By link name.
    LinkStatus in "network" is "LinkStatuses.net.talos.dev" {
        /// Such as `ether`.
        #[serde(rename = "type")]
        link_type: String,
        /// Empty for a physical device.
        #[serde(default)]
        kind: String,
        #[serde(default)]
        hardware_addr: String,
        #[serde(default)]
        mtu: u32,
        /// Such as `up`.
        #[serde(default)]
        operational_state: String,
        #[serde(default)]
        bus_path: String,
        #[serde(default)]
        driver: String,
        #[serde(default)]
        link_state: bool,
    }

    /// By link and address.
    AddressStatus in "network" is "AddressStatuses.net.talos.dev" {
        address: IpNet,
        link_name: String,
    }

    /// `current`, `default`, `routed`, `accumulative`, and those with a filter.
    NodeAddress in "network" is "NodeAddresses.net.talos.dev" {
        #[serde(default)]
        addresses: Option<Vec<IpNet>>,
    }

    /// `hostname`.
    HostnameStatus in "network" is "HostnameStatuses.net.talos.dev" {
        hostname: String,
        #[serde(default)]
        domainname: String,
    }

    /// `status`.
    NetworkStatus in "network" is "NetworkStatuses.net.talos.dev" {
        address_ready: bool,
        connectivity_ready: bool,
        hostname_ready: bool,
        etc_files_ready: bool,
    }
}

/// A disk or another block device, by name. The only type whose fields are in snake case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BlockDevice {
    pub dev_path: String,
    pub size: u64,
    #[serde(default)]
    pub readonly: bool,
    #[serde(default)]
    pub cdrom: bool,
    #[serde(default)]
    pub model: String,
    #[serde(default)]
    pub serial: String,
    #[serde(default)]
    pub modalias: String,
    #[serde(default)]
    pub uuid: String,
    #[serde(default)]
    pub wwid: String,
    #[serde(default)]
    pub bus_path: String,
    #[serde(default)]
    pub transport: String,
    #[serde(default)]
    pub rotational: bool,
    #[serde(default)]
    pub symlinks: Vec<String>,
}

read_as_is!(BlockDevice, "runtime", "Disks.block.talos.dev");

/// A static pod, by `kube-system/<pod>-<node>`: its Kubernetes status, which Talos reads from the kubelet every 15 s while
/// that runs (1.11 to 1.14, `kubelet_static_pod.go`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StaticPodStatus {
    pub phase: String,
    /// The status of each condition, such as `Ready`.
    pub conditions: BTreeMap<String, bool>,
    pub containers: Vec<StaticPodContainer>,
}

/// A container of a static pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticPodContainer {
    pub name: String,
    /// Why it does not run.
    pub waiting: Option<ContainerWait>,
    /// How it ended last.
    pub last_end: Option<ContainerEnd>,
}

/// Why a container waits, such as `CrashLoopBackOff` or `ImagePullBackOff`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ContainerWait {
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerEnd {
    pub exit_code: i32,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

impl Resource for StaticPodStatus {
    const NAMESPACE: &'static str = "k8s";
    const TYPE: &'static str = "StaticPodStatuses.kubernetes.talos.dev";

    fn read(yaml: &str) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            #[serde(default)]
            phase: String,
            #[serde(default)]
            conditions: Vec<Condition>,
            #[serde(default)]
            init_container_statuses: Vec<Container>,
            #[serde(default)]
            container_statuses: Vec<Container>,
        }
        #[derive(Deserialize)]
        struct Condition {
            #[serde(rename = "type")]
            name: String,
            status: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Container {
            name: String,
            #[serde(default)]
            state: State,
            #[serde(default)]
            last_state: State,
        }
        #[derive(Default, Deserialize)]
        struct State {
            waiting: Option<ContainerWait>,
            terminated: Option<ContainerEnd>,
        }
        let spec: Spec = serde_saphyr::from_str(yaml).ok()?;
        let conditions = spec.conditions.into_iter().map(|condition| (condition.name, condition.status == "True"));
        let containers = spec.init_container_statuses.into_iter().chain(spec.container_statuses);
        let containers = containers.map(|container| StaticPodContainer {
            name: container.name,
            waiting: container.state.waiting,
            last_end: container.state.terminated.or(container.last_state.terminated),
        });
        Some(Self { phase: spec.phase, conditions: conditions.collect(), containers: containers.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status that the kubelet reports (Kubernetes 1.35).
    const CRASHING: &str = r#"
phase: Running
conditions:
  - {type: Ready, status: "False", lastTransitionTime: "2026-01-01T00:00:00Z", lastProbeTime: null}
containerStatuses:
  - name: kube-apiserver
    ready: false
    restartCount: 4
    state: {waiting: {reason: CrashLoopBackOff, message: back-off 40s restarting failed container}}
    lastState: {terminated: {exitCode: 1, reason: Error, startedAt: "2026-01-01T00:00:00Z"}}
"#;

    #[test]
    fn a_static_pods_status_says_why_its_container_does_not_run() {
        let status = StaticPodStatus::read(CRASHING).unwrap();
        assert_eq!(status.conditions.get("Ready"), Some(&false));
        let container = &status.containers[0];
        assert_eq!(container.waiting.as_ref().unwrap().reason, "CrashLoopBackOff");
        let end = container.last_end.as_ref().unwrap();
        assert_eq!((end.exit_code, end.reason.as_str()), (1, "Error"));
        let running = "phase: Running\ncontainerStatuses: [{name: a, state: {running: {startedAt: x}}}]\n";
        assert_eq!(StaticPodStatus::read(running).unwrap().containers[0].waiting, None);
        assert_eq!(StaticPodStatus::read("phase: Pending\n").unwrap().containers, []);
    }
}
