//! The decisions of a run, without I/O.
//!
//! | state of a step | event | next |
//! | --- | --- | --- |
//! | waiting | every need done | observing |
//! | observing | holds | done |
//! | observing | underway | gating |
//! | observing | missing | applying |
//! | applying | applied | gating |
//! | gating | confirmed | done |
//! | any of the three | retryable failure, tries left | backoff, then observing |
//! | any of the three | any other failure | failed |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::{Outcome, RunOutcome};
use super::{ErrorClass, Observation, Plight, StepError};
use crate::plan::{Plan, Policy, StepId};

/// Where a step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepState {
    Waiting,
    Observing,
    Applying,
    Gating,
    Backoff,
    Done(Outcome),
    Failed,
    /// Cancelled because the run was asked to stop.
    Cancelled,
}

/// What the shell tells the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Start,
    Observed(StepId, Result<Observation, StepError>),
    Applied(StepId, Result<(), StepError>),
    Gated(StepId, Result<(), StepError>),
    BackoffOver(StepId),
    /// The step is not done in time; what it is waiting for, when that is known.
    DeadlinePassed(StepId, Option<Plight>),
    Stop(Stop),
}

/// How urgently the operator wants the run to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Start nothing, let effects that are under way finish.
    AtSafePoint,
    /// Cancel everything.
    Now,
}

/// What the machine tells the shell to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Observe { step: StepId, attempt: u32, deadline: Option<Duration> },
    Apply { step: StepId, attempt: u32 },
    Gate { step: StepId, attempt: u32 },
    Backoff { step: StepId, attempt: u32, delay: Duration, error: StepError },
    Cancel(StepId),
    Done { step: StepId, outcome: Outcome },
    Fail { step: StepId, error: StepError },
    End(RunOutcome),
}

/// A run in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    steps: BTreeMap<StepId, Node>,
    /// Plan order, in which ready steps are started.
    order: Vec<StepId>,
    stop: Option<Stop>,
    ended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    needs: BTreeSet<StepId>,
    policy: Policy,
    state: StepState,
    attempt: u32,
    applied: bool,
}

/// Longest pause between two tries.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

impl Run {
    pub fn new(plan: &Plan) -> Self {
        let node = |step: &crate::plan::PlannedStep| Node {
            needs: step.needs.clone(),
            policy: step.policy,
            state: StepState::Waiting,
            attempt: 1,
            applied: false,
        };
        Self {
            steps: plan.steps().iter().map(|step| (step.id.clone(), node(step))).collect(),
            order: plan.steps().iter().map(|step| step.id.clone()).collect(),
            stop: None,
            ended: false,
        }
    }

    pub fn state(&self, step: &StepId) -> Option<&StepState> {
        self.steps.get(step).map(|node| &node.state)
    }

    /// Takes one event and says what to do next. Events about steps that no longer wait for them change nothing.
    pub fn advance(mut self, input: Input) -> (Self, Vec<Command>) {
        let mut commands = Vec::new();
        match input {
            Input::Start => {}
            Input::Observed(step, result) => self.observed(&step, result, &mut commands),
            Input::Applied(step, result) => self.applied(&step, result, &mut commands),
            Input::Gated(step, result) => self.gated(&step, result, &mut commands),
            Input::BackoffOver(step) => self.backoff_over(&step, &mut commands),
            Input::DeadlinePassed(step, plight) => self.deadline_passed(&step, plight, &mut commands),
            Input::Stop(how) => self.stop(how, &mut commands),
        }
        self.start_ready(&mut commands);
        self.end_if_over(&mut commands);
        (self, commands)
    }

    fn in_state(&mut self, step: &StepId, expected: &StepState) -> Option<&mut Node> {
        self.steps.get_mut(step).filter(|node| node.state == *expected)
    }

    fn observed(&mut self, step: &StepId, result: Result<Observation, StepError>, commands: &mut Vec<Command>) {
        let stopping = self.stop.is_some();
        let Some(node) = self.in_state(step, &StepState::Observing) else { return };
        let attempt = node.attempt;
        match result {
            Ok(Observation::Holds(_)) => {
                let outcome = if node.applied { Outcome::Applied } else { Outcome::Held };
                node.state = StepState::Done(outcome);
                commands.push(Command::Done { step: step.clone(), outcome });
            }
            Ok(_) if stopping => node.state = StepState::Cancelled,
            Ok(Observation::Underway(_)) => {
                node.state = StepState::Gating;
                commands.push(Command::Gate { step: step.clone(), attempt });
            }
            Ok(Observation::Missing(_)) => {
                node.state = StepState::Applying;
                commands.push(Command::Apply { step: step.clone(), attempt });
            }
            Err(error) => self.failed(step, error, commands),
        }
    }

    fn applied(&mut self, step: &StepId, result: Result<(), StepError>, commands: &mut Vec<Command>) {
        let stopping = self.stop.is_some();
        let Some(node) = self.in_state(step, &StepState::Applying) else { return };
        match result {
            Ok(()) => {
                node.applied = true;
                if stopping {
                    node.state = StepState::Cancelled;
                    return;
                }
                node.state = StepState::Gating;
                let attempt = node.attempt;
                commands.push(Command::Gate { step: step.clone(), attempt });
            }
            Err(error) => self.failed(step, error, commands),
        }
    }

    fn gated(&mut self, step: &StepId, result: Result<(), StepError>, commands: &mut Vec<Command>) {
        let Some(node) = self.in_state(step, &StepState::Gating) else { return };
        match result {
            Ok(()) => {
                node.state = StepState::Done(Outcome::Applied);
                commands.push(Command::Done { step: step.clone(), outcome: Outcome::Applied });
            }
            Err(error) => self.failed(step, error, commands),
        }
    }

    fn failed(&mut self, step: &StepId, error: StepError, commands: &mut Vec<Command>) {
        let stopping = self.stop.is_some();
        let Some(node) = self.steps.get_mut(step) else { return };
        if error.class == ErrorClass::Retryable && node.attempt <= node.policy.retries {
            if stopping {
                node.state = StepState::Cancelled;
                return;
            }
            let delay = error.retry_after.unwrap_or_else(|| backoff(node.attempt));
            let attempt = node.attempt;
            node.attempt += 1;
            node.state = StepState::Backoff;
            commands.push(Command::Backoff { step: step.clone(), attempt, delay, error });
        } else {
            node.state = StepState::Failed;
            commands.push(Command::Fail { step: step.clone(), error });
        }
    }

    fn backoff_over(&mut self, step: &StepId, commands: &mut Vec<Command>) {
        let stopping = self.stop.is_some();
        let Some(node) = self.in_state(step, &StepState::Backoff) else { return };
        if stopping {
            node.state = StepState::Cancelled;
            return;
        }
        node.state = StepState::Observing;
        let attempt = node.attempt;
        commands.push(Command::Observe { step: step.clone(), attempt, deadline: None });
    }

    fn deadline_passed(&mut self, step: &StepId, plight: Option<Plight>, commands: &mut Vec<Command>) {
        let Some(node) = self.steps.get_mut(step) else { return };
        if !matches!(node.state, StepState::Observing | StepState::Applying | StepState::Gating | StepState::Backoff) {
            return;
        }
        node.state = StepState::Failed;
        let mut error = StepError::wrong_world(format!("not done within {:?}", node.policy.deadline));
        if let Some(Plight { line, code }) = plight {
            error.why = (!line.is_empty()).then_some(line);
            error.code = code.map(str::to_owned);
        }
        commands.push(Command::Cancel(step.clone()));
        commands.push(Command::Fail { step: step.clone(), error });
    }

    fn stop(&mut self, how: Stop, commands: &mut Vec<Command>) {
        if self.stop >= Some(how) {
            return;
        }
        self.stop = Some(how);
        for (step, node) in &mut self.steps {
            let cancel = match node.state {
                StepState::Observing | StepState::Gating | StepState::Backoff => true,
                StepState::Applying => how == Stop::Now,
                _ => false,
            };
            if cancel {
                node.state = StepState::Cancelled;
                commands.push(Command::Cancel(step.clone()));
            }
        }
    }

    fn start_ready(&mut self, commands: &mut Vec<Command>) {
        if self.stop.is_some() || self.ended {
            return;
        }
        let done: BTreeSet<StepId> = self
            .steps
            .iter()
            .filter(|(_, node)| matches!(node.state, StepState::Done(_)))
            .map(|(step, _)| step.clone())
            .collect();
        for step in &self.order {
            let Some(node) = self.steps.get_mut(step) else { continue };
            if node.state == StepState::Waiting && node.needs.is_subset(&done) {
                node.state = StepState::Observing;
                let deadline = Some(node.policy.deadline);
                commands.push(Command::Observe { step: step.clone(), attempt: node.attempt, deadline });
            }
        }
    }

    fn end_if_over(&mut self, commands: &mut Vec<Command>) {
        let busy = |node: &Node| {
            matches!(node.state, StepState::Observing | StepState::Applying | StepState::Gating | StepState::Backoff)
        };
        let counts = |node: &&Node| !node.policy.background;
        if self.ended || self.steps.values().filter(counts).any(busy) {
            return;
        }
        self.ended = true;
        for (step, node) in self.steps.iter_mut().filter(|(_, node)| busy(node)) {
            node.state = StepState::Cancelled;
            commands.push(Command::Cancel(step.clone()));
        }
        let complete = self.steps.values().filter(counts).all(|node| matches!(node.state, StepState::Done(_)));
        let failed = self.steps.values().filter(counts).any(|node| node.state == StepState::Failed);
        commands.push(Command::End(match (complete, failed) {
            (true, _) => RunOutcome::Complete,
            (false, true) => RunOutcome::Failed,
            (false, false) => RunOutcome::Stopped,
        }));
    }
}

fn backoff(attempt: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << attempt.saturating_sub(1).min(8)).min(LONGEST_BACKOFF)
}
