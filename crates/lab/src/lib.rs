//! The test cluster of a rehearsal: simulated Talos nodes, a real control plane, simulated kubelets, a chart registry
//! and injected faults.
//!
//! The lab is the server side. It shares no code with the clients, so a client's bug cannot be hidden by a server that
//! has it too. It reads machine configs itself, issues every certificate from the CAs in the configs that were
//! *applied*, and runs the real `etcd` and `kube-*` programs with them.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod cluster;
mod cluster_cache;
mod cluster_context;
mod control_plane;
mod control_socket;
mod kubelet;
mod kubelet_reports;
mod lifecycle;
mod machine_config;
mod network;
mod node;
mod operators;
mod pki;
mod record;
mod registry;
mod releases;
mod scenario;
mod seeded;
mod spec;
mod status;
mod timestamp;
mod yaml_text;

pub use control_plane::{ControlPlaneError, EtcdError};
pub use control_socket::{SocketError, query_status, request_shutdown};
pub use lifecycle::{Lab, LabError};
pub use node::{NodeError, TalosVersionError};
pub use pki::TlsMaterialError;
pub use record::{CriticalPath, Fact, LabRecord, RecordedRequest, Recorder, ServedTree};
pub use registry::{ChartRegistry, RegistryError};
pub use scenario::{Scenario, ScenarioError};
pub use spec::{
    ApiServers, ChartsFrom, DiskSpec, EncryptedFiles, FluxControllers, FluxRelease, KustomizeSummary, LabFile, LabSpec,
    NodeSpec, PlayedReason, ReleaseKey, ReleaseSpec, WorkingTree, lab_folder, web_folder,
};
pub use status::{EtcdMemberSummary, LabStatus, SimulatedNodeStatus};
