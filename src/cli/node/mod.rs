//! `k8s-bootstrap node …`: one machine of a running cluster, looked at or given an order.

mod args;
mod look;
mod order;

use secrecy::ExposeSecret;

use super::args::{Common, Output};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::workspace::{LabFlag, target, workspace};
use bootstrap::ops::{NodeAccess, find_node, node_access};
use secrets::Redactor;
use talos_client::{Client, ClientError, ClientErrorKind};
use talos_config::InventoryNode;

pub(in crate::cli) use args::NodeArgs;
use args::NodeCommand;

/// One machine, connected.
struct Machine {
    access: NodeAccess,
    node: InventoryNode,
    client: Client,
    redactor: Redactor,
    output: Output,
}

impl Machine {
    /// Prints the response of a node, secrets masked.
    fn print(&self, text: &str) {
        output::data(&self.redactor.redact(text));
    }

    /// Prints a table, or the same as JSON.
    fn rows(&self, rows: Vec<serde_json::Value>, line: impl Fn(&serde_json::Value) -> String) {
        match self.output {
            Output::Json => self.print(&serde_json::Value::from(rows).to_string()),
            Output::Text => self.print(&rows.iter().map(line).collect::<Vec<_>>().join("\n")),
        }
    }
}

pub(super) async fn node(common: &Common, args: NodeArgs) -> Result<Exit, CommandError> {
    let which = args.command.which();
    let workspace = workspace(common);
    let target = target(&workspace, &which.cluster, LabFlag(which.lab))?;
    let access = node_access(&workspace, &which.cluster, &target).await?;
    let node = find_node(&access.cluster, &which.node)?.clone();
    let client = Client::connect(&access.dialer, node.address, &access.identity).await.map_err(refusal)?;
    let redactor = workspace.redactor.clone();
    let machine = Machine { access, node, client, redactor, output: common.output };
    match args.command {
        NodeCommand::Logs { service, follow, tail, .. } => look::logs(&machine, &service, tail, follow.mode()).await,
        NodeCommand::Dmesg { follow, .. } => look::kernel(&machine, follow.mode()).await,
        NodeCommand::Events { .. } => look::events(&machine).await,
        NodeCommand::Services { .. } => look::services(&machine).await,
        NodeCommand::Get { kind, id, namespace, .. } => look::get(&machine, &namespace, &kind, id.as_deref()).await,
        NodeCommand::Disks { .. } => look::disks(&machine).await,
        NodeCommand::Time { against, .. } => look::time(&machine, against.as_deref()).await,
        NodeCommand::Images { pull, system, .. } => look::images(&machine, pull.as_deref(), system).await,
        NodeCommand::Kubeconfig { out, .. } => {
            let kubeconfig = machine.client.kubeconfig().await.map_err(refusal)?;
            output::private_file(&out, kubeconfig.expose_secret())
        }
        NodeCommand::Reboot { how, afterwards, .. } => order::reboot(&machine, how, afterwards).await,
        NodeCommand::Upgrade { image, afterwards, .. } => order::upgrade(&machine, &image, afterwards).await,
        NodeCommand::Rollback { afterwards, .. } => order::rollback(&machine, afterwards).await,
        NodeCommand::Shutdown { .. } => order::shutdown(&machine).await,
        NodeCommand::Reset { graceful, wipe, .. } => order::reset(&machine, graceful, wipe).await,
    }
    .map(|()| Exit::Done)
}

/// A failed call as a command's end.
pub(super) fn refusal(error: ClientError) -> CommandError {
    let refusal = CommandError::caused_by(Exit::PreconditionFailed, &error);
    match error.kind {
        ClientErrorKind::Untrusted => refusal.hint("the node may have no config yet, or belong to another cluster"),
        ClientErrorKind::Unavailable => refusal.hint("is the machine on, and its port 50000 reachable?"),
        _ => refusal,
    }
}
