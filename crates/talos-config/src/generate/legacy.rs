//! The legacy document, which up to Talos 1.13 has nearly all settings.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::super::CertificateAndKey;
use super::{GenerateInput, GenerateOptions, KUBELET, NO_LOAD_BALANCER, Role, audit_policy, image, pod_security};
use talos_schema::Contract;
use talos_schema::document::put;
use talos_schema::typed::Url;

pub(super) fn config(facts: &GenerateInput<'_>, options: &GenerateOptions, role: Role) -> Value {
    json!({
        "version": "v1alpha1",
        "debug": false,
        "persist": options.persist,
        "machine": machine(facts, options, role),
        "cluster": cluster(facts, options, role),
    })
}

fn pair(pair: &CertificateAndKey) -> Value {
    json!({"crt": STANDARD.encode(&pair.certificate), "key": STANDARD.encode(pair.key.expose_secret())})
}

/// An authority whose key only control planes get.
fn authority(authority: &CertificateAndKey, role: Role) -> Value {
    match role {
        Role::ControlPlane => pair(authority),
        Role::Worker => json!({"crt": STANDARD.encode(&authority.certificate), "key": ""}),
    }
}

fn machine(facts: &GenerateInput<'_>, options: &GenerateOptions, role: Role) -> Value {
    let bundle = facts.bundle;
    let mut machine = json!({
        "type": match role { Role::ControlPlane => "controlplane", Role::Worker => "worker" },
        "token": bundle.trustd_token.expose_secret(),
        "ca": authority(&bundle.os, role),
        "certSANs": options.additional_sans,
        "kubelet": {
            "image": image(KUBELET, facts),
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
        machine["network"] = if options.kubespan { json!({"kubespan": {"enabled": true}}) } else { json!({}) };
    }
    if facts.contract >= Contract::V1_12 {
        machine["install"]["grubUseUKICmdline"] = json!(true);
    } else {
        let mirrors: Map<String, Value> = options
            .registry_mirrors
            .iter()
            .map(|(registry, endpoints)| (registry.clone(), json!({"endpoints": endpoints})))
            .collect();
        machine["registries"] = json!({"mirrors": mirrors});
        for feature in ["rbac", "stableHostname", "apidCheckExtKeyUsage"] {
            machine["features"][feature] = json!(true);
        }
    }
    if role == Role::ControlPlane {
        machine["nodeLabels"] = json!({NO_LOAD_BALANCER: ""});
    }
    machine
}

fn cluster(facts: &GenerateInput<'_>, options: &GenerateOptions, role: Role) -> Value {
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
        "ca": authority(&bundle.kubernetes, role),
        "discovery": {"enabled": options.cluster_discovery, "registries": {"kubernetes": {"disabled": true}, "service": {}}},
    });
    if role == Role::ControlPlane {
        control_plane(facts, options, &mut cluster);
    }
    cluster
}

fn control_plane(facts: &GenerateInput<'_>, options: &GenerateOptions, cluster: &mut Value) {
    let bundle = facts.bundle;
    for (field, key) in
        [("secretboxEncryptionSecret", &bundle.secretbox_key), ("aescbcEncryptionSecret", &bundle.aescbc_key)]
    {
        if let Some(key) = key {
            cluster[field] = json!(key.expose_secret());
        }
    }
    let image = |name: &str| image(&format!("registry.k8s.io/{name}"), facts);
    cluster["aggregatorCA"] = pair(&bundle.aggregator);
    cluster["serviceAccount"] = json!({"key": STANDARD.encode(bundle.service_account_key.expose_secret())});
    cluster["etcd"] = json!({"ca": pair(&bundle.etcd)});
    cluster["controllerManager"] = json!({"image": image("kube-controller-manager")});
    cluster["scheduler"] = json!({"image": image("kube-scheduler")});
    cluster["proxy"] = json!({"image": image("kube-proxy")});
    cluster["apiServer"] = json!({
        "image": image("kube-apiserver"),
        "admissionControl": [{"name": "PodSecurity", "configuration": pod_security()}],
        "auditPolicy": audit_policy(),
    });
    let mut sans = options.additional_sans.clone();
    if facts.contract < Contract::V1_12 {
        put(cluster, &["apiServer", "disablePodSecurityPolicy"], json!(true));
        sans.insert(0, endpoint_host(facts.endpoint).to_owned());
    }
    if !sans.is_empty() {
        put(cluster, &["apiServer", "certSANs"], json!(sans));
    }
}

fn endpoint_host(endpoint: &str) -> &str {
    Url::parse(endpoint).map_or(endpoint, |url| url.host)
}
