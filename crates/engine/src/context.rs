//! What a step is given to work with.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;

use super::{Code, StepError, StopSignal};
use crate::journal::{ClusterFact, Learned, RecordedIntent, RecordedIntents};
use crate::plan::StepId;

/// What a step waits for, and what it would fail with at its deadline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepWait {
    /// What is missing and why, in one line.
    pub line: String,
    pub code: Option<Code>,
    pub trend: WaitTrend,
    /// The next command, where the code's own is not the right one.
    pub next: Option<String>,
}

/// What a new reason to wait says about the work that is waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitTrend {
    /// It goes on: a reason that was not reported before restarts the step's deadline.
    #[default]
    Advancing,
    /// It fails and is tried again, as a container in a crash loop does: no reason restarts the deadline.
    Stuck,
}

impl StepWait {
    pub fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), ..Self::default() }
    }

    #[must_use]
    pub fn code(self, code: impl Into<Option<Code>>) -> Self {
        Self { code: code.into(), ..self }
    }

    /// Marks work that fails and is tried again.
    #[must_use]
    pub fn stuck(self) -> Self {
        Self { trend: WaitTrend::Stuck, ..self }
    }

    #[must_use]
    pub fn next(self, next: impl Into<Option<String>>) -> Self {
        Self { next: next.into(), ..self }
    }
}

/// Where a step's progress and its intents go.
#[async_trait]
pub trait StepLog: Send + Sync {
    /// Publishes what the step waits for.
    fn waiting(&self, step: &StepId, wait: &StepWait);

    /// Journals what is about to be done, synced before this returns.
    async fn intend(&self, step: &StepId, intent: Value) -> Result<(), StepError>;

    /// Journals a fact about the cluster, if it is new.
    async fn learn(&self, fact: ClusterFact) -> Learned;

    /// Journals the outcome of the last intent.
    async fn conclude(&self, step: &StepId, outcome: Value) -> Result<(), StepError>;
}

/// What a step is given to work with.
#[derive(Clone)]
pub struct StepContext {
    pub step: StepId,
    /// From 1.
    pub attempt: u32,
    recorded_intents: Arc<RecordedIntents>,
    log: Arc<dyn StepLog>,
    wait: Arc<Mutex<StepWait>>,
    stop: StopSignal,
}

impl StepContext {
    pub fn new(step: StepId, attempt: u32, recorded_intents: Arc<RecordedIntents>, log: Arc<dyn StepLog>) -> Self {
        Self { step, attempt, recorded_intents, log, wait: Arc::default(), stop: StopSignal::default() }
    }

    /// Intents and outcomes of this step in earlier runs, oldest first.
    pub fn recorded_intents(&self) -> &[RecordedIntent] {
        self.recorded_intents.get(&self.step).map(Vec::as_slice).unwrap_or_default()
    }

    /// Those of every step: what was done may belong to another step now that the files have changed.
    pub fn all_recorded_intents(&self) -> &RecordedIntents {
        &self.recorded_intents
    }

    /// A context whose step learns that the run is to stop.
    #[must_use]
    pub(crate) fn with_stop(self, stop: StopSignal) -> Self {
        Self { stop, ..self }
    }

    /// Returns once the run is to stop. An apply that has changed nothing yet returns then, and starts no effect.
    pub async fn stop_requested(&self) {
        self.stop.requested().await;
    }

    /// Reports in one line what is being waited for and why.
    pub fn progress(&self, line: &str) {
        self.waiting(StepWait::new(line));
    }

    /// The same, with the code that it would fail with.
    pub fn waiting(&self, wait: StepWait) {
        let mut current = self.wait.lock().unwrap_or_else(PoisonError::into_inner);
        if current.line != wait.line {
            self.log.waiting(&self.step, &wait);
        }
        *current = wait;
    }

    /// What is waited for now.
    pub fn wait(&self) -> StepWait {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Journals a fact about the cluster, if it is new. Without the record a later run sees it again.
    pub async fn learn(&self, fact: ClusterFact) -> Learned {
        self.log.learn(fact).await
    }

    /// Journals what is about to be done, synced before this returns. Without that the effect must not be started.
    ///
    /// # Errors
    ///
    /// When the journal could not be written.
    pub async fn intend(&self, intent: Value) -> Result<(), StepError> {
        self.log.intend(&self.step, intent).await
    }

    /// Journals the outcome of the last intent.
    ///
    /// # Errors
    ///
    /// When the journal could not be written.
    pub async fn conclude(&self, outcome: Value) -> Result<(), StepError> {
        self.log.conclude(&self.step, outcome).await
    }
}

impl std::fmt::Debug for StepContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepContext").field("step", &self.step).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}
