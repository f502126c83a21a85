//! What a run would find: the goal of every step observed, none applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use serde::Serialize;
use serde_json::Value;

use super::{Code, Observation, StepContext, StepError, StepLog, StepSet, StepWait};
use crate::journal::{ClusterFact, History, Learned, RecordedIntents};
use crate::plan::{Plan, Step, StepId};

/// What is known of a step after [`observe_plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "kebab-case")]
pub enum Finding {
    /// Nothing to do; why.
    UpToDate(String),
    /// To be applied; what is missing.
    Missing(String),
    /// Applied, not confirmed yet.
    InProgress(String),
    /// Not to be done; why.
    Skipped(String),
    /// Cannot be done, and a run would complete without it; why.
    Degraded(String),
    /// Cannot be observed before this other step is done.
    Blocked(StepId),
    /// It could not be observed.
    Failed(StepError),
}

impl Finding {
    /// Whether a run would find nothing to do here.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::UpToDate(_) | Self::Skipped(_) | Self::Degraded(_) => true,
            Self::Missing(_) | Self::InProgress(_) | Self::Blocked(_) | Self::Failed(_) => false,
        }
    }
}

impl From<Observation> for Finding {
    fn from(observation: Observation) -> Self {
        match observation {
            Observation::UpToDate(reason) => Self::UpToDate(reason),
            Observation::Missing(reason) => Self::Missing(reason),
            Observation::InProgress(reason) => Self::InProgress(reason),
            Observation::Skipped(reason) => Self::Skipped(reason),
            Observation::Degraded(reason) => Self::Degraded(reason),
        }
    }
}

/// Observes the steps of `plan` in the order of their needs. A step that needs one with something to do is blocked and
/// not observed.
pub async fn observe_plan(plan: &Plan, steps: &StepSet, history: &History) -> BTreeMap<StepId, Finding> {
    let mut found: BTreeMap<StepId, Finding> = BTreeMap::new();
    let recorded_intents = Arc::new(history.recorded_intents.clone());
    while found.len() < plan.steps().len() {
        let open = plan.steps().iter().filter(|step| !found.contains_key(&step.id));
        let ready: Vec<_> = open.filter(|step| step.needs.iter().all(|need| found.contains_key(need))).collect();
        let seen = join_all(ready.iter().map(|step| async {
            let is_settled = |need: &&StepId| found.get(*need).is_some_and(Finding::is_settled);
            let finding = match step.needs.iter().find(|need| !is_settled(need)) {
                Some(need) => Finding::Blocked(need.clone()),
                None => observe(step, steps, &recorded_intents).await,
            };
            (step.id.clone(), finding)
        }))
        .await;
        found.extend(seen);
    }
    found
}

async fn observe(step: &Step, steps: &StepSet, recorded_intents: &Arc<RecordedIntents>) -> Finding {
    let id = &step.id;
    let Some(action) = steps.get(id) else { return Finding::Missing("the step is not implemented".to_owned()) };
    let context = StepContext::new(id.clone(), 1, recorded_intents.clone(), Arc::new(NoLog));
    let observed = match action.prepare(&context).await {
        Ok(()) => action.observe(&context).await,
        Err(error) => Err(error),
    };
    observed.map_or_else(|error| Finding::Failed(error.coded(step.policy.overdue)), Finding::from)
}

/// Publishes no events, and rejects every effect that needs the journal.
struct NoLog;

#[async_trait]
impl StepLog for NoLog {
    fn waiting(&self, _step: &StepId, _wait: &StepWait) {}

    async fn intend(&self, _step: &StepId, _intent: Value) -> Result<(), StepError> {
        Err(StepError::failed_precondition("observing a plan writes no journal").code(Code::X01))
    }

    async fn learn(&self, _fact: ClusterFact) -> Learned {
        Learned::Known
    }

    async fn conclude(&self, _step: &StepId, _outcome: Value) -> Result<(), StepError> {
        Err(StepError::failed_precondition("observing a plan writes no journal").code(Code::X01))
    }
}
