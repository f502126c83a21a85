//! What the lab's machines read out of the config that was applied to them, and how they judge it.

mod documents;
mod kinds;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use yaml::Origin;

/// What a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    ControlPlane,
    Worker,
}

/// A certificate and, where the config has it, its key: PEM texts.
#[derive(Clone, Default)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

/// The parts of a machine config that the lab acts on.
#[derive(Clone)]
pub(super) struct MachineConfig {
    pub(super) text: String,
    /// The settings as one document, for what changes when another config is applied.
    settings: Value,
    pub(super) role: Role,
    pub(super) hostname: Option<String>,
    pub(super) ca: Pair,
    pub(super) cert_sans: Vec<String>,
    pub(super) node_labels: Vec<(String, String)>,
    pub(super) cluster_id: String,
    pub(super) cluster_name: String,
    /// Empty when Talos is to choose.
    pub(super) cni: String,
    pub(super) install_image: String,
    /// The installation is asked for by a document of its own (1.14).
    pub(super) unattended_install: bool,
    pub(super) endpoint: String,
    pub(super) pod_subnets: Vec<String>,
    pub(super) service_subnets: Vec<String>,
    pub(super) kubernetes_ca: Pair,
    pub(super) aggregator_ca: Pair,
    pub(super) etcd_ca: Pair,
    pub(super) service_account_key: String,
    pub(super) secretbox_key: Option<String>,
    pub(super) api_server_sans: Vec<String>,
    /// Flags of the controller manager by which it gives networks to nodes.
    pub(super) node_masks: Vec<String>,
    pub(super) admission_control: Vec<Value>,
    pub(super) schedule_on_control_planes: bool,
    pub(super) kubelet_image: String,
}

impl std::fmt::Debug for MachineConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MachineConfig")
            .field("role", &self.role)
            .field("hostname", &self.hostname)
            .finish_non_exhaustive()
    }
}

/// Why a machine refuses a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rejection {
    Parse(String),
    Invalid(Vec<String>),
    /// There is nothing wrong with these documents, but they are no whole config.
    Incomplete,
}

impl MachineConfig {
    /// Reads and validates a config as the machine's Talos does in metal mode.
    pub(super) fn parse(text: &str, reader: Reader) -> Result<Self, Rejection> {
        let documents = documents_of(text)?;
        if let Some(kind) = documents.iter().find_map(|document| reader.unknown_kind(document)) {
            let reason = format!("error decoding document v1alpha1/{kind}/: {kind:?} \"v1alpha1\": not registered");
            return Err(Rejection::Parse(reason));
        }
        let Some(settings) = documents::lowered(&documents) else { return Err(Rejection::Incomplete) };
        if settings.get("version") != Some(&Value::from("v1alpha1")) {
            return Err(Rejection::Parse("unknown version in the configuration".to_owned()));
        }
        let mut read = Read { document: &settings, reader, problems: Vec::new() };
        let config = read.config(text, &documents);
        match (config, read.problems.is_empty()) {
            (Some(config), true) => Ok(config),
            _ => Err(Rejection::Invalid(read.problems)),
        }
    }

    /// Whether the machine can go over to another config as it runs (Talos 1.11 to 1.13).
    pub(super) fn can_become(&self, other: &Self) -> bool {
        let fixed = |config: &Self| {
            let mut settings = config.settings.clone();
            for key in ["debug", "cluster"] {
                remove(&mut settings, "", key);
            }
            for key in HOT {
                remove(&mut settings, "/machine", key);
            }
            for key in HOT_FEATURES {
                remove(&mut settings, "/machine/features", key);
            }
            settings
        };
        fixed(self) == fixed(other)
    }
}

/// Keys of `machine` that take effect without a reboot.
const HOT: [&str; 18] = [
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
/// The same of `machine.features`.
const HOT_FEATURES: [&str; 5] =
    ["kubernetesTalosAPIAccess", "kubePrism", "hostDNS", "imageCache", "nodeAddressSortAlgorithm"];

fn remove(settings: &mut Value, parent: &str, key: &str) {
    if let Some(Value::Object(mapping)) = settings.pointer_mut(parent) {
        mapping.shift_remove(key);
    }
}

fn documents_of(text: &str) -> Result<Vec<Value>, Rejection> {
    let documents = yaml::parse(&Origin::new("<machine config>"), text);
    let documents = documents.map_err(|error| Rejection::Parse(error.message))?;
    Ok(documents.iter().map(yaml::Node::to_json).filter(|document| !document.is_null()).collect())
}

/// Documents of a config that is not whole yet, and more of them.
pub(super) fn joined(before: Option<&str>, later: &str) -> Result<String, Rejection> {
    let before = before.map(documents_of).transpose()?.unwrap_or_default();
    let documents = documents::joined(before, documents_of(later)?);
    let texts: Vec<String> = documents.iter().filter_map(|document| yaml::to_string(document).ok()).collect();
    Ok(texts.join("---\n"))
}

/// The config as Talos writes it, which is what two of them are compared by.
pub(super) fn canonical(config: &MachineConfig) -> String {
    joined(None, &config.text).unwrap_or_default()
}

/// The machine that reads a config.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader {
    /// The minor version of its Talos.
    pub(super) minor: u64,
    /// An installed machine does not ask where to install.
    pub(super) installed: bool,
}

impl Reader {
    fn unknown_kind(self, document: &Value) -> Option<String> {
        let kind = document.get("kind")?.as_str()?;
        let known = kinds::since(kind).is_some_and(|since| since <= self.minor);
        (!known).then(|| kind.to_owned())
    }
}

struct Read<'d> {
    document: &'d Value,
    reader: Reader,
    problems: Vec<String>,
}

impl Read<'_> {
    fn text(&self, pointer: &str) -> String {
        self.document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn list(&self, pointer: &str) -> Vec<String> {
        let items = self.document.pointer(pointer).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    fn node_masks(&self) -> Vec<String> {
        let given = self.document.pointer("/cluster/controllerManager/extraArgs").and_then(Value::as_object);
        let masks = given.into_iter().flatten().filter(|(name, _)| name.starts_with("node-cidr-mask-size"));
        masks.filter_map(|(name, value)| Some(format!("--{name}={}", value.as_str()?))).collect()
    }

    fn decoded(&mut self, pointer: &str) -> String {
        let encoded = self.text(pointer);
        if let Some(text) = STANDARD.decode(&encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
            return text;
        }
        self.problems.push(format!("{} is no base64", pointer.trim_start_matches('/').replace('/', ".")));
        String::new()
    }

    fn pair(&mut self, pointer: &str) -> Pair {
        Pair { certificate: self.decoded(&format!("{pointer}/crt")), key: self.decoded(&format!("{pointer}/key")) }
    }

    fn require(&mut self, holds: bool, problem: &str) {
        if !holds {
            self.problems.push(problem.to_owned());
        }
    }

    fn config(&mut self, text: &str, documents: &[Value]) -> Option<MachineConfig> {
        self.require(self.document.get("machine").is_some(), "machine instructions are required");
        self.require(self.document.get("cluster").is_some(), "cluster instructions are required");
        let role = match self.text("/machine/type").as_str() {
            "controlplane" => Role::ControlPlane,
            "worker" => Role::Worker,
            other => {
                self.problems.push(format!("unknown machine type {other:?}"));
                return None;
            }
        };
        let ca = self.pair("/machine/ca");
        self.require(!ca.certificate.is_empty(), "trusted CA certificates are required on the machine");
        let kubernetes_ca = self.pair("/cluster/ca");
        match role {
            Role::ControlPlane => self.require(!ca.key.is_empty(), "issuing Talos API CA key is required"),
            Role::Worker => {
                self.require(ca.key.is_empty(), "issuing Talos API CA key is not allowed on non-controlplane nodes");
                self.require(
                    kubernetes_ca.key.is_empty(),
                    "issuing Kubernetes API CA key is not allowed on non-controlplane nodes",
                );
            }
        }
        let endpoint = self.text("/cluster/controlPlane/endpoint");
        self.require(endpoint.starts_with("https://"), "a cluster control plane endpoint is required");
        let install = self.document.pointer("/machine/install");
        let disk =
            install.is_some_and(|install| install.get("disk").is_some() || install.get("diskSelector").is_some());
        let asked = !self.reader.installed && self.reader.minor < 14;
        self.require(disk || !asked, "an install disk or diskSelector must be specified");
        let control_plane = role == Role::ControlPlane;
        let hostname = Some(self.text("/machine/network/hostname")).filter(|name| !name.is_empty());
        let unattended = Some(&Value::from("UnattendedInstallConfig"));
        let labels = self.document.pointer("/machine/nodeLabels").and_then(Value::as_object);
        let node_labels = labels
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        let schedulable = self.document.pointer("/cluster/allowSchedulingOnControlPlanes");
        Some(MachineConfig {
            text: text.to_owned(),
            settings: self.document.clone(),
            role,
            hostname,
            ca,
            cert_sans: self.list("/machine/certSANs"),
            node_labels,
            cluster_id: self.text("/cluster/id"),
            cluster_name: self.text("/cluster/clusterName"),
            cni: self.text("/cluster/network/cni/name"),
            install_image: self.text("/machine/install/image"),
            unattended_install: documents.iter().any(|document| document.get("kind") == unattended),
            endpoint,
            pod_subnets: self.list("/cluster/network/podSubnets"),
            service_subnets: self.list("/cluster/network/serviceSubnets"),
            kubernetes_ca,
            aggregator_ca: if control_plane { self.pair("/cluster/aggregatorCA") } else { Pair::default() },
            etcd_ca: if control_plane { self.pair("/cluster/etcd/ca") } else { Pair::default() },
            service_account_key: if control_plane {
                self.decoded("/cluster/serviceAccount/key")
            } else {
                String::new()
            },
            secretbox_key: Some(self.text("/cluster/secretboxEncryptionSecret")).filter(|key| !key.is_empty()),
            api_server_sans: self.list("/cluster/apiServer/certSANs"),
            node_masks: self.node_masks(),
            admission_control: self
                .document
                .pointer("/cluster/apiServer/admissionControl")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
            schedule_on_control_planes: schedulable == Some(&Value::Bool(true)),
            kubelet_image: self.text("/machine/kubelet/image"),
        })
    }
}
