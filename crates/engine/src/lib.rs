//! Carries out a plan: order, parallelism, retry, cancellation. Knows no Talos and no Helm.
//!
//! [`machine`] decides, as a pure function `(state, event) -> (state, commands)`; the runner does the I/O and feeds back
//! what happened. [`observe_plan()`] observes a whole plan and changes nothing. [`event`] is what terminal, JSON lines and
//! `status` show of a run. [`Code`] is the error catalogue.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod code;
mod context;
mod error;
pub mod event;
pub mod journal;
pub mod machine;
mod observe_plan;
pub mod plan;
mod progress;
mod runner;
mod sleep;
mod step;
mod stop;

pub use code::{Code, UnknownCode};
pub use context::{StepContext, StepLog, StepWait, WaitTrend};
pub use error::{ErrorClass, StepError};
pub use event::{Event, EventKind, Outcome, RunOutcome, Subscriber};
pub use observe_plan::{Finding, observe_plan};
pub use runner::{Engine, RunReport};
pub use step::{Action, Check, CheckResult, Effect, Observation, StepSet};
pub use stop::{Stop, StopSignal};

#[cfg(test)]
mod tests;
