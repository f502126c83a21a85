//! A machine config from nothing but a secrets bundle and a few facts, as `talosctl gen config` writes it.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::document::{Documents, put};
use super::{CertificateAndKey, SecretsBundle};

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    ControlPlane,
    Worker,
}

/// The version contract: which Talos line a config is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contract {
    V1_11,
    V1_12,
    V1_13,
}

/// A version of Talos that this program does not write configs for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Talos {0} is not supported; configs are written for 1.11, 1.12 and 1.13")]
pub struct UnknownContract(String);

impl FromStr for Contract {
    type Err = UnknownContract;

    fn from_str(version: &str) -> Result<Self, Self::Err> {
        let line: Vec<&str> = version.trim_start_matches('v').split('.').take(2).collect();
        match line.as_slice() {
            ["1", "11"] => Ok(Self::V1_11),
            ["1", "12"] => Ok(Self::V1_12),
            ["1", "13"] => Ok(Self::V1_13),
            _ => Err(UnknownContract(version.to_owned())),
        }
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_11 => "v1.11",
            Self::V1_12 => "v1.12",
            Self::V1_13 => "v1.13",
        })
    }
}

/// The facts that a config is generated from.
#[derive(Debug, Clone)]
pub struct Generate<'a> {
    pub contract: Contract,
    pub cluster_name: &'a str,
    /// `https://host:port`
    pub endpoint: &'a str,
    /// Without a leading `v`.
    pub kubernetes_version: &'a str,
    pub install_image: &'a str,
    pub install_disk: &'a str,
    pub dns_domain: &'a str,
    pub pod_subnets: &'a [String],
    pub service_subnets: &'a [String],
    pub bundle: &'a SecretsBundle,
}

/// Generates the documents of a node.
pub fn generate(facts: &Generate<'_>, role: Role) -> Documents {
    let mut config = json!({"version": "v1alpha1", "debug": false, "persist": true});
    config["machine"] = machine(facts, role);
    config["cluster"] = cluster(facts, role);
    let mut documents = vec![config];
    if facts.contract >= Contract::V1_12 {
        documents.push(json!({"apiVersion": "v1alpha1", "kind": "HostnameConfig", "auto": "stable"}));
    }
    Documents(documents)
}

fn pair(pair: &CertificateAndKey, with_key: bool) -> Value {
    let key = if with_key { STANDARD.encode(pair.key.expose_secret()) } else { String::new() };
    json!({"crt": STANDARD.encode(&pair.certificate), "key": key})
}

fn machine(facts: &Generate<'_>, role: Role) -> Value {
    let bundle = facts.bundle;
    let mut machine = json!({
        "type": match role { Role::ControlPlane => "controlplane", Role::Worker => "worker" },
        "token": bundle.trustd_token.expose_secret(),
        "ca": pair(&bundle.os, role == Role::ControlPlane),
        "certSANs": [],
        "kubelet": {
            "image": format!("ghcr.io/siderolabs/kubelet:v{}", facts.kubernetes_version),
            "defaultRuntimeSeccompProfileEnabled": true,
            "disableManifestsDirectory": true,
        },
        "install": {"disk": facts.install_disk, "image": facts.install_image, "wipe": false},
        "features": {
            "diskQuotaSupport": true,
            "kubePrism": {"enabled": true, "port": 7445},
            "hostDNS": {"enabled": true, "forwardKubeDNSToHost": true},
        },
    });
    if facts.contract < Contract::V1_13 {
        machine["network"] = json!({});
    }
    if facts.contract >= Contract::V1_12 {
        machine["install"]["grubUseUKICmdline"] = json!(true);
    } else {
        machine["registries"] = json!({});
        for feature in ["rbac", "stableHostname", "apidCheckExtKeyUsage"] {
            machine["features"][feature] = json!(true);
        }
    }
    if role == Role::ControlPlane {
        machine["nodeLabels"] = json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""});
    }
    machine
}

fn cluster(facts: &Generate<'_>, role: Role) -> Value {
    let bundle = facts.bundle;
    let mut cluster = json!({
        "id": bundle.cluster_id,
        "secret": bundle.cluster_secret.expose_secret(),
        "controlPlane": {"endpoint": facts.endpoint},
        "clusterName": facts.cluster_name,
        "network": {
            "dnsDomain": facts.dns_domain,
            "podSubnets": facts.pod_subnets,
            "serviceSubnets": facts.service_subnets,
        },
        "token": bundle.bootstrap_token.expose_secret(),
        "ca": pair(&bundle.kubernetes, role == Role::ControlPlane),
        "discovery": {"enabled": true, "registries": {"kubernetes": {"disabled": true}, "service": {}}},
    });
    if role == Role::ControlPlane {
        control_plane(facts, &mut cluster);
    }
    cluster
}

fn control_plane(facts: &Generate<'_>, cluster: &mut Value) {
    let bundle = facts.bundle;
    for (field, key) in
        [("secretboxEncryptionSecret", &bundle.secretbox_key), ("aescbcEncryptionSecret", &bundle.aescbc_key)]
    {
        if let Some(key) = key {
            cluster[field] = json!(key.expose_secret());
        }
    }
    let image = |name: &str| format!("registry.k8s.io/{name}:v{}", facts.kubernetes_version);
    cluster["aggregatorCA"] = pair(&bundle.aggregator, true);
    cluster["serviceAccount"] = json!({"key": STANDARD.encode(bundle.service_account_key.expose_secret())});
    cluster["etcd"] = json!({"ca": pair(&bundle.etcd, true)});
    cluster["controllerManager"] = json!({"image": image("kube-controller-manager")});
    cluster["scheduler"] = json!({"image": image("kube-scheduler")});
    cluster["proxy"] = json!({"image": image("kube-proxy")});
    cluster["apiServer"] = json!({
        "image": image("kube-apiserver"),
        "admissionControl": [{"name": "PodSecurity", "configuration": pod_security()}],
        "auditPolicy": {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]},
    });
    if facts.contract < Contract::V1_12 {
        put(cluster, &["apiServer", "disablePodSecurityPolicy"], json!(true));
        put(cluster, &["apiServer", "certSANs"], json!([endpoint_host(facts.endpoint)]));
    }
}

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

fn endpoint_host(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    rest.rsplit_once(':').map_or(rest, |(host, _)| host).trim_matches(['[', ']'])
}
