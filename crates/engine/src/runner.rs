//! The shell around the machine: it owns tasks, journal and events, and decides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::event::{Event, EventKind, Outcome, RunOutcome, StepOutline};
use super::machine::{Command, Input, Run, Stop};
use super::{Memory, Observation, Step, StepContext, StepError, StepSet, Subscriber, event};
use crate::journal::{Entry, History, Journal, Prior, RunEnd};
use crate::plan::{Plan, StepId};

/// How many steps prepare at once; more would slow down the step that the critical path waits for.
const PREPARING: usize = 4;

/// Carries the operator's wish to stop into a run.
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Sender<Option<Stop>>);

impl Default for StopSignal {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl StopSignal {
    /// Ends when somebody asks to stop.
    pub async fn asked(&self) {
        // The sender is ours, so this cannot fail.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }

    /// Asks to stop; the second time, insists.
    pub fn ask(&self) {
        self.0.send_modify(|stop| {
            *stop = Some(if stop.is_some() { Stop::Now } else { Stop::AtSafePoint });
        });
    }
}

/// How a run ended, and why its steps failed.
#[derive(Debug, Clone, PartialEq)]
pub struct RunReport {
    pub outcome: RunOutcome,
    pub failures: Vec<(StepId, StepError)>,
    /// Steps brought about in this run.
    pub applied: usize,
    /// Steps that held already.
    pub held: usize,
    pub seconds: f64,
}

/// A run about to be carried out.
pub struct Engine {
    plan: Plan,
    steps: StepSet,
    journal: Arc<Mutex<Journal>>,
    priors: BTreeMap<StepId, Vec<Prior>>,
    publisher: Arc<Publisher>,
    stop: StopSignal,
    outline: (String, bool),
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("steps", &self.plan.steps().len()).finish_non_exhaustive()
    }
}

struct Publisher {
    began: Instant,
    subscribers: Vec<Arc<dyn Subscriber>>,
}

impl Publisher {
    fn publish(&self, kind: EventKind) {
        let event = Event { elapsed: self.began.elapsed().as_secs_f64(), kind };
        for subscriber in &self.subscribers {
            subscriber.notice(&event);
        }
    }
}

/// The parts of a run that are under way.
struct Flight {
    run: Run,
    inputs: mpsc::UnboundedSender<Input>,
    tasks: JoinSet<()>,
    working: BTreeMap<StepId, AbortHandle>,
    deadlines: BTreeMap<StepId, AbortHandle>,
    started: BTreeMap<StepId, Instant>,
    /// What the steps under way were given.
    contexts: Arc<Mutex<BTreeMap<StepId, StepContext>>>,
    report: RunReport,
    journal_broken: bool,
}

impl Engine {
    /// A run of `plan` by `steps`, told to `subscribers` and kept in `journal`.
    pub fn new(
        plan: Plan,
        steps: StepSet,
        journal: Journal,
        history: &History,
        subscribers: Vec<Arc<dyn Subscriber>>,
        stop: StopSignal,
    ) -> Self {
        Self {
            plan,
            steps,
            journal: Arc::new(Mutex::new(journal)),
            priors: history.priors.clone(),
            publisher: Arc::new(Publisher { began: Instant::now(), subscribers }),
            stop,
            outline: (String::new(), false),
        }
    }

    /// Names the cluster for the readers, and says whether an earlier run is continued.
    #[must_use]
    pub fn about(mut self, cluster: impl Into<String>, resumed: bool) -> Self {
        self.outline = (cluster.into(), resumed);
        self
    }

    /// Carries the plan out and says how it ended.
    pub async fn run(self) -> RunReport {
        self.publish_start();
        let (inputs, mut arriving) = mpsc::unbounded_channel();
        let mut flight = Flight {
            run: Run::new(&self.plan),
            inputs,
            tasks: JoinSet::new(),
            working: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            started: BTreeMap::new(),
            contexts: Arc::default(),
            report: RunReport { outcome: RunOutcome::Stopped, failures: vec![], applied: 0, held: 0, seconds: 0.0 },
            journal_broken: false,
        };
        self.prepare_all(&mut flight);
        let mut stop = self.stop.0.subscribe();
        let _ = flight.inputs.send(Input::Start);
        loop {
            let input = tokio::select! {
                Some(input) = arriving.recv() => input,
                Ok(()) = stop.changed() => match *stop.borrow_and_update() {
                    Some(how) => Input::Stop(how),
                    None => continue,
                },
            };
            self.publish_input(&input);
            let (run, commands) = flight.run.advance(input);
            flight.run = run;
            for command in commands {
                if let Some(outcome) = self.obey(&mut flight, command) {
                    return self.end(flight, outcome).await;
                }
            }
        }
    }

    fn publish_start(&self) {
        let steps = self
            .plan
            .steps()
            .iter()
            .map(|step| StepOutline {
                id: step.id.clone(),
                phase: step.phase.clone(),
                title: step.title.clone(),
                needs: step.needs.iter().cloned().collect(),
            })
            .collect();
        let run = self.lock_journal().run().to_string();
        self.publisher.publish(EventKind::RunStarted {
            format: event::FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.outline.0.clone(),
            run,
            resumed: self.outline.1,
            steps,
        });
    }

    fn lock_journal(&self) -> std::sync::MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts what depends on nothing, in plan order; a failure shows again when the step itself runs.
    fn prepare_all(&self, flight: &mut Flight) {
        let lanes = Arc::new(Semaphore::new(PREPARING));
        for planned in self.plan.steps() {
            let Some(step) = self.steps.get(&planned.id).cloned() else { continue };
            let (lanes, context) = (lanes.clone(), self.context(&planned.id, 1));
            flight.tasks.spawn(async move {
                if let Ok(_lane) = lanes.acquire().await {
                    // The step meets the same failure when it runs, and answers for it there.
                    let _ = step.prepare(&context).await;
                }
            });
        }
    }

    fn context(&self, step: &StepId, attempt: u32) -> StepContext {
        let (publisher, id) = (self.publisher.clone(), step.clone());
        let told = Mutex::new(String::new());
        let tell = move |reason: &str| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if *told == reason {
                return;
            }
            reason.clone_into(&mut told);
            publisher.publish(EventKind::Waiting { step: id.clone(), reason: reason.to_owned() });
        };
        let (journal, id) = (self.journal.clone(), step.clone());
        let remember = move |memory: Memory| {
            let entry = match memory {
                Memory::Intent(intent) => Entry::Intent { step: id.clone(), intent },
                Memory::Outcome(outcome) => Entry::Concluded { step: id.clone(), outcome },
            };
            journal.lock().unwrap_or_else(PoisonError::into_inner).append(entry).map_err(|error| {
                StepError::wrong_world("the journal cannot be written, so nothing that must happen once is begun")
                    .because(error)
                    .next("free space in the state directory, then run again with --resume")
                    .code("O05")
            })
        };
        let priors = self.priors.get(step).cloned().unwrap_or_default();
        StepContext::new(step.clone(), attempt, priors, Arc::new(tell), Arc::new(remember))
    }

    /// Does what the machine says; returns the outcome when the run is over.
    fn obey(&self, flight: &mut Flight, command: Command) -> Option<RunOutcome> {
        match command {
            Command::Observe { step, attempt, deadline } => {
                if let Some(deadline) = deadline {
                    self.begin(flight, &step, deadline);
                }
                self.work(flight, &step, attempt, Work::Observe);
            }
            Command::Apply { step, attempt } => {
                self.publisher.publish(EventKind::Applying { step: step.clone(), attempt });
                self.work(flight, &step, attempt, Work::Apply);
            }
            Command::Gate { step, attempt } => self.work(flight, &step, attempt, Work::Gate),
            Command::Backoff { step, attempt, delay, error } => {
                let delay_seconds = delay.as_secs_f64();
                self.publisher.publish(EventKind::Retrying {
                    step: step.clone(),
                    attempt,
                    error,
                    delay: delay_seconds,
                });
                let (inputs, id) = (flight.inputs.clone(), step.clone());
                let handle = flight.tasks.spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = inputs.send(Input::BackoffOver(id));
                });
                flight.working.insert(step, handle);
            }
            Command::Cancel(step) => {
                if let Some(handle) = flight.working.remove(&step) {
                    handle.abort();
                }
            }
            Command::Done { step, outcome } => self.done(flight, step, outcome),
            Command::Fail { step, error } => self.fail(flight, step, error),
            Command::End(outcome) => return Some(outcome),
        }
        None
    }

    fn begin(&self, flight: &mut Flight, step: &StepId, deadline: Duration) {
        self.publisher.publish(EventKind::StepStarted { step: step.clone() });
        flight.started.insert(step.clone(), Instant::now());
        let (inputs, id, contexts) = (flight.inputs.clone(), step.clone(), flight.contexts.clone());
        let handle = flight.tasks.spawn(async move {
            tokio::time::sleep(deadline).await;
            let contexts = contexts.lock().unwrap_or_else(PoisonError::into_inner);
            let plight = contexts.get(&id).map(StepContext::plight);
            let _ = inputs.send(Input::DeadlinePassed(id, plight));
        });
        flight.deadlines.insert(step.clone(), handle);
    }

    fn work(&self, flight: &mut Flight, id: &StepId, attempt: u32, work: Work) {
        let Some(step) = self.steps.get(id).cloned() else {
            let error = StepError::wrong_input(format!("no code is registered for the step `{id}`"));
            let _ = flight.inputs.send(Input::Observed(id.clone(), Err(error)));
            return;
        };
        let (context, inputs, id) = (self.context(id, attempt), flight.inputs.clone(), id.clone());
        let key = id.clone();
        flight.contexts.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), context.clone());
        let handle = flight.tasks.spawn(async move {
            let input = perform(step.as_ref(), &context, work, id).await;
            let _ = inputs.send(input);
        });
        flight.working.insert(key, handle);
    }

    fn publish_input(&self, input: &Input) {
        if let Input::Observed(step, Ok(observation)) = input {
            let (holds, detail) = match observation {
                Observation::Holds(detail) => (true, detail),
                Observation::Missing(detail) | Observation::Underway(detail) => (false, detail),
            };
            self.publisher.publish(EventKind::Observed { step: step.clone(), holds, detail: detail.clone() });
        }
    }

    fn done(&self, flight: &mut Flight, step: StepId, outcome: Outcome) {
        if let Some(handle) = flight.deadlines.remove(&step) {
            handle.abort();
        }
        match outcome {
            Outcome::Applied => flight.report.applied += 1,
            Outcome::Held => flight.report.held += 1,
        }
        if let Some(planned) = self.plan.step(&step) {
            self.record(flight, Entry::StepDone { step: step.clone(), fingerprint: planned.fingerprint.clone() });
        }
        let seconds = flight.started.get(&step).map_or(0.0, |began| began.elapsed().as_secs_f64());
        self.publisher.publish(EventKind::StepDone { step, outcome, seconds });
    }

    fn fail(&self, flight: &mut Flight, step: StepId, error: StepError) {
        if let Some(handle) = flight.deadlines.remove(&step) {
            handle.abort();
        }
        self.record(flight, Entry::StepFailed { step: step.clone(), error: error.to_string() });
        self.publisher.publish(EventKind::StepFailed { step: step.clone(), error: error.clone() });
        flight.report.failures.push((step, error));
    }

    /// Journals a hint. Without it a resume observes more than it had to, so the run goes on and says so once.
    fn record(&self, flight: &mut Flight, entry: Entry) {
        let written = self.lock_journal().append(entry);
        if let Err(error) = written
            && !flight.journal_broken
        {
            flight.journal_broken = true;
            self.publisher.publish(EventKind::Notice {
                text: format!(
                    "the journal cannot be written ({error}); the run goes on without it, and a resume will observe every step anew"
                ),
            });
        }
    }

    async fn end(&self, mut flight: Flight, outcome: RunOutcome) -> RunReport {
        flight.tasks.shutdown().await;
        let end = match outcome {
            RunOutcome::Complete => RunEnd::Complete,
            RunOutcome::Failed => RunEnd::Failed,
            RunOutcome::Stopped => RunEnd::Stopped,
        };
        self.record(&mut flight, Entry::RunEnded { end });
        let seconds = self.publisher.began.elapsed().as_secs_f64();
        self.publisher.publish(EventKind::RunEnded { outcome, seconds });
        RunReport { outcome, seconds, ..flight.report }
    }
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Observe,
    Apply,
    Gate,
}

/// Runs one method of a step; a panic in it becomes a failure of that step alone.
async fn perform(step: &dyn Step, context: &StepContext, work: Work, id: StepId) -> Input {
    let broken = |_| StepError::wrong_world("an internal error ended this step; please report it with the journal");
    match work {
        Work::Observe => {
            let result = std::panic::AssertUnwindSafe(step.observe(context)).catch_unwind().await;
            Input::Observed(id, result.map_err(broken).and_then(|inner| inner))
        }
        Work::Apply => {
            let result = std::panic::AssertUnwindSafe(step.apply(context)).catch_unwind().await;
            Input::Applied(id, result.map_err(broken).and_then(|inner| inner))
        }
        Work::Gate => {
            let result = std::panic::AssertUnwindSafe(step.gate(context)).catch_unwind().await;
            Input::Gated(id, result.map_err(broken).and_then(|inner| inner))
        }
    }
}
