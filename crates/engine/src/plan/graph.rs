//! The graph of steps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Fingerprint, PhaseName, Phases, StepId};

/// How the engine treats a step that takes long or fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// From the first observation to the gate, retries included.
    pub deadline: Duration,
    /// How often a retryable failure of `observe` or `apply` is tried again.
    pub retries: u32,
    /// The run goes on, and ends well, without it.
    pub background: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { deadline: Duration::from_mins(15), retries: 8, background: false }
    }
}

/// A step before it has been placed in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub id: StepId,
    pub phase: PhaseName,
    /// What it brings about, in a few words.
    pub title: String,
    pub needs: BTreeSet<StepId>,
    pub fingerprint: Fingerprint,
    pub policy: Policy,
}

/// A step in its place.
pub type PlannedStep = Draft;

/// The steps in an order in which each stands behind all that it needs, phase by phase as far as that allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    phases: Vec<PhaseName>,
    steps: Vec<PlannedStep>,
}

/// Why drafts make no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("two steps have the id `{0}`")]
    Twice(StepId),
    #[error("step `{step}` needs `{missing}`, which is no step of this plan")]
    Missing { step: StepId, missing: StepId },
    #[error("steps wait for each other: {}", .0.iter().map(StepId::as_str).collect::<Vec<_>>().join(" -> "))]
    Cycle(Vec<StepId>),
}

impl Plan {
    /// Orders the drafts.
    ///
    /// # Errors
    ///
    /// A repeated id, a need that is no step, a cycle.
    pub fn new(phases: &Phases, drafts: Vec<Draft>) -> Result<Self, PlanError> {
        let mut names = phases.names();
        if drafts.iter().any(|draft| !names.contains(&draft.phase)) {
            let before_handoff = names.len().saturating_sub(1);
            names.insert(before_handoff, PhaseName::new("apps"));
        }
        check_ids(&drafts)?;
        let rank = |draft: &Draft| names.iter().position(|name| *name == draft.phase);
        let mut rest = drafts;
        rest.sort_by_key(rank);
        let mut steps: Vec<PlannedStep> = Vec::with_capacity(rest.len());
        let mut placed: BTreeSet<StepId> = BTreeSet::new();
        while !rest.is_empty() {
            let Some(next) = rest.iter().position(|draft| draft.needs.is_subset(&placed)) else {
                return Err(PlanError::Cycle(cycle(&rest)));
            };
            let step = rest.remove(next);
            placed.insert(step.id.clone());
            steps.push(step);
        }
        names.retain(|name| steps.iter().any(|step| step.phase == *name));
        Ok(Self { phases: names, steps })
    }

    pub fn phases(&self) -> &[PhaseName] {
        &self.phases
    }

    pub fn steps(&self) -> &[PlannedStep] {
        &self.steps
    }

    pub fn step(&self, id: &StepId) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.id == *id)
    }

    /// The steps of one phase, in plan order.
    pub fn of_phase<'p>(&'p self, phase: &'p PhaseName) -> impl Iterator<Item = &'p PlannedStep> {
        self.steps.iter().filter(move |step| step.phase == *phase)
    }

    /// One fingerprint over all steps: two plans with the same one do the same things in the same order.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut builder = Fingerprint::builder();
        for step in &self.steps {
            builder = builder.part(step.id.as_str()).part(step.fingerprint.short());
            for need in &step.needs {
                builder = builder.part(need.as_str());
            }
        }
        builder.finish()
    }
}

fn check_ids(drafts: &[Draft]) -> Result<(), PlanError> {
    let mut ids = BTreeSet::new();
    for draft in drafts {
        if !ids.insert(&draft.id) {
            return Err(PlanError::Twice(draft.id.clone()));
        }
    }
    for draft in drafts {
        if let Some(missing) = draft.needs.iter().find(|need| !ids.contains(need)) {
            return Err(PlanError::Missing { step: draft.id.clone(), missing: missing.clone() });
        }
    }
    Ok(())
}

/// A cycle among drafts of which each needs another: follow needs until a step comes up again.
fn cycle(rest: &[Draft]) -> Vec<StepId> {
    let by_id: BTreeMap<&StepId, &Draft> = rest.iter().map(|draft| (&draft.id, draft)).collect();
    let mut path: Vec<StepId> = Vec::new();
    let mut current = rest.first();
    while let Some(draft) = current {
        if let Some(start) = path.iter().position(|id| *id == draft.id) {
            path.drain(..start);
            path.push(draft.id.clone());
            return path;
        }
        path.push(draft.id.clone());
        current = draft.needs.iter().find_map(|need| by_id.get(need).copied());
    }
    path
}
