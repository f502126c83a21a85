//! Documents about Kubernetes.

use ipnet::IpNet;
use serde_json::Value;

use super::document::Document;
use super::syntax::{is_endpoint, is_label_value, is_pem, is_subdomain, is_subnet_or_address, key_problem};

/// Roles of the Talos API.
pub(super) const ROLES: [&str; 7] = [
    "os:admin",
    "os:operator",
    "os:reader",
    "os:etcd:backup",
    "os:impersonator",
    "os:image:verifier",
    "os:meta:writer",
];

/// Kubelet configuration fields that Talos sets itself.
pub(super) const PROTECTED_KUBELET_FIELDS: [&str; 13] = [
    "apiVersion",
    "authentication",
    "authorization",
    "cgroupRoot",
    "kind",
    "kubeletCgroups",
    "port",
    "protectKernelDefaults",
    "resolvConf",
    "rotateCertificates",
    "systemCgroups",
    "staticPodPath",
    "seccompDefault",
];

/// API server arguments that documents replace.
const DENIED_ARGUMENTS: [(&str, &str); 6] = [
    ("anonymous-auth", "KubeAuthenticationConfig"),
    ("oidc-", "KubeAuthenticationConfig"),
    ("authentication-config", "KubeAuthenticationConfig"),
    ("authorization-config", "KubeAuthorizerConfig"),
    ("authorization-mode", "KubeAuthorizerConfig"),
    ("authorization-webhook-", "KubeAuthorizerConfig"),
];

const REQUIRED: [(&str, &[&str]); 12] = [
    ("KubeAdmissionControlConfig", &["name"]),
    ("KubeAggregatorCAConfig", &["issuingCA"]),
    ("KubeAPIServerConfig", &["image"]),
    ("KubeAuthorizerConfig", &["name", "type"]),
    ("KubeClusterConfig", &["clusterName", "endpoint"]),
    ("KubeEtcdEncryptionConfig", &["config"]),
    ("KubeExternalManifestConfig", &["name", "url"]),
    ("KubeFlannelCNIConfig", &["backendType"]),
    ("KubeInlineManifestConfig", &["name"]),
    ("KubeletConfig", &["image"]),
    ("KubeServiceAccountConfig", &["issuer.privateKey", "issuer.issuerURL"]),
    ("KubeStaticPodConfig", &["name", "pod"]),
];

pub(super) fn check(document: &mut Document<'_, '_>, kind: &str) {
    let off = document.get("enabled") == Some(&Value::Bool(false));
    if let Some((_, fields)) = REQUIRED.iter().find(|(known, _)| *known == kind) {
        document.require(fields);
    }
    match kind {
        "KubeAPIServerCAConfig" | "KubeAggregatorCAConfig" => authorities(document),
        "KubeAPIServerConfig" => api_server(document),
        "KubeAuthorizerConfig" => authorizer(document),
        "KubeClusterConfig" => {
            let endpoint = document.text("endpoint");
            if !endpoint.is_empty() && !is_endpoint(endpoint) {
                document.error("endpoint", format!("\"{endpoint}\" is not an endpoint such as https://HOST:PORT"));
            }
        }
        "KubeControllerManagerConfig" | "KubeSchedulerConfig" if !off => document.require(&["image"]),
        "KubeProxyConfig" if !off => proxy(document),
        "KubeExternalManifestConfig" | "KubeInlineManifestConfig" | "KubeStaticPodConfig" => manifest(document),
        "KubeletConfig" => {
            for field in PROTECTED_KUBELET_FIELDS {
                if document.has(&format!("config.{field}")) {
                    document.error(format!("config.{field}"), "can't be overridden");
                }
            }
        }
        "KubePrismConfig" if !(1..=65535).contains(&document.number("port")) => {
            document.error("port", "must be between 1 and 65535");
        }
        "KubeNetworkConfig" => network(document),
        "KubeNodeConfig" => {
            for (index, subnet) in document.list("nodeIP.validSubnets").iter().enumerate() {
                if !is_subnet_or_address(subnet.as_str().unwrap_or_default()) {
                    document.error(format!("nodeIP.validSubnets[{index}]"), format!("{subnet} is not a subnet"));
                }
            }
            node_names(document, ["labels", "annotations", "taints"]);
        }
        "KubeServiceAccountConfig" => {
            let key = document.text("issuer.privateKey");
            if !key.is_empty() && !is_pem(key, None) {
                document.error("issuer.privateKey", "is not PEM-encoded");
            }
        }
        "KubeTalosAPIAccessConfig" => {
            for (index, role) in document.list("allowedRoles").iter().enumerate() {
                if !ROLES.contains(&role.as_str().unwrap_or_default()) {
                    document.error(format!("allowedRoles[{index}]"), format!("unknown role {role}"));
                }
            }
        }
        _ => {}
    }
    if !off {
        resources(document);
    }
}

fn resources(document: &mut Document<'_, '_>) {
    for path in ["resources.requests", "resources.limits"] {
        let others: Vec<&String> = document
            .entries(path)
            .map(|(key, _)| key)
            .filter(|key| !matches!(key.as_str(), "cpu" | "memory"))
            .collect();
        for key in others {
            document.error(path, format!("the resource \"{key}\" is not supported"));
        }
    }
}

fn authorities(document: &mut Document<'_, '_>) {
    if document.has("issuingCA") {
        for (field, label) in [("issuingCA.cert", Some("CERTIFICATE")), ("issuingCA.key", None)] {
            if !is_pem(document.text(field), label) {
                document.error(field, "is not PEM-encoded");
            }
        }
    }
    for (index, authority) in document.list("acceptedCAs").iter().enumerate() {
        if !is_pem(authority.as_str().unwrap_or_default(), Some("CERTIFICATE")) {
            document.error(format!("acceptedCAs[{index}]"), "is not a PEM certificate");
        }
    }
}

fn api_server(document: &mut Document<'_, '_>) {
    let denied: Vec<(&String, &str)> = document
        .entries("extraArgs")
        .filter_map(|(argument, _)| {
            let (_, instead) = DENIED_ARGUMENTS.iter().find(|(prefix, _)| argument.starts_with(prefix))?;
            Some((argument, *instead))
        })
        .collect();
    for (argument, instead) in denied {
        document.error("extraArgs", format!("the argument \"{argument}\" is not allowed; use {instead}"));
    }
}

fn authorizer(document: &mut Document<'_, '_>) {
    let kind = document.text("type");
    let webhook = document.get("webhook").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    if !kind.is_empty() && !["Node", "RBAC", "Webhook"].contains(&kind) {
        document.error("type", format!("unknown type \"{kind}\": expected Node, RBAC or Webhook"));
    } else if (kind == "Webhook") != webhook {
        if webhook {
            document.warn("webhook", "is only used by the type Webhook");
        } else {
            document.error("webhook", "is required by the type Webhook");
        }
    }
}

fn proxy(document: &mut Document<'_, '_>) {
    document.require(&["image"]);
    match document.text("mode") {
        "" | "nftables" => {}
        mode @ ("iptables" | "ipvs") => document.warn("mode", format!("\"{mode}\" is not recommended; use nftables")),
        mode => document.error("mode", format!("unknown mode \"{mode}\": expected iptables, ipvs or nftables")),
    }
    if document.entries("extraArgs").next().is_some() {
        document.warn("extraArgs", "may not work as expected; use config instead");
    }
}

fn manifest(document: &mut Document<'_, '_>) {
    let name = document.text("name");
    if !name.is_empty() && !is_subdomain(name) {
        document.error("name", format!("\"{name}\" is not a lower-case DNS name"));
    }
    let url = document.text("url");
    if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
        document.error("url", "the scheme must be http or https");
    }
}

fn network(document: &mut Document<'_, '_>) {
    for (field, most) in [("nodeCIDRMaskSizeIPv4", 32), ("nodeCIDRMaskSizeIPv6", 128)] {
        if document.has(field) && !(0..=most).contains(&document.number(field)) {
            document.error(field, format!("must be between 1 and {most}"));
        }
    }
    let mut counts = Vec::new();
    for field in ["podSubnets", "serviceSubnets"] {
        let subnets: Vec<IpNet> =
            document.list(field).iter().filter_map(|subnet| subnet.as_str()?.parse().ok()).collect();
        let v4 = subnets.iter().filter(|subnet| matches!(subnet, IpNet::V4(_))).count();
        if subnets.is_empty() || v4 > 1 || subnets.len() - v4 > 1 {
            document.error(field, "must have one subnet, or one for IPv4 and one for IPv6");
        }
        counts.push(subnets.len());
    }
    if counts.first() != counts.last() {
        document.error("serviceSubnets", "must have as many subnets as podSubnets");
    }
}

/// Labels, annotations and taints of a node, in this order.
pub(super) fn node_names(document: &mut Document<'_, '_>, fields: [&str; 3]) {
    let [labels, annotations, taints] = fields;
    let mut problems: Vec<(&str, String)> = Vec::new();
    for field in fields {
        problems.extend(document.entries(field).filter_map(|(key, _)| Some((field, key_problem(key)?))));
    }
    for (_, value) in document.entries(labels) {
        let value = value.as_str().unwrap_or_default();
        if !is_label_value(value) {
            problems.push((labels, format!("the value \"{value}\" is invalid")));
        }
    }
    let size: usize =
        document.entries(annotations).map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > 256 << 10 {
        problems.push((annotations, "have more than 256 KiB in total".to_owned()));
    }
    for (key, _) in document.entries(annotations) {
        let reserved = ["owned-annotations", "owned-labels", "owned-taints"]
            .iter()
            .any(|name| *key == format!("talos.dev/{name}"));
        if reserved {
            problems.push((annotations, format!("\"{key}\" is reserved")));
        }
    }
    for (_, value) in document.entries(taints) {
        let text = value.as_str().unwrap_or_default();
        let (value, effect) = text.split_once(':').unwrap_or(("", text));
        if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
            problems.push((taints, format!("unknown effect \"{effect}\"")));
        } else if !is_label_value(value) {
            problems.push((taints, format!("the value \"{value}\" is invalid")));
        }
    }
    for (field, problem) in problems {
        document.error(field, problem);
    }
}
