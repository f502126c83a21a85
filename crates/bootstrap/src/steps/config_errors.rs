//! What a node says about its config as a step's error.

use engine::{ErrorClass, StepError};
use talos_client::{ClientError, ClientErrorKind};
use talos_config::InventoryNode;

use super::context::RunContext;
use super::errors::{error_class, rejected_config, step_error};

/// A node's response to its config as a step's error. One that rejects the config is T17, with the field that its message
/// names and who set it.
pub(super) fn config_error(context: &RunContext, error: &ClientError, node: &InventoryNode) -> StepError {
    if matches!(error.kind, ClientErrorKind::Rejected | ClientErrorKind::PermissionDenied) {
        return rejected_config(
            error_class(error.kind),
            &error.reason,
            context.field_in_message(node, &error.reason),
            node,
        );
    }
    step_error(error, node)
}

/// The same for a dry run. It changes nothing, so an error without a specific code is about the config too: Talos 1.11 and
/// 1.12 report a config that cannot be parsed so in maintenance mode.
pub(super) fn dry_run_error(context: &RunContext, error: &ClientError, node: &InventoryNode) -> StepError {
    if error.kind == ClientErrorKind::Other {
        let field = context.field_in_message(node, &error.reason);
        return rejected_config(ErrorClass::InvalidInput, &error.reason, field, node);
    }
    config_error(context, error, node)
}
