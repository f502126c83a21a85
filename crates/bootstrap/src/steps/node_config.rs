//! Whether a node runs its config, and whether it is one of this cluster's.

use engine::{Code, StepError};
use secrecy::ExposeSecret;
use talos_client::Client;
use talos_config::InventoryNode;
use talos_schema::parse_documents;
use yaml::Origin;

use super::context::RunContext;
use super::errors::{place, step_error};

/// Whether the node runs its config, compared as data; both are parsed, because parsing drops empty fields.
pub(super) async fn runs(context: &RunContext, node: &InventoryNode, client: &Client) -> Result<bool, StepError> {
    let running = client.machine_config().await.map_err(|error| step_error(&error, node))?;
    let running = parse_documents(&Origin::new("<running config>"), running.expose_secret());
    let ours = parse_documents(&Origin::new("<config>"), context.config_text(node).expose_secret());
    Ok(matches!((running, ours), (Ok(running), Ok(ours)) if running == ours))
}

/// The error of a node that has another cluster's certificates (T04).
pub(super) fn belongs_elsewhere(node: &InventoryNode, evidence: &str) -> StepError {
    StepError::failed_precondition(
        "the node belongs to another cluster, or this is not the secrets bundle of its cluster",
    )
    .with_place(place(node))
    .because(evidence)
    .code(Code::T04)
}
