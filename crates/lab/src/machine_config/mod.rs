//! Reading and validating the machine config that was applied to a simulated node.

mod document_kinds;
mod documents;
mod verdict;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use yaml::Origin;

use self::verdict::{WrittenConfig, legacy_error};
use crate::yaml_text::to_yaml;

/// The role of a node in its config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeRole {
    ControlPlane,
    Worker,
}

/// A certificate and, if the config has it, its key, as PEM.
#[derive(Clone, Default)]
pub(super) struct PemPair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl std::fmt::Debug for PemPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PemPair").finish_non_exhaustive()
    }
}

/// The parts of a machine config that the lab acts on.
#[derive(Clone)]
pub(super) struct AppliedConfig {
    pub(super) text: String,
    /// The settings as one document, to compare with another config.
    settings: Value,
    pub(super) role: NodeRole,
    pub(super) hostname: Option<String>,
    pub(super) ca: PemPair,
    pub(super) cert_sans: Vec<String>,
    pub(super) node_labels: BTreeMap<String, String>,
    pub(super) cluster_id: String,
    pub(super) cluster_name: String,
    /// Talos uses its discovery service only where the config enables it (1.11 to 1.14).
    pub(super) uses_discovery_service: bool,
    /// Empty if Talos chooses.
    pub(super) cni: String,
    pub(super) install_image: String,
    /// The config contains an `UnattendedInstallConfig` (1.14).
    pub(super) unattended_install: bool,
    pub(super) endpoint: String,
    pub(super) pod_subnets: Vec<String>,
    pub(super) service_subnets: Vec<String>,
    pub(super) kubernetes_ca: PemPair,
    pub(super) aggregator_ca: PemPair,
    pub(super) etcd_ca: PemPair,
    /// Of the addresses that etcd may advertise. Empty if all.
    pub(super) etcd_subnets: Vec<String>,
    pub(super) service_account_key: String,
    pub(super) secretbox_key: Option<String>,
    pub(super) api_server_sans: Vec<String>,
    /// The `--node-cidr-mask-size…` flags of the controller manager.
    pub(super) node_cidr_mask_flags: Vec<String>,
    pub(super) admission_control: Vec<Value>,
    pub(super) schedule_on_control_planes: bool,
    pub(super) kubelet_image: String,
}

impl std::fmt::Debug for AppliedConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppliedConfig")
            .field("role", &self.role)
            .field("hostname", &self.hostname)
            .finish_non_exhaustive()
    }
}

/// Why a machine rejects a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ConfigRejection {
    /// The error message of Talos's decoder.
    Parse(String),
    /// The findings of Talos's validation.
    Invalid(String),
    /// What the config alone does not show: this machine's Talos does not accept it.
    InvalidHere(String),
}

/// A config that a machine accepts.
#[derive(Debug, Clone)]
pub(super) struct AcceptedConfig {
    /// Absent if there is no `v1alpha1` document: such a config does not end maintenance mode.
    pub(super) complete: Option<AppliedConfig>,
    /// What Talos advises against.
    pub(super) warnings: Vec<String>,
}

impl NodeRole {
    /// For `lab status`.
    pub(super) fn display_name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control plane",
            Self::Worker => "worker",
        }
    }
}

impl AcceptedConfig {
    /// Reads and validates a config as the machine's Talos does in metal mode.
    pub(super) fn read(text: &str, reader: &ConfigReader) -> Result<Self, ConfigRejection> {
        let written = WrittenConfig::decode(text, reader)?;
        let warnings = written.validate(text, reader)?;
        let documents = written.contents();
        let Some(settings) = documents::to_single_document(&documents) else {
            return Ok(Self { complete: None, warnings });
        };
        let mut parser = ConfigParser { document: &settings, reader, problems: Vec::new() };
        let config = parser.config(text, &documents);
        if !parser.problems.is_empty() {
            return Err(ConfigRejection::Invalid(legacy_error(&parser.problems)));
        }
        parser.check_kubernetes(config.role);
        if !parser.problems.is_empty() {
            return Err(ConfigRejection::InvalidHere(legacy_error(&parser.problems)));
        }
        Ok(Self { complete: Some(config), warnings })
    }
}

impl AppliedConfig {
    /// Whether the machine can switch to another config without a reboot (Talos 1.11 to 1.13).
    pub(super) fn can_switch_without_reboot(&self, other: &Self) -> bool {
        let needs_reboot = |config: &Self| {
            let mut settings = config.settings.clone();
            for key in ["debug", "cluster"] {
                remove(&mut settings, "", key);
            }
            for key in LIVE_MACHINE_KEYS {
                remove(&mut settings, "/machine", key);
            }
            for key in LIVE_FEATURE_KEYS {
                remove(&mut settings, "/machine/features", key);
            }
            settings
        };
        needs_reboot(self) == needs_reboot(other)
    }
}

/// Keys of `machine` that take effect without a reboot.
const LIVE_MACHINE_KEYS: [&str; 18] = [
    "ca",
    "acceptedCAs",
    "time",
    "certSANs",
    "install",
    "network",
    "sysfs",
    "sysctls",
    "logging",
    "controlPlane",
    "kubelet",
    "kernel",
    "registries",
    "pods",
    "seccompProfiles",
    "nodeAnnotations",
    "nodeLabels",
    "nodeTaints",
];
/// Keys of `machine.features` that take effect without a reboot.
const LIVE_FEATURE_KEYS: [&str; 5] =
    ["kubernetesTalosAPIAccess", "kubePrism", "hostDNS", "imageCache", "nodeAddressSortAlgorithm"];

fn remove(settings: &mut Value, parent: &str, key: &str) {
    if let Some(Value::Object(mapping)) = settings.pointer_mut(parent) {
        mapping.shift_remove(key);
    }
}

/// The documents of a text that was decoded before.
fn parse_documents(text: &str) -> Vec<Value> {
    let documents = yaml::parse(&Origin::new("<machine config>"), text).unwrap_or_default();
    documents.iter().map(yaml::Node::to_json).filter(|document| !document.is_null()).collect()
}

/// A config in a canonical form, to compare it with another.
pub(super) fn canonical(text: &str) -> String {
    let texts: Vec<String> = parse_documents(text).iter().map(to_yaml).collect();
    texts.join("---\n")
}

/// Whether Talos is installed on the machine's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SystemState {
    Installed,
    NotInstalled,
}

/// The minor versions of Kubernetes that a Talos 1.`minor` accepts: each minor version of Talos moves them by one
/// (`pkg/machinery/compatibility`, 1.11 to 1.14).
fn kubernetes_minors(minor: u64) -> RangeInclusive<u64> {
    minor + 18..=minor + 23
}

/// Why a Talos does not run the Kubernetes of an image.
fn kubernetes_problem(image: &str, talos: &semver::Version) -> Option<String> {
    let Some((_, tag)) = image.rsplit_once(":v") else {
        let from = "failed to parse Kubernetes version from image reference";
        return Some(format!("{from} {image:?}: invalid image reference: {image:?}"));
    };
    let version = semver::Version::parse(tag.split('@').next().unwrap_or(tag)).ok()?;
    let minors = kubernetes_minors(talos.minor);
    let age = match version.minor {
        minor if minor < *minors.start() => "old",
        minor if minor > *minors.end() => "new",
        _ => return None,
    };
    Some(format!("version of Kubernetes {version} is too {age} to be used with Talos {talos}"))
}

/// How a machine validates a config.
#[derive(Debug, Clone)]
pub(super) struct ConfigReader {
    pub(super) talos: semver::Version,
    /// A machine without an installed system needs an install disk in the config.
    pub(super) system: SystemState,
}

struct ConfigParser<'d> {
    document: &'d Value,
    reader: &'d ConfigReader,
    problems: Vec<String>,
}

impl ConfigParser<'_> {
    fn text(&self, pointer: &str) -> String {
        self.document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn is_true(&self, pointer: &str) -> bool {
        self.document.pointer(pointer) == Some(&Value::Bool(true))
    }

    fn list(&self, pointer: &str) -> Vec<String> {
        let items = self.document.pointer(pointer).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    fn node_cidr_mask_flags(&self) -> Vec<String> {
        let given = self.document.pointer("/cluster/controllerManager/extraArgs").and_then(Value::as_object);
        let masks = given.into_iter().flatten().filter(|(name, _)| name.starts_with("node-cidr-mask-size"));
        masks.filter_map(|(name, value)| Some(format!("--{name}={}", value.as_str()?))).collect()
    }

    fn decoded(&mut self, pointer: &str) -> String {
        let encoded = self.text(pointer);
        if let Some(text) = STANDARD.decode(&encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
            return text;
        }
        self.problems.push(format!("{} is not valid base64", pointer.trim_start_matches('/').replace('/', ".")));
        String::new()
    }

    fn pair(&mut self, pointer: &str) -> PemPair {
        PemPair { certificate: self.decoded(&format!("{pointer}/crt")), key: self.decoded(&format!("{pointer}/key")) }
    }

    fn report(&mut self, problem: &str) {
        self.problems.push(problem.to_owned());
    }

    /// The section may be absent from 1.14 on.
    fn check_install_section(&mut self) {
        let is_required = self.reader.system == SystemState::NotInstalled && self.reader.talos.minor < 14;
        if is_required && self.document.pointer("/machine/install").is_none() {
            self.report("install instructions are required in \"metal\" mode");
        }
    }

    /// Talos runs the Kubernetes of its time only (`ValidateKubernetesImageTag`, 1.11 to 1.14).
    fn check_kubernetes(&mut self, role: NodeRole) {
        let control_plane = [
            ("kube-apiserver", "/cluster/apiServer/image"),
            ("kube-controller-manager", "/cluster/controllerManager/image"),
            ("kube-scheduler", "/cluster/scheduler/image"),
        ];
        let control_plane = control_plane.into_iter().filter(|_| role == NodeRole::ControlPlane);
        for (program, pointer) in std::iter::once(("kubelet", "/machine/kubelet/image")).chain(control_plane) {
            // Talos has a default for an image that is not given.
            let image = Some(self.text(pointer)).filter(|image| !image.is_empty());
            if let Some(problem) = image.and_then(|image| kubernetes_problem(&image, &self.reader.talos)) {
                self.problems.push(format!("{program} image is not valid: {problem}"));
            }
        }
    }

    /// The machine type is one that Talos knows.
    fn config(&mut self, text: &str, documents: &[Value]) -> AppliedConfig {
        let role = match self.text("/machine/type").as_str() {
            "controlplane" | "init" => NodeRole::ControlPlane,
            _ => NodeRole::Worker,
        };
        let ca = self.pair("/machine/ca");
        let kubernetes_ca = self.pair("/cluster/ca");
        let endpoint = self.text("/cluster/controlPlane/endpoint");
        if endpoint.is_empty() {
            self.report("cluster controlplane endpoint is required");
        }
        self.check_install_section();
        let control_plane = role == NodeRole::ControlPlane;
        let hostname = Some(self.text("/machine/network/hostname")).filter(|name| !name.is_empty());
        let unattended = Some(&Value::from("UnattendedInstallConfig"));
        let labels = self.document.pointer("/machine/nodeLabels").and_then(Value::as_object);
        let node_labels = labels
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        AppliedConfig {
            text: text.to_owned(),
            settings: self.document.clone(),
            role,
            hostname,
            ca,
            cert_sans: self.list("/machine/certSANs"),
            node_labels,
            cluster_id: self.text("/cluster/id"),
            cluster_name: self.text("/cluster/clusterName"),
            uses_discovery_service: self.is_true("/cluster/discovery/enabled")
                && !self.is_true("/cluster/discovery/registries/service/disabled"),
            cni: self.text("/cluster/network/cni/name"),
            install_image: self.text("/machine/install/image"),
            unattended_install: documents.iter().any(|document| document.get("kind") == unattended),
            endpoint,
            pod_subnets: self.list("/cluster/network/podSubnets"),
            service_subnets: self.list("/cluster/network/serviceSubnets"),
            kubernetes_ca,
            aggregator_ca: if control_plane { self.pair("/cluster/aggregatorCA") } else { PemPair::default() },
            etcd_ca: if control_plane { self.pair("/cluster/etcd/ca") } else { PemPair::default() },
            etcd_subnets: self.list("/cluster/etcd/advertisedSubnets"),
            service_account_key: if control_plane {
                self.decoded("/cluster/serviceAccount/key")
            } else {
                String::new()
            },
            secretbox_key: Some(self.text("/cluster/secretboxEncryptionSecret")).filter(|key| !key.is_empty()),
            api_server_sans: self.list("/cluster/apiServer/certSANs"),
            node_cidr_mask_flags: self.node_cidr_mask_flags(),
            admission_control: self
                .document
                .pointer("/cluster/apiServer/admissionControl")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
            schedule_on_control_planes: self.is_true("/cluster/allowSchedulingOnControlPlanes"),
            kubelet_image: self.text("/machine/kubelet/image"),
        }
    }
}

#[cfg(test)]
mod tests;
