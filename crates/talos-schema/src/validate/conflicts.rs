//! Conflicts between documents and the fields of the legacy document that they replace.

use serde_json::Value;

use super::document::{Document, Finding, get, text};

/// A kind and the legacy fields that it replaces.
const REPLACED: [(&str, &[&str]); 28] = [
    ("CRIBaseRuntimeSpecConfig", &["machine.baseRuntimeSpecOverrides"]),
    ("DiscoveryIdentityConfig", &["cluster.id", "cluster.secret"]),
    ("DiscoveryServiceConfig", &["cluster.discovery"]),
    ("HostnameConfig", &["machine.network.hostname", "machine.features.stableHostname"]),
    ("ImageCacheConfig", &["machine.features.imageCache"]),
    ("KubeAPIServerCAConfig", &["cluster.ca"]),
    ("KubeAPIServerConfig", &["cluster.apiServer", "cluster.controlPlane.localAPIServerPort"]),
    ("KubeAdmissionControlConfig", &["cluster.apiServer.admissionControl"]),
    ("KubeAggregatorCAConfig", &["cluster.aggregatorCA"]),
    ("KubeAuditPolicyConfig", &["cluster.apiServer.auditPolicy"]),
    ("KubeAuthorizerConfig", &["cluster.apiServer.admissionControl"]),
    ("KubeClusterConfig", &["cluster.clusterName", "cluster.controlPlane.endpoint"]),
    ("KubeControllerManagerConfig", &["cluster.controllerManager", "machine.controlPlane.controllerManager"]),
    ("KubeCoreDNSConfig", &["cluster.coreDNS"]),
    ("KubeCredentialProviderConfig", &["machine.kubelet"]),
    ("KubeEtcdEncryptionConfig", &["cluster.secretboxEncryptionSecret", "cluster.aescbcEncryptionSecret"]),
    ("KubeFlannelCNIConfig", &["cluster.network"]),
    ("KubeNetworkConfig", &["cluster.network"]),
    (
        "KubeNodeConfig",
        &[
            "cluster.allowSchedulingOnControlPlanes",
            "cluster.allowSchedulingOnMasters",
            "machine.kubelet.skipNodeRegistration",
            "machine.kubelet.registerWithFQDN",
            "machine.kubelet.nodeIP",
            "machine.nodeLabels",
            "machine.nodeAnnotations",
            "machine.nodeTaints",
        ],
    ),
    ("KubePrismConfig", &["machine.features.kubePrism"]),
    ("KubeProxyConfig", &["cluster.proxy"]),
    ("KubeSchedulerConfig", &["cluster.scheduler", "machine.controlPlane.scheduler"]),
    ("KubeServiceAccountConfig", &["cluster.serviceAccount"]),
    ("KubeSpanConfig", &["machine.network.kubespan"]),
    ("KubeTalosAPIAccessConfig", &["machine.features.kubernetesTalosAPIAccess"]),
    ("KubeletConfig", &["machine.kubelet"]),
    ("TimeSyncConfig", &["machine.time.disabled", "machine.time.servers", "machine.time.bootTimeout"]),
    ("UnattendedInstallConfig", &["machine.install"]),
];

/// Finds settings that are both in the legacy document and in another one.
pub(super) fn check(documents: &[Value], found: &mut Vec<Finding>) {
    let legacy = documents.iter().position(|document| document.get("kind").is_none());
    let Some(legacy) = legacy else { return };
    for (index, value) in documents.iter().enumerate() {
        let kind = text(value, "kind");
        let mut document = Document { index: legacy, value: &documents[legacy], found };
        let known = REPLACED.iter().filter(|(known, _)| *known == kind).flat_map(|(_, fields)| fields.iter());
        if let Some(field) = known.copied().find(|field| is_set(&document, field)) {
            document.error(field, format!("conflicts with the document {kind}; keep only one of them"));
        }
        if kind == "ResolverConfig" {
            resolver(&mut document, value);
        }
        if kind == "VolumeConfig" {
            encryption(&mut document, &documents[index]);
        }
    }
}

fn is_set(legacy: &Document<'_, '_>, field: &str) -> bool {
    match legacy.get(field) {
        None => false,
        Some(Value::Bool(value)) => {
            *value || field.starts_with("cluster.allow") || field.starts_with("machine.kubelet")
        }
        Some(Value::String(text)) => !text.is_empty() && !text.starts_with("0s"),
        Some(Value::Number(number)) => number.as_i64() != Some(0),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(_) => true,
    }
}

fn resolver(legacy: &mut Document<'_, '_>, resolver: &Value) {
    let mut fields =
        vec!["machine.network.searchDomains", "machine.network.nameservers", "machine.network.disableSearchDomain"];
    if get(resolver, "hostDNS").and_then(Value::as_object).is_some_and(|map| !map.is_empty()) {
        fields.push("machine.features.hostDNS");
    }
    if let Some(field) = fields.into_iter().find(|field| is_set(legacy, field)) {
        legacy.error(field, "conflicts with the document ResolverConfig; keep only one of them");
    }
}

fn encryption(legacy: &mut Document<'_, '_>, volume: &Value) {
    let field = match text(volume, "name") {
        "STATE" => "machine.systemDiskEncryption.state",
        "EPHEMERAL" => "machine.systemDiskEncryption.ephemeral",
        _ => return,
    };
    if get(volume, "encryption").is_some() && legacy.has(field) {
        let name = text(volume, "name");
        legacy.error(field, format!("conflicts with the encryption of VolumeConfig {name}; keep only one of them"));
    }
}
