//! The etcd bootstrap decision under every fault that the model has.
//!
//! A small model of Talos nodes and of two orchestrators with one inventory drives the very function that a run asks.
//! Each schedule is a seed: which node answers when, which reply is lost, who reboots, whose disk is emptied, which
//! orchestrator starts again with nothing but its journal. Never may a second cluster begin while a node holds data of
//! another; and once faults stop, etcd must run everywhere.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod model;

use model::{Act, Model};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Schedules for each number of control planes.
const SCHEDULES: u64 = 50_000;
/// Acts with faults.
const STORMY: usize = 120;
/// Rounds without faults, in each of which every node and orchestrator acts once.
const CALM: usize = 80;

/// Which acts a schedule has, and how often. No two schedules have the same: a fault that is rare among many is common
/// where it is one of few.
fn weather(chance: &mut StdRng, nodes: usize) -> Vec<Act> {
    let fair = Act::fair(nodes);
    let frequency = |act| {
        let often = if fair.contains(&act) { 1..=20 } else { 0..=3 };
        std::iter::repeat_n(act, chance.random_range(often))
    };
    Act::all(nodes).into_iter().flat_map(frequency).collect()
}

/// Runs one schedule; the error names the violation and the acts that led to it.
fn play(nodes: usize, seed: u64) -> Result<Model, String> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut model = Model::new(nodes);
    let acts = weather(&mut chance, nodes);
    let mut history = Vec::new();
    for _ in 0..STORMY {
        let act = acts[chance.random_range(0..acts.len())];
        history.push(act);
        model.act(act).map_err(|violation| format!("seed {seed}: {violation}\n{history:?}"))?;
    }
    model.calm_down();
    for _ in 0..CALM {
        for act in Act::fair(nodes) {
            history.push(act);
            model.act(act).map_err(|violation| format!("seed {seed}: {violation}\n{history:?}"))?;
        }
        if model.is_done() {
            return Ok(model);
        }
    }
    Err(format!("seed {seed}: no progress without faults: {model:?}\n{history:?}"))
}

#[test]
fn two_orchestrators_never_make_two_clusters_and_always_make_one() {
    let (mut schedules, mut calls, mut repeats, mut lost) = (0, 0, 0, 0);
    for nodes in [1, 2, 3] {
        let halves: Vec<_> = (0..2)
            .map(|half| {
                std::thread::spawn(move || {
                    (0..SCHEDULES).filter(|seed| seed % 2 == half).map(|seed| play(nodes, seed)).collect::<Vec<_>>()
                })
            })
            .collect();
        for played in halves.into_iter().flat_map(|half| half.join().unwrap()) {
            let model = played.unwrap_or_else(|violation| panic!("{nodes} control planes, {violation}"));
            schedules += 1;
            calls += model.calls;
            repeats += u64::from(model.calls > 1);
            lost += u64::from(model.forgotten > 0);
        }
    }
    println!(
        "{schedules} schedules: {calls} Bootstrap calls, {repeats} schedules with more than one, {lost} with one that a reboot forgot"
    );
    assert!(schedules >= 100_000);
    // A model without faults proves nothing.
    assert!(repeats > 1_000 && lost > 1_000);
}

/// A schedule that chance hardly finds: while one orchestrator looks from the last node to the first, the other makes
/// the cluster, the last node joins it, and the first one is reset. All that the slow one has seen waits.
#[test]
fn a_look_that_is_older_than_a_reset_leads_to_no_call() {
    let fast = [Act::Orchestrator(0); 5];
    let slow = Act::Orchestrator(1);
    let cluster = [Act::Arrive(0), Act::Etcd(0), Act::Etcd(0), Act::Etcd(1), Act::Wipe(0), Act::Boot(0)];
    let mut model = Model::new(2);
    for act in [slow; 3].into_iter().chain(fast).chain(cluster).chain([slow, slow, Act::Arrive(0), Act::Etcd(0)]) {
        model.act(act).unwrap();
    }
    assert_eq!(model.calls, 1);
}
