//! Documents about registries, containers, files and the kernel.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::typed::{Url, size};
use super::document::{Document, get, text};
use super::links::{expression, url};
use super::syntax::{is_pem, key_problem};
use super::volumes::at_least_ten_seconds;

const REQUIRED: [(&str, &[&str]); 13] = [
    ("ContainerConfig", &["name", "image"]),
    ("CRICustomizationConfig", &["name"]),
    ("DiscoveryIdentityConfig", &["clusterID", "clusterSecret"]),
    ("DiscoveryServiceConfig", &["name", "endpoint"]),
    ("EtcFileConfig", &["name"]),
    ("ExtensionServiceConfig", &["name"]),
    ("KernelModuleConfig", &["name"]),
    ("KmsgLogConfig", &["name", "url"]),
    ("PCIDriverRebindConfig", &["name", "targetDriver"]),
    ("RegistryAuthConfig", &["name"]),
    ("RegistryMirrorConfig", &["name"]),
    ("RegistryTLSConfig", &["name"]),
    ("WatchdogTimerConfig", &["device"]),
];

/// Names below /etc that Talos manages.
const MANAGED_FILES: [&str; 7] =
    ["resolv.conf", "hosts", "machine-id", "extensions.yaml", "localtime", "os-release", "xattr.conf"];
const MANAGED_FOLDERS: [&str; 12] = [
    "apparmor.d",
    "apparmor",
    "ca-certificates",
    "cni",
    "cri",
    "iscsi",
    "kubernetes",
    "lvm",
    "nvme",
    "pki",
    "selinux",
    "ssl",
];

pub(super) fn check(document: &mut Document<'_, '_>, kind: &str) {
    if let Some((_, fields)) = REQUIRED.iter().find(|(known, _)| *known == kind) {
        document.require(fields);
    }
    match kind {
        "ContainerConfig" => container(document),
        "CRICustomizationConfig" => {
            if let Some(problem) = key_problem(document.text("name")).filter(|_| document.has("name")) {
                document.error("name", problem);
            }
        }
        "DiscoveryIdentityConfig" => {
            use base64::Engine;
            let secret = base64::engine::general_purpose::STANDARD.decode(document.text("clusterSecret"));
            if document.has("clusterSecret") && secret.map_or(0, |secret| secret.len()) != 32 {
                document.error("clusterSecret", "must be 32 bytes in base64");
            }
        }
        "DiscoveryServiceConfig" => url(document, "endpoint", &["http", "https"]),
        "EnvironmentConfig" => environment(document),
        "EtcFileConfig" => etc_file(document),
        "ExtensionServiceConfig" => extension(document),
        "ImageVerificationConfig" => image_rules(document),
        "KmsgLogConfig" => {
            url(document, "url", &["tcp", "udp"]);
            if Url::parse(document.text("url")).is_some_and(|url| !url.host.is_empty() && url.port.is_empty()) {
                document.error("url", "the port is required");
            }
        }
        "OOMConfig" => {
            expression(document, "triggerExpression");
            expression(document, "cgroupRankingExpression");
            document.reject_negative(&["sampleInterval"]);
        }
        "RegistryAuthConfig" => registry_auth(document),
        "RegistryMirrorConfig" => {
            for (index, endpoint) in document.list("endpoints").iter().enumerate() {
                let scheme = Url::parse(text(endpoint, "url")).map_or("", |url| url.scheme);
                if !matches!(scheme, "http" | "https") {
                    document.error(format!("endpoints[{index}].url"), "must be an http or https URL");
                }
            }
        }
        "RegistryTLSConfig" => registry_tls(document),
        "SysctlConfig" | "SysfsConfig" if document.entries("params").any(|(key, _)| key.is_empty()) => {
            document.error("params", "a key cannot be empty");
        }
        "WatchdogTimerConfig" => at_least_ten_seconds(document, "timeout"),
        _ => {}
    }
}

fn etc_file(document: &mut Document<'_, '_>) {
    let name = document.text("name");
    let folder = name.split('/').next().unwrap_or_default();
    if name.starts_with(['/', '.']) || name.split('/').any(|step| step == "..") {
        document.error("name", format!("\"{name}\" is not a path below /etc"));
    } else if MANAGED_FILES.contains(&name) || MANAGED_FOLDERS.contains(&folder) {
        document.error("name", format!("\"{name}\" is managed by Talos"));
    }
}

fn environment(document: &mut Document<'_, '_>) {
    let valid = |key: &str| {
        !key.starts_with(|c: char| c.is_ascii_digit())
            && !key.is_empty()
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let wrong: Vec<&String> = document.entries("variables").map(|(key, _)| key).filter(|key| !valid(key)).collect();
    for key in wrong {
        document.error("variables", format!("\"{key}\" is not a valid variable name"));
    }
}

fn extension(document: &mut Document<'_, '_>) {
    let files = document.list("configFiles");
    if files.is_empty() && document.list("environment").is_empty() {
        document.error("configFiles", "either config files or environment is required");
    }
    for (index, file) in files.iter().enumerate() {
        for field in ["content", "mountPath"].into_iter().filter(|field| text(file, field).is_empty()) {
            document.error(format!("configFiles[{index}].{field}"), "is required");
        }
    }
}

fn registry_auth(document: &mut Document<'_, '_>) {
    let set = |field: &str| !document.text(field).is_empty();
    let ways = ["username", "identityToken", "auth"].into_iter().filter(|field| set(field)).count();
    if ways > 1 {
        document.error("auth", "only one of username with password, identityToken and auth can be set");
    }
}

fn registry_tls(document: &mut Document<'_, '_>) {
    if document.has("ca") && !is_pem(document.text("ca"), Some("CERTIFICATE")) {
        document.error("ca", "is not a PEM certificate");
    }
    if document.has("clientIdentity") {
        for (field, label) in [("clientIdentity.cert", Some("CERTIFICATE")), ("clientIdentity.key", None)] {
            if !is_pem(document.text(field), label) {
                document.error(field, "is not PEM-encoded");
            }
        }
    }
}

fn image_rules(document: &mut Document<'_, '_>) {
    for (index, rule) in document.list("rules").iter().enumerate() {
        let path = format!("rules[{index}]");
        let pattern = text(rule, "image");
        if pattern.is_empty() {
            document.error(format!("{path}.image"), "is required");
        } else if !pattern.contains('/') && pattern != "*" {
            document.warn(
                format!("{path}.image"),
                format!("has no slash and only matches the image `docker.io/{pattern}`"),
            );
        }
        if pattern.contains('@') || pattern.split_once('/').is_some_and(|(_, rest)| rest.contains(':')) {
            document.warn(format!("{path}.image"), "matches only registry and repository, not tag or digest");
        }
        let is = |field: &str| get(rule, field) == Some(&Value::Bool(true));
        let verifiers = ["keyless", "publicKey"].into_iter().filter(|field| get(rule, field).is_some()).count();
        match (is("skip"), is("deny"), verifiers) {
            (true, true, _) => document.error(&path, "skip and deny are mutually exclusive"),
            (false, false, 0) => document.error(&path, "one of skip, deny, keyless and publicKey is required"),
            (_, _, 2) => document.error(&path, "keyless and publicKey are mutually exclusive"),
            (true, _, 1) | (_, true, 1) => document.error(&path, "a verifier cannot be combined with skip or deny"),
            _ => {}
        }
        if get(rule, "keyless").is_some() {
            if text(rule, "keyless.issuer").is_empty() {
                document.error(format!("{path}.keyless.issuer"), "is required");
            }
            if text(rule, "keyless.subject").is_empty() && text(rule, "keyless.subjectRegex").is_empty() {
                document.error(format!("{path}.keyless.subject"), "subject or subjectRegex is required");
            }
        }
        if get(rule, "publicKey").is_some() && text(rule, "publicKey.certificate").is_empty() {
            document.error(format!("{path}.publicKey.certificate"), "is required");
        }
    }
}

fn container(document: &mut Document<'_, '_>) {
    let image = document.text("image");
    if !image.is_empty() && !image.contains("@sha256:") {
        document.warn("image", format!("\"{image}\" is not pinned by digest and may change with a restart"));
    }
    for (index, variable) in document.list("environment").iter().enumerate() {
        if !variable.as_str().unwrap_or_default().contains('=') {
            document.error(format!("environment[{index}]"), format!("{variable} must be KEY=value"));
        }
    }
    mounts(document);
    if document.has("security") && !matches!(document.text("security.profile"), "" | "restricted" | "privileged") {
        document.error("security.profile", "must be restricted or privileged");
    }
    capabilities(document);
    if document.has("network") && !matches!(document.text("network.mode"), "" | "none" | "host") {
        document.error("network.mode", "must be none or host");
    }
    let memory = document.text("resources.limits.memory");
    if !memory.is_empty() && size(memory).is_none() {
        document.error("resources.limits.memory", format!("\"{memory}\" is not a size"));
    }
    for field in ["runAs.uid", "runAs.gid"] {
        if document.number(field) < 0 {
            document.error(field, "must not be negative");
        }
    }
    for (index, path) in document.list("dependsOn.paths").iter().enumerate() {
        if !path.as_str().unwrap_or_default().starts_with('/') {
            document.error(format!("dependsOn.paths[{index}]"), "must be an absolute path");
        }
    }
    for (index, name) in document.list("dependsOn.containers").iter().enumerate() {
        if name.as_str().unwrap_or_default().is_empty() || name.as_str() == Some(document.text("name")) {
            document.error(format!("dependsOn.containers[{index}]"), "must be another container");
        }
    }
}

fn mounts(document: &mut Document<'_, '_>) {
    let mut destinations = BTreeSet::new();
    for (index, mount) in document.list("mounts").iter().enumerate() {
        let path = format!("mounts[{index}]");
        let kinds: Vec<&str> =
            ["userVolume", "tmpfs", "hostPath"].into_iter().filter(|kind| get(mount, kind).is_some()).collect();
        let [kind] = kinds.as_slice() else {
            document.error(path, "exactly one of userVolume, tmpfs or hostPath must be set");
            continue;
        };
        if *kind == "userVolume" && text(mount, "userVolume.name").is_empty() {
            document.error(format!("{path}.userVolume.name"), "is required");
        }
        let mut fields = vec![format!("{kind}.destination")];
        fields.extend((*kind == "hostPath").then(|| "hostPath.source".to_owned()));
        for field in fields.iter().filter(|field| !text(mount, field).starts_with('/')) {
            document.error(format!("{path}.{field}"), "must be an absolute path");
        }
        if !destinations.insert(text(mount, &fields[0])) {
            document.error(format!("{path}.{}", fields[0]), "is mounted twice");
        }
    }
}

fn capabilities(document: &mut Document<'_, '_>) {
    let dropped = document.list("security.capabilities.drop");
    for (index, capability) in document.list("security.capabilities.add").iter().enumerate() {
        let path = format!("security.capabilities.add[{index}]");
        if capability.as_str() == Some("ALL") {
            document.error(path, "ALL is not supported; use the profile privileged");
        } else if dropped.contains(capability) {
            document.error(path, format!("{capability} is both added and dropped"));
        }
    }
}
