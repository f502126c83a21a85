//! The graph of steps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Fingerprint, PhaseName, Phases, Step, StepId};

/// The steps in an order in which each stands behind all that it needs, phase by phase as far as that allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    phases: Vec<PhaseName>,
    steps: Vec<Step>,
}

/// Why steps cannot be ordered into a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("two steps have the id `{0}`")]
    Duplicate(StepId),
    #[error("step `{step}` needs `{missing}`, which the plan does not have")]
    Missing { step: StepId, missing: StepId },
    #[error("steps wait for each other: {}", .0.iter().map(StepId::as_str).collect::<Vec<_>>().join(" -> "))]
    Cycle(Vec<StepId>),
}

impl Plan {
    /// Orders the steps.
    ///
    /// # Errors
    ///
    /// A repeated id, a need that the plan does not have, a cycle.
    pub fn new(phases: &Phases, steps: Vec<Step>) -> Result<Self, PlanError> {
        let mut names = phases.names();
        if steps.iter().any(|step| !names.contains(&step.phase)) {
            let before_handoff = names.len().saturating_sub(1);
            names.insert(before_handoff, PhaseName::new("apps"));
        }
        check_ids(&steps)?;
        let rank = |step: &Step| names.iter().position(|name| *name == step.phase);
        let mut rest = steps;
        rest.sort_by_key(rank);
        let mut steps: Vec<Step> = Vec::with_capacity(rest.len());
        let mut placed: BTreeSet<StepId> = BTreeSet::new();
        while !rest.is_empty() {
            let Some(next) = rest.iter().position(|step| step.needs.is_subset(&placed)) else {
                return Err(PlanError::Cycle(cycle(&rest)));
            };
            let step = rest.remove(next);
            placed.insert(step.id.clone());
            steps.push(step);
        }
        names.retain(|name| steps.iter().any(|step| step.phase == *name));
        Ok(Self { phases: names, steps })
    }

    /// The same plan, with deadlines that earlier runs have shown to be too short.
    #[must_use]
    pub fn with_learned(mut self, longest_quiet: &BTreeMap<StepId, Duration>) -> Self {
        for step in &mut self.steps {
            if let Some(quiet) = longest_quiet.get(&step.id) {
                step.policy = step.policy.with_learned(*quiet);
            }
        }
        self
    }

    pub fn phases(&self) -> &[PhaseName] {
        &self.phases
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub fn step(&self, id: &StepId) -> Option<&Step> {
        self.steps.iter().find(|step| step.id == *id)
    }

    /// The steps of one phase, in plan order.
    pub fn of_phase<'p>(&'p self, phase: &'p PhaseName) -> impl Iterator<Item = &'p Step> {
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

fn check_ids(steps: &[Step]) -> Result<(), PlanError> {
    let mut ids = BTreeSet::new();
    for step in steps {
        if !ids.insert(&step.id) {
            return Err(PlanError::Duplicate(step.id.clone()));
        }
    }
    for step in steps {
        if let Some(missing) = step.needs.iter().find(|need| !ids.contains(need)) {
            return Err(PlanError::Missing { step: step.id.clone(), missing: missing.clone() });
        }
    }
    Ok(())
}

/// A cycle among steps of which each needs another: follow needs until a step comes up again.
fn cycle(rest: &[Step]) -> Vec<StepId> {
    let by_id: BTreeMap<&StepId, &Step> = rest.iter().map(|step| (&step.id, step)).collect();
    let mut path: Vec<StepId> = Vec::new();
    let mut current = rest.first();
    while let Some(step) = current {
        if let Some(start) = path.iter().position(|id| *id == step.id) {
            path.drain(..start);
            path.push(step.id.clone());
            return path;
        }
        path.push(step.id.clone());
        current = step.needs.iter().find_map(|need| by_id.get(need).copied());
    }
    path
}
