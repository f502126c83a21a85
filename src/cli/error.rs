//! The one place where errors become what the operator sees: a message, a hint, an exit code.

use std::error::Error;

use ::lab::{LabError, ScenarioError};
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
    pub(super) code: Code,
    pub(super) message: String,
    /// The next command, where the code's own is not the best.
    hint: Option<String>,
}

impl CommandError {
    pub(super) fn precondition(code: Code, message: impl Into<String>) -> Self {
        Self { exit: Exit::PreconditionFailed, code, message: message.into(), hint: None }
    }

    /// An invalid command line.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { exit: Exit::InvalidInput, code: Code::I02, message: message.into(), hint: None }
    }

    /// An error below, with its causes.
    pub(super) fn caused_by(exit: Exit, code: Code, error: &dyn Error) -> Self {
        Self { exit, code, message: ErrorReport::new(error).to_string(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to do next.
    pub(super) fn next(&self) -> &str {
        self.hint.as_deref().unwrap_or_else(|| self.code.next())
    }
}

impl From<OpsError> for CommandError {
    fn from(error: OpsError) -> Self {
        let mut shown = Self::caused_by(Exit::from(&error), error.code(), &error);
        if error.is_before_any_change() {
            shown.message.push_str("; nothing was changed");
        }
        Self { hint: error.hint().map(|hint| hint.0), ..shown }
    }
}

impl From<RehearsalError> for CommandError {
    fn from(error: RehearsalError) -> Self {
        let (code, hint) = match &error {
            RehearsalError::Ops(below) => (below.code(), below.hint().map(|hint| hint.0)),
            RehearsalError::Scenario(ScenarioError::NotFound { .. }) => (Code::I02, None),
            RehearsalError::Scenario(_) => (Code::I01, None),
            RehearsalError::AlreadyRunning { cluster } => {
                (Code::P04, Some(format!("stop it: k8s-bootstrap lab down {cluster}")))
            }
            RehearsalError::NotRunning { cluster, .. } => {
                (Code::P04, Some(format!("start it in another terminal: k8s-bootstrap lab up {cluster}")))
            }
            RehearsalError::Start(LabError::KustomizationFaults) => {
                (Code::I02, Some("use --flux played, or remove these `fluxFaults`".to_owned()))
            }
            RehearsalError::Start(_) => (Code::P04, None),
            RehearsalError::Remove { .. } => (Code::P02, None),
            RehearsalError::Tool(_) => (Code::P01, None),
        };
        Self { hint, ..Self::caused_by(Exit::from(&error), code, &error) }
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
