//! Generates machine configs from a secrets bundle and a few parameters, like `talosctl gen config`.
//!
//! Up to Talos 1.13 nearly all settings are in the legacy document ([`legacy`]), from 1.14 on in separate documents
//! ([`documents`]). Talos's `pkg/machinery/config/contract.go` lists the differences between contracts.

mod documents;
mod legacy;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::SecretsBundle;
use talos_schema::Contract;
use talos_schema::document::Documents;
use talos_schema::typed::encode;

/// The role of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    ControlPlane,
    Worker,
}

/// The parameters that a config is generated from.
#[derive(Debug, Clone)]
pub struct GenerateInput<'a> {
    pub contract: Contract,
    pub cluster_name: &'a str,
    /// `https://host:port`
    pub endpoint: &'a str,
    /// Without a leading `v`.
    pub kubernetes_version: &'a str,
    pub install_image: &'a str,
    /// Empty when the config names no disk.
    pub install_disk: &'a str,
    pub dns_domain: &'a str,
    pub pod_subnets: &'a [String],
    pub service_subnets: &'a [String],
    pub bundle: &'a SecretsBundle,
}

/// Further options of `talosctl gen config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateOptions {
    /// Subject alternative names for the certificates of the Talos API and the Kubernetes API.
    pub additional_sans: Vec<String>,
    pub cluster_discovery: bool,
    pub kubespan: bool,
    /// Whether the node keeps its config across reboots. Current Talos versions require it.
    pub persist: bool,
    /// Mirror URLs by registry.
    pub registry_mirrors: BTreeMap<String, Vec<String>>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            additional_sans: vec![],
            cluster_discovery: true,
            kubespan: false,
            persist: true,
            registry_mirrors: BTreeMap::new(),
        }
    }
}

/// Generates the documents of a node.
pub fn generate(facts: &GenerateInput<'_>, role: Role) -> Documents {
    generate_with(facts, &GenerateOptions::default(), role)
}

/// Generates the documents of a node with options.
pub fn generate_with(facts: &GenerateInput<'_>, options: &GenerateOptions, role: Role) -> Documents {
    let mut all = if facts.contract >= Contract::V1_14 {
        documents::all(facts, options, role)
    } else {
        let mut all = vec![legacy::config(facts, options, role)];
        if facts.contract >= Contract::V1_12 {
            all.extend(registry_mirrors(options));
            all.push(document("HostnameConfig", json!({"auto": "stable"})));
        }
        if facts.contract >= Contract::V1_13 && options.kubespan {
            all.push(document("KubeSpanConfig", json!({"enabled": true})));
        }
        all
    };
    all = all.iter().map(encode).collect();
    Documents(all)
}

/// A document with this kind and these fields.
fn document(kind: &str, fields: Value) -> Value {
    let mut document = json!({"apiVersion": "v1alpha1", "kind": kind});
    if let (Some(document), Value::Object(fields)) = (document.as_object_mut(), fields) {
        document.extend(fields);
    }
    document
}

fn registry_mirrors(options: &GenerateOptions) -> Vec<Value> {
    let mirror = |(registry, endpoints): (&String, &Vec<String>)| {
        let endpoints: Vec<Value> = endpoints.iter().map(|url| json!({"url": url})).collect();
        document("RegistryMirrorConfig", json!({"name": registry, "endpoints": endpoints}))
    };
    options.registry_mirrors.iter().map(mirror).collect()
}

fn image(name: &str, facts: &GenerateInput<'_>) -> String {
    format!("{name}:v{}", facts.kubernetes_version)
}

/// The default pod security standards of Talos.
fn pod_security() -> Value {
    json!({
        "apiVersion": "pod-security.admission.config.k8s.io/v1alpha1",
        "kind": "PodSecurityConfiguration",
        "defaults": {
            "audit": "restricted", "audit-version": "latest",
            "enforce": "baseline", "enforce-version": "latest",
            "warn": "restricted", "warn-version": "latest",
        },
        "exemptions": {"namespaces": ["kube-system"], "runtimeClasses": [], "usernames": []},
    })
}

fn audit_policy() -> Value {
    json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]})
}

const KUBELET: &str = "ghcr.io/siderolabs/kubelet";
const NO_LOAD_BALANCER: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
