//! Simulated kubelets: nodes become Ready, and pods run on them without containers.
//!
//! Each machine registers its own node (`node::registration`). Everything else is done by one loop for the whole lab
//! ([`pods`]), on shared watches: a pure function decides the stage of a pod ([`lifecycle`]), another one writes it as a
//! status ([`status`]). The real controller manager drives workloads.

mod events;
mod lifecycle;
mod nodes;
mod pods;
mod status;

pub(super) use pods::Kubelets;
