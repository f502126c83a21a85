//! The shell around the machine: it owns tasks, journal and events, and decides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use error_report::ErrorReport;
use futures::FutureExt;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::event::{Event, EventKind, Outcome, RunOutcome, StepOutline};
use super::machine::{Command, Input, Run};
use super::progress::{Part, ProgressClock};
use super::stop::StopSignal;
use super::{Action, Code, StepContext, StepError, StepLog, StepSet, StepWait, Subscriber, event, sleep};
use crate::journal::{
    ClusterFact, ClusterFacts, Entry, History, Journal, JournalError, LastRun, Learned, RecordedIntents, RunEnd,
};
use crate::plan::{Plan, StepId};

/// How many steps prepare at once; more would slow down the step that the critical path waits for.
const PREPARING: usize = 4;

/// How a run ended, and why its steps failed.
#[derive(Debug, Clone, PartialEq)]
pub struct RunReport {
    pub outcome: RunOutcome,
    pub failures: Vec<(StepId, StepError)>,
    /// Steps applied in this run.
    pub applied: usize,
    /// Steps with nothing to do.
    pub up_to_date: usize,
    /// Steps that the run completed without, or without a part of, and why.
    pub degraded: Vec<(StepId, String)>,
    /// Steps that were not to be done, and why.
    pub skipped: Vec<(StepId, String)>,
    pub seconds: f64,
}

/// Replaces secrets in a text.
type Mask = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// A run about to be carried out.
pub struct Engine {
    plan: Plan,
    steps: StepSet,
    journal: Arc<Journal>,
    recorded_intents: Arc<RecordedIntents>,
    facts: Arc<Mutex<ClusterFacts>>,
    publisher: Arc<Publisher>,
    progress: Arc<ProgressClock>,
    stop: StopSignal,
    cluster: String,
    mask: Mask,
    /// An earlier run is continued.
    resumed: bool,
    /// Decides the jitter of retries.
    seed: u64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("steps", &self.plan.steps().len()).finish_non_exhaustive()
    }
}

struct Publisher {
    began: Instant,
    subscribers: Vec<Arc<dyn Subscriber>>,
    /// What each step has published of its present attempt.
    shown: Mutex<BTreeMap<StepId, Shown>>,
}

/// What a step has published of its present attempt. A step that waits looks again and again; what it finds unchanged is
/// not news.
#[derive(Debug, Default)]
struct Shown {
    observed: Option<(event::Observed, String)>,
    applying: Option<u32>,
    wait: Option<StepWait>,
}

impl Publisher {
    fn publish(&self, kind: EventKind) {
        let event = Event { elapsed: self.began.elapsed().as_secs_f64(), kind };
        for subscriber in &self.subscribers {
            subscriber.notice(&event);
        }
    }

    /// Publishes if `news` finds that it differs from what the step has published before.
    fn publish_news(&self, step: &StepId, kind: EventKind, is_news: impl FnOnce(&mut Shown) -> bool) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if is_news(shown.entry(step.clone()).or_default()) {
            drop(shown);
            self.publish(kind);
        }
    }

    fn waiting(&self, step: &StepId, wait: &StepWait) {
        let kind = EventKind::Waiting { step: step.clone(), reason: wait.line.clone(), code: wait.code };
        self.publish_news(step, kind, |shown| {
            shown.wait.replace(wait.clone()).is_none_or(|last| last.line != wait.line)
        });
    }

    /// Everything about the step is news again.
    fn forget(&self, step: &StepId) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).remove(step);
    }
}

/// Publishes what steps wait for, and journals what they must not do twice.
struct RunLog {
    journal: Arc<Journal>,
    facts: Arc<Mutex<ClusterFacts>>,
    publisher: Arc<Publisher>,
    progress: Arc<ProgressClock>,
}

#[async_trait]
impl StepLog for RunLog {
    fn waiting(&self, step: &StepId, wait: &StepWait) {
        self.progress.note(step, wait);
        self.publisher.waiting(step, wait);
    }

    async fn intend(&self, step: &StepId, intent: Value) -> Result<(), StepError> {
        self.journal.append(Entry::Intent { step: step.clone(), intent }).await.map_err(|error| not_journaled(&error))
    }

    async fn learn(&self, fact: ClusterFact) -> Learned {
        let learned = self.facts.lock().unwrap_or_else(PoisonError::into_inner).learn(&fact);
        if learned == Learned::New {
            // A hint: a journal that cannot be written is reported at the end of the step.
            let _ = self.journal.append(Entry::Learned { fact }).await;
        }
        learned
    }

    async fn conclude(&self, step: &StepId, outcome: Value) -> Result<(), StepError> {
        self.journal
            .append(Entry::Concluded { step: step.clone(), outcome })
            .await
            .map_err(|error| not_journaled(&error))
    }
}

fn not_journaled(error: &JournalError) -> StepError {
    StepError::failed_precondition("the journal cannot be written, so nothing that must happen once is started")
        .caused_by(error)
        .code(Code::O05)
}

/// The parts of a run that are under way.
struct Flight {
    run: Run,
    inputs: mpsc::UnboundedSender<Input>,
    tasks: JoinSet<()>,
    working: BTreeMap<StepId, AbortHandle>,
    deadlines: BTreeMap<StepId, AbortHandle>,
    started: BTreeMap<StepId, Instant>,
    /// The contexts of the steps under way.
    contexts: Arc<Mutex<BTreeMap<StepId, StepContext>>>,
    report: RunReport,
    journal_broken: bool,
}

impl Engine {
    /// A run of `plan` by `steps`, published to `subscribers` and kept in `journal`.
    pub fn new(
        plan: Plan,
        steps: StepSet,
        journal: Journal,
        history: &History,
        subscribers: Vec<Arc<dyn Subscriber>>,
        stop: StopSignal,
    ) -> Self {
        Self {
            plan: plan.with_learned(&history.longest_quiet),
            steps,
            journal: Arc::new(journal),
            recorded_intents: Arc::new(history.recorded_intents.clone()),
            facts: Arc::new(Mutex::new(history.facts.clone())),
            publisher: Arc::new(Publisher { began: Instant::now(), subscribers, shown: Mutex::default() }),
            progress: Arc::default(),
            stop,
            cluster: String::new(),
            mask: Arc::new(str::to_owned),
            resumed: history.last.as_ref().is_some_and(LastRun::is_unfinished),
            seed: rand::random(),
        }
    }

    /// Replaces the random seed of the retries' jitter, for runs that are to be repeated exactly.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Names the cluster in the events of the run.
    #[must_use]
    pub fn for_cluster(mut self, cluster: impl Into<String>) -> Self {
        self.cluster = cluster.into();
        self
    }

    /// Masks secrets in what the journal keeps of errors.
    #[must_use]
    pub fn masked_by(mut self, mask: Mask) -> Self {
        self.mask = mask;
        self
    }

    /// Carries the plan out and reports how it ended.
    pub async fn run(self) -> RunReport {
        self.publish_start();
        let (inputs, mut arriving) = mpsc::unbounded_channel();
        let mut flight = Flight {
            run: Run::new(&self.plan, self.seed),
            inputs,
            tasks: JoinSet::new(),
            working: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            started: BTreeMap::new(),
            contexts: Arc::default(),
            report: RunReport {
                outcome: RunOutcome::Stopped,
                failures: vec![],
                applied: 0,
                up_to_date: 0,
                degraded: vec![],
                skipped: vec![],
                seconds: 0.0,
            },
            journal_broken: false,
        };
        self.watch_sleep(&mut flight);
        self.prepare_all(&mut flight);
        let mut stop = self.stop.subscribe();
        // A stop that was requested before counts too.
        stop.mark_changed();
        let _ = flight.inputs.send(Input::Start);
        loop {
            // The stop first: then the order does not depend on chance.
            let input = tokio::select! {
                biased;
                Ok(()) = stop.changed() => match *stop.borrow_and_update() {
                    Some(how) => Input::Stop(how),
                    None => continue,
                },
                Some(input) = arriving.recv() => input,
            };
            self.publish_input(&input);
            let (run, commands) = flight.run.advance(input);
            flight.run = run;
            for command in commands {
                if let Some(outcome) = self.carry_out(&mut flight, command).await {
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
        let run = self.journal.run().to_string();
        self.publisher.publish(EventKind::RunStarted {
            format: event::FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.cluster.clone(),
            run,
            resumed: self.resumed,
            steps,
        });
    }

    /// Explains a gap in the output when this machine was suspended.
    fn watch_sleep(&self, flight: &mut Flight) {
        let publisher = self.publisher.clone();
        flight.tasks.spawn(sleep::watch(move |text| publisher.publish(EventKind::Notice { text })));
    }

    /// Starts what depends on nothing, in plan order; a failure shows again when the step itself runs.
    fn prepare_all(&self, flight: &mut Flight) {
        let lanes = Arc::new(Semaphore::new(PREPARING));
        for planned in self.plan.steps() {
            let Some(step) = self.steps.get(&planned.id).cloned() else { continue };
            let (lanes, context) = (lanes.clone(), self.context(&planned.id, 1));
            flight.tasks.spawn(async move {
                if let Ok(_lane) = lanes.acquire().await {
                    // The step meets the same failure when it runs, and fails with it there.
                    let _ = step.prepare(&context).await;
                }
            });
        }
    }

    fn context(&self, step: &StepId, attempt: u32) -> StepContext {
        let log = RunLog {
            journal: self.journal.clone(),
            facts: self.facts.clone(),
            publisher: self.publisher.clone(),
            progress: self.progress.clone(),
        };
        StepContext::new(step.clone(), attempt, self.recorded_intents.clone(), Arc::new(log))
            .with_stop(self.stop.clone())
    }

    /// Carries out a command of the machine; returns the outcome when the run is over.
    async fn carry_out(&self, flight: &mut Flight, command: Command) -> Option<RunOutcome> {
        match command {
            Command::Observe { step, attempt, deadline } => {
                if let Some(deadline) = deadline {
                    self.begin(flight, &step, deadline);
                }
                self.work(flight, &step, attempt, Work::Observe);
            }
            Command::Apply { step, attempt } => {
                self.progress.enter(&step, Part::Apply);
                let kind = EventKind::Applying { step: step.clone(), attempt };
                self.publisher.publish_news(&step, kind, |shown| shown.applying.replace(attempt) != Some(attempt));
                self.work(flight, &step, attempt, Work::Apply);
            }
            Command::Gate { step, attempt } => {
                self.progress.enter(&step, Part::Gate);
                self.work(flight, &step, attempt, Work::Gate);
            }
            Command::Backoff { step, attempt, delay, error } => {
                self.publisher.forget(&step);
                let kind = EventKind::Retrying { step: step.clone(), attempt, error, delay: delay.as_secs_f64() };
                self.publisher.publish(kind);
                pause(flight, step, delay);
            }
            Command::Wait { step, delay, error } => {
                let wait = StepWait::new(error.to_string()).code(error.code).next(error.next.clone());
                self.progress.note(&step, &wait);
                self.publisher.waiting(&step, &wait);
                pause(flight, step, delay);
            }
            Command::Cancel(step) => {
                if let Some(handle) = flight.working.remove(&step) {
                    handle.abort();
                }
            }
            Command::Done { step, outcome } => self.done(flight, step, outcome).await,
            Command::Fail { step, error } => self.fail(flight, step, error).await,
            Command::End(outcome) => return Some(outcome),
        }
        None
    }

    fn begin(&self, flight: &mut Flight, step: &StepId, deadline: Duration) {
        self.publisher.publish(EventKind::StepStarted { step: step.clone() });
        flight.started.insert(step.clone(), Instant::now());
        self.progress.begin(step);
        let (inputs, id, contexts) = (flight.inputs.clone(), step.clone(), flight.contexts.clone());
        let progress = self.progress.clone();
        let handle = flight.tasks.spawn(async move {
            // Progress moves the deadline while this sleeps.
            while let Some(due) = progress.quiet_since(&id).and_then(|since| since.checked_add(deadline))
                && due > Instant::now()
            {
                tokio::time::sleep_until(due).await;
            }
            let contexts = contexts.lock().unwrap_or_else(PoisonError::into_inner);
            let wait = contexts.get(&id).map(StepContext::wait);
            let _ = inputs.send(Input::DeadlinePassed(id, wait));
        });
        flight.deadlines.insert(step.clone(), handle);
    }

    fn work(&self, flight: &mut Flight, id: &StepId, attempt: u32, work: Work) {
        let Some(step) = self.steps.get(id).cloned() else {
            let error = StepError::invalid_input(format!("step `{id}` is not implemented")).code(Code::X01);
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
            let (state, detail) = observation.parts();
            let detail = detail.to_owned();
            let kind = EventKind::Observed { step: step.clone(), state, detail: detail.clone() };
            let found = (state, detail);
            self.publisher.publish_news(step, kind, |shown| {
                shown.observed.replace(found.clone()).is_none_or(|last| last != found)
            });
        }
    }

    async fn done(&self, flight: &mut Flight, step: StepId, outcome: Outcome) {
        if let Some(handle) = flight.deadlines.remove(&step) {
            handle.abort();
        }
        let report = &mut flight.report;
        match &outcome {
            Outcome::Applied => report.applied += 1,
            Outcome::UpToDate => report.up_to_date += 1,
            Outcome::Degraded(reason) => report.degraded.push((step.clone(), reason.clone())),
            Outcome::Skipped(reason) => report.skipped.push((step.clone(), reason.clone())),
        }
        if let Some(planned) = self.plan.step(&step) {
            let fingerprint = planned.fingerprint.clone();
            let quiet_seconds = self.progress.longest_quiet(&step).map(|quiet| quiet.as_secs());
            self.record(flight, Entry::StepDone { step: step.clone(), fingerprint, quiet_seconds }).await;
        }
        let seconds = flight.started.get(&step).map_or(0.0, |began| began.elapsed().as_secs_f64());
        self.publisher.publish(EventKind::StepDone { step, outcome, seconds });
    }

    async fn fail(&self, flight: &mut Flight, step: StepId, error: StepError) {
        if let Some(handle) = flight.deadlines.remove(&step) {
            handle.abort();
        }
        self.record(flight, Entry::StepFailed { step: step.clone(), error: (self.mask)(&error.to_string()) }).await;
        self.publisher.publish(EventKind::StepFailed { step: step.clone(), error: error.clone() });
        flight.report.failures.push((step, error));
    }

    /// Journals a hint. Without it a resume observes more than it had to, so the run goes on and warns once.
    async fn record(&self, flight: &mut Flight, entry: Entry) {
        let written = self.journal.append(entry).await;
        if let Err(error) = written
            && !flight.journal_broken
        {
            flight.journal_broken = true;
            self.publisher.publish(EventKind::Notice {
                text: format!(
                    "{}; the run goes on without it, and a resume will observe every step again ({})",
                    ErrorReport::new(&error),
                    Code::O05
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
        self.record(&mut flight, Entry::RunEnded { end }).await;
        let seconds = self.publisher.began.elapsed().as_secs_f64();
        self.publisher.publish(EventKind::RunEnded { outcome, seconds });
        RunReport { outcome, seconds, ..flight.report }
    }
}

/// Has the step observed again after a delay.
fn pause(flight: &mut Flight, step: StepId, delay: Duration) {
    let (inputs, id) = (flight.inputs.clone(), step.clone());
    let handle = flight.tasks.spawn(async move {
        tokio::time::sleep(delay).await;
        let _ = inputs.send(Input::BackoffOver(id));
    });
    flight.working.insert(step, handle);
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Observe,
    Apply,
    Gate,
}

/// Runs one method of a step; a panic in it becomes a failure of that step alone.
async fn perform(step: &dyn Action, context: &StepContext, work: Work, id: StepId) -> Input {
    let broken = |_| {
        StepError::failed_precondition("an internal error ended this step; please report it with the journal")
            .code(Code::X01)
    };
    match work {
        Work::Observe => {
            let result = std::panic::AssertUnwindSafe(step.observe(context)).catch_unwind().await;
            Input::Observed(id, result.map_err(broken).and_then(|inner| inner))
        }
        Work::Apply => {
            let applying = std::panic::AssertUnwindSafe(step.apply(context)).catch_unwind();
            let result = kill_points::around("apply of a step", applying).await;
            Input::Applied(id, result.map_err(broken).and_then(|inner| inner))
        }
        Work::Gate => {
            let result = std::panic::AssertUnwindSafe(step.gate(context)).catch_unwind().await;
            Input::Gated(id, result.map_err(broken).and_then(|inner| inner))
        }
    }
}
