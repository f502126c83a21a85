//! A config that was sent to a node, until it is known what became of it.

use std::time::Duration;

use engine::{StepContext, StepError};
use error_report::ErrorReport;
use secrecy::ExposeSecret;
use talos_client::{ApplyMode, ChangeEffect, Client, RebootMode};
use talos_config::InventoryNode;
use tokio::time::Instant;

use super::super::config_errors::config_error;
use super::super::context::RunContext;
use super::super::errors::{place, step_error};
use super::super::etcd::connect;
use super::super::node_config::runs;
use super::shared::Rollout;

/// A request whose answer did not come may still be carried out: by a node that hangs, or one whose answer was lost. After
/// this, one that answers other calls and has not begun to reboot has dropped it.
const UNANSWERED: Duration = Duration::from_mins(1);

/// Whether the node reboots after a config was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterApply {
    Reboots,
    /// It reported that it runs the config without a reboot.
    Continues,
}

/// How the node answered to its config.
#[derive(Debug)]
enum Answer {
    Accepted(AfterApply),
    /// It is unknown whether the node carries it out.
    Unknown {
        error: StepError,
        since: Instant,
    },
}

/// A config that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// The boot in which it was sent.
    boot_id: String,
    answer: Answer,
}

/// How far a node is on its way into the config that was sent.
#[derive(Debug)]
pub(super) enum Progress {
    Pending(String),
    /// It runs the config.
    Done,
    /// The node did not carry the request out, which failed like this.
    Unchanged(StepError),
}

/// Sends the node its config.
pub(super) async fn send(
    context: &RunContext,
    node: &InventoryNode,
    client: &Client,
    mode: ApplyMode,
    cx: &StepContext,
) -> Result<AfterApply, StepError> {
    let text = context.config_text(node);
    let applied = client.apply_configuration(text.expose_secret(), mode).await;
    let applied = applied.map_err(|error| config_error(context, &error, node))?;
    for line in context.config_warnings.note(&node.hostname, applied.warnings) {
        cx.progress(&line);
    }
    Ok(if applied.rebooting { AfterApply::Reboots } else { AfterApply::Continues })
}

/// Sends a config that takes effect after a reboot, and has the node reboot.
///
/// # Errors
///
/// The node rejected it, or could not be asked before: nothing was changed on it. A request without a response is not an error.
pub(super) async fn send_and_reboot(
    context: &RunContext,
    node: &InventoryNode,
    client: &Client,
    cx: &StepContext,
) -> Result<Sent, StepError> {
    let failed = |error| step_error(&error, node);
    let boot_id = client.boot_id().await.map_err(failed)?;
    let reports_reboots = client.version().await.map_err(failed)?.reports_reboots();
    let after = async {
        if reports_reboots {
            return send(context, node, client, ApplyMode::Auto, cx).await;
        }
        // Talos 1.14 reboots for no config: its documentation has the operator apply and reboot. A staged config becomes
        // active with the reboot, so a run that is killed in between leaves a node that still has to change.
        send(context, node, client, ApplyMode::Staged, cx).await?;
        client.reboot(RebootMode::Default).await.map_err(failed)?;
        Ok(AfterApply::Reboots)
    };
    match after.await {
        Ok(after) => Ok(Sent { boot_id, answer: Answer::Accepted(after) }),
        Err(error) if error.class.is_retried() => {
            Ok(Sent { boot_id, answer: Answer::Unknown { error, since: Instant::now() } })
        }
        Err(error) => Err(error),
    }
}

/// Whether the node runs its config in a new boot.
pub(super) async fn rebooted(context: &RunContext, node: &InventoryNode, sent: &Sent) -> Result<Progress, StepError> {
    let pending = |text: &str| Ok(Progress::Pending(text.to_owned()));
    let Ok(client) = connect(context, node).await else { return pending("its port is closed: rebooting") };
    let boot_id = match client.boot_id().await {
        Ok(boot_id) => boot_id,
        Err(error) => return pending(&ErrorReport::new(&error).to_string()),
    };
    if boot_id == sent.boot_id {
        match &sent.answer {
            Answer::Accepted(AfterApply::Reboots) => return pending("it has not rebooted yet"),
            Answer::Accepted(AfterApply::Continues) => {}
            Answer::Unknown { since, .. } if since.elapsed() < UNANSWERED => {
                return pending("it did not answer to its config, and may reboot for it yet");
            }
            Answer::Unknown { error, .. } => {
                let text = context.config_text(node);
                match client.change_effect(text.expose_secret()).await {
                    Ok(ChangeEffect::Reboot) => return Ok(Progress::Unchanged(error.clone())),
                    Ok(ChangeEffect::None | ChangeEffect::Live) => {}
                    Err(error) => return pending(&ErrorReport::new(&error).to_string()),
                }
            }
        }
    }
    match runs(context, node, &client).await {
        Ok(true) => Ok(Progress::Done),
        Ok(false) => pending("it does not run the config that was applied"),
        Err(error) => pending(&ErrorReport::new(&error).to_string()),
    }
}

/// A node that has its config and is not back. A step that is dropped then, at its deadline for one, ends the rollout: no
/// other node may go, since this one may be about to.
pub(super) struct OnItsWay<'r> {
    rollout: &'r Rollout,
    node: &'r InventoryNode,
    is_settled: bool,
}

impl<'r> OnItsWay<'r> {
    pub(super) fn new(rollout: &'r Rollout, node: &'r InventoryNode) -> Self {
        Self { rollout, node, is_settled: false }
    }

    /// What became of it is known.
    pub(super) fn settled(mut self) {
        self.is_settled = true;
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let error = StepError::unavailable("its reboot was not seen to its end").with_place(place(self.node));
        self.rollout.end(self.node, &error);
    }
}
