//! Carries out a plan: order, parallelism, retry, cancellation. Knows no Talos and no Helm.
//!
//! [`machine`] decides, as a pure function `(state, event) -> (state, commands)`; the runner does what it is told and
//! feeds back what happened. [`survey()`] observes a whole plan and does nothing. [`event`] is what the readers of a run (terminal, JSON lines, `status`) see.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod event;
pub mod journal;
pub mod machine;
pub mod plan;
mod runner;
mod step;
mod survey;

pub use event::{Event, EventKind, Outcome, RunOutcome, Subscriber};
pub use runner::{Engine, RunReport, StopSignal};
pub use step::{ErrorClass, Memory, Observation, Plight, Step, StepContext, StepError, StepSet};
pub use survey::{Finding, survey};

#[cfg(test)]
mod tests;
