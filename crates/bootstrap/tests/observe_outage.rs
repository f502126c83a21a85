//! An outage of the Kubernetes API of 50 s in the observation of every step that asks it: the real steps of the reference
//! inputs, the real engine with its retries, an API that really refuses, stalls or resets connections, and virtual time.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bootstrap::ops::{Effects, LabAccess, RunOptions, Target, Workspace, run_context};
use bootstrap::steps;
use engine::journal::{Entry, Epoch, FileStore, History, Identity, Journal, RunId};
use engine::plan::{Plan, Step, builtin_phases};
use engine::{Action, Effect, Engine, Observation, RunOutcome, StepContext, StepError, StepSet, StopSignal};
use jiff::Timestamp;
use net::AddressMap;
use secrets::Redactor;
use tokio::time::Instant;

/// Static pods that restart refuse connections for 30 to 60 s.
const OUTAGE: Duration = Duration::from_secs(50);
/// The kinds of steps that do not ask the Kubernetes API when they observe: they ask machines or files. The CRDs of a chart come
/// from a registry first; the look at them is the one of the steps of the phase `base`.
const WITHOUT_API: [&str; 6] =
    ["preflight/", "machine-config/", "etcd/", "images/", "kubernetes-api/credentials", "crds/"];
/// The addresses of the control planes in the reference inputs, without their last number.
const NODES: [u8; 3] = [10, 25, 11];

/// How the API is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// Nothing listens.
    Refused,
    /// Connections are accepted and never answered.
    Stalled,
    /// Connections are accepted and closed.
    Reset,
}

/// The servers of an API that is away, one for each control plane. They listen until they are dropped.
fn begin(outage: Outage, network: u8) -> Vec<TcpListener> {
    if outage == Outage::Refused {
        return vec![];
    }
    let bind = |last: u8| TcpListener::bind((loopback(network, last), 6443)).unwrap();
    let listeners: Vec<TcpListener> = (11..=13).map(bind).collect();
    if outage == Outage::Reset {
        for listener in listeners.iter().map(|listener| listener.try_clone().unwrap()) {
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            });
        }
    }
    listeners
}

/// Where a node of the inputs is dialled.
fn loopback(network: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 93, network, last)
}

/// A step of the program whose API comes back after a while; it observes what the real one does until then.
struct AwayAtFirst {
    inner: Arc<dyn Action>,
    until: Instant,
    /// What the real step made of the outage.
    seen: Mutex<Vec<Result<Observation, StepError>>>,
}

#[async_trait]
impl Action for AwayAtFirst {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        if Instant::now() >= self.until {
            return Ok(Observation::UpToDate("the API is back".to_owned()));
        }
        let observed = self.inner.observe(cx).await;
        self.seen.lock().unwrap().push(observed.clone());
        match observed {
            // Its gate waits for the API, by watching.
            Ok(Observation::Missing(_) | Observation::InProgress(_)) => {
                Ok(Observation::UpToDate("it waits in its gate".to_owned()))
            }
            observed => observed,
        }
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Effect, StepError> {
        unreachable!("nothing is observed as missing")
    }
}

fn workspace(state: &std::path::Path) -> Workspace {
    let cache = state.join("cache").display().to_string();
    Workspace {
        directory: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.."),
        state_dir: Some(state.to_owned()),
        tools_dir: None,
        variables: BTreeMap::from([("XDG_CACHE_HOME".to_owned(), cache)]),
        redactor: Redactor::default(),
        operator: None,
        notes: Arc::new(|_| {}),
    }
}

fn options(state: &std::path::Path, network: u8) -> RunOptions {
    let declared = |last: u8| IpAddr::from(Ipv4Addr::new(NODES[0], NODES[1], NODES[2], last));
    let addresses: AddressMap = (10..=16).map(|last| (declared(last), IpAddr::from(loopback(network, last)))).collect();
    let lab = LabAccess { addresses, ..LabAccess::ended(state.to_owned()) };
    RunOptions::new("infra", Target::Lab(lab))
}

/// Carries out one step of the program alone; how the run ended, what the step saw, and how long it took.
async fn carry_out(step: &Step, inner: Arc<dyn Action>) -> (RunOutcome, Vec<Result<Observation, StepError>>, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let away = Arc::new(AwayAtFirst { inner, until: began + OUTAGE, seen: Mutex::default() });
    let mut alone = step.clone();
    alone.needs.clear();
    let plan = Plan::new(&builtin_phases().unwrap(), vec![alone]).unwrap();
    let mut steps = StepSet::default();
    steps.action(step.id.clone(), away.clone());
    let journal = Journal::new(Arc::new(FileStore::open(folder.path())), RunId::new(Timestamp::now()), Epoch::FIRST);
    let identity = Identity { name: "infra".to_owned(), cluster_id: None, talos_ca: None };
    let started = Entry::RunStarted { tool: "test".to_owned(), identity, resumed: false, plan: BTreeMap::new() };
    journal.append(started).await.unwrap();
    let engine = Engine::new(plan, steps, journal, &History::default(), vec![], StopSignal::default());
    let report = engine.with_seed(7).run().await;
    let seen = away.seen.lock().unwrap().clone();
    (report.outcome, seen, began.elapsed())
}

async fn every_step_survives(outage: Outage, network: u8) {
    let state = tempfile::tempdir().unwrap();
    let _servers = begin(outage, network);
    let options = options(state.path(), network);
    let context = run_context(&workspace(state.path()), &options, Effects::ReadOnly).await.unwrap();
    let (plan, steps) = steps::plan(&context).unwrap();
    let asks = |step: &&Step| !WITHOUT_API.iter().any(|kind| step.id.as_str().starts_with(kind));
    let asking: Vec<&Step> = plan.steps().iter().filter(asks).collect();
    assert!(asking.len() > 15, "only {} steps ask the API", asking.len());
    tokio::time::pause();
    let mut failed = Vec::new();
    for step in asking {
        let (outcome, seen, took) = carry_out(step, steps.get(&step.id).unwrap().clone()).await;
        let waits_in_its_gate = matches!(seen.last(), Some(Ok(_)));
        if outcome != RunOutcome::Complete || !(waits_in_its_gate || took >= OUTAGE) {
            failed.push(format!("{}: {outcome:?} after {took:?}: {:?}", step.id, seen.last()));
        }
    }
    assert!(failed.is_empty(), "{outage:?}: {}", failed.join("\n"));
}

#[tokio::test]
async fn every_observation_survives_an_api_that_refuses_connections_for_50_seconds() {
    every_step_survives(Outage::Refused, 1).await;
}

#[tokio::test]
async fn every_observation_survives_an_api_that_stalls_for_50_seconds() {
    every_step_survives(Outage::Stalled, 2).await;
}

#[tokio::test]
async fn every_observation_survives_an_api_that_resets_connections_for_50_seconds() {
    every_step_survives(Outage::Reset, 3).await;
}
