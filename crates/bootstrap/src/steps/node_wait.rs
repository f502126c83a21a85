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
/// When the node made no progress for longer than its slowest boot so far took.
pub(super) async fn wait_configured(
    context: &RunContext,
    node: &InventoryNode,
    cx: &StepContext,
) -> Result<Client, StepError> {
    let began = Instant::now();
    let mut timeout = ProgressTimeout::new(context.boot_limit(node), began);
    for pause in connect_delays() {
        let line = match up(context, node).await {
            Ok((client, Stage::Booting | Stage::Running)) => {
                context.learn_boot(node, began.elapsed());
                return Ok(client);
            }
            // From 1.13 on a node answers with its new certificate before it has installed and rebooted.
            Ok((_, stage)) => format!("it is {stage}"),
            Err(error) => match error.kind {
                ClientErrorKind::Unavailable => "its port is closed: installing or rebooting".to_owned(),
                ClientErrorKind::Untrusted => "it still answers as an unconfigured node".to_owned(),
                _ => ErrorReport::new(&error).to_string(),
            },
        };
        cx.waiting(StepWait::new(&line).code(Code::T11));
        if let Err(overdue) = timeout.note(&line, Instant::now()) {
            let minutes = overdue.elapsed.as_secs() / 60;
            return Err(StepError::failed_precondition(format!("no progress on the node for {minutes}m"))
                .at(place(node))
                .because(line)
                .code(Code::T11));
        }
        tokio::time::sleep(pause).await;
    }
    Err(StepError::unavailable("the node does not respond").at(place(node)))
}
