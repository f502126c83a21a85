//! The Talos API client: maintenance mode and mTLS; the dialled address is separate from the node's identity.
//!
//! Facts from Talos 1.11 to 1.14: one endpoint per node on port 50000, TLS without a client certificate in maintenance
//! mode, mTLS with the machine CA afterwards. Each node is dialled directly, so that errors come back as the status of
//! the call itself; [`Client::forwarded_to`] and [`Client::every`] use apid's forwarding for nodes that cannot be dialled.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod client;
mod config;
mod connect;
mod connection;
mod error;
mod etcd;
mod events;
mod files;
mod hardware;
mod image;
pub mod install;
mod kept;
mod lifecycle;
mod link;
mod maintenance;
mod probe;
mod progress_timeout;
mod refusal;
mod resource;
mod response;
mod service;
mod version;

pub use client::{Client, MultiNodeClient, ResultsByNode};
pub use config::{ApplyMode, ApplyResult, ChangeEffect};
pub use connect::{CertificateFingerprint, ClientIdentity, InvalidCertificateFingerprint, PORT};
pub use error::{ClientError, ClientErrorKind};
pub use etcd::{EtcdAlarm, EtcdBootstrap, EtcdMember, EtcdStatus};
pub use events::{EventAction, EventsSince, MachineEvent, MachineEventDetail, MachineEvents};
pub use files::{KernelLog, Lines, LogMode, Tail};
pub use hardware::{Clock, Disk, DiskType};
pub use image::{Image, ImageSpace};
pub use kept::NodeConnections;
pub use lifecycle::{ActorId, RebootMode, ResetOptions, UpgradeOutcome, WipeTarget};
pub use link::MAX_MESSAGE;
pub use maintenance::Maintenance;
pub use probe::{ForeignNode, Probe, probe};
pub use progress_timeout::{BootTimes, ProgressTimeout, ProgressTimeoutExpired, connect_delays};
pub use refusal::{ConfigFinding, ConfigRefusal};
pub use resource::{
    AddressStatus, BlockDevice, BootId, ClusterInfo, ContainerEnd, ContainerWait, Diagnostic, EtcdMemberId, EtcdSpec,
    HostnameStatus, Identity, LinkStatus, MachineConfig, MachineStatus, MachineType, Member, NetworkStatus,
    NodeAddress, NodeStatus, Nodename, RebootRequest, Resource, ResourceChange, ResourceDefinition, ResourceKindError,
    Resources, RunningVersion, SecurityState, ServiceStatus, Stage, StaticPodContainer, StaticPodStatus, SystemDisk,
    TimeStatus, UnattendedInstallStatus, VolumeStatus, Watch,
};
pub use service::Service;
pub use version::TalosVersion;

#[cfg(test)]
mod tests;
