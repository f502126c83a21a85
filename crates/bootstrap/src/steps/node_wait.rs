//! Waits for a node to run its machine config.

use engine::{Code, StepContext, StepError, StepWait};
use error_report::ErrorReport;
use talos_client::{Client, ClientError, ClientErrorKind, ProgressTimeout, Stage, connect_delays};
use talos_config::InventoryNode;
use tokio::time::Instant;

use super::context::RunContext;
use super::errors::place;

async fn up(context: &RunContext, node: &InventoryNode) -> Result<(Client, Stage), ClientError> {
    let client = Client::connect(&context.dialer, node.address, &context.client_identity).await?;
    let stage = client.machine_status().await?.stage;
    Ok((client, stage))
}

/// Waits until a node runs as one of this cluster, probing its port and reporting why it waits.
///
/// # Errors
///
/// When the node made no progress for longer than its slowest boot so far took, or restarted without its config (T05).
pub(super) async fn wait_configured(
    context: &RunContext,
    node: &InventoryNode,
    cx: &StepContext,
) -> Result<Client, StepError> {
    let began = Instant::now();
    let mut timeout = ProgressTimeout::new(context.boot_limit(node), began);
    let mut has_restarted = false;
    for pause in connect_delays() {
        let wait = match up(context, node).await {
            Ok((client, Stage::Booting | Stage::Running)) => {
                context.learn_boot(node, began.elapsed());
                return Ok(client);
            }
            // From 1.13 on a node answers with its new certificate before it has installed and rebooted.
            Ok((_, stage)) => StepWait::new(format!("the node is {stage}")).code(Code::T11),
            Err(error) => match error.kind {
                ClientErrorKind::Unavailable => {
                    has_restarted = true;
                    StepWait::new("port 50000 is closed: installing or rebooting").code(Code::T11)
                }
                ClientErrorKind::Untrusted if has_restarted => return Err(fell_back(node)),
                ClientErrorKind::Untrusted => StepWait::new("the node is still in maintenance mode").code(Code::T05),
                _ => StepWait::new(ErrorReport::new(&error).to_string()).code(Code::T11),
            },
        };
        if let Err(overdue) = timeout.note(&wait.line, Instant::now()) {
            let minutes = overdue.elapsed.as_secs() / 60;
            return Err(StepError::failed_precondition(format!("no progress on the node for {minutes}m"))
                .with_place(place(node))
                .because(wait.line)
                .code(wait.code.unwrap_or(Code::T11)));
        }
        cx.waiting(wait);
        tokio::time::sleep(pause).await;
    }
    Err(StepError::unavailable("the node does not respond").with_place(place(node)).code(Code::T11))
}

/// A node that restarted without its config; the next attempt applies it again.
fn fell_back(node: &InventoryNode) -> StepError {
    StepError::unavailable("the node fell back to maintenance mode")
        .with_place(place(node))
        .because("it restarted and did not keep its config")
        .code(Code::T05)
}
