//! The history that the records of a journal add up to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ClusterFacts, Entry, Epoch, Identity, Record, RunEnd, RunId};
use crate::plan::{Fingerprint, StepId};

/// An effect that must not happen twice, as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedIntent {
    /// What was about to be done, in the step's own format.
    pub intent: serde_json::Value,
    /// The outcome; absent when the run ended in between.
    pub outcome: Option<serde_json::Value>,
}

/// The newest run on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRun {
    pub run: RunId,
    pub started: Timestamp,
    pub identity: Identity,
    pub end: Option<RunEnd>,
    /// Steps of the plan, all of them.
    pub plan: BTreeMap<StepId, Fingerprint>,
    /// Steps that were done.
    pub done: BTreeMap<StepId, Fingerprint>,
    /// The last error of each step that failed and was not done later.
    pub failed: BTreeMap<StepId, String>,
}

impl LastRun {
    /// Whether there is something left to resume.
    pub fn is_unfinished(&self) -> bool {
        self.end != Some(RunEnd::Complete)
    }
}

/// Everything that a journal records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The epoch of its records; of an empty journal, the one that the next run begins.
    pub epoch: Epoch,
    /// The cluster as the first run of the epoch knew it.
    pub identity: Option<Identity>,
    /// What was learned about the cluster since.
    pub facts: ClusterFacts,
    /// Every run of the epoch.
    pub runs: BTreeSet<RunId>,
    /// Steps that were done in any run.
    pub ever_done: BTreeSet<StepId>,
    pub last: Option<LastRun>,
    pub recorded_intents: RecordedIntents,
    /// The longest time that each step made no progress in a run in which it was done.
    pub longest_quiet: BTreeMap<StepId, Duration>,
}

/// Intents and outcomes of all runs, by step, oldest first.
pub type RecordedIntents = BTreeMap<StepId, Vec<RecordedIntent>>;

impl History {
    /// The history of an epoch that begins.
    pub fn beginning(epoch: Epoch) -> Self {
        Self { epoch, ..Self::default() }
    }
}

/// Reads the records, oldest first, into what they add up to. A record of an earlier epoch, which a run that outlived its
/// cluster may have written, counts for nothing.
pub fn replay<'r>(records: impl IntoIterator<Item = &'r Record>) -> History {
    let mut history = History::default();
    for record in records {
        if record.epoch.is_some_and(|epoch| epoch < history.epoch) {
            continue;
        }
        match &record.entry {
            Entry::RunStarted { identity, plan, .. } => {
                history.epoch = record.epoch.unwrap_or_default();
                history.runs.insert(record.run.clone());
                history.identity.get_or_insert_with(|| identity.clone());
                history.last = Some(LastRun {
                    run: record.run.clone(),
                    started: record.at,
                    identity: identity.clone(),
                    end: None,
                    plan: plan.clone(),
                    done: BTreeMap::new(),
                    failed: BTreeMap::new(),
                });
            }
            Entry::Learned { fact } => {
                history.facts.learn(fact);
            }
            Entry::Intent { step, intent } => {
                history
                    .recorded_intents
                    .entry(step.clone())
                    .or_default()
                    .push(RecordedIntent { intent: intent.clone(), outcome: None });
            }
            Entry::Concluded { step, outcome } => {
                if let Some(prior) =
                    history.recorded_intents.get_mut(step).and_then(|recorded_intents| recorded_intents.last_mut())
                {
                    prior.outcome = Some(outcome.clone());
                }
            }
            entry => {
                if let Entry::StepDone { step, quiet_seconds, .. } = entry {
                    history.ever_done.insert(step.clone());
                    if let Some(seconds) = quiet_seconds {
                        let longest = history.longest_quiet.entry(step.clone()).or_default();
                        *longest = Duration::from_secs(*seconds).max(*longest);
                    }
                }
                if let Some(last) = history.last.as_mut().filter(|last| last.run == record.run) {
                    follow(last, entry);
                }
            }
        }
    }
    history
}

fn follow(last: &mut LastRun, entry: &Entry) {
    match entry {
        Entry::StepDone { step, fingerprint, .. } => {
            last.failed.remove(step);
            last.done.insert(step.clone(), fingerprint.clone());
        }
        Entry::StepFailed { step, error } => {
            last.failed.insert(step.clone(), error.clone());
        }
        Entry::RunEnded { end } => last.end = Some(*end),
        _ => {}
    }
}
