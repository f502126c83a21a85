//! What a run tells its readers.
//!
//! Contract: `run-started` comes first and lists every step; `run-ended` comes last. Each step that begins ends with
//! exactly one of `step-done` and `step-failed`, unless the run is stopped. Version of the format: [`FORMAT`].

use serde::{Deserialize, Serialize};

use super::StepError;
use crate::plan::{PhaseName, StepId};

/// The version of the event format, in every `run-started`.
pub const FORMAT: u32 = 1;

/// Whoever wants to know what happens in a run.
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
    /// Something said beside the run, so at no time of it.
    pub fn aside(text: &str) -> Self {
        Self { elapsed: 0.0, kind: EventKind::Notice { text: text.to_owned() } }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum EventKind {
    /// First: the whole plan.
    RunStarted { format: u32, version: String, cluster: String, run: String, resumed: bool, steps: Vec<StepOutline> },
    /// A step begins: the world is asked.
    StepStarted { step: StepId },
    /// What the world said.
    Observed { step: StepId, holds: bool, detail: String },
    /// The step is being brought about.
    Applying { step: StepId, attempt: u32 },
    /// What a step waits for, and why; repeated when that changes.
    Waiting { step: StepId, reason: String },
    /// A failure that is tried again after `delay` seconds.
    Retrying { step: StepId, attempt: u32, error: StepError, delay: f64 },
    /// Terminal for the step.
    StepDone { step: StepId, outcome: Outcome, seconds: f64 },
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

/// How a step came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was brought about in this run.
    Applied,
    /// It held already.
    Held,
}

/// How a run came to its end.
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
