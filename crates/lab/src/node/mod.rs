//! One simulated Talos machine: maintenance, install, reboot, configured life, and what puts an end to it, for Talos
//! 1.11 to 1.14 (facts in `docs/talos.md`).
//!
//! The port is really closed while the machine reboots; a worker's port stays closed until a control plane can sign its
//! certificate. It is the other side of the wire: nothing here is shared with the client. What a machine has none of
//! (a kernel, containers) is made up, in the form in which Talos would tell it.

mod access;
mod cluster;
mod disk;
mod events;
mod files;
mod images;
mod life;
mod lifecycle;
mod logs;
mod machine_service;
mod neighbours;
mod port;
pub(super) mod resources;
mod ring;
mod sequence;
mod services;
mod status;
mod storage;
mod talos;
mod time;
mod tls;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, OnceLock};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::control_plane::ControlPlane;
use super::machine::MachineConfig;
use super::record::Recorder;
use super::scenario::{Fault, Scenario, Trouble};
use super::spec::NodeSpec;
use net::AddressMap;

pub(super) use disk::Disk;
pub(super) use neighbours::Neighbours;
pub(super) use services::Service;
pub(super) use talos::Talos;

/// The port of the Talos API.
const PORT: u16 = 50000;

/// What all machines of a lab share.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) addresses: AddressMap,
    pub(super) scenario: Arc<Scenario>,
    pub(super) recorder: Recorder,
    pub(super) control_plane: Arc<ControlPlane>,
    /// What an empty machine boots from the network.
    pub(super) talos: Talos,
    pub(super) neighbours: Neighbours,
}

/// Where a machine stands, as its API tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Maintenance,
    Installing,
    Rebooting,
    Booting,
    Running,
    ShuttingDown,
    Resetting,
    Upgrading,
}

/// An installation that a 1.14 config asks for by a document of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unattended {
    Installing,
    WaitingForReboot,
    Installed,
}

/// Everything that changes about a machine.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) stage: Stage,
    pub(super) talos: Talos,
    /// What is active; `disk` has what the next boot begins with.
    pub(super) config: Option<Arc<MachineConfig>>,
    /// Documents of a config that is not complete yet.
    partial: Option<String>,
    pub(super) disk: Disk,
    pub(super) boot_id: String,
    booted_at: Timestamp,
    pub(super) services: BTreeMap<&'static str, Service>,
    unattended: Option<Unattended>,
    /// Whether the kubelet has registered its node since the machine booted.
    pub(super) registered: bool,
    /// Whether the kubelet's node is Ready, once it is registered.
    pub(super) node_ready: bool,
    pub(super) port_open: bool,
}

/// A machine.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) spec: NodeSpec,
    pub(super) world: World,
    pub(super) state: watch::Sender<State>,
    /// An accepted Bootstrap call.
    pub(super) bootstrap: Notify,
    /// How the accepted Bootstrap call wants etcd to begin.
    pub(super) recovery: Mutex<Option<Recovery>>,
    /// Set once the machine has ever listened.
    had_port: OnceLock<()>,
    /// The way in for neighbours, while the API is open to them.
    open: watch::Sender<Option<port::Open>>,
    /// What ends the machine's present life.
    ordered: watch::Sender<Option<sequence::Order>>,
    events: events::EventLog,
    logs: logs::Logs,
    images: Mutex<images::Images>,
    /// What takes back a config that is only tried.
    trial: Mutex<Option<tokio::task::AbortHandle>>,
    versions: Mutex<resources::Versions>,
    faults: Vec<(Fault, AtomicU32)>,
}

/// etcd begins with the snapshot that was uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recovery {
    pub(super) skip_hash_check: bool,
}

impl Node {
    pub(super) fn new(spec: NodeSpec, world: World) -> Self {
        let state = State {
            stage: Stage::Booting,
            talos: world.talos.clone(),
            config: None,
            partial: None,
            disk: Disk::default(),
            boot_id: random_id(),
            booted_at: Timestamp::now(),
            services: BTreeMap::new(),
            unattended: None,
            registered: false,
            node_ready: false,
            port_open: false,
        };
        let mine = world.scenario.faults.iter().filter(|fault| fault.node == spec.name);
        let faults = mine.map(|fault| (fault.clone(), AtomicU32::new(fault.times))).collect();
        Self {
            spec,
            world,
            state: watch::Sender::new(state),
            bootstrap: Notify::new(),
            recovery: Mutex::default(),
            had_port: OnceLock::new(),
            open: watch::Sender::default(),
            ordered: watch::Sender::default(),
            events: events::EventLog::default(),
            logs: logs::Logs::default(),
            images: Mutex::default(),
            trial: Mutex::default(),
            versions: Mutex::default(),
            faults,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    /// The name that the config gives, else the spec's.
    pub(super) fn hostname(&self) -> String {
        let given = self.config().and_then(|config| config.hostname.clone());
        given.unwrap_or_else(|| self.spec.name.clone())
    }

    pub(super) fn address(&self) -> IpAddr {
        self.spec.address
    }

    /// Where the machine listens.
    fn mapped(&self) -> IpAddr {
        self.world.addresses.dialled(self.address())
    }

    /// Whether the target of a request is this machine.
    fn is_called(&self, target: &str) -> bool {
        target
            .parse::<IpAddr>()
            .map_or_else(|_| target == self.hostname(), |address| [self.address(), self.mapped()].contains(&address))
    }

    pub(super) fn config(&self) -> Option<Arc<MachineConfig>> {
        self.state.borrow().config.clone()
    }

    /// The Talos that runs.
    pub(super) fn talos(&self) -> Talos {
        self.state.borrow().talos.clone()
    }

    /// Changes the machine; what that makes of its status is told on the event stream.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(|state| {
            let before = state.machine_status(&self.hostname_in(state));
            change(state);
            let after = state.machine_status(&self.hostname_in(state));
            if before != after {
                self.events.tell("", &after);
            }
        });
    }

    fn hostname_in(&self, state: &State) -> String {
        let given = state.config.as_ref().and_then(|config| config.hostname.clone());
        given.unwrap_or_else(|| self.spec.name.clone())
    }

    pub(super) fn stage(&self, stage: Stage) {
        self.change(|state| state.stage = stage);
    }

    /// The trouble of some kind that this call meets, if the scenario has any left for it.
    fn trouble(&self, call: &str, kind: fn(&Trouble) -> bool) -> Option<Trouble> {
        use std::sync::atomic::Ordering;
        self.faults
            .iter()
            .filter(|(fault, _)| fault.call == call && kind(&fault.what))
            .find(|(_, left)| left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok())
            .map(|(fault, _)| fault.what.clone())
    }
}

/// An identifier in the form of `/proc/sys/kernel/random/boot_id`.
fn random_id() -> String {
    let [a, b, c, d]: [u32; 4] = rand::random();
    format!("{a:08x}-{:04x}-{:04x}-{:04x}-{:04x}{d:08x}", b >> 16, b & 0xffff, c >> 16, c & 0xffff)
}

fn stamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}
