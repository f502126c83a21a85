//! Machine configs as they would be applied, and how they differ from the running ones.

use jiff::Timestamp;
use secrecy::ExposeSecret;
use talos_client::Client;
use talos_config::{AdminIdentity, InventoryNode, RenderedConfig, SecretsBundle};
use talos_schema::{Documents, parse_documents};
use yaml::Origin;

use crate::client_identity;
use crate::config_diff::{config_diff, learn_secrets};

use super::access::{dialer, find_node};
use super::inputs::unused_patch_warnings;
use super::{OpsError, SecretsMode, Target, Workspace, input_warnings, open_bundle, read_cluster};

/// What a rendered config is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    None,
    /// The config that the node runs.
    Running,
}

/// The machine config of a node.
#[derive(Debug)]
pub struct RenderedNode {
    pub node: InventoryNode,
    pub rendered: RenderedConfig,
    /// The diff from the running config, if it was asked for; empty if they are equal.
    pub diff: Option<String>,
}

/// Renders the configs of a cluster, or of one node by hostname or address. The redactor learns their secrets.
///
/// # Errors
///
/// Mistakes in the files; a bundle that cannot be opened; a node that does not respond, where its config is compared.
pub async fn render(
    workspace: &Workspace,
    cluster: &str,
    target: &Target,
    secrets: SecretsMode,
    node: Option<&str>,
    comparison: Comparison,
) -> Result<Vec<RenderedNode>, OpsError> {
    let cluster = read_cluster(workspace, cluster, secrets).await?;
    input_warnings(&cluster).for_each(|warning| workspace.note(&format!("warning: {warning}")));
    let bundle = open_bundle(workspace, &cluster, target, secrets).await?;
    for warning in unused_patch_warnings(&cluster, &bundle) {
        workspace.note(&format!("warning: {warning}"));
    }
    let nodes: Vec<&InventoryNode> = match node {
        Some(name) => vec![find_node(&cluster, name)?],
        None => cluster.inventory.nodes.iter().collect(),
    };
    let mut all = Vec::new();
    for node in nodes {
        let rendered = cluster.inputs.config(&bundle, node)?;
        learn_secrets(&workspace.redactor, &rendered.documents);
        let diff = match comparison {
            Comparison::None => None,
            Comparison::Running => {
                let running = running_config(target, &bundle, node).await?;
                learn_secrets(&workspace.redactor, &running);
                Some(config_diff(&node.hostname, &running, &rendered.documents))
            }
        };
        all.push(RenderedNode { node: node.clone(), rendered, diff });
    }
    Ok(all)
}

/// The config that a node runs.
async fn running_config(target: &Target, bundle: &SecretsBundle, node: &InventoryNode) -> Result<Documents, OpsError> {
    let admin = AdminIdentity::issue(bundle, Timestamp::now())?;
    let failed = |source| OpsError::RunningConfig { node: format!("{} ({})", node.hostname, node.address), source };
    let client = Client::connect(&dialer(target), node.address, &client_identity(&admin)).await.map_err(failed)?;
    let text = client.machine_config().await.map_err(failed)?;
    // The parser's message may quote the text, which holds secrets.
    parse_documents(&Origin::new("<running config>"), text.expose_secret())
        .map_err(|_| OpsError::InvalidRunningConfig { node: node.hostname.clone() })
}
