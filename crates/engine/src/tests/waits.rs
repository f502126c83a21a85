//! Waits, which no number of looks ends, and retries, which have a budget.

use std::time::Duration;

use super::*;

/// An action whose observations and applies return what a script says, and then succeed.
#[derive(Default)]
struct Script {
    observations: Mutex<Vec<StepError>>,
    applies: Mutex<Vec<StepError>>,
    attempts: Mutex<BTreeSet<u32>>,
    done: AtomicUsize,
}

impl Script {
    fn observing(errors: Vec<StepError>) -> Arc<Self> {
        Arc::new(Self { observations: Mutex::new(errors), ..Self::default() })
    }

    fn applying(errors: Vec<StepError>) -> Arc<Self> {
        Arc::new(Self { applies: Mutex::new(errors), ..Self::default() })
    }
}

#[async_trait]
impl Action for Script {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        self.attempts.lock().unwrap().insert(cx.attempt);
        match self.observations.lock().unwrap().pop() {
            Some(error) => Err(error),
            None if self.done.load(Ordering::SeqCst) > 0 => Ok(Observation::UpToDate("seen".into())),
            None => Ok(Observation::Missing("gone".into())),
        }
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        if let Some(error) = self.applies.lock().unwrap().pop() {
            return Err(error);
        }
        self.done.fetch_add(1, Ordering::SeqCst);
        Ok(Effect::Complete)
    }
}

fn not_available_yet() -> StepError {
    StepError::not_ready("bootstrap failed").with_place("node cp-1").because("not available yet").code(Code::T06)
}

/// A plan of one step with the program's own retry policy.
fn one_step(deadline: Duration) -> Plan {
    let step = Step::new("base", "a", Code::K07).deadline(deadline);
    Plan::new(&builtin_phases().unwrap(), vec![step]).unwrap()
}

async fn run(run: &TestRun, deadline: Duration, script: &Arc<Script>) -> RunReport {
    let mut steps = StepSet::default();
    steps.action(StepId::new("base/a"), script.clone());
    run.engine_of(one_step(deadline), steps).await.run().await
}

fn count(run: &TestRun, is_counted: fn(&EventKind) -> bool) -> usize {
    run.events().iter().filter(|event| is_counted(event)).count()
}

const QUARTER: Duration = Duration::from_mins(15);

/// Waits in its gate for so long, without anything to report.
struct Quiet(Duration);

#[async_trait]
impl Check for Quiet {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        Ok(CheckResult::Pending("not yet".into()))
    }

    async fn wait(&self, _cx: &StepContext) -> Result<(), StepError> {
        tokio::time::sleep(self.0).await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_took_long_in_an_earlier_run_may_take_longer_in_the_next_one_within_bounds() {
    let test = TestRun::new();
    let outcome = async |minutes| {
        let mut steps = StepSet::default();
        steps.check(StepId::new("base/a"), Arc::new(Quiet(Duration::from_mins(minutes))));
        test.engine_of(one_step(QUARTER), steps).await.run().await.outcome
    };
    assert_eq!(outcome(16).await, RunOutcome::Failed, "a failure teaches nothing");
    assert_eq!(outcome(16).await, RunOutcome::Failed);
    for minutes in [14, 27, 53] {
        assert_eq!(outcome(minutes).await, RunOutcome::Complete, "{minutes}");
    }
    assert_eq!(outcome(59).await, RunOutcome::Complete);
    assert_eq!(outcome(61).await, RunOutcome::Failed, "four times the step's own deadline");
    assert_eq!(outcome(1).await, RunOutcome::Complete);
    assert_eq!(outcome(59).await, RunOutcome::Complete, "a fast run in between unlearns nothing");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ready_is_waited_for_and_is_no_attempt() {
    let (test, script) = (TestRun::new(), Script::applying(vec![not_available_yet(); 30]));
    let report = run(&test, QUARTER, &script).await;
    assert_eq!((report.outcome, report.applied), (RunOutcome::Complete, 1));
    assert_eq!(*script.attempts.lock().unwrap(), BTreeSet::from([1]));
    assert_eq!(count(&test, |event| matches!(event, EventKind::Retrying { .. })), 0);
    let waits: Vec<_> = test.events().into_iter().filter(|event| matches!(event, EventKind::Waiting { .. })).collect();
    let reason = "bootstrap failed (node cp-1): not available yet".to_owned();
    assert_eq!(waits, [EventKind::Waiting { step: StepId::new("base/a"), reason, code: Some(Code::T06) }]);
    // Thirty looks that find the same are shown once.
    assert_eq!(count(&test, |event| matches!(event, EventKind::Observed { .. })), 1);
    assert_eq!(count(&test, |event| matches!(event, EventKind::Applying { .. })), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_deadline_and_its_own_code() {
    let endless = vec![not_available_yet(); 5000];
    for script in [Script::observing(endless.clone()), Script::applying(endless)] {
        let test = TestRun::new();
        let report = run(&test, QUARTER, &script).await;
        let error = &report.failures[0].1;
        assert_eq!(error.to_string(), "no progress for 15m (node cp-1): bootstrap failed: not available yet");
        assert_eq!((error.code, error.next.as_deref()), (Some(Code::T06), Some(Code::T06.next())));
        let looks = 5000 - script.observations.lock().unwrap().len().max(script.applies.lock().unwrap().len());
        assert!((800..=910).contains(&looks), "{looks} looks in 15 minutes");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_fifty_seconds_is_retried_in_every_state_of_a_step() {
    let away = || StepError::unavailable("the Kubernetes API does not respond").code(Code::K07);
    for script in [Script::observing(vec![away(); 12]), Script::applying(vec![away(); 12])] {
        let test = TestRun::new();
        let report = run(&test, QUARTER, &script).await;
        assert_eq!(report.outcome, RunOutcome::Complete);
        assert_eq!(count(&test, |event| matches!(event, EventKind::Retrying { .. })), 12);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_without_end_fails_with_its_code() {
    let away = StepError::unavailable("the Kubernetes API does not respond").code(Code::K07);
    let (test, script) = (TestRun::new(), Script::observing(vec![away; 5000]));
    let began = tokio::time::Instant::now();
    let report = run(&test, QUARTER, &script).await;
    assert_eq!(report.failures[0].1.code, Some(Code::K07));
    assert!(began.elapsed() < Duration::from_secs(91), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn progress_refills_the_budget() {
    let away = || StepError::unavailable("connection refused");
    // Two outages, of the observation and of the apply, that together are longer than one budget.
    let script = Arc::new(Script {
        observations: Mutex::new(vec![away(); 12]),
        applies: Mutex::new(vec![away(); 12]),
        ..Script::default()
    });
    let test = TestRun::new();
    let began = tokio::time::Instant::now();
    let report = run(&test, QUARTER, &script).await;
    assert_eq!(report.outcome, RunOutcome::Complete);
    assert!(began.elapsed() > Duration::from_secs(70), "{:?}", began.elapsed());

    // A service that answers in between is not away, however often it is.
    let flapping: Vec<StepError> = (0..100).flat_map(|_| [away(), away(), away(), not_available_yet()]).collect();
    let report = run(&TestRun::new(), QUARTER, &Script::applying(flapping)).await;
    assert_eq!(report.outcome, RunOutcome::Complete);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_no_wait_changes_fails_at_once() {
    let rejected = "rejected";
    let errors = [
        StepError::invalid_input(rejected),
        StepError::failed_precondition(rejected),
        StepError::needs_operator(rejected),
    ];
    for error in errors {
        let test = TestRun::new();
        let began = tokio::time::Instant::now();
        let report = run(&test, QUARTER, &Script::applying(vec![error])).await;
        assert_eq!((report.outcome, began.elapsed()), (RunOutcome::Failed, Duration::ZERO));
    }
}

/// Waits in its gate until the deadline.
struct Blocked;

#[async_trait]
impl Check for Blocked {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        Ok(CheckResult::Pending("not yet".into()))
    }

    async fn wait(&self, cx: &StepContext) -> Result<(), StepError> {
        cx.waiting(StepWait::new("cp-3 is unreachable").code(Code::T11).next("look there".to_owned()));
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_can_name_the_next_command() {
    let test = TestRun::new();
    let mut steps = StepSet::default();
    steps.check(StepId::new("base/a"), Arc::new(Blocked));
    let report = test.engine_of(one_step(QUARTER), steps).await.run().await;
    let error = &report.failures[0].1;
    assert_eq!(error.to_string(), "no progress for 15m (base/a): cp-3 is unreachable");
    assert_eq!((error.code, error.next.as_deref()), (Some(Code::T11), Some("look there")));
}
