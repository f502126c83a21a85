//! Waits for a node to run its machine config.

use engine::{Code, StepContext, StepError, StepWait};
use error_report::ErrorReport;
use retry::policies::NOT_READY;
use talos_client::{Client, ClientError, ClientErrorKind, ProgressTimeout, Stage};
use talos_config::InventoryNode;
use tokio::time::Instant;

use super::context::RunContext;
use super::errors::place;

/// Waits until a node runs as one of this cluster, by watching its stage, and reports why it waits. While its port is
/// closed it is dialled as often as [`retry::policies::node_connection`] allows.
///
/// # Errors
///
/// When the node made no progress for longer than its slowest boot so far took.
pub(super) async fn wait_configured(
    context: &RunContext,
    node: &InventoryNode,
    cx: &StepContext,
) -> Result<Client, StepError> {
    let began = Instant::now();
    let mut wait = BootWait { node, cx, timeout: ProgressTimeout::new(context.boot_limit(node), began), line: None };
    let mut looks = NOT_READY.backoff();
    loop {
        match context.node_client(node).await {
            Ok(client) => {
                if watch_up(&client, &mut wait).await? {
                    context.learn_boot(node, began.elapsed());
                    return Ok(client);
                }
                // It responds, and does not report its stage yet.
                looks.wait().await;
            }
            Err(error) => {
                looks.refill();
                wait.note(&reason(&error))?;
                context.connections.due(node.address).await;
            }
        }
    }
}

/// Watches the stage of a node until it is up; not up when the watch ended.
async fn watch_up(client: &Client, wait: &mut BootWait<'_>) -> Result<bool, StepError> {
    let remaining = wait.timeout.remaining(Instant::now());
    let mut overdue = None;
    let watch = client.watch_status(|status| match status.stage {
        Stage::Booting | Stage::Running => true,
        // From 1.13 on a node answers with its new certificate before it has installed and rebooted.
        stage => {
            overdue = wait.note(&format!("the node is {stage}")).err();
            overdue.is_some()
        }
    });
    match tokio::time::timeout(remaining, watch).await {
        Ok(Ok(_)) => overdue.map_or(Ok(true), Err),
        Ok(Err(error)) => wait.note(&reason(&error)).map(|()| false),
        Err(_) => {
            let line = wait.line.clone().unwrap_or_else(|| "the node reports no stage".to_owned());
            wait.note(&line).map(|()| false)
        }
    }
}

fn reason(error: &ClientError) -> String {
    match error.kind {
        ClientErrorKind::Unavailable => "port 50000 is closed: installing or rebooting".to_owned(),
        ClientErrorKind::Untrusted => "the node is still in maintenance mode".to_owned(),
        _ => ErrorReport::new(error).to_string(),
    }
}

/// What a node waits for, and since when.
struct BootWait<'w> {
    node: &'w InventoryNode,
    cx: &'w StepContext,
    timeout: ProgressTimeout,
    line: Option<String>,
}

impl BootWait<'_> {
    /// Reports why the node is waited for; fails when that has not changed for too long.
    fn note(&mut self, line: &str) -> Result<(), StepError> {
        self.cx.waiting(StepWait::new(line).code(Code::T11));
        self.line = Some(line.to_owned());
        self.timeout.note(line, Instant::now()).map_err(|overdue| {
            let minutes = overdue.elapsed.as_secs() / 60;
            StepError::failed_precondition(format!("no progress on the node for {minutes}m"))
                .with_place(place(self.node))
                .because(line)
                .code(Code::T11)
        })
    }
}
