//! What puts a machine down or makes it another: reboot, shutdown, reset, upgrade, rollback.
//!
//! All of them answer before anything has happened.

use super::error::{ClientError, Kind};
use super::image::{ImageSpace, pull};
use super::link::{Flow, Link, Wait};
use super::version::TalosVersion;
use talos_proto::machine::lifecycle_service_install_progress::Response as Progress;
use talos_proto::machine::{
    InstallArtifactsSource, LifecycleServiceUpgradeRequest, RebootRequest, ResetPartitionSpec, ResetRequest,
    RollbackRequest, ShutdownRequest, UpgradeRequest, reboot_request, reset_request, upgrade_request,
};

/// How a machine is rebooted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reboot {
    /// By kexec where the machine can.
    Default,
    /// Through the firmware.
    PowerCycle,
    /// Without waiting for what runs (1.12 and later).
    Force,
}

/// What a reset leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Cordon, drain and leave etcd first; impossible for the last node of a cluster.
    pub graceful: bool,
    /// Come back instead of staying off.
    pub reboot: bool,
    pub wipe: Wipe,
}

/// What is emptied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wipe {
    /// These partitions by label. `STATE` and `EPHEMERAL` bring a node back to maintenance mode.
    Partitions(Vec<String>),
    /// The system disk with the operating system on it.
    SystemDisk,
    /// These disks, and not the system's.
    UserDisks(Vec<String>),
    Everything(Vec<String>),
}

/// What an upgrade has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgraded {
    /// The node reboots by itself now.
    Rebooting,
    /// The next boot is into the new version; somebody has to ask for it.
    NeedsReboot,
}

/// Who asked for what happens next: the events of it carry this.
pub type Actor = String;

pub(super) async fn reboot(link: &Link, how: Reboot) -> Result<Actor, ClientError> {
    let mode = match how {
        Reboot::Default => reboot_request::Mode::Default,
        Reboot::PowerCycle => reboot_request::Mode::Powercycle,
        Reboot::Force => reboot_request::Mode::Force,
    };
    let (mut machine, request) = (link.machine(), link.request(RebootRequest { mode: mode.into() }));
    Ok(link.one("reboot", Wait::Short, machine.reboot(request)).await?.actor_id)
}

pub(super) async fn shutdown(link: &Link, force: bool) -> Result<Actor, ClientError> {
    let (mut machine, request) = (link.machine(), link.request(ShutdownRequest { force }));
    Ok(link.one("shutdown", Wait::Short, machine.shutdown(request)).await?.actor_id)
}

pub(super) async fn rollback(link: &Link) -> Result<(), ClientError> {
    let (mut machine, request) = (link.machine(), link.request(RollbackRequest {}));
    link.one("rollback", Wait::Short, machine.rollback(request)).await.map(|_| ())
}

pub(super) async fn reset(link: &Link, what: Reset) -> Result<Actor, ClientError> {
    use reset_request::WipeMode;
    let (mode, partitions, disks) = match what.wipe {
        Wipe::Partitions(labels) => (WipeMode::SystemDisk, labels, vec![]),
        Wipe::SystemDisk => (WipeMode::SystemDisk, vec![], vec![]),
        Wipe::UserDisks(disks) => (WipeMode::UserDisks, vec![], disks),
        Wipe::Everything(disks) => (WipeMode::All, vec![], disks),
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

/// Installs another version. Since 1.13 the image is pulled and the installer run in two calls that tell their progress
/// and neither look after etcd nor reboot; before, one call does it all.
pub(super) async fn upgrade(
    link: &Link,
    version: &TalosVersion,
    image: &str,
    tell: &(dyn Fn(&str) + Send + Sync),
) -> Result<Upgraded, ClientError> {
    if version.has_lifecycle_service() {
        pull(link, version, ImageSpace::System, image, tell).await?;
        match install(link, image, tell).await {
            Err(error) if error.kind == Kind::Unsupported => {}
            installed => return installed.map(|()| Upgraded::NeedsReboot),
        }
    }
    let request = UpgradeRequest {
        image: image.to_owned(),
        // Data has stayed in any case since 1.8.
        preserve: true,
        stage: false,
        force: false,
        reboot_mode: upgrade_request::RebootMode::Default.into(),
    };
    let mut machine = link.machine();
    // The image is pulled and tried before the answer comes.
    let answer = link.one("upgrade", Wait::Long, machine.upgrade(link.request(request))).await?;
    tell(&answer.ack);
    Ok(Upgraded::Rebooting)
}

async fn install(link: &Link, image: &str, tell: &(dyn Fn(&str) + Send + Sync)) -> Result<(), ClientError> {
    let call = "upgrade";
    let request = LifecycleServiceUpgradeRequest {
        containerd: Some(ImageSpace::System.instance()),
        source: Some(InstallArtifactsSource { image_name: image.to_owned() }),
    };
    let mut lifecycle = link.lifecycle();
    let mut progress = link.stream(call, Flow::Works, lifecycle.upgrade(link.request(request))).await?;
    let mut last = String::new();
    while let Some(message) = progress.raw().await? {
        match message.progress.and_then(|progress| progress.response) {
            Some(Progress::Message(line)) => {
                tell(line.trim_end());
                line.trim_end().clone_into(&mut last);
            }
            // A failure is a good answer with an exit code.
            Some(Progress::ExitCode(0)) => return Ok(()),
            Some(Progress::ExitCode(code)) => {
                let text = format!("the installer ended with exit code {code}; its last line was: {last}");
                return Err(link.error(call, Kind::Refused, text));
            }
            None => {}
        }
    }
    Err(link.error(call, Kind::Unreachable, "the installer's output ended before it did"))
}
