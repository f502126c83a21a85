//! The one place where errors become what the operator sees: a message, a hint, an exit code.

use std::error::Error;

use bootstrap::ops::OpsError;
use engine::Code;
use error_report::ErrorReport;
use talos_client::ClientError;
use yaml::SerializeError;

use super::exit::Exit;
use crate::rehearsal::RehearsalError;

/// A command that could not do its work, with everything that the operator needs to go on.
#[derive(Debug)]
pub(super) struct CommandError {
    pub(super) exit: Exit,
    pub(super) code: Option<Code>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl CommandError {
    pub(super) fn precondition(message: impl Into<String>) -> Self {
        Self { exit: Exit::PreconditionFailed, code: None, message: message.into(), hint: None }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { exit: Exit::InvalidInput, code: None, message: message.into(), hint: None }
    }

    /// An error below, with its causes.
    pub(super) fn caused_by(exit: Exit, error: &dyn Error) -> Self {
        Self { exit, code: None, message: ErrorReport::new(error).to_string(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<OpsError> for CommandError {
    fn from(error: OpsError) -> Self {
        let exit = Exit::from(&error);
        Self { code: error.code(), hint: error.hint().map(|hint| hint.0), ..Self::caused_by(exit, &error) }
    }
}

impl From<RehearsalError> for CommandError {
    fn from(error: RehearsalError) -> Self {
        let error = match error {
            RehearsalError::Ops(error) => return error.into(),
            other => other,
        };
        let hint = match &error {
            RehearsalError::AlreadyRunning { cluster } => Some(format!("stop it: k8s-bootstrap lab down {cluster}")),
            RehearsalError::NotRunning { cluster, .. } => {
                Some(format!("start it in another terminal: k8s-bootstrap lab up {cluster}"))
            }
            _ => None,
        };
        Self { hint, ..Self::caused_by(Exit::from(&error), &error) }
    }
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        OpsError::Call(error).into()
    }
}

impl From<SerializeError> for CommandError {
    fn from(error: SerializeError) -> Self {
        OpsError::Yaml(error).into()
    }
}
