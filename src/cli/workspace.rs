//! From the common arguments to the workspace and the target of an operation.

use std::sync::Arc;

use bootstrap::ops::{SecretsMode, Target, Workspace};
use secrets::{OperatorPrompt, Redactor};

use super::args::{Common, SecretsArg};
use super::error::CommandError;
use super::operator::operator_prompt;
use super::output;
use crate::rehearsal;

impl From<SecretsArg> for SecretsMode {
    fn from(secrets: SecretsArg) -> Self {
        match secrets {
            SecretsArg::Real => Self::Real,
            SecretsArg::Placeholder => Self::Placeholder,
        }
    }
}

/// The workspace of a command that asks the operator at the terminal, if there is one.
pub(super) fn workspace(common: &Common) -> Workspace {
    with_operator(common, Redactor::default(), operator_prompt(common.output))
}

/// The workspace of a command with its own way to ask the operator.
pub(super) fn with_operator(common: &Common, redactor: Redactor, operator: Option<OperatorPrompt>) -> Workspace {
    Workspace {
        directory: common.directory.clone(),
        state_dir: common.state_dir.clone(),
        tools_dir: common.tools_dir.clone(),
        variables: std::env::vars().collect(),
        redactor,
        operator,
        notes: Arc::new(output::print_note),
    }
}

/// The target that `--lab` selects.
pub(super) fn target(workspace: &Workspace, cluster: &str, lab: LabFlag) -> Result<Target, CommandError> {
    match lab {
        LabFlag(false) => Ok(Target::Cluster),
        LabFlag(true) => Ok(Target::Lab(rehearsal::access(workspace, cluster)?)),
    }
}

/// The argument `--lab`.
#[derive(Debug, Clone, Copy)]
pub(super) struct LabFlag(pub(super) bool);
