//! What a step is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::journal::Prior;
use crate::plan::StepId;

/// The unit of work and of the checkpoint.
///
/// Every method may be dropped at any await point; whatever it started must end with it or be observable later.
#[async_trait]
pub trait Step: Send + Sync {
    /// Does what does not depend on the cluster: pulls, renders, secret resolution. Started at once for every step.
    async fn prepare(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    /// Asks the world whether the goal already holds. Cheap, and never changes anything.
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError>;

    /// Brings the goal about.
    async fn apply(&self, cx: &StepContext) -> Result<(), StepError>;

    /// Waits, by watching, until the world confirms the goal, and tells what it is waiting for.
    async fn gate(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

/// The steps of a plan by id.
pub type StepSet = BTreeMap<StepId, Arc<dyn Step>>;

/// What the world says about a step's goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// Nothing to do; why, in a few words.
    Holds(String),
    /// To be applied; what is missing.
    Missing(String),
    /// Applied already, but not confirmed yet: only the gate remains.
    Underway(String),
}

/// Who has to act on a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// Nobody: it may well work the next time.
    Retryable,
    /// The operator: a file is wrong.
    WrongInput,
    /// The operator: something outside the files does not hold.
    WrongWorld,
    /// Nobody may repeat this without a look at the world.
    NeverAgain,
}

/// A failed step: what, where, why, and the exact next command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}{}{}", .place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default(), .why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
pub struct StepError {
    pub class: ErrorClass,
    /// What failed.
    pub what: String,
    /// File with line and column, node, or object.
    pub place: Option<String>,
    /// Why, as far as can be known.
    pub why: Option<String>,
    /// The command to type next.
    pub next: Option<String>,
    /// The entry of the failure catalogue, such as `T04`.
    pub code: Option<String>,
    /// When the other side said how long to wait.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

impl StepError {
    pub fn new(class: ErrorClass, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), place: None, why: None, next: None, code: None, retry_after: None }
    }

    pub fn retryable(what: impl Into<String>) -> Self {
        Self::new(ErrorClass::Retryable, what)
    }

    pub fn wrong_world(what: impl Into<String>) -> Self {
        Self::new(ErrorClass::WrongWorld, what)
    }

    pub fn wrong_input(what: impl Into<String>) -> Self {
        Self::new(ErrorClass::WrongInput, what)
    }

    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    #[must_use]
    pub fn because(mut self, why: impl std::fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }
}

type Tell = dyn Fn(&str) + Send + Sync;
type Remember = dyn Fn(Memory) -> Result<(), StepError> + Send + Sync;

/// What a step asks the journal to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    Intent(serde_json::Value),
    Outcome(serde_json::Value),
}

/// What a step waits for, and the entry of the failure catalogue that it would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plight {
    pub line: String,
    pub code: Option<&'static str>,
}

/// What a step is given to work with.
#[derive(Clone)]
pub struct StepContext {
    pub step: StepId,
    /// From 1.
    pub attempt: u32,
    /// Intents and outcomes of this step in this and earlier runs, oldest first.
    pub priors: Vec<Prior>,
    tell: Arc<Tell>,
    remember: Arc<Remember>,
    plight: Arc<Mutex<Plight>>,
}

impl StepContext {
    pub fn new(step: StepId, attempt: u32, priors: Vec<Prior>, tell: Arc<Tell>, remember: Arc<Remember>) -> Self {
        let plight = Arc::new(Mutex::default());
        let noted = plight.clone();
        let tell = move |line: &str| {
            let mut plight: std::sync::MutexGuard<'_, Plight> = noted.lock().unwrap_or_else(PoisonError::into_inner);
            if plight.line != line {
                *plight = Plight { line: line.to_owned(), code: None };
            }
            drop(plight);
            tell(line);
        };
        Self { step, attempt, priors, tell: Arc::new(tell), remember, plight }
    }

    /// Says in one line what is being waited for and why.
    pub fn tell(&self, line: &str) {
        (self.tell)(line);
    }

    /// The same as a callback, for adapters.
    pub fn teller(&self) -> &(dyn Fn(&str) + Send + Sync) {
        self.tell.as_ref()
    }

    /// The same for waits that the failure catalogue knows; `code` sorts each line.
    pub fn teller_by(&self, code: fn(&str) -> Option<&'static str>) -> impl Fn(&str) + Send + Sync + '_ {
        move |line| {
            self.tell(line);
            self.plight.lock().unwrap_or_else(PoisonError::into_inner).code = code(line);
        }
    }

    /// What is waited for now.
    pub fn plight(&self) -> Plight {
        self.plight.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Journals what is about to be done, synced before this returns. Without that the effect must not be started.
    ///
    /// # Errors
    ///
    /// When the journal could not be written.
    pub fn intend(&self, intent: serde_json::Value) -> Result<(), StepError> {
        (self.remember)(Memory::Intent(intent))
    }

    /// Journals what came of the last intent.
    ///
    /// # Errors
    ///
    /// When the journal could not be written.
    pub fn conclude(&self, outcome: serde_json::Value) -> Result<(), StepError> {
        (self.remember)(Memory::Outcome(outcome))
    }
}

impl std::fmt::Debug for StepContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepContext").field("step", &self.step).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}
