//! Exit codes, which are a contract.

use std::process::ExitCode;

use engine::RunOutcome;

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
    /// Another run holds the lock.
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

impl From<RunOutcome> for Exit {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Complete => Self::Done,
            RunOutcome::Failed => Self::Failed,
            RunOutcome::Stopped => Self::Stopped,
        }
    }
}
