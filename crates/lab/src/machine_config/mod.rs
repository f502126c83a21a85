//! Reading and validating the machine config that was applied to a simulated node.

mod document_kinds;
mod documents;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use yaml::Origin;

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
    Invalid(Vec<String>),
    /// The documents are valid but do not include a `v1alpha1` document.
    Incomplete,
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

impl AppliedConfig {
    /// Reads and validates a config as the machine's Talos does in metal mode.
    pub(super) fn parse(text: &str, reader: ConfigReader) -> Result<Self, ConfigRejection> {
        let documents = parse_documents(text)?;
        if let Some(kind) = documents.iter().find_map(|document| reader.unknown_kind(document)) {
            let reason = format!("error decoding document v1alpha1/{kind}/: {kind:?} \"v1alpha1\": not registered");
            return Err(ConfigRejection::Parse(reason));
        }
        let Some(settings) = documents::to_single_document(&documents) else { return Err(ConfigRejection::Incomplete) };
        if settings.get("version") != Some(&Value::from("v1alpha1")) {
            return Err(ConfigRejection::Parse("unknown version in the configuration".to_owned()));
        }
        let mut parser = ConfigParser { document: &settings, reader, problems: Vec::new() };
        let config = parser.config(text, &documents);
        match (config, parser.problems.is_empty()) {
            (Some(config), true) => Ok(config),
            _ => Err(ConfigRejection::Invalid(parser.problems)),
        }
    }

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

fn parse_documents(text: &str) -> Result<Vec<Value>, ConfigRejection> {
    let documents = yaml::parse(&Origin::new("<machine config>"), text);
    let documents = documents.map_err(|error| ConfigRejection::Parse(error.message))?;
    Ok(documents.iter().map(yaml::Node::to_json).filter(|document| !document.is_null()).collect())
}

/// Merges the documents of an incomplete config with later ones.
pub(super) fn merge_documents(before: Option<&str>, later: &str) -> Result<String, ConfigRejection> {
    let before = before.map(parse_documents).transpose()?.unwrap_or_default();
    let documents = documents::merge_documents(before, parse_documents(later)?);
    let texts: Vec<String> = documents.iter().map(to_yaml).collect();
    Ok(texts.join("---\n"))
}

/// The config in a canonical form, to compare it with another.
#[expect(clippy::expect_used, reason = "`AppliedConfig::parse` has parsed the same text")]
pub(super) fn canonical(config: &AppliedConfig) -> String {
    merge_documents(None, &config.text).expect("the text of an applied config parses")
}

/// Whether Talos is installed on the machine's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SystemState {
    Installed,
    NotInstalled,
}

/// The minor versions of Kubernetes that a Talos 1.`minor` accepts: each minor version of Talos moves them by one.
fn kubernetes_minors(minor: u64) -> RangeInclusive<u64> {
    minor + 18..=minor + 23
}

/// How a machine validates a config.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConfigReader {
    /// The minor version of the machine's Talos.
    pub(super) minor: u64,
    /// A machine without an installed system needs an install disk in the config.
    pub(super) system: SystemState,
}

impl ConfigReader {
    fn unknown_kind(self, document: &Value) -> Option<String> {
        let kind = document.get("kind")?.as_str()?;
        let known = document_kinds::since(kind).is_some_and(|since| since <= self.minor);
        (!known).then(|| kind.to_owned())
    }
}

struct ConfigParser<'d> {
    document: &'d Value,
    reader: ConfigReader,
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

    fn check_keys(&mut self, role: NodeRole, ca: &PemPair, kubernetes_ca: &PemPair) {
        match role {
            NodeRole::ControlPlane if ca.key.is_empty() => self.report("issuing Talos API CA key is required"),
            NodeRole::ControlPlane => {}
            NodeRole::Worker => {
                if !ca.key.is_empty() {
                    self.report("issuing Talos API CA key is not allowed on non-controlplane nodes");
                }
                if !kubernetes_ca.key.is_empty() {
                    self.report("issuing Kubernetes API CA key is not allowed on non-controlplane nodes");
                }
            }
        }
    }

    fn check_install_disk(&mut self) {
        let install = self.document.pointer("/machine/install");
        let has_disk =
            install.is_some_and(|install| install.get("disk").is_some() || install.get("diskSelector").is_some());
        if !has_disk && self.reader.system == SystemState::NotInstalled && self.reader.minor < 14 {
            self.report("an install disk or diskSelector must be specified");
        }
    }

    /// Talos runs the Kubernetes of its time only (`pkg/machinery/compatibility`, 1.11 to 1.14).
    fn check_kubernetes(&mut self, role: NodeRole) {
        let images: &[(&str, &str)] = match role {
            NodeRole::ControlPlane => {
                &[("kubelet", "/machine/kubelet/image"), ("kube-apiserver", "/cluster/apiServer/image")]
            }
            NodeRole::Worker => &[("kubelet", "/machine/kubelet/image")],
        };
        let talos = self.reader.minor;
        for (program, pointer) in images {
            let image = self.text(pointer);
            let version = image.rsplit_once(":v").map(|(_, tag)| tag.split('@').next().unwrap_or(tag));
            let Some(version) = version.and_then(|version| semver::Version::parse(version).ok()) else { continue };
            let minors = kubernetes_minors(talos);
            let age = match version.minor {
                minor if minor < *minors.start() => "old",
                minor if minor > *minors.end() => "new",
                _ => continue,
            };
            self.problems.push(format!(
                "{program} image is not valid: version of Kubernetes {version} is too {age} to be used with Talos 1.{talos}"
            ));
        }
    }

    fn config(&mut self, text: &str, documents: &[Value]) -> Option<AppliedConfig> {
        if self.document.get("machine").is_none() {
            self.report("machine instructions are required");
        }
        if self.document.get("cluster").is_none() {
            self.report("cluster instructions are required");
        }
        let role = match self.text("/machine/type").as_str() {
            "controlplane" => NodeRole::ControlPlane,
            "worker" => NodeRole::Worker,
            other => {
                self.problems.push(format!("unknown machine type {other:?}"));
                return None;
            }
        };
        let ca = self.pair("/machine/ca");
        if ca.certificate.is_empty() {
            self.report("trusted CA certificates are required on the machine");
        }
        let kubernetes_ca = self.pair("/cluster/ca");
        self.check_keys(role, &ca, &kubernetes_ca);
        let endpoint = self.text("/cluster/controlPlane/endpoint");
        if !endpoint.starts_with("https://") {
            self.report("a cluster control plane endpoint is required");
        }
        self.check_install_disk();
        self.check_kubernetes(role);
        let control_plane = role == NodeRole::ControlPlane;
        let hostname = Some(self.text("/machine/network/hostname")).filter(|name| !name.is_empty());
        let unattended = Some(&Value::from("UnattendedInstallConfig"));
        let labels = self.document.pointer("/machine/nodeLabels").and_then(Value::as_object);
        let node_labels = labels
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        Some(AppliedConfig {
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
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubernetes_of_another_time_is_refused() {
        let problems = |talos: u64, kubernetes: &str| {
            let text = format!(
                "version: v1alpha1\nmachine: {{type: worker, kubelet: {{image: 'ghcr.io/siderolabs/kubelet:v{kubernetes}'}}}}\ncluster: {{}}\n"
            );
            match AppliedConfig::parse(&text, ConfigReader { minor: talos, system: SystemState::Installed }) {
                Err(ConfigRejection::Invalid(problems)) => problems,
                other => panic!("{other:?}"),
            }
        };
        let too_new = "kubelet image is not valid: version of Kubernetes 1.36.1 is too new to be used with Talos 1.12";
        assert!(problems(12, "1.36.1").iter().any(|problem| problem == too_new), "{:?}", problems(12, "1.36.1"));
        let too_old = "kubelet image is not valid: version of Kubernetes 1.29.9 is too old to be used with Talos 1.12";
        assert!(problems(12, "1.29.9").iter().any(|problem| problem == too_old), "{:?}", problems(12, "1.29.9"));
        assert!(!problems(12, "1.35.9@sha256:0").iter().any(|problem| problem.contains("Kubernetes 1.")));
    }
}
