//! Which kinds releases contain, and what defines them: a kind without a definition fails in Helm after minutes (H03).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use helmfile::Release;
use kubernetes::ObjectRef;

/// The API groups that every API server serves (Kubernetes 1.35), besides those without a dot.
const BUILT_IN: [&str; 16] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Groups whose kinds an operator registers when it runs, and the release that installs the operator (H07).
const AT_RUN_TIME: [(&str, &str); 1] = [("cilium.io", "cilium")];

/// An object of a release whose kind is not built in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) release: String,
    pub(super) place: String,
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
}

impl Use {
    fn group(&self) -> &str {
        group(&self.api_version)
    }
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { release, api_version, kind, name, .. } = self;
        write!(f, "{kind} of {api_version} ({name} in {release})")
    }
}

/// Cluster-scoped kinds of Kubernetes 1.35 and of the Gateway API, by group.
const CLUSTER_SCOPED: [(&str, &str); 28] = [
    ("", "Namespace"),
    ("", "Node"),
    ("", "PersistentVolume"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("certificates.k8s.io", "ClusterTrustBundle"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("networking.k8s.io", "IPAddress"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "ServiceCIDR"),
    ("node.k8s.io", "RuntimeClass"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("resource.k8s.io", "DeviceClass"),
    ("resource.k8s.io", "ResourceSlice"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttributesClass"),
];

/// Whether objects of a kind are in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Namespaced,
    Cluster,
}

#[derive(Debug, Default)]
struct Ledger {
    /// By group and kind.
    defined: BTreeMap<(String, String), Scope>,
    releases: BTreeSet<String>,
    uses: Vec<Use>,
    /// Secrets, by name.
    secrets: BTreeSet<String>,
}

/// The kinds and Secrets of everything that has been rendered so far.
#[derive(Debug, Default)]
pub(super) struct Kinds(Mutex<Ledger>);

impl Kinds {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the kinds that custom resource definitions among the objects define.
    pub(super) fn define(&self, objects: &[Value]) {
        let defined = objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition").filter_map(|crd| {
            let text = |pointer: &str| Some(crd.pointer(pointer)?.as_str()?.to_owned());
            let is_cluster_scoped = crd.pointer("/spec/scope").and_then(Value::as_str) == Some("Cluster");
            let scope = if is_cluster_scoped { Scope::Cluster } else { Scope::Namespaced };
            Some(((text("/spec/group")?, text("/spec/names/kind")?), scope))
        });
        self.ledger().defined.extend(defined);
    }

    /// The scope of a kind, by Kubernetes itself or by the definition that was noted; namespaced if there is neither.
    pub(super) fn scope(&self, group: &str, kind: &str) -> Scope {
        if CLUSTER_SCOPED.contains(&(group, kind)) {
            return Scope::Cluster;
        }
        let defined = self.ledger().defined.get(&(group.to_owned(), kind.to_owned())).copied();
        defined.unwrap_or(Scope::Namespaced)
    }

    /// Notes the Secrets among objects, and those that a controller will create from them.
    pub(super) fn provide(&self, objects: &[Value]) {
        let names = objects.iter().flat_map(|object| match object["kind"].as_str() {
            Some("Secret") => [object.pointer("/metadata/name"), None],
            Some("ExternalSecret") => [object.pointer("/metadata/name"), object.pointer("/spec/target/name")],
            _ => [None, None],
        });
        let names = names.flatten().filter_map(Value::as_str).map(str::to_owned);
        self.ledger().secrets.extend(names);
    }

    /// Whether a Secret of this name was noted.
    pub(super) fn provides(&self, secret: &ObjectRef) -> bool {
        self.ledger().secrets.contains(&secret.name)
    }

    /// Notes the objects of a release, and the kinds that it defines.
    pub(super) fn note(&self, release: &Release, objects: &[Value]) {
        self.define(objects);
        self.provide(objects);
        let mut ledger = self.ledger();
        ledger.releases.insert(release.id.name.clone());
        for object in objects {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let own = Use {
                release: release.id.to_string(),
                place: release.at.to_string(),
                api_version: text("/apiVersion"),
                kind: text("/kind"),
                name: text("/metadata/name"),
            };
            if own.group().contains('.') && !BUILT_IN.contains(&own.group()) && !ledger.uses.contains(&own) {
                ledger.uses.push(own);
            }
        }
    }

    /// The first object of each kind that nothing defines.
    pub(super) fn unserved(&self) -> Vec<Use> {
        let ledger = self.ledger();
        let mut seen = BTreeSet::new();
        let is_served = |used: &Use| {
            let by_crd = ledger.defined.contains_key(&(used.group().to_owned(), used.kind.clone()));
            let by_operator =
                AT_RUN_TIME.iter().any(|(group, release)| *group == used.group() && ledger.releases.contains(*release));
            by_crd || by_operator
        };
        let unserved = ledger.uses.iter().filter(|used| !is_served(used));
        unserved.filter(|used| seen.insert((used.group().to_owned(), used.kind.clone()))).cloned().collect()
    }
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use helmfile::{Chart, ReleaseId};
    use yaml::{Origin, Position};

    fn release(name: &str) -> Release {
        let id = ReleaseId { namespace: "x".into(), name: name.into() };
        let chart = Chart::Oci { reference: format!("example.org/{name}"), version: None };
        Release::new(id, chart, Origin::new("apps.yaml").location(Position { line: 3, column: 5 }))
    }

    fn object(api_version: &str, kind: &str) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "y"}})
    }

    #[test]
    fn a_kind_without_a_definition_is_reported_once() {
        let kinds = Kinds::default();
        let monitor = object("monitoring.coreos.com/v1", "ServiceMonitor");
        let built_in =
            [object("v1", "Service"), object("apps/v1", "Deployment"), object("networking.k8s.io/v1", "Ingress")];
        kinds.note(&release("spegel"), &[built_in.as_slice(), std::slice::from_ref(&monitor)].concat());
        kinds.note(&release("other"), std::slice::from_ref(&monitor));
        let unserved = kinds.unserved();
        assert_eq!(unserved.len(), 1);
        assert_eq!((unserved[0].release.as_str(), unserved[0].kind.as_str()), ("x/spegel", "ServiceMonitor"));
        kinds.define(&[json!({
            "kind": "CustomResourceDefinition",
            "spec": {"group": "monitoring.coreos.com", "names": {"kind": "ServiceMonitor"}},
        })]);
        assert!(kinds.unserved().is_empty());
    }

    #[test]
    fn secrets_are_provided_by_manifests_or_by_what_creates_them() {
        let kinds = Kinds::default();
        let external = json!({"kind": "ExternalSecret", "metadata": {"name": "a"}, "spec": {"target": {"name": "b"}}});
        kinds.note(
            &release("x"),
            &[object("v1", "Secret"), external, json!({"kind": "ConfigMap", "metadata": {"name": "c"}})],
        );
        let provides = |name: &str| kinds.provides(&ObjectRef::new("v1", "Secret", Some("x"), name));
        assert_eq!(["y", "a", "b", "c"].map(provides), [true, true, true, false]);
    }

    #[test]
    fn what_an_operator_registers_needs_its_release() {
        let kinds = Kinds::default();
        kinds.note(&release("pools"), &[object("cilium.io/v2", "CiliumLoadBalancerIPPool")]);
        assert_eq!(kinds.unserved().len(), 1);
        kinds.note(&release("cilium"), &[]);
        assert!(kinds.unserved().is_empty());
    }
}
