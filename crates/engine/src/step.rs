//! What the code of a step is: an [`Action`] that changes something, or a [`Check`] that changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Code, StepContext, StepError};
use crate::plan::StepId;

/// The code of a step that changes something.
///
/// Every method may be dropped at any await point; what it started must end with it or be observable later.
#[async_trait]
pub trait Action: Send + Sync {
    /// Does what does not depend on the cluster: pulls, renders, secret resolution. Started at once for every step.
    async fn prepare(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    /// Compares the goal with what exists. Cheap, and never changes anything.
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError>;

    /// Changes what is missing.
    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError>;

    /// Waits, by watching, until the goal is confirmed, and reports what it is waiting for.
    async fn gate(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

/// The code of a step that only checks or waits.
#[async_trait]
pub trait Check: Send + Sync {
    /// As [`Action::prepare`].
    async fn prepare(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    /// Compares the goal with what exists. There is nothing to apply, so a goal that is not met yet is waited for.
    async fn observe(&self, cx: &StepContext) -> Result<CheckResult, StepError>;

    /// Waits, by watching, until the check passes, and reports what it is waiting for.
    async fn wait(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckResult {
    /// The goal is met; how, in a few words.
    Passed(String),
    /// The goal is not met yet, and something else works on it.
    Pending(String),
    /// It could not be checked, and the run goes on.
    Skipped(String),
}

/// Runs a [`Check`] as an [`Action`] that has nothing to apply.
pub(super) struct Checked(pub(super) Arc<dyn Check>);

#[async_trait]
impl Action for Checked {
    async fn prepare(&self, cx: &StepContext) -> Result<(), StepError> {
        self.0.prepare(cx).await
    }

    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        Ok(match self.0.observe(cx).await? {
            CheckResult::Passed(detail) => Observation::UpToDate(detail),
            CheckResult::Pending(reason) => Observation::InProgress(reason),
            CheckResult::Skipped(reason) => Observation::Skipped(reason),
        })
    }

    /// The machine applies only what is observed as missing, which a check cannot report.
    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        Err(StepError::failed_precondition("an internal error: a check was to be applied; please report it")
            .code(Code::X01))
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        self.0.wait(cx).await
    }
}

/// The code of the steps of a plan, by the steps' ids.
#[derive(Clone, Default)]
pub struct StepSet(BTreeMap<StepId, Arc<dyn Action>>);

impl StepSet {
    /// Adds the code of a step that changes something.
    pub fn action(&mut self, step: StepId, action: Arc<dyn Action>) {
        self.0.insert(step, action);
    }

    /// Adds the code of a step that only checks.
    pub fn check(&mut self, step: StepId, check: Arc<dyn Check>) {
        self.0.insert(step, Arc::new(Checked(check)));
    }

    pub fn get(&self, step: &StepId) -> Option<&Arc<dyn Action>> {
        self.0.get(step)
    }
}

impl std::fmt::Debug for StepSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// How a step's goal compares with what exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// Nothing to do; why, in a few words.
    UpToDate(String),
    /// To be applied; what is missing.
    Missing(String),
    /// Applied already and not confirmed yet: only the gate remains.
    InProgress(String),
    /// Not to be done by this run; why.
    Skipped(String),
    /// Cannot be done, and the run completes without it; why.
    Degraded(String),
}

/// How much of the goal an action applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Complete,
    /// In part, and the run completes without the rest; what is left out and why.
    Degraded(String),
}
