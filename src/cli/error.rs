//! The one place where errors become what the operator sees: a message, a hint, an exit code.

use std::error::Error;

use bootstrap::ops::OpsError;
use engine::Code;
use engine::journal::LockError;
use error_report::ErrorReport;
use helm::HelmError;
use yaml::Diagnostics;

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
        Self { code: error.code(), hint: error.hint().map(|hint| hint.0), ..Self::caused_by(exit, &error) }
    }
}

impl From<RehearsalError> for CommandError {
    fn from(error: RehearsalError) -> Self {
        let error = match error {
            RehearsalError::Ops(error) => return error.into(),
            other => other,
        };
        let (exit, hint) = match &error {
            RehearsalError::Scenario(_) => (Exit::InvalidInput, None),
            RehearsalError::AlreadyRunning { cluster } => {
                (Exit::Locked, Some(format!("end it: k8s-bootstrap lab down {cluster}")))
            }
            RehearsalError::NotRunning { cluster, .. } => (
                Exit::PreconditionFailed,
                Some(format!("start it in another terminal: k8s-bootstrap lab up {cluster}")),
            ),
            RehearsalError::Remove { .. }
            | RehearsalError::Start(_)
            | RehearsalError::Ops(_)
            | RehearsalError::Tool(_) => (Exit::PreconditionFailed, None),
        };
        Self { hint, ..Self::caused_by(exit, &error) }
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
