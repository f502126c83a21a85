//! Reads the events of a run: nothing may be applied before what it needs is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use engine::plan::StepId;
use engine::{Event, EventKind, Subscriber};

use crate::cluster::Shared;

pub(crate) struct Witness {
    cluster: Shared,
    operator: usize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    needs: BTreeMap<StepId, Vec<StepId>>,
    done: BTreeSet<StepId>,
}

impl Witness {
    pub(crate) fn new(cluster: Shared, operator: usize) -> Self {
        Self { cluster, operator, seen: Mutex::default() }
    }
}

impl Subscriber for Witness {
    fn notice(&self, event: &Event) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cluster = self.cluster.lock();
        let who = self.operator;
        match &event.kind {
            EventKind::RunStarted { steps, .. } => {
                seen.needs = steps.iter().map(|step| (step.id.clone(), step.needs.clone())).collect();
            }
            EventKind::Applying { step, .. } => {
                cluster.log(|| format!("operator {who}: {step} is applied"));
                let needs = seen.needs.get(step).into_iter().flatten();
                if let Some(need) = needs.into_iter().find(|need| !seen.done.contains(*need)) {
                    cluster.violate(format!("{step} is applied before {need} is done"));
                }
            }
            EventKind::StepDone { step, outcome, .. } => {
                cluster.log(|| format!("operator {who}: {step} is done: {outcome:?}"));
                seen.done.insert(step.clone());
            }
            EventKind::StepFailed { step, error } => {
                cluster.log(|| format!("operator {who}: {step} failed: {error}"));
            }
            EventKind::Retrying { step, error, delay, .. } => {
                cluster.log(|| format!("operator {who}: {step} is retried in {delay:.3} s: {error}"));
            }
            EventKind::Waiting { step, reason, .. } => {
                cluster.log(|| format!("operator {who}: {step} waits: {reason}"));
            }
            EventKind::Notice { text } => cluster.log(|| format!("operator {who}: {text}")),
            EventKind::RunEnded { outcome, .. } => cluster.log(|| format!("operator {who}: the run ends: {outcome:?}")),
            EventKind::StepStarted { .. } | EventKind::Observed { .. } => {}
        }
    }
}
