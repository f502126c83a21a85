//! Exit codes, which are a contract.

use std::process::ExitCode;

use engine::RunOutcome;
use helm::HelmError;
use yaml::Diagnostics;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done, also when there was nothing to do.
    Done = 0,
    /// Failed part-way; resumable.
    Failed = 1,
    /// The command line or a file is invalid.
    InvalidInput = 2,
    /// A precondition outside the files is not met.
    PreconditionFailed = 3,
    /// Another run holds the lock.
    Locked = 4,
    /// `plan` found something to do.
    Changes = 5,
    /// Asked to stop by a signal; resumable.
    Stopped = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl From<RunOutcome> for Exit {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Complete => Self::Done,
            RunOutcome::Failed => Self::Failed,
            RunOutcome::Stopped => Self::Stopped,
        }
    }
}

/// A command that could not do its work, with everything that the operator needs to go on.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) exit: Exit,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Refusal {
    pub(super) fn world(message: impl Into<String>) -> Self {
        Self { exit: Exit::PreconditionFailed, message: message.into(), hint: None }
    }

    pub(super) fn input(message: impl Into<String>) -> Self {
        Self { exit: Exit::InvalidInput, message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<HelmError> for Refusal {
    fn from(error: HelmError) -> Self {
        let refusal = Self::world(error.to_string());
        match error.hint() {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        }
    }
}

impl From<Diagnostics> for Refusal {
    fn from(found: Diagnostics) -> Self {
        let count = found.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        Self::input(format!("{count} {noun} in the inputs; nothing was changed\n{found}"))
    }
}
