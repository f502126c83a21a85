//! The rehearsal: simulated Talos nodes, a real control plane, kubelets, a registry, faults.
//!
//! The lab is the other side of the wire. It uses the lowest rooms and `proto/`, never the clients, so that a client's
//! bug is not hidden by a server that shares it. It reads machine configs itself, issues every certificate out of what
//! was *applied*, and starts real `etcd` and `kube-*` programs with them.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod cluster;
mod control_plane;
mod kubelet;
mod machine;
mod network;
mod node;
mod operators;
mod pki;
mod record;
mod registry;
mod releases;
mod scenario;
mod socket;
mod spec;
mod view;
mod world;

pub use record::{CriticalPath, Fact, Record, Recorder, Request};
pub use registry::Registry;
pub use scenario::{Scenario, ScenarioError};
pub use socket::{SocketError, ask_down, ask_status};
pub use spec::{ApiServers, ChartsFrom, DiskSpec, LabFile, NodeSpec, ReleaseSpec, Spec, lab_folder, web_folder};
pub use world::{Lab, LabError, Status};
