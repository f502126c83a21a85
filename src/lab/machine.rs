//! What the lab's machines read out of the config that was applied to them, and how they judge it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::yaml::{self, Origin};

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
    pub(super) role: Role,
    pub(super) hostname: Option<String>,
    pub(super) ca: Pair,
    pub(super) cert_sans: Vec<String>,
    pub(super) node_labels: Vec<(String, String)>,
    pub(super) cluster_name: String,
    pub(super) endpoint: String,
    pub(super) pod_subnets: Vec<String>,
    pub(super) service_subnets: Vec<String>,
    pub(super) kubernetes_ca: Pair,
    pub(super) aggregator_ca: Pair,
    pub(super) etcd_ca: Pair,
    pub(super) service_account_key: String,
    pub(super) secretbox_key: Option<String>,
    pub(super) api_server_sans: Vec<String>,
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
}

impl MachineConfig {
    /// Reads and validates a config as Talos 1.12 does in metal mode.
    pub(super) fn parse(text: &str) -> Result<Self, Rejection> {
        let documents: Vec<Value> = yaml::parse(&Origin::new("<machine config>"), text)
            .map_err(|error| Rejection::Parse(error.message))?
            .iter()
            .map(yaml::Node::to_json)
            .filter(|document| !document.is_null())
            .collect();
        let legacy = documents.iter().find(|document| document.get("kind").is_none());
        let Some(legacy) = legacy.filter(|document| document.get("version") == Some(&Value::from("v1alpha1"))) else {
            return Err(Rejection::Parse("no v1alpha1 document in the configuration".to_owned()));
        };
        let mut read = Read { document: legacy, problems: Vec::new() };
        let config = read.config(text, &documents);
        match (config, read.problems.is_empty()) {
            (Some(config), true) => Ok(config),
            _ => Err(Rejection::Invalid(read.problems)),
        }
    }
}

struct Read<'d> {
    document: &'d Value,
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
        self.require(disk, "an install disk or diskSelector must be specified");
        let control_plane = role == Role::ControlPlane;
        let hostname = documents
            .iter()
            .filter(|document| document.get("kind") == Some(&Value::from("HostnameConfig")))
            .find_map(|document| document.get("hostname")?.as_str().map(str::to_owned))
            .or_else(|| Some(self.text("/machine/network/hostname")).filter(|name| !name.is_empty()));
        let labels = self.document.pointer("/machine/nodeLabels").and_then(Value::as_object);
        let node_labels = labels
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        let schedulable = self.document.pointer("/cluster/allowSchedulingOnControlPlanes");
        Some(MachineConfig {
            text: text.to_owned(),
            role,
            hostname,
            ca,
            cert_sans: self.list("/machine/certSANs"),
            node_labels,
            cluster_name: self.text("/cluster/clusterName"),
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
