//! The Talos API client: maintenance mode and mTLS; the dialled address is separate from the node's identity.
//!
//! Facts from Talos 1.11 to 1.14: one endpoint per node on port 50000, TLS without a client certificate in maintenance
//! mode, mTLS with the machine CA afterwards. Each node is dialled directly, so that errors come back as the status of
//! the call itself; [`Client::towards`] and [`Client::every`] use apid's forwarding for nodes that cannot be dialled.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod answer;
mod config;
mod configured;
mod connect;
mod error;
mod etcd;
mod events;
mod files;
mod hardware;
mod image;
pub mod install;
mod link;
mod maintenance;
mod orders;
mod patience;
mod probe;
mod resource;
mod service;
mod version;
mod wire;

pub use config::{Applied, Mode};
pub use configured::{ByNode, Client, EveryNode};
pub use connect::{Fingerprint, InvalidFingerprint, PORT};
pub use error::{ClientError, Kind};
pub use etcd::{Beginning, EtcdAlarm, EtcdMember, EtcdStatus};
pub use events::{Edge, Event, Events, Happening, Since};
pub use files::{KernelLog, Lines, Tail};
pub use hardware::{Clock, Disk, DiskType};
pub use image::{Image, ImageSpace};
pub use link::MAX_MESSAGE;
pub use maintenance::Maintenance;
pub use orders::{Actor, Reboot, Reset, Upgraded, Wipe};
pub use patience::{BootTimes, Overdue, Patience, knocks};
pub use probe::{Foreign, Probe, probe};
pub use resource::{
    AddressStatus, BlockDevice, BootId, Change, ClusterInfo, Diagnostic, EtcdMemberId, EtcdSpec, HostnameStatus,
    Identity, LinkStatus, MachineConfig, MachineStatus, MachineType, Member, NetworkStatus, NodeAddress, NodeStatus,
    Nodename, Resource, Resources, RunningVersion, SecurityState, ServiceStatus, Stage, StaticPodStatus, SystemDisk,
    TimeStatus, UnattendedInstallStatus, VolumeStatus, Watch,
};
pub use service::Service;
pub use version::TalosVersion;

#[cfg(test)]
mod tests;
