//! The names of the facts in a lab's record. A scenario's `holds` refer to them.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::spec::ReleaseKey;

pub(crate) const API_READY: &str = "api/ready";
/// The controller manager acts: from then on workloads get pods.
pub(crate) const CONTROLLERS_RUNNING: &str = "controllers/running";
pub(crate) const CILIUM_CRDS_REGISTERED: &str = "cilium/crds-registered";
pub(crate) const WEBHOOK_SERVES: &str = "cert-manager/webhook-serves";
pub(crate) const CA_INJECTED: &str = "cert-manager/ca-injected";
pub(crate) const FLUX_CRDS_REGISTERED: &str = "flux/crds-registered";
pub(crate) const FLUX_CONTROLLERS_BUILT: &str = "flux/controllers-built";
pub(crate) const FLUX_INSTANCE_READY: &str = "flux/instance-ready";
pub(crate) const FLUX_REPOSITORY_READY: &str = "flux/repository-ready";
pub(crate) const FLUX_KUSTOMIZATION_READY: &str = "flux/kustomization-ready";

/// The facts that a release causes at run time beyond its pods. A release that needs it waits for them as well.
pub(crate) fn release_effects(release: &str) -> &'static [&'static str] {
    match release {
        "cilium" => &[CILIUM_CRDS_REGISTERED],
        "cert-manager" => &[CA_INJECTED],
        _ => &[],
    }
}

pub(crate) fn node_installed(node: &str) -> String {
    format!("node/{node}/installed")
}

pub(crate) fn node_booted(node: &str) -> String {
    format!("node/{node}/booted")
}

pub(crate) fn node_registered(node: &str) -> String {
    format!("node/{node}/registered")
}

pub(crate) fn node_ready(node: &str) -> String {
    format!("node/{node}/ready")
}

/// The machine's member votes: others can join through it.
pub(crate) fn etcd_votes(node: &str) -> String {
    format!("etcd/{node}/votes")
}

/// Talos has seen the machine's member healthy: its static pods start.
pub(crate) fn etcd_healthy(node: &str) -> String {
    format!("etcd/{node}/healthy")
}

pub(crate) fn pod_ready(pod: &Pod) -> String {
    format!("pod/{}/{}/ready", pod.namespace().unwrap_or_default(), pod.name_any())
}

pub(crate) fn pod_completed(pod: &Pod) -> String {
    format!("pod/{}/{}/completed", pod.namespace().unwrap_or_default(), pod.name_any())
}

pub(crate) fn release_installed(release: &ReleaseKey) -> String {
    format!("release/{release}/installed")
}

pub(crate) fn release_ready(release: &ReleaseKey) -> String {
    format!("release/{release}/ready")
}

pub(crate) fn release_adopted(release: &ReleaseKey) -> String {
    format!("release/{release}/adopted")
}

pub(crate) fn issuer_ready(issuer: &str) -> String {
    format!("issuer/{issuer}/ready")
}

pub(crate) fn conversion_serves(definition: &str) -> String {
    format!("conversion/{definition}/serves")
}
