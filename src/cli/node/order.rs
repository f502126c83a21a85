//! Commands that change a machine.

use super::super::error::CommandError;
use super::super::output;
use super::args::{Afterwards, How};
use super::look::again;
use super::{Machine, refusal};
use talos_client::{RebootMode, ResetOptions, Stage, UpgradeOutcome, WipeTarget};

pub(super) async fn reboot(machine: &Machine, how: How, afterwards: Afterwards) -> Result<(), CommandError> {
    let how = match how {
        How::Default => RebootMode::Default,
        How::Powercycle => RebootMode::PowerCycle,
        How::Force => RebootMode::Force,
    };
    let boot = machine.client.boot_id().await.map_err(refusal)?;
    machine.client.reboot(how).await.map_err(refusal)?;
    back(machine, &boot, afterwards).await
}

pub(super) async fn upgrade(machine: &Machine, image: &str, afterwards: Afterwards) -> Result<(), CommandError> {
    let boot = machine.client.boot_id().await.map_err(refusal)?;
    if machine.client.upgrade(image, &output::say).await.map_err(refusal)? == UpgradeOutcome::NeedsReboot {
        machine.client.reboot(RebootMode::Default).await.map_err(refusal)?;
    }
    back(machine, &boot, afterwards).await
}

pub(super) async fn rollback(machine: &Machine, afterwards: Afterwards) -> Result<(), CommandError> {
    let boot = machine.client.boot_id().await.map_err(refusal)?;
    machine.client.rollback().await.map_err(refusal)?;
    back(machine, &boot, afterwards).await
}

/// Waits until the machine has booted again and runs.
async fn back(machine: &Machine, boot: &str, afterwards: Afterwards) -> Result<(), CommandError> {
    if afterwards.no_wait {
        return Ok(());
    }
    output::say(&format!("{}: waiting until it is back", machine.node.hostname));
    loop {
        let (client, now) = again(machine).await?;
        // The old boot's connection ends with that boot, and a machine may go down once more on its way up.
        let runs = client.watch_status(|status| now != boot && status.stage == Stage::Running).await.is_ok();
        if runs && let Ok(version) = client.version().await {
            output::say(&format!("{}: back with Talos {version}", machine.node.hostname));
            return Ok(());
        }
    }
}

pub(super) async fn shutdown(machine: &Machine) -> Result<(), CommandError> {
    machine.client.shutdown().await.map(|_| ()).map_err(refusal)
}

pub(super) async fn reset(machine: &Machine, graceful: bool, labels: Vec<String>) -> Result<(), CommandError> {
    let what = ResetOptions { graceful, reboot: true, wipe: WipeTarget::Partitions(labels) };
    machine.client.reset(what).await.map(|_| ()).map_err(refusal)
}
