//! The decisions of a run, without I/O.
//!
//! | state of a step | event | next |
//! | --- | --- | --- |
//! | waiting | every need done | observing |
//! | observing | up to date, skipped or degraded | done |
//! | observing | in progress | gating |
//! | observing | missing | applying |
//! | applying | applied, in full or degraded | gating |
//! | gating | confirmed | done |
//! | observing, applying, gating | unavailable, budget left | backoff, then observing; counted as an attempt |
//! | observing, applying, gating | not ready | backoff, then observing; a wait, not an attempt |
//! | observing, applying, gating | any other failure | failed |
//! | observing, applying, gating, backoff | no progress until the step's deadline | failed |
//! | observing, gating, backoff | stop at a safe point | cancelled |
//! | applying | stop at a safe point | finishes the effect, then cancelled |
//! | observing, applying, gating, backoff | stop now | cancelled |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use error_report::HumanDuration;
use retry::{Backoff, policies};

use super::event::{Outcome, RunOutcome};
use super::stop::Stop;
use super::{Effect, ErrorClass, Observation, StepError, StepWait};
use crate::plan::{Plan, Policy, Step, StepId};

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

/// What happened, from the shell to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Start,
    Observed(StepId, Result<Observation, StepError>),
    Applied(StepId, Result<Effect, StepError>),
    Gated(StepId, Result<(), StepError>),
    BackoffOver(StepId),
    /// The step made no progress for too long; what it waits for, when that is known.
    DeadlinePassed(StepId, Option<StepWait>),
    Stop(Stop),
}

/// What to do, from the machine to the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Observe { step: StepId, attempt: u32, deadline: Option<Duration> },
    Apply { step: StepId, attempt: u32 },
    Gate { step: StepId, attempt: u32 },
    Backoff { step: StepId, attempt: u32, delay: Duration, error: StepError },
    Wait { step: StepId, delay: Duration, error: StepError },
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
    /// What the step is about, for errors that have no place of their own.
    place: String,
    state: StepState,
    attempt: u32,
    /// The delays and the budget of retries.
    backoff: Backoff,
    /// The delays between looks at what is not ready. They have no budget.
    looks: Backoff,
    /// The state in which the last failure happened, until that state succeeds.
    failed_in: Option<StepState>,
    /// What the last apply of this run did.
    applied: Option<Effect>,
    /// The failure of the last attempt, while the step is retried.
    failure: Option<StepError>,
}

impl Node {
    fn new(step: &Step, seed: u64) -> Self {
        Self {
            needs: step.needs.clone(),
            policy: step.policy,
            place: step.place().to_owned(),
            state: StepState::Waiting,
            attempt: 1,
            backoff: step.policy.retry.seeded(seed),
            looks: policies::NOT_READY.seeded(seed),
            failed_in: None,
            applied: None,
            failure: None,
        }
    }

    /// How the step ends once its goal is met: as it was applied in this run, else as it was observed.
    fn outcome(&self, observed: Outcome) -> Outcome {
        match &self.applied {
            None => observed,
            Some(Effect::Complete) => Outcome::Applied,
            Some(Effect::Degraded(reason)) => Outcome::Degraded(reason.clone()),
        }
    }

    /// The error of a step that made no progress in time: what it waited for, else its last failure, says why.
    fn overdue(&self, wait: Option<StepWait>) -> StepError {
        let what = format!("no progress for {}", HumanDuration(self.policy.deadline));
        let mut error = StepError::failed_precondition(what).with_place(&self.place);
        let wait = wait.filter(|wait| !wait.line.is_empty());
        if let Some(wait) = wait {
            let failed_with = self.failure.as_ref().and_then(|failure| failure.code);
            let code = wait.code.or(failed_with).unwrap_or(self.policy.overdue);
            error.next = wait.next;
            return error.because(wait.line).code(code);
        }
        if let Some(failure) = &self.failure {
            let reason = failure.why.as_ref().map_or(failure.what.clone(), |why| format!("{}: {why}", failure.what));
            error.place = failure.place.clone().or(error.place);
            error.why = Some(reason);
            error.next.clone_from(&failure.next);
            error.code = failure.code;
        }
        error.code(self.policy.overdue)
    }

    /// Whatever failed in this state works now: the next failure is another one and gets the whole budget.
    fn note_success(&mut self) {
        if self.failed_in.as_ref() == Some(&self.state) {
            self.failed_in = None;
            self.failure = None;
            self.backoff.refill();
            self.looks.refill();
        }
    }

    /// The delay until the step is observed again after a failure; nothing when it is not.
    fn delay_after(&mut self, error: &StepError) -> Option<Duration> {
        match error.class {
            ErrorClass::NotReady => {
                // A service that answers is not unavailable.
                self.backoff.refill();
                self.looks.next_delay(error.retry_after)
            }
            ErrorClass::Unavailable => self.backoff.next_delay(error.retry_after),
            ErrorClass::InvalidInput | ErrorClass::FailedPrecondition | ErrorClass::NeedsOperator => None,
        }
    }

    fn is_busy(&self) -> bool {
        matches!(self.state, StepState::Observing | StepState::Applying | StepState::Gating | StepState::Backoff)
    }
}

impl Run {
    /// A run of `plan`; `seed` decides the jitter of its retries.
    pub fn new(plan: &Plan, seed: u64) -> Self {
        let seeds = (0..).map(|index: u64| seed.wrapping_add(index));
        let nodes = plan.steps().iter().zip(seeds).map(|(step, seed)| (step.id.clone(), Node::new(step, seed)));
        Self {
            steps: nodes.collect(),
            order: plan.steps().iter().map(|step| step.id.clone()).collect(),
            stop: None,
            ended: false,
        }
    }

    pub fn state(&self, step: &StepId) -> Option<&StepState> {
        self.steps.get(step).map(|node| &node.state)
    }

    /// Returns the state after one event, and what to do next. Events about steps that no longer wait for them change
    /// nothing.
    pub fn advance(mut self, input: Input) -> (Self, Vec<Command>) {
        let mut commands = Vec::new();
        match input {
            Input::Start => {}
            Input::Observed(step, result) => self.observed(&step, result, &mut commands),
            Input::Applied(step, result) => self.applied(&step, result, &mut commands),
            Input::Gated(step, result) => self.gated(&step, result, &mut commands),
            Input::BackoffOver(step) => self.backoff_over(&step, &mut commands),
            Input::DeadlinePassed(step, wait) => self.deadline_passed(&step, wait, &mut commands),
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
        if result.is_ok() {
            node.note_success();
        }
        let attempt = node.attempt;
        let outcome = match result {
            Err(error) => return self.failed(step, error, commands),
            Ok(Observation::UpToDate(_)) => node.outcome(Outcome::UpToDate),
            Ok(Observation::Skipped(reason)) => node.outcome(Outcome::Skipped(reason)),
            Ok(Observation::Degraded(reason)) => Outcome::Degraded(reason),
            Ok(Observation::Missing(_) | Observation::InProgress(_)) if stopping => {
                node.state = StepState::Cancelled;
                return;
            }
            Ok(Observation::InProgress(_)) => {
                node.state = StepState::Gating;
                commands.push(Command::Gate { step: step.clone(), attempt });
                return;
            }
            Ok(Observation::Missing(_)) => {
                node.state = StepState::Applying;
                commands.push(Command::Apply { step: step.clone(), attempt });
                return;
            }
        };
        node.state = StepState::Done(outcome.clone());
        commands.push(Command::Done { step: step.clone(), outcome });
    }

    fn applied(&mut self, step: &StepId, result: Result<Effect, StepError>, commands: &mut Vec<Command>) {
        let stopping = self.stop.is_some();
        let Some(node) = self.in_state(step, &StepState::Applying) else { return };
        match result {
            Ok(applied) => {
                node.note_success();
                node.applied = Some(applied);
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
                let outcome = node.outcome(Outcome::Applied);
                node.state = StepState::Done(outcome.clone());
                commands.push(Command::Done { step: step.clone(), outcome });
            }
            Err(error) => self.failed(step, error, commands),
        }
    }

    fn failed(&mut self, step: &StepId, error: StepError, commands: &mut Vec<Command>) {
        let stopping = self.stop.is_some();
        let Some(node) = self.steps.get_mut(step) else { return };
        let Some(delay) = node.delay_after(&error) else {
            node.state = StepState::Failed;
            let error = error.coded(node.policy.overdue);
            commands.push(Command::Fail { step: step.clone(), error });
            return;
        };
        if stopping {
            node.state = StepState::Cancelled;
            return;
        }
        node.failed_in = Some(std::mem::replace(&mut node.state, StepState::Backoff));
        node.failure = Some(error.clone());
        let (step, attempt) = (step.clone(), node.attempt);
        commands.push(if error.class == ErrorClass::NotReady {
            Command::Wait { step, delay, error }
        } else {
            node.attempt += 1;
            Command::Backoff { step, attempt, delay, error }
        });
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

    fn deadline_passed(&mut self, step: &StepId, wait: Option<StepWait>, commands: &mut Vec<Command>) {
        let Some(node) = self.steps.get_mut(step).filter(|node| node.is_busy()) else { return };
        node.state = StepState::Failed;
        commands.push(Command::Cancel(step.clone()));
        commands.push(Command::Fail { step: step.clone(), error: node.overdue(wait) });
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
        let is_done = |need: &StepId| matches!(self.steps.get(need), Some(Node { state: StepState::Done(_), .. }));
        let is_ready = |step: &&StepId| {
            self.steps.get(*step).is_some_and(|node| node.state == StepState::Waiting && node.needs.iter().all(is_done))
        };
        let ready: Vec<StepId> = self.order.iter().filter(is_ready).cloned().collect();
        for step in ready {
            let Some(node) = self.steps.get_mut(&step) else { continue };
            node.state = StepState::Observing;
            let deadline = Some(node.policy.deadline);
            commands.push(Command::Observe { step, attempt: node.attempt, deadline });
        }
    }

    fn end_if_over(&mut self, commands: &mut Vec<Command>) {
        let counts = |node: &&Node| !node.policy.background;
        if self.ended || self.steps.values().filter(counts).any(Node::is_busy) {
            return;
        }
        self.ended = true;
        for (step, node) in self.steps.iter_mut().filter(|(_, node)| node.is_busy()) {
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
