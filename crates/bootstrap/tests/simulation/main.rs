//! The whole orchestrator in a simulated cluster, under faults, with virtual time: each simulation is decided by its seed.
//!
//! Real are the plan, the engine, its machine and its journal, and every decision of the steps: etcd's bootstrap, members,
//! whether a node may reboot, what a node's reports add up to, the state and the recovery of a release, the record of a hook.
//! Replaced is the I/O: Talos, Kubernetes, helm, the hook and the disk are a small model in `cluster`. Operators start
//! runs, stop them and lose them at any await, and start again with their journal; in some simulations there are two on
//! machines of their own. Once faults have ended, every operator's run must complete.
//!
//! A failure prints its seed. `K8S_BOOTSTRAP_TEST_SEED=N cargo test -p bootstrap --test simulation` repeats it with its log.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod chance;
mod cluster;
mod inputs;
mod link;
mod operator;
mod steps;
mod store;
mod witness;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cluster::{Counts, Log, SimulatedCluster, go_on};
use futures::future::join_all;
use inputs::declared;
use operator::{Operator, Turn};

/// Simulations in `cargo test`.
const SEEDS: u64 = 10_000;
/// So many violations end the simulations.
const ENOUGH: usize = 5;
/// Each thread carries out simulations of its own.
const THREADS: u64 = 2;
/// Repeats this one simulation, with its log.
const SEED_VARIABLE: &str = "K8S_BOOTSTRAP_TEST_SEED";
/// Virtual time after which operators that are not done make no progress.
const LIMIT: Duration = Duration::from_hours(6);

/// A rule that was violated, and what had happened.
#[derive(Debug)]
struct Violation {
    seed: u64,
    rule: String,
    log: String,
}

/// Carries out one simulation.
fn simulate(seed: u64, log: Log) -> Result<(Counts, String), Violation> {
    // Reading the inputs takes a runtime of its own.
    declared();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let cluster = SimulatedCluster::begin(seed, log);
        let (operators, violated) = {
            let mut state = cluster.lock();
            (state.operators(), state.violated())
        };
        let turn = Turn::default();
        let work = join_all((0..operators).map(|index| Operator::new(cluster.clone(), index, turn.clone()).work()));
        tokio::select! {
            biased;
            () = violated.notified() => {}
            () = go_on(cluster.clone()) => {}
            _ = work => cluster.lock().check_complete(),
            () = tokio::time::sleep(LIMIT) => cluster.lock().violate("no progress though faults have ended".to_owned()),
        }
        let mut state = cluster.lock();
        let log = state.take_log();
        match state.violation() {
            Some(rule) => Err(Violation { seed, rule: rule.clone(), log }),
            None => Ok((state.counts, log)),
        }
    })
}

/// Carries out the simulations of many seeds, until a few rules were violated.
fn simulate_all(seeds: u64) -> (Counts, Vec<Violation>) {
    let next = AtomicU64::new(0);
    let found = Mutex::new((Counts::default(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds || found.lock().unwrap().1.len() >= ENOUGH {
                return;
            }
            let simulated = simulate(seed, Log::Dropped);
            let mut found = found.lock().unwrap();
            match simulated {
                Ok((counts, _)) => found.0.add(counts),
                Err(violation) => found.1.push(violation),
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    found.into_inner().unwrap()
}

fn chosen_seed() -> Option<u64> {
    std::env::var(SEED_VARIABLE).ok().map(|seed| seed.parse().unwrap())
}

#[test]
fn no_fault_makes_a_run_violate_a_rule_and_every_cluster_is_completed() {
    if let Some(seed) = chosen_seed() {
        match simulate(seed, Log::Kept) {
            Ok((counts, log)) => println!("{log}{counts:#?}"),
            Err(Violation { rule, log, .. }) => panic!("{log}\nseed {seed}: {rule}"),
        }
        return;
    }
    let (counts, violations) = simulate_all(SEEDS);
    let lines: Vec<String> = violations.iter().map(|found| format!("seed {}: {}", found.seed, found.rule)).collect();
    assert!(lines.is_empty(), "{}\nrepeat one with its log: {SEED_VARIABLE}=<seed>", lines.join("\n"));
    println!("{SEEDS} seeds: {counts:#?}");
    // Simulations without faults prove nothing.
    let happened = [
        counts.kills,
        counts.stops,
        counts.reboots,
        counts.reboots_by_runs,
        counts.wipes,
        counts.lost,
        counts.unwritten_records,
        counts.interrupted_helms,
        counts.questions,
        counts.second_operators,
        counts.alarms,
        counts.shared_outages,
        counts.worker_failures,
    ];
    assert!(happened.iter().all(|count| *count > SEEDS / 200), "{counts:#?}");
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..20 {
        let [first, second] = [(); 2].map(|()| match simulate(seed, Log::Kept) {
            Ok((_, log)) | Err(Violation { log, .. }) => log,
        });
        assert_eq!(first, second, "seed {seed}");
        assert!(first.contains("a run begins"));
    }
}
