use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use tokio::sync::Notify;

use super::machine::{Command, Input, Run, StepState, Stop};
use super::*;
use crate::journal::{Entry, FileStore, History, Identity, Journal, RunId};
use crate::plan::{Draft, Fingerprint, PhaseName, Plan, Policy, StepId, builtin_phases};

fn plan(steps: &[(&str, &[&str])]) -> Plan {
    plan_within(steps, Policy::default().deadline)
}

/// A plan whose steps have next to no time.
fn brief(steps: &[(&str, &[&str])]) -> Plan {
    plan_within(steps, Duration::from_millis(10))
}

fn plan_within(steps: &[(&str, &[&str])], deadline: Duration) -> Plan {
    let drafts = steps
        .iter()
        .map(|(id, needs)| Draft {
            id: StepId::new(id),
            phase: PhaseName::new("base"),
            title: (*id).to_owned(),
            needs: needs.iter().map(StepId::new).collect(),
            fingerprint: Fingerprint::builder().part(id).finish(),
            policy: Policy { retries: 2, deadline, background: false },
        })
        .collect();
    Plan::new(&builtin_phases().unwrap(), drafts).unwrap()
}

/// A scripted step: what it observes first, and what its apply does.
struct Scripted {
    holds: bool,
    failures: AtomicUsize,
    applied: AtomicUsize,
    error: Option<StepError>,
    blocks: Option<Arc<Notify>>,
}

impl Scripted {
    fn missing() -> Self {
        Self { holds: false, failures: 0.into(), applied: 0.into(), error: None, blocks: None }
    }
}

#[async_trait]
impl Step for Scripted {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let applied = self.applied.load(Ordering::SeqCst) > 0;
        Ok(if self.holds || applied { Observation::Holds("seen".into()) } else { Observation::Missing("gone".into()) })
    }

    async fn apply(&self, cx: &StepContext) -> Result<(), StepError> {
        if let Some(blocks) = &self.blocks {
            (cx.teller_by(|line| line.contains("test").then_some("H13")))("waiting for the test");
            blocks.notified().await;
        }
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if self.failures.load(Ordering::SeqCst) > 0 {
            self.failures.fetch_sub(1, Ordering::SeqCst);
            return Err(StepError::retryable("connection refused"));
        }
        self.applied.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Default)]
struct Kept(Mutex<Vec<Event>>);

impl Subscriber for Kept {
    fn notice(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

struct World {
    folder: tempfile::TempDir,
    kept: Arc<Kept>,
    stop: StopSignal,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), kept: Arc::default(), stop: StopSignal::default() }
    }

    fn engine(&self, plan: Plan, steps: Vec<(&str, Arc<Scripted>)>) -> Engine {
        let opened = FileStore::open(&self.folder.path().join("journal.jsonl")).unwrap();
        let mut journal = Journal::new(Box::new(opened.store), RunId::new(Timestamp::now()));
        let identity = Identity { name: "blue".into(), cluster_id: None, talos_ca: None };
        let started = Entry::RunStarted { tool: "test".into(), identity, resumed: false, plan: BTreeMap::new() };
        journal.append(started).unwrap();
        let steps = steps.into_iter().map(|(id, step)| (StepId::new(id), step as Arc<dyn Step>)).collect();
        Engine::new(plan, steps, journal, &History::default(), vec![self.kept.clone()], self.stop.clone())
    }
}

#[tokio::test]
async fn a_retryable_failure_is_tried_again_and_told() {
    let world = World::new();
    let step = Arc::new(Scripted { failures: 2.into(), ..Scripted::missing() });
    let report = world.engine(plan(&[("a", &[])]), vec![("a", step.clone())]).run().await;
    assert_eq!(report.outcome, RunOutcome::Complete);
    assert_eq!(step.applied.load(Ordering::SeqCst), 1);
    let events = world.kept.0.lock().unwrap();
    assert_eq!(events.iter().filter(|event| matches!(event.kind, EventKind::Retrying { .. })).count(), 2);
    assert!(matches!(events.first().unwrap().kind, EventKind::RunStarted { .. }));
    assert!(matches!(events.last().unwrap().kind, EventKind::RunEnded { .. }));
}

#[tokio::test]
async fn a_failure_stops_what_depends_on_it_and_nothing_else() {
    let world = World::new();
    let bad = Arc::new(Scripted { error: Some(StepError::wrong_input("no such chart")), ..Scripted::missing() });
    let (after, other) = (Arc::new(Scripted::missing()), Arc::new(Scripted::missing()));
    let plan = plan(&[("bad", &[]), ("after", &["bad"]), ("other", &[])]);
    let report = world.engine(plan, vec![("bad", bad), ("after", after.clone()), ("other", other.clone())]).run().await;
    assert_eq!(report.outcome, RunOutcome::Failed);
    assert_eq!(report.failures[0].0, StepId::new("bad"));
    assert_eq!((after.applied.load(Ordering::SeqCst), other.applied.load(Ordering::SeqCst)), (0, 1));
    let last = FileStore::read(&world.folder.path().join("journal.jsonl")).unwrap().last.unwrap();
    assert_eq!(last.failed[&StepId::new("bad")], "no such chart");
    assert!(last.done.contains_key(&StepId::new("other")));
}

#[tokio::test]
async fn what_holds_is_not_applied() {
    let world = World::new();
    let step = Arc::new(Scripted { holds: true, ..Scripted::missing() });
    let report = world.engine(plan(&[("a", &[])]), vec![("a", step.clone())]).run().await;
    assert_eq!((report.held, report.applied), (1, 0));
    assert_eq!(step.applied.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_first_stop_lets_an_effect_finish_and_the_second_does_not() {
    for (asks, finished) in [(1, 1), (2, 0)] {
        let world = World::new();
        let blocks = Arc::new(Notify::new());
        let step = Arc::new(Scripted { blocks: Some(blocks.clone()), ..Scripted::missing() });
        let never = Arc::new(Scripted::missing());
        let engine = world.engine(plan(&[("a", &[]), ("b", &["a"])]), vec![("a", step.clone()), ("b", never.clone())]);
        let (kept, stop) = (world.kept.clone(), world.stop.clone());
        let asking = async {
            while !kept.0.lock().unwrap().iter().any(|event| matches!(event.kind, EventKind::Waiting { .. })) {
                tokio::task::yield_now().await;
            }
            for _ in 0..asks {
                stop.ask();
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
            blocks.notify_one();
        };
        let (report, ()) = tokio::join!(engine.run(), asking);
        assert_eq!(report.outcome, RunOutcome::Stopped);
        assert_eq!(step.applied.load(Ordering::SeqCst), finished);
        assert_eq!(never.applied.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_step_past_its_deadline_fails() {
    let world = World::new();
    let step = Arc::new(Scripted { blocks: Some(Arc::new(Notify::new())), ..Scripted::missing() });
    let report = world.engine(brief(&[("a", &[])]), vec![("a", step)]).run().await;
    let error = &report.failures[0].1;
    assert_eq!(error.to_string(), "not done within 10ms: waiting for the test");
    assert_eq!(error.code.as_deref(), Some("H13"));
}

struct Once;

#[async_trait]
impl Step for Once {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        Ok(Observation::Missing("no etcd".into()))
    }

    async fn apply(&self, cx: &StepContext) -> Result<(), StepError> {
        cx.intend(json!({"node": "10.0.0.1"}))?;
        cx.conclude(json!("accepted"))
    }
}

#[tokio::test]
async fn an_intent_is_on_disk_before_the_effect() {
    let world = World::new();
    let plan = plan(&[("once", &[])]);
    let opened = FileStore::open(&world.folder.path().join("journal.jsonl")).unwrap();
    let journal = Journal::new(Box::new(opened.store), RunId::new(Timestamp::now()));
    let steps: StepSet = [(StepId::new("once"), Arc::new(Once) as Arc<dyn Step>)].into();
    Engine::new(plan, steps, journal, &History::default(), vec![], StopSignal::default()).run().await;
    let history = FileStore::read(&world.folder.path().join("journal.jsonl")).unwrap();
    assert_eq!(history.priors[&StepId::new("once")][0].outcome, Some(json!("accepted")));
}

/// Drives the machine alone: each command is answered in an order and with results that the test input chooses.
fn drive(plan: &Plan, mut choices: impl Iterator<Item = u8>) -> (Vec<Command>, Option<RunOutcome>) {
    let mut run = Run::new(plan);
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
            let failure = |step: &StepId| StepError::new(ErrorClass::Retryable, format!("{step} failed"));
            match command {
                Command::Observe { step, .. } => open.push(Input::Observed(
                    step.clone(),
                    if luck.is_multiple_of(8) { Err(failure(step)) } else { Ok(Observation::Missing(String::new())) },
                )),
                Command::Apply { step, .. } => open.push(Input::Applied(
                    step.clone(),
                    if luck.is_multiple_of(4) { Err(failure(step)) } else { Ok(()) },
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
    let (run, _) = Run::new(&plan).advance(Input::Start);
    let (run, _) = run.advance(Input::Stop(Stop::Now));
    assert_eq!(run.state(&step), Some(&StepState::Cancelled));
    let (run, commands) = run.advance(Input::Observed(step.clone(), Ok(Observation::Missing(String::new()))));
    assert_eq!(run.state(&step), Some(&StepState::Cancelled));
    assert!(commands.is_empty());
}

#[tokio::test]
async fn a_survey_sees_up_to_the_first_goal_that_does_not_hold_and_applies_nothing() {
    let scripted = |holds: bool| Arc::new(Scripted { holds, ..Scripted::missing() });
    let [first, second, third] = [scripted(true), scripted(false), scripted(true)];
    let steps: [(StepId, Arc<dyn Step>); 3] =
        [("a", first), ("b", second.clone()), ("c", third)].map(|(id, step)| (StepId::new(id), step as Arc<dyn Step>));
    let found = survey(&plan(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]), &steps.into(), &History::default()).await;
    let found: Vec<_> = found.into_values().collect();
    let expected =
        [Finding::Holds("seen".to_owned()), Finding::Missing("gone".to_owned()), Finding::Waits(StepId::new("b"))];
    assert_eq!(found, expected);
    assert_eq!(second.applied.load(Ordering::SeqCst), 0);
}
