//! What a machine does from an accepted call, or an installed system, to the moment in which it goes down.
//!
//! The phases and tasks are Talos's own, in its order, since a caller follows them on the event stream.

use std::sync::Arc;

use super::disk::Partition;
use super::{Node, Stage, Talos};
use crate::machine::{MachineConfig, Role};
use api::{phase_event, sequence_event, task_event};
use talos_proto::machine as api;

/// A call that ends the machine's present life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) what: Sequence,
    /// By this name the caller finds the events that follow from the call; empty when nobody asked.
    pub(super) actor: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sequence {
    Install(Talos),
    Reboot { force: bool },
    Shutdown { force: bool },
    Reset { graceful: bool, reboot: bool, wipe: Wipe },
    Upgrade(Talos),
    StageUpgrade(Talos),
}

/// What a reset takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wipe {
    SystemDisk,
    Partitions(Vec<Partition>),
    UserDisks,
}

/// What is there when the machine has gone down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Rebooting,
    Off,
}

type Phase = (&'static str, &'static [&'static str]);

const STOP: [Phase; 5] = [
    ("stopServices", &["stopServicesForUpgrade"]),
    ("umount", &["unmountPodMounts"]),
    ("unmountBind", &["unmountSystemDiskBindMounts"]),
    ("unmountSystem", &["unmountEphemeralPartition"]),
    ("volumeFinalize", &["teardownLifecycle"]),
];
const KEXEC: Phase = ("kexec", &["kexecPrepare"]);
const STOP_EVERYTHING: Phase = ("stopEverything", &["stopAllServices"]);
const CLEANUP: [Phase; 2] = [("cleanup", &["stopAllPods"]), ("dbus", &["stopDBus"])];
const DRAIN: Phase = ("drain", &["cordonAndDrainNode"]);
const REBOOT: Phase = ("reboot", &["reboot"]);
const SHUTDOWN: Phase = ("shutdown", &["shutdown"]);
const NEW_SYSTEM: [Phase; 2] = [("upgrade", &["upgrade"]), ("meta", &["reloadMeta"])];

impl Sequence {
    fn name(&self) -> &'static str {
        match self {
            Self::Install(_) => "install",
            Self::Reboot { .. } => "reboot",
            Self::Shutdown { .. } => "shutdown",
            Self::Reset { .. } => "reset",
            Self::Upgrade(_) => "upgrade",
            Self::StageUpgrade(_) => "stageUpgrade",
        }
    }

    fn stage(&self) -> Stage {
        match self {
            Self::Install(_) => Stage::Installing,
            Self::Reboot { .. } => Stage::Rebooting,
            Self::Shutdown { .. } => Stage::ShuttingDown,
            Self::Reset { .. } => Stage::Resetting,
            Self::Upgrade(_) | Self::StageUpgrade(_) => Stage::Upgrading,
        }
    }

    fn phases(&self, role: Role) -> Vec<Phase> {
        let stop = |kexec: bool| STOP.into_iter().chain(kexec.then_some(KEXEC)).chain([STOP_EVERYTHING]);
        match self {
            Self::Install(_) => [
                ("env", &["setUserEnvVars"][..]),
                ("install", &["install"]),
                ("meta", &["reloadMeta"]),
                ("saveMeta", &["flushMeta"]),
                ("volumeFinalize", &["teardownLifecycle"]),
                STOP_EVERYTHING,
                KEXEC,
                REBOOT,
            ]
            .to_vec(),
            Self::Reboot { force: true } => vec![REBOOT],
            Self::Reboot { force: false } | Self::StageUpgrade(_) => {
                CLEANUP.into_iter().chain(stop(true)).chain([REBOOT]).collect()
            }
            Self::Shutdown { force } => {
                let first = [("storeShutdown", &["storeShutdownEmergency"][..])].into_iter();
                let drain = (!force).then_some(DRAIN);
                first.chain(drain).chain(CLEANUP).chain(stop(false)).chain([SHUTDOWN]).collect()
            }
            Self::Upgrade(_) => {
                let end = [KEXEC, STOP_EVERYTHING, REBOOT];
                [DRAIN].into_iter().chain(CLEANUP).chain(STOP).chain(NEW_SYSTEM).chain(end).collect()
            }
            Self::Reset { graceful, reboot, wipe } => {
                let mut phases: Vec<Phase> = Vec::new();
                if *graceful {
                    phases.extend([DRAIN, ("cleanup", &["removeAllPods"])]);
                } else {
                    phases.push(CLEANUP[0]);
                }
                phases.push(CLEANUP[1]);
                phases.extend((*graceful && role == Role::ControlPlane).then_some(("leave", &["leaveEtcd"][..])));
                phases.push(("preReset", &["sendResetSignal"]));
                phases.extend(stop(matches!(wipe, Wipe::Partitions(_))));
                phases.push(("forceCleanup", &["forceCleanup"]));
                phases.extend(match wipe {
                    Wipe::SystemDisk => Some(("reset", &["resetSystemDisk"][..])),
                    Wipe::Partitions(_) => Some(("resetSpec", &["resetSystemDiskSpec"][..])),
                    Wipe::UserDisks => Some(("resetUserDisks", &["resetUserDisks"][..])),
                });
                phases.push(if *reboot { REBOOT } else { SHUTDOWN });
                phases
            }
        }
    }

    fn after(&self) -> After {
        match self {
            Self::Shutdown { .. } | Self::Reset { reboot: false, .. } => After::Off,
            _ => After::Rebooting,
        }
    }
}

impl Node {
    /// Orders the machine to go down; false when it already has such an order.
    pub(super) fn order(&self, what: Sequence, actor: &str) -> bool {
        self.ordered.send_if_modified(|order| {
            let free = order.is_none();
            order.get_or_insert_with(|| Order { what, actor: actor.to_owned() });
            free
        })
    }

    /// Orders a reboot that nobody asked for.
    pub(super) fn power_cycle(&self) {
        self.order(Sequence::Reboot { force: true }, "");
    }

    /// Waits for an order and takes it.
    pub(super) async fn next_order(&self) -> Order {
        let mut orders = self.ordered.subscribe();
        loop {
            if let Some(order) = orders.borrow_and_update().clone() {
                return order;
            }
            // The sender lives in this machine, so this only ever waits.
            let _ = orders.changed().await;
        }
    }

    /// Goes through a sequence until there is nothing left that answers.
    pub(super) async fn carry_out(&self, order: &Order, config: Option<&Arc<MachineConfig>>) -> After {
        let role = config.map_or(Role::Worker, |config| config.role);
        let actor = order.actor.as_str();
        self.tell_sequence(&order.what, sequence_event::Action::Start, actor);
        if !matches!(order.what, Sequence::Install(_)) {
            self.stage(order.what.stage());
        }
        for (phase, tasks) in order.what.phases(role) {
            self.tell_phase(phase, phase_event::Action::Start, actor);
            if matches!((&order.what, phase), (Sequence::Install(_), "install")) {
                self.stage(Stage::Installing);
            }
            if phase == "kexec" && !matches!(order.what, Sequence::Reset { .. }) {
                self.stage(Stage::Rebooting);
            }
            for task in tasks {
                self.events.tell(actor, &task_event(task, task_event::Action::Start));
                self.perform(task, &order.what, role).await;
                self.events.tell(actor, &task_event(task, task_event::Action::Stop));
            }
            self.tell_phase(phase, phase_event::Action::Stop, actor);
        }
        order.what.after()
    }

    async fn perform(&self, task: &str, sequence: &Sequence, role: Role) {
        match (task, sequence) {
            ("install", Sequence::Install(talos)) => {
                tokio::time::sleep(self.world.scenario.install.duration()).await;
                self.change(|state| state.disk.install(talos.clone()));
            }
            ("upgrade", Sequence::Upgrade(talos)) => {
                tokio::time::sleep(self.world.scenario.install.duration()).await;
                self.change(|state| state.disk.install(talos.clone()));
            }
            ("leaveEtcd", _) => {
                if let Err(reason) = self.world.control_plane.leave_etcd(self).await {
                    self.log("etcd", &format!("failed to leave the cluster: {reason}"));
                }
            }
            ("stopAllServices", _) => {
                self.stop_services();
                if role == Role::ControlPlane {
                    self.world.control_plane.stop(self).await;
                }
            }
            ("resetSystemDisk", _) => self.wipe(&Wipe::SystemDisk),
            ("resetSystemDiskSpec", Sequence::Reset { wipe, .. }) => self.wipe(wipe),
            _ => {}
        }
    }

    fn wipe(&self, wipe: &Wipe) {
        let partitions: &[Partition] = match wipe {
            Wipe::SystemDisk => {
                self.change(|state| state.disk.wipe());
                &[Partition::Ephemeral]
            }
            Wipe::Partitions(partitions) => partitions,
            Wipe::UserDisks => &[],
        };
        for partition in partitions {
            self.change(|state| state.disk.wipe_partition(*partition));
            if *partition == Partition::Ephemeral
                && let Err(reason) = self.world.control_plane.wipe_etcd(self)
            {
                tracing::error!(node = self.name(), %reason, "EPHEMERAL was not wiped");
            }
        }
    }

    pub(super) fn tell_sequence(&self, sequence: &Sequence, action: sequence_event::Action, actor: &str) {
        self.tell_named_sequence(sequence.name(), action, actor);
    }

    pub(super) fn tell_named_sequence(&self, name: &str, action: sequence_event::Action, actor: &str) {
        let event = api::SequenceEvent { sequence: name.to_owned(), action: action.into(), error: None };
        self.events.tell(actor, &event);
        self.log("machined", &format!("{name} sequence: {}", action.as_str_name().to_lowercase()));
    }

    fn tell_phase(&self, phase: &str, action: phase_event::Action, actor: &str) {
        self.events.tell(actor, &api::PhaseEvent { phase: phase.to_owned(), action: action.into() });
    }
}

pub(super) fn task_event(task: &str, action: task_event::Action) -> api::TaskEvent {
    api::TaskEvent { task: task.to_owned(), action: action.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(sequence: &Sequence, role: Role) -> Vec<&'static str> {
        sequence.phases(role).into_iter().map(|(phase, _)| phase).collect()
    }

    #[test]
    fn only_a_graceful_reset_of_a_control_plane_leaves_etcd() {
        let reset = |graceful| Sequence::Reset { graceful, reboot: true, wipe: Wipe::SystemDisk };
        assert!(phases(&reset(true), Role::ControlPlane).contains(&"leave"));
        assert!(!phases(&reset(true), Role::Worker).contains(&"leave"));
        assert!(!phases(&reset(false), Role::ControlPlane).contains(&"leave"));
    }

    #[test]
    fn everything_is_stopped_before_anything_is_wiped() {
        let reset = Sequence::Reset { graceful: false, reboot: false, wipe: Wipe::Partitions(vec![Partition::State]) };
        let phases = phases(&reset, Role::ControlPlane);
        let place = |name: &str| phases.iter().position(|phase| *phase == name).unwrap();
        assert!(place("stopEverything") < place("resetSpec") && place("resetSpec") < place("shutdown"), "{phases:?}");
        assert_eq!(reset.after(), After::Off);
    }
}
