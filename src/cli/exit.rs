//! Exit codes, which are a contract (docs/exit-codes.md): which command result has which.

use std::process::ExitCode;
use talos_client::ResourceKindError;

use bootstrap::ops::{FinishedRun, OpsError, PlanReport};
use engine::journal::LockError;
use engine::{Finding, RunOutcome};

use crate::rehearsal::RehearsalError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done, also when there was nothing to do.
    Done = 0,
    /// Failed part-way; resumable.
    Failed = 1,
    /// The command line or the files are invalid.
    InvalidInput = 2,
    /// A precondition does not hold: a tool, a key, a node, the state folder, an unfinished run.
    PreconditionFailed = 3,
    /// Another run holds the lock or the cluster's lease, or another helm is at work.
    Locked = 4,
    /// `plan` or `render --diff` found differences.
    Changes = 5,
    /// Stopped by a signal; resumable.
    Stopped = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl From<&FinishedRun> for Exit {
    fn from(run: &FinishedRun) -> Self {
        match run.report.outcome {
            _ if run.failed_in_preflight => Self::PreconditionFailed,
            _ if run.met_another_writer() => Self::Locked,
            RunOutcome::Complete => Self::Done,
            RunOutcome::Failed => Self::Failed,
            RunOutcome::Stopped => Self::Stopped,
        }
    }
}

impl From<&PlanReport> for Exit {
    fn from(report: &PlanReport) -> Self {
        let mut exit = Self::Done;
        for finding in report.findings.values() {
            match finding {
                Finding::Failed(_) => return Self::PreconditionFailed,
                Finding::UpToDate(_) | Finding::Skipped(_) | Finding::Degraded(_) => {}
                Finding::Missing(_) | Finding::InProgress(_) | Finding::Blocked(_) => exit = Self::Changes,
            }
        }
        exit
    }
}

impl From<&RehearsalError> for Exit {
    fn from(error: &RehearsalError) -> Self {
        match error {
            RehearsalError::Ops(error) => error.into(),
            RehearsalError::Scenario(_) => Self::InvalidInput,
            RehearsalError::AlreadyRunning { .. } => Self::Locked,
            RehearsalError::NotRunning { .. }
            | RehearsalError::Remove { .. }
            | RehearsalError::Start(_)
            | RehearsalError::Tool(_) => Self::PreconditionFailed,
        }
    }
}

impl From<&OpsError> for Exit {
    fn from(error: &OpsError) -> Self {
        match error {
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
            | OpsError::UnknownHook { .. }
            | OpsError::UnaskedHook { .. }
            | OpsError::ReadInput { .. }
            | OpsError::Selector(_)
            | OpsError::StateValue(_)
            | OpsError::NoReleases { .. }
            | OpsError::TalosVersion(_)
            | OpsError::Endpoint { .. }
            | OpsError::ResourceKind(ResourceKindError::Unknown { .. } | ResourceKindError::Ambiguous { .. })
            | OpsError::StrictWarnings(_) => Self::InvalidInput,
            OpsError::Lock(LockError::Held { .. }) | OpsError::LeaseRefused(_) | OpsError::LeaseLost(_) => Self::Locked,
            OpsError::NoFolder { .. }
            | OpsError::StateFolder { .. }
            | OpsError::Read { .. }
            | OpsError::Write { .. }
            | OpsError::GenerateBundle(_)
            | OpsError::Sops(_)
            | OpsError::References { .. }
            | OpsError::Command { .. }
            | OpsError::HelmTool(_)
            | OpsError::SopsTool(_)
            | OpsError::ChartBundle { .. }
            | OpsError::Helm(_)
            | OpsError::Unfinished { .. }
            | OpsError::Lock(LockError::Io { .. })
            | OpsError::Journal(_)
            | OpsError::StartRecord(_)
            | OpsError::Archive { .. }
            | OpsError::RunningConfig { .. }
            | OpsError::InvalidRunningConfig { .. }
            | OpsError::Kubeconfig { .. }
            | OpsError::Yaml(_)
            | OpsError::Call(_)
            | OpsError::ResourceKind(ResourceKindError::Call(_))
            | OpsError::NoWorkingMember(_)
            | OpsError::WriteBundle { .. } => Self::PreconditionFailed,
        }
    }
}
