//! One simulated Talos machine: maintenance, install, reboot, configured life (Talos 1.12, `talos-api` facts in
//! `docs/talos.md`).
//!
//! The port is really closed while the machine installs and reboots; a worker's port stays closed until a control
//! plane can sign its certificate.

mod life;
mod machine_service;
pub(super) mod resources;
mod serve;
mod services;
mod tls;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::sync::{Notify, watch};

use super::control_plane::ControlPlane;
use super::machine::MachineConfig;
use super::record::Recorder;
use super::scenario::{Fault, Scenario, Trouble};
use super::spec::NodeSpec;
use crate::dial::AddressMap;

pub(super) use services::Service;

/// The port of the Talos API.
const PORT: u16 = 50000;

/// What all machines of a lab share.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) addresses: AddressMap,
    pub(super) scenario: Arc<Scenario>,
    pub(super) recorder: Recorder,
    pub(super) control_plane: Arc<ControlPlane>,
    pub(super) talos_version: String,
}

/// Where a machine stands, as its API tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Maintenance,
    Installing,
    Rebooting,
    Booting,
    Running,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Maintenance => "maintenance",
            Self::Installing => "installing",
            Self::Rebooting => "rebooting",
            Self::Booting => "booting",
            Self::Running => "running",
        }
    }
}

/// Everything that changes about a machine.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) stage: Stage,
    pub(super) config: Option<Arc<MachineConfig>>,
    pub(super) boot_id: String,
    pub(super) services: BTreeMap<&'static str, Service>,
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
    /// An accepted Reboot call.
    pub(super) reboot: Notify,
    faults: Vec<(Fault, AtomicU32)>,
}

impl Node {
    pub(super) fn new(spec: NodeSpec, world: World) -> Self {
        let state = State {
            stage: Stage::Maintenance,
            config: None,
            boot_id: boot_id(),
            services: BTreeMap::new(),
            registered: false,
            node_ready: false,
            port_open: false,
        };
        let mine = world.scenario.faults.iter().filter(|fault| fault.node == spec.name);
        let faults = mine.map(|fault| (fault.clone(), AtomicU32::new(fault.times))).collect();
        Self { spec, world, state: watch::Sender::new(state), bootstrap: Notify::new(), reboot: Notify::new(), faults }
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

    pub(super) fn config(&self) -> Option<Arc<MachineConfig>> {
        self.state.borrow().config.clone()
    }

    pub(super) fn stage(&self, stage: Stage) {
        self.state.send_modify(|state| state.stage = stage);
    }

    /// The trouble of some kind that this call meets, if the scenario has any left for it.
    fn trouble(&self, call: &str, kind: fn(Trouble) -> bool) -> Option<Trouble> {
        use std::sync::atomic::Ordering;
        self.faults
            .iter()
            .filter(|(fault, _)| fault.call == call && kind(fault.what))
            .find(|(_, left)| left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok())
            .map(|(fault, _)| fault.what)
    }
}

/// A new one at each boot, in the form of `/proc/sys/kernel/random/boot_id`.
fn boot_id() -> String {
    let [a, b, c, d]: [u32; 4] = rand::random();
    format!("{a:08x}-{:04x}-{:04x}-{:04x}-{:04x}{d:08x}", b >> 16, b & 0xffff, c >> 16, c & 0xffff)
}
