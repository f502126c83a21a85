//! A run that is killed at any point around its effects comes out as one that was not killed.
//!
//! A chain is one lab and one bootstrap that is killed again and again, until a run completes. `crates/kill-points`
//! counts the points around effects. What must hold is checked after each kill and at the end.
#![allow(clippy::unwrap_used)]

mod chain;
mod end_state;
mod matrix;
mod remains;

use std::collections::BTreeSet;

use chain::{Chain, Inputs, Kills, undisturbed};
use end_state::assert_same;
use matrix::Matrix;

use crate::common::TestEnvironment;

/// So many points of a run lie apart from each other that are met by the test that runs with all others.
const STRIDE: usize = 10;
/// Kills of that chain at least.
const KILLS: usize = 30;
/// Kills of the whole matrix at least.
const MATRIX_KILLS: usize = 500;

#[test]
fn a_run_killed_at_points_all_over_it_converges() {
    let expected = undisturbed("infra");
    let environment = TestEnvironment::copy();
    let mut chain = Chain::start(&environment, "infra").kill_in_each_phase().kill_at_each_name(&expected.points);
    let killed = chain.run(Kills::at_points(STRIDE, STRIDE), |_| Inputs::Unchanged);
    assert!(killed >= KILLS, "only {killed} kills at {} points", expected.points.len());
    assert_eq!(chain.interrupted, expected.phases);
    let names: BTreeSet<String> = expected.points.iter().cloned().collect();
    assert_eq!(chain.killed_at, names, "each effect is met, before and after it");
    assert_same(&chain.end_state(), &expected.end_state);
    let record = environment.status("infra")["record"].clone();
    let nodes = record["calls"].as_object().unwrap();
    let applied: u64 = nodes.values().filter_map(|calls| calls["ApplyConfiguration"].as_u64()).sum();
    assert_eq!(applied, nodes.len() as u64, "a config was applied a second time: {record}");
}

/// It continues where it was interrupted.
#[test]
#[ignore = "takes about an hour: `just kill-matrix`"]
fn every_point_and_random_instants_converge() {
    let matrix = Matrix::of(&["infra", "apps"]);
    let failures = matrix.run();
    #[expect(clippy::print_stdout, reason = "the result")]
    {
        println!("{} of {} converged", matrix.kills(), matrix.kills() + failures.len());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(matrix.kills() >= MATRIX_KILLS, "{} kills", matrix.kills());
    assert!(matrix.points_not_met().is_empty(), "no run was killed {:?}", matrix.points_not_met());
}
