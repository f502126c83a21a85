//! One simulated Talos machine from power-on to power-off, for Talos 1.11 to 1.14 (`docs/talos.md` lists the facts).
//!
//! The port is really closed while the machine reboots, and a worker's port stays closed until a control plane can sign
//! its certificate. Nothing but the schema's verdict on a config is shared with the client. What a simulated machine does not have, such as a kernel or
//! containers, is reported in the form in which Talos would report it.

mod access;
mod api;
mod bounded_log;
mod cluster_service;
mod directory;
mod disk;
mod events;
mod files;
mod images;
mod kubelet_start;
mod lifecycle_service;
mod logs;
mod machine_service;
mod port;
mod power_cycle;
pub(super) mod registration;
mod resources;
mod sequence;
mod services;
pub(super) mod static_pods;
mod status;
mod storage;
mod talos_version;
mod time;
mod tls;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use net::AddressMap;
use tokio::sync::watch;

use super::control_plane::{BootstrapSignal, ControlPlane, ControlPlaneHost};
use super::machine_config::AppliedConfig;
use super::pki::TlsMaterialError;
use super::record::Recorder;
use super::scenario::{CallFault, CallFaultKind, Scenario};
use super::seeded::SeededRandom;
use super::spec::NodeSpec;

pub(super) use directory::NodeDirectory;
pub(super) use disk::DiskContents;
pub(super) use services::NodeService;
pub(super) use talos_version::TalosVersion;
pub use talos_version::TalosVersionError;

/// The port of the Talos API.
const PORT: u16 = 50000;

/// Why a simulated node stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("cannot set up TLS")]
    Tls(#[from] TlsMaterialError),
    #[error("cannot serve the Talos API on {address}")]
    Serve { address: SocketAddr, source: io::Error },
}

/// What all nodes of a lab share.
#[derive(Debug, Clone)]
pub(super) struct LabContext {
    pub(super) addresses: AddressMap,
    pub(super) scenario: Arc<Scenario>,
    pub(super) seed: u64,
    pub(super) recorder: Recorder,
    pub(super) control_plane: Arc<ControlPlane>,
    /// The version that a machine without an installed system boots from the network.
    pub(super) talos: TalosVersion,
    pub(super) directory: NodeDirectory,
}

/// The machine stage that the Talos API reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeStage {
    Maintenance,
    Installing,
    Rebooting,
    Booting,
    Running,
    ShuttingDown,
    Resetting,
    Upgrading,
}

/// The state of an installation by an `UnattendedInstallConfig` (1.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnattendedInstall {
    Installing,
    WaitingForReboot,
    Installed,
}

/// The mutable state of a machine.
#[derive(Debug, Clone)]
pub(super) struct NodeState {
    pub(super) stage: NodeStage,
    pub(super) talos: TalosVersion,
    /// The active config. `disk` has the one for the next boot.
    pub(super) config: Option<Arc<AppliedConfig>>,
    /// Documents of a config that is not complete yet.
    partial: Option<String>,
    pub(super) disk: DiskContents,
    pub(super) boot_id: String,
    booted_at: Timestamp,
    pub(super) services: BTreeMap<&'static str, NodeService>,
    unattended: Option<UnattendedInstall>,
    static_pods: kubelet_start::StaticPods,
    /// Whether the kubelet has registered its node since the machine booted.
    pub(super) registered: bool,
    /// Whether the kubelet's node is Ready.
    pub(super) node_ready: bool,
    pub(super) port_open: bool,
}

/// A fault of the scenario for one node.
#[derive(Debug)]
struct RemainingFault {
    fault: CallFault,
    /// How many more calls it affects.
    remaining: AtomicU32,
}

/// A simulated Talos machine.
#[derive(Debug)]
pub(super) struct SimulatedNode {
    pub(super) spec: NodeSpec,
    pub(super) lab: LabContext,
    pub(super) state: watch::Sender<NodeState>,
    bootstrap: BootstrapSignal,
    /// Set once the machine has listened on its port.
    had_port: OnceLock<()>,
    /// How other nodes reach the API, while it is open.
    open: watch::Sender<Option<port::PeerApi>>,
    /// The sequence that ends the current session.
    requested_sequence: watch::Sender<Option<sequence::SequenceRequest>>,
    events: events::EventLog,
    logs: logs::NodeLogs,
    images: Mutex<images::ImageStore>,
    network: port::NetworkState,
    /// How long the next reboot takes before the machine boots.
    downtime: Mutex<Option<Duration>>,
    /// Reverts a config that was applied in try mode.
    trial: Mutex<Option<tokio::task::AbortHandle>>,
    versions: Mutex<resources::ResourceVersions>,
    faults: Vec<RemainingFault>,
    boot_ids: SeededRandom,
    /// Identifies the calls that start a sequence.
    actor_ids: SeededRandom,
}

impl SimulatedNode {
    pub(super) fn new(spec: NodeSpec, lab: LabContext) -> Self {
        let boot_ids = SeededRandom::new(lab.seed, &spec.name, "boot");
        let state = NodeState {
            stage: NodeStage::Booting,
            talos: lab.talos.clone(),
            config: None,
            partial: None,
            disk: DiskContents::default(),
            boot_id: boot_ids.uuid(),
            booted_at: Timestamp::now(),
            services: BTreeMap::new(),
            unattended: None,
            static_pods: kubelet_start::StaticPods::default(),
            registered: false,
            node_ready: false,
            port_open: false,
        };
        let faults = lab.scenario.faults.iter().filter(|fault| fault.node == spec.name);
        let faults = faults
            .map(|fault| RemainingFault { fault: fault.clone(), remaining: AtomicU32::new(fault.times) })
            .collect();
        let events = events::EventLog::new(SeededRandom::new(lab.seed, &spec.name, "event"));
        let actor_ids = SeededRandom::new(lab.seed, &spec.name, "actor");
        Self {
            spec,
            lab,
            state: watch::Sender::new(state),
            bootstrap: BootstrapSignal::default(),
            had_port: OnceLock::new(),
            open: watch::Sender::default(),
            requested_sequence: watch::Sender::default(),
            events,
            logs: logs::NodeLogs::default(),
            images: Mutex::default(),
            network: port::NetworkState::default(),
            downtime: Mutex::default(),
            trial: Mutex::default(),
            versions: Mutex::default(),
            faults,
            boot_ids,
            actor_ids,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    /// The host name in the config, or else the name in the spec.
    pub(super) fn hostname(&self) -> String {
        self.hostname_in(&self.state.borrow()).to_owned()
    }

    pub(super) fn address(&self) -> IpAddr {
        self.spec.address
    }

    /// The loopback address that the machine listens on.
    fn listen_address(&self) -> IpAddr {
        self.lab.addresses.dialled(self.address())
    }

    /// This machine, for the control plane's programs.
    fn host(&self) -> ControlPlaneHost<'_> {
        ControlPlaneHost { name: self.name(), address: self.address() }
    }

    /// Whether etcd has an address of this machine to advertise.
    fn advertises_etcd(&self, config: &AppliedConfig) -> bool {
        resources::is_advertised(self.address(), &config.etcd_subnets)
    }

    /// Whether the target of a request is this machine.
    fn is_addressed_by(&self, target: &str) -> bool {
        match target.parse::<IpAddr>() {
            Ok(address) => [self.address(), self.listen_address()].contains(&address),
            Err(_) => target == self.hostname(),
        }
    }

    pub(super) fn config(&self) -> Option<Arc<AppliedConfig>> {
        self.state.borrow().config.clone()
    }

    /// The running Talos version.
    pub(super) fn talos(&self) -> TalosVersion {
        self.state.borrow().talos.clone()
    }

    /// Changes the state, and publishes an event if the machine's status changes with it.
    pub(super) fn change(&self, change: impl FnOnce(&mut NodeState)) {
        self.state.send_modify(|state| {
            let before = state.machine_status(self.hostname_in(state));
            change(state);
            let after = state.machine_status(self.hostname_in(state));
            if before != after {
                self.events.publish("", &after);
            }
        });
    }

    fn hostname_in<'s>(&'s self, state: &'s NodeState) -> &'s str {
        let configured = state.config.as_ref().and_then(|config| config.hostname.as_deref());
        configured.unwrap_or(&self.spec.name)
    }

    pub(super) fn set_stage(&self, stage: NodeStage) {
        self.change(|state| state.stage = stage);
    }

    /// Turns the machine off for a while, as a power cut does.
    fn lose_power(&self, lasts: Duration) {
        *self.downtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(lasts);
        self.request_power_cycle();
    }

    fn take_downtime(&self) -> Option<Duration> {
        self.downtime.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The next fault of some kinds that the scenario has for this call.
    fn take_fault(&self, call: &str, is_kind: fn(&CallFaultKind) -> bool) -> Option<CallFaultKind> {
        self.faults
            .iter()
            .filter(|entry| entry.fault.call == call && is_kind(&entry.fault.what))
            .find(|entry| {
                let decrement = |count: u32| count.checked_sub(1);
                entry.remaining.fetch_update(Ordering::SeqCst, Ordering::SeqCst, decrement).is_ok()
            })
            .map(|entry| entry.fault.what.clone())
    }
}

fn to_proto_timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::Programs;
    use crate::spec::{ApiServers, ChartsFrom, DiskSpec, FluxControllers, LabSpec};

    fn boot_id(seed: u64, name: &str) -> String {
        let node = NodeSpec { name: name.to_owned(), address: [10, 0, 0, 1].into(), disk: DiskSpec::default() };
        let spec = LabSpec {
            cluster: "infra".to_owned(),
            nodes: vec![node.clone()],
            releases: vec![],
            crd_urls: vec![],
            vip: None,
            api_port: 6443,
            talos_version: "v1.12.4".to_owned(),
            folder: std::path::PathBuf::new(),
            charts: ChartsFrom::StandIns,
            api_servers: ApiServers::One,
            flux: FluxControllers::Played,
        };
        let recorder = Recorder::default();
        let scenario = Arc::new(Scenario::load("fast").unwrap());
        let control_plane = ControlPlane::new(Programs::default(), &spec, &scenario, recorder.clone());
        let lab = LabContext {
            addresses: spec.address_map(),
            scenario,
            seed,
            recorder,
            control_plane: Arc::new(control_plane),
            talos: TalosVersion::parse("v1.12.4").unwrap(),
            directory: NodeDirectory::default(),
        };
        SimulatedNode::new(node, lab).state.borrow().boot_id.clone()
    }

    #[test]
    fn the_boot_id_follows_from_the_seed_and_the_name() {
        assert_eq!(boot_id(1, "cp-1"), boot_id(1, "cp-1"));
        assert_ne!(boot_id(1, "cp-1"), boot_id(2, "cp-1"));
        assert_ne!(boot_id(1, "cp-1"), boot_id(1, "cp-2"));
    }
}
