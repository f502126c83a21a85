//! What a run would find: every step's goal observed, none brought about.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use serde::Serialize;

use super::{Observation, StepContext, StepError, StepSet};
use crate::journal::History;
use crate::plan::{Plan, StepId};

/// How a step's goal stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "kebab-case")]
pub enum Finding {
    Holds(String),
    /// To be applied; what is missing.
    Missing(String),
    /// Applied, not confirmed yet.
    Underway(String),
    /// Cannot be seen before this other step is done.
    Waits(StepId),
    /// The world cannot be asked, or refuses.
    Failed(StepError),
}

/// Observes the steps of `plan` in the order of their needs; what hangs on a goal that does not hold is not asked for.
pub async fn survey(plan: &Plan, steps: &StepSet, history: &History) -> BTreeMap<StepId, Finding> {
    let mut found: BTreeMap<StepId, Finding> = BTreeMap::new();
    while found.len() < plan.steps().len() {
        let open = plan.steps().iter().filter(|step| !found.contains_key(&step.id));
        let ready: Vec<_> = open.filter(|step| step.needs.iter().all(|need| found.contains_key(need))).collect();
        let seen = join_all(ready.iter().map(|step| async {
            let holds = |need: &&StepId| matches!(found.get(*need), Some(Finding::Holds(_)));
            let finding = match step.needs.iter().find(|need| !holds(need)) {
                Some(need) => Finding::Waits(need.clone()),
                None => look(&step.id, steps, history).await,
            };
            (step.id.clone(), finding)
        }))
        .await;
        found.extend(seen);
    }
    found
}

async fn look(id: &StepId, steps: &StepSet, history: &History) -> Finding {
    let Some(step) = steps.get(id) else { return Finding::Missing("no code stands behind it".to_owned()) };
    let priors = history.priors.get(id).cloned().unwrap_or_default();
    let nothing_is_done = || StepError::wrong_world("a survey journals nothing");
    let context =
        StepContext::new(id.clone(), 1, priors, Arc::new(|_: &str| {}), Arc::new(move |_| Err(nothing_is_done())));
    let seen = match step.prepare(&context).await {
        Ok(()) => step.observe(&context).await,
        Err(error) => Err(error),
    };
    match seen {
        Ok(Observation::Holds(reason)) => Finding::Holds(reason),
        Ok(Observation::Missing(reason)) => Finding::Missing(reason),
        Ok(Observation::Underway(reason)) => Finding::Underway(reason),
        Err(error) => Finding::Failed(error),
    }
}
