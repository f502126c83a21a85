//! Waits for a node to run its machine config.

use engine::{Code, StepContext, StepError, StepWait};
use error_report::ErrorReport;
use retry::policies::{NODE_SEARCH, NOT_READY};
use talos_client::{Client, ClientError, ClientErrorKind, ProgressTimeout, Stage};
use talos_config::InventoryNode;
use tokio::time::Instant;

use super::addresses::{check_machine, seen_elsewhere};
use super::context::RunContext;
use super::errors::place;

/// Waits until a node runs as one of this cluster, by watching its stage, and reports why it waits. While its port is
/// closed it is dialled as often as [`retry::policies::node_connection`] allows.
///
/// # Errors
///
/// When the node made no progress for longer than its slowest boot so far took, restarted without its config (T05), or
/// another node has its address (T09).
pub(super) async fn wait_configured(
    context: &RunContext,
    node: &InventoryNode,
    cx: &StepContext,
) -> Result<Client, StepError> {
    let began = Instant::now();
    let mut wait = BootWait {
        node,
        cx,
        timeout: ProgressTimeout::new(context.boot_limit(node), began),
        last: None,
        elsewhere: None,
    };
    let mut looks = NOT_READY.backoff();
    let mut has_restarted = false;
    let mut next_search = began + NODE_SEARCH;
    loop {
        match context.node_client(node).await {
            Ok(client) => {
                if watch_up(&client, &mut wait).await? {
                    check_machine(context, node, &client).await?;
                    context.learn_boot(node, began.elapsed(), cx).await;
                    return Ok(client);
                }
                // It responds, and does not report its stage yet.
                looks.wait().await;
            }
            Err(error) => {
                has_restarted |= error.kind == ClientErrorKind::Unavailable;
                if has_restarted && error.kind == ClientErrorKind::Untrusted {
                    return Err(fell_back(node));
                }
                looks.refill();
                if error.kind == ClientErrorKind::Unavailable && Instant::now() >= next_search {
                    wait.elsewhere = seen_elsewhere(context, node).await;
                    next_search = Instant::now() + NODE_SEARCH;
                }
                wait.note(reason(&error))?;
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
            overdue = wait.note(StepWait::new(format!("the node is {stage}")).code(Code::T11)).err();
            overdue.is_some()
        }
    });
    match tokio::time::timeout(remaining, watch).await {
        Ok(Ok(_)) => overdue.map_or(Ok(true), Err),
        Ok(Err(error)) => wait.note(reason(&error)).map(|()| false),
        Err(_) => {
            let silent = || StepWait::new("the node reports no stage").code(Code::T11);
            wait.note(wait.last.clone().unwrap_or_else(silent)).map(|()| false)
        }
    }
}

fn reason(error: &ClientError) -> StepWait {
    match error.kind {
        ClientErrorKind::Unavailable => StepWait::new("port 50000 is closed: installing or rebooting").code(Code::T11),
        ClientErrorKind::Untrusted => StepWait::new("the node is still in maintenance mode").code(Code::T05),
        _ => StepWait::new(ErrorReport::new(error).to_string()).code(Code::T11),
    }
}

/// A node that restarted without its config; the next attempt applies it again.
fn fell_back(node: &InventoryNode) -> StepError {
    StepError::unavailable("the node fell back to maintenance mode")
        .with_place(place(node))
        .because("it restarted and did not keep its config")
        .code(Code::T05)
}

/// What a node waits for, and since when.
struct BootWait<'w> {
    node: &'w InventoryNode,
    cx: &'w StepContext,
    timeout: ProgressTimeout,
    last: Option<StepWait>,
    /// Where the cluster has the node instead.
    elsewhere: Option<String>,
}

impl BootWait<'_> {
    /// Reports why the node is waited for; fails when that has not changed for too long.
    fn note(&mut self, wait: StepWait) -> Result<(), StepError> {
        let wait = match self.elsewhere.take() {
            Some(elsewhere) => StepWait::new(format!("{}; {elsewhere}", wait.line)).code(Code::T09),
            None => wait,
        };
        self.cx.waiting(wait.clone());
        let noted = self.timeout.note(&wait.line, Instant::now()).map_err(|overdue| {
            let minutes = overdue.elapsed.as_secs() / 60;
            StepError::failed_precondition(format!("no progress on the node for {minutes}m"))
                .with_place(place(self.node))
                .because(&wait.line)
                .code(wait.code.unwrap_or(Code::T11))
        });
        self.last = Some(wait);
        noted
    }
}
