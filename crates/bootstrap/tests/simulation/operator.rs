//! An operator: starts runs, stops them, loses them, answers their questions, and starts again until all is done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bootstrap::steps::HookAnswer;
use engine::journal::{Entry, Identity, Journal, LastRun, RunId};
use engine::{Code, Engine, RunOutcome, RunReport, StopSignal};
use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::cluster::{Shared, SimulatedCluster};
use crate::inputs::declared;
use crate::link::{Life, Link};
use crate::steps::{RunParts, step_set};
use crate::store::{Disk, RunStore};
use crate::witness::Witness;

/// Once etcd exists, operators work one after the other. What they do at the same time is what a lease is for.
pub(crate) type Turn = Arc<Mutex<()>>;

/// An operator on a machine of their own.
pub(crate) struct Operator {
    cluster: Shared,
    index: usize,
    disk: Disk,
    turn: Turn,
    /// The kubeconfig is written.
    has_files: Arc<AtomicBool>,
    /// The last run asked about the hook.
    was_asked: bool,
}

/// How a run ended, as its operator sees it.
enum Ended {
    Report(RunReport),
    Killed,
    /// Its start could not be journaled.
    NotStarted,
}

/// What becomes of a run.
struct Fate {
    life: Arc<Life>,
    /// When it is killed, if not at an await.
    dies_after: Option<Duration>,
    /// When it is asked to stop.
    stops: Vec<Duration>,
    /// Decides the jitter of its retries.
    seed: u64,
}

impl Operator {
    pub(crate) fn new(cluster: Shared, index: usize, turn: Turn) -> Self {
        Self { cluster, index, disk: Disk::default(), turn, has_files: Arc::default(), was_asked: false }
    }

    /// Works until faults have ended and a run with the newest inputs was complete after that.
    pub(crate) async fn work(mut self) {
        loop {
            let (pause, config, faults_ended) = {
                let mut state = self.cluster.lock();
                (state.chance.millis(1_000..=15_000), state.inputs, state.faults_ended)
            };
            tokio::time::sleep(pause).await;
            let ended = self.run_in_turn(config).await;
            let is_complete = matches!(&ended, Ended::Report(report) if report.outcome == RunOutcome::Complete);
            if is_complete && faults_ended && config == self.cluster.lock().inputs {
                return;
            }
            self.was_asked = matches!(&ended, Ended::Report(report) if asks(report));
        }
    }

    /// What the hook has done, truthfully, if the last run asked. The operator looks when the next run begins: another one
    /// may have worked in between.
    fn answer(&self) -> Option<HookAnswer> {
        let mut state = self.cluster.lock();
        self.was_asked.then(|| {
            state.counts.questions += 1;
            if state.kubernetes.hook_effects > 0 { HookAnswer::Done } else { HookAnswer::Again }
        })
    }

    async fn run_in_turn(&self, config: u32) -> Ended {
        if self.cluster.lock().etcd_exists() || self.index == 0 {
            let _turn = self.turn.lock().await;
            // The other one may have taken long.
            let config = config.max(self.cluster.lock().inputs);
            return self.run(config).await;
        }
        tokio::select! {
            biased;
            () = etcd_created(&self.cluster) => Ended::Killed,
            ended = self.run(config) => ended,
        }
    }

    async fn run(&self, config: u32) -> Ended {
        let Fate { life, dies_after, stops, seed } = self.draw_fate();
        let link = Link { cluster: self.cluster.clone(), life: life.clone(), operator: self.index };
        let stop = StopSignal::default();
        let run = self.carry_out(link, config, stop.clone(), seed);
        let ended = tokio::select! {
            biased;
            () = life.died() => Ended::Killed,
            () = killed_after(dies_after, &self.cluster) => Ended::Killed,
            ended = run => ended,
            () = stop_after(stops, &stop) => unreachable!("it never returns"),
        };
        // Dropped or not: from now on nothing that belongs to it goes on.
        life.kill();
        let mut state = self.cluster.lock();
        state.counts.runs += 1;
        if matches!(ended, Ended::Killed) {
            state.counts.kills += 1;
            state.log(|| format!("operator {}: the run is killed", self.index));
        }
        ended
    }

    fn draw_fate(&self) -> Fate {
        let mut state = self.cluster.lock();
        let rates = state.rates;
        // Short runs and long ones.
        let most = if state.chance.happens(500) { 60 } else { 1_500 };
        let is_killed = state.chance.happens(rates.kill);
        let at_await = is_killed && state.chance.happens(600);
        let awaits = at_await.then(|| state.chance.within(1..=most));
        // While a process works, the run awaits nothing else.
        let dies_after = (is_killed && !at_await).then(|| state.chance.millis(1_000..=90_000));
        let mut stops = Vec::new();
        for _ in 0..2 {
            if state.chance.happens(rates.stop) {
                stops.push(state.chance.millis(100..=60_000));
            }
        }
        state.counts.stops += stops.len() as u64;
        let life = Life::new(awaits);
        if !state.faults_ended {
            state.register(&life);
        }
        Fate { life, dies_after, stops, seed: state.chance.within(0..=u64::MAX) }
    }

    async fn carry_out(&self, link: Link, config: u32, stop: StopSignal, seed: u64) -> Ended {
        let store = Arc::new(RunStore { disk: self.disk.clone(), link: link.clone() });
        let history = Journal::read(store.as_ref()).await.unwrap().history;
        let unfinished = history.last.as_ref().is_some_and(LastRun::is_unfinished);
        // A fresh machine adopts what exists.
        let resumed = unfinished || (history.last.is_none() && self.cluster.lock().etcd_exists());
        self.cluster.lock().log(|| format!("operator {}: a run begins, config {config}", self.index));
        let journal = Journal::new(store, RunId::new(Timestamp::now()), history.epoch);
        let identity = Identity { name: "sim".to_owned(), cluster_id: None, talos_ca: None };
        let started =
            Entry::RunStarted { tool: "simulation".to_owned(), identity, resumed: unfinished, plan: BTreeMap::new() };
        if journal.append(started).await.is_err() {
            return Ended::NotStarted;
        }
        let witness = Arc::new(Witness::new(link.cluster.clone(), self.index));
        let parts = RunParts::new(link, config, resumed, self.answer(), self.has_files.clone());
        let steps = step_set(&Arc::new(parts));
        let engine = Engine::new(declared().plan.clone(), steps, journal, &history, vec![witness], stop);
        Ended::Report(engine.with_seed(seed).run().await)
    }
}

/// Whether a run ended with a question about the hook.
fn asks(report: &RunReport) -> bool {
    report.failures.iter().any(|(_, error)| error.code == Some(Code::H12))
}

/// Returns when the run is killed; never once faults have ended.
async fn killed_after(limit: Option<Duration>, cluster: &Shared) {
    if let Some(limit) = limit {
        tokio::time::sleep(limit).await;
        if !cluster.lock().faults_ended {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Requests the stops, and never returns.
async fn stop_after(stops: Vec<Duration>, stop: &StopSignal) {
    for pause in stops {
        tokio::time::sleep(pause).await;
        let _ = stop.request();
    }
    std::future::pending::<()>().await;
}

async fn etcd_created(cluster: &Shared) {
    while !cluster.lock().etcd_exists() {
        tokio::time::sleep(crate::cluster::TICK).await;
    }
}

impl SimulatedCluster {
    /// Whether a second operator works on the cluster too.
    pub(crate) fn operators(&mut self) -> usize {
        self.counts.second_operators += u64::from(self.has_second_operator);
        1 + usize::from(self.has_second_operator)
    }
}
