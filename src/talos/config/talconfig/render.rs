//! From a talconfig and a secrets bundle to the machine config of a node.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::model::{Node, Patch, Talconfig};
use super::network;
use crate::talos::config::document::put;
use crate::talos::config::{Contract, Documents, Generate, MergeError, Role, SecretsBundle, generate, merge};
use crate::yaml::{self, Location};

/// Why a node's config could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("the patch at {at} does not apply to node `{node}`: {source}")]
    Patch { node: String, at: Location, source: MergeError },
}

/// The schematic of the image factory that customises nothing.
const PLAIN_SCHEMATIC: &str = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba";

impl Talconfig {
    /// The machine config of `node`, every document of it.
    ///
    /// # Errors
    ///
    /// A patch that does not apply, with the place at which it is named.
    pub fn render(&self, bundle: &SecretsBundle, node: &Node) -> Result<Documents, RenderError> {
        let image = self.install_image(node);
        let endpoint = self.endpoint.url();
        let facts = Generate {
            contract: self.contract,
            cluster_name: &self.cluster_name,
            endpoint: &endpoint,
            kubernetes_version: &self.kubernetes_version,
            install_image: &image,
            install_disk: node.install_disk.as_deref().unwrap_or_default(),
            dns_domain: &self.dns_domain,
            pod_subnets: &self.pod_subnets,
            service_subnets: &self.service_subnets,
            bundle,
        };
        let mut documents = generate(&facts, node.role);
        self.cluster_settings(documents.legacy_mut(), node.role);
        self.node_settings(&mut documents, node);
        let group = self.group(node.role);
        for patch in group.patches.iter().chain(&node.patches).chain(&self.patches) {
            documents = apply(&documents, patch, node)?;
        }
        Ok(documents)
    }

    fn cluster_settings(&self, config: &mut Value, role: Role) {
        if !self.machine_sans.is_empty() {
            put(config, &["machine", "certSANs"], json!(self.machine_sans));
        }
        if let Some(cni) = &self.cni {
            put(config, &["cluster", "network", "cni"], cni.clone());
        }
        if role == Role::ControlPlane {
            if !self.api_server_sans.is_empty() {
                put(config, &["cluster", "apiServer", "certSANs"], json!(self.api_server_sans));
            }
            if self.schedule_on_control_planes {
                put(config, &["cluster", "allowSchedulingOnControlPlanes"], json!(true));
            }
        }
    }

    fn node_settings(&self, documents: &mut Documents, node: &Node) {
        let group = &self.group(node.role).settings;
        let own = &node.settings;
        let config = documents.legacy_mut();
        if let Some(selector) = &node.install_disk_selector {
            put(config, &["machine", "install", "diskSelector"], selector.clone());
            if node.install_disk.is_none() {
                remove(config, &["machine", "install"], "disk");
            }
        }
        if let Some(labels) = own.node_labels.as_ref().or(group.node_labels.as_ref()) {
            put(config, &["machine", "nodeLabels"], labels.clone());
        }
        for (key, own, group) in [
            ("nodeAnnotations", &own.node_annotations, &group.node_annotations),
            ("nodeTaints", &own.node_taints, &group.node_taints),
        ] {
            if let Some(value) = own.as_ref().or(group.as_ref()) {
                put(config, &["machine", key], value.clone());
            }
        }
        let files: Vec<Value> = if own.files.is_empty() { group.files.clone() } else { own.files.clone() };
        if !files.is_empty() {
            put(config, &["machine", "files"], Value::Array(files));
        }
        let modules =
            if own.kernel_modules.is_empty() { group.kernel_modules.clone() } else { own.kernel_modules.clone() };
        if !modules.is_empty() {
            put(config, &["machine", "kernel", "modules"], Value::Array(modules));
        }
        let interfaces = if own.interfaces.is_empty() { &group.interfaces } else { &own.interfaces };
        let nameservers = if own.nameservers.is_empty() { &group.nameservers } else { &own.nameservers };
        if self.contract >= Contract::V1_12 {
            network::documents(documents, node, nameservers, interfaces);
        } else {
            network::legacy(documents.legacy_mut(), node, nameservers, interfaces);
        }
    }

    fn install_image(&self, node: &Node) -> String {
        let group = &self.group(node.role).settings;
        if let Some(url) = node.settings.image_url.as_ref().or(group.image_url.as_ref()) {
            return format!("{url}:{}", self.talos_version);
        }
        let schematic = node.settings.schematic.as_ref().or(group.schematic.as_ref());
        let id = schematic.map_or_else(|| PLAIN_SCHEMATIC.to_owned(), schematic_id);
        format!("factory.talos.dev/metal-installer/{id}:{}", self.talos_version)
    }
}

fn apply(documents: &Documents, patch: &Patch, node: &Node) -> Result<Documents, RenderError> {
    merge(documents, &patch.documents).map_err(|source| RenderError::Patch {
        node: node.hostname.clone(),
        at: patch.at.clone(),
        source,
    })
}

fn remove(config: &mut Value, path: &[&str], key: &str) {
    let mut current = config;
    for step in path {
        current = &mut current[*step];
    }
    if let Some(map) = current.as_object_mut() {
        map.shift_remove(key);
    }
}

/// The image factory's id of a schematic: SHA-256 over its YAML in the factory's own field order and layout
/// (siderolabs/image-factory, `pkg/schematic`).
fn schematic_id(schematic: &Value) -> String {
    let mut text = String::new();
    write_block(&mut text, &ordered(schematic, &SCHEMATIC), 0);
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Field order of the factory's types, outermost first.
const SCHEMATIC: [&str; 11] = [
    "overlay",
    "image",
    "name",
    "options",
    "customization",
    "extraKernelArgs",
    "meta",
    "systemExtensions",
    "officialExtensions",
    "secureboot",
    "includeWellKnownCertificates",
];

/// Block style with four spaces a level, lists indented below their key: the layout that the id is computed over.
fn write_block(text: &mut String, value: &Value, level: usize) {
    let indent = "    ".repeat(level);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                text.push_str(&format!("{indent}{key}:"));
                write_nested(text, value, level);
            }
        }
        Value::Array(items) => {
            for item in items {
                text.push_str(&format!("{indent}-"));
                write_nested(text, item, level);
            }
        }
        scalar => text.push_str(&scalar_text(scalar)),
    }
}

fn write_nested(text: &mut String, value: &Value, level: usize) {
    if value.is_object() || value.is_array() {
        text.push('\n');
        write_block(text, value, level + 1);
    } else {
        text.push(' ');
        text.push_str(&scalar_text(value));
    }
}

fn scalar_text(value: &Value) -> String {
    yaml::to_string(value).unwrap_or_default()
}

fn ordered(value: &Value, order: &[&str]) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_by_key(|key| order.iter().position(|known| known == key).unwrap_or(order.len()));
            let sorted: Map<String, Value> =
                keys.into_iter().map(|key| (key.clone(), ordered(&map[key], order))).collect();
            Value::Object(sorted)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| ordered(item, order)).collect()),
        other => other.clone(),
    }
}
