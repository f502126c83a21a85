//! The one place where errors become what the operator sees: a message, a hint, an exit code.

use bootstrap::ops::OpsError;
use engine::journal::LockError;
use helm::HelmError;
use yaml::Diagnostics;

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
        let exit = match &error {
            OpsError::Repository { .. }
            | OpsError::Inputs(_)
            | OpsError::NoBundle { .. }
            | OpsError::Certificates(_)
            | OpsError::EncryptedConfig { .. }
            | OpsError::Variable { .. }
            | OpsError::EmptyCommand
            | OpsError::CommandOutput { .. }
            | OpsError::UnknownNode { .. }
            | OpsError::NotControlPlane { .. }
            | OpsError::PlaceholdersForRun
            | OpsError::PlaceholdersForQuery
            | OpsError::Context(_)
            | OpsError::Plan(_)
            | OpsError::UnknownHook { .. } => Exit::InvalidInput,
            OpsError::Lock(LockError::Held { .. }) => Exit::Locked,
            OpsError::NoFolder { .. }
            | OpsError::StateFolder { .. }
            | OpsError::Read { .. }
            | OpsError::Write { .. }
            | OpsError::GenerateBundle(_)
            | OpsError::Sops(_)
            | OpsError::References { .. }
            | OpsError::Command { .. }
            | OpsError::Tool { .. }
            | OpsError::ChartBundle { .. }
            | OpsError::Helm(_)
            | OpsError::Unfinished { .. }
            | OpsError::Lock(LockError::Io { .. })
            | OpsError::Journal(_)
            | OpsError::StartRecord(_)
            | OpsError::RunningConfig { .. }
            | OpsError::InvalidRunningConfig { .. } => Exit::PreconditionFailed,
        };
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

impl From<HelmError> for CommandError {
    fn from(error: HelmError) -> Self {
        OpsError::Helm(error).into()
    }
}

impl From<Diagnostics> for CommandError {
    fn from(found: Diagnostics) -> Self {
        OpsError::Inputs(found).into()
    }
}
