//! Calls that stop or replace a machine's system: reboot, shutdown, reset, upgrade, rollback.
//!
//! The node responds before it acts; only upgrades respond later.

use super::error::{ClientError, ClientErrorKind};
use super::image::{ImageSpace, pull};
use super::link::{Flow, Link, Wait};
use super::version::TalosVersion;
use talos_proto::machine::lifecycle_service_install_progress::Response as Progress;
use talos_proto::machine::{
    InstallArtifactsSource, LifecycleServiceUpgradeRequest, RebootRequest, ResetPartitionSpec, ResetRequest,
    RollbackRequest, ShutdownRequest, UpgradeRequest, reboot_request, reset_request, upgrade_request,
};

/// How a machine reboots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebootMode {
    /// With kexec where supported.
    Default,
    /// Through the firmware.
    PowerCycle,
    /// Without graceful shutdown (1.12 and later).
    Force,
}

/// Options of a reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetOptions {
    /// Cordon, drain and leave etcd first; fails for the last node of a cluster.
    pub graceful: bool,
    /// Reboot instead of shutting down.
    pub reboot: bool,
    pub wipe: WipeTarget,
}

/// What a reset wipes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WipeTarget {
    /// The partitions with these labels. `STATE` and `EPHEMERAL` return a node to maintenance mode.
    Partitions(Vec<String>),
    /// The whole system disk, including the operating system.
    SystemDisk,
    /// These disks, not the system disk.
    UserDisks(Vec<String>),
    Everything(Vec<String>),
}

/// The result of an upgrade call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeOutcome {
    /// The node reboots by itself.
    Rebooting,
    /// The new version is installed; the caller has to reboot the node.
    NeedsReboot,
}

/// The id that events caused by a call carry.
pub type ActorId = String;

pub(super) async fn reboot(link: &Link, how: RebootMode) -> Result<ActorId, ClientError> {
    let mode = match how {
        RebootMode::Default => reboot_request::Mode::Default,
        RebootMode::PowerCycle => reboot_request::Mode::Powercycle,
        RebootMode::Force => reboot_request::Mode::Force,
    };
    let (mut machine, request) = (link.machine(), link.request(RebootRequest { mode: mode.into() }));
    let sent = link.one("reboot", Wait::Short, machine.reboot(request));
    Ok(kill_points::around("reboot of a node", sent).await?.actor_id)
}

pub(super) async fn shutdown(link: &Link) -> Result<ActorId, ClientError> {
    let (mut machine, request) = (link.machine(), link.request(ShutdownRequest { force: false }));
    Ok(link.one("shutdown", Wait::Short, machine.shutdown(request)).await?.actor_id)
}

pub(super) async fn rollback(link: &Link) -> Result<(), ClientError> {
    let (mut machine, request) = (link.machine(), link.request(RollbackRequest {}));
    link.one("rollback", Wait::Short, machine.rollback(request)).await.map(|_| ())
}

pub(super) async fn reset(link: &Link, what: ResetOptions) -> Result<ActorId, ClientError> {
    use reset_request::WipeMode;
    let (mode, partitions, disks) = match what.wipe {
        WipeTarget::Partitions(labels) => (WipeMode::SystemDisk, labels, vec![]),
        WipeTarget::SystemDisk => (WipeMode::SystemDisk, vec![], vec![]),
        WipeTarget::UserDisks(disks) => (WipeMode::UserDisks, vec![], disks),
        WipeTarget::Everything(disks) => (WipeMode::All, vec![], disks),
    };
    let request = ResetRequest {
        graceful: what.graceful,
        reboot: what.reboot,
        system_partitions_to_wipe: partitions
            .into_iter()
            .map(|label| ResetPartitionSpec { label, wipe: true })
            .collect(),
        user_disks_to_wipe: disks,
        mode: mode.into(),
    };
    let mut machine = link.machine();
    Ok(link.one("reset", Wait::Short, machine.reset(link.request(request))).await?.actor_id)
}

/// Installs another version. From 1.13 on, pulling the image and running the installer are two calls that report
/// progress and neither check etcd nor reboot; before, one call does everything.
pub(super) async fn upgrade(
    link: &Link,
    version: &TalosVersion,
    image: &str,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<UpgradeOutcome, ClientError> {
    if version.has_lifecycle_service() {
        pull(link, version, ImageSpace::System, image, progress).await?;
        match install(link, image, progress).await {
            Err(error) if error.kind == ClientErrorKind::Unimplemented => {}
            installed => return installed.map(|()| UpgradeOutcome::NeedsReboot),
        }
    }
    let request = UpgradeRequest {
        image: image.to_owned(),
        // Ignored since 1.8, which always preserves data.
        preserve: true,
        stage: false,
        force: false,
        reboot_mode: upgrade_request::RebootMode::Default.into(),
    };
    let mut machine = link.machine();
    // The node responds after it has pulled and verified the image.
    let answer = link.one("upgrade", Wait::Long, machine.upgrade(link.request(request))).await?;
    progress(&answer.ack);
    Ok(UpgradeOutcome::Rebooting)
}

async fn install(link: &Link, image: &str, progress: &(dyn Fn(&str) + Send + Sync)) -> Result<(), ClientError> {
    let call = "upgrade";
    let request = LifecycleServiceUpgradeRequest {
        containerd: Some(ImageSpace::System.instance()),
        source: Some(InstallArtifactsSource { image_name: image.to_owned() }),
    };
    let mut lifecycle = link.lifecycle();
    let mut output = link.stream(call, Flow::Works, lifecycle.upgrade(link.request(request))).await?;
    let mut last = String::new();
    while let Some(message) = output.raw().await? {
        match message.progress.and_then(|progress| progress.response) {
            Some(Progress::Message(line)) => {
                progress(line.trim_end());
                line.trim_end().clone_into(&mut last);
            }
            // The status is OK even when the installer failed; the exit code reports the failure.
            Some(Progress::ExitCode(0)) => return Ok(()),
            Some(Progress::ExitCode(code)) => {
                let text = format!("the installer failed with exit code {code}; its last line was: {last}");
                return Err(link.error(call, ClientErrorKind::Rejected, text));
            }
            None => {}
        }
    }
    Err(link.error(call, ClientErrorKind::Unavailable, "the output of the installer ended without an exit code"))
}
