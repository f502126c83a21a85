//! The events of a run, for everything that shows or records it.
//!
//! Contract: `run-started` comes first and lists every step; `run-ended` comes last. Each step that begins ends with
//! exactly one of `step-done` and `step-failed`, unless the run is stopped. Version of the format: [`FORMAT`].

use serde::{Deserialize, Serialize};

use super::{Code, Observation, StepError};
use crate::plan::{PhaseName, StepId};

/// The version of the event format, in every `run-started`.
pub const FORMAT: u32 = 2;

/// Receives the events of a run, in order.
pub trait Subscriber: Send + Sync {
    fn notice(&self, event: &Event);
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the run began, by a monotonic clock.
    pub elapsed: f64,
    #[serde(flatten)]
    pub kind: EventKind,
}

impl Event {
    /// A notice from outside the run, so at no time of it.
    pub fn notice(text: &str) -> Self {
        Self { elapsed: 0.0, kind: EventKind::Notice { text: text.to_owned() } }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum EventKind {
    /// First: the whole plan.
    RunStarted { format: u32, version: String, cluster: String, run: String, resumed: bool, steps: Vec<StepOutline> },
    /// A step begins with an observation.
    StepStarted { step: StepId },
    /// How the goal of the step compares with what exists.
    Observed { step: StepId, state: Observed, detail: String },
    /// The step is being applied.
    Applying { step: StepId, attempt: u32 },
    /// What a step waits for and why; repeated when that changes.
    Waiting {
        step: StepId,
        reason: String,
        /// The code that the step fails with if this lasts until its deadline.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<Code>,
    },
    /// A failure that is retried after `delay` seconds.
    Retrying { step: StepId, attempt: u32, error: StepError, delay: f64 },
    /// Terminal for the step.
    StepDone {
        step: StepId,
        #[serde(flatten)]
        outcome: Outcome,
        seconds: f64,
    },
    /// Terminal for the step.
    StepFailed { step: StepId, error: StepError },
    /// Something the operator should read.
    Notice { text: String },
    /// Last.
    RunEnded { outcome: RunOutcome, seconds: f64 },
}

/// A step as `run-started` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOutline {
    pub id: StepId,
    pub phase: PhaseName,
    pub title: String,
    pub needs: Vec<StepId>,
}

/// The state that an observation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observed {
    UpToDate,
    Missing,
    InProgress,
    Skipped,
    Degraded,
}

impl Observation {
    /// The state and the detail of an observation, apart.
    pub fn parts(&self) -> (Observed, &str) {
        match self {
            Self::UpToDate(detail) => (Observed::UpToDate, detail),
            Self::Missing(detail) => (Observed::Missing, detail),
            Self::InProgress(detail) => (Observed::InProgress, detail),
            Self::Skipped(reason) => (Observed::Skipped, reason),
            Self::Degraded(reason) => (Observed::Degraded, reason),
        }
    }
}

/// How a step ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "kebab-case")]
pub enum Outcome {
    /// It was applied in this run.
    Applied,
    /// There was nothing to do.
    UpToDate,
    /// The run goes on without it, or without a part of it.
    Degraded(String),
    /// It was not to be done.
    Skipped(String),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Every step is done.
    Complete,
    /// At least one step failed; resumable.
    Failed,
    /// Asked to stop; resumable.
    Stopped,
}

impl RunOutcome {
    /// The entry of the error catalogue for a run that ended without a failure and is not complete.
    pub fn code(self) -> Option<Code> {
        match self {
            Self::Stopped => Some(Code::O07),
            Self::Complete | Self::Failed => None,
        }
    }
}
