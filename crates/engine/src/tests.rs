mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use proptest::prelude::*;
use retry::Budget;
use serde_json::json;
use tokio::sync::Notify;

use super::machine::{Command, Input, Run, StepState};
use super::*;
use crate::journal::{
    Entry, Epoch, FileStore, History, Holder, Identity, Journal, Lock, LockError, RunId, Store, Stored,
};
use crate::plan::{Plan, Policy, Step, StepId, builtin_phases};

fn plan(steps: &[(&str, &[&str])]) -> Plan {
    plan_within(steps, Policy::new(Code::K07).deadline)
}

/// A plan whose steps have next to no time.
fn brief(steps: &[(&str, &[&str])]) -> Plan {
    plan_within(steps, Duration::from_millis(10))
}

fn plan_within(steps: &[(&str, &[&str])], deadline: Duration) -> Plan {
    let step = |(id, needs): &(&str, &[&str])| {
        let needs: Vec<StepId> = needs.iter().map(StepId::new).collect();
        let mut step = Step::new("base", id, Code::K07).needs(&needs).deadline(deadline).with_place("the lab");
        step.id = StepId::new(id);
        step.policy.retry = step.policy.retry.with_budget(Budget::Retries(2));
        step
    };
    Plan::new(&builtin_phases().unwrap(), steps.iter().map(step).collect()).unwrap()
}

/// A scripted action: what it observes first, and what its apply does.
struct Scripted {
    up_to_date: bool,
    failures: AtomicUsize,
    applied: AtomicUsize,
    error: Option<StepError>,
    blocks: Option<Arc<Notify>>,
    degraded: Option<&'static str>,
}

impl Scripted {
    fn missing() -> Self {
        Self { up_to_date: false, failures: 0.into(), applied: 0.into(), error: None, blocks: None, degraded: None }
    }
}

#[async_trait]
impl Action for Scripted {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let applied = self.applied.load(Ordering::SeqCst) > 0;
        Ok(if self.up_to_date || applied {
            Observation::UpToDate("seen".into())
        } else {
            Observation::Missing("gone".into())
        })
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        if let Some(blocks) = &self.blocks {
            cx.waiting(StepWait::new("waiting for the test").code(Code::H13));
            blocks.notified().await;
        }
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if self.failures.load(Ordering::SeqCst) > 0 {
            self.failures.fetch_sub(1, Ordering::SeqCst);
            return Err(StepError::unavailable("connection refused"));
        }
        self.applied.fetch_add(1, Ordering::SeqCst);
        Ok(self.degraded.map_or(Effect::Complete, |reason| Effect::Degraded(reason.to_owned())))
    }
}

#[derive(Default)]
struct Kept(Mutex<Vec<Event>>);

impl Subscriber for Kept {
    fn notice(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// A second store, in memory: what several operators of one cluster would share.
#[derive(Default)]
struct MemoryStore {
    lines: Mutex<Vec<Vec<u8>>>,
    holder: Arc<Mutex<Option<Holder>>>,
}

/// Gives the lock of a [`MemoryStore`] back.
struct Release(Arc<Mutex<Option<Holder>>>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.lock().unwrap().take();
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn read(&self) -> io::Result<Stored> {
        Ok(Stored { lines: self.lines.lock().unwrap().clone(), ..Stored::default() })
    }

    async fn append(&self, line: &str) -> io::Result<()> {
        self.lines.lock().unwrap().push(line.as_bytes().to_vec());
        Ok(())
    }

    async fn archive(&self, _epoch: Epoch, _now: Timestamp) -> io::Result<String> {
        self.lines.lock().unwrap().clear();
        Ok("memory".to_owned())
    }

    async fn lock(&self, holder: Holder) -> Result<Lock, LockError> {
        let mut held = self.holder.lock().unwrap();
        if held.is_some() {
            return Err(LockError::Held { holder: held.clone() });
        }
        *held = Some(holder);
        Ok(Lock::new(Release(self.holder.clone())))
    }

    async fn holder(&self) -> Option<Holder> {
        self.holder.lock().unwrap().clone()
    }
}

struct TestRun {
    store: Arc<MemoryStore>,
    kept: Arc<Kept>,
    stop: StopSignal,
}

impl TestRun {
    fn new() -> Self {
        Self { store: Arc::default(), kept: Arc::default(), stop: StopSignal::default() }
    }

    async fn engine(&self, plan: Plan, steps: Vec<(&str, Arc<Scripted>)>) -> Engine {
        let mut set = StepSet::default();
        steps.into_iter().for_each(|(id, step)| set.action(StepId::new(id), step));
        self.engine_of(plan, set).await
    }

    async fn engine_of(&self, plan: Plan, steps: StepSet) -> Engine {
        let opened = Journal::read(self.store.as_ref()).await.unwrap();
        let journal = Journal::new(self.store.clone(), RunId::new(Timestamp::now()), Epoch::FIRST);
        let identity = Identity { name: "blue".into(), cluster_id: None, talos_ca: None };
        let started = Entry::RunStarted { tool: "test".into(), identity, resumed: false, plan: BTreeMap::new() };
        journal.append(started).await.unwrap();
        Engine::new(plan, steps, journal, &opened.history, vec![self.kept.clone()], self.stop.clone())
    }

    fn events(&self) -> Vec<EventKind> {
        self.kept.0.lock().unwrap().iter().map(|event| event.kind.clone()).collect()
    }
}

#[tokio::test]
async fn an_unavailable_service_is_retried_and_reported() {
    let run = TestRun::new();
    let step = Arc::new(Scripted { failures: 2.into(), ..Scripted::missing() });
    let report = run.engine(plan(&[("a", &[])]), vec![("a", step.clone())]).await.run().await;
    assert_eq!(report.outcome, RunOutcome::Complete);
    assert_eq!(step.applied.load(Ordering::SeqCst), 1);
    let events = run.events();
    assert_eq!(events.iter().filter(|event| matches!(event, EventKind::Retrying { .. })).count(), 2);
    assert!(matches!(events.first().unwrap(), EventKind::RunStarted { .. }));
    assert!(matches!(events.last().unwrap(), EventKind::RunEnded { .. }));
}

#[tokio::test]
async fn a_failure_stops_what_depends_on_it_and_nothing_else() {
    let run = TestRun::new();
    let bad = Arc::new(Scripted { error: Some(StepError::invalid_input("no such chart")), ..Scripted::missing() });
    let (after, other) = (Arc::new(Scripted::missing()), Arc::new(Scripted::missing()));
    let plan = plan(&[("bad", &[]), ("after", &["bad"]), ("other", &[])]);
    let steps = vec![("bad", bad), ("after", after.clone()), ("other", other.clone())];
    let report = run.engine(plan, steps).await.run().await;
    assert_eq!(report.outcome, RunOutcome::Failed);
    assert_eq!(report.failures[0].0, StepId::new("bad"));
    assert_eq!((after.applied.load(Ordering::SeqCst), other.applied.load(Ordering::SeqCst)), (0, 1));
    let last = Journal::read(run.store.as_ref()).await.unwrap().history.last.unwrap();
    assert_eq!(last.failed[&StepId::new("bad")], "no such chart");
    assert!(last.done.contains_key(&StepId::new("other")));
}

#[tokio::test]
async fn what_is_up_to_date_is_not_applied() {
    let run = TestRun::new();
    let step = Arc::new(Scripted { up_to_date: true, ..Scripted::missing() });
    let report = run.engine(plan(&[("a", &[])]), vec![("a", step.clone())]).await.run().await;
    assert_eq!((report.up_to_date, report.applied), (1, 0));
    assert_eq!(step.applied.load(Ordering::SeqCst), 0);
}

/// A check with a fixed result; what is pending passes once it was waited for.
struct Fixed(CheckResult, AtomicUsize);

#[async_trait]
impl Check for Fixed {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        Ok(self.0.clone())
    }

    async fn wait(&self, _cx: &StepContext) -> Result<(), StepError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn outcomes_say_what_was_applied_degraded_and_skipped() {
    let run = TestRun::new();
    let degraded = Arc::new(Scripted { degraded: Some("one image is missing"), ..Scripted::missing() });
    let pending = Arc::new(Fixed(CheckResult::Pending("not yet".into()), 0.into()));
    let mut steps = StepSet::default();
    steps.action(StepId::new("degraded"), degraded);
    steps.check(StepId::new("pending"), pending.clone());
    steps.check(StepId::new("skipped"), Arc::new(Fixed(CheckResult::Skipped("no keys".into()), 0.into())));
    steps.check(StepId::new("passed"), Arc::new(Fixed(CheckResult::Passed("all there".into()), 0.into())));
    let plan =
        plan(&[("degraded", &[]), ("pending", &["degraded"]), ("skipped", &["pending"]), ("passed", &["skipped"])]);
    let report = run.engine_of(plan, steps).await.run().await;
    assert_eq!(report.outcome, RunOutcome::Complete);
    assert_eq!((report.applied, report.up_to_date), (1, 1));
    assert_eq!(report.degraded, [(StepId::new("degraded"), "one image is missing".to_owned())]);
    assert_eq!(report.skipped, [(StepId::new("skipped"), "no keys".to_owned())]);
    assert_eq!(pending.1.load(Ordering::SeqCst), 1);
    let done: Vec<_> = run.events().into_iter().filter(|event| matches!(event, EventKind::StepDone { .. })).collect();
    let shown = serde_json::to_value(&done[0]).unwrap();
    assert_eq!((&shown["outcome"], &shown["reason"]), (&json!("degraded"), &json!("one image is missing")));
    for event in done {
        let text = serde_json::to_string(&Event { elapsed: 0.5, kind: event.clone() }).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap().kind, event);
    }
}

#[tokio::test]
async fn the_first_stop_lets_an_effect_finish_and_the_second_does_not() {
    for (asks, finished) in [(1, 1), (2, 0)] {
        let run = TestRun::new();
        let blocks = Arc::new(Notify::new());
        let step = Arc::new(Scripted { blocks: Some(blocks.clone()), ..Scripted::missing() });
        let never = Arc::new(Scripted::missing());
        let steps = vec![("a", step.clone()), ("b", never.clone())];
        let engine = run.engine(plan(&[("a", &[]), ("b", &["a"])]), steps).await;
        let asking = async {
            while !run.events().iter().any(|event| matches!(event, EventKind::Waiting { .. })) {
                tokio::task::yield_now().await;
            }
            for _ in 0..asks {
                let _ = run.stop.request();
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
            blocks.notify_one();
        };
        let (report, ()) = tokio::join!(engine.run(), asking);
        assert_eq!(report.outcome, RunOutcome::Stopped);
        assert_eq!(report.outcome.code(), Some(Code::O07));
        assert_eq!(step.applied.load(Ordering::SeqCst), finished);
        assert_eq!(never.applied.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_step_past_its_deadline_fails_with_place_reason_code_and_next_command() {
    let run = TestRun::new();
    let step = Arc::new(Scripted { blocks: Some(Arc::new(Notify::new())), ..Scripted::missing() });
    let report = run.engine(brief(&[("a", &[])]), vec![("a", step)]).await.run().await;
    let error = &report.failures[0].1;
    assert_eq!(error.to_string(), "no progress for 10ms (the lab): waiting for the test");
    assert_eq!(error.code, Some(Code::H13));
    assert_eq!(error.next.as_deref(), Some(Code::H13.next()));
}

#[tokio::test]
async fn a_deadline_during_retries_reports_the_last_failure() {
    let run = TestRun::new();
    for (code, expected) in [(Some(Code::T13), Code::T13), (None, Code::K07)] {
        let error = StepError::unavailable("no answer").with_place("node cp-1").because("timeout").next("look there");
        let error = StepError { code, ..error };
        let step = Arc::new(Scripted { error: Some(error), ..Scripted::missing() });
        let report = run.engine(brief(&[("a", &[])]), vec![("a", step)]).await.run().await;
        let error = &report.failures[0].1;
        assert_eq!(error.to_string(), "no progress for 10ms (node cp-1): no answer: timeout");
        assert_eq!((error.code, error.next.as_deref()), (Some(expected), Some("look there")));
    }
}

/// Reports a line every ten minutes, then is done.
struct Slow(Vec<StepWait>);

#[async_trait]
impl Action for Slow {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        Ok(Observation::Missing("gone".into()))
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        for wait in &self.0 {
            tokio::time::sleep(Duration::from_mins(10)).await;
            cx.waiting(wait.clone());
        }
        Ok(Effect::Complete)
    }
}

async fn slow(lines: Vec<StepWait>) -> RunReport {
    let mut steps = StepSet::default();
    steps.action(StepId::new("a"), Arc::new(Slow(lines)));
    TestRun::new().engine_of(plan(&[("a", &[])]), steps).await.run().await
}

#[tokio::test(start_paused = true)]
async fn a_step_that_makes_progress_may_take_longer_than_its_deadline() {
    let report = slow((0..12).map(|number| StepWait::new(format!("{number} of 12 done"))).collect()).await;
    assert_eq!((report.outcome, report.seconds.round()), (RunOutcome::Complete, 7200.0));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_only_repeats_itself_reaches_its_deadline() {
    let repeated = |lines: [StepWait; 2]| lines.into_iter().cycle().take(12).collect();
    let flapping = repeated([StepWait::new("1 of 2 ready"), StepWait::new("2 of 2 ready")]);
    let waiting = repeated([StepWait::new("away for 5m"), StepWait::new("away for 10m")]);
    let stuck = (0..12).map(|number| StepWait::new(format!("{number} crashes")).stuck()).collect();
    // The last progress is a new line after 20 or 10 minutes, or the beginning.
    for (lines, expected) in [(flapping, 35.0), (waiting, 25.0), (stuck, 15.0)] {
        let report = slow(lines).await;
        assert_eq!((report.outcome, report.seconds.round()), (RunOutcome::Failed, expected * 60.0));
        assert!(report.failures[0].1.what.starts_with("no progress for 15m"), "{}", report.failures[0].1);
    }
}

struct Once;

#[async_trait]
impl Action for Once {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        Ok(Observation::Missing("no etcd".into()))
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        cx.intend(json!({"node": "10.0.0.1"})).await?;
        cx.conclude(json!("accepted")).await?;
        Ok(Effect::Complete)
    }
}

#[tokio::test]
async fn an_intent_is_on_disk_before_the_effect() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&[("once", &[])]);
    let store = Arc::new(FileStore::open(folder.path()));
    let journal = Journal::new(store.clone(), RunId::new(Timestamp::now()), Epoch::FIRST);
    let mut steps = StepSet::default();
    steps.action(StepId::new("once"), Arc::new(Once));
    Engine::new(plan, steps, journal, &History::default(), vec![], StopSignal::default()).run().await;
    let history = Journal::read(store.as_ref()).await.unwrap().history;
    assert_eq!(history.recorded_intents[&StepId::new("once")][0].outcome, Some(json!("accepted")));
}

#[tokio::test]
async fn another_store_locks_and_carries_a_run_over_to_the_next() {
    let run = TestRun::new();
    let lock = run.store.lock(Holder::this_process("blue")).await.unwrap();
    assert!(matches!(run.store.lock(Holder::this_process("blue")).await, Err(LockError::Held { holder: Some(_) })));
    let bad = Arc::new(Scripted { error: Some(StepError::invalid_input("no such chart")), ..Scripted::missing() });
    run.engine(plan(&[("a", &[])]), vec![("a", bad)]).await.run().await;
    drop(lock);
    assert_eq!(run.store.holder().await, None);
    let report = run.engine(plan(&[("a", &[])]), vec![("a", Arc::new(Scripted::missing()))]).await.run().await;
    assert_eq!(report.outcome, RunOutcome::Complete);
    let resumed: Vec<bool> = run
        .events()
        .iter()
        .filter_map(|event| match event {
            EventKind::RunStarted { resumed, .. } => Some(*resumed),
            _ => None,
        })
        .collect();
    assert_eq!(resumed, [false, true]);
    assert!(!Journal::read(run.store.as_ref()).await.unwrap().history.last.unwrap().is_unfinished());
}

/// Drives the machine alone: each command is answered in an order and with results that the test input chooses.
fn drive(plan: &Plan, mut choices: impl Iterator<Item = u8>) -> (Vec<Command>, Option<RunOutcome>) {
    let mut run = Run::new(plan, 7);
    let mut open: Vec<Input> = vec![Input::Start];
    let mut seen = Vec::new();
    for _ in 0..10_000 {
        if open.is_empty() {
            break;
        }
        let pick = usize::from(choices.next().unwrap_or(0)) % open.len();
        let (next, commands) = run.advance(open.swap_remove(pick));
        run = next;
        seen.extend(commands.iter().cloned());
        for command in &commands {
            let luck = choices.next().unwrap_or(1);
            let failure = |step: &StepId| StepError::new(ErrorClass::Unavailable, format!("{step} failed"));
            match command {
                Command::Observe { step, .. } => open.push(Input::Observed(
                    step.clone(),
                    if luck.is_multiple_of(8) { Err(failure(step)) } else { Ok(Observation::Missing(String::new())) },
                )),
                Command::Apply { step, .. } => open.push(Input::Applied(
                    step.clone(),
                    if luck.is_multiple_of(4) { Err(failure(step)) } else { Ok(Effect::Complete) },
                )),
                Command::Gate { step, .. } => open
                    .push(Input::Gated(step.clone(), if luck.is_multiple_of(8) { Err(failure(step)) } else { Ok(()) })),
                Command::Backoff { step, .. } => open.push(Input::BackoffOver(step.clone())),
                Command::End(outcome) => return (seen, Some(*outcome)),
                _ => {}
            }
            if luck == 255 {
                open.push(Input::Stop(Stop::AtSafePoint));
            }
        }
    }
    (seen, None)
}

proptest! {
    #[test]
    fn every_run_ends_and_no_step_starts_before_its_needs(
        edges in prop::collection::vec((0usize..8, 0usize..8), 0..20),
        choices in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let names: Vec<String> = (0..8).map(|index| format!("s{index}")).collect();
        let needs: Vec<Vec<&str>> = (0..8)
            .map(|index| edges.iter().filter(|(a, b)| *a == index && b < a).map(|(_, b)| names[*b].as_str()).collect())
            .collect();
        let steps: Vec<(&str, &[&str])> = (0..8).map(|index| (names[index].as_str(), needs[index].as_slice())).collect();
        let plan = plan(&steps);
        let (seen, outcome) = drive(&plan, choices.into_iter());
        prop_assert!(outcome.is_some(), "the run never ended");
        let mut done: BTreeSet<StepId> = BTreeSet::new();
        for command in seen {
            match command {
                Command::Done { step, .. } => { done.insert(step); }
                Command::Observe { step, .. } => prop_assert!(plan.step(&step).unwrap().needs.is_subset(&done)),
                Command::Fail { error, .. } => prop_assert!(error.code.is_some(), "{error} has no code"),
                _ => {}
            }
        }
        if outcome == Some(RunOutcome::Complete) {
            prop_assert_eq!(done.len(), 8);
        }
    }
}

#[test]
fn a_late_answer_about_a_cancelled_step_changes_nothing() {
    let plan = plan(&[("a", &[])]);
    let step = StepId::new("a");
    let (run, _) = Run::new(&plan, 7).advance(Input::Start);
    let (run, _) = run.advance(Input::Stop(Stop::Now));
    assert_eq!(run.state(&step), Some(&StepState::Cancelled));
    let (run, commands) = run.advance(Input::Observed(step.clone(), Ok(Observation::Missing(String::new()))));
    assert_eq!(run.state(&step), Some(&StepState::Cancelled));
    assert!(commands.is_empty());
}

#[tokio::test]
async fn observing_a_plan_goes_up_to_the_first_goal_that_is_not_met_and_applies_nothing() {
    let scripted = |up_to_date: bool| Arc::new(Scripted { up_to_date, ..Scripted::missing() });
    let second = scripted(false);
    let mut steps = StepSet::default();
    for (id, step) in [("a", scripted(true)), ("b", second.clone()), ("c", scripted(true))] {
        steps.action(StepId::new(id), step);
    }
    let found = observe_plan(&plan(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]), &steps, &History::default()).await;
    let found: Vec<_> = found.into_values().collect();
    let expected =
        [Finding::UpToDate("seen".to_owned()), Finding::Missing("gone".to_owned()), Finding::Blocked(StepId::new("b"))];
    assert_eq!(found, expected);
    assert_eq!(second.applied.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_stop_that_was_requested_before_the_run_is_heeded() {
    let run = TestRun::new();
    let step = Arc::new(Scripted::missing());
    let engine = run.engine(plan(&[("a", &[])]), vec![("a", step)]).await;
    run.stop.request();
    assert_eq!(engine.run().await.outcome, RunOutcome::Stopped);
}

#[tokio::test]
async fn the_journal_keeps_errors_without_secrets() {
    let run = TestRun::new();
    let error = StepError::invalid_input("the password hunter2 is too short");
    let bad = Arc::new(Scripted { error: Some(error), ..Scripted::missing() });
    let engine = run.engine(plan(&[("a", &[])]), vec![("a", bad)]).await;
    engine.masked_by(Arc::new(|text: &str| text.replace("hunter2", "******"))).run().await;
    let history = Journal::read(run.store.as_ref()).await.unwrap().history;
    let failed = history.last.unwrap().failed;
    assert_eq!(failed[&StepId::new("a")], "the password ****** is too short");
}
