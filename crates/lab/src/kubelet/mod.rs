//! Simulated kubelets: nodes that register and become Ready, and pods that run on them without a container.
//!
//! Each machine registers its own node and renews its own lease ([`registration`]). Everything else is done by one loop
//! for the whole lab ([`pods`]), on one shared watch: what a pod should look like is decided by a pure function
//! ([`lifecycle`]) and spelled out by another ([`status`]). Workloads are driven by the real controller manager.

mod events;
mod lifecycle;
mod mirror;
mod nodes;
mod pods;
mod registration;
mod status;

pub(super) use pods::Kubelets;
pub(super) use registration::run;

/// The field manager and the source of events.
const MANAGER: &str = "kubelet";

/// A moment as Kubernetes writes it.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
