//! The sequences by which a machine goes down: install, reboot, shutdown, reset and upgrade.
//!
//! Phases and tasks have Talos's names and order, because callers follow them on the event stream.

use std::sync::Arc;

use error_report::ErrorReport;
use talos_proto::machine as api;
use talos_proto::machine::{phase_event, sequence_event, task_event};

use super::disk::SystemPartition;
use super::{NodeStage, SimulatedNode, TalosVersion};
use crate::machine_config::{AppliedConfig, NodeRole};

/// A sequence and the call that requested it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SequenceRequest {
    pub(super) sequence: NodeSequence,
    /// Identifies the events that the call causes. Empty if no call requested the sequence.
    pub(super) actor: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NodeSequence {
    Install(TalosVersion),
    Reboot(RebootMode),
    Shutdown { force: bool },
    Reset { graceful: bool, reboot: bool, wipe: WipeTarget },
    Upgrade(TalosVersion),
    StageUpgrade(TalosVersion),
}

/// Whether a reboot stops services first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RebootMode {
    Default,
    Force,
}

/// What a reset wipes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WipeTarget {
    SystemDisk,
    Partitions(Vec<SystemPartition>),
    UserDisks,
}

/// Whether the machine starts again after a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PowerState {
    Reboots,
    Off,
}

/// A phase and its tasks, by Talos's names.
#[derive(Debug, Clone, Copy)]
struct Phase {
    name: &'static str,
    tasks: &'static [&'static str],
}

const fn phase(name: &'static str, tasks: &'static [&'static str]) -> Phase {
    Phase { name, tasks }
}

const STOP: [Phase; 5] = [
    phase("stopServices", &["stopServicesForUpgrade"]),
    phase("umount", &["unmountPodMounts"]),
    phase("unmountBind", &["unmountSystemDiskBindMounts"]),
    phase("unmountSystem", &["unmountEphemeralPartition"]),
    phase("volumeFinalize", &["teardownLifecycle"]),
];
const KEXEC: Phase = phase("kexec", &["kexecPrepare"]);
const STOP_EVERYTHING: Phase = phase("stopEverything", &["stopAllServices"]);
const CLEANUP: [Phase; 2] = [phase("cleanup", &["stopAllPods"]), phase("dbus", &["stopDBus"])];
const DRAIN: Phase = phase("drain", &["cordonAndDrainNode"]);
const REBOOT: Phase = phase("reboot", &["reboot"]);
const SHUTDOWN: Phase = phase("shutdown", &["shutdown"]);
const INSTALL_UPGRADE: [Phase; 2] = [phase("upgrade", &["upgrade"]), phase("meta", &["reloadMeta"])];

impl NodeSequence {
    fn name(&self) -> &'static str {
        match self {
            Self::Install(_) => "install",
            Self::Reboot(_) => "reboot",
            Self::Shutdown { .. } => "shutdown",
            Self::Reset { .. } => "reset",
            Self::Upgrade(_) => "upgrade",
            Self::StageUpgrade(_) => "stageUpgrade",
        }
    }

    fn stage(&self) -> NodeStage {
        match self {
            Self::Install(_) => NodeStage::Installing,
            Self::Reboot(_) => NodeStage::Rebooting,
            Self::Shutdown { .. } => NodeStage::ShuttingDown,
            Self::Reset { .. } => NodeStage::Resetting,
            Self::Upgrade(_) | Self::StageUpgrade(_) => NodeStage::Upgrading,
        }
    }

    fn phases(&self, role: NodeRole) -> Vec<Phase> {
        let stop = || STOP.into_iter().chain([STOP_EVERYTHING]);
        let stop_for_kexec = || STOP.into_iter().chain([KEXEC, STOP_EVERYTHING]);
        match self {
            Self::Install(_) => [
                phase("env", &["setUserEnvVars"]),
                phase("install", &["install"]),
                phase("meta", &["reloadMeta"]),
                phase("saveMeta", &["flushMeta"]),
                phase("volumeFinalize", &["teardownLifecycle"]),
                STOP_EVERYTHING,
                KEXEC,
                REBOOT,
            ]
            .to_vec(),
            Self::Reboot(RebootMode::Force) => vec![REBOOT],
            Self::Reboot(RebootMode::Default) | Self::StageUpgrade(_) => {
                CLEANUP.into_iter().chain(stop_for_kexec()).chain([REBOOT]).collect()
            }
            Self::Shutdown { force } => {
                let first = [phase("storeShutdown", &["storeShutdownEmergency"])].into_iter();
                let drain = (!force).then_some(DRAIN);
                first.chain(drain).chain(CLEANUP).chain(stop()).chain([SHUTDOWN]).collect()
            }
            Self::Upgrade(_) => {
                let end = [KEXEC, STOP_EVERYTHING, REBOOT];
                [DRAIN].into_iter().chain(CLEANUP).chain(STOP).chain(INSTALL_UPGRADE).chain(end).collect()
            }
            Self::Reset { graceful, reboot, wipe } => {
                let mut phases: Vec<Phase> = Vec::new();
                if *graceful {
                    phases.extend([DRAIN, phase("cleanup", &["removeAllPods"])]);
                } else {
                    phases.push(CLEANUP[0]);
                }
                phases.push(CLEANUP[1]);
                if *graceful && role == NodeRole::ControlPlane {
                    phases.push(phase("leave", &["leaveEtcd"]));
                }
                phases.push(phase("preReset", &["sendResetSignal"]));
                match wipe {
                    WipeTarget::Partitions(_) => phases.extend(stop_for_kexec()),
                    WipeTarget::SystemDisk | WipeTarget::UserDisks => phases.extend(stop()),
                }
                phases.push(phase("forceCleanup", &["forceCleanup"]));
                phases.push(match wipe {
                    WipeTarget::SystemDisk => phase("reset", &["resetSystemDisk"]),
                    WipeTarget::Partitions(_) => phase("resetSpec", &["resetSystemDiskSpec"]),
                    WipeTarget::UserDisks => phase("resetUserDisks", &["resetUserDisks"]),
                });
                phases.push(if *reboot { REBOOT } else { SHUTDOWN });
                phases
            }
        }
    }

    fn power_state(&self) -> PowerState {
        match self {
            Self::Shutdown { .. } | Self::Reset { reboot: false, .. } => PowerState::Off,
            _ => PowerState::Reboots,
        }
    }
}

impl SimulatedNode {
    /// Requests a sequence. Has no effect if one is requested already.
    pub(super) fn request_sequence(&self, sequence: NodeSequence, actor: &str) {
        self.requested_sequence.send_if_modified(|requested| {
            let is_free = requested.is_none();
            requested.get_or_insert_with(|| SequenceRequest { sequence, actor: actor.to_owned() });
            is_free
        });
    }

    /// Requests a reboot that no call asked for.
    pub(super) fn request_power_cycle(&self) {
        self.request_sequence(NodeSequence::Reboot(RebootMode::Force), "");
    }

    /// Waits for a requested sequence.
    pub(super) async fn next_sequence(&self) -> SequenceRequest {
        let mut requests = self.requested_sequence.subscribe();
        loop {
            if let Some(request) = requests.borrow_and_update().clone() {
                return request;
            }
            // `self` owns the sender, so this only ever waits.
            let _ = requests.changed().await;
        }
    }

    /// Runs a sequence. After it, nothing on the machine responds.
    pub(super) async fn run_sequence(
        &self,
        request: &SequenceRequest,
        config: Option<&Arc<AppliedConfig>>,
    ) -> PowerState {
        let role = config.map_or(NodeRole::Worker, |config| config.role);
        let actor = request.actor.as_str();
        self.publish_sequence(&request.sequence, sequence_event::Action::Start, actor);
        if !matches!(request.sequence, NodeSequence::Install(_)) {
            self.set_stage(request.sequence.stage());
        }
        for phase in request.sequence.phases(role) {
            self.publish_phase(phase.name, phase_event::Action::Start, actor);
            if matches!((&request.sequence, phase.name), (NodeSequence::Install(_), "install")) {
                self.set_stage(NodeStage::Installing);
            }
            if phase.name == "kexec" && !matches!(request.sequence, NodeSequence::Reset { .. }) {
                self.set_stage(NodeStage::Rebooting);
            }
            for task in phase.tasks {
                self.events.publish(actor, &task_event(task, task_event::Action::Start));
                self.run_task(task, &request.sequence, role).await;
                self.events.publish(actor, &task_event(task, task_event::Action::Stop));
            }
            self.publish_phase(phase.name, phase_event::Action::Stop, actor);
        }
        request.sequence.power_state()
    }

    async fn run_task(&self, task: &str, sequence: &NodeSequence, role: NodeRole) {
        match (task, sequence) {
            ("install", NodeSequence::Install(talos)) => {
                tokio::time::sleep(self.lab.scenario.install.duration()).await;
                self.change(|state| state.disk.install(talos.clone()));
            }
            ("upgrade", NodeSequence::Upgrade(talos)) => {
                tokio::time::sleep(self.lab.scenario.install.duration()).await;
                self.change(|state| state.disk.install(talos.clone()));
            }
            ("leaveEtcd", _) => {
                if let Err(error) = self.lab.control_plane.leave_etcd(self.host()).await {
                    self.log("etcd", &format!("failed to leave the cluster: {error}"));
                }
            }
            ("stopAllServices", _) => {
                self.stop_services();
                if role == NodeRole::ControlPlane {
                    self.lab.control_plane.stop(self.host()).await;
                }
            }
            ("resetSystemDisk", _) => self.wipe(&WipeTarget::SystemDisk),
            ("resetSystemDiskSpec", NodeSequence::Reset { wipe, .. }) => self.wipe(wipe),
            _ => {}
        }
    }

    fn wipe(&self, wipe: &WipeTarget) {
        let partitions: &[SystemPartition] = match wipe {
            WipeTarget::SystemDisk => {
                self.change(|state| state.disk.wipe());
                &[SystemPartition::Ephemeral]
            }
            WipeTarget::Partitions(partitions) => partitions,
            WipeTarget::UserDisks => &[],
        };
        for partition in partitions {
            self.change(|state| state.disk.wipe_partition(*partition));
            if *partition == SystemPartition::Ephemeral
                && let Err(error) = self.lab.control_plane.wipe_etcd(self.host())
            {
                tracing::error!(node = self.name(), error = %ErrorReport::new(&error), "EPHEMERAL was not wiped");
            }
        }
    }

    pub(super) fn publish_sequence(&self, sequence: &NodeSequence, action: sequence_event::Action, actor: &str) {
        self.publish_named_sequence(sequence.name(), action, actor);
    }

    pub(super) fn publish_named_sequence(&self, name: &str, action: sequence_event::Action, actor: &str) {
        let event = api::SequenceEvent { sequence: name.to_owned(), action: action.into(), error: None };
        self.events.publish(actor, &event);
        self.log("machined", &format!("{name} sequence: {}", action.as_str_name().to_lowercase()));
    }

    fn publish_phase(&self, phase: &str, action: phase_event::Action, actor: &str) {
        self.events.publish(actor, &api::PhaseEvent { phase: phase.to_owned(), action: action.into() });
    }
}

pub(super) fn task_event(task: &str, action: task_event::Action) -> api::TaskEvent {
    api::TaskEvent { task: task.to_owned(), action: action.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(sequence: &NodeSequence, role: NodeRole) -> Vec<&'static str> {
        sequence.phases(role).into_iter().map(|phase| phase.name).collect()
    }

    #[test]
    fn only_a_graceful_reset_of_a_control_plane_leaves_etcd() {
        let reset = |graceful| NodeSequence::Reset { graceful, reboot: true, wipe: WipeTarget::SystemDisk };
        assert!(phases(&reset(true), NodeRole::ControlPlane).contains(&"leave"));
        assert!(!phases(&reset(true), NodeRole::Worker).contains(&"leave"));
        assert!(!phases(&reset(false), NodeRole::ControlPlane).contains(&"leave"));
    }

    #[test]
    fn everything_is_stopped_before_anything_is_wiped() {
        let reset = NodeSequence::Reset {
            graceful: false,
            reboot: false,
            wipe: WipeTarget::Partitions(vec![SystemPartition::State]),
        };
        let phases = phases(&reset, NodeRole::ControlPlane);
        let position = |name: &str| phases.iter().position(|phase| *phase == name).unwrap();
        assert!(
            position("stopEverything") < position("resetSpec") && position("resetSpec") < position("shutdown"),
            "{phases:?}"
        );
        assert_eq!(reset.power_state(), PowerState::Off);
    }
}
