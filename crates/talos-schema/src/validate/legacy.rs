//! The legacy document: machine and cluster.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::typed::Url;
use super::RuntimeMode;
use super::document::{Document, get, list, number, text};
use super::interfaces;
use super::kubernetes::{PROTECTED_KUBELET_FIELDS, ROLES, node_names};
use super::syntax::{is_dns_name, is_endpoint, is_subnet_or_address};

/// Whether a machine type is a control plane.
pub(super) fn is_control_plane(machine_type: &str) -> bool {
    matches!(machine_type, "init" | "controlplane")
}

pub(super) fn check(document: &mut Document<'_, '_>, mode: RuntimeMode) {
    if !document.has("machine") {
        document.error("machine", "machine instructions are required");
        return;
    }
    let machine_type = document.text("machine.type");
    if document.has("cluster") {
        cluster(document, machine_type);
    } else {
        document.error("cluster", "cluster instructions are required");
    }
    if mode == RuntimeMode::Metal {
        install(document);
    }
    match machine_type {
        "init" | "controlplane" => control_plane_only(document),
        "worker" | "join" | "" => worker_only(document),
        other => document.error("machine.type", format!("unknown machine type \"{other}\"")),
    }
    if matches!(machine_type, "join" | "") {
        document.warn("machine.type", "is deprecated; use \"worker\"");
    }
    if !document.has("machine.ca") && document.list("machine.acceptedCAs").is_empty() {
        document.error("machine.ca", "an issuing CA or some accepted CAs (machine.acceptedCAs) are required");
    }
    if document.get("persist") == Some(&Value::Bool(false)) {
        document.error("persist", "should be enabled");
    }
    interfaces::check(document);
    storage(document);
    features(document);
    deprecated(document);
}

fn install(document: &mut Document<'_, '_>) {
    if !document.has("machine.install") {
        return;
    }
    if document.text("machine.install.disk").is_empty() && !document.has("machine.install.diskSelector") {
        document.error("machine.install", "either the install disk or a diskSelector is required");
    }
    if !document.list("machine.install.extraKernelArgs").is_empty()
        && document.is_true("machine.install.grubUseUKICmdline")
    {
        document.error("machine.install.extraKernelArgs", "cannot be combined with install.grubUseUKICmdline");
    }
}

fn control_plane_only(document: &mut Document<'_, '_>) {
    if document.has("cluster.network") {
        cni(document);
    }
    if document.has("machine.ca") && document.text("machine.ca.key").is_empty() {
        document.error("machine.ca.key", "the key of the issuing CA is required on control planes");
    } else if !document.has("machine.ca") {
        document.error("machine.ca", "the issuing CA is required on control planes");
    }
}

fn worker_only(document: &mut Document<'_, '_>) {
    if !document.text("machine.ca.key").is_empty() {
        document.error("machine.ca", "the key of the issuing Talos API CA is not allowed on workers");
    }
    if document.has("machine.ca")
        && document.text("machine.ca.crt").is_empty()
        && document.list("machine.acceptedCAs").is_empty()
    {
        document.error("machine.ca.crt", "a trusted CA is required on workers, here or in machine.acceptedCAs");
    }
    if !document.text("cluster.ca.key").is_empty() {
        document.error("cluster.ca", "the key of the issuing Kubernetes API CA is not allowed on workers");
    }
    for (index, device) in document.list("machine.network.interfaces").iter().enumerate() {
        let path = format!("machine.network.interfaces[{index}]");
        let vlans = list(device, "vlans").iter().enumerate();
        let shared =
            vlans.filter(|(_, vlan)| get(vlan, "vip").is_some()).map(|(vlan, _)| format!("{path}.vlans[{vlan}].vip"));
        for path in get(device, "vip").map(|_| format!("{path}.vip")).into_iter().chain(shared) {
            document.error(path, "a virtual (shared) IP is not allowed on workers");
        }
    }
}

fn cluster(document: &mut Document<'_, '_>, machine_type: &str) {
    if document.has("cluster.controlPlane") {
        let endpoint = document.text("cluster.controlPlane.endpoint");
        if endpoint.is_empty() {
            document.error("cluster.controlPlane.endpoint", "is required");
        } else if !is_endpoint(endpoint) {
            document.error(
                "cluster.controlPlane.endpoint",
                format!("\"{endpoint}\" is not an endpoint such as https://HOST:PORT"),
            );
        }
    }
    let domain = document.text("cluster.network.dnsDomain");
    if !domain.is_empty() && !is_dns_name(domain) {
        document.error("cluster.network.dnsDomain", format!("\"{domain}\" is not a valid DNS name"));
    }
    let manifests = document.list("cluster.externalCloudProvider.manifests");
    if !document.is_true("cluster.externalCloudProvider.enabled") && !manifests.is_empty() {
        document.error("cluster.externalCloudProvider", "is disabled, but has manifests");
    } else {
        for (index, url) in
            manifests.iter().enumerate().filter(|(_, url)| !is_endpoint(url.as_str().unwrap_or_default()))
        {
            document.error(format!("cluster.externalCloudProvider.manifests[{index}]"), format!("{url} is not a URL"));
        }
    }
    if document.has("cluster.etcd") {
        etcd(document, machine_type);
    }
    if !is_control_plane(machine_type) && !document.text("cluster.ca.key").is_empty() {
        document.error("cluster.ca", "the cluster CA's key is not allowed on workers");
    }
    inline_manifests(document);
    discovery(document);
    for component in ["apiServer", "controllerManager", "scheduler"] {
        for sort in ["requests", "limits"] {
            let path = format!("cluster.{component}.resources.{sort}");
            let others: Vec<&String> = document
                .entries(&path)
                .map(|(key, _)| key)
                .filter(|key| !matches!(key.as_str(), "cpu" | "memory"))
                .collect();
            for key in others {
                document.error(&path, format!("the resource \"{key}\" is not supported"));
            }
        }
    }
    authorizers(document);
}

fn authorizers(document: &mut Document<'_, '_>) {
    let path = "cluster.apiServer.authorizationConfig";
    if document.list(path).is_empty() {
        return;
    }
    let flags = document.entries("cluster.apiServer.extraArgs").map(|(flag, _)| flag);
    let taken: Vec<&String> =
        flags.filter(|flag| *flag == "authorization-mode" || flag.starts_with("authorization-webhook-")).collect();
    for flag in taken {
        document
            .error("cluster.apiServer.extraArgs", format!("\"{flag}\" cannot be combined with authorizationConfig"));
    }
    for (index, authorizer) in document.list(path).iter().enumerate() {
        for field in ["type", "name"].into_iter().filter(|field| text(authorizer, field).is_empty()) {
            document.error(format!("{path}[{index}].{field}"), "is required");
        }
    }
}

fn etcd(document: &mut Document<'_, '_>, machine_type: &str) {
    if !is_control_plane(machine_type) {
        document.error("cluster.etcd", "etcd config is only allowed on control plane machines");
        return;
    }
    if !document.has("cluster.etcd.ca") {
        document.error("cluster.etcd.ca", "certificate and key should not be empty");
    }
    if !document.text("cluster.etcd.subnet").is_empty() && !document.list("cluster.etcd.advertisedSubnets").is_empty() {
        document.error("cluster.etcd.subnet", "cannot be combined with advertisedSubnets");
    }
    for list in ["cluster.etcd.advertisedSubnets", "cluster.etcd.listenSubnets"] {
        subnets(document, list);
    }
}

fn subnets(document: &mut Document<'_, '_>, path: &str) {
    for (index, subnet) in document.list(path).iter().enumerate() {
        if !is_subnet_or_address(subnet.as_str().unwrap_or_default()) {
            document.error(format!("{path}[{index}]"), format!("{subnet} is not a subnet"));
        }
    }
}

fn inline_manifests(document: &mut Document<'_, '_>) {
    let mut seen = BTreeSet::new();
    for (index, manifest) in document.list("cluster.inlineManifests").iter().enumerate() {
        let name = text(manifest, "name");
        let path = format!("cluster.inlineManifests[{index}].name");
        if name.trim().is_empty() {
            document.error(&path, "the name of an inline manifest can't be empty");
        }
        if !seen.insert(name) {
            document.error(path, format!("duplicate inline manifest \"{name}\""));
        }
    }
}

fn discovery(document: &mut Document<'_, '_>) {
    let service = "cluster.discovery.registries.service";
    if !document.is_true("cluster.discovery.enabled") || document.is_true(&format!("{service}.disabled")) {
        return;
    }
    let endpoint = document.text(&format!("{service}.endpoint"));
    if !endpoint.is_empty() {
        match Url::parse(endpoint) {
            Some(url) if !url.scheme.is_empty() && matches!(url.path, "" | "/") => {}
            _ => document.error(format!("{service}.endpoint"), format!("\"{endpoint}\" is not a URL without a path")),
        }
    }
    for (field, name) in [("cluster.id", "cluster ID"), ("cluster.secret", "cluster secret")] {
        if document.text(field).is_empty() {
            document.error(field, format!("the {name} is required by the discovery service"));
        }
    }
}

fn cni(document: &mut Document<'_, '_>) {
    let path = "cluster.network.cni";
    let urls = document.list(&format!("{path}.urls"));
    let name = if document.has(path) { document.text(&format!("{path}.name")) } else { "flannel" };
    match name {
        "flannel" | "none" if !urls.is_empty() => {
            document.error(format!("{path}.urls"), format!("should be empty for the CNI \"{name}\""));
        }
        "flannel" | "none" => {}
        "custom" if urls.is_empty() => {
            document.warn(format!("{path}.urls"), "should not be empty for the CNI \"custom\"");
        }
        "custom" => {
            for (index, url) in
                urls.iter().enumerate().filter(|(_, url)| !is_endpoint(url.as_str().unwrap_or_default()))
            {
                document.error(format!("{path}.urls[{index}]"), format!("{url} is not a URL"));
            }
        }
        other => {
            document
                .error(format!("{path}.name"), format!("unknown CNI \"{other}\": expected flannel, custom or none"));
        }
    }
    if name != "flannel" {
        if !document.list(&format!("{path}.flannel.extraArgs")).is_empty() {
            document.error(format!("{path}.flannel.extraArgs"), format!("should be empty for the CNI \"{name}\""));
        }
        if document.is_true(&format!("{path}.flannel.kubeNetworkPoliciesEnabled")) {
            let field = format!("{path}.flannel.kubeNetworkPoliciesEnabled");
            document.error(field, format!("should not be set for the CNI \"{name}\""));
        }
    }
}

fn storage(document: &mut Document<'_, '_>) {
    for (index, disk) in document.list("machine.disks").iter().enumerate() {
        let partitions = list(disk, "partitions");
        let whole = |partition: &Value| {
            matches!(get(partition, "size"), None | Some(Value::Number(_))) && number(partition, "size") == 0
        };
        for (partition, _) in partitions.iter().enumerate().rev().skip(1).filter(|(_, partition)| whole(partition)) {
            let path = format!("machine.disks[{index}].partitions[{partition}]");
            document.error(
                path,
                format!(
                    "uses the rest of the disk {} but is not the last partition",
                    get(disk, "device").unwrap_or(&Value::Null)
                ),
            );
        }
    }
    for volume in ["ephemeral", "state"] {
        let path = format!("machine.systemDiskEncryption.{volume}");
        if !document.has(&path) {
            continue;
        }
        let keys = document.list(&format!("{path}.keys"));
        if keys.is_empty() {
            document.error(format!("{path}.keys"), "no encryption keys provided");
        }
        encryption_keys(document, &format!("{path}.keys"), keys);
    }
}

/// Keys of an encrypted volume: unique slots, each with a key source.
pub(super) fn encryption_keys(document: &mut Document<'_, '_>, path: &str, keys: &[Value]) {
    let mut slots = BTreeSet::new();
    for (index, key) in keys.iter().enumerate() {
        let slot = number(key, "slot");
        if !slots.insert(slot) {
            document.error(format!("{path}[{index}].slot"), format!("the key slot {slot} is used twice"));
        }
        if ["static", "nodeID", "kms", "tpm"].iter().all(|sort| get(key, sort).is_none()) {
            document.error(
                format!("{path}[{index}]"),
                format!("the key in slot {slot} has no source: expected static, nodeID, kms or tpm"),
            );
        }
    }
}

fn features(document: &mut Document<'_, '_>) {
    let host_dns = "machine.features.hostDNS";
    if document.is_true(&format!("{host_dns}.forwardKubeDNSToHost"))
        && !document.is_true(&format!("{host_dns}.enabled"))
    {
        document.error(host_dns, "forwardKubeDNSToHost requires hostDNS to be enabled");
    }
    let access = "machine.features.kubernetesTalosAPIAccess";
    if document.is_true(&format!("{access}.enabled")) {
        if !is_control_plane(document.text("machine.type")) {
            document.error(access, "access to the Talos API from Kubernetes is only possible on control planes");
        }
        let roles = document.list(&format!("{access}.allowedRoles"));
        for (index, role) in
            roles.iter().enumerate().filter(|(_, role)| !ROLES.contains(&role.as_str().unwrap_or_default()))
        {
            document.error(format!("{access}.allowedRoles[{index}]"), format!("unknown role {role}"));
        }
    }
    let algorithm = document.text("machine.features.nodeAddressSortAlgorithm");
    if !matches!(algorithm, "" | "v1" | "v2") {
        document.error(
            "machine.features.nodeAddressSortAlgorithm",
            format!("unknown algorithm \"{algorithm}\": expected v1 or v2"),
        );
    }
    subnets(document, "machine.kubelet.nodeIP.validSubnets");
    for field in PROTECTED_KUBELET_FIELDS {
        if document.has(&format!("machine.kubelet.extraConfig.{field}")) {
            document.error(format!("machine.kubelet.extraConfig.{field}"), "can't be overridden");
        }
    }
    node_names(document, ["machine.nodeLabels", "machine.nodeAnnotations", "machine.nodeTaints"]);
    for (index, destination) in document.list("machine.logging.destinations").iter().enumerate() {
        let path = format!("machine.logging.destinations[{index}]");
        match Url::parse(text(destination, "endpoint")) {
            Some(url) if matches!(url.scheme, "tcp" | "udp") && !url.host.is_empty() => {}
            _ => document.error(format!("{path}.endpoint"), "should be a URL with the scheme tcp or udp"),
        }
        if text(destination, "format") != "json_lines" {
            document.error(format!("{path}.format"), "should be json_lines");
        }
    }
    for sort in ["config", "mirrors"] {
        let path = format!("machine.registries.{sort}");
        let empty: Vec<&String> =
            document.entries(&path).filter(|(_, value)| value.is_null()).map(|(key, _)| key).collect();
        for key in empty {
            document.error(&path, format!("\"{key}\" is null"));
        }
    }
}

fn deprecated(document: &mut Document<'_, '_>) {
    if !document.list("machine.files").is_empty() {
        document.warn("machine.files", "is deprecated from Talos 1.14 on; use separate documents where possible");
    }
    if document.get("machine.baseRuntimeSpecOverrides").and_then(Value::as_object).is_some_and(|map| !map.is_empty()) {
        document.warn("machine.baseRuntimeSpecOverrides", "is deprecated; use the document CRIBaseRuntimeSpecConfig");
    }
    let mut seen = BTreeSet::new();
    let extensions = document.list("machine.install.extensions");
    for (index, extension) in extensions.iter().enumerate() {
        let image = text(extension, "image");
        if !seen.insert(image) {
            document.error(format!("machine.install.extensions[{index}]"), format!("duplicate extension \"{image}\""));
        }
    }
    if !extensions.is_empty() {
        document.warn("machine.install.extensions", "is deprecated; extensions belong in the boot image");
    }
}
