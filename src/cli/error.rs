//! The one place where errors become what the operator sees: a message, a hint, an exit code.

use bootstrap::ops::OpsError;
use talos_client::ClientError;
use yaml::SerializeError;

use super::exit::Exit;
use crate::rehearsal::RehearsalError;

/// A command that could not do its work, with everything that the operator needs to go on.
#[derive(Debug)]
pub(super) struct CommandError {
    pub(super) exit: Exit,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl CommandError {
    pub(super) fn precondition(message: impl Into<String>) -> Self {
        Self { exit: Exit::PreconditionFailed, message: message.into(), hint: None }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { exit: Exit::InvalidInput, message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<OpsError> for CommandError {
    fn from(error: OpsError) -> Self {
        let exit = Exit::from(&error);
        Self { exit, message: error.to_string(), hint: error.hint().map(|hint| hint.0) }
    }
}

impl From<RehearsalError> for CommandError {
    fn from(error: RehearsalError) -> Self {
        let message = error.to_string();
        match error {
            RehearsalError::Ops(error) => error.into(),
            RehearsalError::Scenario(_) => Self::invalid(message),
            RehearsalError::AlreadyRunning { cluster } => {
                Self { exit: Exit::Locked, message, hint: Some(format!("end it: k8s-bootstrap lab down {cluster}")) }
            }
            RehearsalError::NotRunning { cluster, .. } => Self::precondition(message)
                .hint(format!("start it in another terminal: k8s-bootstrap lab up {cluster}")),
            RehearsalError::Remove { .. } | RehearsalError::Start(_) | RehearsalError::Tool(_) => {
                Self::precondition(message)
            }
        }
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
