//! Machines: maintenance mode, installation, boots, and what they report.

use std::net::IpAddr;
use std::time::Duration;

use bootstrap::steps::etcd::decision::{Blocker, Etcd, Facts, State};
use bootstrap::steps::rollout::{MachineReport, NodeReport, PendingReboot};
use talos_client::{ChangeEffect, Stage};
use talos_config::{InventoryNode, Role};

use super::{OPERATORS, SimulatedCluster, change_effect};

/// After a boot, until a machine runs its services.
const SERVICES: Duration = Duration::from_secs(2);

/// Whether a machine responds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    Maintenance,
    Installing { until: Duration },
    Booting { until: Duration },
    Up { since: Duration },
}

/// Who took a machine away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A run of an operator, after etcd existed.
    Run,
    /// A fault, or a run before etcd existed.
    Other,
}

/// Why a machine rejects a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    NeedsReboot,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) role: Role,
    pub(crate) power: Power,
    /// Differs from one boot to the next.
    pub(crate) boot: u32,
    pub(crate) config: Option<u32>,
    /// A bootstrap was accepted in this boot.
    pub(crate) requested: bool,
    /// The etcd cluster in the data directory.
    pub(crate) data: Option<u64>,
    pub(crate) etcd_runs: bool,
    /// Since when the API server runs.
    pub(crate) api_since: Option<Duration>,
    /// Who took it away, until it serves again.
    pub(crate) down_by: Option<Cause>,
    /// Since when it does not serve.
    pub(crate) down_since: Option<Duration>,
    /// When it last did not serve.
    pub(crate) last_down: Duration,
    /// Since when its etcd member does not serve.
    pub(crate) etcd_down_since: Duration,
    pub(super) blocked_until: Duration,
    pub(super) unreachable_until: [Duration; OPERATORS],
    /// The next boot takes longer.
    pub(super) extra_boot: Duration,
}

impl Node {
    pub(super) fn new(declared: &InventoryNode) -> Self {
        Self {
            name: declared.hostname.clone(),
            address: declared.address,
            role: declared.role,
            power: Power::Maintenance,
            boot: 1,
            config: None,
            requested: false,
            data: None,
            etcd_runs: false,
            api_since: None,
            down_by: None,
            down_since: Some(Duration::ZERO),
            last_down: Duration::ZERO,
            etcd_down_since: Duration::ZERO,
            blocked_until: Duration::ZERO,
            unreachable_until: [Duration::ZERO; OPERATORS],
            extra_boot: Duration::ZERO,
        }
    }

    pub(crate) fn is_control_plane(&self) -> bool {
        self.role == Role::ControlPlane
    }

    /// Whether port 50000 is open.
    pub(crate) fn listens(&self) -> bool {
        matches!(self.power, Power::Maintenance | Power::Up { .. })
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.power, Power::Up { .. })
    }

    pub(crate) fn boot_id(&self) -> String {
        format!("{}-{}", self.name, self.boot)
    }

    fn stage(&self, now: Duration) -> Stage {
        match self.power {
            Power::Up { since } if now < since + SERVICES => Stage::Booting,
            // Talos boots until the services run, and etcd is one of them.
            Power::Up { .. } if self.is_control_plane() && !self.etcd_runs => Stage::Booting,
            Power::Up { .. } => Stage::Running,
            _ => Stage::Maintenance,
        }
    }

    /// What it reports to one that reaches it.
    pub(crate) fn report(&self, now: Duration) -> NodeReport {
        if !self.is_up() {
            return NodeReport::Unconfigured;
        }
        let is_unmet = self.is_control_plane() && self.etcd_runs && self.api_since.is_none();
        NodeReport::Configured(MachineReport {
            stage: self.stage(now),
            unmet: is_unmet.then(|| "staticPods: kube-apiserver".to_owned()).into_iter().collect(),
            boot_id: self.boot_id(),
            reboot: PendingReboot::None,
        })
    }

    /// What it reports of etcd to one that reaches it. `members` are those of its cluster.
    pub(super) fn etcd_view(&self, now: Duration, members: impl Iterator<Item = u64>) -> State {
        if !self.is_up() {
            return State::Unconfigured { stage: Stage::Maintenance.to_string() };
        }
        let etcd = if self.etcd_runs {
            Etcd::Running { members: members.collect() }
        } else {
            Etcd::Waiting { message: "Running pre state".to_owned() }
        };
        State::Known(Facts {
            boot: self.boot_id(),
            etcd,
            requested: self.requested,
            data: self.data.is_some(),
            blocked: self.is_blocked(now).then(|| Blocker::NotUp("its container runtime is starting".to_owned())),
        })
    }

    pub(crate) fn is_blocked(&self, now: Duration) -> bool {
        now < self.blocked_until || matches!(self.power, Power::Up { since } if now < since + SERVICES)
    }

    pub(super) fn end_faults(&mut self) {
        self.blocked_until = Duration::ZERO;
        self.unreachable_until = [Duration::ZERO; OPERATORS];
        self.extra_boot = Duration::ZERO;
    }
}

impl SimulatedCluster {
    /// Whether packets reach the node from an operator's machine.
    pub(crate) fn is_reachable(&self, operator: usize, index: usize) -> bool {
        self.now() >= self.nodes[index].unreachable_until[operator]
    }

    /// A machine stops and boots: everything in memory is gone.
    pub(super) fn reboot(&mut self, index: usize, cause: Cause) {
        let took = self.boot_duration(index);
        let now = self.now();
        let node = &mut self.nodes[index];
        let was_serving = node.etcd_runs;
        // An interrupted installation begins anew.
        if matches!(node.power, Power::Installing { .. }) {
            node.config = None;
        }
        node.power = Power::Booting { until: now + took };
        node.requested = false;
        node.etcd_runs = false;
        node.api_since = None;
        if was_serving {
            node.etcd_down_since = now;
        }
        if node.down_by != Some(Cause::Run) {
            node.down_by = Some(cause);
        }
        let name = node.name.clone();
        self.log(|| format!("{name} reboots ({cause:?}), for {took:?}"));
    }

    fn boot_duration(&mut self, index: usize) -> Duration {
        let usual = self.chance.millis(4_000..=20_000);
        usual + std::mem::take(&mut self.nodes[index].extra_boot)
    }

    /// A config arrives.
    pub(crate) fn apply_config(&mut self, index: usize, config: u32, mode: ApplyMode) -> Result<AfterConfig, Rejected> {
        let now = self.now();
        let name = self.nodes[index].name.clone();
        match (self.nodes[index].power, self.nodes[index].config) {
            (Power::Up { .. }, Some(running)) => match change_effect(running, config) {
                ChangeEffect::None => Ok(AfterConfig::Continues),
                ChangeEffect::Live => {
                    self.nodes[index].config = Some(config);
                    self.log(|| format!("{name} runs config {config}"));
                    Ok(AfterConfig::Continues)
                }
                ChangeEffect::Reboot => {
                    if mode == ApplyMode::NoReboot {
                        return Err(Rejected::NeedsReboot);
                    }
                    self.check_reboot(index, mode);
                    self.nodes[index].config = Some(config);
                    let cause = self.cause_of_reboot(index, mode);
                    self.counts.reboots_by_runs += u64::from(cause == Cause::Run);
                    self.reboot(index, cause);
                    Ok(AfterConfig::Reboots)
                }
            },
            _ => {
                let until = now + self.chance.millis(3_000..=15_000);
                let node = &mut self.nodes[index];
                node.config = Some(config);
                node.power = Power::Installing { until };
                self.log(|| format!("{name} installs config {config}"));
                Ok(AfterConfig::Reboots)
            }
        }
    }

    pub(super) fn tick_node(&mut self, index: usize) {
        let now = self.now();
        match self.nodes[index].power {
            Power::Installing { until } if now >= until => {
                let took = self.boot_duration(index);
                let node = &mut self.nodes[index];
                node.power = Power::Booting { until: now + took };
            }
            Power::Booting { until } if now >= until => {
                let node = &mut self.nodes[index];
                node.boot += 1;
                node.power = if node.config.is_some() { Power::Up { since: now } } else { Power::Maintenance };
                let line = format!("{} is {:?} in boot {}", node.name, node.power, node.boot);
                self.log(|| line);
            }
            _ => {}
        }
    }
}

/// How a config is to take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ApplyMode {
    /// With a reboot where it needs one. The run began its last look at the cluster then.
    Auto {
        looked: Duration,
    },
    /// The same, because etcd did not exist anywhere when the run looked.
    BeforeEtcd {
        looked: Duration,
    },
    NoReboot,
}

/// What a machine does after it accepted a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterConfig {
    Reboots,
    Continues,
}
