//! Whether a node runs its config, and whether it is one of this cluster's.

use engine::{Code, StepError};
use secrecy::ExposeSecret;
use talos_client::{Client, MachineType};
use talos_config::{InventoryNode, Role};
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

/// A control plane that the inventory has as a worker keeps its config: as a worker it would leave an etcd member behind that
/// counts for the quorum, and Talos asks for nothing before it changes (1.11 to 1.14).
///
/// # Errors
///
/// The node is a control plane (T22), or cannot be asked.
pub(super) async fn check_role(node: &InventoryNode, client: &Client) -> Result<(), StepError> {
    if node.role == Role::ControlPlane {
        return Ok(());
    }
    match client.resources().get::<MachineType>("machine-type").await {
        Ok(MachineType::Worker | MachineType::Unknown) => Ok(()),
        Ok(MachineType::ControlPlane | MachineType::Init) => Err(StepError::needs_operator(
            "the inventory has a control plane as a worker",
        )
        .with_place(place(node))
        .because("the node runs as a control plane, and its etcd member would stay behind without it")
        .next("give it back the role of a control plane; to make it a worker, reset it first: it leaves etcd then")
        .code(Code::T22)),
        Err(error) => Err(step_error(&error, node)),
    }
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
