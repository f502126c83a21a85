//! Rules about all documents of a config together.

use serde_json::Value;

use super::super::schema::schema;
use super::RuntimeMode;
use super::document::{Document, Finding, get, list, text};
use super::legacy::is_control_plane;

pub(super) fn check(documents: &[Value], mode: RuntimeMode, found: &mut Vec<Finding>) {
    let whole = Whole { documents };
    let mut problems = whole.host_dns(mode);
    problems.extend(whole.discovery());
    problems.extend(whole.encryption_at_rest());
    problems.extend(whole.control_plane_documents());
    for (document, message) in problems {
        found.push(Finding { document, path: String::new(), message, warning: false });
    }
    whole.containers(found);
}

struct Whole<'v> {
    documents: &'v [Value],
}

type Problems = Vec<(Option<usize>, String)>;

impl<'v> Whole<'v> {
    fn legacy(&self, path: &str) -> Option<&'v Value> {
        get(self.documents.iter().find(|document| document.get("kind").is_none())?, path)
    }

    fn of_kind(&self, kind: &str) -> Option<(usize, &'v Value)> {
        self.documents.iter().enumerate().find(|(_, document)| text(document, "kind") == kind)
    }

    fn host_dns(&self, mode: RuntimeMode) -> Problems {
        let document = self.of_kind("ResolverConfig").and_then(|(_, resolver)| get(resolver, "hostDNS"));
        let config = document.or_else(|| self.legacy("machine.features.hostDNS"));
        let is = |field: &str| config.is_some_and(|config| get(config, field) == Some(&Value::Bool(true)));
        let mut problems = Problems::new();
        if mode == RuntimeMode::Container {
            for field in ["enabled", "forwardKubeDNSToHost"].into_iter().filter(|field| !is(field)) {
                let message =
                    format!("hostDNS config is required in container mode (machine.features.hostDNS.{field})");
                problems.push((None, message));
            }
        }
        let encrypted = |server: &Value| !matches!(text(server, "protocol"), "" | "Do53");
        if let Some((index, resolver)) = self.of_kind("ResolverConfig")
            && list(resolver, "nameservers").iter().any(encrypted)
            && !is("enabled")
        {
            problems.push((Some(index), "hostDNS must be enabled for encrypted DNS".to_owned()));
        }
        problems
    }

    /// Whether cluster discovery uses the discovery service.
    fn discovers(&self) -> bool {
        let legacy = self.legacy("cluster.discovery.enabled") == Some(&Value::Bool(true))
            && self.legacy("cluster.discovery.registries.service.disabled") != Some(&Value::Bool(true));
        legacy || self.of_kind("DiscoveryServiceConfig").is_some()
    }

    fn discovery(&self) -> Problems {
        let mut problems = Problems::new();
        let identity = self.of_kind("DiscoveryIdentityConfig").map(|(_, identity)| identity);
        let service = self.of_kind("DiscoveryServiceConfig");
        for (field, legacy) in [("clusterID", "cluster.id"), ("clusterSecret", "cluster.secret")] {
            let here = identity.is_some_and(|identity| !text(identity, field).is_empty());
            let there = self.legacy(legacy).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
            if let Some((index, _)) = service.filter(|_| !here && !there) {
                problems.push((Some(index), format!("requires {legacy}, or {field} of DiscoveryIdentityConfig")));
            }
        }
        let legacy_mesh = self.legacy("machine.network.kubespan.enabled") == Some(&Value::Bool(true));
        let mesh = self.of_kind("KubeSpanConfig").filter(|(_, mesh)| get(mesh, "enabled") == Some(&Value::Bool(true)));
        if (legacy_mesh || mesh.is_some()) && !self.discovers() {
            problems
                .push((mesh.map(|(index, _)| index), "KubeSpan requires cluster discovery to be enabled".to_owned()));
        }
        problems
    }

    fn machine_type(&self) -> &'v str {
        self.legacy("machine.type").and_then(Value::as_str).unwrap_or_default()
    }

    fn encryption_at_rest(&self) -> Problems {
        let set = |field: &str| self.legacy(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        let authority = self.legacy("cluster.ca").is_some()
            || self.legacy("cluster.acceptedCAs").is_some()
            || self.of_kind("KubeAPIServerCAConfig").is_some();
        let encrypted = set("cluster.secretboxEncryptionSecret")
            || set("cluster.aescbcEncryptionSecret")
            || self.of_kind("KubeEtcdEncryptionConfig").is_some();
        let missing = is_control_plane(self.machine_type()) && authority && !encrypted;
        let message = "etcd encryption config is required for control plane machines: KubeEtcdEncryptionConfig, or \
                       cluster.secretboxEncryptionSecret up to Talos 1.13";
        missing.then(|| (None, message.to_owned())).into_iter().collect()
    }

    fn control_plane_documents(&self) -> Problems {
        if is_control_plane(self.machine_type()) {
            return vec![];
        }
        let only = |document: &Value| {
            schema().kind(document.get("kind").and_then(Value::as_str)).is_some_and(|kind| kind.control_plane_only)
        };
        let wrong = self.documents.iter().enumerate().filter(|(_, document)| only(document));
        wrong.map(|(index, _)| (Some(index), "is only allowed on control plane machines".to_owned())).collect()
    }

    /// Dependencies on containers that do not exist.
    fn containers(&self, found: &mut Vec<Finding>) {
        let names: Vec<&str> = self
            .documents
            .iter()
            .filter(|document| text(document, "kind") == "ContainerConfig")
            .map(|document| text(document, "name"))
            .collect();
        for (index, value) in
            self.documents.iter().enumerate().filter(|(_, document)| text(document, "kind") == "ContainerConfig")
        {
            let mut document = Document { index, value, found };
            for (entry, name) in document.list("dependsOn.containers").iter().enumerate() {
                if !names.contains(&name.as_str().unwrap_or_default()) {
                    document.error(format!("dependsOn.containers[{entry}]"), format!("unknown container {name}"));
                }
            }
        }
    }
}
